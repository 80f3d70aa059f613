//! What the members of a group say to each other, in a shape that can't express nonsense that
//! the Raft core would trip over, and the checks that need no state.
//!
//! Peers' bytes are decoded into [`Message`] by our own codec (postcard); the core's protobuf
//! types are built from it in memory and never parsed.

use super::record::{Entry, Snapshot};
use bytes::Bytes;
use raft::eraftpb::{self, MessageType};
use serde::{Deserialize, Serialize};

/// The greatest term and index that a peer may name. Far beyond any real one, and far enough
/// from `u64::MAX` that adding to it can't overflow.
pub const NUMBER_MAX: u64 = 1 << 62;
/// The largest proposal, in bytes.
pub const PROPOSAL_BYTES_MAX: usize = 8 << 20;
/// The largest snapshot, in bytes.
pub const SNAPSHOT_BYTES_MAX: usize = 256 << 20;
/// The most entries in one message.
pub const ENTRIES_MAX: usize = 1 << 16;

/// The core's mark for a vote that a leader asked for itself.
const FORCED: &[u8] = b"CampaignTransfer";

/// One message of a group. Sender and receiver are the envelope's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// The sender's term; for a pre-vote the term that it would campaign in; 0 for
    /// [`Body::ReadIndex`] alone.
    pub term: u64,
    /// What it says.
    pub body: Body,
}

/// What a message says. The order of the variants is part of the wire format.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Body {
    /// Leader → follower: entries that follow the one at (`after_index`, `after_term`).
    Append {
        /// The entry before the first of these.
        after_index: u64,
        /// Its term.
        after_term: u64,
        /// What the leader knows to be committed.
        commit: u64,
        /// Consecutive entries.
        entries: Vec<Entry>,
    },
    /// Follower → leader.
    AppendResponse {
        /// The last index that matches, or, if `rejected`, the one that didn't.
        index: u64,
        /// What the follower knows to be committed.
        commit: u64,
        /// Where to try next, if the entry before didn't match.
        rejected: Option<Hint>,
    },
    /// Candidate → voter.
    Vote {
        /// Whether it only asks if it would win.
        pre: bool,
        /// Whether the leader asked it to campaign, so that its lease doesn't count.
        forced: bool,
        /// The candidate's last entry.
        last_index: u64,
        /// Its term.
        last_term: u64,
        /// What the candidate knows to be committed.
        commit: u64,
        /// The term of that entry.
        commit_term: u64,
    },
    /// Voter → candidate.
    VoteResponse {
        /// Whether it answers a pre-vote.
        pre: bool,
        /// Whether the vote was given.
        granted: bool,
        /// What the voter knows to be committed.
        commit: u64,
        /// The term of that entry.
        commit_term: u64,
    },
    /// Leader → follower.
    Heartbeat {
        /// What the follower has of what is committed.
        commit: u64,
        /// The read that waits for a majority to have heard this.
        read: Option<ReadContext>,
    },
    /// Follower → leader.
    HeartbeatResponse {
        /// What the follower knows to be committed.
        commit: u64,
        /// As in the heartbeat that it answers.
        read: Option<ReadContext>,
    },
    /// Leader → follower that lags beyond the leader's log.
    Snapshot(Snapshot),
    /// Leader → follower: campaign at once.
    TimeoutNow,
    /// Follower → leader: which index must I have applied to serve this read?
    ReadIndex(ReadContext),
    /// Leader → follower.
    ReadIndexResponse {
        /// The read.
        read: ReadContext,
        /// What to have applied before serving it.
        index: u64,
    },
    /// Muted follower → leader: its log matches up to here. It says so for more to be sent, and
    /// not to be counted.
    Learned {
        /// The last index that matches.
        index: u64,
        /// What the follower knows to be committed.
        commit: u64,
    },
}

/// Where a follower's log may match the leader's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hint {
    /// The last index that may match.
    pub index: u64,
    /// The follower's term there.
    pub term: u64,
}

/// Names a read for all time and for the whole group: a request number alone would repeat
/// after a restart, and a leader that still held the old request would answer with its index.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadContext {
    /// Who reads.
    pub node: u64,
    /// Which of its processes.
    pub process: u64,
    /// Which of that process's reads.
    pub request: u64,
}

impl ReadContext {
    pub(super) fn to_bytes(self) -> Bytes {
        let parts = [self.node, self.process, self.request];
        Bytes::from(parts.map(u64::to_le_bytes).concat())
    }

    pub(super) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (parts, rest) = bytes.as_chunks::<8>();
        match (parts, rest) {
            ([node, process, request], []) => Some(ReadContext {
                node: u64::from_le_bytes(*node),
                process: u64::from_le_bytes(*process),
                request: u64::from_le_bytes(*request),
            }),
            _ => None,
        }
    }
}

