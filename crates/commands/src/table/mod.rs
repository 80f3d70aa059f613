//! Every command as data, and the lookup by name.
//!
//! Names, arities, flags, key positions, categories and tips are Redis 7.0.15's, except
//! `KEYSPACE` and `QUIRE`, which are ours. A command that is not here doesn't exist; `runs` says
//! what a shard does for it, `at_node` which [`NodeCommand`](crate::NodeCommand) the node carries
//! out. Subcommands are commands too, called `container|subcommand`.

mod bits;
mod cluster;
mod hashes;
mod keys;
mod server;
mod strings;
mod transactions;

pub use crate::spec::{Categories, Family, Fanout, Flags, KeySpec, Spec};
use crate::{
    error::{Refusal, c_line},
    node_command::Named,
};

/// Short names for the tables.
mod flags {
    use crate::spec::Flags;
    pub(super) const NONE: Flags = Flags::NONE;
    pub(super) const WRITE: Flags = Flags::WRITE;
    pub(super) const READONLY: Flags = Flags::READONLY;
    pub(super) const DENYOOM: Flags = Flags::DENYOOM;
    pub(super) const ADMIN: Flags = Flags::ADMIN;
    pub(super) const NOSCRIPT: Flags = Flags::NOSCRIPT;
    pub(super) const LOADING: Flags = Flags::LOADING;
    pub(super) const STALE: Flags = Flags::STALE;
    pub(super) const FAST: Flags = Flags::FAST;
    pub(super) const NO_AUTH: Flags = Flags::NO_AUTH;
    pub(super) const ALLOW_BUSY: Flags = Flags::ALLOW_BUSY;
    pub(super) const SKIP_SLOWLOG: Flags = Flags::SKIP_SLOWLOG;
    pub(super) const NO_ASYNC_LOADING: Flags = Flags::NO_ASYNC_LOADING;
    pub(super) const NO_MULTI: Flags = Flags::NO_MULTI;
}

const FAMILIES: [&[Spec]; 7] = [
    strings::SPECS,
    bits::SPECS,
    hashes::SPECS,
    keys::SPECS,
    server::SPECS,
    transactions::SPECS,
    cluster::SPECS,
];

const COMMANDS: usize = {
    let (mut count, mut family) = (0, 0);
    while family < FAMILIES.len() {
        count += FAMILIES[family].len();
        family += 1;
    }
    count
};

/// Every command, by family. Subcommands stand with their container.
pub static TABLE: &[Spec] = &{
    let mut all = [strings::SPECS[0]; COMMANDS];
    let (mut at, mut family, mut named) = (0, 0, Named::NONE);
    while family < FAMILIES.len() {
        let mut n = 0;
        while n < FAMILIES[family].len() {
            all[at] = FAMILIES[family][n];
            all[at].number = at as u16;
            named = named.note(&all[at]);
            (at, n) = (at + 1, n + 1);
        }
        family += 1;
    }
    assert!(named.are_all(), "a NodeCommand that no command names");
    all
};

/// The longest name, with room for more.
const NAME_BYTES_MAX: usize = 16;
/// Slots of [`INDEX`]: a power of two, about four a command.
const INDEX_SLOTS: usize = 512;
/// What an empty slot holds.
const EMPTY: u8 = u8::MAX;

/// Hash of a name → its place in [`TABLE`], linear probing; made at compile time.
static INDEX: [u8; INDEX_SLOTS] = {
    let mut index = [EMPTY; INDEX_SLOTS];
    let mut at = 0;
    assert!(TABLE.len() < INDEX_SLOTS / 2);
    while at < TABLE.len() {
        let name = TABLE[at].name.as_bytes();
        assert!(name.len() <= NAME_BYTES_MAX);
        let mut slot = hash(name);
        while index[slot] != EMPTY {
            slot = (slot + 1) % INDEX_SLOTS;
        }
        index[slot] = at as u8;
        at += 1;
    }
    index
};

/// The slot where a name's search starts, the same for either case (FNV-1a, folded).
const fn hash(name: &[u8]) -> usize {
    let mut h = 0x811c_9dc5_u32;
    let mut at = 0;
    while at < name.len() {
        h = (h ^ (name[at] | 0x20) as u32).wrapping_mul(0x0100_0193);
        at += 1;
    }
    ((h >> 16) ^ h) as usize % INDEX_SLOTS
}

