//! The few primitives that our fixed binary layouts are made of: little-endian integers,
//! LEB128 lengths, and length-prefixed byte strings. A reader never panics and never
//! allocates more than its input holds.

use bytes::{BufMut, Bytes, BytesMut};

/// Bytes that are not what they claim to be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("malformed {what}")]
pub struct Malformed {
    /// What was being read.
    pub what: &'static str,
}

/// The greatest epoch, index or stamp that is read from a peer or a disk. No cluster ever counts
/// that far, and it is far enough from `u64::MAX` that counting on can't overflow.
pub const NUMBER_MAX: u64 = 1 << 62;

/// Appends a LEB128 number.
pub fn put_len(out: &mut impl BufMut, mut n: u64) {
    while n >= 0x80 {
        out.put_u8(n as u8 | 0x80);
        n >>= 7;
    }
    out.put_u8(n as u8);
}

/// Appends a byte string behind its LEB128 length.
pub fn put_bytes(out: &mut BytesMut, bytes: &[u8]) {
    put_len(out, bytes.len() as u64);
    out.put_slice(bytes);
}

/// Reads from the front of shared bytes; what it returns shares them.
#[derive(Clone, Debug)]
pub struct Reader {
    rest: Bytes,
    what: &'static str,
}

impl Reader {
    /// Reads `bytes`, which claim to be a `what`.
    pub fn new(what: &'static str, bytes: Bytes) -> Self {
        Reader { rest: bytes, what }
    }

    /// The error for bytes that make no sense here.
    pub fn malformed(&self) -> Malformed {
        Malformed { what: self.what }
    }

    /// Whether all was read.
    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// What is left.
    pub fn rest(self) -> Bytes {
        self.rest
    }

    /// The next `n` bytes, shared.
    pub fn take(&mut self, n: usize) -> Result<Bytes, Malformed> {
        if n > self.rest.len() {
            return Err(self.malformed());
        }
        Ok(self.rest.split_to(n))
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let error = self.malformed();
        let (head, _) = self.rest.split_first_chunk::<N>().ok_or(error)?;
        let head = *head;
        bytes::Buf::advance(&mut self.rest, N);
        Ok(head)
    }

    /// One byte.
    pub fn u8(&mut self) -> Result<u8, Malformed> {
        self.array::<1>().map(|[b]| b)
    }

    /// Four bytes, little-endian.
    pub fn u32(&mut self) -> Result<u32, Malformed> {
        self.array().map(u32::from_le_bytes)
    }

    /// Eight bytes, little-endian.
    pub fn u64(&mut self) -> Result<u64, Malformed> {
        self.array().map(u64::from_le_bytes)
    }

    /// Eight bytes that count something, such as entries: at most [`NUMBER_MAX`].
    pub fn number(&mut self) -> Result<u64, Malformed> {
        match self.u64()? {
            n if n <= NUMBER_MAX => Ok(n),
            _ => Err(self.malformed()),
        }
    }

    /// A LEB128 number.
    pub fn len(&mut self) -> Result<u64, Malformed> {
        let mut n = 0u64;
        for shift in (0..64).step_by(7) {
            let b = self.u8()?;
            if shift == 63 && b > 1 {
                return Err(self.malformed());
            }
            n |= u64::from(b & 0x7f) << shift;
            if b & 0x80 == 0 {
                return Ok(n);
            }
        }
        Err(self.malformed())
    }

    /// A byte string behind its length, shared.
    pub fn bytes(&mut self) -> Result<Bytes, Malformed> {
        let n = self.len()?;
        let n = usize::try_from(n).map_err(|_| self.malformed())?;
        self.take(n)
    }

    /// How many items follow. Each takes at least one byte, so a count beyond what is left is
    /// a lie, and is refused before anything is reserved for it.
    pub fn count(&mut self) -> Result<usize, Malformed> {
        let n = self.len()?;
        if n > self.rest.len() as u64 {
            return Err(self.malformed());
        }
        Ok(n as usize)
    }
}
