//! Whether a data directory whose `identity` or log is damaged may be set aside: a record of any
//! shard, or of the control group, may be gone from it, so none of it can be trusted
//! (docs/adr/0003).
//!
//! ```text
//! damaged ── may be emptied ─▶ set aside (`data_dir`) ─▶ a new, empty disk: a learner of all its
//!    │                         shards, filled from others; a muted voter
//!    └────── may not ─────────▶ the start is refused, with what to do
//! ```
//! It may not be if nobody could go on without what it holds, or if that happens again and again.

use crate::{
    Config,
    data_dir::{self, DataDirError},
};
use std::{fs, path::Path};

/// Disks that are set aside and not looked at, above which the next is left as it is.
const ASIDE_MAX: usize = 3;
/// Without so many voters the others of them are no majority that could go on.
const VOTERS_MIN: usize = 3;

/// Why a damaged data directory is left as it is, if it is.
pub(crate) fn refusal(config: &Config, data: &Path) -> Result<Option<String>, DataDirError> {
    let voters = &config.cluster.control_voters;
    if voters.contains(&config.id) && voters.len() < VOTERS_MIN {
        return Ok(Some(match voters.len() {
            1 => "this node is the only voter: nobody else knows what it holds".to_owned(),
            n => format!(
                "this node is one of {n} voters: without what it knows the rest can't go on"
            ),
        }));
    }
    let kept = data_dir::kept(data)?;
    Ok(kept.first().filter(|_| kept.len() >= ASIDE_MAX).map(|first| {
        format!(
            "it was so {} times before: check or replace the disk, and remove {} and its like once their data is elsewhere",
            kept.len(),
            first.display()
        )
    }))
}

/// How many damaged stores of shards are kept.
pub(crate) fn stores_kept(data: &Path) -> usize {
    let items = fs::read_dir(data.join("store")).into_iter().flatten();
    let is_one = |name: &str| name.contains(".damaged-");
    items
        .flatten()
        .filter(|item| item.file_name().to_str().is_some_and(is_one))
        .count()
}
