//! A node's log lines: on standard error, as text or as a JSON object a line, through a filter
//! that can be changed while it runs.
//!
//! The filter is, in this order: `RUST_LOG`; what the configuration says (`log_filter`); `info`.
//! Each is taken behind [`QUIET`], so that it need not repeat what nobody wants to read, and may
//! still ask for it by name.

use clap::ValueEnum;
use tracing_subscriber::{
    EnvFilter, Registry, layer::SubscriberExt, registry, reload, util::SubscriberInitExt,
};

const FILTER_ENV: &str = "RUST_LOG";
const FILTER_DEFAULT: &str = "info";
/// The store's tree tells of every file that it writes.
const QUIET: &str = "lsm_tree=warn";

/// How a log line looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    Text,
    Json,
}

/// The filter of the log lines of this process.
pub(crate) struct LogFilter {
    handle: reload::Handle<EnvFilter, Registry>,
    /// What `RUST_LOG` says; it goes before all else.
    fixed: Option<String>,
}

/// Log lines from now on. An error says what is wrong with `RUST_LOG`.
pub(crate) fn begin(format: Format) -> Result<LogFilter, String> {
    let fixed = std::env::var(FILTER_ENV).ok().filter(|f| !f.is_empty());
    let first = fixed.as_deref().unwrap_or(FILTER_DEFAULT);
    let filter = parse(first).map_err(|e| format!("{FILTER_ENV}: {e}"))?;
    let (filter, handle) = reload::Layer::new(filter);
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(false);
    let begun = match format {
        Format::Text => registry().with(filter).with(lines).try_init(),
        Format::Json => {
            let lines = lines.json().flatten_event(true);
            registry().with(filter).with(lines).try_init()
        }
    };
    begun.map_err(|e| e.to_string())?;
    Ok(LogFilter { handle, fixed })
}

impl server::Logs for LogFilter {
    fn filter(&self, configured: Option<&str>) -> Result<String, String> {
        if let Some(fixed) = &self.fixed {
            // A filter that is not in force is checked all the same.
            configured.map_or(Ok(()), |filter| parse(filter).map(drop))?;
            return Ok(format!("{fixed}, by {FILTER_ENV}"));
        }
        let wanted = configured.unwrap_or(FILTER_DEFAULT);
        let set = self.handle.reload(parse(wanted)?);
        set.map_err(|e| e.to_string())?;
        Ok(wanted.to_owned())
    }
}

fn parse(filter: &str) -> Result<EnvFilter, String> {
    EnvFilter::builder()
        .parse(format!("{QUIET},{filter}"))
        .map_err(|e| {
            format!("'{filter}' is no filter: {e}; use one such as info or warn,node=debug")
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_is_checked_and_keeps_the_tree_quiet() {
        let shown = |filter| parse(filter).unwrap().to_string();
        assert_eq!(shown("info"), "lsm_tree=warn,info");
        assert_eq!(shown("lsm_tree=debug,info"), "lsm_tree=debug,info");
        let error = parse("node=loud").unwrap_err();
        assert!(error.starts_with("'node=loud' is no filter"), "{error}");
    }
}
