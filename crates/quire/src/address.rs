//! A node's client address as people write it, checked before anything is sent there. Pure.

use model::{Address, AddressError};

/// The address in `text`: HOST:PORT, as a cluster's status would write it.
pub(crate) fn parse(text: &str) -> Result<String, AddressError> {
    text.parse::<Address>().map(String::from)
}

/// The same, with the name of a region before it, or without: `[REGION=]HOST:PORT`.
pub(crate) fn parse_with_region(text: &str) -> Result<String, AddressError> {
    match text.split_once('=') {
        Some((region, addr)) => parse(addr).map(|addr| format!("{region}={addr}")),
        None => parse(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_region_may_stand_before_an_address() {
        for (text, parsed) in [
            ("eu=10.0.0.1:7001", "eu=10.0.0.1:7001"),
            ("eu=DB1.example:7001", "eu=db1.example:7001"),
            ("[::1]:7001", "[::1]:7001"),
        ] {
            assert_eq!(parse_with_region(text), Ok(parsed.to_owned()));
        }
        let error = parse_with_region("eu=10.0.0.1").unwrap_err().to_string();
        assert!(error.contains("add a port, as in 10.0.0.1:7001"), "{error}");
    }
}
