//! Whose commands go first, where one turn has not room for those of all clients: whoever was
//! turned away first. So that a client with a long pipeline of long commands lets the others by.

use std::cell::Cell;

/// A turn's number; None: not turned away.
type Since = Option<u64>;

/// What the turns of a node have in common.
#[derive(Debug, Default)]
pub(crate) struct Turns {
    now: Cell<u64>,
    /// Since when the client waits who was turned away first, of those of the turn before.
    first: Cell<Since>,
    /// The same of this turn's.
    next_first: Cell<Since>,
}

/// A client's place in the line.
#[derive(Debug, Default)]
pub(crate) struct Place(Cell<Since>);

impl Turns {
    /// Whether a client may go on; `worn` if this turn has had its work. If not it asks again in
    /// the next.
    pub(crate) fn may_go_on(&self, place: &Place, worn: bool) -> bool {
        let since = place.0.get();
        let is_first = match (self.first.get(), since) {
            (None, _) => true,
            (Some(first), Some(since)) => since <= first,
            (Some(_), None) => false,
        };
        if is_first && !worn {
            place.0.set(None);
            return true;
        }
        let since = since.unwrap_or(self.now.get());
        place.0.set(Some(since));
        let first = self
            .next_first
            .get()
            .map_or(since, |first| first.min(since));
        self.next_first.set(Some(first));
        false
    }

    /// A turn is over.
    pub(crate) fn turned(&self) {
        self.now.set(self.now.get() + 1);
        self.first.set(self.next_first.take());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each turn has room for one client's commands; they ask in the same order every time.
    fn served(clients: usize, turns: usize) -> Vec<usize> {
        let line = Turns::default();
        let places: Vec<Place> = (0..clients).map(|_| Place::default()).collect();
        let mut served = Vec::new();
        for _ in 0..turns {
            let mut worn = false;
            for (n, place) in places.iter().enumerate() {
                if line.may_go_on(place, worn) {
                    served.push(n);
                    worn = true;
                }
            }
            line.turned();
        }
        served
    }

    #[test]
    fn everyone_has_a_turn() {
        assert_eq!(served(1, 3), [0, 0, 0]);
        for clients in 2..6 {
            let served = served(clients, 10 * clients);
            for n in 0..clients {
                let turns = served.iter().filter(|one| **one == n).count();
                assert!(turns >= 8, "{n} of {clients}: {served:?}");
            }
        }
    }

    #[test]
    fn who_is_gone_holds_up_nobody_for_long() {
        let line = Turns::default();
        let (gone, other) = (Place::default(), Place::default());
        assert!(!line.may_go_on(&gone, true));
        line.turned();
        assert!(!line.may_go_on(&other, false));
        line.turned();
        assert!(line.may_go_on(&other, false));
    }
}
