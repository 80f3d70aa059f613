//! What a member must not forget, byte for byte: it goes into the log before any message that depends
//! on it.
//!
//! # Bytes (little-endian)
//! ```text
//! version u8 = 2, term u64, vote u64 (0: none), owes epoch u64, owes index u64, then who is in:
//! committed u64, n u32, n × (epoch u64, index u64, membership)
//! ```

use super::membership::Memberships;
use bytes::{BufMut, Bytes, BytesMut};
use model::{
    Position,
    codec::{Malformed, Reader},
};

const VERSION: u8 = 2;

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
    /// Who is in the group, as of its log.
    pub(super) memberships: Memberships,
}

impl Note {
    pub(super) fn encode(&self) -> Bytes {
        let mut out = BytesMut::new();
        out.put_u8(VERSION);
        out.put_u64_le(self.term);
        out.put_u64_le(self.vote);
        out.put_u64_le(self.owes.epoch.0);
        out.put_u64_le(self.owes.index);
        self.memberships.put(&mut out);
        out.freeze()
    }

    pub(super) fn decode(bytes: Bytes) -> Result<Note, Malformed> {
        let mut r = Reader::new("note of a consensus group", bytes);
        if r.u8()? != VERSION {
            return Err(r.malformed());
        }
        let (term, vote) = (r.number()?, r.u64()?);
        let owes = Position::new(r.number()?, r.number()?);
        let memberships = Memberships::read(&mut r)?;
        match r.is_empty() {
            true => Ok(Note {
                term,
                vote,
                owes,
                memberships,
            }),
            false => Err(r.malformed()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{super::membership::Membership, *};

    #[test]
    fn a_note_reads_back_and_nothing_else_does() {
        let mut memberships = Memberships::from(
            Position::new(5, 8),
            Membership::of_voters(vec![1, 3, u64::MAX]),
        );
        memberships.push(
            Position::new(6, 9),
            Membership {
                wish: (1, 2),
                voters: vec![1, 3, 4],
                outgoing: vec![1, 3, u64::MAX],
                learners: vec![7],
                leaving: vec![u64::MAX],
            },
        );
        let note = Note {
            term: 7,
            vote: u64::MAX,
            owes: Position::new(6, 9),
            memberships,
        };
        let bytes = note.encode();
        assert_eq!(Note::decode(bytes.clone()), Ok(note));
        for end in 0..bytes.len() {
            assert!(Note::decode(bytes.slice(..end)).is_err());
        }
        assert!(Note::decode([&bytes[..], &[0]].concat().into()).is_err());
    }
}
