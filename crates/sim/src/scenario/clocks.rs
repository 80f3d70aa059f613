//! A wall clock that is far off for a while: of one machine, so that most are right. Drawn apart
//! from all else, so that a seed's other faults are what they are without it.

use super::{Fault, Scenario};
use crate::random::Random;
use std::time::Duration;

impl Scenario {
    /// By half of the seeds one machine's clock jumps, some times, by minutes or hours.
    pub(super) fn draw_clocks(&mut self) {
        let random = &mut Random::new(self.seed ^ 0xc10c_0ff5);
        if random.once_in(2) {
            return;
        }
        let nodes = self.setup.nodes.len() as u64;
        let node = self.setup.nodes[random.below(nodes) as usize].0.clone();
        let ms = |random: &mut Random, from, to| Duration::from_millis(random.between(from, to));
        let mut at = ms(random, 200, 4000);
        while at < self.time {
            let by = random.between(60_000, 2 * 3_600_000) as i64;
            let time = match random.below(3) {
                0 => ms(random, 30, 1000),
                1 => ms(random, 1000, 9000),
                _ => ms(random, 9000, 40_000),
            };
            self.faults.push((
                at,
                Fault::Jump {
                    node: node.clone(),
                    ms: if random.once_in(2) { by } else { -by },
                    time,
                },
            ));
            at = at + time + ms(random, 500, 8000);
        }
    }
}
