//! Faults that are armed, and what they have struck, as text and as JSON.

use std::fmt::Write;

use ops::faults::Faulty;
use serde_json::{Value, json};
use sim_core::{FaultKind, FaultReport, FaultRule, Strike};

/// How many strikes are printed where not all are asked for.
const FEW: usize = 10;

/// Says which rules are armed, and what they have struck.
pub(crate) fn faults(faulty: &Faulty, all: bool) -> String {
    let name = &faulty.name;
    let mut text = String::new();
    if faulty.plans.is_empty() {
        text = format!("{name}: no faults are armed\n");
    }
    for plan in &faulty.plans {
        write_plan(&mut text, name, plan, all).expect("a string takes what is written");
    }
    text
}

fn rules_text(count: usize) -> String {
    if count == 1 { "1 rule".to_owned() } else { format!("{count} rules") }
}

/// Says what was armed just now.
pub(crate) fn armed(faulty: &Faulty) -> String {
    let name = &faulty.name;
    let one = |plan: &FaultReport| {
        format!(
            "{name}: {} armed{}, seed {}: until `dmsim heal {name}`, or the end of the device or the daemon\n",
            rules_text(plan.rules.len()),
            place(plan),
            plan.plan.seed.unwrap_or_default(),
        )
    };
    faulty.plans.iter().map(one).collect()
}

fn place(plan: &FaultReport) -> String {
    plan.below.map(|below| format!(" for {below}")).unwrap_or_default()
}

fn write_plan(text: &mut String, name: &str, plan: &FaultReport, all: bool) -> std::fmt::Result {
    writeln!(
        text,
        "{name}: {}{}, seed {}, armed {:.1} s ago, {} I/O since",
        rules_text(plan.rules.len()),
        place(plan),
        plan.plan.seed.unwrap_or_default(),
        f64::from(plan.armed_s),
        plan.bio_count,
    )?;
    for ((rule, count), at) in plan.plan.rules.iter().zip(&plan.rules).zip(1..) {
        let (fit, struck) = (count.fit_count, count.struck_count);
        writeln!(text, "rule {at}: {}: {struck} struck of {fit} that fit", rule_text(rule))?;
    }
    let shown = if all { plan.strikes.len() } else { plan.strikes.len().min(FEW) };
    for strike in &plan.strikes[plan.strikes.len() - shown..] {
        let Strike { rule, at_s, op, start, len, fate } = strike;
        let at = f64::from(*at_s);
        writeln!(text, "{at:.6} s: rule {rule}: {} {start}+{len}: {fate}", op.word())?;
    }
    Ok(())
}

fn rule_text(rule: &FaultRule) -> String {
    let ops: Vec<&str> = rule.ops().iter().map(|op| op.word()).collect();
    let mut text = format!("{} of {}", rule.kind.word(), ops.join(", "));
    let mut add = |part: Option<String>| text += &part.unwrap_or_default();
    add(rule.range().map(|(start, len)| format!(" at {start}+{len}")));
    add(rule.nth.map(|nth| format!(", from the {nth}. on")));
    add(rule
        .times
        .map(|times| if times == 1 { ", once".to_owned() } else { format!(", {times} times") }));
    add(rule.rate.map(|rate| format!(", with a probability of {rate}")));
    add(rule.from_s.map(|from| format!(", from second {from} on")));
    add(rule.for_s.map(|lasts| format!(", for {lasts} s")));
    add(rule.delay_ms.map(|delay| format!(", {delay} ms late")));
    add(rule.done.map(|done| format!(", {done} sectors done")));
    add(rule.to.map(|to| format!(", to sector {to}")));
    add(rule.bits.map(|bits| format!(", {bits} bits")));
    text
}

/// The same as JSON.
pub(crate) fn faults_json(faulty: &Faulty) -> Value {
    json!({
        "name": faulty.name,
        "major": faulty.dev.major,
        "minor": faulty.dev.minor,
        "plans": faulty.plans.iter().map(plan_json).collect::<Vec<_>>(),
    })
}

fn plan_json(plan: &FaultReport) -> Value {
    let rules = plan.plan.rules.iter().zip(&plan.rules).zip(1..).map(|((rule, count), at)| {
        let bits = (rule.kind == FaultKind::Flip).then(|| rule.bits.unwrap_or(1));
        json!({
            "rule": at,
            "kind": rule.kind,
            "on": rule.ops(),
            "start": rule.range().map(|(start, _)| start),
            "len": rule.range().map(|(_, len)| len),
            "nth": rule.nth,
            "times": rule.times,
            "rate": rule.rate,
            "from_s": rule.from_s,
            "for_s": rule.for_s,
            "delay_ms": rule.delay_ms,
            "done": rule.done,
            "to": rule.to,
            "bit_count": bits,
            "fit_count": count.fit_count,
            "struck_count": count.struck_count,
        })
    });
    let strikes = plan.strikes.iter().map(|strike| {
        json!({
            "rule": strike.rule,
            "at_s": strike.at_s,
            "op": strike.op,
            "start": strike.start,
            "len": strike.len,
            "fate": strike.fate.to_string(),
        })
    });
    json!({
        "below_device": plan.below.map(|below| json!({ "major": below.major, "minor": below.minor })),
        "seed": plan.plan.seed,
        "armed_s": plan.armed_s,
        "bio_count": plan.bio_count,
        "rules": rules.collect::<Vec<_>>(),
        "strikes": strikes.collect::<Vec<_>>(),
    })
}
