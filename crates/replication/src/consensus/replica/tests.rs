use super::{
    message::{Beside, Letter},
    *,
};
use crate::{
    conformance::{self, Cluster, Dice, NODES, Rules},
    consensus::{Body, Message, ReadContext},
    protocol::Election,
};
use model::{Region, ShardId};

/// Three voters, one of which may be preferred.
struct Voters {
    preferred: Option<Region>,
    faults_one_in: u64,
}

impl Rules for Voters {
    type Replica = Consensus;

    fn replica(identity: Identity, recovered: Recovered) -> Consensus {
        let tuning = Tuning {
            tail_bytes: 300, // a handful of entries, so that the log is read too
            message_bytes: 120,
        };
        Consensus::new(identity, recovered, tuning)
    }

    fn faults_one_in(&self) -> u64 {
        self.faults_one_in
    }

    fn started(&mut self, node: usize) -> Vec<usize> {
        vec![node]
    }

    fn office(&self, _node: usize, cluster: &Cluster) -> Office {
        assert_eq!(cluster.disks.len(), NODES);
        Office::Consensus(Election {
            preferred: self.preferred.clone(),
            founding: cluster.founding,
            wanted: cluster.disks.clone(),
            wish: (cluster.version, 0),
        })
    }

    fn disks_go(&self) -> bool {
        true
    }
}

#[test]
fn conforms() {
    let preferred = [None, Region::new("us").ok(), Region::new("eu").ok()];
    let happened = conformance::run(1200, 4000, |seed| Voters {
        faults_one_in: [2, 4, 10][seed as usize / 3 % 3],
        preferred: preferred[seed as usize % 3].clone(),
    });
    let enough = happened.reads > 500 && happened.epochs > 1000 && happened.acknowledged > 100_000;
    assert!(enough && happened.members > 500, "{happened:?}");
}

// ---- one member, told by hand what others say ------------------------------------------------

const SHARD: ShardId = ShardId(1);

fn name(n: u64) -> NodeId {
    NodeId::new(&format!("us-{n}")).unwrap()
}

fn id(n: u64) -> u64 {
    conformance::disk(&name(n)).0
}

/// A member, and what its disk was given.
struct Alone {
    replica: Consensus,
    note: Option<Bytes>,
    notes: u64,
    entries: Vec<Entry>,
    now_ms: u64,
}

impl Alone {
    fn new(found: Recovered) -> Self {
        let us = Region::new("us").unwrap();
        let identity = Identity {
            node: name(1),
            region: us.clone(),
            shard: SHARD,
            disk: conformance::disk(&name(1)),
            boot: 7,
        };
        let note = found.note.clone();
        let mut alone = Alone {
            replica: Consensus::new(identity, found, Tuning::default()),
            note,
            notes: 0,
            entries: Vec::new(),
            now_ms: 1,
        };
        let assignment = Assignment {
            shard: SHARD,
            members: (1..=3)
                .map(|n| conformance::member(&name(n), &us))
                .collect(),
            office: Office::Consensus(Election {
                preferred: Some(us),
                founding: true,
                wish: (0, 0),
                wanted: (1..=3)
                    .map(|n| (name(n), conformance::disk(&name(n))))
                    .collect(),
            }),
        };
        alone.replica.assign(assignment, Now::at_ms(1));
        alone
    }

    /// As it comes back after a crash, its disk having all that it was given.
    fn restarted(self) -> Self {
        let mut history = EpochHistory::default();
        self.entries.iter().for_each(|e| history.note(e.position));
        let last = self.entries.last();
        let mut again = Alone::new(Recovered {
            history,
            last: last.map_or(Position::ZERO, |e| e.position),
            first_index: 1,
            note: self.note,
            ..Recovered::default()
        });
        again.entries = self.entries;
        again
    }

    fn told(&mut self, from: u64, term: u64, body: Body) {
        self.told_entries(from, term, body, &[]);
    }

    fn told_entries(&mut self, from: u64, term: u64, body: Body, entries: &[Entry]) {
        let term_told = match body {
            Body::ReadIndex(_) => 0,
            _ => term,
        };
        let letter = Letter {
            from: id(from),
            to: id(1),
            beside: Beside {
                term,
                ..Beside::default()
            },
            message: Message {
                term: term_told,
                body,
            },
            entries: entries.to_vec(),
        };
        let bytes = letter.encode().into_bytes();
        self.replica
            .receive(&name(from), bytes, Now::at_ms(self.now_ms));
    }

    fn appended(&mut self, from: u64, term: u64, after: (u64, u64), entries: &[Entry]) {
        let (after_term, after_index) = after;
        let body = Body::Append {
            after_index,
            after_term,
            commit: 0,
            entries: Vec::new(),
        };
        self.told_entries(from, term, body, entries);
    }

