//! `quire keyspace`: which keyspaces there are, and what each has chosen.

use crate::{
    Outcome,
    client::{ClientError, NodeArg, expect_ok, object_of},
    output::{say, sayln},
    screen::Screen,
    table::{render, table},
};
use clap::Subcommand;
use resp::Frame;
use serde_json::{Map, Value};
use std::{
    io::{self, BufRead, IsTerminal, Write},
    process::ExitCode,
    time::Duration,
};

/// A keyspace is created and dropped by agreement of the control group, which may be across
/// the world and choosing a leader.
const CHANGE_TIMEOUT: Duration = Duration::from_secs(15);

/// The grammar of `control::create`, for people.
const CREATE_HELP: &str = "\
Options (keywords in any case):
  PRESET name                  the options of a system that is known; those
                               that are given take their place
      rds, aurora-like, github, reference, reference-sharded
  PLACE region=replicas[,…]    how many copies of everything each region holds
  PRIMARY region               where writes go; default: PLACE's first region
  SHARDS n                     1 to 1024, default 1
  ACK rule                     when a write is acknowledged; it is durable on
      async                      the primary (default)
      semi-sync:k                the primary and k others of its region
      semi-sync:k@region         the primary and k others of that region
      sync                       every replica
      quorum                     a majority of all replicas
      local-quorum               a majority of those in the primary's region
  ON_TIMEOUT what              when too few replicas answer within TIMEOUT
      block                      the write waits (default)
      error                      the client is told UNKNOWN: the write may have
                                 been taken
      degrade                    goes on as async until they are back
  TIMEOUT ms                   default 10000
  FAILOVER how                 when the primary is gone
      safe                       waits until nothing acknowledged can be lost
                                 (default but for async)
      available                  the most advanced replica takes over; what may
                                 be lost is said and saved (default for async)
  REPLACE_AFTER ms             then another node takes the place of one that is
                               gone; default 300000

Examples:
  quire keyspace create profiles PLACE us=3,eu=2,asia=2
  quire keyspace create orders ACK sync PLACE us=2,eu=1,asia=1
  quire keyspace create carts ACK semi-sync:1@eu ON_TIMEOUT degrade \\
      PLACE us=2,eu=2 SHARDS 8 FAILOVER available";

/// Create, list, show or drop keyspaces.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    action: Action,
    #[command(flatten)]
    node: NodeArg,
}

#[derive(Subcommand)]
enum Action {
    /// Create a keyspace, as in: quire keyspace create profiles PLACE us=3,eu=2
    #[command(after_help = CREATE_HELP)]
    Create {
        /// How it is called: 1 to 64 of a-z, 0-9, '-' and '_', not a number.
        name: String,
        /// What it chooses, in any order: PLACE or PRESET is needed, the rest has defaults.
        #[arg(value_name = "OPTION VALUE", required = true)]
        options: Vec<String>,
    },
    /// List all keyspaces.
    List {
        /// Print a JSON array.
        #[arg(long)]
        json: bool,
    },
    /// Show what one has chosen.
    Show {
        /// A keyspace's name.
        name: String,
    },
    /// Drop a keyspace and all its data.
    Drop {
        /// A keyspace's name.
        name: String,
        /// Don't ask.
        #[arg(long)]
        yes: bool,
    },
}

