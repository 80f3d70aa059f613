use super::*;
use proptest::prelude::*;

/// Who is heard, and who is level.
struct Told(BTreeSet<u64>, BTreeSet<u64>);

impl Known for Told {
    fn is_heard(&self, id: u64) -> bool {
        self.0.contains(&id)
    }

    fn is_preferred(&self, id: u64) -> bool {
        id.is_multiple_of(2)
    }

    fn is_level(&self, id: u64) -> bool {
        self.0.contains(&id) && self.1.contains(&id)
    }
}

fn ids(range: std::ops::Range<u64>) -> impl Strategy<Value = BTreeSet<u64>> {
    prop::collection::btree_set(range, 1..6)
}

proptest! {
    #[test]
    fn whoever_is_wanted_comes_in_and_nobody_before_his_time(
        voters in ids(1..9),
        wanted in ids(1..9),
        learners in prop::collection::btree_set(9u64..12, 0..3),
        away in prop::collection::btree_set(1u64..12, 0..3),
    ) {
        let all: BTreeSet<u64> = (1..12).collect();
        let there: BTreeSet<u64> = all.difference(&away).copied().collect();
        let known = Told(there.clone(), there.clone());
        let mut now = Membership {
            voters: voters.iter().copied().collect(),
            learners: learners.into_iter().collect(),
            ..Membership::default()
        };
        let least = voters.len().min(wanted.len());
        let mut own = *voters.iter().next().unwrap();
        let mut steps = 0;
        while let Some(step) = next(&now, &wanted, own, &known) {
            steps += 1;
            prop_assert!(steps < 40, "it never ends: {now:?}");
            let to = match step {
                Step::HandOver(to) => {
                    prop_assert!(!wanted.contains(&own) && now.voters.contains(&to));
                    prop_assert!(!away.contains(&to));
                    own = to;
                    continue;
                }
                Step::Change(to) => to,
            };
            prop_assert_eq!(Membership::decode(to.encode()), Ok(to.clone()));
            prop_assert!(to.voters.contains(&own), "it takes itself out");
            prop_assert!(to.voters.len() >= least);
            for new in to.voters.iter().filter(|id| !now.voters.contains(id)) {
                prop_assert!(now.learners.contains(new) && !away.contains(new));
            }
            // A majority of those after it, and one of those before it, have somebody in common.
            let both = to.is_joint() && to.outgoing == now.voters;
            let ends = now.is_joint() && now.voters == to.voters && !to.is_joint();
            let changed = to.voters.iter().filter(|id| !now.voters.contains(id)).count()
                + now.voters.iter().filter(|id| !to.voters.contains(id)).count();
            prop_assert!(both || ends || changed <= 1, "{now:?} to {to:?}");
            now = to;
        }
        let is_there = |id: &u64| !away.contains(id);
        let can_all = wanted.iter().all(|id| is_there(id) || voters.contains(id))
            && wanted.iter().any(|id| voters.contains(id) && is_there(id) || own == *id);
        if can_all {
            prop_assert_eq!(now, Membership::of_voters(wanted.into_iter().collect()));
        }
    }

    #[test]
    fn what_is_read_is_a_membership(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
        if let Ok(read) = Membership::decode(bytes.clone().into()) {
            prop_assert_eq!(&read.encode()[..], &bytes[..]);
        }
    }
}

