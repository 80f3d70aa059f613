//! The release after this one, as far as tests of upgrades need it (docs/adr/0017-versions): a
//! node that pretends to be it has a message, a command and a record more. Nothing of this is ever
//! done by a node of this release, but that it knows, as any release would, that they are not for
//! it to read.
//!
//! What is new is tried at every level: that nothing comes of it below its own is the doing of
//! what is rehearsed here (the node's sending for messages, the catalog's machine for commands).

use crate::{
    cluster::Cluster,
    control::{Asker, REHEARSAL},
    host::Host,
    message::Message,
};
use control::command::Command;
use model::release::{REHEARSAL_LEVEL, Span};
use std::time::Duration;

const EVERY: Duration = Duration::from_secs(1);

/// What a node has done of it.
#[derive(Debug, Default)]
pub(crate) struct Rehearsal {
    next: Duration,
    /// Messages that came.
    heard: u64,
    /// Records in the log, those that were there at the start included.
    records: u64,
}

impl Rehearsal {
    /// A record of the next release, as the log is replayed.
    pub(crate) fn replay(&mut self, levels: Span) -> Result<(), String> {
        if !levels.holds(REHEARSAL_LEVEL) {
            return Err(unknown_record(REHEARSAL));
        }
        self.records += 1;
        Ok(())
    }

    pub(crate) fn heard(&mut self) {
        self.heard += 1;
    }
}

/// Why a log can't be read.
pub(crate) fn unknown_record(kind: u8) -> String {
    format!(
        "log of the control group: record of kind {kind}, which a newer release wrote: start the node with that release"
    )
}

impl<A> Cluster<A> {
    /// What this node has done of it: messages that it heard, and records in its log.
    pub fn rehearsed(&self) -> (u64, u64) {
        (self.rehearsal.heard, self.rehearsal.records)
    }

    pub(crate) fn rehearsal_tick(&mut self, host: &mut impl Host) {
        let now = self.now.monotonic;
        if !self.config.release.levels.holds(REHEARSAL_LEVEL) || now < self.rehearsal.next {
            return;
        }
        self.rehearsal.next = now + EVERY;
        for to in self.peers.connected_nodes() {
            self.send(&to, Message::Rehearsal);
        }
        if !self.is_registered() {
            return;
        }
        let is_own = |text: &str| text == self.config.id.as_str();
        let mut events = self.catalog.events.iter();
        if !events.any(|event| event.kind == "rehearsed" && is_own(&event.text)) {
            let command = Command::Rehearse {
                node: self.config.id.clone(),
                at_ms: self.now.wall_ms,
            };
            self.ask_for(command, Asker::Note);
        }
        if self.level() >= REHEARSAL_LEVEL && host.append(REHEARSAL, &[]).is_ok() {
            self.rehearsal.records += 1;
        }
    }
}
