//! What a person reads in the morning.

use std::fmt::Write;

use serde_json::{Value, json};
use sim_core::Registry;

use super::state::State;

/// Writes how far a run is, as one line.
pub(super) fn progress(state: &State, seconds: f64) -> String {
    let rate = if seconds > 0.0 { state.cases as f64 / seconds } else { 0.0 };
    let bios: u64 = state.coverage.0.values().map(|counts| counts.bios).max().unwrap_or(0);
    format!(
        "{} cases, {rate:.0} a second, {} refused, up to {bios} bios a type, {} found ({} kinds), {}",
        state.cases,
        state.refused,
        state.finds.len(),
        state.kinds().len(),
        time(seconds)
    )
}

fn time(seconds: f64) -> String {
    let seconds = seconds as u64;
    format!("{}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60)
}

/// Lists the types of which no stack was ever set up.
fn never_ran(state: &State, registry: &Registry) -> Vec<String> {
    let names = registry.iter().map(|known| known.name().to_owned());
    let ran = |name: &String| {
        state.coverage.0.get(name).is_some_and(|counts| counts.stacks > counts.refused)
    };
    let mut never: Vec<String> = names.filter(|name| !ran(name)).collect();
    never.sort();
    never
}

/// Returns how this program was called: the one of an author alone knows the types in its cases.
fn program() -> String {
    std::env::args_os()
        .next()
        .map_or("dmsim-swarm".into(), |name| name.to_string_lossy().into_owned())
}

/// Writes what was done and found.
pub(super) fn text(state: &State, registry: &Registry) -> String {
    let mut out = String::new();
    let kinds = state.kinds();
    let mut line = |text: String| writeln!(out, "{text}").expect("a string takes everything");
    line(format!("dmsim-swarm: {}", progress(state, state.seconds)));
    let State { seed, shard, done, .. } = state;
    line(format!("seeds from {seed}, shard {}/{}, {done} done", shard.number, shard.of));
    line(String::new());
    match kinds.len() {
        0 => line("Nothing was found.".to_owned()),
        count => line(format!("{count} kinds of failures:")),
    }
    for (at, (_, finds)) in (1..).zip(&kinds) {
        let first = finds.iter().min_by_key(|find| find.types.len()).unwrap_or(&finds[0]);
        line(String::new());
        line(format!("{at}. {} times: {}", finds.len(), first.why));
        line(format!("   types: {}", first.types.join(", ")));
        let seeds: Vec<String> = finds.iter().take(8).map(|find| find.seed.to_string()).collect();
        line(format!("   seeds: {}", seeds.join(", ")));
        if let Some(file) = finds.iter().find_map(|find| find.file.as_ref()) {
            line(format!("   to repeat: {} repeat {}", program(), file.display()));
        }
    }
    line(String::new());
    line(format!(
        "{:<16}{:>9}{:>9}{:>10}{:>9}{:>9}{:>9}{:>10}",
        "type", "stacks", "refused", "bios", "faults", "cuts", "reloads", "messages"
    ));
    for (name, counts) in &state.coverage.0 {
        line(format!(
            "{name:<16}{:>9}{:>9}{:>10}{:>9}{:>9}{:>9}{:>10}",
            counts.stacks,
            counts.refused,
            counts.bios,
            counts.faults,
            counts.cuts,
            counts.reloads,
            counts.messages
        ));
    }
    let never = never_ran(state, registry);
    if !never.is_empty() {
        line(format!("Never set up: {}", never.join(", ")));
    }
    let mut refusals: Vec<_> = state.refusals.iter().collect();
    refusals.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
    if !refusals.is_empty() {
        line(String::new());
        line("Why stacks were refused, the most frequent first:".to_owned());
    }
    for (why, count) in refusals.into_iter().take(8) {
        line(format!("{count:>9}  {why}"));
    }
    out
}

/// The same for programs.
pub(super) fn json(state: &State, registry: &Registry) -> Value {
    let kinds: Vec<Value> = state
        .kinds()
        .into_iter()
        .map(|(kind, finds)| json!({ "kind": kind, "count": finds.len(), "finds": finds }))
        .collect();
    json!({
        "seed": state.seed,
        "shard": state.shard,
        "cases": state.cases,
        "refused": state.refused,
        "seconds": state.seconds,
        "found": state.finds.len(),
        "kinds": kinds,
        "coverage": state.coverage,
        "never_set_up": never_ran(state, registry),
        "refusals": state.refusals,
    })
}
