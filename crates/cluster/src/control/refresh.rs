//! Who names a keyspace that is unknown here reads the catalog at a majority of the voters.

use super::ask::ASK_AGAIN;
use crate::{
    cluster::{Cluster, Output},
    message::Message,
};
use std::time::Duration;

/// How long the newest catalog is waited for.
const REFRESH_MAX: Duration = Duration::from_millis(1500);

/// Somebody who waits for the newest catalog.
#[derive(Debug)]
pub(super) struct Refresh<A> {
    asker: A,
    since: Duration,
    sent_at: Duration,
    tries: u32,
}

impl<A> Cluster<A> {
    /// Reads the newest catalog. `asker` is given back once it is known here.
    pub fn refresh(&mut self, asker: A) {
        let sequence = self.control.next_sequence();
        let now = self.now.monotonic;
        self.control.refreshes.insert(
            sequence,
            Refresh {
                asker,
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
            self.send(&to, Message::ReadCatalog { request });
        }
    }

    /// The catalog is the newest, or (`known` is false) nobody could be asked in time.
    pub(super) fn refreshed(&mut self, request: u64, known: bool) {
        if let Some(refresh) = self.control.refreshes.remove(&request) {
            self.put(Output::Refreshed(refresh.asker, known));
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
