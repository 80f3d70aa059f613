//! Who this node is to the others, and who they are to it (docs/adr/0013-disks-and-boots): one
//! boot an id, and never a disk that was put back to an older state.
//!
//! ```text
//!   a peer connects ─▶ admit ─┬─ let in
//!                             ├─ NotAdmitted::Stale   its disk was further already
//!                             ├─ NotAdmitted::Taken   another boot of its id is heard
//!                             └─ NotAdmitted::Outdated  its release is older than the cluster's level
//!   let in nowhere  ─▶ not_admitted ─┬─ Stale: Effect::Discard, the node begins anew, empty
//!                                    └─ Taken: it serves nothing of its own, tries on, and
//!                                              registers again once it is let in
//! ```
//!
//! Always: while another boot may go by this node's id nothing is read from its copies, and no
//! lease is granted to it; what it acknowledged under a lease before that is kept by the rules of
//! failover.

use crate::cluster::{Cluster, Output};
use control::command::Command;
use model::{Boot, NodeId, Release, catalog::NodeInfo};
use std::time::Duration;

/// A peer that was heard within this time is there: another boot of its id is a stranger.
const THERE_WITHIN: Duration = Duration::from_secs(1);

/// What a node says of itself when it connects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Introduction {
    /// This start of it.
    pub boot: Boot,
    /// What its release can work with.
    pub release: Release,
    /// The cluster's feature level, as far as it knows.
    pub level: u32,
}

/// Why a boot is not let in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotAdmitted {
    /// Its disk was further already: an older copy was put in its place.
    Stale(String),
    /// Another boot of its id is heard.
    Taken(String),
    /// Its release does not know the cluster's feature level.
    Outdated(String),
    /// The two releases don't fit together for now.
    Unfit(String),
}

/// How this node stands with the others.
#[derive(Debug, Default)]
pub(crate) struct Standing {
    /// The version of the catalog that was known when a peer last said that another boot has this
    /// node's id. Only a later one can say that it has not any more: who registers in this node's
    /// place is linked to in its place, and this node hears nothing of it.
    doubted_at: Option<u64>,
    /// The catalog has another boot for this id that is not an earlier one of this disk.
    replaced: bool,
    /// That this disk is stale was said.
    discarded: bool,
    /// What others are to be told once this node is registered: what kind of event, and what.
    notes: Vec<(&'static str, String)>,
}

impl Standing {
    /// `notes`: what is to be written down once the node is registered.
    pub(crate) fn new(notes: Vec<(&'static str, String)>) -> Self {
        Standing {
            notes,
            ..Standing::default()
        }
    }

    /// Whether this node's copies may be read, as far as it depends on who the node is.
    pub(crate) fn is_sound(&self) -> bool {
        self.doubted_at.is_none() && !self.replaced && !self.discarded
    }
}

impl<A> Cluster<A> {
    /// The boot with which a node is registered, as this voter's own log has it.
    pub fn registered(&self, id: &NodeId) -> Option<Boot> {
        let catalog = self.control.catalog();
        catalog.nodes.get(id).map(|info| info.boot)
    }

    /// What this node says of itself when it connects.
    pub fn introduction(&self) -> Introduction {
        Introduction {
            boot: self.boot,
            release: self.config.release,
            level: self.level(),
        }
    }

    /// Whether a peer may be linked to this node. `is_linked`: whether a link that came
    /// from its id is still open.
    pub fn admit(
        &self,
        from: &NodeId,
        introduced: &Introduction,
        is_linked: bool,
        now: model::Now,
    ) -> Result<(), NotAdmitted> {
        self.fits(introduced)?;
        let boot = introduced.boot;
        if let Some(known) = self.latest_of_disk(from, &boot) {
            return Err(NotAdmitted::Stale(stale(from, &boot, &known)));
        }
        let Some(other) = self
            .peers
            .boot(from)
            .filter(|other| is_linked && other.nonce != boot.nonce)
        else {
            return Ok(());
        };
        let registered = self.catalog.nodes.get(from).map(|info| info.boot);
        let is_heard = self
            .peers
            .was_heard_within(from, now.monotonic, THERE_WITHIN);
        if is_heard && registered != Some(boot) {
            return Err(NotAdmitted::Taken(taken(
                from,
                &boot,
                &other,
                self.config.id.as_str(),
            )));
        }
        Ok(())
    }

