//! Where to import from: `redis://[user][:password]@host[:port][/database]`, or a file.

use std::{fmt, path::PathBuf, str::FromStr};

/// Where to import from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A running server.
    Server(Server),
    /// A snapshot.
    File(PathBuf),
}

/// A running Redis, Valkey or Quire.
#[derive(Clone, PartialEq, Eq)]
pub struct Server {
    /// Host and port.
    pub addr: String,
    /// Who to be there; Redis's `default` if there is only a password.
    pub user: Option<String>,
    /// The password.
    pub password: Option<String>,
    /// The number of the database.
    pub database: Option<u64>,
}

/// No password shows in a message.
impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "redis://{}", self.addr)?;
        match self.database {
            Some(database) => write!(f, "/{database}"),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Source {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let rest = match text.split_once("://") {
            Some(("redis" | "valkey", rest)) => rest,
            Some(("rediss" | "valkeys", _)) => {
                return Err(
                    "TLS is not spoken; import an RDB file, or tunnel the connection".into(),
                );
            }
            Some((scheme, _)) => {
                return Err(format!(
                    "{scheme}:// is not known: redis://[user:password@]host[:port][/database], or a file"
                ));
            }
            None => return Ok(Source::File(text.into())),
        };
        // A password may have an @ in it.
        let (who, rest) = match rest.rsplit_once('@') {
            Some((who, rest)) => (Some(who), rest),
            None => (None, rest),
        };
        let (addr, database) = match rest.split_once('/') {
            Some((addr, "")) => (addr, None),
            Some((addr, number)) => {
                let number = number.parse();
                (
                    addr,
                    Some(number.map_err(|_| format!("/{rest} ends with no number of a database"))?),
                )
            }
            None => (rest, None),
        };
        let (user, password) = match who.map(|who| who.split_once(':').unwrap_or((who, ""))) {
            Some((user, password)) => (unescaped(user)?, unescaped(password)?),
            None => (String::new(), String::new()),
        };
        if addr.is_empty() || addr.starts_with(':') {
            return Err("redis:// needs a host: redis://host:6379".into());
        }
        let has_port = !addr.ends_with(']') && addr.rsplit_once(':').is_some();
        Ok(Source::Server(Server {
            addr: match has_port {
                true => addr.to_owned(),
                false => format!("{addr}:6379"),
            },
            user: Some(user).filter(|user| !user.is_empty()),
            password: Some(password).filter(|password| !password.is_empty()),
            database,
        }))
    }
}

/// `%40` as `@`.
fn unescaped(text: &str) -> Result<String, String> {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let [first, more @ ..] = rest {
        rest = more;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let wrong = || "a % in user or password is not followed by two hex digits; write % as %25";
        let (code, more) = rest.split_first_chunk::<2>().ok_or_else(wrong)?;
        let code = std::str::from_utf8(code).ok();
        let code = code.filter(|code| code.bytes().all(|b| b.is_ascii_hexdigit()));
        let byte = code.and_then(|code| u8::from_str_radix(code, 16).ok());
        bytes.push(byte.ok_or_else(wrong)?);
        rest = more;
    }
    String::from_utf8(bytes).map_err(|_| "user and password must be UTF-8".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(text: &str) -> Server {
        match text.parse() {
            Ok(Source::Server(server)) => server,
            other => panic!("{text}: {other:?}"),
        }
    }

    #[test]
    fn addresses_are_taken_apart() {
        for (text, addr, user, password, database) in [
            ("redis://h", "h:6379", None, None, None),
            ("redis://h:7/", "h:7", None, None, None),
            ("valkey://h:7/3", "h:7", None, None, Some(3)),
            ("redis://:p@h", "h:6379", None, Some("p"), None),
            ("redis://u:p@q@h:1", "h:1", Some("u"), Some("p@q"), None),
            ("redis://u:%40%25@h:1", "h:1", Some("u"), Some("@%"), None),
            ("redis://[::1]:7/0", "[::1]:7", None, None, Some(0)),
            ("redis://[::1]", "[::1]:6379", None, None, None),
        ] {
            let server = server(text);
            assert_eq!(server.addr, addr);
            assert_eq!(server.user.as_deref(), user, "{text}");
            assert_eq!(server.password.as_deref(), password, "{text}");
            assert_eq!(server.database, database, "{text}");
        }
        let file: Source = "dir/dump.rdb".parse().unwrap();
        assert_eq!(file, Source::File("dir/dump.rdb".into()));
    }

    #[test]
    fn nonsense_is_refused_and_passwords_are_not_shown() {
        for text in [
            "http://h",
            "rediss://h",
            "redis://",
            "redis://:7",
            "redis://h/x",
            "redis://%4@h",
            "redis://%+4@h",
        ] {
            assert!(text.parse::<Source>().is_err(), "{text}");
        }
        let shown = format!(
            "{:?} {}",
            server("redis://u:secret@h"),
            server("redis://u:secret@h/2")
        );
        assert_eq!(shown, "redis://h:6379 redis://h:6379/2");
    }
}
