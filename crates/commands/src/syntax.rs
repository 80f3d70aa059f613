//! What a command takes: one line in the table, the `arguments` of `COMMAND DOCS`.
//!
//! The line is read when it is asked for. It stands to Redis's terms as follows:
//!
//! | written | is |
//! |---|---|
//! | `field` | an argument of this name, of the type `string` |
//! | `count:int` | of the type `integer`; so `:double`, `:time` (`unix-time`) and `:pattern` |
//! | `source:key`, `newkey:key1` | a key, of the first or the second of the command's key specifications |
//! | `key`, `pattern` | what `key:key` and `pattern:pattern` are |
//! | `KEEPTTL` | this word: a `pure-token`, whose name is the word in lower case |
//! | `EX seconds:int` | an argument behind this word, its `token` |
//! | `{name=a b}` | a `block`: these, in this order |
//! | `{name=A\|B}` | `oneof` these |
//! | `[a]`, `[name=a b]`, `[name=A\|B]` | what may be left out |
//! | `a...` | what may be repeated; `[T a]...` repeats the token too |

/// An argument, or several that belong together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Argument {
    /// As it is shown; in upper case, if it is a word to be sent as it is.
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    /// The word before it.
    pub(crate) token: Option<&'static str>,
    pub(crate) optional: bool,
    pub(crate) multiple: bool,
    /// The word stands before each of several.
    pub(crate) multiple_token: bool,
}

/// What an argument is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The word that is its token, and nothing else.
    Word,
    /// A value of this type, in Redis's words.
    Value(&'static str),
    /// A key, and which of the command's key specifications finds it.
    Key(u8),
    /// All of these.
    Block(Vec<Argument>),
    /// One of these.
    OneOf(Vec<Argument>),
}

impl Kind {
    /// Its name in `COMMAND DOCS`.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Kind::Word => "pure-token",
            Kind::Value(name) => name,
            Kind::Key(_) => "key",
            Kind::Block(_) => "block",
            Kind::OneOf(_) => "oneof",
        }
    }

    fn of_value(word: &'static str) -> (&'static str, Kind) {
        let (name, written) = word.rsplit_once(':').unwrap_or((word, word));
        let kind = match written {
            "int" => Kind::Value("integer"),
            "double" => Kind::Value("double"),
            "time" => Kind::Value("unix-time"),
            "pattern" => Kind::Value("pattern"),
            "key" => Kind::Key(0),
            "key1" => Kind::Key(1),
            // No type: the colon, if there is one, belongs to the name.
            _ => return (word, Kind::Value("string")),
        };
        (name, kind)
    }
}

/// The arguments that a line of the table says; None if it does not follow the rules, which
/// the tests of the table exclude.
pub(crate) fn parse(line: &'static str) -> Option<Vec<Argument>> {
    let mut parser = Parser { rest: line };
    let arguments = parser.sequence()?;
    parser.rest.is_empty().then_some(arguments)
}

struct Parser {
    rest: &'static str,
}

impl Parser {
    fn take(&mut self, text: &str) -> bool {
        let behind = self.rest.strip_prefix(text);
        self.rest = behind.unwrap_or(self.rest);
        behind.is_some()
    }

    /// Arguments up to the end of the line, or of what encloses them.
    fn sequence(&mut self) -> Option<Vec<Argument>> {
        let mut arguments = Vec::new();
        while !self.rest.is_empty() && !self.rest.starts_with([']', '}', '|']) {
            if !arguments.is_empty() && !self.take(" ") {
                return None;
            }
            arguments.push(self.argument()?);
        }
        Some(arguments)
    }

    fn argument(&mut self) -> Option<Argument> {
        let mut argument = if self.take("[") {
            let inner = match self.named() {
                Some(name) => self.group(name)?,
                None => self.argument()?,
            };
            self.take("]").then_some(())?;
            Argument {
                optional: true,
                ..inner
            }
        } else if self.take("{") {
            let name = self.named()?;
            let group = self.group(name)?;
            self.take("}").then_some(group)?
        } else {
            self.word()?
        };
        if self.take("...") {
            argument.multiple = true;
            argument.multiple_token = argument.optional && argument.token.is_some();
        }
        Some(argument)
    }

