//! Reading the whole log again, beside its owner, to find what has decayed.

use std::sync::Arc;

use super::segment::{BatchReader, Segment, Step};
use super::{Log, Lsn};

/// Damage that was found below what is durable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decay {
    /// The segment.
    sequence: u64,
    /// What is wrong and where, for people.
    pub what: String,
}

/// The durable part of the log as it is now. To be read wherever blocking is allowed.
#[must_use]
pub struct ScrubLog {
    /// Each with where it ends.
    segments: Vec<(Arc<Segment>, Lsn)>,
}

impl ScrubLog {
    /// Reads it; `paced` is told how many bytes were read, and ends it by false. A segment that is
    /// released meanwhile, and written to again, is found damaged too: [`Log::is_decayed`] says
    /// what counts.
    pub fn run(self, paced: &mut dyn FnMut(u64) -> bool) -> Vec<Decay> {
        let mut found = Vec::new();
        for (segment, end) in self.segments {
            let first = segment.header.first;
            let mut reader = BatchReader::new(&segment, first, end.max(first), None);
            let mut at = reader.at();
            let damaged = loop {
                match reader.next() {
                    Ok(Step::Batch(_)) => {}
                    Ok(Step::End) if reader.at() >= end => break None,
                    Ok(Step::End) => {
                        let what = "zeros in place of a batch";
                        break Some(segment.corrupt(reader.at(), what).to_string());
                    }
                    Ok(Step::Damaged(what)) => {
                        break Some(segment.corrupt(reader.at(), what).to_string());
                    }
                    Err(error) => break Some(error.to_string()),
                }
                let bytes = reader.at().0 - at.0;
                at = reader.at();
                if !paced(bytes) {
                    return found;
                }
            };
            found.extend(damaged.map(|what| Decay {
                sequence: segment.header.sequence,
                what,
            }));
        }
        found
    }
}

impl Log {
    /// What there is to read again.
    pub fn scrub(&self) -> ScrubLog {
        let ends = (self.segments.iter().skip(1)).map(|live| live.segment.header.first);
        let segments = (self.segments.iter()).zip(ends.chain([self.durable]));
        ScrubLog {
            segments: segments
                .map(|(live, end)| (Arc::clone(&live.segment), end))
                .collect(),
        }
    }

    /// Whether damage is still in the log, and where the segment ends that has it; for the one that is
    /// written to now that is not known yet.
    pub fn is_decayed(&self, decay: &Decay) -> Option<Option<Lsn>> {
        let sequence = |live: &super::LiveSegment| live.segment.header.sequence;
        let at = (self.segments.iter()).position(|live| sequence(live) == decay.sequence)?;
        Some(
            self.segments
                .get(at + 1)
                .map(|next| next.segment.header.first),
        )
    }
}