    /// What it sends before its disk has done anything more, and what it wants otherwise.
    fn said(&mut self) -> (Vec<(u64, Message)>, Vec<Output>) {
        let (mut sent, mut wanted) = (Vec::new(), Vec::new());
        while let Some(output) = self.replica.poll(Now::at_ms(self.now_ms)) {
            match output {
                Output::Send { message, .. } => {
                    let letter = Letter::decode(message.into_bytes()).unwrap();
                    sent.push((letter.to, letter.message));
                }
                Output::Note { number, bytes } => {
                    (self.notes, self.note) = (number, Some(bytes));
                }
                Output::Append { entry, .. } => self.entries.push(entry),
                Output::Truncate { after } => self.entries.truncate(after as usize),
                other => wanted.push(other),
            }
        }
        (sent, wanted)
    }

    /// The disk has done all that it was given: what is said then.
    fn synced(&mut self) -> (Vec<(u64, Message)>, Vec<Output>) {
        let (mut sent, mut wanted) = self.said();
        let now = Now::at_ms(self.now_ms);
        let last = self.entries.last().map_or(0, |e| e.position.index);
        self.replica.durable(last, now);
        self.replica.noted(self.notes, now);
        let more = self.said();
        sent.extend(more.0);
        wanted.extend(more.1);
        (sent, wanted)
    }
}

fn asks_for_vote(last: (u64, u64)) -> Body {
    let (last_term, last_index) = last;
    Body::Vote {
        pre: false,
        forced: false,
        last_index,
        last_term,
        commit: 0,
        commit_term: 0,
    }
}

fn votes(sent: &[(u64, Message)]) -> Vec<(u64, bool)> {
    let vote = |(to, message): &(u64, Message)| match message.body {
        Body::VoteResponse {
            pre: false,
            granted,
            ..
        } => Some((*to, granted)),
        _ => None,
    };
    sent.iter().filter_map(vote).collect()
}

fn entry(term: u64, index: u64) -> Entry {
    let at = Position::new(term, index);
    Entry::new(at, Stamp(index), EntryKind::Mutation, 1, b"x")
}

fn entries(term: u64, indexes: std::ops::RangeInclusive<u64>) -> Vec<Entry> {
    indexes.map(|index| entry(term, index)).collect()
}

#[test]
fn a_vote_is_on_the_disk_before_it_is_given_and_given_once() {
    let mut alone = Alone::new(Recovered::default());
    alone.synced();
    alone.told(2, 5, asks_for_vote((0, 0)));
    assert_eq!(votes(&alone.said().0), []);
    assert_eq!(votes(&alone.synced().0), [(id(2), true)]);
    let mut again = alone.restarted();
    again.synced();
    again.told(3, 5, asks_for_vote((0, 0)));
    assert_eq!(votes(&again.synced().0), [(id(3), false)]);
    // Nor does it go back to an earlier term.
    again.told(3, 4, asks_for_vote((0, 0)));
    assert_eq!(votes(&again.synced().0), []);
    again.told(2, 5, asks_for_vote((0, 0)));
    assert_eq!(votes(&again.synced().0), [(id(2), true)]);
}

#[test]
fn what_was_acknowledged_and_given_up_for_a_copy_is_owed() {
    let mut alone = Alone::new(Recovered::default());
    alone.synced();
    alone.appended(2, 5, (0, 0), &entries(5, 1..=9));
    alone.synced();
    // The next leader's log begins behind what is here, and has another entry 9.
    let snapshot = |index| {
        Body::Snapshot(crate::consensus::Snapshot {
            index,
            term: 7,
            voters: {
                let mut voters = vec![id(1), id(2), id(3)];
                voters.sort_unstable();
                voters
            },
            data: Bytes::new(),
        })
    };
    alone.told(3, 7, snapshot(12));
    let copies = |wanted: &[Output]| {
        let copy = |o: &&Output| matches!(o, Output::NeedsCopy { from, .. } if *from == name(3));
        wanted.iter().filter(copy).count()
    };
    // The debt is on the disk before the log goes.
    assert_eq!(copies(&alone.said().1), 0);
    assert_eq!(copies(&alone.synced().1), 1);
    let mut history = EpochHistory::default();
    history.note(Position::new(5, 1));
    let at = Position::new(5, 8);
    alone.entries.truncate(8);
    alone.replica.installed(
        Copied {
            at,
            history,
            stamp: Stamp(8),
            ..Copied::default()
        },
        Now::at_ms(1),
    );
    let mut again = alone.restarted();
    again.synced();
    again.told(2, 8, asks_for_vote((5, 8)));
    assert_eq!(votes(&again.synced().0), [], "it had 9");
    // Whose log is as new as what it had can have its vote: else two that owe could elect nobody.
    again.told(2, 9, asks_for_vote((5, 9)));
    assert_eq!(votes(&again.synced().0), [(id(2), true)]);
    // Nor does it ask for one.
    for _ in 0..100 {
        again.now_ms += 50;
        again.replica.tick(Now::at_ms(again.now_ms));
        assert_eq!(again.synced().0, []);
    }
    again.appended(2, 9, (5, 8), &entries(9, 9..=10));
    again.synced();
    // Paid for good.
    let mut again = again.restarted();
    again.synced();
    again.told(2, 10, asks_for_vote((9, 10)));
    assert_eq!(votes(&again.synced().0), [(id(2), true)]);
}

