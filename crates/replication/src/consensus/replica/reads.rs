//! Reads that must see all that was committed before they were asked (ReadIndex). All that come
//! before the core is asked again are of one ticket: one round of the group answers them together.

use crate::protocol::Output;
use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

/// Rounds that are under way, at most.
const ROUNDS_MAX: usize = 512;
/// A round that takes longer is given up: whoever waits asks again, or somebody else.
const ROUND_MAX: Duration = Duration::from_secs(1);

#[derive(Debug, Default)]
pub(super) struct Reads {
    last: u64,
    /// The ticket of those that came since the core was asked last.
    open: Option<u64>,
    /// Tickets that the core was asked for, and when.
    asked: BTreeMap<u64, Duration>,
}

impl Reads {
    /// The ticket of a read that comes now; None: there are too many.
    pub(super) fn take_ticket(&mut self) -> Option<u64> {
        if self.open.is_none() && self.asked.len() < ROUNDS_MAX {
            self.last += 1;
            self.open = Some(self.last);
        }
        self.open
    }

    /// The ticket that the core is to be asked for, if any waits.
    pub(super) fn ask(&mut self, now: Duration) -> Option<u64> {
        let ticket = self.open.take()?;
        self.asked.insert(ticket, now);
        Some(ticket)
    }

    /// A round has ended: whoever waits for this ticket, or an earlier one, reads once `index` is
    /// applied.
    pub(super) fn answered(&mut self, ticket: u64, index: u64, outputs: &mut VecDeque<Output>) {
        if self.asked.remove(&ticket).is_some() {
            outputs.push_back(Output::ReadReady { ticket, index });
        }
    }

    /// Nobody answers any more what was asked.
    pub(super) fn lose_all(&mut self, outputs: &mut VecDeque<Output>) {
        let asked = std::mem::take(&mut self.asked).into_keys();
        let lost = asked.chain(self.open.take());
        outputs.extend(lost.map(|ticket| Output::ReadLost { ticket }));
    }

    /// Gives up rounds that take too long.
    pub(super) fn tick(&mut self, now: Duration, outputs: &mut VecDeque<Output>) {
        while let Some((ticket, at)) = self.asked.first_key_value()
            && now.saturating_sub(*at) > ROUND_MAX
        {
            let ticket = *ticket;
            self.asked.remove(&ticket);
            outputs.push_back(Output::ReadLost { ticket });
        }
    }
}
