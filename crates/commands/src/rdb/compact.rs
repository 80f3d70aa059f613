//! The compact lists that Redis keeps small hashes in: their elements, integers as text.
//!
//! ```text
//! listpack  bytes u32 LE | elements u16 LE | element… | 0xff
//! element   encoding and data | their length, 1 to 5 bytes, to go backwards by
//!   0xxxxxxx int   10xxxxxx text   110xxxxx x8 int   1110xxxx x8 text
//!   f0 u32 LE text   f1 f2 f3 f4 int of 16, 24, 32, 64 bits LE
//!
//! ziplist   bytes u32 LE | last u32 LE | elements u16 LE | element… | 0xff
//! element   length of the one before, 1 or (fe) 5 bytes | encoding and data
//!   00xxxxxx text   01xxxxxx x8 text   10000000 u32 BE text
//!   c0 d0 e0 f0 fe int of 16, 32, 64, 24, 8 bits LE   f1…fd int 0…12
//!
//! zipmap    pairs u8 | (length, field, length, unused u8, value, unused bytes)… | 0xff
//!   length    up to fd: itself   fe u32 LE
//! ```

use bytes::Bytes;

/// Reads from the front.
struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn take(&mut self, n: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(n)?;
        self.0 = rest;
        Some(taken)
    }

    fn byte(&mut self) -> Option<u8> {
        self.take(1).map(|bytes| bytes[0])
    }

    /// A signed integer of `n` bytes, little-endian, as text.
    fn integer(&mut self, n: usize) -> Option<Bytes> {
        let mut wide = [0; 8];
        wide[8 - n..].copy_from_slice(self.take(n)?);
        Some(text(i64::from_le_bytes(wide) >> (64 - 8 * n)))
    }

    fn length(&mut self, n: usize) -> Option<usize> {
        let mut wide = [0; 8];
        wide[..n].copy_from_slice(self.take(n)?);
        usize::try_from(u64::from_le_bytes(wide)).ok()
    }

    fn string(&mut self, n: usize) -> Option<Bytes> {
        self.take(n).map(Bytes::copy_from_slice)
    }
}

fn text(n: i64) -> Bytes {
    Bytes::copy_from_slice(itoa::Buffer::new().format(n).as_bytes())
}

/// The end of a list of either kind; `count` is what its header says, if it fits there.
fn ended(input: &Input<'_>, elements: Vec<Bytes>, count: usize) -> Option<Vec<Bytes>> {
    let counted = count == usize::from(u16::MAX) || count == elements.len();
    (input.0.is_empty() && counted).then_some(elements)
}

/// The elements of a listpack; None if it makes no sense.
pub fn listpack(bytes: &[u8]) -> Option<Vec<Bytes>> {
    let mut input = Input(bytes);
    if input.length(4)? != bytes.len() {
        return None;
    }
    let count = input.length(2)?;
    let mut elements = Vec::new();
    loop {
        let before = input.0.len();
        let first = input.byte()?;
        let low = usize::from(first);
        let element = match first {
            0..=0x7f => text(first.into()),
            0x80..=0xbf => input.string(low & 0x3f)?,
            0xc0..=0xdf => {
                let n = (i64::from(first & 0x1f) << 8) | i64::from(input.byte()?);
                text(if n >= 1 << 12 { n - (1 << 13) } else { n })
            }
            0xe0..=0xef => {
                let length = (low & 0x0f) << 8 | usize::from(input.byte()?);
                input.string(length)?
            }
            0xf0 => {
                let length = input.length(4)?;
                input.string(length)?
            }
            0xf1..=0xf3 => input.integer(usize::from(first - 0xf1) + 2)?,
            0xf4 => input.integer(8)?,
            0xff => return ended(&input, elements, count),
            _ => return None,
        };
        let length = before - input.0.len();
        input.take(match length {
            0..=127 => 1,
            128..16_383 => 2,
            16_383..2_097_151 => 3,
            2_097_151..268_435_455 => 4,
            _ => 5,
        })?;
        elements.push(element);
    }
}

pub(super) fn ziplist(bytes: &[u8]) -> Option<Vec<Bytes>> {
    let mut input = Input(bytes);
    if input.length(4)? != bytes.len() {
        return None;
    }
    input.take(4)?;
    let count = input.length(2)?;
    let mut elements = Vec::new();
    loop {
        match input.byte()? {
            0xff => return ended(&input, elements, count),
            0xfe => _ = input.take(4)?,
            _ => {}
        }
        let first = input.byte()?;
        let low = usize::from(first & 0x3f);
        elements.push(match first {
            0..=0x3f => input.string(low)?,
            0x40..=0x7f => {
                let length = low << 8 | usize::from(input.byte()?);
                input.string(length)?
            }
            0x80 => {
                let length: [u8; 4] = input.take(4)?.try_into().ok()?;
                input.string(u32::from_be_bytes(length) as usize)?
            }
            0xc0 => input.integer(2)?,
            0xd0 => input.integer(4)?,
            0xe0 => input.integer(8)?,
            0xf0 => input.integer(3)?,
            0xfe => input.integer(1)?,
            0xf1..=0xfd => text(i64::from(first) - 0xf1),
            _ => return None,
        });
    }
}

pub(super) fn zipmap(bytes: &[u8]) -> Option<Vec<Bytes>> {
    let mut input = Input(bytes);
    input.byte()?;
    let mut elements = Vec::new();
    loop {
        let is_value = elements.len() % 2 == 1;
        let length = match input.byte()? {
            0xff if !is_value => return input.0.is_empty().then_some(elements),
            0xff => return None,
            0xfe => input.length(4)?,
            short => short.into(),
        };
        let unused = if is_value { input.byte()? } else { 0 };
        elements.push(input.string(length)?);
        input.take(unused.into())?;
    }
}
