//! Work that takes a while and needs nothing of the node but what it carries: the host runs it on
//! another thread, and brings back what came of it.
//!
//! ```text
//! node ─▶ take_aside ─▶ Aside::run   (another thread) ─▶ aside_done ─▶ node
//! ```
//! One is under way at a time, and what asks for it asks for a slice of a few milliseconds, so
//! that whatever waits for it can be given up in between.

use crate::Shards;
use std::{any::Any, collections::VecDeque};
use storage::store::Stores;

/// A piece of such work. Run it where blocking is allowed.
#[must_use]
pub struct Aside(Box<dyn FnOnce() -> AsideDone + Send>);

/// What came of it.
pub struct AsideDone(Box<dyn Any + Send>);

impl Aside {
    pub(crate) fn new<T: Any + Send>(work: impl FnOnce() -> T + Send + 'static) -> Self {
        Aside(Box::new(move || AsideDone(Box::new(work()))))
    }

    /// Blocks for as long as it takes.
    pub fn run(self) -> AsideDone {
        (self.0)()
    }
}

impl std::fmt::Debug for Aside {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Aside")
    }
}

impl std::fmt::Debug for AsideDone {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("AsideDone")
    }
}

/// What waits to be run aside.
#[derive(Debug, Default)]
pub(crate) struct Asides {
    waiting: VecDeque<Aside>,
    under_way: bool,
}

impl Asides {
    pub(crate) fn push(&mut self, aside: Aside) {
        self.waiting.push_back(aside);
    }

    /// Lets go of what takes time to drop, such as files that nobody else holds.
    pub(crate) fn drop_aside(&mut self, gone: impl Any + Send) {
        self.push(Aside::new(move || drop(gone)));
    }
}

impl<S: Stores, T> Shards<S, T> {
    /// The next piece of work for another thread, if none is under way: `aside_done` says when
    /// it is over.
    pub fn take_aside(&mut self) -> Option<Aside> {
        if self.asides.under_way {
            return None;
        }
        let next = self.asides.waiting.pop_front()?;
        self.asides.under_way = true;
        Some(next)
    }

    /// What [`Shards::take_aside`] gave last is over.
    pub fn aside_done(&mut self, done: AsideDone) {
        self.asides.under_way = false;
        self.slice_done(done.0);
    }
}
