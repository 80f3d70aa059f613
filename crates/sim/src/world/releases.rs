//! Nodes of two releases (docs/adr/0017-versions).

use super::{World, Wrong};
use model::Release;
use resp::Frame;

impl World {
    /// The next process of a node is of this release or, if `next`, of the one after it.
    pub fn install(&mut self, node: &str, next: bool) -> Result<(), Wrong> {
        let at = self.machine(node)?;
        let (name, release) = match next {
            true => ("the next release", Release::NEXT),
            false => ("this release", Release::THIS),
        };
        self.note(at, format_args!("gets {name}"));
        self.machines[at].release = release;
        Ok(())
    }

    /// Starts a node that may be refused for its release: what it says if it does not open. If it
    /// does it may stop by itself.
    pub fn start_in_doubt(&mut self, node: &str) -> Result<Option<String>, Wrong> {
        let at = self.machine(node)?;
        match self.open(at) {
            Ok(()) => {
                self.machines[at].may_stop = true;
                Ok(None)
            }
            Err(error) => Ok(Some(error.to_string())),
        }
    }

    /// Why a node stopped last, if it did.
    pub fn last_words(&self, node: &str) -> Result<Option<&str>, Wrong> {
        Ok(self.machines[self.machine(node)?].last_words.as_deref())
    }

    /// The feature level as a node knows it; None if it does not run.
    pub fn level(&self, node: &str) -> Result<Option<u32>, Wrong> {
        let machine = &self.machines[self.machine(node)?];
        Ok(machine.node.as_ref().map(|node| node.level()))
    }

    /// A number in what a node answers to QUIRE LEVEL.
    pub fn level_figure(&mut self, node: &str, name: &str) -> Result<u64, Wrong> {
        let answer = self.ask(node, None, &["QUIRE", "LEVEL"])?;
        let found = match &answer {
            Frame::Bulk(text) => {
                let text = String::from_utf8_lossy(text);
                let (_, rest) = text.split_once(&format!("\"{name}\":")).unwrap_or_default();
                let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(0);
                rest[..digits].parse().ok()
            }
            _ => None,
        };
        found.ok_or_else(|| Wrong(format!("{node} has no {name}: {answer:?}")))
    }
}