/// Why a peer's message was not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// It comes from outside the group.
    #[error(
        "node number {from} is not another voter of group {group}: every voter must be configured with the same list"
    )]
    Stranger {
        /// The sender's number.
        from: u64,
        /// The group.
        group: u64,
    },
    /// No member that works would say this.
    #[error("a message makes no sense: {what}")]
    Nonsense {
        /// What is wrong.
        what: &'static str,
    },
    /// It can't be true if both logs are whole.
    #[error(
        "a message contradicts this node's log: {what}; one of the two lost what it had made durable (was a data directory emptied or restored?)"
    )]
    Contradiction {
        /// What is wrong.
        what: &'static str,
    },
    /// More waits for the disk than may wait; the sender repeats itself.
    #[error("too much waits for the disk; the sender will repeat itself")]
    Busy,
}

impl Message {
    /// The checks that need no state: numbers in range, entries consecutive and of growing
    /// terms, sizes bounded; a snapshot of other voters than these, if they are known.
    pub fn check(&self, voters: Option<&[u64]>) -> Result<(), Refused> {
        let nonsense = |what| Err(Refused::Nonsense { what });
        let in_range = |numbers: &[u64]| numbers.iter().all(|n| *n <= NUMBER_MAX);
        let is_read = matches!(self.body, Body::ReadIndex(_));
        if (self.term == 0) != is_read || self.term > NUMBER_MAX {
            return nonsense("its term is out of range");
        }
        let numbers_fine = match &self.body {
            Body::Append {
                after_index,
                after_term,
                commit,
                entries,
            } => {
                if entries.len() > ENTRIES_MAX {
                    return nonsense("it holds too many entries");
                }
                if (*after_index == 0) != (*after_term == 0) {
                    return nonsense("an index without a term, or a term without an index");
                }
                let (mut index, mut term) = (*after_index, *after_term);
                for e in entries {
                    let follows = e.index.checked_sub(1) == Some(index);
                    if !follows || e.term == 0 || e.term < term || e.term > self.term {
                        return nonsense("its entries don't follow each other");
                    }
                    if e.data.len() > PROPOSAL_BYTES_MAX {
                        return nonsense("an entry is too large");
                    }
                    (index, term) = (e.index, e.term);
                }
                *after_term <= self.term && in_range(&[*after_index, *commit, index])
            }
            Body::AppendResponse {
                index,
                commit,
                rejected,
            } => {
                let hint = rejected.unwrap_or(Hint { index: 0, term: 0 });
                in_range(&[*index, *commit, hint.index, hint.term])
            }
            Body::Vote {
                last_index,
                last_term,
                commit,
                commit_term,
                ..
            } => in_range(&[*last_index, *last_term, *commit, *commit_term]),
            Body::VoteResponse {
                commit,
                commit_term,
                ..
            } => in_range(&[*commit, *commit_term]),
            Body::Heartbeat { commit, .. } | Body::HeartbeatResponse { commit, .. } => {
                in_range(&[*commit])
            }
            Body::Snapshot(s) => {
                if s.data.len() > SNAPSHOT_BYTES_MAX {
                    return nonsense("its snapshot is too large");
                }
                if voters.is_some_and(|voters| s.voters != voters) {
                    return nonsense("its snapshot is of a group with other voters");
                }
                s.index > 0 && s.term > 0 && s.term <= self.term && in_range(&[s.index])
            }
            Body::TimeoutNow | Body::ReadIndex(_) => true,
            Body::ReadIndexResponse { index, .. } => in_range(&[*index]),
            Body::Learned { index, commit } => in_range(&[*index, *commit]),
        };
        if numbers_fine {
            Ok(())
        } else {
            nonsense("a number is out of range")
        }
    }

    /// Whether only a leader says this.
    pub(super) fn is_of_a_leader(&self) -> bool {
        matches!(
            self.body,
            Body::Append { .. } | Body::Heartbeat { .. } | Body::Snapshot(_)
        )
    }

    /// The read that it asks for, if it does.
    pub(super) fn read_asked(&self) -> Option<ReadContext> {
        match self.body {
            Body::ReadIndex(read) => Some(read),
            _ => None,
        }
    }

