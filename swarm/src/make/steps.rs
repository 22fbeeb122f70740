//! What is done to a stack.

use sim_core::{Flags, Limits, Op};
use testkit::BioStep;

use super::Maker;
use crate::case::{Cycle, Left, Load, Step};

/// Words of messages that no target means, or that one might.
const ODD: [&str; 8] = ["help", "0", "-1", "x y z", "enable 18446744073709551615", "é", "a", "?!"];

impl Maker<'_> {
    pub(super) fn steps(&mut self) {
        let tops = self.case.tops();
        let tops: Vec<(u32, u64, u64)> =
            tops.into_iter().map(|top| (top, self.len_of(top), self.block_of(top))).collect();
        let faulty = !self.never_faulty && self.chance(3);
        let cut = self.chance(2);
        for _ in 0..2 + self.rng.below(4) {
            self.wave(&tops, faulty);
            let end = match (self.rng.below(4), cut, faulty) {
                (0 | 1, true, _) => {
                    let seed = self.rng.number() >> 40;
                    let left = self.one(&[Left::Nothing, Left::All, Left::Some(seed)]);
                    Step::Cut { turns: self.one(&[0, 3, 20, 60, 150, 100_000]), left }
                }
                (2, _, true) => Step::Heal,
                (0..=3, _, _) => Step::Wait,
                _ => unreachable!("below four"),
            };
            self.case.steps.push(end);
        }
    }

    /// Bios, and what is done to devices and disks meanwhile.
    fn wave(&mut self, tops: &[(u32, u64, u64)], faulty: bool) {
        if faulty && self.chance(2) {
            let disk = self.rng.below(self.case.disks.len().max(1)) as u32;
            let (after, for_good) = (self.rng.below(40) as u64, self.chance(2));
            let short = self.one(&[0, 0, 1]);
            if !self.case.disks.is_empty() {
                self.case.steps.push(Step::Fault { disk, after, for_good, short });
            }
        }
        for _ in 0..4 + self.rng.below(20) {
            let step = match self.rng.below(12) {
                0 => self.cycle(),
                1 => self.message(),
                2 => Step::Pause(self.rng.below(20) as u32),
                _ => {
                    let (top, len, block) = tops[self.rng.below(tops.len())];
                    Step::Bio(top, self.bio(len, block))
                }
            };
            self.case.steps.push(step);
        }
    }

    fn bio(&mut self, len: u64, block: u64) -> BioStep {
        let limits = Limits::image(block as u32 * 512);
        let mut bio = BioStep::random(&mut self.rng, len, &limits);
        // Whatever was written is often flushed: what is durable is what a cut is about.
        if bio.op == Op::Read && self.chance(3) {
            bio = BioStep { op: Op::Flush, sector: 0, len: 0, flags: Flags::default() };
        }
        bio
    }

    fn cycle(&mut self) -> Step {
        let device = self.rng.below(self.case.devices.len()) as u32;
        let tables = self.case.devices[device as usize].tables.len();
        let load = match self.rng.below(4) {
            0 => Load::Nothing,
            1 => Load::Own,
            _ => Load::Table(self.rng.below(tables)),
        };
        let (noflush, early, turns) = (self.chance(3), self.chance(3), self.rng.below(14) as u32);
        Step::Cycle(Cycle { device, noflush, early, load, turns })
    }

    fn message(&mut self) -> Step {
        let device = self.rng.below(self.case.devices.len());
        let known = &self.messages[device];
        let (sector, text) = match known.len() {
            count if count > 0 && self.rng.below(4) > 0 => {
                self.messages[device][self.rng.below(count)].clone()
            }
            _ => (0, ODD[self.rng.below(ODD.len())].to_owned()),
        };
        Step::Message { device: device as u32, sector, text }
    }

    fn len_of(&self, device: u32) -> u64 {
        self.space_of(device).map_or(16, |space| space.len)
    }

    fn block_of(&self, device: u32) -> u64 {
        self.space_of(device).map_or(1, |space| space.block)
    }

    fn space_of(&self, device: u32) -> Option<&super::Space> {
        let below = testkit::DeviceBelow::Device(device);
        self.free.iter().find(|space| space.below == below)
    }
}