    /// A word to be sent as it is, with what belongs to it; or the name of a value.
    fn word(&mut self) -> Option<Argument> {
        let end = self.rest.find([' ', '[', ']', '{', '}', '|']);
        let (word, _) = self.rest.split_at(end.unwrap_or(self.rest.len()));
        let word = word.trim_end_matches("...");
        self.rest = &self.rest[word.len()..];
        if !is_token(word) {
            let (name, kind) = Kind::of_value(word);
            return (!name.is_empty()).then(|| Argument::new(name, kind));
        }
        let before = self.rest;
        if self.take(" ") && !self.rest.starts_with('[') {
            let argument = self.argument()?;
            let token = argument.token.is_none().then_some(word);
            return token.map(|token| Argument {
                token: Some(token),
                ..argument
            });
        }
        self.rest = before;
        Some(Argument {
            token: Some(word),
            ..Argument::new(word, Kind::Word)
        })
    }

    /// The name of a group, if one begins here.
    fn named(&mut self) -> Option<&'static str> {
        let (name, behind) = self.rest.split_once('=')?;
        let plain = |b: u8| b.is_ascii_lowercase() || b"_-".contains(&b);
        if name.is_empty() || !name.bytes().all(plain) {
            return None;
        }
        self.rest = behind;
        Some(name)
    }

    fn group(&mut self, name: &'static str) -> Option<Argument> {
        let first = self.sequence()?;
        if !self.rest.starts_with('|') {
            let is_any = !first.is_empty();
            return is_any.then(|| Argument::new(name, Kind::Block(first)));
        }
        let mut alternatives = vec![first];
        while self.take("|") {
            alternatives.push(self.sequence()?);
        }
        let single = |alternative: Vec<Argument>| <[Argument; 1]>::try_from(alternative).ok();
        let alternatives: Option<Vec<[Argument; 1]>> =
            alternatives.into_iter().map(single).collect();
        Some(Argument::new(
            name,
            Kind::OneOf(alternatives?.into_flattened()),
        ))
    }
}

/// Whether a word is sent as it is.
fn is_token(word: &str) -> bool {
    word.bytes().any(|b| b.is_ascii_uppercase()) && !word.bytes().any(|b| b.is_ascii_lowercase())
}

impl Argument {
    fn new(name: &'static str, kind: Kind) -> Argument {
        Argument {
            name,
            kind,
            token: None,
            optional: false,
            multiple: false,
            multiple_token: false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        NodeCommand, Spec,
        node_command::{ClientCommand, KeyspaceCommand, LatencyCommand},
        spec::Fanout,
        table::TABLE,
    };

    impl Argument {
        /// How many words it is at least and, unless there may be any number, at most.
        fn words(&self) -> (usize, Option<usize>) {
            let (least, most) = self.words_once();
            let most = most.filter(|_| !self.multiple);
            (if self.optional { 0 } else { least }, most)
        }

        fn words_once(&self) -> (usize, Option<usize>) {
            let (least, most) = match &self.kind {
                Kind::Word => (0, Some(0)),
                Kind::Value(_) | Kind::Key(_) => (1, Some(1)),
                Kind::Block(all) => words(all),
                Kind::OneOf(all) => {
                    // One that is chosen is there, whatever it may be.
                    let once = || all.iter().map(|one| (one.words_once(), one.multiple));
                    let least = once().map(|((least, _), _)| least).min();
                    let most = once().map(|((_, most), multiple)| most.filter(|_| !multiple));
                    let most = most.collect::<Option<Vec<usize>>>();
                    (least.unwrap(), most.map(|all| *all.iter().max().unwrap()))
                }
            };
            let token = usize::from(self.token.is_some());
            (least + token, most.map(|most| most + token))
        }

        fn keys(&self) -> Vec<u8> {
            match &self.kind {
                Kind::Key(spec) => vec![*spec],
                Kind::Block(all) | Kind::OneOf(all) => {
                    all.iter().flat_map(Argument::keys).collect()
                }
                _ => Vec::new(),
            }
        }
    }

    fn words(all: &[Argument]) -> (usize, Option<usize>) {
        let nothing = (0, Some(0));
        all.iter().map(Argument::words).fold(nothing, |sum, more| {
            let most = sum.1.zip(more.1).map(|(a, b)| a + b);
            (sum.0 + more.0, most)
        })
    }

    fn every_command() -> impl Iterator<Item = &'static Spec> {
        TABLE
            .iter()
            .flat_map(|spec| [spec].into_iter().chain(spec.subcommands))
    }

