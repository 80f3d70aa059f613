//! `quire import`: keys of a running Redis or Valkey, or of a snapshot of one, into a keyspace.
//!
//! No state is kept between two imports: what is in the keyspace says what is done. Without
//! `--replace` the second run passes over what is there (of a running server, without reading
//! it), and does the rest.

use crate::{
    Outcome,
    client::NodeArg,
    moving::{
        Interrupt, Keyspace, Progress,
        live::{self, Fields, Found, Live},
        now_ms,
        target::{self, Target},
    },
    output::{complain, count, say, sayln},
};
use bytes::Bytes;
use commands::glob;
use serde_json::json;
use std::{fs::File, io::Read, process::ExitCode, time::Duration};
use transfer::{
    Expiring,
    address::Source,
    rdb::{Head, Piece, Reader},
};

/// Databases that are told apart in the report.
const DATABASES_MAX: u64 = 1_000;

/// Bring keys from a running Redis or Valkey, or from an RDB file, into a keyspace.
///
/// Strings and hashes are imported, with the moment at which they expire; lists, sets, sorted
/// sets, streams, values of modules and functions are passed over and counted. Keys that are
/// there already are left alone unless --replace is given: an import that was interrupted is
/// started again as it was. It may run beside other clients of the cluster; it slows itself
/// down when a node has too much to do, and goes on over a failover.
///
/// A running server is read key by key, by SCAN: a key that is written while the import runs is
/// imported as it was before or after that. An RDB file is read once, from its beginning to its
/// end, where its checksum is: if the file is damaged that is said, with the place and with what
/// had been imported by then.
#[derive(clap::Args)]
#[command(after_long_help = "Examples:
  quire import --from redis://10.0.0.5 --node 10.0.0.1:7001 --keyspace profiles
  quire import --from redis://app:secret@10.0.0.5:6379/2 --match 'user:*'
  quire import --from /var/lib/redis/dump.rdb --keyspace profiles --json
  quire import --from dump.rdb --dry-run

The password may also come from the environment, as REDISCLI_AUTH.

Exit status: 0 if every key that was asked for is there, was there already, had
expired, or was passed over by type; 1 if one could not be imported, or the
import ended early; 2 if it was called wrongly. docs/moving.md has the whole
way, step by step.")]
pub(crate) struct Args {
    /// Where from: redis://[user:password@]host[:port][/database], or the path of an RDB file
    /// (versions 1 to 12 of Redis, those of Valkey up to 9).
    #[arg(long, value_name = "SOURCE")]
    from: Source,
    /// The keyspace, by name or number. Default: the one that a connection starts with.
    #[arg(long, value_name = "NAME")]
    keyspace: Option<String>,
    /// Only keys that this pattern describes, as in KEYS: 'user:*'.
    #[arg(long = "match", value_name = "PATTERN")]
    pattern: Option<String>,
    /// Overwrite keys that are there already.
    #[arg(long)]
    replace: bool,
    /// The number of the database to import; keys of others are counted. [default: that of the
    /// URL, or 0]
    #[arg(long, value_name = "N")]
    db: Option<u64>,
    /// Import hashes some of whose fields expire by themselves, without the fields' times: the
    /// fields stay for good. Otherwise such hashes are passed over and counted.
    #[arg(long)]
    drop_field_expiry: bool,
    /// How long to try again when the cluster takes nothing, in seconds, before giving up.
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    wait: u64,
    /// Read everything, and say what would be imported; write nothing.
    #[arg(long)]
    dry_run: bool,
    /// Print the report as JSON (documented in docs/moving.md).
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    node: NodeArg,
}

/// An import that is going on.
struct Import<'a> {
    args: &'a Args,
    database: u64,
    target: Target,
    progress: Progress,
    interrupt: Interrupt,
    /// Bytes of the file that were read.
    read_bytes: u64,
}

const INTERRUPTED: &str = "interrupted; start it again to go on";

