//! Whether a command may be evaluated at a replica, and over which view; or where else it goes.
//!
//! | | primary under its lease | replica that may be read | any other |
//! |---|---|---|---|
//! | write | tip | elsewhere | elsewhere |
//! | read, session satisfied | committed | committed | elsewhere |
//! | read, session not satisfied yet | tip | later | elsewhere |
//! | read that must show what is in flight | tip | elsewhere | elsewhere |
//! | session has seen what was thrown away | lost | lost, if it may be read here | elsewhere |
//!
//! A replica may be read that follows its primary, has heard of it (is fresh as of some moment),
//! and whose disk answers: what is not in memory could only be waited for.
//!
//! A node whose standing is in doubt, since it may be another that the cluster means, answers
//! nothing at all.

use crate::evaluate::ReadFrom;
use replication::{protocol::Role, session::Satisfied};

/// What a command asks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Question {
    pub(crate) is_write: bool,
    /// Who may answer it, if it is a read.
    pub(crate) read_from: ReadFrom,
    /// Whether the replica has what the session has seen.
    pub(crate) sees: Satisfied,
}

/// How a replica and its node stand.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Here {
    pub(crate) role: Role,
    /// Whether the node's lease runs.
    pub(crate) is_leased: bool,
    /// Whether it was ever as fresh as its primary.
    pub(crate) is_fresh: bool,
    /// Whether the node's disk answers nothing.
    pub(crate) is_stalled: bool,
    /// Whether the node is who it says it is.
    pub(crate) is_sound: bool,
}

/// What a command is evaluated over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Over {
    /// What is committed.
    Committed,
    /// That, and what is in flight above it: the answer waits for what it shows.
    Tip,
}

/// What may be done with a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Admission {
    /// It is evaluated here.
    Over(Over),
    /// It waits here until the replica has what the session has seen.
    Later,
    /// It goes to another replica, or waits for one; nothing was done.
    Elsewhere,
    /// What the session has seen was thrown away, and it has to be told. An answer would show the
    /// loss, and move the session past it, without a word.
    Lost,
}

impl Here {
    /// Whether it acts as primary.
    pub(crate) fn is_primary(&self) -> bool {
        self.role == Role::Primary && self.is_leased
    }
}

/// What may be done with a command here.
pub(crate) fn admit(question: Question, here: Here) -> Admission {
    let Question {
        is_write,
        read_from,
        sees,
    } = question;
    let may_be_read = here.role == Role::Replica && here.is_fresh && !here.is_stalled;
    let by_replica = !is_write && read_from == ReadFrom::Any;
    if !here.is_sound || !(here.is_primary() || by_replica && may_be_read) {
        return Admission::Elsewhere;
    }
    match sees {
        Satisfied::Lost => Admission::Lost,
        _ if is_write || read_from == ReadFrom::PrimaryTip => Admission::Over(Over::Tip),
        Satisfied::Yes => Admission::Over(Over::Committed),
        // Behind its own writes in flight: read now, before later ones of the same connection
        // come.
        Satisfied::NotYet if here.is_primary() => Admission::Over(Over::Tip),
        Satisfied::NotYet => Admission::Later,
    }
}

/// What becomes of a read of committed data that met a key whose time is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Expired {
    /// The key's deletion is committed before the read is answered.
    Delete,
    /// The answer leaves the key out, and promises nothing of it.
    LeaveOut,
    /// The read goes to the primary: a later primary with a clock behind would show the key
    /// again, and only a committed deletion keeps it from that.
    Elsewhere,
}

/// What becomes of a read that met such a key. `lists`: it lists keys.
pub(crate) fn met_expired(is_primary: bool, lists: bool) -> Expired {
    match (is_primary, lists) {
        (true, _) => Expired::Delete,
        (false, true) => Expired::LeaveOut,
        (false, false) => Expired::Elsewhere,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROLES: [Role; 4] = [Role::Primary, Role::Starting, Role::Replica, Role::Learner];
    const READ_FROM: [ReadFrom; 3] = [ReadFrom::Any, ReadFrom::Primary, ReadFrom::PrimaryTip];
    const SEES: [Satisfied; 3] = [Satisfied::Yes, Satisfied::NotYet, Satisfied::Lost];

    fn primary() -> Here {
        Here {
            role: Role::Primary,
            is_leased: true,
            is_fresh: true,
            is_stalled: false,
            is_sound: true,
        }
    }

    fn replica() -> Here {
        Here {
            role: Role::Replica,
            is_leased: false,
            ..primary()
        }
    }

    #[test]
    fn the_table_of_what_may_be_done() {
        let (committed, tip) = (Admission::Over(Over::Committed), Admission::Over(Over::Tip));
        let (later, elsewhere, lost) = (Admission::Later, Admission::Elsewhere, Admission::Lost);
        // For each: what is seen (yes, not yet, lost) at the primary, then at a replica.
        let rows = [
            (true, ReadFrom::Any, [tip, tip, lost], [elsewhere; 3]),
            (
                false,
                ReadFrom::Any,
                [committed, tip, lost],
                [committed, later, lost],
            ),
            (
                false,
                ReadFrom::Primary,
                [committed, tip, lost],
                [elsewhere; 3],
            ),
            (
                false,
                ReadFrom::PrimaryTip,
                [tip, tip, lost],
                [elsewhere; 3],
            ),
        ];
        for (is_write, read_from, at_primary, at_replica) in rows {
            for (here, row) in [(primary(), at_primary), (replica(), at_replica)] {
                for (sees, expected) in SEES.into_iter().zip(row) {
                    let question = Question {
                        is_write,
                        read_from,
                        sees,
                    };
                    assert_eq!(admit(question, here), expected, "{question:?} {here:?}");
                }
            }
        }
    }

    /// Whatever it is asked, who may not answer does not.
    #[test]
    fn nobody_answers_who_may_not() {
        let bools = [false, true];
        let mut asked = 0;
        for role in ROLES {
            for (is_leased, is_fresh) in bools.iter().flat_map(|a| bools.map(|b| (*a, b))) {
                for (is_stalled, is_sound) in bools.iter().flat_map(|a| bools.map(|b| (*a, b))) {
                    let here = Here {
                        role,
                        is_leased,
                        is_fresh,
                        is_stalled,
                        is_sound,
                    };
                    for (is_write, read_from) in
                        bools.iter().flat_map(|w| READ_FROM.map(|r| (*w, r)))
                    {
                        for sees in SEES {
                            let question = Question {
                                is_write,
                                read_from,
                                sees,
                            };
                            let admission = admit(question, here);
                            let acts = role == Role::Primary && is_leased && is_sound;
                            let reads = role == Role::Replica
                                && is_fresh
                                && is_sound
                                && !is_stalled
                                && !is_write
                                && read_from == ReadFrom::Any;
                            assert_eq!(admission != Admission::Elsewhere, acts || reads);
                            if admission == Admission::Over(Over::Tip) {
                                assert!(acts);
                            }
                            if admission == Admission::Over(Over::Committed) {
                                assert!(!is_write && sees == Satisfied::Yes);
                            }
                            asked += 1;
                        }
                    }
                }
            }
        }
        assert_eq!(asked, 4 * 16 * 6 * 3);
    }
}
