//! `COMMAND` and its subcommands, answered from the table.

use crate::{
    glob,
    spec::Categories,
    table::{KeySpec, Spec, TABLE, lookup, named as spec_named},
};
use bytes::BytesMut;
use resp::{Encoder, Version};
use std::cell::Cell;

/// Appends the reply to `args`, which begin with `COMMAND`.
pub fn answer(args: &[&[u8]], version: Version, reply: &mut BytesMut) {
    let mut out = Encoder::new(version, reply);
    let Some(subcommand) = args.get(1) else {
        out.array(TABLE.len());
        return TABLE.iter().for_each(|spec| info(spec, &mut out));
    };
    let rest = &args[2..];
    let is = |name: &str| subcommand.eq_ignore_ascii_case(name.as_bytes());
    if is("count") {
        match rest {
            [] => out.integer(TABLE.len() as i64),
            _ => arity("count", &mut out),
        }
    } else if is("info") {
        infos(rest, &mut out);
    } else if is("docs") {
        docs(rest, &mut out);
    } else if is("list") {
        list(rest, &mut out);
    } else if is("getkeys") {
        get_keys(rest, false, &mut out);
    } else if is("getkeysandflags") {
        get_keys(rest, true, &mut out);
    } else if is("help") {
        match rest {
            [] => help(&mut out),
            _ => arity("help", &mut out),
        }
    } else {
        let subcommand = crate::error::line(&subcommand[..subcommand.len().min(128)]);
        out.error(format!(
            "ERR unknown subcommand '{subcommand}'. Try COMMAND HELP."
        ));
    }
}

fn arity(subcommand: &str, out: &mut Encoder<'_>) {
    out.error(format!(
        "ERR wrong number of arguments for 'command|{subcommand}' command"
    ));
}

/// The commands of these names; all if none is given.
fn named<'a>(names: &'a [&'a [u8]]) -> Box<dyn Iterator<Item = Option<&'static Spec>> + 'a> {
    if names.is_empty() {
        Box::new(TABLE.iter().map(Some))
    } else {
        Box::new(names.iter().map(|name| spec_named(name)))
    }
}

fn infos(names: &[&[u8]], out: &mut Encoder<'_>) {
    out.array(named(names).count());
    for spec in named(names) {
        match spec {
            Some(spec) => info(spec, out),
            None => out.null(),
        }
    }
}

fn info(spec: &Spec, out: &mut Encoder<'_>) {
    out.array(10);
    out.bulk(spec.name.as_bytes());
    out.integer(spec.arity.into());
    statuses(spec.flags.names(), out);
    out.integer(spec.first_key.into());
    out.integer(spec.last_key.into());
    out.integer(spec.step.into());
    statuses(spec.categories().names(), out);
    out.set(spec.tips.len());
    for tip in spec.tips {
        out.bulk(tip.as_bytes());
    }
    key_specs(spec, out);
    out.array(spec.subcommands.len());
    spec.subcommands.iter().for_each(|spec| info(spec, out));
}

fn statuses(names: impl Iterator<Item = &'static str> + Clone, out: &mut Encoder<'_>) {
    out.set(names.clone().count());
    names.for_each(|name| out.simple(name));
}

/// The key of an entry of a map.
fn word(word: &str, out: &mut Encoder<'_>) {
    out.bulk(word.as_bytes());
}

/// Where the keys stand, in the words of Redis 7's key specifications.
fn key_specs(spec: &Spec, out: &mut Encoder<'_>) {
    out.set(spec.key_specs.iter().flatten().count());
    for keys in spec.key_specs.iter().flatten() {
        key_spec(keys, out);
    }
}

fn key_spec(keys: &KeySpec, out: &mut Encoder<'_>) {
    if keys.notes.is_empty() {
        out.map(3);
    } else {
        out.map(4);
        word("notes", out);
        out.bulk(keys.notes.as_bytes());
    }
    word("flags", out);
    statuses(keys.uses.iter().copied(), out);
    word("begin_search", out);
    search("index", &[("index", keys.first)], out);
    word("find_keys", out);
    // Counted from the first key, if not from the end.
    let last = if keys.last < 0 {
        keys.last
    } else {
        keys.last - keys.first
    };
    let range = [("lastkey", last), ("keystep", keys.step), ("limit", 0)];
    search("range", &range, out);
}

fn search(kind: &str, numbers: &[(&str, i32)], out: &mut Encoder<'_>) {
    out.map(2);
    word("type", out);
    out.bulk(kind.as_bytes());
    word("spec", out);
    out.map(numbers.len());
    for (name, number) in numbers {
        word(name, out);
        out.integer((*number).into());
    }
}

fn docs(names: &[&[u8]], out: &mut Encoder<'_>) {
    out.map(named(names).flatten().count());
    for spec in named(names).flatten() {
        out.bulk(spec.name.as_bytes());
        out.map(4);
        for (name, text) in [
            ("summary", spec.summary),
            ("since", spec.since),
            ("group", spec.family.name()),
            ("complexity", spec.complexity),
        ] {
            word(name, out);
            out.bulk(text.as_bytes());
        }
    }
}

