//! What a member must not forget, byte for byte: it goes into the log before any message that depends
//! on it.
//!
//! # Bytes (little-endian)
//! ```text
//! version u8 = 1, term u64, vote u64 (0: none), owes epoch u64, owes index u64,
//! voters n u32, n × u64
//! ```

use bytes::{BufMut, Bytes, BytesMut};
use model::{
    Position,
    codec::{Malformed, Reader},
};

const VERSION: u8 = 1;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Note {
    /// The greatest term that it has heard of.
    pub(super) term: u64,
    /// Whom it voted for in that term; 0: nobody.
    pub(super) vote: u64,
    /// It may have told a leader that it holds the log up to here, and has thrown that away for a copy
    /// of the store: until its log is as new again it asks for no vote, and gives none to whose log is
    /// older than this.
    pub(super) owes: Position,
    /// Who votes, as of its log.
    pub(super) voters: Vec<u64>,
}

impl Note {
    pub(super) fn encode(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(37 + 8 * self.voters.len());
        out.put_u8(VERSION);
        out.put_u64_le(self.term);
        out.put_u64_le(self.vote);
        out.put_u64_le(self.owes.epoch.0);
        out.put_u64_le(self.owes.index);
        out.put_u32_le(self.voters.len() as u32);
        self.voters.iter().for_each(|voter| out.put_u64_le(*voter));
        out.freeze()
    }

    pub(super) fn decode(bytes: Bytes) -> Result<Note, Malformed> {
        let mut r = Reader::new("note of a consensus group", bytes);
        if r.u8()? != VERSION {
            return Err(r.malformed());
        }
        let (term, vote) = (r.number()?, r.u64()?);
        let owes = Position::new(r.number()?, r.number()?);
        let voters = (0..r.u32()?).map(|_| r.u64()).collect::<Result<_, _>>()?;
        match r.is_empty() {
            true => Ok(Note {
                term,
                vote,
                owes,
                voters,
            }),
            false => Err(r.malformed()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_reads_back_and_nothing_else_does() {
        let note = Note {
            term: 7,
            vote: u64::MAX,
            owes: Position::new(6, 9),
            voters: vec![3, 1, u64::MAX],
        };
        let bytes = note.encode();
        assert_eq!(Note::decode(bytes.clone()), Ok(note));
        for end in 0..bytes.len() {
            assert!(Note::decode(bytes.slice(..end)).is_err());
        }
        assert!(Note::decode([&bytes[..], &[0]].concat().into()).is_err());
    }
}
