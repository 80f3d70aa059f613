//! Where something is reached: a host and a port, as people write them.
//!
//! | written | is |
//! |---|---|
//! | `10.0.0.1:7001`, `[fd00::1]:7001` | an IP and a port |
//! | `db1.example:7001` | a name, which means whatever IPs it resolves to when somebody connects |
//!
//! A name is kept as a name: a machine or container that comes back may have another IP. Names are
//! compared without regard to case, so they are held in small letters.

use serde::{Deserialize, Serialize};
use std::{fmt, net::SocketAddr, str::FromStr};

/// Bytes of a host name, at most; of a part of it between dots (RFC 1035).
const NAME_LEN_MAX: usize = 253;
const LABEL_LEN_MAX: usize = 63;

/// A host and a port.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Address(Where);

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Where {
    Socket(SocketAddr),
    /// A checked name, in small letters.
    Name(Box<str>, u16),
}

/// A text that is no address, and what to write instead.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// Nothing.
    #[error("use HOST:PORT, as in 127.0.0.1:7001")]
    Empty,
    /// A URL.
    #[error("leave out '{0}://': use HOST:PORT")]
    Scheme(String),
    /// IPv6, without brackets.
    #[error("put an IPv6 address into brackets and add a port, as in [{0}]:7001")]
    Bare(String),
    /// Only a host.
    #[error("add a port, as in {0}:7001")]
    NoPort(String),
    /// Only a port.
    #[error("add a host, as in 127.0.0.1:{0}")]
    NoHost(String),
    /// What follows the host.
    #[error("'{0}' is no port: use a number from 1 to 65535")]
    Port(String),
    /// It looks like an IP.
    #[error("'{0}' is no IP address")]
    Ip(String),
    /// What stands before the port.
    #[error(
        "'{0}' is no host name: use letters, digits, '-', '_' and '.', at most {NAME_LEN_MAX} in all and {LABEL_LEN_MAX} between dots"
    )]
    Name(String),
}

impl Address {
    /// The IP and port, where no name has to be resolved first.
    pub fn socket(&self) -> Option<SocketAddr> {
        match self.0 {
            Where::Socket(socket) => Some(socket),
            Where::Name(..) => None,
        }
    }

    /// The name or IP; that of IPv6 without brackets, as Redis shows it.
    pub fn host(&self) -> String {
        match &self.0 {
            Where::Socket(socket) => socket.ip().to_string(),
            Where::Name(name, _) => name.to_string(),
        }
    }

    /// The port.
    pub fn port(&self) -> u16 {
        match self.0 {
            Where::Socket(socket) => socket.port(),
            Where::Name(_, port) => port,
        }
    }

    /// Whether it is an IP that stands for all of a machine: one can listen there, and nobody can
    /// be sent there.
    pub fn is_unspecified(&self) -> bool {
        let ip = self.socket().map(|s| s.ip().to_canonical());
        ip.is_some_and(|ip| ip.is_unspecified())
    }
}

impl From<SocketAddr> for Address {
    fn from(socket: SocketAddr) -> Self {
        Address(Where::Socket(socket))
    }
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        if let Some((scheme, _)) = text.split_once("://") {
            return Err(AddressError::Scheme(scheme.to_owned()));
        }
        let bracketed = text.starts_with('[');
        if !bracketed && text.matches(':').count() > 1 {
            return Err(AddressError::Bare(text.to_owned()));
        }
        let (host, port) = match text.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => (host, port),
            _ if text.is_empty() => return Err(AddressError::Empty),
            _ => return Err(AddressError::NoPort(text.to_owned())),
        };
        if host.is_empty() {
            return Err(AddressError::NoHost(port.to_owned()));
        }
        let number = match port.parse::<u16>() {
            Ok(number @ 1..) => number,
            _ => return Err(AddressError::Port(port.to_owned())),
        };
        if let Ok(socket) = text.parse() {
            return Ok(Address(Where::Socket(socket)));
        }
        // Resolvers take `10.0.1` and `0x7f000001` for IPs as well, and the former not for the one
        // that was meant.
        let last = host.trim_end_matches('.').rsplit('.').next();
        if bracketed || last.is_some_and(is_number) {
            return Err(AddressError::Ip(host.to_owned()));
        }
        if !is_name(host) {
            return Err(AddressError::Name(host.to_owned()));
        }
        Ok(Address(Where::Name(
            host.to_ascii_lowercase().into(),
            number,
        )))
    }
}

