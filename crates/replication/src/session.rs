//! What a client has seen of each shard, so that it reads its own writes and never goes back
//! in time, whichever replica answers.

use model::{EpochHistory, Position, ShardId};

/// The positions that one session has written or read up to. Few shards a session: a list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SessionPositions {
    seen: Vec<(ShardId, Position)>,
}

/// Whether a replica that has applied up to some index may answer a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Satisfied {
    /// It has all that the session has seen.
    Yes,
    /// Not yet.
    NotYet,
    /// What the session has seen was thrown away by a failover.
    Lost,
}

impl SessionPositions {
    /// What the session has seen of `shard`.
    pub fn get(&self, shard: ShardId) -> Position {
        self.seen
            .iter()
            .find(|(s, _)| *s == shard)
            .map_or(Position::ZERO, |(_, p)| *p)
    }

    /// The session wrote or read at `position`: it never wants less again.
    pub fn advance(&mut self, shard: ShardId, position: Position) {
        match self.seen.iter_mut().find(|(s, _)| *s == shard) {
            Some((_, seen)) => *seen = (*seen).max(position),
            None => self.seen.push((shard, position)),
        }
    }

    /// Forgets what was lost, once the client has been told.
    pub fn forget(&mut self, shard: ShardId) {
        self.seen.retain(|(s, _)| *s != shard);
    }
}

/// A position (e, i) is satisfied exactly if entry i of epoch e is part of what was applied.
/// Comparing positions alone would take (e+1, 101) for newer than (e, 110), which a failover
/// threw away.
pub fn satisfied(wanted: Position, history: &EpochHistory, applied: u64) -> Satisfied {
    if wanted.index == 0 {
        Satisfied::Yes
    } else if history.discarded(wanted) {
        Satisfied::Lost
    } else if wanted.index <= applied && history.epoch_at(wanted.index) == wanted.epoch {
        Satisfied::Yes
    } else {
        Satisfied::NotYet
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_that_was_thrown_away_is_not_an_old_one() {
        let mut history = EpochHistory::default();
        history.note(Position::new(1, 1));
        history.note(Position::new(2, 101));
        let check = |e, i, applied| satisfied(Position::new(e, i), &history, applied);
        assert_eq!(check(1, 100, 100), Satisfied::Yes);
        assert_eq!(check(1, 100, 99), Satisfied::NotYet);
        assert_eq!(check(1, 110, 120), Satisfied::Lost);
        assert_eq!(check(2, 110, 120), Satisfied::Yes);
        assert_eq!(check(3, 130, 120), Satisfied::NotYet);
        assert_eq!(satisfied(Position::ZERO, &history, 0), Satisfied::Yes);
    }

    #[test]
    fn a_session_never_wants_less() {
        let mut session = SessionPositions::default();
        let shard = ShardId(1);
        session.advance(shard, Position::new(1, 5));
        session.advance(shard, Position::new(1, 3));
        assert_eq!(session.get(shard), Position::new(1, 5));
        assert_eq!(session.get(ShardId(2)), Position::ZERO);
        session.forget(shard);
        assert_eq!(session.get(shard), Position::ZERO);
    }
}
