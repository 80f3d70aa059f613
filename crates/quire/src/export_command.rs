//! `quire export`: a keyspace as the commands that make it anew.

use crate::{
    Outcome,
    client::NodeArg,
    moving::{
        Interrupt, Keyspace, Progress,
        live::{self, Fields, Found, Live},
    },
    output::{complain, count},
};
use bytes::{Bytes, BytesMut};
use serde_json::json;
use std::{
    error::Error,
    fs::{self, File},
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};
use transfer::{Expiring, Report, script};

/// Write a keyspace as commands that redis-cli --pipe takes.
///
/// Strings become SET, hashes DEL and HSET (large ones in parts), and PEXPIREAT follows where a
/// key expires. Each key is written as it was at one moment; a key that is written meanwhile is
/// exported as it was before or after that. The commands may be done again, and overwrite what
/// is there.
///
/// The report goes to standard error, so that the commands may go through a pipe.
#[derive(clap::Args)]
#[command(after_long_help = "Examples:
  quire export --node 10.0.0.1:7001 --keyspace profiles -o profiles.resp
  redis-cli -h 10.0.0.5 --pipe < profiles.resp
  quire export --match 'user:*' | redis-cli -h 10.0.0.5 --pipe

With -o the commands are gathered in FILE.part, which becomes FILE when all of
them are there.

Exit status: 0 if all keys were exported; 1 if not; 2 if it was called wrongly.")]
pub(crate) struct Args {
    /// The keyspace, by name or number. Default: the one that a connection starts with.
    #[arg(long, value_name = "NAME")]
    keyspace: Option<String>,
    /// Only keys that this pattern describes, as in KEYS: 'user:*'.
    #[arg(long = "match", value_name = "PATTERN")]
    pattern: Option<String>,
    /// Where to; standard output if it is left out.
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// How long to try again when the cluster gives nothing, in seconds, before giving up.
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    wait: u64,
    /// Print the report as JSON (documented in docs/moving.md).
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    node: NodeArg,
}

/// Bytes that are gathered before they are written.
const WRITE_BYTES: usize = 256 << 10;

/// Where commands go.
struct Output {
    to: Box<dyn Write>,
    buffer: BytesMut,
}

impl Output {
    fn open(part: Option<&Path>) -> Result<Self, String> {
        let to: Box<dyn Write> = match part {
            Some(path) => {
                let file = File::create(path);
                let file = file.map_err(|e| format!("can't write {}: {e}", path.display()))?;
                Box::new(BufWriter::new(file))
            }
            None => Box::new(io::stdout()),
        };
        Ok(Output {
            to,
            buffer: BytesMut::new(),
        })
    }

    fn write(&mut self, enough: usize) -> Result<(), String> {
        if self.buffer.len() > enough {
            let written = self.to.write_all(&self.buffer);
            self.buffer.clear();
            written.map_err(|e| format!("can't write: {e}"))?;
        }
        Ok(())
    }
}

/// An export that is going on.
struct Export {
    output: Output,
    report: Report,
    progress: Progress,
    interrupt: Interrupt,
}

pub(crate) async fn run(args: &Args) -> Outcome {
    let options = live::Options {
        pattern: args.pattern.clone(),
        expiring: Expiring::Pass,
        patience: Duration::from_secs(args.wait),
    };
    let keyspace = Keyspace::find(&args.node.addr, args.keyspace.as_deref()).await?;
    let mut live = Live::quire(keyspace, options).await?;
    let part = args.output.as_ref().map(|path| {
        let mut part = path.clone().into_os_string();
        part.push(".part");
        PathBuf::from(part)
    });
    let mut export = Export {
        output: Output::open(part.as_deref())?,
        report: Report::default(),
        progress: Progress::new(None),
        interrupt: Interrupt::listen(),
    };
    let ended = match export.keys(&mut live).await {
        Ok(()) => export.output.write(0).and_then(|()| {
            let flushed = export.output.to.flush();
            flushed.map_err(|e| format!("can't write: {e}"))
        }),
        Err(error) => Err(error),
    };
    let ended = match (&part, &args.output, ended) {
        (Some(part), Some(path), Ok(())) => {
            complete(part, path).map_err(|e| format!("can't write {}: {e}", path.display()))
        }
        (_, _, ended) => ended,
    };
    Ok(end(args, export, ended))
}

