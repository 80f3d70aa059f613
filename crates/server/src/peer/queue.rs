//! What waits to be sent on one connection. Pure: in go messages with the latency they have to
//! wait for, out come frames when their time has come. The order is kept: a message never
//! overtakes one before it, also when the latency shrinks. Bypass messages stand apart and
//! are always due.

use super::frame;
use bytes::{Bytes, BytesMut};
use std::{collections::VecDeque, time::Duration};

/// Frames are collected for one write until it has this many bytes.
const WRITE_LEN: usize = 256 << 10;

/// Messages in the order they leave.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    bypass: VecDeque<Bytes>,
    /// With the moment each is due; moments never decrease.
    delayed: VecDeque<(Duration, Bytes)>,
    /// Of all that waits.
    bytes: usize,
}

impl Queue {
    /// Adds a message that is due `latency` from `now`.
    pub(crate) fn push(&mut self, message: Bytes, latency: Duration, now: Duration) {
        let after = self.delayed.back().map_or(Duration::ZERO, |(due, _)| *due);
        self.bytes += message.len();
        self.delayed
            .push_back((after.max(now.saturating_add(latency)), message));
    }

    /// Adds a message that is due at once, ahead of others.
    pub(crate) fn push_bypass(&mut self, message: Bytes) {
        self.bytes += message.len();
        self.bypass.push_back(message);
    }

    /// Moves what is due at `now` to `out`, as frames, up to about 256 KiB.
    pub(crate) fn release(&mut self, now: Duration, out: &mut BytesMut) {
        while out.len() < WRITE_LEN {
            let message = match (self.bypass.pop_front(), self.delayed.front()) {
                (Some(message), _) => message,
                (None, Some((due, _))) if *due <= now => match self.delayed.pop_front() {
                    Some((_, message)) => message,
                    None => return,
                },
                (None, _) => return,
            };
            self.bytes -= message.len();
            frame::encode(&message, out);
        }
    }

    /// When to call `release` again; a moment that has passed means at once.
    pub(crate) fn due(&self) -> Option<Duration> {
        if self.bypass.is_empty() {
            self.delayed.front().map(|(due, _)| *due)
        } else {
            Some(Duration::ZERO)
        }
    }

    /// Loses what a cut link loses: all but the bypass messages.
    pub(crate) fn cut(&mut self) {
        self.delayed.clear();
        self.bytes = self.bypass.iter().map(Bytes::len).sum();
    }

    /// Bytes that wait.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn released(queue: &mut Queue, now: u64) -> Vec<Bytes> {
        let mut out = BytesMut::new();
        queue.release(ms(now), &mut out);
        std::iter::from_fn(|| frame::decode(&mut out, 1 << 20).unwrap()).collect()
    }

    #[test]
    fn a_message_waits_its_latency_and_keeps_its_place() {
        let mut queue = Queue::default();
        queue.push("a".into(), ms(100), ms(0));
        queue.push("b".into(), ms(10), ms(50));
        queue.push_bypass("x".into());
        assert_eq!(queue.due(), Some(ms(0)));
        assert_eq!(released(&mut queue, 50), ["x"]);
        assert_eq!(queue.due(), Some(ms(100)));
        assert_eq!(released(&mut queue, 99), [""; 0]);
        assert_eq!(released(&mut queue, 100), ["a", "b"]);
        assert_eq!((queue.due(), queue.bytes()), (None, 0));
    }

    #[test]
    fn a_cut_loses_what_is_under_way_but_not_the_bypass() {
        let mut queue = Queue::default();
        queue.push("a".into(), ms(100), ms(0));
        queue.push_bypass("xyz".into());
        queue.cut();
        assert_eq!(queue.bytes(), 3);
        assert_eq!(released(&mut queue, 1000), ["xyz"]);
    }

    #[test]
    fn one_release_is_bounded() {
        let mut queue = Queue::default();
        for _ in 0..10 {
            queue.push(vec![0; 100 << 10].into(), ms(0), ms(0));
        }
        assert_eq!(released(&mut queue, 0).len(), 3);
        assert_eq!(queue.due(), Some(ms(0)));
    }
}
