//! The bytes of a snapshot as they come: counted, summed up, and some of them kept.
//!
//! ```text
//!                 ┌ taken and summed ┐┌ taken ┐┌─ not taken ──┐
//! buffer, 64 KiB  │                  ││       ││              │
//!                 0              summed    start             end
//! ```
//! Whatever lengths the bytes claim, no more memory is taken than there are bytes, and no more
//! than the room that [`Input::keep`] was given.

use super::Error;
use commands::rdb::crc64;
use std::io::{ErrorKind, Read};

const BUFFER_BYTES: usize = 64 << 10;

pub(super) struct Input<R> {
    from: R,
    buffer: Box<[u8]>,
    summed: usize,
    start: usize,
    end: usize,
    /// Where `buffer` begins in the file.
    base: u64,
    /// Of everything before `summed`.
    checksum: u64,
    kept: Kept,
    /// What is being read, and where that begins: for errors.
    record: (&'static str, u64),
}

/// What becomes of bytes that are taken.
enum Kept {
    Nothing,
    /// They are added to these; strings may come to so many bytes more.
    Here(Vec<u8>, u64),
    /// There was not enough room.
    TooMuch,
}

/// A length, or how a string is encoded instead.
enum Length {
    Bytes(u64),
    Encoded(u8),
}

impl<R: Read> Input<R> {
    pub(super) fn new(from: R) -> Self {
        Input {
            from,
            buffer: vec![0; BUFFER_BYTES].into(),
            summed: 0,
            start: 0,
            end: 0,
            base: 0,
            checksum: 0,
            kept: Kept::Nothing,
            record: ("the header", 0),
        }
    }

    /// How many bytes were taken.
    pub(super) fn offset(&self) -> u64 {
        self.base + self.start as u64
    }

    /// What comes now is part of `what`.
    pub(super) fn begin(&mut self, what: &'static str, began: u64) {
        self.record = (what, began);
    }

    pub(super) fn damaged(&self, why: impl Into<String>) -> Error {
        let (what, began) = self.record;
        Error::Damaged {
            offset: self.offset(),
            what,
            began,
            why: why.into(),
        }
    }

    /// Of all that was taken.
    pub(super) fn checksum(&mut self) -> u64 {
        self.checksum = crc64::on(self.checksum, &self.buffer[self.summed..self.start]);
        self.summed = self.start;
        self.checksum
    }

    /// From now on what is taken is kept, as long as strings come to at most `room` bytes,
    /// packed or not.
    pub(super) fn keep(&mut self, room: u64) {
        self.kept = Kept::Here(Vec::new(), room);
    }

    /// What was kept, and nothing more from now on. None if that was too much.
    pub(super) fn kept(&mut self) -> Option<Vec<u8>> {
        match std::mem::replace(&mut self.kept, Kept::Nothing) {
            Kept::Here(bytes, _) => Some(bytes),
            Kept::Nothing | Kept::TooMuch => None,
        }
    }

    /// Makes sure that something is there to be taken. False at the end of the file.
    fn fill(&mut self) -> Result<bool, Error> {
        if self.start < self.end {
            return Ok(true);
        }
        self.checksum();
        self.base += self.end as u64;
        (self.summed, self.start, self.end) = (0, 0, 0);
        loop {
            match self.from.read(&mut self.buffer) {
                Ok(read) => {
                    self.end = read.min(self.buffer.len());
                    return Ok(read > 0);
                }
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(source) => {
                    let offset = self.base;
                    return Err(Error::Read { offset, source });
                }
            }
        }
    }

    pub(super) fn is_at_end(&mut self) -> Result<bool, Error> {
        self.fill().map(|more| !more)
    }

    /// The next bytes, at least one and at most `max` (which is not 0).
    fn some(&mut self, max: u64) -> Result<&[u8], Error> {
        if !self.fill()? {
            let (what, began) = self.record;
            return Err(Error::Truncated {
                offset: self.offset(),
                what,
                began,
            });
        }
        let there = self.end - self.start;
        let count = usize::try_from(max).map_or(there, |max| max.min(there));
        let taken = &self.buffer[self.start..self.start + count];
        self.start += count;
        if let Kept::Here(kept, _) = &mut self.kept {
            kept.extend_from_slice(taken);
        }
        Ok(taken)
    }

    pub(super) fn byte(&mut self) -> Result<u8, Error> {
        self.array().map(|[byte]| byte)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], Error> {
        let (mut bytes, mut at) = ([0; N], 0);
        while at < N {
            let some = self.some((N - at) as u64)?;
            bytes[at..at + some.len()].copy_from_slice(some);
            at += some.len();
        }
        Ok(bytes)
    }

    /// Takes `count` bytes.
    pub(super) fn pass(&mut self, count: u64) -> Result<(), Error> {
        let mut left = count;
        while left > 0 {
            left -= self.some(left)?.len() as u64;
        }
        Ok(())
    }

    fn length_or_encoding(&mut self) -> Result<Length, Error> {
        let first = self.byte()?;
        let length = match first >> 6 {
            0 => u64::from(first),
            1 => u64::from(first & 0x3f) << 8 | u64::from(self.byte()?),
            3 => return Ok(Length::Encoded(first & 0x3f)),
            _ if first == 0x80 => u32::from_be_bytes(self.array()?).into(),
            _ if first == 0x81 => u64::from_be_bytes(self.array()?),
            _ => return Err(self.damaged(format!("no length begins with {first:#04x}"))),
        };
        Ok(Length::Bytes(length))
    }

    /// A number of bytes or elements.
    pub(super) fn length(&mut self) -> Result<u64, Error> {
        match self.length_or_encoding()? {
            Length::Bytes(length) => Ok(length),
            Length::Encoded(_) => Err(self.damaged("a string where a length should be")),
        }
    }

    /// Takes a string, and says how many bytes it has once it is unpacked.
    pub(super) fn string(&mut self) -> Result<u64, Error> {
        let (stored, unpacked) = match self.length_or_encoding()? {
            Length::Bytes(length) => (length, length),
            // In decimal digits with a sign.
            Length::Encoded(0) => (1, 4),
            Length::Encoded(1) => (2, 6),
            Length::Encoded(2) => (4, 11),
            Length::Encoded(3) => (self.length()?, self.length()?),
            Length::Encoded(other) => {
                return Err(self.damaged(format!("no string has the encoding {other}")));
            }
        };
        if let Kept::Here(_, room) = &mut self.kept {
            match room.checked_sub(stored.max(unpacked)) {
                Some(left) => *room = left,
                None => self.kept = Kept::TooMuch,
            }
        }
        self.pass(stored)?;
        Ok(unpacked)
    }

    pub(super) fn strings(&mut self, count: u64) -> Result<(), Error> {
        for _ in 0..count {
            self.string()?;
        }
        Ok(())
    }

    pub(super) fn lengths(&mut self, count: u64) -> Result<(), Error> {
        for _ in 0..count {
            self.length()?;
        }
        Ok(())
    }
}
