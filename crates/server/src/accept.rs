//! Accepting connections, whatever comes: a failure is waited out and told of now and then, and a
//! flood of connections leaves the others their turns.

use crate::{clock, descriptors};
use std::{net::SocketAddr, time::Duration};
use tokio::{
    net::{TcpListener, TcpStream},
    task::yield_now,
    time::sleep,
};

/// After a failure: it is mostly for want of file descriptors, and passes.
const PAUSE: Duration = Duration::from_millis(100);
/// How often failures and refusals are told of, at most.
const TELL_EVERY: Duration = Duration::from_secs(10);
/// Connections that are accepted before the others have a turn.
const AT_ONCE: u32 = 16;

/// A listener.
pub(crate) struct Acceptor {
    listener: TcpListener,
    /// Who comes there.
    whom: &'static str,
    accepted: u32,
    tell_at: Duration,
}

impl Acceptor {
    pub(crate) fn new(listener: TcpListener, whom: &'static str) -> Self {
        Acceptor {
            listener,
            whom,
            accepted: 0,
            tell_at: Duration::ZERO,
        }
    }

    /// The next connection.
    pub(crate) async fn next(&mut self) -> (TcpStream, SocketAddr) {
        self.accepted += 1;
        if self.accepted.is_multiple_of(AT_ONCE) {
            yield_now().await;
        }
        loop {
            match self.listener.accept().await {
                Ok(accepted) => return accepted,
                Err(error) => {
                    let error = descriptors::shown(&error);
                    self.tell(|whom| tracing::warn!(%error, "can't accept {whom}"));
                    sleep(PAUSE).await;
                }
            }
        }
    }

    /// Says something, unless something was said a moment ago.
    pub(crate) fn tell(&mut self, say: impl FnOnce(&str)) {
        let now = clock::monotonic();
        if now >= self.tell_at {
            self.tell_at = now + TELL_EVERY;
            say(self.whom);
        }
    }
}
