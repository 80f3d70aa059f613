//! Protected mode: whom a node takes as a client while nobody can prove who he is. Pure.
//!
//! Quire has no users yet, so whoever reaches a client port may do everything. A node listens on
//! loopback alone unless it is told otherwise; where it is told, it still takes clients of its own
//! machine only, until its operator has said that everybody who reaches the port may come
//! (`protected_mode = false`, or `CONFIG SET protected-mode no`). It is decided when a client
//! connects, by the address that it comes from: not by where the node listens, which a packet
//! filter or a proxy may make reachable from elsewhere. A proxy on the node's machine passes for a
//! client of that machine.
//!
//! Other nodes are not clients: what they forward for theirs was let in there.

use crate::room::Gate;
use std::net::{IpAddr, SocketAddr};

/// What a stranger is told, behind `-`.
const STRANGER: &str = "DENIED this node is in protected mode: it has no users whom it could know by a password, so it takes clients of its own machine only. Connect there, over a loopback address. If everybody who can reach this port may read and change everything, set protected_mode = false in node.toml and start the node again, or say CONFIG SET protected-mode no there, which holds until then";

/// Whether a client that comes from `from` is turned away.
fn is_turned_away(protected_mode: bool, from: IpAddr) -> bool {
    // A listener on [::] shows clients of IPv4 by mapped addresses.
    protected_mode && !from.to_canonical().is_loopback()
}

impl Gate {
    /// Whether a client may come from `from`; an error is the line that it is told.
    pub fn admit(&self, from: SocketAddr) -> Result<(), &'static str> {
        match is_turned_away(self.config.protected_mode, from.ip()) {
            true => Err(STRANGER),
            false => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_of_other_machines_are_strangers() {
        for (from, is_stranger) in [
            ("127.0.0.1", false),
            ("127.8.9.10", false),
            ("::1", false),
            ("::ffff:127.0.0.1", false),
            ("10.0.0.1", true),
            ("192.0.2.7", true),
            ("0.0.0.0", true),
            ("fe80::1", true),
            ("2001:db8::1", true),
            ("::ffff:10.0.0.1", true),
        ] {
            let from = from.parse().unwrap();
            assert_eq!(is_turned_away(true, from), is_stranger, "{from}");
            assert!(!is_turned_away(false, from), "{from}");
        }
    }

    #[test]
    fn a_stranger_is_told_what_to_do() {
        assert!(STRANGER.starts_with("DENIED "));
        for word in ["protected_mode = false", "CONFIG SET", "loopback"] {
            assert!(STRANGER.contains(word), "{word}");
        }
        assert!(!STRANGER.contains(['\r', '\n']));
    }
}