pub(crate) async fn run(args: &Args) -> Outcome {
    let patience = Duration::from_secs(args.wait);
    let options = target::Options {
        replace: args.replace,
        is_trial: args.dry_run,
        patience,
    };
    let keyspace = Keyspace::find(&args.node.addr, args.keyspace.as_deref()).await?;
    let target = Target::connect(keyspace, options).await?;
    let expiring = match args.drop_field_expiry {
        true => Expiring::Keep { now_ms: now_ms() },
        false => Expiring::Pass,
    };
    let mut import = Import {
        args,
        database: args.db.unwrap_or(0),
        target,
        progress: Progress::new(None),
        interrupt: Interrupt::listen(),
        read_bytes: 0,
    };
    let (from, ended) = match &args.from {
        Source::File(path) => {
            let name = path.display().to_string();
            let file = File::open(path).map_err(|e| format!("can't open {name}: {e}"))?;
            let length = file
                .metadata()
                .map(|m| m.len())
                .ok()
                .filter(|length| *length > 0);
            import.progress = Progress::new(length);
            (name, import.file(file, expiring).await)
        }
        Source::Server(server) => {
            let mut server = server.clone();
            match (server.database, args.db) {
                (Some(one), Some(other)) if one != other => {
                    return Err("--db and the URL name different databases".into());
                }
                (None, db) => server.database = db,
                _ => {}
            }
            let options = live::Options {
                pattern: args.pattern.clone(),
                expiring,
                patience,
            };
            let live = Live::redis(&server, options).await?;
            (server.to_string(), import.live(live).await)
        }
    };
    // What is on its way counts, however the reading ended.
    let drained = import.target.drain().await;
    Ok(import.end(&from, ended.and(drained)))
}

