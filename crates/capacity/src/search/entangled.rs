//! Bounds that decide who answers a read, how many servers there are, or what counts as an answer.
//! A layout that was judged with such a bound doesn't show what it would be without: where nothing
//! may be old the primaries answer, and what is too slow is the read. The search is made again
//! with each of these bounds set lower, until it is known how far it has to give.

use super::{Group, Relaxation, look, order};
use crate::{file::PlanFile, judge::Judged, wanted::Wanted};
use std::cmp::Ordering;

/// How often a bound is set lower.
const STEPS_MAX: usize = 8;

/// Each alone makes a layout possible.
pub(super) fn relaxations(
    wanted: &Wanted,
    groups: &[Group],
    placements: &[Vec<u16>],
) -> Vec<Relaxation> {
    let kept = |change: &dyn Fn(&mut PlanFile)| -> (Wanted, Vec<Judged>) {
        let relaxed = wanted.relaxed(change);
        let looked = look(&relaxed, groups, placements);
        (relaxed, looked.kept.into_iter().map(|(_, j)| j).collect())
    };
    let mut found = Vec::new();
    found.extend(staleness(wanted, &kept));
    found.extend(utilisation(wanted, &kept));
    if wanted.file().promises.late_is_down {
        let (_, layouts) = kept(&|file| file.promises.late_is_down = false);
        found.extend(layouts.into_iter().next().map(|judged| Relaxation {
            what: "promises.late_is_down = false (it is true)".into(),
            judged,
        }));
    }
    found
}

type Kept<'a> = &'a dyn Fn(&dyn Fn(&mut PlanFile)) -> (Wanted, Vec<Judged>);

/// The age of what is read, in the region that is worst off.
fn age_ms(wanted: &Wanted, judged: &Judged) -> f64 {
    let regions = judged.figures.regions.iter().enumerate();
    let read = regions.filter(|(region, _)| wanted.reads_from(*region) > 0.0);
    read.map(|(_, of)| of.staleness_ms).fold(0.0, f64::max)
}

fn staleness(wanted: &Wanted, kept: Kept<'_>) -> Option<Relaxation> {
    let given = wanted.file().promises.staleness_ms_max?;
    let mut best: Option<(f64, Judged)> = None;
    // None: however old.
    let mut bound = None;
    for _ in 0..STEPS_MAX {
        let (relaxed, layouts) = kept(&|file| file.promises.staleness_ms_max = bound);
        let freshest = |a: &Judged, b: &Judged| -> Ordering {
            let (x, y) = (age_ms(wanted, a), age_ms(wanted, b));
            x.total_cmp(&y).then_with(|| order(&relaxed, a, b))
        };
        let Some(judged) = layouts.into_iter().min_by(freshest) else {
            break;
        };
        let ms = (age_ms(wanted, &judged) * 10.0 - 1e-6).ceil() / 10.0;
        best = Some((ms, judged));
        if ms - 0.1 <= given {
            break;
        }
        bound = Some(ms - 0.1);
    }
    let (ms, judged) = best?;
    Some(Relaxation {
        what: format!("promises.staleness_ms_max = {ms} (it is {given})"),
        judged,
    })
}

fn utilisation(wanted: &Wanted, kept: Kept<'_>) -> Option<Relaxation> {
    let given = wanted.file().constraints.utilisation_max;
    let with = |percent: u32| {
        let part = f64::from(percent) / 100.0;
        let (_, layouts) = kept(&|file| file.constraints.utilisation_max = part);
        layouts.into_iter().next()
    };
    if given >= 1.0 {
        return None;
    }
    let mut least = with(100)?;
    // With the greater it is possible, with the smaller not.
    let (mut too_low, mut enough) = ((given * 100.0).floor() as u32, 100);
    while too_low + 1 < enough {
        let middle = too_low.midpoint(enough);
        match with(middle) {
            Some(judged) => (least, enough) = (judged, middle),
            None => too_low = middle,
        }
    }
    let to = f64::from(enough) / 100.0;
    Some(Relaxation {
        what: format!("constraints.utilisation_max = {to} (it is {given})"),
        judged: least,
    })
}
