//! Key → hash slot, exactly as Redis Cluster does it, so that cluster-aware clients agree.

/// How many slots there are; a shard is a range of them.
pub const SLOTS: u16 = 16_384;

/// The slot of a key: CRC16 (XMODEM) of its hash tag, if it has one, else of all of it.
pub fn of(key: &[u8]) -> u16 {
    crc16(tag(key)) % SLOTS
}

/// The part of a key that decides its slot: between the first `{` and the next `}`, if that
/// part is not empty.
fn tag(key: &[u8]) -> &[u8] {
    if let Some(open) = key.iter().position(|b| *b == b'{') {
        let rest = &key[open + 1..];
        if let Some(close) = rest.iter().position(|b| *b == b'}')
            && close > 0
        {
            return &rest[..close];
        }
    }
    key
}

const TABLE: [u16; 256] = {
    let mut table = [0u16; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut crc = (byte as u16) << 8;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 0x8000 != 0 {
                (crc << 1) ^ 0x1021
            } else {
                crc << 1
            };
            bit += 1;
        }
        table[byte] = crc;
        byte += 1;
    }
    table
};

fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |crc, b| {
        (crc << 8) ^ TABLE[usize::from((crc >> 8) as u8 ^ b)]
    })
}

/// The inclusive slot ranges of `shards` shards, in order, as even as can be.
pub fn ranges(shards: u16) -> impl Iterator<Item = (u16, u16)> {
    let shards = u32::from(shards.max(1));
    let slots = u32::from(SLOTS);
    (0..shards).map(move |n| {
        let from = slots * n / shards;
        let to = slots * (n + 1) / shards - 1;
        (from as u16, to as u16)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agrees_with_redis_cluster() {
        // From the Redis Cluster specification and `redis-cli cluster keyslot`.
        assert_eq!(crc16(b"123456789"), 0x31c3);
        assert_eq!(of(b"foo"), 12182);
        assert_eq!(of(b"{user1000}.following"), of(b"{user1000}.followers"));
        assert_eq!(of(b"foo{}{bar}"), crc16(b"foo{}{bar}") % SLOTS);
        assert_eq!(of(b"foo{{bar}}zap"), of(b"{bar"));
    }

    #[test]
    fn ranges_cover_every_slot_once() {
        for shards in [1, 2, 3, 7, 16, 100] {
            let mut next = 0;
            for (from, to) in ranges(shards) {
                assert_eq!(from, next);
                assert!(to >= from);
                next = to + 1;
            }
            assert_eq!(next, SLOTS);
        }
    }
}
