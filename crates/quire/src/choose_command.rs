//! `quire choose`: a few questions, and the command line that makes the keyspace. It speaks to no
//! cluster; what each choice gives and costs stands in docs/choosing.md.
//!
//! ```text
//! placement ─▶ what a write survives ─▶ when copies are missing ─▶ when the primary is gone ─▶ shards
//!                                 └────────── nothing: no further questions ────────────────▲
//! ```

use crate::{
    Outcome,
    output::{say, sayln},
};
use model::{KeyspaceName, Placement};
use std::{
    io::{self, BufRead, Write},
    process::ExitCode,
};

/// Answer a few questions, and get the command line that makes a fitting keyspace.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// How the keyspace is to be called.
    #[arg(default_value = "profiles")]
    name: String,
}

/// How often a question is asked.
const TRIES_MAX: usize = 3;

/// What an acknowledged write survives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Survives {
    Nothing,
    Server,
    Region,
}

/// All answers.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Answers {
    place: Placement,
    survives: Survives,
    /// A word of `ON_TIMEOUT`.
    missing: &'static str,
    /// A word of `FAILOVER`.
    gone: &'static str,
    shards: u16,
}

/// What fits.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Choice {
    options: String,
    why: String,
}

fn choose(answers: &Answers) -> Result<Choice, String> {
    let regions = answers.place.regions();
    let Some((home, at_home)) = regions.first() else {
        return Err("there is no region".into());
    };
    let total = answers.place.total();
    let is_spread = regions.iter().all(|(_, n)| 2 * u32::from(*n) <= total);
    let (ack, why) = match answers.survives {
        Survives::Nothing => (
            "async".to_owned(),
            format!(
                "a write waits for the disk of the primary in {home} alone. What a failover loses is counted, said and saved"
            ),
        ),
        Survives::Server if *at_home > 1 => (
            "semi-sync:1".into(),
            format!(
                "a write waits for one more copy in {home}: a way there and back within the region"
            ),
        ),
        Survives::Server if total > 1 => (
            "quorum".into(),
            format!(
                "{home} has one copy, so a write waits for others far away; with two or three there it would not"
            ),
        ),
        Survives::Server => {
            return Err("one copy survives nothing: give the region two or three".into());
        }
        Survives::Region if regions.len() > 2 && is_spread => (
            "quorum".into(),
            "a write waits for a majority of all copies, which no region holds alone".into(),
        ),
        Survives::Region => {
            let Some((other, _)) = regions.get(1) else {
                return Err(format!(
                    "copies in {home} alone don't survive the loss of {home}: name another region too"
                ));
            };
            let why = format!("a write waits for a copy in {other}, there and back");
            (format!("semi-sync:1@{other}"), why)
        }
    };
    let mut options = format!("ACK {ack} PLACE {}", answers.place);
    if answers.survives != Survives::Nothing {
        options.push_str(&format!(
            " ON_TIMEOUT {} FAILOVER {}",
            answers.missing, answers.gone
        ));
    }
    if answers.shards > 1 {
        options.push_str(&format!(" SHARDS {}", answers.shards));
    }
    Ok(Choice { options, why })
}

/// Asks until the answer can be read; an empty one is the default.
fn ask<T>(
    input: &mut dyn BufRead,
    question: &str,
    default: &str,
    read: impl Fn(&str) -> Result<T, String>,
) -> Result<T, String> {
    for _ in 0..TRIES_MAX {
        say!("{question} [{default}] ");
        io::stdout().flush().map_err(|e| e.to_string())?;
        let mut line = String::new();
        let count = input.read_line(&mut line).map_err(|e| e.to_string())?;
        if count == 0 {
            return Err("the answers ended before the questions did".into());
        }
        let answer = match line.trim() {
            "" => default,
            answer => answer,
        };
        match read(answer) {
            Ok(answer) => return Ok(answer),
            Err(why) => sayln!("  {why}"),
        }
    }
    Err("nothing was chosen".into())
}

