//! Every way that the answers of two shards can go.

use super::*;
use crate::request::borrow;
use shards::carried::Arrived;

const SOURCE: &[u8] = b"s";
const TARGET: &[u8] = b"t";

fn plan(name: &'static str, replace: bool) -> Plan {
    Plan {
        name,
        moves: name == "move",
        source: Bytes::from_static(SOURCE),
        destination: Bytes::from_static(TARGET),
        replace,
        here: KeyspaceId(0),
        there: KeyspaceId(3),
    }
}

/// One command and what it asks; answers come from whoever tests.
struct Run {
    steps: Steps,
    asks: Vec<Ask>,
}

fn at(epoch: u64, index: u64) -> Position {
    Position::new(epoch, index)
}

fn ok() -> Result<Frame, String> {
    Ok(Frame::Simple("OK".into()))
}

fn nil() -> Result<Frame, String> {
    Ok(Frame::NullArray)
}

fn done() -> Result<Frame, String> {
    Ok(Frame::Array(vec![Frame::Integer(1)]))
}

fn put_again() -> Result<Frame, String> {
    Ok(Frame::Array(vec![Frame::Simple("OK".into())]))
}

fn error(line: &str) -> Result<Frame, String> {
    Err(line.into())
}

fn held(payload: &str) -> Result<Frame, String> {
    let payload = Frame::Bulk(Bytes::from(payload.to_owned()));
    Ok(Frame::Array(vec![payload, Frame::Integer(-1)]))
}

fn gone() -> Result<Frame, String> {
    Ok(Frame::Array(vec![Frame::Null, Frame::Integer(-2)]))
}

impl Run {
    fn begin(plan: Plan) -> Run {
        let (steps, asks) = Steps::begin(plan);
        Run { steps, asks }
    }

    /// The next of its questions is answered.
    fn answer(&mut self, position: Position, answer: Result<Frame, String>) -> Option<Reply> {
        let ask = self.asks.remove(0);
        match self.steps.answered(ask.part, position, answer) {
            Next::Wait => None,
            Next::Ask(asks) => {
                assert!(self.asks.is_empty(), "one thing after the other");
                self.asks = asks;
                None
            }
            Next::Done(reply) => {
                assert!(self.asks.is_empty());
                Some(reply)
            }
        }
    }

    /// What it asks now, in words.
    fn asked(&self) -> String {
        let word = |arg: &Bytes| String::from_utf8_lossy(arg).into_owned();
        let ask = |ask: &Ask| {
            let args: Vec<String> = match &ask.args[..] {
                [name, _, rest @ ..] if name == "EXEC" => {
                    let args = borrow(&ask.args);
                    let condition = match Arrived::read(&args).unwrap().watches.is_empty() {
                        true => "at once",
                        false => "if unchanged",
                    };
                    [condition.to_owned()]
                        .into_iter()
                        .chain(rest.iter().map(word))
                        .collect()
                }
                args => args.iter().map(word).collect(),
            };
            format!("{:?}: {}", ask.at, args.join(" "))
        };
        self.asks.iter().map(ask).collect::<Vec<_>>().join("; ")
    }

    /// A first look finds `v`, and the destination takes it.
    fn put(plan: Plan) -> Run {
        let mut run = Run::begin(plan);
        run.look(at(1, 10), at(1, 10), held("v"));
        assert_eq!(run.asked(), "Destination: RESTORE t 0 v ABSTTL");
        assert_eq!(run.answer(at(4, 20), ok()), None);
        assert_eq!(run.asked(), "Source: if unchanged DEL s");
        run
    }

    /// A look of MOVE is answered.
    fn look(
        &mut self,
        watched: Position,
        read: Position,
        value: Result<Frame, String>,
    ) -> Option<Reply> {
        assert!(self.asked().starts_with("Source: WATCH s; Source: "));
        self.answer(watched, ok());
        let mut reply = self.answer(read, value);
        if self.asked() == "Destination: WATCH t" {
            reply = self.answer(at(4, 9), ok());
        }
        reply
    }
}

