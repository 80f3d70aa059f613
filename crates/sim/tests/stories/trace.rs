//! The simulator itself: a seed decides everything.

use super::crashes::{begin, end};
use sim::{Moment, World, trace::Trace, world::Wrong};

fn told(seed: u64) -> Result<Trace, Wrong> {
    let mut world = World::new(seed);
    begin(&mut world)?;
    world.crash("eu-1", Moment::InFlush)?;
    world.start("eu-1")?;
    end(&mut world)?;
    Ok(world.trace().clone())
}

#[test]
fn the_same_seed_tells_the_same_story() {
    let (first, again, other) = (told(1).unwrap(), told(1).unwrap(), told(2).unwrap());
    assert!(first.lines().len() > 1000);
    for (a, b) in first.lines().iter().zip(again.lines()) {
        assert_eq!(a, b);
    }
    assert_eq!(first, again);
    assert_ne!(first.hash(), other.hash());
}
