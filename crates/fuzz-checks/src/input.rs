//! An input that has several parts, and what puts checksums right.

/// A part: a byte that says what it is, and its bytes.
pub(crate) type Part<'a> = (u8, &'a [u8]);

/// The parts of `data`: each is a tag u8, a length u16 LE, and as many bytes; the last may be
/// shorter.
pub(crate) fn parts(mut data: &[u8]) -> impl Iterator<Item = Part<'_>> {
    std::iter::from_fn(move || {
        let ([tag, low, high], rest) = data.split_first_chunk::<3>()?;
        let length = usize::from(u16::from_le_bytes([*low, *high]));
        let (part, rest) = rest.split_at(length.min(rest.len()));
        data = rest;
        Some((*tag, part))
    })
}

pub(crate) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    let four = bytes.get(at..at.checked_add(4)?)?;
    Some(u32::from_le_bytes(four.try_into().ok()?))
}

/// Puts `value` at `at`, if there is room.
pub(crate) fn put(bytes: &mut [u8], at: usize, value: &[u8]) {
    if let Some(place) = bytes.get_mut(at..at + value.len()) {
        place.copy_from_slice(value);
    }
}

/// Puts the CRC-32C of `from..at` at `at`, if there is room; returns it.
pub(crate) fn put_crc(bytes: &mut [u8], from: usize, at: usize) -> u32 {
    let crc = bytes.get(from..at).map_or(0, crc32c::crc32c);
    put(bytes, at, &crc.to_le_bytes());
    crc
}

/// Numbers that follow from a seed (SplitMix64).
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    /// A seed that follows from an input.
    pub(crate) fn of(data: &[u8]) -> Self {
        Dice(u64::from(crc32c::crc32c(data)))
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `n`, or 0.
    pub(crate) fn below(&mut self, n: usize) -> usize {
        (self.next() % (n as u64).max(1)) as usize
    }
}