#[test]
fn a_promise_of_what_was_overwritten_is_never_kept() {
    let mut alone = Alone::new(Recovered::default());
    alone.synced();
    alone.appended(2, 5, (0, 0), &entries(5, 1..=3));
    let acknowledged = |sent: &[(u64, Message)]| {
        let ack = |(to, message): &(u64, Message)| match message.body {
            Body::AppendResponse {
                index,
                rejected: None,
                ..
            } => Some((*to, message.term, index)),
            _ => None,
        };
        sent.iter().filter_map(ack).collect::<Vec<_>>()
    };
    // Before the disk has any of it another leader puts its own in their place.
    assert_eq!(acknowledged(&alone.said().0), []);
    alone.appended(3, 6, (0, 0), &entries(6, 1..=3));
    assert_eq!(acknowledged(&alone.said().0), []);
    assert_eq!(acknowledged(&alone.synced().0), [(id(3), 6, 3)]);
}

#[test]
fn what_is_not_committed_says_nothing_of_what_is_gone() {
    let mut history = EpochHistory::default();
    for (epoch, first) in [(2, 1), (3, 6)] {
        history.note(Position::new(epoch, first));
    }
    // Epoch 3 wrote from 6 on; up to 5 it is committed.
    let check = |e, i, commit, applied| has(Position::new(e, i), &history, (commit, applied));
    assert_eq!(check(2, 5, 5, 5), Satisfied::Yes);
    assert_eq!(check(2, 5, 5, 4), Satisfied::NotYet);
    assert_eq!(
        check(2, 7, 5, 5),
        Satisfied::NotYet,
        "3:6 may be overwritten"
    );
    assert_eq!(check(2, 7, 7, 7), Satisfied::Lost);
    assert_eq!(check(3, 7, 7, 7), Satisfied::Yes);
    assert_eq!(has(Position::ZERO, &history, (0, 0)), Satisfied::Yes);
}

#[test]
fn what_a_damaged_store_had_acknowledged_is_owed() {
    let mut alone = Alone::new(Recovered {
        filling: true,
        owes: Position::new(5, 9),
        first_index: 1,
        ..Recovered::default()
    });
    alone.synced();
    let mut history = EpochHistory::default();
    history.note(Position::new(5, 1));
    let at = Position::new(5, 8);
    alone.replica.installed(
        Copied {
            at,
            history,
            stamp: Stamp(8),
            ..Copied::default()
        },
        Now::at_ms(1),
    );
    alone.told(2, 8, asks_for_vote((5, 8)));
    assert_eq!(votes(&alone.synced().0), [], "it had 9");
    alone.appended(3, 8, (5, 8), &entries(8, 9..=9));
    alone.synced();
    let mut vote = asks_for_vote((8, 9));
    if let Body::Vote { forced, .. } = &mut vote {
        *forced = true; // It has just heard a leader.
    }
    alone.told(2, 9, vote);
    assert_eq!(votes(&alone.synced().0), [(id(2), true)]);
}

/// Elected by one other member, with its barrier committed.
fn leader() -> Alone {
    let mut alone = Alone::new(Recovered::default());
    alone.synced();
    for _ in 0..100 {
        alone.now_ms += 50;
        alone.replica.tick(Now::at_ms(alone.now_ms));
        let (sent, _) = alone.synced();
        for (to, message) in sent {
            let Body::Vote { pre, .. } = message.body else {
                continue;
            };
            if to == id(2) {
                let granted = Body::VoteResponse {
                    pre,
                    granted: true,
                    commit: 0,
                    commit_term: 0,
                };
                alone.told(2, message.term, granted);
            }
        }
        let state = alone.replica.state(Now::at_ms(alone.now_ms));
        if state.role == Role::Starting {
            let ack = Body::AppendResponse {
                index: 1,
                commit: 0,
                rejected: None,
            };
            alone.told(2, state.epoch.0, ack);
        }
        if state.role == Role::Primary {
            return alone;
        }
    }
    panic!("it was never elected");
}

