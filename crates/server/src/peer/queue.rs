//! What waits to be sent on one connection. Pure: in go messages with the latency they have to
//! wait for, out come frames when their time has come. The order is kept: a message never
//! overtakes one before it, also when the latency shrinks. Bypass messages stand apart and
//! are always due.

use super::frame;
use bytes::{Bytes, BytesMut};
use model::Parts;
use std::{collections::VecDeque, time::Duration};

/// Frames are collected for one write until it has this many bytes.
const WRITE_LEN: usize = 256 << 10;

/// Messages in the order they leave.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    bypass: VecDeque<Parts>,
    /// With the moment each is due; moments never decrease.
    delayed: VecDeque<(Duration, Parts)>,
    /// Of all that waits.
    bytes: usize,
}

impl Queue {
    /// Adds a message that is due `latency` from `now`.
    pub(crate) fn push(&mut self, message: Parts, latency: Duration, now: Duration) {
        let after = self.delayed.back().map_or(Duration::ZERO, |(due, _)| *due);
        self.bytes += message.len();
        self.delayed
            .push_back((after.max(now.saturating_add(latency)), message));
    }

    /// Adds a message that is due at once, ahead of others.
    pub(crate) fn push_bypass(&mut self, message: Parts) {
        self.bytes += message.len();
        self.bypass.push_back(message);
    }

    /// Moves what is due at `now` to `out`, as frames, up to about 256 KiB, or up to what is large:
    /// that is returned, and belongs behind `out`.
    pub(crate) fn release(&mut self, now: Duration, out: &mut BytesMut) -> VecDeque<Bytes> {
        let mut large = VecDeque::new();
        while out.len() < WRITE_LEN && large.is_empty() {
            let message = match (self.bypass.pop_front(), self.delayed.front()) {
                (Some(message), _) => message,
                (None, Some((due, _))) if *due <= now => match self.delayed.pop_front() {
                    Some((_, message)) => message,
                    None => break,
                },
                (None, _) => break,
            };
            self.bytes -= message.len();
            large = frame::encode_parts(message, out);
        }
        large
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
        self.bytes = self.bypass.iter().map(Parts::len).sum();
    }

    /// Bytes that wait.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::parts::PartsWriter;

    fn text(text: &'static str) -> Parts {
        Bytes::from_static(text.as_bytes()).into()
    }

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn released(queue: &mut Queue, now: u64) -> Vec<Bytes> {
        let mut out = BytesMut::new();
        for large in queue.release(ms(now), &mut out) {
            out.extend_from_slice(&large);
        }
        std::iter::from_fn(|| frame::decode(&mut out, 1 << 20).unwrap()).collect()
    }

    #[test]
    fn a_message_waits_its_latency_and_keeps_its_place() {
        let mut queue = Queue::default();
        queue.push(text("a"), ms(100), ms(0));
        queue.push(text("b"), ms(10), ms(50));
        queue.push_bypass(text("x"));
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
        queue.push(text("a"), ms(100), ms(0));
        queue.push_bypass(text("xyz"));
        queue.cut();
        assert_eq!(queue.bytes(), 3);
        assert_eq!(released(&mut queue, 1000), ["xyz"]);
    }

    #[test]
    fn one_release_is_bounded() {
        let mut queue = Queue::default();
        for _ in 0..10 {
            queue.push(Bytes::from(vec![0; 60 << 10]).into(), ms(0), ms(0));
        }
        assert_eq!(released(&mut queue, 0).len(), 5);
        assert_eq!(queue.due(), Some(ms(0)));
    }

    #[test]
    fn what_is_large_is_not_copied_and_stays_in_its_place() {
        let large = Bytes::from(vec![7; 100 << 10]);
        let mut entry = PartsWriter::with_capacity(8);
        entry.out().extend_from_slice(b"an entry: ");
        entry.put_shared(&large);
        let mut queue = Queue::default();
        for message in [text("a"), large.clone().into(), entry.finish(), text("b")] {
            queue.push(message, ms(0), ms(0));
        }
        let mut wire = BytesMut::new();
        let mut rounds = 0;
        while queue.due().is_some() {
            for part in queue.release(ms(0), &mut wire) {
                assert_eq!(part.as_ptr(), large.as_ptr());
                wire.extend_from_slice(&part);
            }
            rounds += 1;
            // As it would be once it is written.
            let got = std::iter::from_fn(|| frame::decode(&mut wire, 1 << 20).unwrap());
            let lengths: Vec<_> = got.map(|message| message.len()).collect();
            let expected: &[usize] = match rounds {
                1 => &[1, 100 << 10],
                2 => &[(100 << 10) + 10],
                _ => &[1],
            };
            assert_eq!(lengths, expected);
        }
        assert_eq!((rounds, queue.bytes()), (3, 0));
    }
}
