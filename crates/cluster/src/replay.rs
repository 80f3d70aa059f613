//! What a node's log has of this room, read back at the start.

use crate::{
    control::{ADMITTED, LEVEL, MUTED, RECORD, REHEARSAL},
    level::Levelling,
    rehearsal::{Rehearsal, unknown_record},
};
use model::{Lsn, release::Span};
use replication::consensus::{LogRecord, Recovered};

/// The records so far.
#[derive(Debug, Default)]
pub struct Replay {
    pub(crate) recovered: Recovered,
    muted: Option<bool>,
    pub(crate) levelling: Levelling,
    pub(crate) rehearsal: Rehearsal,
}

impl Replay {
    /// The next record, which begins at `before`, as a release reads it that knows `levels`.
    pub fn record(
        &mut self,
        kind: u8,
        before: Lsn,
        body: &[u8],
        levels: Span,
    ) -> Result<(), String> {
        match kind {
            RECORD => {
                let record = LogRecord::decode(body.to_vec().into()).map_err(|e| e.to_string())?;
                self.recovered.replay(record);
            }
            MUTED | ADMITTED => self.muted = Some(kind == MUTED),
            LEVEL => self.levelling.mark.replay(before, body, levels)?,
            REHEARSAL => self.rehearsal.replay(levels)?,
            other => return Err(unknown_record(other)),
        }
        Ok(())
    }

    /// Whether the disk may have held votes that it holds no more: one on which nothing was
    /// written may have been emptied.
    pub(crate) fn is_muted(&self) -> bool {
        self.muted.unwrap_or(self.recovered.is_empty())
    }
}
