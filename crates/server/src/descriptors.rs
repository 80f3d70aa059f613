//! File descriptors: how many the process may have open, and for what.
//!
//! ```text
//! limit (ulimit -n; the soft one is raised to the hard one)
//!   = log       a file for each segment that is kept, and for those being made
//!   + store     tables kept open, an eighth of the limit, up to 512 …
//!   + work      … and those that flushes and compactions read and write: one a sorted run
//!   + peers     two connections each way for each node; what comes in is bounded
//!   + http, administration, and what the process itself needs
//!   + clients   the rest, up to max_clients
//! ```
//! A client more than there is room for is refused; without that the log or the store would be
//! refused its next file by the system, which stops writes.

use crate::config::Limits;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::io;
use storage::log;

/// Connections beyond `max_clients` on which administration gets through.
pub(crate) const ADMINISTRATION: usize = 8;
/// Connections that are being told why they are not taken.
pub(crate) const TURNED_AWAY: usize = 8;
/// Tables that are kept open, if there is room.
const STORE_MAX: usize = 512;
/// Connections on the peer port, which any number of nodes may open.
const PEERS_IN_MAX: usize = 128;
const HTTP_MAX: usize = 16;
/// Segments that are neither old nor full: the current one, spares, and what is not flushed.
const LOG_MORE: usize = 32;
/// Two compactions of up to 24 runs and seven levels, and a flush.
const WORK: usize = 64;
/// Connections that this node makes to others: two each.
const PEERS_OUT: usize = 32;
/// Listeners, the runtime's own, directories, standard streams.
const PROCESS: usize = 32;
/// With fewer clients a node is of no use.
const CLIENTS_MIN: usize = 16;

/// Who may have how many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Descriptors {
    /// Clients.
    pub clients: usize,
    /// Connections that others have open on the peer port.
    pub peers_in: usize,
    /// Connections on the HTTP port.
    pub http: usize,
    /// Tables of the stores that are kept open.
    pub store: usize,
}

/// As if there were no limit.
impl Default for Descriptors {
    fn default() -> Self {
        Descriptors {
            clients: usize::MAX,
            peers_in: PEERS_IN_MAX,
            http: HTTP_MAX,
            store: STORE_MAX,
        }
    }
}

/// So few that a node can't run.
#[derive(Debug, thiserror::Error)]
#[error(
    "the process may have {limit} files open (ulimit -n), this node needs {least} at least, {log} of them for limits.log_retention_bytes: raise the limit"
)]
pub struct TooFewDescriptors {
    limit: usize,
    least: usize,
    log: usize,
}

impl Descriptors {
    /// How `limit` is shared.
    pub(crate) fn of(limit: usize, limits: &Limits) -> Result<Self, TooFewDescriptors> {
        let segments = limits.log_retention_bytes / log::Options::default().segment_bytes;
        let log = LOG_MORE.saturating_add(usize::try_from(segments).unwrap_or(usize::MAX));
        let peers_in = (limit / 8).clamp(32, PEERS_IN_MAX);
        let http = (limit / 64).clamp(4, HTTP_MAX);
        let store = (limit / 8).clamp(32, STORE_MAX);
        let fixed =
            WORK + PEERS_OUT + PROCESS + ADMINISTRATION + TURNED_AWAY + peers_in + http + store;
        let others = fixed.saturating_add(log);
        let clients = limit.saturating_sub(others).min(limits.max_clients);
        if clients < CLIENTS_MIN.min(limits.max_clients) {
            let least = others.saturating_add(CLIENTS_MIN);
            return Err(TooFewDescriptors { limit, least, log });
        }
        Ok(Descriptors {
            clients,
            peers_in,
            http,
            store,
        })
    }

    /// Raises the process's limit as far as it may, and shares it.
    pub(crate) fn claim(limits: &Limits) -> Result<Self, TooFewDescriptors> {
        let had = getrlimit(Resource::Nofile);
        let raised = Rlimit {
            current: had.maximum,
            maximum: had.maximum,
        };
        if had.current != had.maximum
            && let Err(error) = setrlimit(Resource::Nofile, raised)
        {
            tracing::warn!(%error, "the limit of open files can't be raised");
        }
        let limit = getrlimit(Resource::Nofile).current;
        let limit = limit.map_or(usize::MAX, |n| usize::try_from(n).unwrap_or(usize::MAX));
        let shared = Self::of(limit, limits)?;
        if shared.clients < limits.max_clients {
            tracing::warn!(
                max_clients = shared.clients,
                configured = limits.max_clients,
                open_files = limit,
                "max_clients is lowered to what the limit of open files (ulimit -n) has room for"
            );
        } else {
            tracing::info!(
                max_clients = shared.clients,
                open_files = limit,
                "the limit of open files has room for all clients"
            );
        }
        Ok(shared)
    }
}

/// An error of accepting, for people.
pub(crate) fn shown(error: &io::Error) -> String {
    if storage::disk::is_no_descriptors(error) {
        format!("{error}: no file descriptors are left; raise the limit of open files (ulimit -n)")
    } else {
        error.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_get_what_others_leave() {
        let limits = Limits::default();
        let share = |limit| Descriptors::of(limit, &limits);
        assert_eq!(share(usize::MAX).unwrap().clients, limits.max_clients);
        assert_eq!(share(20_000).unwrap().clients, limits.max_clients);
        for limit in [300, 512, 1024, 4096, 10_000] {
            let shared = share(limit).unwrap();
            let log = LOG_MORE + 16;
            let others = WORK + PEERS_OUT + PROCESS + ADMINISTRATION + TURNED_AWAY + log;
            let sum = shared.clients + shared.peers_in + shared.http + shared.store + others;
            assert!(sum <= limit, "{shared:?}");
            assert!(shared.clients >= CLIENTS_MIN && shared.clients < limits.max_clients);
        }
        let error = share(200).unwrap_err().to_string();
        assert!(
            error.contains("200 files") && error.contains("ulimit -n"),
            "{error}"
        );
    }

    #[test]
    fn a_long_log_takes_from_the_clients() {
        let kept = |bytes| Limits {
            log_retention_bytes: bytes,
            ..Limits::default()
        };
        let (short, long) = (kept(1 << 30), kept(16 << 30));
        let clients = |limits| Descriptors::of(1024, limits).unwrap().clients;
        assert_eq!(clients(&short) - clients(&long), 15 * 16);
        assert!(Descriptors::of(1024, &kept(1 << 40)).is_err());
    }
}
