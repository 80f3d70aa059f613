//! Whether what clients saw of one object could have come from a single copy that takes one
//! operation at a time (Wing and Gong's search, with Lowe's memory of what was tried).
//!
//! ```text
//!  history of one object ──▶ check ──▶ Linearizable
//!  Model: what each operation does       NotLinearizable { the first operation that fits nowhere }
//!                                        GaveUp { after so many steps }
//! ```
//!
//! An operation takes effect at one moment between its call and its return. One whose outcome
//! is unknown has no return: it takes effect at some moment after its call, or never. Moments
//! are numbers that only grow; two operations overlap unless one returned before the other was
//! called.
//!
//! # The search
//! Depth first: of the operations that no other one must precede, one is put next if its result
//! fits the state; if nothing fits, the last one put is taken back. A pair of (set of operations
//! put so far, state) is tried once. Operations with a result come before unknown ones, because
//! most of what is unknown never took effect or was never seen. Of several equal unknown
//! operations the one that was called first is taken first: whatever a later one could do, it
//! can do too. And what comes right behind an unknown operation must need it: if it leads to the
//! same state without it, the order without it is shorter, and is found by itself.
//!
//! The search is bounded: a history that needs more steps is answered with [`Verdict::GaveUp`],
//! which proves nothing and must not be taken for success.

#[cfg(test)]
mod tests;

use rustc_hash::{FxHashMap, FxHashSet};
use std::hash::Hash;

/// What the object is and how operations change it.
pub trait Model {
    /// What the object holds.
    type State: Clone + Eq + Hash;
    /// What is asked of it.
    type Action: PartialEq;
    /// What it answers.
    type Answer;

    /// The state after `action`, if it may be answered like this; with no answer known, the
    /// state after it whatever the answer.
    fn step(
        state: &Self::State,
        action: &Self::Action,
        answer: Option<&Self::Answer>,
    ) -> Option<Self::State>;
}

/// One operation on the object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operation<A, R> {
    /// When it was called.
    pub called: u64,
    /// When it returned, and what. None: nobody knows whether it took effect.
    pub returned: Option<(u64, R)>,
    /// What was asked.
    pub action: A,
}

/// What the search found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// There is an order that explains every answer.
    Linearizable,
    /// There is none.
    NotLinearizable {
        /// How many operations with an answer the best order explained.
        explained: usize,
        /// Of those that it did not explain, the one that returned first; an index into the
        /// history as it was given.
        stuck: usize,
    },
    /// Not decided within the bound.
    GaveUp {
        /// The steps taken.
        steps: u64,
    },
}

/// Judges a history, in any order, of an object that began as one of `initial`.
pub fn check<M: Model>(
    history: &[Operation<M::Action, M::Answer>],
    initial: &[M::State],
    steps_max: u64,
) -> Verdict {
    let mut best = Best::default();
    let mut steps = 0;
    for state in initial {
        match Search::<M>::new(history).run(state.clone(), &mut steps, steps_max, &mut best) {
            Found::Order => return Verdict::Linearizable,
            Found::Nothing => {}
            Found::TooMuch => return Verdict::GaveUp { steps },
        }
    }
    Verdict::NotLinearizable {
        explained: best.explained,
        stuck: best.stuck,
    }
}

/// The order that explained most.
#[derive(Default)]
struct Best {
    explained: usize,
    stuck: usize,
}

enum Found {
    Order,
    Nothing,
    TooMuch,
}

/// An operation put in its place.
struct Put {
    /// Its candidate number.
    at: usize,
    /// The state before it.
    before: u32,
}

struct Search<'a, M: Model> {
    history: &'a [Operation<M::Action, M::Answer>],
    /// Indices into `history`: those with an answer by their call, then the unknown ones by
    /// theirs. A place in it is a candidate number.
    order: Vec<usize>,
    /// How many have an answer.
    answered: usize,
    /// For each unknown candidate the one before it with the same action, if any.
    twin: Vec<Option<usize>>,
    /// Candidates that were put.
    done: Vec<u64>,
    /// Each state met, by number and back.
    states: Vec<M::State>,
    numbers: FxHashMap<M::State, u32>,
    tried: FxHashSet<(Box<[u64]>, u32)>,
}