fn line(reply: Option<Reply>) -> String {
    match reply {
        Some(Reply::Error(line)) => line,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_key_is_copied_in_two_steps() {
    for (replace, restored) in [(false, ""), (true, " REPLACE")] {
        let mut run = Run::begin(plan("copy", replace));
        assert_eq!(run.asked(), "Source: at once DUMP s PEXPIRETIME s");
        assert_eq!(run.answer(at(1, 10), held("v")), None);
        let put = format!("Destination: RESTORE t 0 v ABSTTL{restored}");
        assert_eq!(run.asked(), put);
        assert_eq!(run.steps.carries(), 1);
        assert_eq!(run.answer(at(4, 20), ok()), Some(Reply::Integer(1)));
    }
}

#[test]
fn a_key_is_moved_in_three_steps() {
    let mut run = Run::put(plan("move", false));
    assert_eq!(run.answer(at(1, 11), done()), Some(Reply::Integer(1)));
}

#[test]
fn what_is_not_there_or_there_already_is_0() {
    let mut run = Run::begin(plan("copy", true));
    assert_eq!(run.answer(at(1, 1), gone()), Some(Reply::Integer(0)));
    let mut run = Run::begin(plan("move", false));
    assert_eq!(
        run.look(at(1, 1), at(1, 1), gone()),
        Some(Reply::Integer(0))
    );
    for name in ["copy", "move"] {
        let mut run = Run::begin(plan(name, false));
        match name {
            "copy" => run.answer(at(1, 1), held("v")),
            _ => run.look(at(1, 1), at(1, 1), held("v")),
        };
        let busy = error("BUSYKEY Target key name already exists.");
        assert_eq!(run.answer(at(4, 1), busy), Some(Reply::Integer(0)));
    }
}

#[test]
fn a_time_to_live_goes_along() {
    let mut run = Run::begin(plan("copy", false));
    let reply = vec![Frame::Bulk("v".into()), Frame::Integer(1_700_000_000_123)];
    run.answer(at(1, 1), Ok(Frame::Array(reply)));
    assert_eq!(run.asked(), "Destination: RESTORE t 1700000000123 v ABSTTL");
}

#[test]
fn what_was_read_before_it_was_watched_is_read_again() {
    // Between the two it may have been changed, and nobody would say so.
    for (watched, read) in [
        (at(1, 11), at(1, 10)),
        (at(2, 10), at(1, 10)),
        (at(1, 10), at(2, 12)),
    ] {
        let mut run = Run::begin(plan("move", false));
        assert_eq!(run.look(watched, read, held("v")), None);
        let again = "Source: WATCH s; Source: at once DUMP s PEXPIRETIME s";
        assert_eq!(run.asked(), again);
        run.look(at(2, 12), at(2, 13), held("w"));
        assert_eq!(run.asked(), "Destination: RESTORE t 0 w ABSTTL");
    }
}

#[test]
fn a_source_that_was_changed_is_read_again_and_put_in_place_of_the_first() {
    let mut run = Run::put(plan("move", false));
    assert_eq!(run.answer(at(1, 12), nil()), None);
    run.look(at(1, 12), at(1, 12), held("w"));
    assert_eq!(
        run.asked(),
        "Destination: if unchanged RESTORE t 0 w ABSTTL REPLACE"
    );
    assert_eq!(run.answer(at(4, 22), put_again()), None);
    assert_eq!(run.asked(), "Source: if unchanged DEL s");
    assert_eq!(run.answer(at(1, 13), done()), Some(Reply::Integer(1)));

    // Where another command has changed the destination meanwhile, neither is touched.
    let mut run = Run::put(plan("move", false));
    run.answer(at(1, 12), nil());
    run.look(at(1, 12), at(1, 12), held("w"));
    let line = line(run.answer(at(4, 22), nil()));
    assert!(
        line.starts_with("UNKNOWN 'move' did not come to its end (another command"),
        "{line}"
    );
    assert!(line.contains("keyspace 0 and in keyspace 3"), "{line}");
}

#[test]
fn a_source_that_was_deleted_meanwhile_is_not_brought_back() {
    let mut run = Run::put(plan("move", false));
    run.answer(at(1, 12), nil());
    assert_eq!(run.look(at(1, 12), at(1, 12), gone()), None);
    assert_eq!(run.asked(), "Destination: if unchanged DEL t");
    assert_eq!(run.answer(at(4, 23), done()), Some(Reply::Integer(0)));
    // But what somebody has made of it at the destination is his.
    let mut run = Run::put(plan("move", false));
    run.answer(at(1, 12), nil());
    run.look(at(1, 12), at(1, 12), gone());
    assert_eq!(run.answer(at(4, 23), nil()), Some(Reply::Integer(1)));
}

#[test]
fn what_a_failover_of_the_source_may_have_lost_is_kept_at_the_destination() {
    let mut run = Run::put(plan("move", false));
    run.answer(at(2, 9), nil());
    let reply = run.look(at(2, 9), at(2, 9), gone());
    assert_eq!(
        reply,
        Some(Reply::Integer(1)),
        "there is the only one that is left"
    );

    let mut run = Run::put(plan("move", false));
    run.answer(Position::ZERO, error("SESSIONLOST a failover threw away"));
    let line = line(run.look(at(2, 9), at(2, 9), gone()));
    assert!(
        line.starts_with("SESSIONLOST a failover threw away; 'move'"),
        "{line}"
    );
}

#[test]
fn a_source_that_may_not_be_deleted_stays_and_the_destination_gives_it_back() {
    for refused in [
        "NOPRIMARY shard 1 has none",
        "MISCONF the disk is full",
        "BUSY more writes",
        "SESSIONLOST a failover threw away",
    ] {
        let mut run = Run::put(plan("move", false));
        assert_eq!(run.answer(Position::ZERO, error(refused)), None);
        run.look(at(2, 9), at(2, 9), held("v"));
        assert_eq!(
            run.asked(),
            "Destination: if unchanged DEL t",
            "it was seen there"
        );
        assert_eq!(line(run.answer(at(4, 23), done())), refused);
        // Changed by others since, or nobody knows.
        for answer in [
            nil(),
            error("UNKNOWN the outcome"),
            error("NOPRIMARY shard 2"),
        ] {
            let mut run = Run::put(plan("move", false));
            run.answer(Position::ZERO, error(refused));
            run.look(at(2, 9), at(2, 9), held("v"));
            let code = match refused.starts_with("SESSIONLOST") && answer.is_ok() {
                true => "SESSIONLOST",
                false => "UNKNOWN",
            };
            assert!(line(run.answer(at(4, 23), answer)).starts_with(code));
        }
    }
    // If it can't be looked at either, both stay.
    let mut run = Run::put(plan("move", false));
    run.answer(Position::ZERO, error("NOPRIMARY shard 1 has none"));
    run.answer(Position::ZERO, error("MASTERDOWN shard 1"));
    let line = line(run.answer(Position::ZERO, error("MASTERDOWN shard 1")));
    assert!(
        line.starts_with("UNKNOWN 'move' did not come to its end (MASTERDOWN"),
        "{line}"
    );
}

#[test]
fn after_a_lost_answer_nothing_more_is_done() {
    let lost = || {
        error(
            "UNKNOWN the outcome of this command is unknown (us-1 is silent): it may have taken effect, read before you repeat it",
        )
    };
    let mut run = Run::put(plan("move", false));
    let told = line(run.answer(Position::ZERO, lost()));
    assert_eq!(
        told,
        "UNKNOWN 'move' did not come to its end (us-1 is silent): the key may be in keyspace 0 and in keyspace 3; look in both, and delete one"
    );
    let mut run = Run::begin(plan("move", false));
    run.look(at(1, 1), at(1, 1), held("v"));
    assert!(line(run.answer(Position::ZERO, lost())).starts_with("UNKNOWN 'move'"));
    let mut run = Run::begin(plan("copy", false));
    run.answer(at(1, 1), held("v"));
    assert!(line(run.answer(Position::ZERO, lost())).starts_with("UNKNOWN the outcome"));
}

#[test]
fn what_is_refused_before_anything_was_done_is_said_as_it_is() {
    for (told, said) in [
        ("NOPRIMARY shard 3", "NOPRIMARY shard 3"),
        ("MASTERDOWN shard 3", "NOPRIMARY shard 3"),
        ("SESSIONLOST a failover", "SESSIONLOST a failover"),
        (
            "ERR 'restore' has 17 bytes",
            "ERR 'move' was not done: 'restore' has 17 bytes",
        ),
    ] {
        let mut run = Run::begin(plan("move", false));
        run.answer(Position::ZERO, error(told));
        run.answer(at(1, 1), held("v"));
        assert_eq!(line(run.answer(at(4, 9), ok())), said);
        let mut run = Run::begin(plan("move", false));
        run.look(at(1, 1), at(1, 1), held("v"));
        assert_eq!(line(run.answer(Position::ZERO, error(told))), said);
    }
    // What DUMP says within its transaction too.
    let mut run = Run::begin(plan("copy", false));
    let refusal = Frame::Error("ERR 'dump' takes more work".into());
    let reply = Frame::Array(vec![refusal, Frame::Integer(-1)]);
    let said = line(run.answer(at(1, 1), Ok(reply)));
    assert_eq!(said, "ERR 'copy' was not done: 'dump' takes more work");
}

#[test]
fn a_key_that_is_never_at_rest_is_given_up() {
    let mut run = Run::put(plan("move", false));
    for n in 1..LOOKS_MAX {
        run.answer(at(1, 12), nil());
        run.look(at(1, 12), at(1, 12), held(&format!("v{n}")));
        assert!(run.asked().starts_with("Destination: if unchanged RESTORE"));
        run.answer(at(4, 30), put_again());
    }
    run.answer(at(1, 12), nil());
    run.look(at(1, 12), at(1, 12), held("last"));
    assert_eq!(run.asked(), "Destination: if unchanged DEL t");
    assert!(line(run.answer(at(4, 31), done())).starts_with("TRYAGAIN "));
    // Nor is what is never read as of where it is watched.
    let mut run = Run::begin(plan("move", false));
    let mut last = None;
    for _ in 0..=LOOKS_MAX {
        last = run.look(at(1, 12), at(1, 11), held("v"));
    }
    assert!(line(last).starts_with("TRYAGAIN "));
}

#[test]
fn answers_that_make_no_sense_end_it() {
    for frame in [
        Frame::Integer(7),
        Frame::Array(Vec::new()),
        Frame::Array(vec![Frame::Integer(1), Frame::Integer(2)]),
    ] {
        let mut run = Run::begin(plan("copy", false));
        assert!(line(run.answer(at(1, 1), Ok(frame))).starts_with("ERR 'copy'"));
    }
    let mut run = Run::put(plan("move", false));
    assert!(matches!(run.steps.answered(99, at(1, 1), ok()), Next::Wait));
    run.answer(at(1, 11), done());
}
