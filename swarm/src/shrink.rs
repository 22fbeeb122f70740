//! Makes a case that fails smaller: fewer steps, devices, disks, and less of what remains.

use std::time::{Duration, Instant};

use testkit::DeviceBelow;

use crate::case::{Case, Disk, Pace, Step};

/// Says what is wrong with a case, or nothing; how two failures are told apart is
/// [`kind`](kind).
type Fails<'a> = &'a mut dyn FnMut(&Case) -> Option<String>;

/// Returns what two failures of the same kind have in common: the words, without the numbers.
pub fn kind(why: &str) -> String {
    let line = why.lines().next().unwrap_or_default();
    let mut kind = String::new();
    for c in line.chars().take(160) {
        match (c.is_ascii_digit(), kind.ends_with('#')) {
            (true, true) => {}
            (true, false) => kind.push('#'),
            (false, _) => kind.push(c),
        }
    }
    // What a sector has depends on the case: what is wrong does not.
    let end = [" has ", ", of:", "`"].iter().filter_map(|word| kind.find(word)).min();
    kind.truncate(end.unwrap_or(kind.len()));
    kind
}

/// Makes a case smaller as long as it fails in the same way, for so long at most.
pub fn shrink(case: Case, why: String, time: Duration, fails: Fails<'_>) -> (Case, String) {
    let (same, until) = (kind(&why), Instant::now() + time);
    let mut best = Best { case, why };
    let mut fails = |case: &Case| match Instant::now() < until {
        true => fails(case).filter(|why| kind(why) == same),
        false => None,
    };
    best.steps(&mut fails);
    loop {
        let before = best.case.clone();
        best.devices(&mut fails);
        best.disks(&mut fails);
        best.plain(&mut fails);
        best.steps(&mut fails);
        if best.case == before || Instant::now() >= until {
            return (best.case, best.why);
        }
    }
}

struct Best {
    case: Case,
    why: String,
}

impl Best {
    /// Takes a smaller case if it fails too.
    fn take(&mut self, smaller: Case, fails: Fails<'_>) -> bool {
        if smaller == self.case {
            return false;
        }
        let found = fails(&smaller);
        let taken = found.is_some();
        if let Some(why) = found {
            (self.case, self.why) = (smaller, why);
        }
        taken
    }

    /// Leaves steps out: half of them, a quarter, and so on to each alone.
    fn steps(&mut self, fails: Fails<'_>) {
        let mut len = self.case.steps.len().div_ceil(2);
        while len > 0 {
            let mut at = 0;
            while at < self.case.steps.len() {
                let mut smaller = self.case.clone();
                smaller.steps.drain(at..(at + len).min(smaller.steps.len()));
                if !self.take(smaller, fails) {
                    at += len;
                }
            }
            len /= 2;
        }
    }

    /// Leaves devices out, or puts a disk in their place.
    fn devices(&mut self, fails: Fails<'_>) {
        for device in (0..self.case.devices.len() as u32).rev() {
            if self.case.devices.len() > 1 {
                let smaller = match self.case.tops().contains(&device) {
                    true => without_device(&self.case, device),
                    false => with_disk(&self.case, device),
                };
                if self.take(smaller, fails) {
                    continue;
                }
            }
            let mut smaller = self.case.clone();
            if let Some(device) = smaller.devices.get_mut(device as usize) {
                device.tables.truncate(1);
            }
            self.take(smaller, fails);
        }
    }

    /// Leaves disks out that nothing lies on.
    fn disks(&mut self, fails: Fails<'_>) {
        for disk in (0..self.case.disks.len() as u32).rev() {
            let name = DeviceBelow::Disk(disk).number().to_string();
            let mut tables = self.case.devices.iter().flat_map(|device| &device.tables);
            let is_used = tables.any(|table| table.split_whitespace().any(|word| word == name));
            if !is_used {
                self.take(without_disk(&self.case, disk), fails);
            }
        }
    }