/// The command of this name, in any case. Allocates nothing.
pub fn lookup(name: &[u8]) -> Option<&'static Spec> {
    if name.len() > NAME_BYTES_MAX {
        return None;
    }
    let mut slot = hash(name);
    while INDEX[slot] != EMPTY {
        let spec = &TABLE[usize::from(INDEX[slot])];
        if spec.name.as_bytes().eq_ignore_ascii_case(name) {
            return Some(spec);
        }
        slot = (slot + 1) % INDEX_SLOTS;
    }
    None
}

/// What `args`, which begin with a command's name, call: a subcommand if it is a container,
/// with its own arity, flags and keys. What is refused here was not looked at any further.
pub fn find(args: &[&[u8]]) -> Result<&'static Spec, String> {
    let found = called(args)?;
    match found.check_arity(args) {
        Ok(()) => Ok(found),
        Err(refusal) => Err(refusal.to_string()),
    }
}

/// The same, however many they are.
pub fn called(args: &[&[u8]]) -> Result<&'static Spec, String> {
    let Some(spec) = args.first().and_then(|name| lookup(name)) else {
        return Err(crate::error::unknown_command(args));
    };
    match (spec.subcommands, args.get(1)) {
        ([], _) | (_, None) => Ok(spec),
        (_, Some(wanted)) => spec.subcommand(wanted).ok_or_else(|| {
            let unknown = Refusal::UnknownSubcommand {
                subcommand: c_line(&wanted[..wanted.len().min(128)]),
                container: spec.name.to_ascii_uppercase(),
            };
            unknown.to_string()
        }),
    }
}

/// The command or subcommand of a full name, such as `get` or `object|encoding`.
pub(crate) fn named(name: &[u8]) -> Option<&'static Spec> {
    match name.iter().position(|b| *b == b'|') {
        None => lookup(name),
        Some(bar) => lookup(&name[..bar])?.subcommand(&name[bar + 1..]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_is_found_in_any_case_and_once() {
        for (at, spec) in TABLE.iter().enumerate() {
            let upper = spec.name.to_ascii_uppercase();
            for name in [spec.name, &upper] {
                assert!(
                    std::ptr::eq(lookup(name.as_bytes()).unwrap(), spec),
                    "{name}"
                );
            }
            assert!(TABLE[..at].iter().all(|other| other.name != spec.name));
        }
        for name in [
            "",
            "ge",
            "gett",
            "foo",
            "get\0",
            "a name longer than any command",
        ] {
            assert!(lookup(name.as_bytes()).is_none(), "{name}");
        }
    }

    #[test]
    fn what_a_shard_evaluates_is_what_has_a_fanout() {
        for spec in TABLE
            .iter()
            .flat_map(|s| [s].into_iter().chain(s.subcommands))
        {
            let at_node = matches!(
                spec.fanout,
                Fanout::Container | Fanout::Node(_) | Fanout::Transaction(_)
            );
            assert_eq!(spec.is_evaluated(), !at_node, "{}", spec.name);
            assert!(spec.is_evaluated() || spec.first_key == 0, "{}", spec.name);
        }
    }

    #[test]
    fn keys_stand_where_the_table_says() {
        let keys = |line: &str| {
            let args: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
            let keys: Vec<&[u8]> = lookup(args[0]).unwrap().keys(&args).collect();
            std::string::String::from_utf8(keys.join(&b' ')).unwrap()
        };
        assert_eq!(keys("get a"), "a");
        assert_eq!(keys("set a b ex 1"), "a");
        assert_eq!(keys("mget a b c"), "a b c");
        assert_eq!(keys("mset a 1 b 2"), "a b");
        assert_eq!(keys("mset a 1 b"), "a b");
        assert_eq!(keys("ping a"), "");
        assert_eq!(keys("scan 0"), "");
        assert_eq!(keys("get"), "");
        assert_eq!(keys("del"), "");
    }

    #[test]
    fn arity_is_checked_in_both_forms() {
        let ok = |line: &str| {
            let args: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
            lookup(args[0]).unwrap().check_arity(&args).is_ok()
        };
        assert!(ok("get a") && !ok("get") && !ok("get a b"));
        assert!(ok("set a b") && ok("set a b nx") && !ok("set a"));
    }
}
