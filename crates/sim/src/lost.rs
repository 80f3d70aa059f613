//! What failovers lost, by the files that nodes saved of it (`node::rewound` describes them).

use serde_json::Value as Json;
use std::{collections::BTreeSet, io};
use storage::disk::Disk;

/// The changes that some finished file holds, each by its key and its mark: the field of a
/// hash; of a text that is appended to, what was appended; else the value.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lost {
    changes: BTreeSet<(String, String)>,
    files: u64,
}

/// What ends each piece of a text that is appended to.
pub(crate) const PIECE_END: char = ';';

impl Lost {
    /// Whether such a change is in some file.
    pub fn holds(&self, key: &str, mark: &str) -> bool {
        self.changes.contains(&(key.to_owned(), mark.to_owned()))
    }

    pub(crate) fn add(&mut self, key: &str, mark: &str) {
        self.changes.insert((key.to_owned(), mark.to_owned()));
    }

    /// How many changes.
    pub fn changes(&self) -> usize {
        self.changes.len()
    }

    /// How many finished files held something.
    pub fn files(&self) -> u64 {
        self.files
    }

    /// Reads all finished files of a directory. A file without its last line was not finished,
    /// and nothing had been taken back.
    pub(crate) fn read(&mut self, disk: &dyn Disk) -> io::Result<()> {
        for name in disk.list()? {
            if !name.ends_with(".jsonl") {
                continue;
            }
            let file = disk.open(&name)?;
            let mut text = vec![0; file.len()? as usize];
            let read = file.read_at(0, &mut text)?;
            text.truncate(read);
            let lines: Vec<Json> = text
                .split(|b| *b == b'\n')
                .filter_map(|line| serde_json::from_slice(line).ok())
                .collect();
            if lines.last().is_none_or(|last| last["end"] != true) {
                continue;
            }
            self.files += 1;
            let effects = lines.iter().filter_map(|line| line["effects"].as_array());
            for effect in effects.flatten() {
                self.effect(effect);
            }
        }
        Ok(())
    }

    fn effect(&mut self, effect: &Json) {
        let Some(key) = effect["key"].as_str() else {
            return;
        };
        match effect["op"].as_str() {
            Some("set") => {
                if let Some(value) = effect["value"].as_str() {
                    self.add(key, mark(value));
                }
            }
            Some("hset") => {
                let pairs = effect["fields"].as_array();
                for pair in pairs.into_iter().flatten() {
                    if let Some(field) = pair[0].as_str() {
                        self.add(key, field);
                    }
                }
            }
            _ => {}
        }
    }
}

/// The last piece of a text, or the whole value.
fn mark(value: &str) -> &str {
    let Some(pieces) = value.strip_suffix(PIECE_END) else {
        return value;
    };
    let from = pieces.rfind(PIECE_END).map_or(0, |at| at + 1);
    &value[from..]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_known_by_its_last_piece() {
        assert_eq!(mark("17"), "17");
        assert_eq!(mark("c1.1;"), "c1.1;");
        assert_eq!(mark("c1.1;c2.7;"), "c2.7;");
    }
}