pub(crate) async fn run(args: &Args) -> Outcome {
    if let Action::Drop { name, yes: false } = &args.action {
        confirm(name)?;
    }
    let mut client = args.node.connect().await?;
    match &args.action {
        Action::Create { name, options } => {
            client.set_reply_timeout(CHANGE_TIMEOUT);
            let mut request = vec!["KEYSPACE", "CREATE", name];
            request.extend(options.iter().map(String::as_str));
            let reply = client.call(&request).await?;
            // "OK keyspace 1: " and how to choose it.
            match reply.as_bytes().and_then(|text| text.strip_prefix(b"OK")) {
                Some(more) => {
                    let line = format!("created {name},{}", String::from_utf8_lossy(more));
                    sayln!("{}", Screen::of_stdout().wrap(&line, 4));
                }
                None => expect_ok(reply)?,
            }
        }
        Action::List { json } => {
            let keyspaces = list_of(&client.call(&["KEYSPACE", "LIST"]).await?)?;
            if *json {
                sayln!("{}", serde_json::to_string(&keyspaces)?);
            } else {
                say!("{}", show_list(&keyspaces));
            }
        }
        Action::Show { name } => {
            let reply = client.call(&["KEYSPACE", "SHOW", name]).await?;
            say!("{}", show_one(&object_of(&reply)?));
        }
        Action::Drop { name, .. } => {
            client.set_reply_timeout(CHANGE_TIMEOUT);
            expect_ok(client.call(&["KEYSPACE", "DROP", name]).await?)?;
            sayln!("dropped {name}");
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Asks the person at the terminal to write the name; an error unless they do.
fn confirm(name: &str) -> Result<(), String> {
    if !io::stdin().is_terminal() {
        return Err(format!(
            "dropping {name} deletes all its data; say --yes to do it without being asked"
        ));
    }
    say!("This deletes all data of {name}. Write its name to go on: ");
    let mut answer = String::new();
    let read = io::stdout()
        .flush()
        .and_then(|()| io::stdin().lock().read_line(&mut answer));
    match read {
        Ok(_) if answer.trim() == name => Ok(()),
        _ => Err("nothing was dropped".into()),
    }
}

fn list_of(reply: &Frame) -> Result<Vec<Map<String, Value>>, ClientError> {
    let values = reply.as_values().ok_or(ClientError::Unexpected {
        expected: "a list",
        found: "something else",
    })?;
    values.iter().map(object_of).collect()
}

fn plain(value: Option<&Value>) -> String {
    match value {
        None | Some(Value::Null) => "-".into(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    }
}

fn show_list(keyspaces: &[Map<String, Value>]) -> String {
    let columns = ["id", "name", "ack", "placement", "primary_region", "shards"];
    let headers = columns.map(|column| match column {
        // Names of keyspaces need the room.
        "primary_region" => "PRIMARY".to_owned(),
        column => column.to_uppercase(),
    });
    let headers: Vec<&str> = headers.iter().map(String::as_str).collect();
    let mut rows = table(&headers, &[0, 5]);
    for keyspace in keyspaces {
        rows.add_row(columns.map(|column| plain(keyspace.get(column))));
    }
    render(&rows)
}

fn show_one(keyspace: &Map<String, Value>) -> String {
    let mut rows = table(&["OPTION", "VALUE"], &[]);
    for (name, value) in keyspace {
        rows.add_row([name.clone(), plain(Some(value))]);
    }
    render(&rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_and_shows() {
        let text = |text: &'static str| Frame::Bulk(text.into());
        let one = Frame::Array(vec![
            text("id"),
            Frame::Integer(0),
            text("name"),
            text("profiles"),
            text("placement"),
            text("us=3,eu=2"),
        ]);
        let keyspaces = list_of(&Frame::Array(vec![one])).unwrap();
        assert_eq!(
            show_list(&keyspaces),
            " ID  NAME      ACK  PLACEMENT  PRIMARY  SHARDS
  0  profiles  -    us=3,eu=2  -             -
"
        );
        assert!(show_one(&keyspaces[0]).contains(" placement  us=3,eu=2\n"));
        assert!(list_of(&Frame::Integer(1)).is_err());
    }

    #[test]
    fn a_list_fits_80_columns() {
        let long = serde_json::json!({
            "id": 1023, "name": "session-profiles", "ack": "semi-sync:2@asia",
            "placement": "us=3,eu=2,asia=2", "primary_region": "asia", "shards": 1024,
        });
        let list = show_list(&[long.as_object().unwrap().clone()]);
        for line in list.lines() {
            assert!(line.chars().count() <= 80, "{line}");
        }
    }
}
