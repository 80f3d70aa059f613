//! What SIGHUP does: the configuration is read again, the log filter that it names and the limits
//! that can change ([`Limits::reloaded`]) are in force at once, and whatever else has changed in it is
//! named, since that waits for the next start. A configuration that can't be used changes nothing.

use crate::{Config, ConfigError, Limits};
use std::path::{Path, PathBuf};
use toml::Value;

/// The log lines of the process, as whoever writes them lets them be filtered.
pub trait Logs {
    /// Puts the filter of the configuration in force, or the default if it names none. Returns
    /// what is in force; an error says what is wrong with it, and then nothing has changed.
    fn filter(&self, configured: Option<&str>) -> Result<String, String>;
}

/// Reads the file that the node was started with, again.
pub(crate) struct Reload<'a> {
    pub(crate) file: PathBuf,
    /// As the node was started.
    pub(crate) started: Config,
    pub(crate) logs: &'a dyn Logs,
}

impl Reload<'_> {
    /// What limits hold from now on; None: as before.
    pub(crate) fn run(&self) -> Option<Limits> {
        let file = self.file.display();
        match self.reload() {
            Ok((filter, limits, waiting)) if waiting.is_empty() => {
                tracing::info!(%file, log_filter = filter, "SIGHUP: the configuration is read again");
                Some(limits)
            }
            Ok((filter, limits, waiting)) => {
                let waiting = waiting.join(", ");
                tracing::warn!(%file, log_filter = filter, waiting, "SIGHUP: the configuration is read again; what is waiting has changed in it and takes effect at the next start");
                Some(limits)
            }
            Err(error) => {
                tracing::error!(%error, "SIGHUP: the configuration can't be used, and the node goes on as it was");
                None
            }
        }
    }

    fn reload(&self) -> Result<(String, Limits, Vec<String>), ConfigError> {
        let config = Config::load(&self.file)?;
        let filter = set_filter(&self.file, &config, self.logs)?;
        let limits = self.started.limits.reloaded(&config.limits);
        Ok((filter, limits, changed(&self.started, &config)))
    }
}

/// Puts the log filter of `config` in force; returns what is.
pub(crate) fn set_filter(
    file: &Path,
    config: &Config,
    logs: &dyn Logs,
) -> Result<String, ConfigError> {
    let set = logs.filter(config.log_filter.as_deref());
    set.map_err(|what| ConfigError::Field {
        file: file.to_owned(),
        field: "log_filter",
        what,
    })
}

/// The fields that differ, but for those that were taken over; in their order.
fn changed(before: &Config, after: &Config) -> Vec<String> {
    let value = |config: &Config| {
        let config = Config {
            log_filter: None,
            limits: config.limits.reloaded(&Limits::default()),
            ..config.clone()
        };
        // What was read from TOML can be written as TOML.
        Value::try_from(config).unwrap_or(Value::Boolean(false))
    };
    let mut fields = Vec::new();
    compare("", &value(before), &value(after), &mut fields);
    fields
}

fn compare(field: &str, before: &Value, after: &Value, fields: &mut Vec<String>) {
    let (Value::Table(before), Value::Table(after)) = (before, after) else {
        if before != after {
            fields.push(field.to_owned());
        }
        return;
    };
    let gone = Value::Boolean(false);
    let new = after.keys().filter(|name| !before.contains_key(*name));
    for name in before.keys().chain(new) {
        let path = match field {
            "" => name.clone(),
            field => format!("{field}.{name}"),
        };
        match (before.get(name), after.get(name)) {
            (Some(before), Some(after)) => compare(&path, before, after, fields),
            (Some(one), None) | (None, Some(one)) => compare(&path, one, &gone, fields),
            (None, None) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{cell::RefCell, fs};

    const CONFIG: &str = r#"
id = "us-1"
region = "us"
zone = "us-a"
client_addr = "127.0.0.1:7001"
peer_addr = "127.0.0.1:7021"
http_addr = "127.0.0.1:7041"
data_dir = "data"

[cluster]
name = "demo"
control_voters = ["us-1"]
"#;

    #[derive(Default)]
    struct Filters(RefCell<Vec<Option<String>>>);

    impl Logs for Filters {
        fn filter(&self, configured: Option<&str>) -> Result<String, String> {
            self.0.borrow_mut().push(configured.map(str::to_owned));
            match configured {
                Some("loud") => Err("'loud' is no filter".into()),
                other => Ok(other.unwrap_or("info").into()),
            }
        }
    }

    #[test]
    fn the_filter_is_set_and_what_waits_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("node.toml");
        fs::write(&file, CONFIG).unwrap();
        let logs = Filters::default();
        let reload = Reload {
            file: file.clone(),
            started: Config::load(&file).unwrap(),
            logs: &logs,
        };
        let taken = RefCell::new(Limits::default());
        let with = |top: &str, end: &str| {
            fs::write(&file, format!("{top}\n{CONFIG}\n{end}")).unwrap();
            let reloaded = reload.reload().map_err(|e| e.to_string());
            reloaded.map(|(filter, limits, waiting)| {
                taken.replace(limits);
                (filter, waiting)
            })
        };
        let none = Vec::<String>::new();
        assert_eq!(with("", ""), Ok(("info".into(), none.clone())));
        assert_eq!(
            with("log_filter = \"debug\"", ""),
            Ok(("debug".into(), none))
        );
        let limits = "[limits]\ncache_bytes = 1000000000\nmax_clients = 9\ndisk_stall_ms = 5000\n[wan]\nlinks = \"none\"";
        let (_, waiting) = with("fsync = \"os\"", limits).unwrap();
        let mut expected = ["fsync", "limits.cache_bytes", "limits.max_clients", "wan"];
        let mut found: Vec<&str> = waiting.iter().map(String::as_str).collect();
        found.sort_unstable();
        expected.sort_unstable();
        assert_eq!(found, expected);
        let as_started = Limits::default();
        assert_eq!(
            *taken.borrow(),
            Limits {
                disk_stall_ms: 5000,
                ..as_started
            }
        );

        let error = with("log_filter = \"loud\"", "").unwrap_err();
        assert!(error.contains("log_filter: 'loud' is no filter"), "{error}");
        let before = logs.0.borrow().len();
        assert!(with("nonsense = 1", "").unwrap_err().contains("nonsense"));
        assert_eq!(
            logs.0.borrow().len(),
            before,
            "nothing is set from a file that is wrong"
        );
    }
}