    /// Whether a peer's release knows the level that this node knows of.
    fn fits(&self, introduced: &Introduction) -> Result<(), NotAdmitted> {
        let its = introduced.release.levels;
        // An empty catalog says nothing yet.
        if !self.catalog.nodes.is_empty()
            && let Some(why) = its.unfit_for(self.level())
        {
            return Err(match its.newest < self.level() {
                true => NotAdmitted::Outdated(why),
                // The level may be higher by now, and not be known here.
                false => NotAdmitted::Unfit(why),
            });
        }
        Ok(())
    }

    /// What is known of `boot`'s disk that makes it stale, if anything does.
    fn latest_of_disk(&self, node: &NodeId, boot: &Boot) -> Option<Boot> {
        let agreed = self.catalog.disks.get(&boot.disk).map(|d| d.boot);
        let logged = self.control.boot_of(&boot.disk);
        let said = self.peers.latest_of_disk(node, &boot.disk);
        let known = [agreed, logged, said].into_iter().flatten();
        known.into_iter().find(|known| boot.is_stale_beside(known))
    }

    /// A peer does not let this node in.
    pub fn not_admitted(&mut self, by: &NodeId, why: NotAdmitted) {
        match why {
            NotAdmitted::Stale(line) => self.discard(line),
            NotAdmitted::Outdated(line) => {
                self.stop(format!("{by} does not let this node in: {line}"));
            }
            NotAdmitted::Unfit(_) => {} // It is tried on.
            NotAdmitted::Taken(line) => {
                if self.standing.doubted_at.is_none() {
                    tracing::error!(%by, reason = %line, "another process goes by this node's id: nothing is served from this node's copies before it is gone");
                }
                self.standing.doubted_at = Some(self.catalog.version);
            }
        }
    }

    /// The catalog is another: what does it say of this node?
    pub(crate) fn follow_standing(&mut self) {
        let own = self.boot;
        if let Some(disk) = self.catalog.disks.get(&own.disk)
            && own.is_stale_beside(&disk.boot)
        {
            return self.discard(stale(&self.config.id, &own, &disk.boot));
        }
        let registered = self
            .catalog
            .nodes
            .get(&self.config.id)
            .map(|info| info.boot);
        let replaced = registered.is_some_and(|other| {
            other != own && (other.disk != own.disk || other.process >= own.process)
        });
        // Before it has registered its disk another one is what it came with last.
        let replaced = replaced && (self.standing.replaced || self.was_registered());
        if replaced && !self.standing.replaced {
            tracing::error!(other = ?registered, "another process has registered as this node: nothing is served from this node's copies before it is gone");
        }
        self.standing.replaced = replaced;
        let version = self.catalog.version;
        if registered == Some(own) && self.standing.doubted_at.is_some_and(|at| at < version) {
            tracing::warn!("this node goes by its id alone again");
            self.standing.doubted_at = None;
        }
    }

    /// Whether a catalog once had this boot.
    fn was_registered(&self) -> bool {
        self.catalog
            .disks
            .get(&self.boot.disk)
            .is_some_and(|d| d.boot == self.boot)
    }

    /// This node's disk is an older state of what it was: it must not be used.
    fn discard(&mut self, line: String) {
        if !std::mem::replace(&mut self.standing.discarded, true) {
            tracing::error!(reason = %line, "this node's disk is stale");
            self.stopped = true;
            self.put(Output::Discard(line));
        }
    }

    pub(crate) fn standing_tick(&mut self) {
        if !self.standing.notes.is_empty() && self.is_registered() {
            for (kind, text) in std::mem::take(&mut self.standing.notes) {
                self.note_of_node(kind, text);
            }
        }
    }

    /// How this node introduces itself.
    pub(crate) fn own_info(&self) -> NodeInfo {
        let config = &self.config;
        NodeInfo {
            region: config.region.clone(),
            zone: config.zone.clone(),
            client_addr: config.client_addr.clone(),
            peer_addr: config.peer_addr.clone(),
            http_addr: config.http_addr.clone(),
            boot: self.boot,
            levels: config.release.levels,
        }
    }

    /// Whether the catalog has this boot, and nobody has said since that it may not.
    pub(crate) fn is_registered(&self) -> bool {
        let known = self.catalog.nodes.get(&self.config.id);
        known.is_some_and(|info| info.boot == self.boot) && self.standing.doubted_at.is_none()
    }