    /// The same for the Raft core.
    pub(super) fn into_raft(self, from: u64, to: u64) -> eraftpb::Message {
        let mut m = eraftpb::Message {
            from,
            to,
            term: self.term,
            ..Default::default()
        };
        match self.body {
            Body::Append {
                after_index,
                after_term,
                commit,
                entries,
            } => {
                m.set_msg_type(MessageType::MsgAppend);
                (m.index, m.log_term, m.commit) = (after_index, after_term, commit);
                let entries: Vec<_> = entries.into_iter().map(Entry::into_raft).collect();
                m.set_entries(entries.into());
            }
            Body::AppendResponse {
                index,
                commit,
                rejected,
            } => {
                m.set_msg_type(MessageType::MsgAppendResponse);
                (m.index, m.commit) = (index, commit);
                if let Some(hint) = rejected {
                    m.reject = true;
                    (m.reject_hint, m.log_term) = (hint.index, hint.term);
                }
            }
            Body::Vote {
                pre,
                forced,
                last_index,
                last_term,
                commit,
                commit_term,
            } => {
                m.set_msg_type(if pre {
                    MessageType::MsgRequestPreVote
                } else {
                    MessageType::MsgRequestVote
                });
                (m.index, m.log_term) = (last_index, last_term);
                (m.commit, m.commit_term) = (commit, commit_term);
                if forced {
                    m.context = Bytes::from_static(FORCED);
                }
            }
            Body::VoteResponse {
                pre,
                granted,
                commit,
                commit_term,
            } => {
                m.set_msg_type(if pre {
                    MessageType::MsgRequestPreVoteResponse
                } else {
                    MessageType::MsgRequestVoteResponse
                });
                m.reject = !granted;
                (m.commit, m.commit_term) = (commit, commit_term);
            }
            Body::Heartbeat { commit, read } => {
                m.set_msg_type(MessageType::MsgHeartbeat);
                m.commit = commit;
                m.context = read.map(ReadContext::to_bytes).unwrap_or_default();
            }
            Body::HeartbeatResponse { commit, read } => {
                m.set_msg_type(MessageType::MsgHeartbeatResponse);
                m.commit = commit;
                m.context = read.map(ReadContext::to_bytes).unwrap_or_default();
            }
            Body::Snapshot(snapshot) => {
                m.set_msg_type(MessageType::MsgSnapshot);
                m.set_snapshot(snapshot.into_raft());
            }
            Body::TimeoutNow => m.set_msg_type(MessageType::MsgTimeoutNow),
            Body::ReadIndex(read) => {
                m.set_msg_type(MessageType::MsgReadIndex);
                m.set_entries(vec![read_entry(read)].into());
            }
            Body::ReadIndexResponse { read, index } => {
                m.set_msg_type(MessageType::MsgReadIndexResp);
                m.index = index;
                m.set_entries(vec![read_entry(read)].into());
            }
            // What matches is for the group alone to know.
            Body::Learned { commit, .. } => {
                m.set_msg_type(MessageType::MsgAppendResponse);
                m.commit = commit;
            }
        }
        m
    }

    /// As a muted member says it: nothing that would be counted, for an entry, for a read or
    /// for a vote.
    pub(super) fn muted(mut self) -> Self {
        match &mut self.body {
            Body::AppendResponse {
                index,
                commit,
                rejected: None,
            } => {
                let (index, commit) = (*index, *commit);
                self.body = Body::Learned { index, commit };
            }
            Body::HeartbeatResponse { read, .. } => *read = None,
            _ => {}
        }
        self
    }

    /// What the Raft core wants sent, and to whom. None for what only ever goes to itself.
    pub(super) fn from_raft(mut m: eraftpb::Message) -> Option<(u64, Message)> {
        let read = ReadContext::from_bytes(&m.context);
        let (commit, commit_term) = (m.commit, m.commit_term);
        let asked = || {
            let entry = m.entries.first()?;
            ReadContext::from_bytes(&entry.data)
        };
        let body = match m.msg_type {
            MessageType::MsgAppend => Body::Append {
                after_index: m.index,
                after_term: m.log_term,
                commit,
                entries: m.take_entries().into_iter().map(Entry::from_raft).collect(),
            },
            MessageType::MsgAppendResponse => Body::AppendResponse {
                index: m.index,
                commit,
                rejected: m.reject.then_some(Hint {
                    index: m.reject_hint,
                    term: m.log_term,
                }),
            },
            MessageType::MsgRequestVote | MessageType::MsgRequestPreVote => Body::Vote {
                pre: m.msg_type == MessageType::MsgRequestPreVote,
                forced: m.context == FORCED,
                last_index: m.index,
                last_term: m.log_term,
                commit,
                commit_term,
            },
            MessageType::MsgRequestVoteResponse | MessageType::MsgRequestPreVoteResponse => {
                Body::VoteResponse {
                    pre: m.msg_type == MessageType::MsgRequestPreVoteResponse,
                    granted: !m.reject,
                    commit,
                    commit_term,
                }
            }
            MessageType::MsgHeartbeat => Body::Heartbeat { commit, read },
            MessageType::MsgHeartbeatResponse => Body::HeartbeatResponse { commit, read },
            MessageType::MsgSnapshot => Body::Snapshot(Snapshot::from_raft(m.take_snapshot())),
            MessageType::MsgTimeoutNow => Body::TimeoutNow,
            MessageType::MsgReadIndex => Body::ReadIndex(asked()?),
            MessageType::MsgReadIndexResp => Body::ReadIndexResponse {
                read: asked()?,
                index: m.index,
            },
            MessageType::MsgHup
            | MessageType::MsgBeat
            | MessageType::MsgPropose
            | MessageType::MsgUnreachable
            | MessageType::MsgSnapStatus
            | MessageType::MsgCheckQuorum
            | MessageType::MsgTransferLeader => return None,
        };
        Some((m.to, Message { term: m.term, body }))
    }
}

pub(super) fn read_entry(read: ReadContext) -> eraftpb::Entry {
    eraftpb::Entry {
        data: read.to_bytes(),
        ..Default::default()
    }
}
