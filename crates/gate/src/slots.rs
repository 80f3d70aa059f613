//! A connection's replies in the order of its commands.
//!
//! ```text
//! reserve ─▶ [  ][ok][  ][ok]  ─ fill the first ─▶ out: the first and what is ready behind it
//! ```
//! A reply that is ready waits for those before it; one whose place is gone changes nothing.

use bytes::Bytes;
use commands::Spec;
use std::collections::VecDeque;

/// A reply's place.
#[derive(Debug)]
struct Slot {
    reply: Option<Bytes>,
    /// The client does not want it.
    muted: bool,
    /// Of its command, until the reply is ready.
    bytes: usize,
    command: Option<&'static Spec>,
}

/// Replies that are not ready, or ready behind one that is not.
#[derive(Debug, Default)]
pub(crate) struct Slots {
    slots: VecDeque<Slot>,
    /// Bytes of those that are ready.
    ready_bytes: usize,
    /// The number of the first slot.
    first: u64,
    /// Bytes of the commands whose replies are not ready.
    in_flight: usize,
}

impl Slots {
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.slots.len()
    }

    /// Bytes of replies that are ready.
    pub(crate) fn ready_bytes(&self) -> usize {
        self.ready_bytes
    }

    /// Bytes of commands that are not answered.
    pub(crate) fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// A place for the reply to a command of so many bytes.
    pub(crate) fn reserve(
        &mut self,
        bytes: usize,
        muted: bool,
        command: Option<&'static Spec>,
    ) -> u64 {
        self.in_flight += bytes;
        self.slots.push_back(Slot {
            reply: None,
            muted,
            bytes,
            command,
        });
        self.first + self.slots.len() as u64 - 1
    }

    /// The command whose reply has this place, if that is not filled yet.
    pub(crate) fn command_of(&self, slot: u64) -> Option<&'static Spec> {
        let at = slot.checked_sub(self.first)?;
        let place = self.slots.get(usize::try_from(at).ok()?)?;
        place.command.filter(|_| place.reply.is_none())
    }

    /// Fills a place, and puts out what is ready.
    #[inline]
    pub(crate) fn fill(&mut self, slot: u64, reply: Bytes, mut put_out: impl FnMut(Bytes)) {
        let Some(at) = slot.checked_sub(self.first) else {
            return;
        };
        if at == 0 && self.slots.len() == 1 {
            let muted = self.slots.pop_front().is_some_and(|slot| slot.muted);
            self.in_flight = 0;
            self.first += 1;
            if !muted {
                put_out(reply);
            }
            return;
        }
        if let Some(place) = self.slots.get_mut(at as usize)
            && place.reply.is_none()
        {
            let reply = if place.muted { Bytes::new() } else { reply };
            self.ready_bytes += reply.len();
            place.reply = Some(reply);
            self.in_flight -= std::mem::take(&mut place.bytes);
        }
        while let Some(reply) = self.slots.front_mut().and_then(|slot| slot.reply.take()) {
            self.slots.pop_front();
            self.first += 1;
            self.ready_bytes -= reply.len();
            put_out(reply);
        }
    }

    /// Nobody will take them, those that are still to come included.
    pub(crate) fn forget(&mut self) {
        self.first += self.slots.len() as u64;
        self.slots.clear();
        (self.ready_bytes, self.in_flight) = (0, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A reply of a number, which is its own length.
    fn reply(number: usize) -> Bytes {
        vec![number as u8; number % 7].into()
    }

    proptest! {
        /// In whatever order replies come, some twice: out goes what is behind nothing that is
        /// missing, once, in its order, and but for what is not wanted.
        #[test]
        fn what_goes_out_is_all_before_the_first_that_is_missing(
            muted in proptest::collection::vec(any::<bool>(), 1..20),
            comes in proptest::collection::vec(0_usize..25, 0..60),
        ) {
            let mut slots = Slots::default();
            for (number, muted) in muted.iter().enumerate() {
                prop_assert_eq!(slots.reserve(number, *muted, None), number as u64);
            }
            let mut here = vec![false; muted.len()];
            let mut out = Vec::new();
            for number in comes {
                slots.fill(number as u64, reply(number), |reply| out.extend_from_slice(&reply));
                if let Some(here) = here.get_mut(number) {
                    *here = true;
                }
                let first_missing = here.iter().position(|here| !here).unwrap_or(here.len());
                let wanted = |number: &usize| !muted[*number];
                let expected = (0..first_missing).filter(wanted).flat_map(reply);
                prop_assert!(out.iter().copied().eq(expected));
                let behind = (first_missing..here.len()).filter(|n| here[*n]).filter(wanted);
                prop_assert_eq!(slots.ready_bytes(), behind.map(|n| reply(n).len()).sum::<usize>());
                let missing = (0..here.len()).filter(|n| !here[*n]);
                prop_assert_eq!(slots.in_flight(), missing.sum::<usize>());
                prop_assert_eq!(slots.len(), here.len() - first_missing);
            }
        }
    }
}