impl<'a, M: Model> Search<'a, M> {
    fn new(history: &'a [Operation<M::Action, M::Answer>]) -> Self {
        let mut order: Vec<usize> = (0..history.len()).collect();
        order.sort_by_key(|i| (history[*i].returned.is_none(), history[*i].called));
        let answered = history.iter().filter(|o| o.returned.is_some()).count();
        let twin = (0..order.len())
            .map(|at| {
                let same =
                    |before: &usize| history[order[*before]].action == history[order[at]].action;
                (answered..at).rev().find(same)
            })
            .collect();
        Search {
            history,
            done: vec![0; order.len().div_ceil(64)],
            order,
            answered,
            twin,
            states: Vec::new(),
            numbers: FxHashMap::default(),
            tried: FxHashSet::default(),
        }
    }

    fn run(mut self, initial: M::State, steps: &mut u64, steps_max: u64, best: &mut Best) -> Found {
        let mut state = self.number(initial);
        let mut stack: Vec<Put> = Vec::new();
        // Of those with an answer, how many are put, and the first that is not.
        let mut explained = 0;
        let mut cursor = 0;
        while explained < self.answered {
            let (limit, first) = self.earliest_return();
            let without = stack.last().filter(|put| put.at >= self.answered);
            let without = without.map(|put| put.before);
            let next = self.next(cursor, limit, state, without, steps);
            if *steps > steps_max {
                return Found::TooMuch;
            }
            if let Some((at, after)) = next {
                stack.push(Put { at, before: state });
                state = after;
                explained += usize::from(at < self.answered);
                cursor = 0;
                continue;
            }
            if explained >= best.explained {
                best.explained = explained;
                best.stuck = first;
            }
            let Some(put) = stack.pop() else {
                return Found::Nothing;
            };
            self.clear(put.at);
            explained -= usize::from(put.at < self.answered);
            state = put.before;
            cursor = put.at + 1;
        }
        Found::Order
    }

    /// When the first return among the answered operations that are not put comes: what was
    /// called later can't be next. And which that is, as an index into the history.
    fn earliest_return(&self) -> (u64, usize) {
        let mut limit = u64::MAX;
        let mut first = 0;
        for at in 0..self.answered {
            let operation = &self.history[self.order[at]];
            if operation.called > limit {
                break;
            }
            if let Some((returned, _)) = &operation.returned
                && *returned < limit
                && !self.is_done(at)
            {
                limit = *returned;
                first = self.order[at];
            }
        }
        (limit, first)
    }

    /// The next candidate from `cursor` on that fits and leads to something new; it is put.
    /// `without` is the state before the last operation put, if that is an unknown one.
    fn next(
        &mut self,
        cursor: usize,
        limit: u64,
        state: u32,
        without: Option<u32>,
        steps: &mut u64,
    ) -> Option<(usize, u32)> {
        let mut at = cursor;
        while at < self.order.len() {
            let operation = &self.history[self.order[at]];
            if operation.called > limit {
                if at >= self.answered {
                    return None;
                }
                // Sorted by call: no later one with an answer can be next either.
                at = self.answered;
                continue;
            }
            let waits = self.twin[at].is_some_and(|twin| !self.is_done(twin));
            if self.is_done(at) || waits {
                at += 1;
                continue;
            }
            *steps += 1;
            let answer = operation.returned.as_ref().map(|(_, answer)| answer);
            let before = &self.states[state as usize];
            if let Some(after) = M::step(before, &operation.action, answer) {
                // What is unknown and changes nothing may as well not have happened.
                let idle = at >= self.answered && after == *before;
                let needless = without.is_some_and(|without| {
                    let without = &self.states[without as usize];
                    M::step(without, &operation.action, answer).as_ref() == Some(&after)
                });
                let after = self.number(after);
                self.done[at / 64] |= 1 << (at % 64);
                if !idle && !needless && self.tried.insert((self.done.clone().into(), after)) {
                    return Some((at, after));
                }
                self.clear(at);
            }
            at += 1;
        }
        None
    }

    fn number(&mut self, state: M::State) -> u32 {
        if let Some(number) = self.numbers.get(&state) {
            return *number;
        }
        let number = self.states.len() as u32;
        self.states.push(state.clone());
        self.numbers.insert(state, number);
        number
    }

    fn is_done(&self, at: usize) -> bool {
        self.done[at / 64] >> (at % 64) & 1 == 1
    }

    fn clear(&mut self, at: usize) {
        self.done[at / 64] &= !(1 << (at % 64));
    }
}