/// The file is all there, and on the disk.
fn complete(part: &Path, path: &Path) -> Result<(), Box<dyn Error>> {
    File::open(part)?.sync_all()?;
    fs::rename(part, path)?;
    Ok(())
}

impl Export {
    async fn keys(&mut self, live: &mut Live) -> Result<(), String> {
        while let Some(keys) = live.scan().await? {
            live.ask(keys).await?;
            while let Some((key, found)) = live.next().await? {
                self.step()?;
                let before = self.output.buffer.len();
                match found {
                    Found::Value(value, at) => {
                        script::value(&key, &value, at, &mut self.output.buffer);
                        let kind = match value {
                            commands::rdb::Value::String(_) => "string",
                            commands::rdb::Value::Hash(_) => "hash",
                        };
                        let bytes = self.output.buffer.len() - before;
                        self.report.done(kind, bytes as u64);
                    }
                    Found::Gone => self.report.expired += 1,
                    Found::Other(name) => self.report.skip(name),
                    Found::Failed(why) => self.report.fail(&why, &key),
                    Found::Large => self.large(live, key).await?,
                }
                self.output.write(WRITE_BYTES)?;
            }
        }
        Ok(())
    }

    /// A hash that is read in parts. If it was changed meanwhile it begins again, and what was
    /// written before is undone by its first command.
    async fn large(&mut self, live: &mut Live, key: Bytes) -> Result<(), String> {
        let mut bytes = 0;
        loop {
            self.step()?;
            match live.fields().await? {
                Fields::Some(fields) => {
                    script::hash_fields(&key, &fields, &mut self.output.buffer);
                }
                Fields::Begin => script::begin_hash(&key, &mut self.output.buffer),
                Fields::End(_, at) => {
                    script::expiry(&key, at, &mut self.output.buffer);
                    bytes += self.output.buffer.len();
                    self.report.done("hash", bytes as u64);
                    return Ok(());
                }
                other => {
                    script::begin_hash(&key, &mut self.output.buffer);
                    match other {
                        Fields::Other(name) => self.report.skip(name),
                        Fields::Failed(why) => self.report.fail(&why, &key),
                        _ => self.report.expired += 1,
                    }
                    return Ok(());
                }
            }
            bytes += self.output.buffer.len();
            self.output.write(0)?;
        }
    }

    fn step(&mut self) -> Result<(), String> {
        self.progress.at(&self.report, 0);
        match self.interrupt.is_set() {
            true => Err("interrupted".to_owned()),
            false => Ok(()),
        }
    }
}

/// Says what became of it.
fn end(args: &Args, export: Export, ended: Result<(), String>) -> ExitCode {
    let seconds = export.progress.end();
    let report = export.report;
    let error = ended.err();
    if args.json {
        let report = json!({
            "keyspace": args.keyspace,
            "complete": error.is_none(),
            "error": error,
            "seconds": seconds,
            "keys": report.keys(),
            "exported": report.done_count(),
            "exported_by_type": report.done,
            "exported_bytes": report.bytes,
            "expired": report.expired,
            "failed": report.failed_count(),
            "failures": report.failed,
        });
        eprintln!("{report}");
    } else {
        eprint!("{}", report.text("exported"));
        let rate = report.keys() as f64 / seconds.max(0.001);
        let keys = count(report.keys(), "key", "keys");
        eprintln!(" {keys} in {seconds:.1} s, {rate:.0}/s");
    }
    if let Some(error) = &error {
        complain(format_args!("the export is not complete: {error}"));
    }
    match error.is_none() && report.failed_count() == 0 {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}
