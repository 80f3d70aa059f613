//! A voter on a new disk: muted until it can have forgotten nothing (docs/adr/0008).

use super::{ADMITTED, Control, MUTED};
use crate::{cluster::Cluster, host::Host, message::ControlReport};
use model::NodeId;
use std::time::Duration;

/// A voter that said nothing for so long is not known to stand as it said.
const SAID_WITHIN: Duration = Duration::from_secs(1);
/// How long a voter on a new disk must have caught up before it votes, once the group exists.
const ADMIT_AFTER: Duration = Duration::from_secs(1);

impl<A> Control<A> {
    /// How this voter stands, if it is one.
    pub(crate) fn own_report(&self) -> Option<ControlReport> {
        let group = self.group.as_ref()?;
        Some(ControlReport {
            term: group.term(),
            commit: group.commit_index(),
            muted: group.is_muted(),
        })
    }

    /// Whether another voter is muted, as it said last.
    pub(crate) fn is_muted(&self, node: &NodeId) -> bool {
        self.said.get(node).is_some_and(|(_, said)| said.muted)
    }

    /// How another voter stands.
    pub(crate) fn voter_said(&mut self, node: &NodeId, now: Duration, report: ControlReport) {
        if !self.voters.contains(node) {
            return;
        }
        if let Some(group) = self
            .group
            .as_mut()
            .filter(|g| report.muted && g.commit_index() > 0)
            && report.commit == 0
        {
            group.forget_progress(node.number());
        }
        self.said.insert(node.clone(), (now, report));
    }

    /// Whether this voter, which is muted, may vote again. It may have forgotten a vote, or an
    /// entry that it acknowledged. Either the group was never founded: every voter says that it
    /// knows of nothing agreed, and this one's disk did not take the place of one that was set aside (if all
    /// were, they would found a group that knows of no keyspace). Or every other voter was heard of late, and this one has caught
    /// up with all of them: whoever was elected with its forgotten vote is among them, and its
    /// term was followed; whatever was agreed with its acknowledgement it holds again.
    fn is_admissible(&self, me: &NodeId, now: Duration) -> bool {
        let Some(group) = &self.group else {
            return false;
        };
        let lately = |node: &NodeId| {
            let (at, report) = self.said.get(node)?;
            (now.saturating_sub(*at) < SAID_WITHIN).then_some(report)
        };
        let others: Vec<_> = self
            .voters
            .iter()
            .filter(|v| *v != me)
            .map(lately)
            .collect();
        let Some(others) = others.into_iter().collect::<Option<Vec<_>>>() else {
            return false;
        };
        let founded = group.commit_index() > 0 || others.iter().any(|o| o.commit > 0);
        let level = |o: &&ControlReport| o.term <= group.term() && o.commit <= group.commit_index();
        (!founded && !self.emptied) || (group.leader().is_some() && others.iter().all(level))
    }
}

impl<A> Cluster<A> {
    /// A voter on a new disk votes only once that can do no harm.
    pub(super) fn admit_voter(&mut self, host: &mut impl Host) {
        let now = self.now.monotonic;
        let Some(group) = self.control.group.as_ref().filter(|g| g.is_muted()) else {
            return;
        };
        let founded = group.commit_index() > 0;
        if !self.control.mute_noted {
            self.control.mute_noted = true;
            self.note_voter(MUTED, host);
        }
        if !self.control.is_admissible(&self.config.id, now) {
            self.control.admissible_since = None;
            return;
        }
        let since = *self.control.admissible_since.get_or_insert(now);
        if !founded || now.saturating_sub(since) >= ADMIT_AFTER {
            self.note_voter(ADMITTED, host);
            if let Some(group) = &mut self.control.group {
                group.admit();
            }
        }
    }

    fn note_voter(&mut self, kind: u8, host: &mut impl Host) {
        if let Err(error) = host.append(kind, &[]) {
            self.stop(error);
        }
    }
}
