//! `COMMAND` and its subcommands, answered from the table.

use crate::{
    glob,
    node_command::TableCommand,
    server_reply,
    spec::Categories,
    syntax::{self, Argument, Kind},
    table::{KeySpec, Spec, TABLE, lookup, named as spec_named},
};
use resp::Encoder;
use std::cell::Cell;

/// Appends the reply to `command`, asked as `args`, which [`find`](crate::find) took.
pub fn answer(command: TableCommand, args: &[&[u8]], out: &mut Encoder<'_>) {
    let rest = args.get(2..).unwrap_or_default();
    match command {
        TableCommand::All => infos(&[], out),
        TableCommand::Count => out.integer(TABLE.len() as i64),
        TableCommand::Info => infos(rest, out),
        TableCommand::Docs => docs(rest, out),
        TableCommand::List => list(rest, out),
        TableCommand::GetKeys => get_keys(rest, false, out),
        TableCommand::GetKeysAndFlags => get_keys(rest, true, out),
        TableCommand::Help => {
            if let Some(container) = args.first().and_then(|name| lookup(name)) {
                server_reply::help(container, out);
            }
        }
    }
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

/// A text as a bulk string.
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
    named(names).flatten().for_each(|spec| doc(spec, out));
}

/// An entry of a map: what a command does and takes, and what it contains.
fn doc(spec: &Spec, out: &mut Encoder<'_>) {
    // What does not follow the rules is not in the table.
    let takes = syntax::parse(spec.syntax).unwrap_or_default();
    word(spec.name, out);
    out.map(4 + usize::from(!takes.is_empty()) + usize::from(!spec.subcommands.is_empty()));
    for (name, text) in [
        ("summary", spec.summary),
        ("since", spec.since),
        ("group", spec.family.name()),
        ("complexity", spec.complexity),
    ] {
        word(name, out);
        word(text, out);
    }
    if !takes.is_empty() {
        word("arguments", out);
        arguments(&takes, out);
    }
    if !spec.subcommands.is_empty() {
        word("subcommands", out);
        out.map(spec.subcommands.len());
        spec.subcommands.iter().for_each(|spec| doc(spec, out));
    }
}

fn arguments(all: &[Argument], out: &mut Encoder<'_>) {
    out.array(all.len());
    for argument in all {
        let flags = [
            (argument.optional, "optional"),
            (argument.multiple, "multiple"),
            (argument.multiple_token, "multiple_token"),
        ];
        let flags = flags.iter().filter(|(is, _)| *is).map(|(_, name)| *name);
        let has_flags = flags.clone().next().is_some();
        // What is there besides name and type.
        let (key, parts) = match &argument.kind {
            Kind::Key(spec) => (Some(*spec), None),
            Kind::Block(parts) | Kind::OneOf(parts) => (None, Some(parts)),
            Kind::Word | Kind::Value(_) => (None, None),
        };
        let more = [
            key.is_some(),
            argument.token.is_some(),
            has_flags,
            parts.is_some(),
        ];
        out.map(2 + more.iter().filter(|is| **is).count());
        word("name", out);
        match argument.kind {
            Kind::Word => word(&argument.name.to_ascii_lowercase(), out),
            _ => word(argument.name, out),
        }
        word("type", out);
        word(argument.kind.name(), out);
        if let Some(spec) = key {
            word("key_spec_index", out);
            out.integer(spec.into());
        }
        if let Some(token) = argument.token {
            word("token", out);
            word(token, out);
        }
        if has_flags {
            word("flags", out);
            statuses(flags, out);
        }
        if let Some(parts) = parts {
            word("arguments", out);
            arguments(parts, out);
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