impl Import<'_> {
    async fn file(&mut self, file: impl Read, expiring: Expiring) -> Result<(), String> {
        let mut reader = Reader::new(file, expiring).map_err(|e| e.to_string())?;
        let ended = self.records(&mut reader).await;
        self.read_bytes = reader.offset();
        self.target.report.functions = reader.functions();
        ended
    }

    async fn records(&mut self, reader: &mut Reader<impl Read>) -> Result<(), String> {
        while let Some(head) = reader.next().map_err(|e| e.to_string())? {
            self.step(reader.offset())?;
            let report = &mut self.target.report;
            let pattern = self.args.pattern.as_ref();
            if head.database != self.database {
                report.skip(match head.database {
                    ..DATABASES_MAX => format!("in database {} (--db)", head.database),
                    _ => "in other databases (--db)".to_owned(),
                });
            } else if pattern.is_some_and(|pattern| !glob::matches(pattern.as_bytes(), &head.key)) {
            } else if head.expires_ms.is_some_and(|at| at <= now_ms()) {
                report.expired += 1;
            } else {
                self.record(reader, head).await?;
            }
        }
        Ok(())
    }

    /// One key of a file.
    async fn record(&mut self, reader: &mut Reader<impl Read>, head: Head) -> Result<(), String> {
        let key = head.key;
        let mut is_begun = false;
        loop {
            let piece = reader.piece().map_err(|e| e.to_string())?;
            let instead = match piece {
                Piece::Whole(value) => {
                    return self.target.put(key, value, head.expires_ms).await;
                }
                Piece::Fields(fields) if is_begun => {
                    self.target.add(&key, fields).await?;
                    continue;
                }
                // All of these fields have expired.
                Piece::Fields(fields) if fields.is_empty() => continue,
                Piece::Fields(fields) => {
                    if !self.target.begin(&key, fields).await? {
                        return Ok(());
                    }
                    is_begun = true;
                    continue;
                }
                Piece::End(fields) if is_begun => {
                    return self.target.end(key, fields, head.expires_ms).await;
                }
                other => other,
            };
            if is_begun {
                self.target.remove(&key).await?;
            }
            let report = &mut self.target.report;
            match instead {
                Piece::Other(name) => report.skip(name),
                Piece::TooLarge => report.fail("larger than 16 MB", &key),
                Piece::Damaged => report.fail("its bytes in the file make no sense", &key),
                _ => report.expired += 1,
            }
            return Ok(());
        }
    }

    async fn live(&mut self, mut live: Live) -> Result<(), String> {
        while let Some(keys) = live.scan().await? {
            let keys = self.target.wanted(keys).await;
            live.ask(keys).await?;
            while let Some((key, found)) = live.next().await? {
                self.step(0)?;
                let report = &mut self.target.report;
                match found {
                    Found::Value(_, Some(at)) if at <= now_ms() => report.expired += 1,
                    Found::Value(value, at) => self.target.put(key, value, at).await?,
                    Found::Gone => report.expired += 1,
                    Found::Other(name) => report.skip(name),
                    Found::Failed(why) => report.fail(&why, &key),
                    Found::Large => self.large(&mut live, key).await?,
                }
            }
        }
        Ok(())
    }

    /// A large hash of a running server.
    async fn large(&mut self, live: &mut Live, key: Bytes) -> Result<(), String> {
        let mut is_begun = false;
        loop {
            self.step(0)?;
            let instead = match live.fields().await? {
                Fields::Some(fields) if fields.is_empty() => continue,
                Fields::Some(fields) if is_begun => {
                    self.target.add(&key, fields).await?;
                    continue;
                }
                Fields::Some(fields) => {
                    if !self.target.begin(&key, fields).await? {
                        return Ok(());
                    }
                    is_begun = true;
                    continue;
                }
                Fields::Begin => {
                    is_begun = false;
                    continue;
                }
                Fields::End(fields, at) if is_begun => {
                    return self.target.end(key, fields, at).await;
                }
                other => other,
            };
            if is_begun {
                self.target.remove(&key).await?;
            }
            let report = &mut self.target.report;
            match instead {
                Fields::Other(name) => report.skip(name),
                Fields::Failed(why) => report.fail(&why, &key),
                _ => report.expired += 1,
            }
            return Ok(());
        }
    }

    /// Before each key.
    fn step(&mut self, read: u64) -> Result<(), String> {
        self.progress.at(&self.target.report, read);
        match self.interrupt.is_set() {
            true => Err(INTERRUPTED.to_owned()),
            false => Ok(()),
        }
    }

    /// Says what became of it.
    fn end(self, from: &str, ended: Result<(), String>) -> ExitCode {
        let seconds = self.progress.end();
        let report = &self.target.report;
        let error = ended.err();
        let what = if self.args.dry_run {
            "would be"
        } else {
            "imported"
        };
        if self.args.json {
            let report = json!({
                "from": from,
                "keyspace": self.args.keyspace,
                "dry_run": self.args.dry_run,
                "complete": error.is_none(),
                "error": error,
                "seconds": seconds,
                "read_bytes": self.read_bytes,
                "keys": report.keys(),
                "imported": report.done_count(),
                "imported_by_type": report.done,
                "imported_bytes": report.bytes,
                "existing": report.existing,
                "expired": report.expired,
                "skipped": report.skipped,
                "functions": report.functions,
                "failed": report.failed_count(),
                "failures": report.failed,
                "retries": report.retries,
                "reconnects": report.reconnects,
            });
            sayln!("{report}");
        } else {
            let rate = report.keys() as f64 / seconds.max(0.001);
            say!("{}", report.text(what));
            sayln!(
                " {} of {from} in {seconds:.1} s, {rate:.0}/s",
                count(report.keys(), "key", "keys")
            );
        }
        if let Some(error) = &error {
            complain(format_args!(
                "the import is not complete: {error} ({} were imported before)",
                count(report.done_count(), "key", "keys")
            ));
        }
        match error.is_none() && report.failed_count() == 0 {
            true => ExitCode::SUCCESS,
            false => ExitCode::FAILURE,
        }
    }
}
