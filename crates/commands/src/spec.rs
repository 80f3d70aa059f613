//! What is known of a command without running it: the columns of the [table](crate::table).

use crate::{
    error::Refusal,
    evaluate::Evaluation,
    node_command::{NodeCommand, TransactionCommand},
};

/// How a command spreads over the shards of a keyspace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fanout {
    /// It does nothing by itself: what it contains does.
    Container,
    /// The node itself answers; no shard is asked.
    Node(NodeCommand),
    /// The node gathers commands for one shard, or no longer does.
    Transaction(TransactionCommand),
    /// Every key must be in one shard, which answers.
    OneShard,
    /// One shard answers if what is named is in it; else the node reads at one and writes at the
    /// other (COPY, MOVE).
    Across,
    /// Split by shard, the integers summed (DEL).
    Sum,
    /// Split by shard, the arrays put together in the order of the keys (MGET).
    Gather,
    /// Split by shard, all must say OK (MSET).
    AllOk,
    /// Every shard is asked, the integers summed (DBSIZE).
    EveryShardSum,
    /// Every shard is asked, all must say OK (FLUSHDB).
    EveryShardOk,
    /// Every shard is asked, the arrays follow each other (KEYS).
    EveryShardArray,
    /// Every shard is asked, one of those that have something is chosen (RANDOMKEY).
    EveryShardAny,
    /// Every shard of every keyspace is asked, all must say OK (FLUSHALL).
    EveryKeyspaceOk,
    /// The cursor's slot names the shard (SCAN).
    Scan,
}

/// What a command is about; named as Redis groups its documentation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// Strings.
    String,
    /// Bits of strings.
    Bitmap,
    /// Hashes.
    Hash,
    /// Keys of any kind.
    Generic,
    /// The connection's own state.
    Connection,
    /// The server.
    Server,
    /// The map of the cluster.
    Cluster,
    /// Several commands at once.
    Transactions,
}

impl Family {
    /// Its name in `COMMAND DOCS`.
    pub const fn name(self) -> &'static str {
        match self {
            Family::String => "string",
            Family::Bitmap => "bitmap",
            Family::Hash => "hash",
            Family::Generic => "generic",
            Family::Connection => "connection",
            Family::Server => "server",
            Family::Cluster => "cluster",
            Family::Transactions => "transactions",
        }
    }
}

/// A set of a command's properties, as `COMMAND INFO` names them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flags(u16);

impl Flags {
    /// None of them.
    pub const NONE: Flags = Flags(0);
    /// May change data.
    pub const WRITE: Flags = Flags(1);
    /// Reads keys.
    pub const READONLY: Flags = Flags(1 << 1);
    /// Refused when memory is short.
    pub const DENYOOM: Flags = Flags(1 << 2);
    /// For operators.
    pub const ADMIN: Flags = Flags(1 << 3);
    /// Not in scripts.
    pub const NOSCRIPT: Flags = Flags(1 << 4);
    /// Answered while data is being loaded.
    pub const LOADING: Flags = Flags(1 << 5);
    /// Answered by a replica that may be stale.
    pub const STALE: Flags = Flags(1 << 6);
    /// Takes constant or logarithmic time.
    pub const FAST: Flags = Flags(1 << 7);
    /// Needs no authentication.
    pub const NO_AUTH: Flags = Flags(1 << 8);
    /// Answered while a script blocks the server.
    pub const ALLOW_BUSY: Flags = Flags(1 << 9);
    /// Not in the slow log.
    pub const SKIP_SLOWLOG: Flags = Flags(1 << 10);
    /// Not answered while a replica loads data beside its old ones.
    pub const NO_ASYNC_LOADING: Flags = Flags(1 << 11);
    /// Not in transactions.
    pub const NO_MULTI: Flags = Flags(1 << 12);

