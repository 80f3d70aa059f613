//! Commands against a shard in memory.

mod chance;
mod commands;
mod properties;
mod transcript;
mod work;

use crate::{
    Context, Fanout, NodeCommand, Work, command_reply, evaluate, find, testing::MemoryView,
    view::ViewError, work::WORK_MAX,
};
use bytes::{Bytes, BytesMut};
use model::{
    Mutation, Op, Stamp,
    mutation::{Header, Ops},
};
use resp::Version;

/// A time that commands are evaluated at.
const NOW_MS: u64 = 1_700_000_000_000;

/// One shard and its clock.
#[derive(Clone)]
pub(crate) struct Shard {
    pub(crate) view: MemoryView,
    pub(crate) cx: Context,
    pub(crate) work_max: u64,
    /// What the last command took.
    pub(crate) work_done: u64,
    stamp: Stamp,
}

impl Shard {
    pub(crate) fn new() -> Self {
        Shard {
            view: MemoryView::new(),
            cx: Context {
                now_ms: NOW_MS,
                random: 0,
                keyspace: 0,
                version: Version::Resp2,
            },
            work_max: WORK_MAX,
            work_done: 0,
            stamp: Stamp::from_ms(NOW_MS),
        }
    }

    /// Evaluates and applies; returns the reply and the ops.
    pub(crate) fn run(&mut self, args: &[&[u8]]) -> (BytesMut, Vec<Op>) {
        let mut reply = BytesMut::new();
        let mut mutation = Mutation::new();
        self.cx.random = self.cx.random.wrapping_add(1);
        match find(args) {
            Err(line) => resp::reply::Encoder::new(self.cx.version, &mut reply).error(line),
            Ok(spec) => {
                if let Fanout::Node(NodeCommand::Table(command)) = spec.fanout {
                    let mut out = resp::reply::Encoder::new(self.cx.version, &mut reply);
                    command_reply::answer(command, args, &mut out);
                    return (reply, Vec::new());
                }
                let (view, cx, work) = (&self.view, &self.cx, Work::new(self.work_max));
                evaluate(spec, args, view, cx, &work, &mut mutation, &mut reply).unwrap();
                self.work_done = work.done();
            }
        }
        let before = self.stamp;
        self.stamp = Stamp(before.0 + u64::from(mutation.ops()));
        self.view.apply(mutation.bytes(), before).unwrap();
        self.view.check();
        let ops = Ops::new(Bytes::copy_from_slice(mutation.bytes()));
        (reply, ops.collect::<Result<_, _>>().unwrap())
    }

    /// The reply to a line of words.
    pub(crate) fn reply(&mut self, line: &str) -> String {
        let args: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
        String::from_utf8(self.run(&args).0.to_vec()).unwrap()
    }

    /// The ops of a line of words.
    pub(crate) fn ops(&mut self, line: &str) -> Vec<Op> {
        let args: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
        self.run(&args).1
    }

    pub(crate) fn header(&self, key: &str) -> Option<Header> {
        use crate::View;
        let header: Result<_, ViewError> = self.view.header(key.as_bytes());
        header.unwrap()
    }
}