#[test]
fn a_disk_takes_the_place_of_another() {
    let there = |ids: &[u64]| ids.iter().copied().collect::<BTreeSet<u64>>();
    let of = |voters: &[u64], outgoing: &[u64], learners: &[u64], leaving: &[u64]| Membership {
        wish: (7, 8),
        voters: voters.to_vec(),
        outgoing: outgoing.to_vec(),
        learners: learners.to_vec(),
        leaving: leaving.to_vec(),
    };
    let wanted = there(&[1, 2, 4]);
    let all = there(&[1, 2, 4]);
    let mut now = of(&[1, 2, 3], &[], &[], &[]);
    let steps = [
        (all.clone(), of(&[1, 2, 3], &[], &[4], &[])),
        (all.clone(), of(&[1, 2, 4], &[1, 2, 3], &[], &[3])),
        (all.clone(), of(&[1, 2, 4], &[], &[3], &[])),
        (all.clone(), of(&[1, 2, 4], &[], &[], &[])),
    ];
    for (level, to) in steps {
        if now.learners == [4] {
            // Not before it is level.
            let known = Told(all.clone(), there(&[1, 2]));
            assert_eq!(next(&now, &wanted, 1, &known), None);
        }
        let step = next(&now, &wanted, 1, &Told(all.clone(), level));
        assert_eq!(step, Some(Step::Change(to.clone())));
        now = to;
    }
    assert_eq!(next(&now, &wanted, 1, &Told(all.clone(), all)), None);
}

#[test]
fn a_leader_that_is_on_its_way_out_hands_over_and_goes_no_further() {
    let known = Told((1..5).collect(), (1..5).collect());
    let wanted = BTreeSet::from([2, 3, 4]);
    let joint = Membership {
        voters: vec![2, 3, 4],
        outgoing: vec![1, 2, 3],
        leaving: vec![1],
        ..Membership::default()
    };
    // Whoever stands where the leader is to stand first.
    assert_eq!(next(&joint, &wanted, 1, &known), Some(Step::HandOver(2)));
    let left = Membership {
        voters: vec![2, 3, 4],
        learners: vec![1],
        ..Membership::default()
    };
    assert_eq!(next(&left, &wanted, 1, &known), Some(Step::HandOver(2)));
    assert!(matches!(
        next(&left, &wanted, 2, &known),
        Some(Step::Change(_))
    ));
    // Nobody of those who stay can lead: the newcomers come in first.
    let learning = Membership {
        voters: vec![1],
        learners: vec![2, 3, 4],
        ..Membership::default()
    };
    let step = next(&learning, &wanted, 1, &known);
    assert!(matches!(step, Some(Step::Change(to)) if to.voters == [1, 2, 3, 4]));
}

#[test]
fn a_change_says_that_those_before_it_are_committed() {
    let of = |voters: &[u64]| Membership::of_voters(voters.to_vec());
    let at = Position::new;
    let mut all = Memberships::from(Position::ZERO, of(&[1, 2, 3]));
    all.push(at(2, 5), of(&[1, 2]));
    assert_eq!(all.committed, 0);
    all.push(at(2, 9), of(&[1]));
    assert_eq!(all.committed, 5);
    let mut history = EpochHistory::default();
    history.note(at(2, 1));
    all.committed = 0;
    all.agree_with(&history, 9);
    assert_eq!(all.committed, 5);
}

#[test]
fn what_a_log_does_not_hold_says_nothing_of_who_is_in() {
    let of = |voters: &[u64]| Membership::of_voters(voters.to_vec());
    let at = Position::new;
    let mut all = Memberships::from(Position::ZERO, of(&[1, 2, 3]));
    all.push(at(2, 5), of(&[1, 2]));
    all.push(at(2, 9), of(&[1]));
    assert_eq!(all.next(0, 9), Some((5, &of(&[1, 2]))));
    assert_eq!(all.next(5, 8), None);
    assert_eq!(all.as_of(4), Some(&of(&[1, 2, 3])));
    // Another leader has overwritten 9, and that is all that there is.
    let mut history = EpochHistory::default();
    history.note(at(2, 1));
    history.note(at(3, 9));
    all.agree_with(&history, 9);
    assert_eq!((all.next(5, 9), all.is_change(at(2, 5))), (None, true));
    all.released(7);
    assert_eq!((all.as_of(4), all.as_of(7)), (None, Some(&of(&[1, 2]))));
    all.begin(at(3, 12), of(&[4]));
    assert_eq!((all.as_of(11), all.as_of(12)), (None, Some(&of(&[4]))));
}