    /// Takes what is left for the plainest that fails.
    fn plain(&mut self, fails: Fails<'_>) {
        let mut smaller = self.case.clone();
        (smaller.tasks, smaller.folding) = (1, false);
        smaller.disks.iter_mut().for_each(|disk| disk.pace = Pace::Waits);
        if self.take(smaller, fails) {
            return;
        }
        self.take(Case { tasks: 1, ..self.case.clone() }, fails);
        self.take(Case { folding: false, ..self.case.clone() }, fails);
        for disk in 0..self.case.disks.len() {
            let mut smaller = self.case.clone();
            smaller.disks[disk].pace = Pace::Waits;
            self.take(smaller, fails);
        }
        for at in 0..self.case.steps.len() {
            let mut smaller = self.case.clone();
            match &mut smaller.steps[at] {
                Step::Bio(_, bio) => {
                    bio.flags = sim_core::Flags::default();
                    bio.len = bio.len.min(1);
                }
                Step::Cycle(cycle) => (cycle.turns, cycle.noflush, cycle.early) = (0, false, false),
                Step::Pause(turns) => *turns = 1,
                Step::Cut { turns, .. } => *turns = 0,
                Step::Message { .. } | Step::Fault { .. } | Step::Wait | Step::Heal => continue,
            }
            self.take(smaller, fails);
        }
    }
}

/// Changes each word of each table, and each wipe.
fn rename(case: &mut Case, from: DeviceBelow, to: DeviceBelow) {
    let (old, new) = (from.number().to_string(), to.number().to_string());
    for device in &mut case.devices {
        for table in &mut device.tables {
            let line = |line: &str| {
                let words = line.split(' ').map(|word| if word == old { &new } else { word });
                words.collect::<Vec<&str>>().join(" ")
            };
            *table = table.lines().map(line).collect::<Vec<String>>().join("\n");
        }
        for (below, ..) in &mut device.wipes {
            if *below == from {
                *below = to;
            }
        }
    }
}

/// Takes a device away that nothing lies on; the bios go to the last that is left.
fn without_device(case: &Case, device: u32) -> Case {
    let mut case = case.clone();
    case.devices.remove(device as usize);
    let last = case.devices.len() as u32 - 1;
    for above in device + 1..=last + 1 {
        rename(&mut case, DeviceBelow::Device(above), DeviceBelow::Device(above - 1));
    }
    let place = |own: u32| match own.cmp(&device) {
        std::cmp::Ordering::Less => own,
        std::cmp::Ordering::Equal => last,
        std::cmp::Ordering::Greater => own - 1,
    };
    for step in &mut case.steps {
        match step {
            Step::Bio(own, _) | Step::Message { device: own, .. } => *own = place(*own),
            Step::Cycle(cycle) => cycle.device = place(cycle.device),
            Step::Pause(_) | Step::Fault { .. } | Step::Wait | Step::Heal | Step::Cut { .. } => {}
        }
    }
    case
}

/// Puts a disk in the place of a device that others lie on.
fn with_disk(case: &Case, device: u32) -> Case {
    let mut case = case.clone();
    let table = &case.devices[device as usize].tables[0];
    let len = |line: &str| line.split(' ').nth(1).and_then(|len| len.parse::<u64>().ok());
    let sectors = table.lines().filter_map(len).sum();
    let disk = case.disks.len() as u32;
    case.disks.push(Disk { sectors, pace: Pace::Waits, member: None });
    rename(&mut case, DeviceBelow::Device(device), DeviceBelow::Disk(disk));
    without_device(&case, device)
}

/// Takes a disk away that nothing lies on.
fn without_disk(case: &Case, disk: u32) -> Case {
    let mut case = case.clone();
    case.disks.remove(disk as usize);
    for other in disk + 1..=case.disks.len() as u32 {
        rename(&mut case, DeviceBelow::Disk(other), DeviceBelow::Disk(other - 1));
    }
    let gone = DeviceBelow::Disk(disk);
    for device in &mut case.devices {
        device.wipes.retain(|(below, ..)| *below != gone || disk < case.disks.len() as u32);
    }
    case.steps.retain(|step| !matches!(step, Step::Fault { disk: own, .. } if *own == disk));
    for step in &mut case.steps {
        if let Step::Fault { disk: own, .. } = step
            && *own > disk
        {
            *own -= 1;
        }
    }
    case
}