/// Subcommands stand behind their container.
fn list(rest: &[&[u8]], out: &mut Encoder<'_>) {
    // 0: they were not enough.
    let steps = Cell::new(glob::STEPS_MAX);
    let is = |word: &[u8], name: &str| word.eq_ignore_ascii_case(name.as_bytes());
    let wanted: Box<dyn Fn(&Spec) -> bool + '_> = match rest {
        [] => Box::new(|_| true),
        // No command comes from a module.
        [by, kind, _] if is(by, "filterby") && is(kind, "module") => Box::new(|_| false),
        [by, kind, name] if is(by, "filterby") && is(kind, "aclcat") => {
            let category = Categories::named(name);
            Box::new(move |spec| category.is_some_and(|c| spec.categories().has(c)))
        }
        [by, kind, pattern] if is(by, "filterby") && is(kind, "pattern") => Box::new(|spec| {
            let mut left = steps.get();
            let found = glob::matches_within(pattern, spec.name.as_bytes(), &mut left);
            steps.set(if found.is_some() { left } else { 0 });
            found == Some(true)
        }),
        _ => return out.error("ERR syntax error"),
    };
    let all = TABLE
        .iter()
        .flat_map(|spec| [spec].into_iter().chain(spec.subcommands));
    let found: Vec<&Spec> = all.filter(|spec| wanted(spec)).collect();
    if steps.get() == 0 {
        return out.error(glob::TOO_MANY_STEPS);
    }
    out.array(found.len());
    found.iter().for_each(|spec| out.bulk(spec.name.as_bytes()));
}

/// The keys of a full command, and what it does with each if `with_flags`.
fn get_keys(args: &[&[u8]], with_flags: bool, out: &mut Encoder<'_>) {
    if args.len() < 2 {
        let name = if with_flags {
            "getkeysandflags"
        } else {
            "getkeys"
        };
        return arity(name, out);
    }
    let container = lookup(args[0]).filter(|spec| !spec.subcommands.is_empty());
    let spec = match (lookup(args[0]), container, args.get(1)) {
        (_, Some(container), Some(name)) => container.subcommand(name),
        (spec, ..) => spec,
    };
    let Some(spec) = spec else {
        return out.error("ERR Invalid command specified");
    };
    if spec.first_key == 0 {
        return out.error("ERR The command has no key arguments");
    }
    if spec.check_arity(args).is_err() {
        return out.error("ERR Invalid number of arguments specified for command");
    }
    if !with_flags {
        out.array(spec.keys(args).count());
        return spec.keys(args).for_each(|key| out.bulk(key));
    }
    let of_key = |keys: &'static KeySpec| {
        let positions = keys.positions(args.len());
        let uses = uses_here(spec, keys, args);
        positions.map(move |at| (args[at], uses))
    };
    let used: Vec<_> = spec.key_specs.iter().flatten().flat_map(of_key).collect();
    out.array(used.len());
    for (key, uses) in used {
        out.array(2);
        out.bulk(key);
        statuses(uses.iter().copied(), out);
    }
}

/// What a command does with its keys as it is called here.
fn uses_here(spec: &Spec, keys: &KeySpec, args: &[&[u8]]) -> &'static [&'static str] {
    let changes: &[&str] = &["RW", "access", "update"];
    let is = |word: &[u8], name: &str| word.eq_ignore_ascii_case(name.as_bytes());
    match spec.name {
        "set" if args[3..].iter().any(|word| is(word, "get")) => changes,
        "set" => &["OW", "update"],
        "bitfield" => {
            let mut rest = args.get(2..).unwrap_or_default();
            loop {
                rest = match rest {
                    [] => return &["RO", "access"],
                    [word, _, _, more @ ..] if is(word, "get") => more,
                    [word, _, more @ ..] if is(word, "overflow") => more,
                    // What is no subcommand too, as in Redis.
                    _ => return changes,
                };
            }
        }
        _ => keys.uses,
    }
}

fn help(out: &mut Encoder<'_>) {
    const LINES: [&str; 17] = [
        "COMMAND <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
        "(no subcommand)",
        "    Return details about all commands.",
        "COUNT",
        "    Return the total number of commands.",
        "LIST [FILTERBY (MODULE <name>|ACLCAT <category>|PATTERN <pattern>)]",
        "    Return a list of the names of commands.",
        "INFO [<command-name> ...]",
        "    Return details about multiple commands; about all if none is named.",
        "DOCS [<command-name> ...]",
        "    Return documentation of multiple commands; of all if none is named.",
        "GETKEYS <full-command>",
        "    Return the keys from a full command.",
        "GETKEYSANDFLAGS <full-command>",
        "    Return the keys and the access flags from a full command.",
        "HELP",
        "    Print this help.",
    ];
    out.array(LINES.len());
    LINES.iter().for_each(|line| out.simple(line));
}
