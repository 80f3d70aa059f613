//! `quire load`: a file of hashes, one JSON object a line (see [`update`](crate::update)).
//!
//! All requests go through one connection, in the order of the lines, with a bounded number in
//! flight. A line that can't be read, and a request that the node refuses, is reported by the
//! line's number; the others are kept.

use crate::{
    Outcome,
    client::{Client, ClientError, NodeArg, refusal},
    output::sayln,
    update::KeyTemplate,
};
use indicatif::{ProgressBar, ProgressStyle};
use std::{
    collections::VecDeque,
    fs::File,
    io::{BufRead, BufReader, Read},
    path::PathBuf,
    process::ExitCode,
    time::{Duration, Instant},
};

/// Requests in flight at most.
const IN_FLIGHT_MAX: usize = 1_024;
/// Bytes that are gathered before they are sent.
const SEND_BYTES: usize = 64 * 1024;
/// The longest line that is read.
const LINE_BYTES_MAX: u64 = 64 << 20;
/// How long a reply may take: a keyspace may wait for other regions.
const REPLY_TIMEOUT: Duration = Duration::from_secs(30);
/// Complaints that are printed; the rest are counted.
const COMPLAINTS_MAX: u64 = 100;

/// Load a file of hashes, one JSON object a line.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The keyspace, by name or number. Default: the one that a connection starts with.
    #[arg(long, value_name = "NAME")]
    keyspace: Option<String>,
    /// The key of each line's hash, with members of the line in braces.
    #[arg(long, value_name = "TEMPLATE", default_value = "profile:{id}")]
    key: KeyTemplate,
    /// One JSON object a line: {"id": …, "fields": {…}}, {"id": …, "set": {…}, "incr": {…}},
    /// or any object whose scalar members are the fields.
    file: PathBuf,
    #[command(flatten)]
    node: NodeArg,
}

/// What became of the lines.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Summary {
    /// Lines that were not blank.
    pub(crate) lines: u64,
    /// Lines that could not be read.
    pub(crate) bad: u64,
    /// Requests that the node took.
    pub(crate) applied: u64,
    /// Requests that the node refused.
    pub(crate) refused: u64,
}

impl Summary {
    fn complaints(&self) -> u64 {
        self.bad + self.refused
    }
}

pub(crate) async fn run(args: &Args) -> Outcome {
    let path = args.file.display();
    let file = File::open(&args.file).map_err(|e| format!("can't open {path}: {e}"))?;
    let size = file.metadata().map_or(0, |m| m.len());
    let mut client = args.node.connect().await?;
    if let Some(keyspace) = &args.keyspace {
        client.call(&["SELECT", keyspace]).await?;
    }
    // Hidden by indicatif itself where standard error is not a terminal.
    let bar = ProgressBar::new(size);
    if let Ok(style) = ProgressStyle::with_template("{bar:40} {bytes}/{total_bytes} eta {eta}") {
        bar.set_style(style);
    }
    let start = Instant::now();
    let loaded = load(&mut client, &args.key, BufReader::new(file), &bar).await;
    bar.finish_and_clear();
    let summary = loaded?;
    sayln!(
        "{path}: {} lines, {} bad; {} requests applied, {} refused; {:.1} s",
        summary.lines,
        summary.bad,
        summary.applied,
        summary.refused,
        start.elapsed().as_secs_f64()
    );
    Ok(if summary.complaints() == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Why a load stopped before the end.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LoadError {
    #[error("line {line} can't be read: {source}")]
    Read { line: u64, source: std::io::Error },
    #[error(
        "line {line} is longer than {LINE_BYTES_MAX} bytes; one JSON object a line is expected"
    )]
    Long { line: u64 },
    #[error("{source}; the lines up to {acknowledged} are applied")]
    Node {
        acknowledged: u64,
        source: ClientError,
    },
}

/// Loads every line of `lines` through `client`, and reports bad ones on standard error.
pub(crate) async fn load(
    client: &mut Client,
    template: &KeyTemplate,
    mut lines: impl BufRead,
    bar: &ProgressBar,
) -> Result<Summary, LoadError> {
    client.set_reply_timeout(REPLY_TIMEOUT);
    let mut pipeline = Pipeline {
        client,
        in_flight: VecDeque::new(),
        acknowledged: 0,
        summary: Summary::default(),
        bar,
    };
    let mut text = Vec::new();
    for line in 1.. {
        text.clear();
        let read = (&mut lines)
            .take(LINE_BYTES_MAX + 1)
            .read_until(b'\n', &mut text)
            .map_err(|source| LoadError::Read { line, source })?;
        if read == 0 {
            break;
        }
        if read as u64 > LINE_BYTES_MAX {
            return Err(LoadError::Long { line });
        }
        bar.inc(read as u64);
        if text.trim_ascii().is_empty() {
            continue;
        }
        pipeline.summary.lines += 1;
        let requests = std::str::from_utf8(&text)
            .map_err(|e| e.to_string())
            .and_then(|text| template.requests(text).map_err(|e| e.to_string()));
        match requests {
            Ok(requests) => {
                for request in requests {
                    pipeline.push(line, &request).await?;
                }
            }
            Err(why) => {
                pipeline.summary.bad += 1;
                pipeline.complain(line, &why);
            }
        }
    }
    pipeline.drain_to(0).await?;
    let summary = pipeline.summary;
    if summary.complaints() > COMPLAINTS_MAX {
        let more = summary.complaints() - COMPLAINTS_MAX;
        eprintln!("and {more} more lines or requests like these");
    }
    Ok(summary)
}

/// Requests in flight, each with the line that it came from.
struct Pipeline<'a> {
    client: &'a mut Client,
    in_flight: VecDeque<u64>,
    /// The last line whose request was answered.
    acknowledged: u64,
    summary: Summary,
    bar: &'a ProgressBar,
}

impl Pipeline<'_> {
    async fn push(&mut self, line: u64, request: &[String]) -> Result<(), LoadError> {
        self.client.push(request);
        self.in_flight.push_back(line);
        if self.client.unsent() >= SEND_BYTES {
            self.flush().await?;
        }
        if self.in_flight.len() >= IN_FLIGHT_MAX {
            // By half, so that the node has work while we read.
            self.drain_to(IN_FLIGHT_MAX / 2).await?;
        }
        Ok(())
    }

    /// Waits for replies until no more than `left` are missing.
    async fn drain_to(&mut self, left: usize) -> Result<(), LoadError> {
        self.flush().await?;
        while self.in_flight.len() > left {
            let reply = self.client.pull().await;
            let reply = reply.map_err(|source| self.failed(source))?;
            let Some(line) = self.in_flight.pop_front() else {
                break;
            };
            match refusal(&reply) {
                None => self.summary.applied += 1,
                Some(why) => {
                    self.summary.refused += 1;
                    self.complain(line, &why);
                }
            }
            self.acknowledged = line;
        }
        Ok(())
    }

    async fn flush(&mut self) -> Result<(), LoadError> {
        let flushed = self.client.flush().await;
        flushed.map_err(|source| self.failed(source))
    }

    fn failed(&self, source: ClientError) -> LoadError {
        LoadError::Node {
            acknowledged: self.acknowledged,
            source,
        }
    }

    fn complain(&self, line: u64, why: &str) {
        if self.summary.complaints() <= COMPLAINTS_MAX {
            self.bar.suspend(|| eprintln!("line {line}: {why}"));
        }
    }
}
