//! What a node tells about itself that nobody decides by: for `quire status` alone. Told every
//! second, apart from the report, which is the heartbeat and stays small; what is lost comes with
//! the next.

use crate::{
    cluster::Cluster,
    host::Host,
    message::{Figures, Message, StoreFigures},
};
use model::{NodeId, ShardId};
use std::{collections::BTreeMap, time::Duration};

/// How often a node tells its figures.
const FIGURES_EVERY: Duration = Duration::from_secs(1);

/// What is known of all nodes' figures.
#[derive(Debug, Default)]
pub(crate) struct KnownFigures {
    /// What each other node said last, and when it came.
    told: BTreeMap<NodeId, (Duration, Figures)>,
    next: Duration,
}

/// One node's figures as they are shown: as it said last, but for how long it has run.
#[derive(Debug)]
pub struct ShownFigures {
    /// The release that it runs.
    pub version: String,
    /// As of now, if it is still up.
    pub uptime: Duration,
}

impl<A> Cluster<A> {
    fn own_figures(&self, host: &impl Host) -> Figures {
        Figures {
            version: self.config.version.into(),
            uptime_ms: self.now.monotonic.saturating_sub(self.started).as_millis() as u64,
            stores: host.stores(),
        }
    }

    /// Tells every node that there is a link to, once a second.
    pub(crate) fn figures_tick(&mut self, host: &impl Host) {
        let now = self.now.monotonic;
        if now < self.figures.next {
            return;
        }
        self.figures.next = now + FIGURES_EVERY;
        let message = Message::Figures(self.own_figures(host));
        for to in self.peers.connected_nodes() {
            self.send(&to, message.clone());
        }
    }

    pub(crate) fn figures_told(&mut self, from: &NodeId, figures: Figures) {
        // What is kept is bounded by the nodes that the catalog has.
        if self.catalog.nodes.contains_key(from) {
            let now = self.now.monotonic;
            self.figures.told.insert(from.clone(), (now, figures));
        }
    }

    /// The figures of `id`, if it has told any.
    pub fn figures_of(&self, id: &NodeId) -> Option<ShownFigures> {
        let now = self.now.monotonic;
        if *id == self.config.id {
            return Some(ShownFigures {
                version: self.config.version.into(),
                uptime: now.saturating_sub(self.started),
            });
        }
        let (told_at, figures) = self.figures.told.get(id)?;
        let age = now.saturating_sub(*told_at);
        Some(ShownFigures {
            version: figures.version.clone(),
            uptime: Duration::from_millis(figures.uptime_ms).saturating_add(age),
        })
    }

    /// What the store of a shard on another node holds, as that said last.
    pub fn store_at(&self, id: &NodeId, shard: ShardId) -> Option<StoreFigures> {
        let (_, figures) = self.figures.told.get(id)?;
        figures.stores.get(&shard).copied()
    }
}
