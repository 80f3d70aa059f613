//! A SELECT of a keyspace that is unknown here, or a COPY or MOVE to one, reads the catalog at a
//! majority of the voters.

use super::ask::ASK_AGAIN;
use crate::{
    message::Message,
    node::{Lane, Node},
    request::borrow,
};
use bytes::Bytes;
use commands::Fanout;
use std::time::Duration;
use storage::store::Stores;

/// How long a command that names an unknown keyspace waits for the newest catalog.
const REFRESH_MAX: Duration = Duration::from_millis(1500);

/// A command that waits for the newest catalog.
#[derive(Debug)]
pub(super) struct Refresh {
    conn: u64,
    args: Vec<Bytes>,
    since: Duration,
    sent_at: Duration,
    tries: u32,
}

impl<S: Stores> Node<S> {
    /// A command goes on once the newest catalog is known here.
    pub(crate) fn refresh_catalog(&mut self, conn: u64, args: Vec<Bytes>) {
        let sequence = self.control.next_sequence();
        let now = self.now.monotonic;
        self.control.refreshes.insert(
            sequence,
            Refresh {
                conn,
                args,
                since: now,
                sent_at: now,
                tries: 0,
            },
        );
        self.refresh_again(sequence);
    }

    fn refresh_again(&mut self, request: u64) {
        let Some(refresh) = self.control.refreshes.get_mut(&request) else {
            return;
        };
        let tries = refresh.tries;
        refresh.tries += 1;
        refresh.sent_at = self.now.monotonic;
        if let Some(group) = &mut self.control.group {
            let _ = group.read_index(request);
        } else if let Some(to) = self.control.whom(tries) {
            self.send(&to, Lane::Ordinary, &Message::ReadCatalog { request });
        }
    }

    /// The catalog is the newest, or (`known` is false) nobody could be asked in time.
    pub(super) fn refreshed(&mut self, request: u64, known: bool) {
        if let Some(refresh) = self.control.refreshes.remove(&request) {
            let args = borrow(&refresh.args);
            match commands::find(&args) {
                Ok(spec) if spec.fanout == Fanout::Across => {
                    self.cross_finally(refresh.conn, &args, known);
                }
                _ => self.select_finally(refresh.conn, &args, known),
            }
        }
    }

    /// What got no answer is asked again, or given up.
    pub(super) fn refresh_tick(&mut self) {
        let now = self.now.monotonic;
        let due: Vec<(u64, bool)> = self
            .control
            .refreshes
            .iter()
            .filter(|(_, r)| now.saturating_sub(r.sent_at) >= ASK_AGAIN)
            .map(|(request, r)| (*request, now.saturating_sub(r.since) >= REFRESH_MAX))
            .collect();
        for (request, over) in due {
            if over {
                self.refreshed(request, false);
            } else {
                self.refresh_again(request);
            }
        }
    }
}
