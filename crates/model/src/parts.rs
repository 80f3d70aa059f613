//! Bytes in one or several parts, so that what holds something large is sent without a copy of it.

use bytes::{BufMut, Bytes, BytesMut};

/// From so many bytes on something is a part of its own. Below, a copy costs less than a write of
/// its own.
pub const SHARED_FROM: usize = 64 << 10;

/// See the module. The parts follow each other, and mostly there is only the first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Parts {
    first: Bytes,
    rest: Vec<Bytes>,
}

impl Parts {
    /// Of all parts.
    pub fn len(&self) -> usize {
        self.iter().map(Bytes::len).sum()
    }

    /// Whether there is no byte in them.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// In their order.
    pub fn iter(&self) -> impl Iterator<Item = &Bytes> {
        std::iter::once(&self.first).chain(&self.rest)
    }

    /// The same behind `head`. What is large is shared, all else copied.
    pub fn behind(self, head: &[u8]) -> Parts {
        let mut out = BytesMut::with_capacity(head.len() + self.first.len());
        out.put_slice(head);
        out.put_slice(&self.first);
        Parts {
            first: out.freeze(),
            rest: self.rest,
        }
    }

    /// The first part, and those that follow it.
    pub fn split(self) -> (Bytes, Vec<Bytes>) {
        (self.first, self.rest)
    }

    /// All of it in one: a copy, where there are several parts.
    pub fn into_bytes(self) -> Bytes {
        if self.rest.is_empty() {
            return self.first;
        }
        let mut out = BytesMut::with_capacity(self.len());
        self.iter().for_each(|part| out.put_slice(part));
        out.freeze()
    }
}

impl From<Bytes> for Parts {
    fn from(first: Bytes) -> Self {
        Parts {
            first,
            rest: Vec::new(),
        }
    }
}

/// Makes [`Parts`].
#[derive(Debug)]
pub struct PartsWriter {
    /// The part that is being written.
    out: BytesMut,
    done: Vec<Bytes>,
}

impl PartsWriter {
    /// With room for what will be copied.
    pub fn with_capacity(bytes: usize) -> Self {
        PartsWriter {
            out: BytesMut::with_capacity(bytes),
            done: Vec::new(),
        }
    }

    /// How many of these bytes [`PartsWriter::put_shared`] copies.
    pub fn copied(bytes: &Bytes) -> usize {
        match bytes.len() {
            len @ ..SHARED_FROM => len,
            _ => 0,
        }
    }

    /// Where bytes are to be appended.
    pub fn out(&mut self) -> &mut BytesMut {
        &mut self.out
    }

    /// Appends bytes: a copy of few, many as a part of their own.
    pub fn put_shared(&mut self, bytes: &Bytes) {
        if bytes.len() < SHARED_FROM {
            self.out.put_slice(bytes);
            return;
        }
        if !self.out.is_empty() {
            self.done.push(self.out.split().freeze());
        }
        self.done.push(bytes.clone());
    }

    /// What was written.
    pub fn finish(mut self) -> Parts {
        if self.done.is_empty() {
            return self.out.freeze().into();
        }
        if !self.out.is_empty() {
            self.done.push(self.out.freeze());
        }
        let rest = self.done.split_off(1);
        let first = self.done.pop().unwrap_or_default();
        Parts { first, rest }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn large(byte: u8) -> Bytes {
        vec![byte; SHARED_FROM].into()
    }

    #[test]
    fn all_is_there_in_its_order_whatever_is_shared() {
        let cases: [&[Bytes]; 6] = [
            &[],
            &["a".into(), "b".into()],
            &[large(1)],
            &["a".into(), large(1), "b".into(), "c".into()],
            &[large(1), large(2), "a".into()],
            &["a".into(), large(1), large(2)],
        ];
        for pieces in cases {
            let mut writer = PartsWriter::with_capacity(0);
            pieces.iter().for_each(|piece| writer.put_shared(piece));
            let parts = writer.finish();
            let whole = pieces.concat();
            assert_eq!(parts.len(), whole.len());
            assert_eq!(parts.is_empty(), whole.is_empty());
            assert_eq!(parts.clone().into_bytes(), whole);
            let behind = parts.behind(b"head").into_bytes();
            assert_eq!(behind, [&b"head"[..], &whole].concat());
        }
    }

    #[test]
    fn what_is_large_is_not_copied() {
        let large = large(1);
        let mut writer = PartsWriter::with_capacity(8);
        writer.out().put_slice(b"before");
        writer.put_shared(&large);
        let parts = writer.finish().behind(b"head");
        assert!(parts.iter().any(|part| part.as_ptr() == large.as_ptr()));
        assert_eq!(
            (
                PartsWriter::copied(&large),
                PartsWriter::copied(&"a".into())
            ),
            (0, 1)
        );
    }
}