    /// Every flag and its name, in Redis's order.
    const NAMES: [(Flags, &str); 13] = [
        (Flags::WRITE, "write"),
        (Flags::READONLY, "readonly"),
        (Flags::DENYOOM, "denyoom"),
        (Flags::ADMIN, "admin"),
        (Flags::NOSCRIPT, "noscript"),
        (Flags::LOADING, "loading"),
        (Flags::STALE, "stale"),
        (Flags::SKIP_SLOWLOG, "skip_slowlog"),
        (Flags::FAST, "fast"),
        (Flags::NO_AUTH, "no_auth"),
        (Flags::NO_ASYNC_LOADING, "no_async_loading"),
        (Flags::NO_MULTI, "no_multi"),
        (Flags::ALLOW_BUSY, "allow_busy"),
    ];

    /// These and `other`.
    pub const fn and(self, other: Flags) -> Flags {
        Flags(self.0 | other.0)
    }

    /// Whether all of `other` are among them.
    pub const fn has(self, other: Flags) -> bool {
        self.0 & other.0 == other.0
    }

    /// Their names, in Redis's order.
    pub fn names(self) -> impl Iterator<Item = &'static str> + Clone {
        Self::NAMES
            .iter()
            .filter(move |(flag, _)| self.has(*flag))
            .map(|(_, name)| *name)
    }
}

/// A set of access control categories.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Categories(u16);

impl Categories {
    /// None.
    pub const NONE: Categories = Categories(0);
    /// Keys of any kind.
    pub const KEYSPACE: Categories = Categories(1);
    /// Reads keys.
    pub const READ: Categories = Categories(1 << 1);
    /// Writes keys.
    pub const WRITE: Categories = Categories(1 << 2);
    /// Hashes.
    pub const HASH: Categories = Categories(1 << 3);
    /// Strings.
    pub const STRING: Categories = Categories(1 << 4);
    /// For operators.
    pub const ADMIN: Categories = Categories(1 << 5);
    /// Fast.
    pub const FAST: Categories = Categories(1 << 6);
    /// Not fast.
    pub const SLOW: Categories = Categories(1 << 7);
    /// Can do harm.
    pub const DANGEROUS: Categories = Categories(1 << 8);
    /// The connection's own state.
    pub const CONNECTION: Categories = Categories(1 << 9);
    /// Bits of strings.
    pub const BITMAP: Categories = Categories(1 << 10);
    /// Transactions.
    pub const TRANSACTION: Categories = Categories(1 << 11);

    /// Every category and its name, in Redis's order.
    const NAMES: [(Categories, &str); 12] = [
        (Categories::KEYSPACE, "@keyspace"),
        (Categories::READ, "@read"),
        (Categories::WRITE, "@write"),
        (Categories::HASH, "@hash"),
        (Categories::STRING, "@string"),
        (Categories::BITMAP, "@bitmap"),
        (Categories::ADMIN, "@admin"),
        (Categories::FAST, "@fast"),
        (Categories::SLOW, "@slow"),
        (Categories::DANGEROUS, "@dangerous"),
        (Categories::CONNECTION, "@connection"),
        (Categories::TRANSACTION, "@transaction"),
    ];

    /// These and `other`.
    pub const fn and(self, other: Categories) -> Categories {
        Categories(self.0 | other.0)
    }

    /// Whether all of `other` are among them.
    pub const fn has(self, other: Categories) -> bool {
        self.0 & other.0 == other.0
    }

    /// The category of a name without its `@`, in any case.
    pub fn named(name: &[u8]) -> Option<Categories> {
        let named =
            |(_, full): &&(Categories, &str)| full.as_bytes()[1..].eq_ignore_ascii_case(name);
        Self::NAMES
            .iter()
            .find(named)
            .map(|(category, _)| *category)
    }

    /// Their names with the `@`, in Redis's order.
    pub fn names(self) -> impl Iterator<Item = &'static str> + Clone {
        Self::NAMES
            .iter()
            .filter(move |(category, _)| self.has(*category))
            .map(|(_, name)| *name)
    }
}

/// Carries a command out at a shard. Reports a [`Refusal`] before it adds any op of its own.
pub(crate) type Run = for<'a> fn(&mut Evaluation<'a>) -> Result<(), Refusal>;

/// What a command does with a key, in Redis's words.
type Uses = &'static [&'static str];

