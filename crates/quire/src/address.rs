//! A node's client address as people write it, checked before anything is sent there. Pure.

/// The address in `text`: HOST:PORT, as it stands there. An error says what to change.
pub(crate) fn parse(text: &str) -> Result<String, String> {
    if let Some((scheme, _)) = text.split_once("://") {
        return Err(format!("leave out '{scheme}://': use HOST:PORT"));
    }
    let bare_v6 = text.matches(':').count() > 1 && !text.starts_with('[');
    let (host, port) = match text.rsplit_once(':') {
        _ if bare_v6 => {
            return Err(format!(
                "put an IPv6 address into brackets and add a port, as in [{text}]:7001"
            ));
        }
        Some((host, port)) if !port.ends_with(']') => (host, port),
        _ if text.is_empty() => return Err("use HOST:PORT, as in 127.0.0.1:7001".into()),
        _ => return Err(format!("add a port, as in {text}:7001")),
    };
    if host.is_empty() {
        return Err(format!("add a host, as in 127.0.0.1:{port}"));
    }
    match port.parse::<u16>() {
        Ok(1..) => Ok(text.to_owned()),
        _ => Err(format!("'{port}' is no port: use a number from 1 to 65535")),
    }
}

/// The same, with the name of a region before it, or without: `[REGION=]HOST:PORT`.
pub(crate) fn parse_with_region(text: &str) -> Result<String, String> {
    let addr = text.split_once('=').map_or(text, |(_, addr)| addr);
    parse(addr).map(|_| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_a_host_and_a_port() {
        for right in [
            "127.0.0.1:7001",
            "localhost:1",
            "[::1]:65535",
            "db.example:7001",
        ] {
            assert_eq!(parse(right), Ok(right.to_owned()));
        }
        for (wrong, says) in [
            ("", "use HOST:PORT"),
            ("127.0.0.1", "add a port, as in 127.0.0.1:7001"),
            ("localhost", "add a port, as in localhost:7001"),
            ("[::1]", "add a port, as in [::1]:7001"),
            ("::1", "as in [::1]:7001"),
            (":7001", "add a host"),
            ("localhost:", "'' is no port"),
            ("localhost:0", "'0' is no port"),
            ("localhost:redis", "'redis' is no port"),
            ("localhost:70000", "'70000' is no port"),
            ("redis://localhost:7001", "leave out 'redis://'"),
        ] {
            let error = parse(wrong).unwrap_err();
            assert!(error.contains(says), "{wrong}: {error}");
        }
    }

    #[test]
    fn a_region_may_stand_before_it() {
        assert!(parse_with_region("eu=10.0.0.1:7001").is_ok());
        assert!(parse_with_region("10.0.0.1:7001").is_ok());
        let error = parse_with_region("eu=10.0.0.1").unwrap_err();
        assert!(error.contains("add a port, as in 10.0.0.1:7001"), "{error}");
    }
}
