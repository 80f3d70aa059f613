//! A transaction as one command: its commands one by one, each seeing what those before it did,
//! their ops in one mutation, their replies in one array (docs/adr/0012-transactions).
//!
//! What watches keys, and where a transaction comes from, the caller knows.

use crate::{
    error::Refusal,
    evaluate::{Evaluation, evaluate},
    node_command::{NodeCommand, TransactionCommand},
    spec::{Family, Fanout, Flags, Spec},
    table,
    view::{Context, View, ViewError},
    work::{LOOK_UP, Work},
};
use bytes::{Bytes, BytesMut};
use model::{Mutation, entry::WRITE_BYTES_MAX};
use resp::reply::Encoder;

/// `EXEC` of commands that may write, as it travels to the shard.
pub static EXEC: Spec = exec(Flags::WRITE);
/// `EXEC` of commands that only read.
pub static EXEC_READ: Spec = exec(Flags::READONLY);

const fn exec(flags: Flags) -> Spec {
    let mut spec = Spec::new("exec", -1, flags, Family::Transactions);
    spec.fanout = Fanout::OneShard;
    spec
}

/// Whether it carries a transaction.
pub fn is_exec(spec: &Spec) -> bool {
    spec.family == Family::Transactions && spec.name == "exec"
}

/// Whether it is to be evaluated at the primary's tip, and notes what it read there.
pub fn is_watch(spec: &Spec) -> bool {
    spec.family == Family::Transactions && spec.name == "watch"
}

/// Whether a command may be part of a transaction: what a shard evaluates, and a few that need
/// none. `UNWATCH` comes too late to do anything there.
pub fn takes(spec: &Spec) -> bool {
    !is_watch(spec) && (spec.is_evaluated() || Alone::of(spec).is_some())
}

/// A command of a transaction that needs no shard.
#[derive(Clone, Copy)]
enum Alone {
    Ping,
    Echo,
    Time,
    Unwatch,
}

impl Alone {
    fn of(spec: &Spec) -> Option<Alone> {
        Some(match spec.fanout {
            Fanout::Node(NodeCommand::Ping) => Alone::Ping,
            Fanout::Node(NodeCommand::Echo) => Alone::Echo,
            Fanout::Node(NodeCommand::Time) => Alone::Time,
            Fanout::Transaction(TransactionCommand::Unwatch) => Alone::Unwatch,
            _ => return None,
        })
    }

    fn answer(self, args: &[&[u8]], cx: &Context, reply: &mut BytesMut) {
        let mut out = Encoder::new(cx.version, reply);
        match (self, &args[1..]) {
            (Alone::Time, _) => {
                out.array(2);
                out.bulk((cx.now_ms / 1000).to_string());
                out.bulk((cx.now_ms % 1000 * 1000).to_string());
            }
            (Alone::Unwatch, _) => out.ok(),
            (Alone::Ping, []) => out.simple("PONG"),
            (Alone::Ping | Alone::Echo, [text]) => out.bulk(text),
            (Alone::Ping | Alone::Echo, _) => {
                out.error("ERR wrong number of arguments for 'ping' command");
            }
        }
    }
}

/// What earlier commands of a transaction did, over what was there before.
pub trait Staged {
    /// Lets the next command read.
    fn with_view(
        &self,
        read: &mut dyn FnMut(&dyn View) -> Result<(), ViewError>,
    ) -> Result<(), ViewError>;

    /// Takes in more ops of the transaction's mutation.
    fn stage(&mut self, ops: Bytes) -> Result<(), ViewError>;
}

/// Evaluates the commands of a transaction: appends one array to `reply`, and the ops of all
/// to `mutation`, which was empty.
///
/// Errors are the view's, or that the transaction is more than an entry of the log has room for,
/// or more than `work`: then reply and mutation are to be thrown away.
pub fn run(
    commands: &[&[&[u8]]],
    staged: &mut dyn Staged,
    cx: &Context,
    work: &Work,
    mutation: &mut Mutation,
    reply: &mut BytesMut,
) -> Result<(), Refusal> {
    Encoder::new(cx.version, reply).array(commands.len());
    let mut random = cx.random;
    for args in commands {
        let before = mutation.bytes().len();
        let cx = Context { random, ..*cx };
        random = random.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(23);
        match table::find(args) {
            Err(line) => Encoder::new(cx.version, reply).error(line),
            Ok(spec) if !takes(spec) => {
                let refusal = Refusal::NotEvaluated(spec.name);
                Encoder::new(cx.version, reply).error(refusal.to_string());
            }
            Ok(spec) => match Alone::of(spec) {
                Some(alone) => alone.answer(args, &cx, reply),
                None => staged.with_view(&mut |view| {
                    evaluate(spec, args, view, &cx, work, mutation, reply)
                })?,
            },
        }
        // What a command takes that touches nothing.
        let spent = work.spend(LOOK_UP + args.iter().map(|arg| arg.len() as u64).sum::<u64>());
        if spent.is_err() || work.is_exhausted() {
            let work_max = work.max();
            return Err(Refusal::TransactionTooMuchWork { work_max });
        }
        if mutation.ops() == u16::MAX {
            return Err(Refusal::TooManyEffects);
        }
        if mutation.bytes().len() > WRITE_BYTES_MAX {
            return Err(Refusal::TransactionTooManyBytes {
                bytes: mutation.bytes().len(),
                bytes_max: WRITE_BYTES_MAX,
            });
        }
        if mutation.bytes().len() > before {
            staged.stage(Bytes::copy_from_slice(&mutation.bytes()[before..]))?;
        }
    }
    Ok(())
}

/// Looks at every key, so that one whose time is over is gone before it is watched.
pub(crate) fn watch(e: &mut Evaluation<'_>) -> Result<(), Refusal> {
    let args = e.args;
    for key in &args[1..] {
        e.key(key)?;
    }
    e.reply().ok();
    Ok(())
}
