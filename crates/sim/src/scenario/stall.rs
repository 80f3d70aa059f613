//! Disks that hang and turns that take long, beside whatever else befalls a scenario. They are
//! drawn apart, so that the rest of a seed's scenario is what it would be without them.

use super::{
    Fault, Scenario, Trouble,
    trouble::{LEADER, PRIMARY, replica},
};
use crate::random::Random;
use std::time::Duration;

impl Scenario {
    /// In a third of the scenarios, but for those that are about something rare.
    pub(super) fn draw_stalls(&mut self) {
        let mut random = Random::new(self.seed ^ 0x57a1_1ed0);
        if self.trouble == Trouble::Rare || !random.once_in(3) {
            return;
        }
        let span = self.time.as_millis() as u64;
        for _ in 0..random.between(1, 2 + self.time.as_secs() / 5) {
            let at = Duration::from_millis(random.below(span));
            let node = match random.below(5) {
                0 | 1 => PRIMARY.to_owned(),
                2 => LEADER.to_owned(),
                n => replica(n as usize - 3),
            };
            let fault = if random.once_in(2) {
                // About half of them for longer than a node bears.
                let time = Duration::from_millis(random.between(500, 9000));
                Fault::HangDisk { node, time }
            } else {
                let time = Duration::from_millis(random.between(50, 2500));
                Fault::Busy { node, time }
            };
            self.faults.push((at, fault));
        }
    }
}