    /// At a control leader: why a node may not register, if another boot of its id is there.
    pub(crate) fn registration_refused(&self, command: &Command) -> Option<String> {
        let Command::RegisterNode { id, info } = command else {
            return None;
        };
        let now = self.now.monotonic;
        let other = match *id == self.config.id {
            true => Some(self.boot),
            false => {
                (self.peers.boot(id)).filter(|_| self.peers.was_heard_within(id, now, THERE_WITHIN))
            }
        };
        let other = other.filter(|other| other.nonce != info.boot.nonce)?;
        Some(taken(id, &info.boot, &other, self.config.id.as_str()))
    }

    /// Whether this node's copies may be read, as far as it depends on who the node is.
    pub fn is_sound(&self) -> bool {
        self.standing.is_sound()
    }

    /// Whether what this process acknowledges to others can't be forgotten: the catalog has it, or
    /// there is no control group to ask.
    pub fn holds_for_others(&self) -> bool {
        self.is_registered() || self.catalog.disks.is_empty()
    }

    /// Writes something of this node down for operators.
    pub(crate) fn note_of_node(&mut self, kind: &str, text: String) {
        tracing::warn!(kind, text);
        let command = Command::Note {
            shard: None,
            kind: kind.to_owned(),
            text: format!("{}: {text}", self.config.id),
            at_ms: self.now.wall_ms,
        };
        self.ask_to_note(command);
    }
}

fn stale(node: &NodeId, boot: &Boot, known: &Boot) -> String {
    format!(
        "the disk of {node} is stale: it comes as {boot} with a log of {} bytes, and was seen as {known} with {}: an older copy was put in its place",
        boot.log, known.log
    )
}

fn taken(node: &NodeId, boot: &Boot, other: &Boot, by: &str) -> String {
    format!(
        "{boot} comes as {node}, and {by} hears {node} as {other}: stop one of the two, or give it an id of its own"
    )
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::{
        cluster::{Config, PeerConfig},
        host::Alone,
        replay::Replay,
    };
    use model::{Address, Catalog, DiskId, Now, Region};

    fn boot(disk: u64, process: u64, nonce: u64, log: u64) -> Boot {
        Boot {
            disk: DiskId(disk),
            process,
            nonce,
            log,
            intact_since: 1,
        }
    }

    pub(crate) fn id(name: &str) -> NodeId {
        NodeId::new(name).unwrap()
    }

    /// A node `b` that knows `a` by its configuration alone.
    pub(crate) fn node() -> Cluster<()> {
        let us = Region::new("us").unwrap();
        let addr = Address::from(std::net::SocketAddr::from(([127, 0, 0, 1], 1)));
        let config = Config {
            id: id("b"),
            release: Release::THIS,
            region: us.clone(),
            zone: String::new(),
            client_addr: addr.clone(),
            peer_addr: addr.clone(),
            http_addr: addr.clone(),
            peers: vec![PeerConfig {
                id: id("a"),
                region: us,
                peer_addr: addr,
            }],
            control_voters: vec![id("a")],
            emptied: false,
            disk: DiskId(9),
            process: 1,
            first_number: 5,
            pid: 1,
            version: "1",
            control_log_bytes: 1 << 20,
        };
        let boot = boot(9, 1, 5, 0);
        Cluster::new(config, boot, Replay::default(), Vec::new(), Now::at_ms(0)).unwrap()
    }

    #[test]
    fn one_boot_an_id_and_no_older_state_of_a_disk() {
        let mut node = node();
        let (a, first) = (id("a"), boot(1, 7, 70, 500));
        let introduced = |boot| Introduction {
            boot,
            release: Release::THIS,
            level: 1,
        };
        let admit = |node: &Cluster<()>, boot, linked, ms| {
            node.admit(&id("a"), &introduced(boot), linked, Now::at_ms(ms))
        };
        assert_eq!(admit(&node, first, false, 0), Ok(()));
        node.linked(&a, &introduced(first));
        node.peers.heard(&a, Duration::from_millis(100));
        // The same once more, as after a broken link.
        assert_eq!(admit(&node, first, true, 200), Ok(()));
        // Another one, while this one is heard; once it is silent, or its link is gone, no more.
        let other = boot(2, 1, 80, 0);
        let refused = admit(&node, other, true, 200).unwrap_err();
        assert!(
            matches!(&refused, NotAdmitted::Taken(line) if line.contains("stop one of the two"))
        );
        assert_eq!(admit(&node, other, true, 1200), Ok(()));
        assert_eq!(admit(&node, other, false, 200), Ok(()));
        // What the disk has said of its log since, another state of it must have.
        node.peers.linked(&a, boot(1, 7, 70, 900));
        let next = boot(1, 8, 81, 900);
        assert_eq!(admit(&node, next, false, 300), Ok(()));
        for stale in [
            boot(1, 6, 71, 900),
            boot(1, 7, 71, 900),
            boot(1, 8, 81, 899),
        ] {
            let refused = admit(&node, stale, false, 300).unwrap_err();
            assert!(matches!(refused, NotAdmitted::Stale(_)), "{stale:?}");
        }
    }

    #[test]
    fn who_is_not_let_in_serves_nothing_until_it_has_registered_again() {
        let mut node = node();
        assert!(node.standing.is_sound());
        let taken = NotAdmitted::Taken("another".into());
        node.not_admitted(&id("a"), taken);
        assert!(!node.standing.is_sound());
        let mut catalog = Catalog {
            version: 1,
            ..Catalog::default()
        };
        node.adopt(catalog.clone(), &mut Alone);
        assert!(!node.standing.is_sound(), "it does not have this node");
        catalog.version = 2;
        catalog.nodes.insert(id("b"), node.own_info());
        node.adopt(catalog, &mut Alone);
        assert!(node.standing.is_sound() && node.is_registered());
        let stale = NotAdmitted::Stale("older".into());
        node.not_admitted(&id("a"), stale);
        let discards = |node: &mut Cluster<()>| {
            std::iter::from_fn(|| node.poll())
                .any(|output| matches!(output, Output::Discard(why) if why == "older"))
        };
        assert!(discards(&mut node) && !discards(&mut node));
        assert!(!node.standing.is_sound());
    }

    #[test]
    fn who_does_not_know_the_level_is_not_let_in_and_stops() {
        let mut node = node();
        let introduced = |oldest, newest| Introduction {
            boot: boot(1, 7, 70, 500),
            release: Release {
                levels: model::release::Span { oldest, newest },
                ..Release::THIS
            },
            level: 1,
        };
        let admit = |node: &Cluster<()>, oldest, newest| {
            node.admit(&id("a"), &introduced(oldest, newest), false, Now::at_ms(0))
        };
        assert_eq!(admit(&node, 2, 3), Ok(()), "its catalog may know better");
        let mut catalog = Catalog {
            version: 1,
            ..Catalog::default()
        };
        catalog.nodes.insert(id("b"), node.own_info());
        node.adopt(catalog, &mut Alone);
        assert_eq!(admit(&node, 0, 1), Ok(()));
        assert!(matches!(admit(&node, 2, 3), Err(NotAdmitted::Unfit(_))));
        let outdated = admit(&node, 0, 0).unwrap_err();
        assert!(matches!(&outdated, NotAdmitted::Outdated(line) if line.contains("knows level 1")));
        let stops = |node: &mut Cluster<()>| {
            std::iter::from_fn(|| node.poll())
                .any(|o| matches!(o, Output::Stop(line) if line.contains("start the node with")))
        };
        node.not_admitted(&id("a"), NotAdmitted::Unfit("for now".into()));
        assert!(!stops(&mut node));
        node.not_admitted(&id("a"), outdated);
        assert!(stops(&mut node));
    }

    #[test]
    fn a_node_stops_before_it_takes_up_what_it_does_not_know() {
        for how in 0..2 {
            let mut node = node();
            let level = Release::THIS.levels.newest + 1;
            if how == 0 {
                let introduced = Introduction {
                    boot: boot(1, 7, 70, 500),
                    release: Release::NEXT,
                    level,
                };
                let admitted = node.admit(&id("a"), &introduced, false, Now::at_ms(0));
                assert_eq!(admitted, Ok(()));
                assert!(!node.linked(&id("a"), &introduced));
            } else {
                let catalog = Catalog {
                    version: 1,
                    level,
                    ..Catalog::default()
                };
                node.adopt(catalog, &mut Alone);
            }
            assert!(
                std::iter::from_fn(|| node.poll())
                    .any(|o| matches!(o, Output::Stop(line) if line.contains("knows level 2")))
            );
            assert_eq!((node.level(), node.catalog.version), (1, 0));
        }
    }
}