/// Keys that a command uses in one way.
#[derive(Clone, Copy, Debug)]
pub struct KeySpec {
    /// Where the first stands.
    pub first: i32,
    /// Where the last stands; if negative, counted from the end.
    pub last: i32,
    /// From one to the next.
    pub step: i32,
    /// What is done with them.
    pub uses: &'static [&'static str],
    /// What must be said besides; mostly nothing.
    pub notes: &'static str,
}

impl KeySpec {
    /// Where they stand among `len` arguments, the name included.
    pub fn positions(&self, len: usize) -> impl Iterator<Item = usize> + use<> {
        positions(self.first, self.last, self.step, len)
    }
}

/// Places from `first` to `last` (counted from the end, if negative) among `len`, in steps.
fn positions(first: i32, last: i32, step: i32, len: usize) -> impl Iterator<Item = usize> + use<> {
    let first = first.max(0) as usize;
    let end = if last < 0 {
        (len + 1).saturating_sub(last.unsigned_abs() as usize)
    } else {
        len.min(last as usize + 1)
    };
    let end = if first == 0 { 0 } else { end };
    (first..end).step_by(step.max(1) as usize)
}

/// One command.
#[derive(Clone, Copy, Debug)]
pub struct Spec {
    /// In lower case.
    pub name: &'static str,
    /// How many arguments, the name included; if negative, at least so many.
    pub arity: i32,
    /// Its properties.
    pub flags: Flags,
    /// Where its first key stands; 0 if it has none.
    pub first_key: i32,
    /// Where its last key stands; if negative, counted from the end.
    pub last_key: i32,
    /// From one key to the next.
    pub step: i32,
    /// What it does with its keys.
    pub(crate) key_specs: [Option<KeySpec>; 2],
    /// How it spreads over shards.
    pub fanout: Fanout,
    /// What it is about.
    pub family: Family,
    /// Categories besides those that follow from its flags and family.
    pub(crate) categories_more: Categories,
    /// Hints for clients that spread commands themselves.
    pub tips: &'static [&'static str],
    /// What follows its name, in the words of [`syntax`](crate::syntax); nothing, if nothing does.
    pub(crate) syntax: &'static str,
    /// In one sentence.
    pub summary: &'static str,
    /// The first version of Redis (or of Quire, for its own) that has it.
    pub since: &'static str,
    /// The time it takes.
    pub complexity: &'static str,
    /// What it contains; then it does nothing by itself. Most commands contain nothing.
    pub subcommands: &'static [Spec],
    /// None if no shard evaluates it.
    pub(crate) run: Option<Run>,
    /// Its place in the table; [`u16::MAX`]: it has none there.
    pub(crate) number: u16,
}

impl Spec {
    pub(crate) const fn new(name: &'static str, arity: i32, flags: Flags, family: Family) -> Spec {
        Spec {
            name,
            arity,
            flags,
            first_key: 0,
            last_key: 0,
            step: 0,
            key_specs: [None; 2],
            fanout: Fanout::Container,
            family,
            categories_more: Categories::NONE,
            tips: &[],
            syntax: "",
            summary: "",
            since: "",
            complexity: "",
            subcommands: &[],
            run: None,
            number: u16::MAX,
        }
    }

    /// Its place in [`TABLE`](crate::table::TABLE); None for a subcommand.
    pub fn number(&self) -> Option<usize> {
        (self.number != u16::MAX).then_some(usize::from(self.number))
    }

    /// Its keys stand from 1 to `last` in steps of `step`.
    pub(crate) const fn keys_at(self, last: i32, step: i32, uses: Uses) -> Spec {
        self.keys_from(1, last, step, uses)
    }

    /// Its keys stand from `first` to `last` in steps of `step`.
    pub(crate) const fn keys_from(mut self, first: i32, last: i32, step: i32, uses: Uses) -> Spec {
        (self.first_key, self.last_key, self.step) = (first, last, step);
        self.key_specs[0] = Some(KeySpec {
            first,
            last,
            step,
            uses,
            notes: "",
        });
        self
    }

    /// More keys, which it uses otherwise, stand from `first` to `last`.
    pub(crate) const fn and_keys(mut self, first: i32, last: i32, uses: Uses) -> Spec {
        self.last_key = last;
        self.key_specs[1] = Some(KeySpec {
            first,
            last,
            step: 1,
            uses,
            notes: "",
        });
        self
    }