#[test]
fn who_asks_for_a_read_answers_for_it_if_it_is_of_this_term() {
    let mut leader = leader();
    let term = leader.replica.state(Now::at_ms(leader.now_ms)).epoch.0;
    leader.synced();
    let mut ask = |from, of_term, request| {
        let read = ReadContext {
            node: id(from),
            process: 1,
            request,
        };
        leader.told(from, of_term, Body::ReadIndex(read));
        let (sent, _) = leader.synced();
        let answer = |m: &(u64, Message)| matches!(m.1.body, Body::ReadIndexResponse { .. });
        sent.iter().any(answer)
    };
    assert!(ask(2, term, 1), "one way to the leader and one back");
    assert!(!ask(3, term - 1, 2), "another may lead it by now");
}

/// A number that may mean something to a member whose log is short.
fn number(dice: &mut Dice) -> u64 {
    match dice.below(12) {
        0 => model::codec::NUMBER_MAX,
        1 => 1 << 40,
        _ => dice.below(7),
    }
}

fn anything(dice: &mut Dice, term: u64) -> (Body, Vec<Entry>) {
    let commit = number(dice);
    let (a, b) = (number(dice), number(dice));
    let flip = |dice: &mut Dice| dice.below(2) == 0;
    let read = ReadContext {
        node: id(1 + dice.below(3)),
        process: 7,
        request: dice.below(4),
    };
    let body = match dice.below(11) {
        0 | 1 => {
            let after = (a.min(term), if a == 0 { 0 } else { b.max(1) });
            let mut entries = Vec::new();
            let mut last = after.0;
            for index in after.1 + 1..=after.1 + dice.below(4) {
                last = (last.max(1) + dice.below(2)).min(term);
                entries.push(entry(last, index));
            }
            let body = Body::Append {
                after_index: after.1,
                after_term: after.0,
                commit,
                entries: Vec::new(),
            };
            return (body, entries);
        }
        2 => Body::AppendResponse {
            index: a,
            commit,
            rejected: flip(dice).then_some(crate::consensus::message::Hint { index: b, term: a }),
        },
        3 => Body::Vote {
            pre: flip(dice),
            forced: flip(dice),
            last_index: a,
            last_term: b,
            commit,
            commit_term: a,
        },
        4 => Body::VoteResponse {
            pre: flip(dice),
            granted: flip(dice),
            commit,
            commit_term: b,
        },
        5 => Body::Heartbeat {
            commit,
            read: flip(dice).then_some(read),
        },
        6 => Body::HeartbeatResponse {
            commit,
            read: flip(dice).then_some(read),
        },
        7 => Body::Snapshot(crate::consensus::Snapshot {
            index: a,
            term: b,
            voters: {
                let mut voters = vec![id(1), id(2), id(3)];
                voters.sort_unstable();
                voters
            },
            data: Bytes::new(),
        }),
        8 => Body::TimeoutNow,
        9 => Body::ReadIndex(read),
        _ => Body::ReadIndexResponse { read, index: a },
    };
    (body, Vec::new())
}

/// The core asserts much of what a peer may say; none of it gets there.
#[test]
fn whatever_a_peer_says_is_taken_or_dropped() {
    for seed in 0..10_000 {
        let mut dice = Dice::new(seed);
        let mut alone = match seed % 2 {
            0 => Alone::new(Recovered::default()),
            _ => leader(),
        };
        for _ in 0..60 {
            let state = alone.replica.state(Now::at_ms(alone.now_ms));
            let term = (state.epoch.0 + dice.below(4)).saturating_sub(1).max(1);
            let (body, entries) = anything(&mut dice, term);
            alone.told_entries(2 + dice.below(2), term, body, &entries);
            match dice.below(4) {
                0 => drop(alone.said()),
                1 => {
                    alone.now_ms += 50 * dice.below(10);
                    alone.replica.tick(Now::at_ms(alone.now_ms));
                }
                _ => {
                    for output in alone.synced().1 {
                        if let Output::Commit { upto } = output {
                            alone.replica.applied(upto, Now::at_ms(alone.now_ms));
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn a_follower_asks_its_leader_for_a_read() {
    let mut alone = Alone::new(Recovered::default());
    alone.synced();
    alone.appended(2, 5, (0, 0), &entries(5, 1..=3));
    alone.synced();
    let now = Now::at_ms(alone.now_ms);
    let Reading::Wait(ticket) = alone.replica.read(now) else {
        panic!("it knows its leader");
    };
    assert_eq!(alone.replica.read(now), Reading::Wait(ticket));
    let (sent, _) = alone.said();
    let asked = sent.iter().find_map(|(to, message)| match message.body {
        Body::ReadIndex(read) => Some((*to, read)),
        _ => None,
    });
    let (to, read) = asked.expect("it is asked at once");
    assert_eq!(to, id(2));
    alone.told(2, 5, Body::ReadIndexResponse { read, index: 3 });
    let (_, wanted) = alone.said();
    assert!(
        wanted.contains(&Output::ReadReady { ticket, index: 3 }),
        "{wanted:?}"
    );
}
