//! Bytes of a client's connection, its commands carried out at an empty shard and at one that
//! holds keys of every kind: each gives exactly one reply, an error changes nothing, and what
//! a command says that it changed makes sense to a store.
//!
//! Half a second passes with each command. What RESTORE is given is tried as it is, and once
//! more with version and checksum put right.

use bytes::{Bytes, BytesMut};
use commands::{
    Context, Fanout, NodeCommand, Work, command_reply, evaluate, find, rdb, server_reply,
    testing::MemoryView, work::WORK_MAX,
};
use model::{Mutation, Op, Stamp, mutation::Ops};
use resp::{Encoder, FrameDecoder, FrameLimits, Limits, RequestDecoder, Version};
use std::sync::LazyLock;

const NOW_MS: u64 = 1_700_000_000_000;
/// Commands of one input that are carried out.
const COMMANDS_MAX: usize = 16;
/// A shard that has taken in more begins anew: small inputs must not build up what takes
/// long to copy or compare, since nothing is to be learnt from large values.
const WRITTEN_MAX: usize = 64 << 10;

/// See the module.
pub fn check(data: &[u8]) {
    static POPULATED: LazyLock<Shard> = LazyLock::new(populated);
    run(&Shard::new(Version::Resp2), data);
    run(&POPULATED, data);
}

fn run(fresh: &Shard, data: &[u8]) {
    let mut shard = fresh.clone();
    let mut decoder = RequestDecoder::new(Limits::default());
    let mut rest = data;
    for _ in 0..COMMANDS_MAX {
        let Ok(Some(request)) = decoder.decode(rest) else {
            return;
        };
        let args: Vec<&[u8]> = decoder.args(rest).collect();
        shard.run(&args);
        if let Some(args) = mended(&args) {
            let args: Vec<&[u8]> = args.iter().map(Vec::as_slice).collect();
            shard.run(&args);
        }
        if shard.written > WRITTEN_MAX {
            shard = fresh.clone();
        }
        rest = &rest[request.consumed..];
    }
}

/// RESTORE with a payload whose version and checksum are right.
fn mended(args: &[&[u8]]) -> Option<Vec<Vec<u8>>> {
    let payload = args.get(3)?;
    let body = payload.len().checked_sub(10)?;
    if !args[0].eq_ignore_ascii_case(b"restore") {
        return None;
    }
    let mut payload = payload[..body].to_vec();
    payload.extend_from_slice(&10u16.to_le_bytes());
    let checksum = rdb::crc64::of(&payload);
    payload.extend_from_slice(&checksum.to_le_bytes());
    let mut args: Vec<Vec<u8>> = args.iter().map(|arg| arg.to_vec()).collect();
    args[3] = payload;
    Some(args)
}

/// One shard and its clock.
#[derive(Clone)]
struct Shard {
    view: MemoryView,
    cx: Context,
    stamp: Stamp,
    /// Bytes of mutations.
    written: usize,
}

/// Strings of digits, text and bits, one that will expire and one that has; hashes small, and
/// so large that their deletion leaves a tombstone; and such a tombstone.
fn populated() -> Shard {
    let mut shard = Shard::new(Version::Resp3);
    let fields: Vec<String> = (0..70).map(|n| format!(" f{n} {n}")).collect();
    let fields = fields.concat();
    for line in [
        "set n 12",
        "set s hello",
        "set t ohmytext",
        "set float 3.0e3",
        "set soon x px 2000",
        "set gone x px 1",
        "setrange bits 30 \u{7f}",
        "hset h a 1 b two c 3.5",
        "hset soonhash a 1",
        "pexpire soonhash 1200",
        &format!("hset big{fields}"),
        &format!("hset buried{fields}"),
        "del buried",
        "hset {tag}h f v",
        "set {tag}s v",
    ] {
        let args: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
        shard.run(&args);
    }
    shard.written = 0;
    shard
}

impl Shard {
    fn new(version: Version) -> Self {
        Shard {
            view: MemoryView::new(),
            cx: Context {
                now_ms: NOW_MS,
                random: 0,
                keyspace: 0,
                version,
            },
            stamp: Stamp::from_ms(NOW_MS),
            written: 0,
        }
    }

    fn run(&mut self, args: &[&[u8]]) {
        // The node's own work: an error that has its line already, and what needs no shard.
        let Ok(spec) = find(args) else {
            return;
        };
        self.cx.random = self.cx.random.wrapping_mul(31).wrapping_add(7);
        let mut reply = BytesMut::new();
        let mut mutation = Mutation::new();
        assert_eq!(
            spec.keys(args).count(),
            spec.key_positions(args.len()).count()
        );
        if spec.is_evaluated() {
            let (view, cx, work) = (&self.view, &self.cx, Work::new(WORK_MAX));
            evaluate(spec, args, view, cx, &work, &mut mutation, &mut reply).unwrap();
        } else {
            let mut out = Encoder::new(self.cx.version, &mut reply);
            match spec.fanout {
                Fanout::Node(NodeCommand::Table(command)) => {
                    command_reply::answer(command, args, &mut out);
                }
                _ => server_reply::help(spec, &mut out),
            }
        }
        let is_error = reply.first() == Some(&b'-');
        assert_one_reply(reply);
        let ops: Vec<Op> = Ops::new(Bytes::copy_from_slice(mutation.bytes()))
            .collect::<Result<_, _>>()
            .unwrap();
        assert_eq!(ops.len(), usize::from(mutation.ops()));
        if is_error || !spec.is_write() {
            // Nothing but keys whose time is over, which it met.
            assert!(ops.iter().all(|op| matches!(op, Op::Delete { .. })));
        }
        self.cx.now_ms += 500;
        if ops.is_empty() {
            return;
        }
        let before = self.stamp;
        self.stamp = Stamp(before.0 + ops.len() as u64);
        self.view.apply(mutation.bytes(), before).unwrap();
        self.view.check();
        self.written += mutation.bytes().len();
    }
}

fn assert_one_reply(mut reply: BytesMut) {
    let frame = FrameDecoder::new(FrameLimits::default()).decode(&mut reply);
    assert!(matches!(frame, Ok(Some(_))), "{frame:?}");
    assert!(reply.is_empty(), "more than one reply");
}