fn is_number(label: &str) -> bool {
    let hex = label.strip_prefix("0x").or(label.strip_prefix("0X"));
    match hex {
        Some(hex) => hex.bytes().all(|b| b.is_ascii_hexdigit()),
        None => label.bytes().all(|b| b.is_ascii_digit()),
    }
}

/// A dot at the end is part of a name: it keeps resolvers from adding to it.
fn is_name(host: &str) -> bool {
    let is_label = |label: &str| {
        let known = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
        (1..=LABEL_LEN_MAX).contains(&label.len())
            && label.bytes().all(known)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let labels = host.strip_suffix('.').unwrap_or(host);
    labels.len() <= NAME_LEN_MAX && labels.split('.').all(is_label)
}

impl TryFrom<String> for Address {
    type Error = AddressError;

    fn try_from(text: String) -> Result<Self, AddressError> {
        text.parse()
    }
}

impl From<Address> for String {
    fn from(address: Address) -> Self {
        address.to_string()
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Where::Socket(socket) => socket.fmt(f),
            Where::Name(name, port) => write!(f, "{name}:{port}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_a_host_and_a_port() {
        for (text, host, shown) in [
            ("127.0.0.1:7001", "127.0.0.1", "127.0.0.1:7001"),
            ("[::1]:65535", "::1", "[::1]:65535"),
            ("[FD00:0::1]:7001", "fd00::1", "[fd00::1]:7001"),
            ("[fe80::1%3]:7001", "fe80::1", "[fe80::1%3]:7001"),
            ("localhost:1", "localhost", "localhost:1"),
            ("DB-1.Example.:7001", "db-1.example.", "db-1.example.:7001"),
            ("quire_db_1:7001", "quire_db_1", "quire_db_1:7001"),
            ("3com.example:1", "3com.example", "3com.example:1"),
        ] {
            let address: Address = text.parse().unwrap();
            assert_eq!(
                (address.host().as_str(), address.to_string()),
                (host, shown.into())
            );
            assert_eq!(address.port().to_string(), text.rsplit(':').next().unwrap());
            let bytes = postcard::to_stdvec(&address).unwrap();
            assert_eq!(postcard::from_bytes::<Address>(&bytes).unwrap(), address);
        }
        let named: Address = "localhost:7001".parse().unwrap();
        assert_eq!(named.socket(), None);
        assert!(!named.is_unspecified());
        for everywhere in ["[::]:7001", "0.0.0.0:7001", "[::ffff:0.0.0.0]:7001"] {
            let everywhere: Address = everywhere.parse().unwrap();
            assert!(everywhere.is_unspecified(), "{everywhere}");
        }
    }

    #[test]
    fn what_is_no_address_is_told_what_to_change() {
        let long = format!("{}.example:1", "a".repeat(64));
        for (wrong, says) in [
            ("", "use HOST:PORT"),
            ("127.0.0.1", "add a port, as in 127.0.0.1:7001"),
            ("localhost", "add a port, as in localhost:7001"),
            ("[::1]", "add a port, as in [::1]:7001"),
            ("::1", "as in [::1]:7001"),
            (":7001", "add a host"),
            ("localhost:", "'' is no port"),
            ("localhost:0", "'0' is no port"),
            ("127.0.0.1:0", "'0' is no port"),
            ("localhost:redis", "'redis' is no port"),
            ("localhost:70000", "'70000' is no port"),
            ("redis://localhost:7001", "leave out 'redis://'"),
            ("127.0.0.300:1", "'127.0.0.300' is no IP"),
            ("10.0.1:1", "'10.0.1' is no IP"),
            ("0x7f000001:1", "'0x7f000001' is no IP"),
            ("127.0X1:1", "'127.0X1' is no IP"),
            ("[localhost]:1", "'[localhost]' is no IP"),
            ("[::g]:1", "'[::g]' is no IP"),
            ("a..b:1", "'a..b' is no host name"),
            (".:1", "is no IP"),
            ("-a:1", "'-a' is no host name"),
            ("us=db1:1", "'us=db1' is no host name"),
            ("d b:1", "'d b' is no host name"),
            (&long, "is no host name"),
        ] {
            let error = wrong.parse::<Address>().unwrap_err().to_string();
            assert!(error.contains(says), "{wrong}: {error}");
        }
        let bytes = postcard::to_stdvec("nowhere").unwrap();
        assert!(postcard::from_bytes::<Address>(&bytes).is_err());
    }
}
