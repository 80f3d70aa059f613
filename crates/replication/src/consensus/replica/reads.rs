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
const ROUND_MAX: Duration = Duration::from_millis(600);

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
        let later = self.asked.split_off(&(ticket + 1));
        let answered = std::mem::replace(&mut self.asked, later).into_keys();
        outputs.extend(answered.map(|ticket| Output::ReadReady { ticket, index }));
    }

    /// Nobody answers any more what was asked.
    pub(super) fn lose_all(&mut self, outputs: &mut VecDeque<Output>) {
        let asked = std::mem::take(&mut self.asked).into_keys();
        let lost = asked.chain(self.open.take());
        outputs.extend(lost.map(|ticket| Output::ReadLost { ticket }));
    }

    /// Gives up what takes too long, and all that was asked later: no read is answered before one
    /// that was asked before it.
    pub(super) fn tick(&mut self, now: Duration, outputs: &mut VecDeque<Output>) {
        let first = self.asked.first_key_value();
        if first.is_some_and(|(_, at)| now.saturating_sub(*at) > ROUND_MAX) {
            self.lose_all(outputs);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(outputs: &mut VecDeque<Output>) -> Vec<(u64, Option<u64>)> {
        let told = |output| match output {
            Output::ReadReady { ticket, index } => (ticket, Some(index)),
            Output::ReadLost { ticket } => (ticket, None),
            other => panic!("{other:?}"),
        };
        outputs.drain(..).map(told).collect()
    }

    #[test]
    fn reads_are_answered_in_the_order_in_which_they_were_asked() {
        let ms = Duration::from_millis;
        let (mut reads, mut outputs) = (Reads::default(), VecDeque::new());
        let ask = |reads: &mut Reads, at| {
            let ticket = reads.take_ticket();
            assert_eq!(reads.take_ticket(), ticket, "one round for all that wait");
            assert_eq!(reads.ask(ms(at)), ticket);
            ticket.unwrap()
        };
        let tickets: Vec<u64> = (0..4).map(|n| ask(&mut reads, n * 400)).collect();
        // What came of the first round got lost: the second tells as much.
        reads.answered(tickets[1], 7, &mut outputs);
        assert_eq!(
            told(&mut outputs),
            [(tickets[0], Some(7)), (tickets[1], Some(7))]
        );
        reads.answered(tickets[0], 5, &mut outputs);
        assert_eq!(told(&mut outputs), []);
        // One is given up, and so is what was asked behind it.
        reads.tick(ms(1401), &mut outputs);
        assert_eq!(told(&mut outputs), [(tickets[2], None), (tickets[3], None)]);
        let open = reads.take_ticket().unwrap();
        reads.lose_all(&mut outputs);
        assert_eq!(told(&mut outputs), [(open, None)]);
        assert_eq!(reads.ask(ms(2000)), None);
    }
}
