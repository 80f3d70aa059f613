//! What a node tells about itself that nobody decides by: for `quire status` alone. Told every
//! second, apart from the report, which is the heartbeat and stays small; what is lost comes with
//! the next.

use crate::{
    message::{Figures, Message, StoreFigures},
    node::{Lane, Node},
    shard::Shard,
};
use model::{NodeId, ShardId};
use std::{collections::BTreeMap, time::Duration};
use storage::store::{Rows, Stores};

const VERSION: &str = env!("CARGO_PKG_VERSION");
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
pub(crate) struct ShownFigures {
    pub(crate) version: String,
    /// As of now, if it is still up.
    pub(crate) uptime: Duration,
}

fn of_store<R: Rows>(shard: &Shard<R>) -> StoreFigures {
    let stats = shard.store.row_stats();
    StoreFigures {
        keys: shard.store.key_count(),
        bytes: stats.disk_bytes + stats.unflushed_bytes,
    }
}

impl<S: Stores> Node<S> {
    fn own_figures(&self) -> Figures {
        Figures {
            version: VERSION.into(),
            uptime_ms: self.now.monotonic.saturating_sub(self.started).as_millis() as u64,
            stores: (self.shards.values())
                .map(|shard| (shard.id, of_store(shard)))
                .collect(),
        }
    }

    /// Tells every node that there is a link to, once a second.
    pub(crate) fn figures_tick(&mut self) {
        let now = self.now.monotonic;
        if now < self.figures.next {
            return;
        }
        self.figures.next = now + FIGURES_EVERY;
        let message = Message::Figures(self.own_figures());
        for to in self.peers.connected_nodes() {
            self.send(&to, Lane::Ordinary, &message);
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
    pub(crate) fn figures_of(&self, id: &NodeId) -> Option<ShownFigures> {
        let now = self.now.monotonic;
        if *id == self.config.id {
            return Some(ShownFigures {
                version: VERSION.into(),
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

    /// What the store of `shard` on `id` holds, as that said last.
    pub(crate) fn store_figures(&self, id: &NodeId, shard: ShardId) -> Option<StoreFigures> {
        if *id == self.config.id {
            return self.shards.get(&shard).map(of_store);
        }
        let (_, figures) = self.figures.told.get(id)?;
        figures.stores.get(&shard).copied()
    }
}