    pub(crate) const fn key_notes(mut self, notes: &'static str) -> Spec {
        if let Some(keys) = &mut self.key_specs[0] {
            keys.notes = notes;
        }
        self
    }

    pub(crate) const fn subcommands(mut self, subcommands: &'static [Spec]) -> Spec {
        self.subcommands = subcommands;
        self
    }

    pub(crate) const fn runs(mut self, fanout: Fanout, run: Run) -> Spec {
        self.fanout = fanout;
        self.run = Some(run);
        self
    }

    /// The node carries it out.
    pub(crate) const fn at_node(mut self, command: NodeCommand) -> Spec {
        self.fanout = Fanout::Node(command);
        self
    }

    /// It begins or ends a transaction.
    pub(crate) const fn in_transaction(mut self, command: TransactionCommand) -> Spec {
        self.fanout = Fanout::Transaction(command);
        self
    }

    pub(crate) const fn tips(mut self, tips: &'static [&'static str]) -> Spec {
        self.tips = tips;
        self
    }

    pub(crate) const fn takes(mut self, syntax: &'static str) -> Spec {
        self.syntax = syntax;
        self
    }

    pub(crate) const fn also(mut self, categories: Categories) -> Spec {
        self.categories_more = categories;
        self
    }

    pub(crate) const fn doc(
        mut self,
        summary: &'static str,
        since: &'static str,
        complexity: &'static str,
    ) -> Spec {
        (self.summary, self.since, self.complexity) = (summary, since, complexity);
        self
    }

    /// Whether COMMAND flags it as fast.
    pub fn is_fast(&self) -> bool {
        self.flags.has(Flags::FAST)
    }

    /// Whether it may change data, and so must go to a replica that accepts writes.
    pub fn is_write(&self) -> bool {
        self.flags.has(Flags::WRITE)
    }

    /// Whether [`evaluate`](crate::evaluate()) carries it out; else the node does.
    pub fn is_evaluated(&self) -> bool {
        self.run.is_some()
    }

    /// What it contains under this name, in any case.
    pub fn subcommand(&self, name: &[u8]) -> Option<&'static Spec> {
        let is = |spec: &&Spec| {
            spec.name
                .split_once('|')
                .is_some_and(|(_, own)| own.as_bytes().eq_ignore_ascii_case(name))
        };
        self.subcommands.iter().find(is)
    }

    /// Its keys among `args`, which begin with its name.
    pub fn keys<'a>(&self, args: &'a [&'a [u8]]) -> impl Iterator<Item = &'a [u8]> {
        self.key_positions(args.len()).map(|at| args[at])
    }

    /// Where its keys stand among `len` arguments, the name included.
    pub fn key_positions(&self, len: usize) -> impl Iterator<Item = usize> + use<> {
        positions(self.first_key, self.last_key, self.step, len)
    }

    /// Whether `args`, which begin with its name, are as many as it takes.
    pub fn check_arity(&self, args: &[&[u8]]) -> Result<(), Refusal> {
        let wanted = self.arity.unsigned_abs() as usize;
        if args.len() == wanted || (self.arity < 0 && args.len() > wanted) {
            Ok(())
        } else {
            Err(Refusal::Arity(self.name))
        }
    }

    /// Its access control categories.
    pub fn categories(&self) -> Categories {
        let mut all = self.categories_more;
        for (flag, category) in [
            (Flags::WRITE, Categories::WRITE),
            (Flags::READONLY, Categories::READ),
            (Flags::ADMIN, Categories::ADMIN.and(Categories::DANGEROUS)),
        ] {
            if self.flags.has(flag) {
                all = all.and(category);
            }
        }
        all = all.and(if self.flags.has(Flags::FAST) {
            Categories::FAST
        } else {
            Categories::SLOW
        });
        all.and(match self.family {
            Family::String => Categories::STRING,
            Family::Bitmap => Categories::BITMAP,
            Family::Hash => Categories::HASH,
            _ => Categories::NONE,
        })
    }
}
