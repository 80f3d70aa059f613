//! What a value costs that is read, written or replied, in units of `commands::work`: a byte that
//! could be copied meanwhile.

/// Up to so many bytes a value is copied from cache to cache, in memory that was used a moment ago.
const NEAR: usize = 64 << 10;
/// What each further byte costs: it goes through fresh memory, which the kernel first has to clear.
const FAR_COST: u64 = 3;

/// A value of `len` bytes, read, written or replied once.
pub fn of_value(len: usize) -> u64 {
    let near = len.min(NEAR);
    near as u64 + FAR_COST * (len - near) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_beyond_the_caches_costs_more() {
        assert_eq!(of_value(0), 0);
        assert_eq!(of_value(NEAR), NEAR as u64);
        assert_eq!(of_value(NEAR + 10), NEAR as u64 + 30);
    }
}
