//! What a run has been through, by target type.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::case::{Case, Step};

/// What the stacks with one type have been through.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the names say it")]
pub struct Counts {
    pub stacks: u64,
    /// Stacks that could not be set up.
    pub refused: u64,
    pub bios: u64,
    pub faults: u64,
    pub cuts: u64,
    pub reloads: u64,
    pub messages: u64,
}

/// What has been run, by the names of target types.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Coverage(pub BTreeMap<String, Counts>);

impl Counts {
    fn add(&mut self, other: &Counts) {
        let Counts { stacks, refused, bios, faults, cuts, reloads, messages } = *other;
        self.stacks += stacks;
        self.refused += refused;
        self.bios += bios;
        self.faults += faults;
        self.cuts += cuts;
        self.reloads += reloads;
        self.messages += messages;
    }
}

impl Coverage {
    /// Adds what another has.
    pub fn add(&mut self, other: &Coverage) {
        for (name, counts) in &other.0 {
            self.0.entry(name.clone()).or_default().add(counts);
        }
    }

    /// Counts a case that could not be set up.
    pub(super) fn refuse(&mut self, case: &Case) {
        for name in case.types() {
            let counts = self.0.entry(name.to_owned()).or_default();
            (counts.stacks, counts.refused) = (counts.stacks + 1, counts.refused + 1);
        }
    }

    /// Counts a case that is set up.
    pub(super) fn stack(&mut self, case: &Case) {
        for name in case.types() {
            self.0.entry(name.to_owned()).or_default().stacks += 1;
        }
    }

    /// Counts a step.
    pub(super) fn step(&mut self, case: &Case, step: &Step) {
        let names: Vec<&str> = match step {
            Step::Bio(device, _) => types_below(case, *device),
            Step::Cycle(cycle) => case.types_of(cycle.device).collect(),
            Step::Message { device, .. } => case.types_of(*device).collect(),
            Step::Fault { .. } | Step::Cut { .. } => case.types(),
            Step::Pause(_) | Step::Wait | Step::Heal => Vec::new(),
        };
        let mut names = names;
        names.sort_unstable();
        names.dedup();
        for name in names {
            let counts = self.0.entry(name.to_owned()).or_default();
            match step {
                Step::Bio(..) => counts.bios += 1,
                Step::Cycle(_) => counts.reloads += 1,
                Step::Message { .. } => counts.messages += 1,
                Step::Fault { .. } => counts.faults += 1,
                Step::Cut { .. } => counts.cuts += 1,
                Step::Pause(_) | Step::Wait | Step::Heal => {}
            }
        }
    }
}

/// Lists the types that a bio of a device may pass.
fn types_below(case: &Case, device: u32) -> Vec<&str> {
    let mut types: Vec<&str> = case.types_of(device).collect();
    for table in &case.devices[device as usize].tables {
        for word in table.split_whitespace() {
            // Devices lie over those that were made before them.
            let below = word.strip_prefix("253:").and_then(|minor| minor.parse().ok());
            if let Some(below) = below.filter(|below: &u32| *below < device) {
                types.extend(types_below(case, below));
            }
        }
    }
    types
}
