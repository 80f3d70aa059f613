//! The planner as its callers see it: the reference's figures, round trips, and a search that
//! is compared with one that folds nothing.

#![allow(clippy::unwrap_used)] // helpers of tests; what fails here is a test

mod brute;
mod demo;
mod inputs;
mod monte_carlo;
mod reference;
mod refusals;
mod sound;

use capacity::{Answer, LayoutFile, PlanFile, Wanted, presets, search};

fn reference() -> Wanted {
    Wanted::parse(presets::text(&presets::PLANS, "reference").unwrap()).unwrap()
}

fn plan(wanted: &Wanted) -> search::Plan {
    match search::search(wanted) {
        Answer::Plan(plan) => plan,
        Answer::Infeasible(why) => panic!("no layout: {why:#?}"),
    }
}

fn infeasible(wanted: &Wanted) -> search::Infeasible {
    match search::search(wanted) {
        Answer::Plan(plan) => panic!("a layout: {:#?}", plan.best[0].layout),
        Answer::Infeasible(why) => why,
    }
}

/// The reference with something else.
fn changed(change: impl FnOnce(&mut PlanFile)) -> Wanted {
    let mut file = reference().file().clone();
    change(&mut file);
    Wanted::new(file).unwrap()
}

fn as_drawn() -> LayoutFile {
    LayoutFile::parse(presets::text(&presets::LAYOUTS, "reference-as-drawn").unwrap()).unwrap()
}
