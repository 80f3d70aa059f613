//! Peers that say anything at all.

use crate::consensus::*;
use proptest::prelude::*;

fn number() -> impl Strategy<Value = u64> {
    prop_oneof![4 => 0..12u64, 1 => any::<u64>(), 1 => Just(u64::MAX)]
}

fn entries() -> impl Strategy<Value = Vec<Entry>> {
    let consecutive = (number(), number(), 0..4u64).prop_map(|(term, index, n)| {
        (0..n)
            .map(|i| Entry {
                term,
                index: index.wrapping_add(i),
                data: Bytes::from_static(b"x"),
            })
            .collect()
    });
    let any_entries = prop::collection::vec((number(), number()), 0..3).prop_map(|v| {
        v.into_iter()
            .map(|(term, index)| Entry {
                term,
                index,
                data: Bytes::new(),
            })
            .collect()
    });
    prop_oneof![consecutive, any_entries]
}

fn body() -> impl Strategy<Value = Body> {
    let read = || {
        (number(), number(), number()).prop_map(|(node, process, request)| ReadContext {
            node,
            process,
            request,
        })
    };
    let four = || (number(), number(), number(), number());
    prop_oneof![
        (number(), number(), number(), entries()).prop_map(
            |(after_index, after_term, commit, entries)| Body::Append {
                after_index,
                after_term,
                commit,
                entries
            }
        ),
        (four(), any::<bool>()).prop_map(|((index, commit, i, term), no)| {
            Body::AppendResponse {
                index,
                commit,
                rejected: no.then_some(message::Hint { index: i, term }),
            }
        }),
        (any::<bool>(), any::<bool>(), four()).prop_map(|(pre, forced, n)| Body::Vote {
            pre,
            forced,
            last_index: n.0,
            last_term: n.1,
            commit: n.2,
            commit_term: n.3,
        }),
        (any::<bool>(), any::<bool>(), number(), number()).prop_map(
            |(pre, granted, commit, commit_term)| Body::VoteResponse {
                pre,
                granted,
                commit,
                commit_term
            }
        ),
        (number(), prop::option::of(read()))
            .prop_map(|(commit, read)| Body::Heartbeat { commit, read }),
        (number(), prop::option::of(read()))
            .prop_map(|(commit, read)| Body::HeartbeatResponse { commit, read }),
        (number(), number(), any::<bool>()).prop_map(|(index, term, ours)| {
            Body::Snapshot(Snapshot {
                index,
                term,
                voters: if ours { vec![1, 2, 3] } else { vec![1, 9] },
                data: Bytes::new(),
            })
        }),
        Just(Body::TimeoutNow),
        read().prop_map(Body::ReadIndex),
        (read(), number()).prop_map(|(read, index)| Body::ReadIndexResponse { read, index }),
        (number(), number()).prop_map(|(index, commit)| Body::Learned { index, commit }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever a peer says, in whatever state: no panic, and the work goes on.
    #[test]
    fn nonsense_from_peers_never_trips_the_core(
        said in prop::collection::vec((0..5u64, number(), body(), 0..30u32, 0..4u32), 1..80),
        compact in any::<bool>(),
    ) {
        let config = GroupConfig {
            group: 1,
            id: 1,
            process: 1,
            voters: vec![1, 2, 3],
            election_ticks: 10,
            turn_ticks: 2,
            heartbeat_ticks: 2,
        };
        let mut group = RaftGroup::new(config, Recovered::default()).unwrap();
        let mut written = Recovered::default();
        for (from, term, body, ticks, then) in said {
            let bytes = postcard::to_stdvec(&Message { term, body }).unwrap();
            group.receive(from, postcard::from_bytes(&bytes).unwrap());
            for _ in 0..ticks {
                group.tick();
            }
            let _ = group.propose(Bytes::from_static(b"p"));
            let _ = group.read_index(u64::from(ticks));
            for _ in 0..then {
                while let Some(work) = group.ready() {
                    for record in work.persist {
                        written.replay(record);
                        prop_assert_eq!(written.gap, None);
                    }
                    if compact && let Some(last) = work.committed.last() {
                        group.compact(last.index, Bytes::new());
                    }
                }
                group.synced();
            }
        }
    }
}
