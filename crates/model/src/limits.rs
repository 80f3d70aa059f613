//! How long keys, fields and strings may be. The node refuses what is longer before it is logged;
//! whoever applies an op refuses it once more.

/// The longest key of a client that a store has room for.
pub const KEY_BYTES_MAX: usize = 32_000;

/// The longest field of a hash that a store has room for.
pub const FIELD_BYTES_MAX: usize = 32_000;

/// The longest string, as in Redis.
pub const STRING_BYTES_MAX: usize = 512 << 20;

/// Something is longer than it can be stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a {what} of {bytes} bytes is longer than {max}: shorten it")]
pub struct TooLong {
    /// `key`, `field` or `value`; `row key`, of a store's tree.
    pub what: &'static str,
    /// Its length.
    pub bytes: usize,
    /// What is allowed.
    pub max: usize,
}

/// Whether there is room for such a key.
pub fn check_key(key: &[u8]) -> Result<(), TooLong> {
    check("key", key, KEY_BYTES_MAX)
}

/// Whether there is room for such a field.
pub fn check_field(field: &[u8]) -> Result<(), TooLong> {
    check("field", field, FIELD_BYTES_MAX)
}

fn check(what: &'static str, given: &[u8], max: usize) -> Result<(), TooLong> {
    let bytes = given.len();
    if bytes > max {
        return Err(TooLong { what, bytes, max });
    }
    Ok(())
}
