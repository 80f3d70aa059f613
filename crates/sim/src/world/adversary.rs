//! What TCP does not do, and the protocols claim to survive all the same (docs/messages.md: "a
//! node takes every message for something that may come late, twice, or not at all").
//!
//! Two messages are let be: a forwarded command, which must not be evaluated twice and whose
//! loss is judged by its link, and its answer, which is waited for as long as the link is there.

use super::{ANY_LIFE, Event, World};
use bytes::Bytes;
use node::observed::{FORWARD, FORWARDED, WAN};
use std::time::Duration;

/// How often a message is meddled with: once in so many; 0 for never.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Adversary {
    pub(super) repeats_once_in: u64,
    pub(super) drops_once_in: u64,
    /// The longest that a repeat is late.
    pub(super) late_max: Duration,
}

impl World {
    /// From now on, until both are 0: messages come again, up to so much later, and get lost
    /// within links that go on.
    pub fn meddle(&mut self, repeats_once_in: u64, drops_once_in: u64, late_max: Duration) {
        self.adversary = Adversary {
            repeats_once_in,
            drops_once_in,
            late_max,
        };
    }

    /// Whether a message that arrives is lost; it may be sent again, too.
    pub(super) fn is_meddled_with(&mut self, from: usize, to: usize, message: &Bytes) -> bool {
        let Adversary {
            repeats_once_in,
            drops_once_in,
            late_max,
        } = self.adversary;
        if repeats_once_in == 0 && drops_once_in == 0 || is_let_be(message) {
            return false;
        }
        if repeats_once_in > 0 && self.random.once_in(repeats_once_in) {
            let us = if self.random.once_in(2) {
                self.random.below(20_000)
            } else {
                self.random.below(late_max.as_micros() as u64)
            };
            let life = if self.random.once_in(4) {
                ANY_LIFE
            } else {
                self.machines[to].life
            };
            let message = message.clone();
            let event = Event::Again { from, to, message };
            self.enqueue(Duration::from_micros(us), life, event);
        }
        let dropped = drops_once_in > 0 && self.random.once_in(drops_once_in);
        self.faults.dropped += u64::from(dropped);
        dropped
    }
}

fn is_let_be(message: &[u8]) -> bool {
    let kinds = [FORWARD, FORWARDED, WAN];
    kinds.iter().any(|kind| message.starts_with(kind))
}
