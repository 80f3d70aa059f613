//! What the room is told, and asked for.

use crate::{
    Message, Output, Shards, Terms, message::DigestRequest, shared_log::Flushed, stall::News,
};
use model::{EntryKind, NodeId, Now, ShardId};
use std::time::Duration;
use storage::{
    log::{FlushJob, Lacking, LogError, Lsn, Synced, Written},
    store::Stores,
};

impl<S: Stores, T> Shards<S, T> {
    /// It is this time, as the node keeps it.
    pub fn arrives(&mut self, now: Now) {
        self.now = now;
    }

    /// How the cluster stands.
    pub fn terms(&mut self) -> &mut Terms {
        &mut self.terms
    }

    /// The next thing that is wanted of the node.
    pub fn take_output(&mut self) -> Option<Output<T>> {
        self.out.take()
    }

    /// Whether something was answered under the lease since this was asked last.
    pub fn has_answered(&mut self) -> bool {
        self.out.take_answered()
    }

    /// Whether nothing is left to be settled.
    pub fn is_settled(&self) -> bool {
        self.unsettled.is_empty() || self.stopped
    }

    /// Some of those that are left to be settled.
    pub fn unsettled(&self) -> impl Iterator<Item = ShardId> {
        self.unsettled.iter()
    }

    /// A message of its like on another node.
    pub fn message(&mut self, from: &NodeId, message: Message) {
        match message {
            Message::CopyAsk {
                shard,
                copy,
                from: row,
            } => self.copy_asked(from, shard, copy, row),
            Message::CopyChunk(chunk) => self.copy_chunk(from, chunk),
            Message::CopyLost { shard, copy } => self.copy_lost(from, shard, copy),
            Message::RewindAsk(ask) => self.rewind_asked(from, ask),
            Message::RewindChunk(chunk) => self.rewind_chunk(from, chunk),
            Message::RewindLost { shard, rewind } => self.rewind_lost(from, shard, rewind),
            Message::HistoryAsk { shard } => self.history_asked(from, shard),
            Message::History(history) => self.history_told(from, history),
            Message::VerifyAsk { id, shard } => self.verify_asked(from, id, shard),
            Message::DigestKeysAsk { id, shard, bucket } => {
                self.digest_keys_asked(id, shard, bucket);
            }
            Message::VerifyHeld { id, shard } => self.verify_held(id, shard),
            Message::VerifyOver { id, shard } => self.verify_over(id, shard),
            Message::Pulse(pulse) => self.pulse_heard(from, pulse),
            Message::Digest(_) | Message::DigestKeys(_) | Message::DigestProgress(_) => {
                self.out.put(Output::Told {
                    from: from.clone(),
                    message,
                });
            }
        }
    }

    /// At the primary: append the digest entry.
    fn verify_asked(&mut self, from: &NodeId, id: u64, shard_id: ShardId) {
        let request = DigestRequest {
            id,
            coordinator: from.clone(),
        };
        let Ok(payload) = postcard::to_stdvec(&request) else {
            return;
        };
        if !self.terms.held.contains(&shard_id)
            && let Some(shard) = self.all.get_mut(&shard_id)
            && shard.is_primary(self.now)
            && let Some(protocol) = &mut shard.protocol
            && protocol
                .propose(EntryKind::Digest, 0, &payload, self.now)
                .is_ok()
        {
            self.unsettled.add(shard_id);
        }
    }

    /// Time has passed; before the cluster room hears of it.
    pub fn tick_first(&mut self) {
        self.look_at_touched();
    }

    /// The same, behind it.
    pub fn tick(&mut self) {
        self.fire_timers();
        self.hand_leads_over();
        self.maintain_pressed();
        self.expire();
    }

    /// The same, once what was gathered has gone on.
    pub fn tick_last(&mut self) {
        self.waiting_tick();
        self.pulse_tick();
        self.copies_tick();
        if !self.log.is_stalled() {
            self.rewinds_tick();
            self.leaving_tick();
        }
        self.digestings_tick();
    }

    /// A moment has come that `wake_at` named: what goes first.
    pub fn wake(&mut self) {
        self.give_rows();
        if self
            .expiries
            .again_at()
            .is_some_and(|at| at <= self.now.monotonic)
        {
            self.expire();
        }
    }

    /// When it wants to be woken at the latest, but for what it has slowed down.
    pub fn wake_at(&self) -> impl Iterator<Item = Duration> {
        (self.timers.first().into_iter())
            .chain(self.log.flush_at())
            .chain(self.copies.wake_at())
            .chain(self.expiries.again_at())
    }

    /// This node did nothing until now.
    pub fn absent(&mut self) {
        self.log.absent(self.now.monotonic);
    }

    /// Looks whether the disk answers: whether that is another than at the last look, and whether it
    /// does.
    pub fn look_at_disk(&mut self) -> Option<bool> {
        match self.log.look_at_disk(self.now.monotonic)? {
            News::Stalled => {
                let seconds = self.config.limits.disk_stall_after.as_secs_f64();
                tracing::error!(
                    pending_bytes = self.log.get().pending_bytes(),
                    "the disk of the log has not answered for {seconds} s: this node asks for no lease, and its replicas are not read, until it does"
                );
                Some(false)
            }
            News::Answers(after) => {
                let seconds = after.as_secs_f64();
                tracing::warn!("the disk of the log answers again, after {seconds:.1} s");
                Some(true)
            }
        }
    }

    // ---- the log ----------------------------------------------------------------------------

    /// Something was appended by whom it is not known here: it is to be made durable at once.
    pub fn appended_by_others(&mut self) {
        self.log.flush_by(self.now.monotonic);
    }

    /// What is in the log is to be made durable now, though nobody waits for it.
    pub fn flush_soon(&mut self) {
        self.log.flush_at_least_by(self.now.monotonic);
    }

    /// What is to be made durable next, if it may begin by now.
    pub fn take_flush(&mut self) -> Option<FlushJob> {
        match self.stopped {
            true => None,
            false => self.log.take_flush(self.now),
        }
    }

    /// The first half of a flush has ended. Returns up to where the log is acknowledgeable.
    pub fn flush_written(&mut self, done: Written) -> Option<Lsn> {
        match self.log.written(done, self.now.monotonic) {
            Flushed::To(durable) => return Some(durable),
            Flushed::Lacks(Lacking::Space) => {
                self.give_up_all("the disk of the shard's primary is full");
            }
            Flushed::Lacks(Lacking::Descriptors) => {
                self.give_up_all("the shard's primary can't open another log file");
            }
            Flushed::Failed(error) => self.stop(error.to_string()),
        }
        None
    }

    /// The second half of a flush has ended. Returns up to where the log is acknowledgeable.
    pub fn flush_synced(&mut self, done: Synced) -> Option<Lsn> {
        match self.log.synced(done) {
            Ok(durable) => Some(durable),
            Err(error) => {
                self.stop(error.to_string());
                None
            }
        }
    }

    /// Closes the log, so that the next start knows that nothing of it is missing. No flush may be
    /// under way. Nothing is taken any more.
    pub fn close(&mut self) -> Result<(), LogError> {
        self.stopped = true;
        self.log.close().map(drop)
    }

    /// Its disk must not be used again: nothing is taken any more.
    pub fn discard(&mut self) {
        self.stopped = true;
    }
}