    /// Those that answer the same whatever follows them, most of them an error: nothing is said of it.
    fn takes_anything(spec: &Spec) -> bool {
        matches!(
            spec.fanout,
            Fanout::Node(
                NodeCommand::Cluster
                    | NodeCommand::SwapDb
                    | NodeCommand::Quit
                    | NodeCommand::Client(ClientCommand::Caching)
                    | NodeCommand::Latency(LatencyCommand::Graph)
            )
        )
    }

    #[test]
    fn every_command_says_what_it_takes_as_its_arity_does() {
        for spec in every_command() {
            let arguments = parse(spec.syntax).unwrap_or_else(|| panic!("{}", spec.name));
            if spec.fanout == Fanout::Container || takes_anything(spec) {
                continue;
            }
            let (least, most) = words(&arguments);
            let names = spec.name.split('|').count();
            let (least, most) = (names + least, most.map(|most| names + most));
            let arity = spec.arity.unsigned_abs() as usize;
            let says = format!("{}: {} says {least} to {most:?}", spec.name, spec.syntax);
            match spec.fanout {
                // What is missing is told by name.
                Fanout::Node(NodeCommand::Keyspace(KeyspaceCommand::Create)) => {
                    assert!(least > arity, "{says}");
                }
                _ => assert_eq!(least, arity, "{says}"),
            }
            let only_off = Fanout::Node(NodeCommand::Client(ClientCommand::Tracking));
            if spec.arity > 0 || spec.fanout == only_off {
                assert_eq!(most, Some(arity), "{says}");
            } else if spec.subcommands.is_empty() {
                assert!(most.is_none_or(|most| most > arity), "{says}");
            }
        }
    }

    #[test]
    fn keys_are_those_of_the_key_specifications() {
        for spec in every_command() {
            let arguments = parse(spec.syntax).unwrap();
            let mut found: Vec<u8> = arguments.iter().flat_map(Argument::keys).collect();
            found.dedup();
            let there = spec.key_specs.iter().flatten().count() as u8;
            assert_eq!(found, (0..there).collect::<Vec<u8>>(), "{}", spec.name);
        }
    }

    #[test]
    fn a_line_is_read_as_it_is_written() {
        let value = |name| Argument::new(name, Kind::Value("string"));
        let word = |word| Argument {
            token: Some(word),
            ..Argument::new(word, Kind::Word)
        };
        let optional = |argument| Argument {
            optional: true,
            ..argument
        };
        let multiple = |argument| Argument {
            multiple: true,
            ..argument
        };
        let behind = |token, argument| Argument {
            token: Some(token),
            ..argument
        };
        let cases = [
            ("", vec![]),
            ("a ip:port", vec![value("a"), value("ip:port")]),
            ("n:int", vec![Argument::new("n", Kind::Value("integer"))]),
            (
                "key k:key1",
                vec![
                    Argument::new("key", Kind::Key(0)),
                    Argument::new("k", Kind::Key(1)),
                ],
            ),
            ("[A] B", vec![optional(word("A")), word("B")]),
            ("A a b", vec![behind("A", value("a")), value("b")]),
            ("A [b]", vec![word("A"), optional(value("b"))]),
            (
                "a... [b]...",
                vec![multiple(value("a")), multiple(optional(value("b")))],
            ),
            (
                "[A a...]",
                vec![optional(behind("A", multiple(value("a"))))],
            ),
            (
                "[A a]...",
                vec![Argument {
                    multiple_token: true,
                    ..multiple(optional(behind("A", value("a"))))
                }],
            ),
            (
                "{x=a b}... [y=A|B b|{z=c}]",
                vec![
                    multiple(Argument::new(
                        "x",
                        Kind::Block(vec![value("a"), value("b")]),
                    )),
                    optional(Argument::new(
                        "y",
                        Kind::OneOf(vec![
                            word("A"),
                            behind("B", value("b")),
                            Argument::new("z", Kind::Block(vec![value("c")])),
                        ]),
                    )),
                ],
            ),
        ];
        for (line, expected) in cases {
            assert_eq!(parse(line), Some(expected), "{line}");
        }
        for line in [
            "a  b",
            " a",
            "a ",
            "[a",
            "a]",
            "[a b]",
            "{a}",
            "{x=}",
            "{x=a|}",
            "{x=a b|c}",
            "a|b",
            "A A a",
            "[]",
            "...",
            "{x=a",
            "a[b]",
        ] {
            assert_eq!(parse(line), None, "{line}");
        }
    }
}