/// One of numbered answers.
fn one_of<T: Copy>(choices: &[T]) -> impl Fn(&str) -> Result<T, String> {
    |answer| {
        let number: Option<usize> = answer.parse().ok();
        let chosen = number.and_then(|n| choices.get(n.checked_sub(1)?));
        let last = choices.len();
        chosen
            .copied()
            .ok_or(format!("use a number from 1 to {last}"))
    }
}

fn questions(input: &mut dyn BufRead) -> Result<Answers, String> {
    let place = ask(
        input,
        "How many copies in which region? First where most is written from.\n",
        "us=3,eu=2,asia=2",
        |answer| answer.parse::<Placement>().map_err(|e| e.to_string()),
    )?;
    let survives = ask(
        input,
        "What must a write survive once it is acknowledged?\n  1 nothing: the quickest; a failover may lose the last moments\n  2 the loss of any server\n  3 the loss of any region\n",
        "1",
        one_of(&[Survives::Nothing, Survives::Server, Survives::Region]),
    )?;
    let (mut missing, mut gone) = ("block", "safe");
    if survives != Survives::Nothing {
        missing = ask(
            input,
            "When too few copies answer, a write\n  1 waits for them\n  2 fails after 10 s, and the client is told that it may have been taken\n  3 goes on as if it had to survive nothing, until they are back\n",
            "1",
            one_of(&["block", "error", "degrade"]),
        )?;
        gone = ask(
            input,
            "When the primary is gone, and it can't be ruled out that something would be lost,\n  1 the shard waits for it, or for copies enough to be sure\n  2 the best copy takes over; what may be lost is said and saved\n",
            "1",
            one_of(&["safe", "available"]),
        )?;
    }
    let shards = ask(
        input,
        "Into how many shards? Each server with a copy applies all writes of its shards: as\nmany as servers that shall share the writes (quire plan computes it).\n",
        "1",
        |answer| match answer.parse() {
            Ok(n) if (1..=1024).contains(&n) => Ok(n),
            _ => Err("use a number from 1 to 1024".to_owned()),
        },
    )?;
    Ok(Answers {
        place,
        survives,
        missing,
        gone,
        shards,
    })
}

pub(crate) fn run(args: &Args) -> Outcome {
    let name = KeyspaceName::new(&args.name).map_err(|e| e.to_string())?;
    let answers = questions(&mut io::stdin().lock())?;
    let choice = choose(&answers)?;
    sayln!("\n{}.\n", choice.why);
    sayln!("quire keyspace create {name} {}", choice.options);
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(lines: &str) -> Result<String, String> {
        let answers = questions(&mut lines.as_bytes())?;
        choose(&answers).map(|choice| choice.options)
    }

    #[test]
    fn answers_end_in_options() {
        for (lines, golden) in [
            ("\n\n\n", "ACK async PLACE us=3,eu=2,asia=2"),
            (
                "eu=3\n2\n3\n2\n8\n",
                "ACK semi-sync:1 PLACE eu=3 ON_TIMEOUT degrade FAILOVER available SHARDS 8",
            ),
            (
                "us=2,eu=2,asia=1\n3\n\n\n\n",
                "ACK quorum PLACE us=2,eu=2,asia=1 ON_TIMEOUT block FAILOVER safe",
            ),
            (
                "us=3,eu=1\n3\n2\n1\n1\n",
                "ACK semi-sync:1@eu PLACE us=3,eu=1 ON_TIMEOUT error FAILOVER safe",
            ),
            // Asked again where an answer is none.
            (
                "mars\nus=1,eu=1\n9\n2\n\n\n\n",
                "ACK quorum PLACE us=1,eu=1 ON_TIMEOUT block FAILOVER safe",
            ),
        ] {
            assert_eq!(chosen(lines).unwrap(), golden, "{lines:?}");
        }
    }

    #[test]
    fn what_can_t_be_had_is_said() {
        assert!(
            chosen("us=3\n3\n\n\n\n")
                .unwrap_err()
                .contains("name another region")
        );
        assert!(
            chosen("us=1\n2\n\n\n\n")
                .unwrap_err()
                .contains("two or three")
        );
        assert!(chosen("us=1\n").unwrap_err().contains("ended"));
        assert_eq!(chosen("x\nx\nx\n").unwrap_err(), "nothing was chosen");
    }
}
