//! A full copy of a shard: pinned at one position and read in chunks by the sender, written
//! into an emptied store by the receiver while the sender goes on writing.

use super::{
    due::News,
    error::StoreError,
    expiring::Counting,
    layout::{
        Applied, END, FORMAT, FORMAT_VERSION, INSTALLING, LOCAL, REWINDING, bad_value, check_copied,
    },
    rewind::Rewinding,
    rows::{RowBatch, Rows, RowsSnapshot},
    shard::{ShardStore, put_applied},
};
use bytes::{BufMut, Bytes, BytesMut};
use model::{Position, codec::Reader};

/// A shard as it was at one position. Holding it costs the files that it sees.
pub struct ShardSnapshot<S> {
    pub(super) rows: S,
    pub(super) applied: Applied,
}

/// Why a store is being filled, as the row `minstalling` says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Filling {
    /// Others have gone further, or it is new.
    Behind,
    /// What was here was damaged, in these words, and nothing else has been done about it.
    Lost(String),
    /// What was here was damaged: all that it may have acknowledged lies at or below this position.
    Upto(Position),
}

impl Filling {
    /// Nothing; or 1, epoch u64 LE, index u64 LE; or text.
    fn encode(&self) -> Bytes {
        let mut out = BytesMut::new();
        match self {
            Filling::Behind => {}
            Filling::Lost(what) => out.put_slice(what.as_bytes()),
            Filling::Upto(position) => {
                out.put_u8(1);
                out.put_u64_le(position.epoch.0);
                out.put_u64_le(position.index);
            }
        }
        out.freeze()
    }

    pub(super) fn decode(bytes: Bytes) -> Result<Self, StoreError> {
        if bytes.first() != Some(&1) {
            let text = String::from_utf8_lossy(&bytes).into_owned();
            return Ok(if text.is_empty() {
                Filling::Behind
            } else {
                Filling::Lost(text)
            });
        }
        let mut r = Reader::new("filling", bytes.slice(1..));
        let mut position = || Ok(Position::new(r.u64()?, r.u64()?));
        let position = position().map_err(|e| bad_value(INSTALLING, &e))?;
        Ok(Filling::Upto(position))
    }
}

/// Some rows of a copy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Chunk {
    /// Row keys and values, in order.
    pub rows: Vec<(Bytes, Bytes)>,
    /// The row to ask for next; None at the end.
    pub next: Option<Vec<u8>>,
}

impl<S: RowsSnapshot> ShardSnapshot<S> {
    /// The position it is pinned at, and what goes with it.
    pub fn applied(&self) -> &Applied {
        &self.applied
    }

    /// The rows from `from` (None: the first) on, without local ones: at least one, and no
    /// more once their bytes reach `bytes_max`.
    pub fn next_chunk(&self, from: Option<&[u8]>, bytes_max: usize) -> Result<Chunk, StoreError> {
        let mut chunk = Chunk::default();
        let mut bytes = 0;
        self.rows
            .scan(from.unwrap_or_default(), END, &mut |row, value| {
                if row.first() == Some(&LOCAL) {
                    return true;
                }
                if bytes >= bytes_max && !chunk.rows.is_empty() {
                    chunk.next = Some(row.to_vec());
                    return false;
                }
                bytes += row.len() + value.len();
                let row = Bytes::copy_from_slice(row);
                chunk.rows.push((row, Bytes::copy_from_slice(value)));
                true
            })?;
        Ok(chunk)
    }
}

impl<R: Rows> ShardStore<R> {
    /// Pins the shard as it is now.
    pub fn snapshot(&self) -> Result<ShardSnapshot<R::Snapshot>, StoreError> {
        self.check_serving()?;
        Ok(ShardSnapshot {
            rows: self.rows.snapshot(),
            applied: self.applied.clone(),
        })
    }

    /// Empties the store, durably, to take a copy. Begin again at will.
    pub fn begin_install(&mut self) -> Result<(), StoreError> {
        let filling = match self.filling.take() {
            Some(filling @ Filling::Upto(_)) => filling,
            _ => Filling::Behind,
        };
        self.install_from_nothing(filling)
    }

    /// The same in place of a store that was damaged. What it may have acknowledged in the epoch of
    /// `upto` lies at or below that: if the copy is as of less, the store is not serving before it
    /// is there, as after a rewind.
    pub fn begin_install_upto(&mut self, upto: Position) -> Result<(), StoreError> {
        self.install_from_nothing(Filling::Upto(upto))
    }

    fn install_from_nothing(&mut self, filling: Filling) -> Result<(), StoreError> {
        let mut batch = RowBatch::new();
        batch.put(FORMAT, &[FORMAT_VERSION]);
        batch.put(INSTALLING, &filling.encode());
        self.rows.reset(&mut batch)?;
        self.clear_cache();
        self.applied = Applied::default();
        self.rewinding = None;
        self.filling = Some(filling);
        Ok(())
    }

    /// Whether its store was damaged, which is set aside, and why: it is empty, and nothing of the
    /// shard's log that others may lack has been saved yet. Until a copy is begun.
    pub fn lost_to(&self) -> Option<&str> {
        match &self.filling {
            Some(Filling::Lost(what)) => Some(what),
            _ => None,
        }
    }

    /// The rows that take the place of a store that is `damaged`.
    pub fn in_place_of_damaged(damaged: &str) -> RowBatch {
        let mut batch = RowBatch::new();
        batch.put(FORMAT, &[FORMAT_VERSION]);
        let filling = Filling::Lost(damaged.replace('\u{1}', " "));
        batch.put(INSTALLING, &filling.encode());
        batch
    }

    /// Takes rows of a copy, in any order, each once or more often; returns how many of them are
    /// key rows. Rows that are not well-formed are refused, with all of their chunk.
    pub fn install_chunk(&mut self, rows: &[(Bytes, Bytes)]) -> Result<u64, StoreError> {
        if self.filling.is_none() {
            return Err(StoreError::NotInstalling);
        }
        let mut batch = RowBatch::new();
        let mut keys = 0;
        for (row, value) in rows {
            keys += u64::from(check_copied(row, value)?.is_head);
            batch.put(row, value);
        }
        self.rows.write(&mut batch)?;
        Ok(keys)
    }

    /// All rows are here: the store is now at `applied`, durably.
    pub fn finish_install(&mut self, applied: Applied) -> Result<(), StoreError> {
        let Some(filling) = &self.filling else {
            return Err(StoreError::NotInstalling);
        };
        let until = match filling {
            // A primary of a later epoch was named without this replica.
            Filling::Upto(upto) if applied.position.epoch <= upto.epoch => Some(*upto),
            _ => None,
        };
        let until = until.filter(|until| applied.position.index < until.index);
        let rewinding = until.map(Rewinding::of_nothing);
        let mut batch = RowBatch::new();
        batch.remove(INSTALLING);
        if let Some(rewinding) = &rewinding {
            batch.put(REWINDING, &rewinding.encode());
        }
        put_applied(&mut batch, &applied);
        self.rows.write(&mut batch)?;
        self.rows.flush()?;
        self.applied = applied;
        self.rewinding = rewinding;
        self.filling = None;
        self.news = News::ANYTHING;
        self.expiring = Counting::begin();
        Ok(())
    }

    /// Whether a copy is under way, or was cut short by a crash: it must begin again.
    pub fn is_installing(&self) -> bool {
        self.filling.is_some()
    }
}
