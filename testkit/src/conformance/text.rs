//! Parts about words: tables and messages.

use std::sync::Arc;

use sim_core::control::{Answer, Command, Failure, Report, Slot};
use sim_core::{BlockDevice, Held, KeyText, Sector, TargetSpec, parse_table, split_words};

use super::rig::{Latch, Rig};
use super::suite::Suite;
use crate::{Rng, World, id};

/// A word that no table means.
const NONSENSE: &str = "?!";

/// Words that a table might mean.
const ODD: [&str; 12] = [
    "0",
    "1",
    "3",
    "-1",
    "4096",
    "18446744073709551615",
    "99999999999999999999999",
    "a",
    "7:0",
    "253:0",
    "é",
    "x=1",
];

/// The text loads to itself, by numbers and by names, and the content stays.
pub(super) fn reload(suite: &Suite, seed: u64) -> Result<(), String> {
    let rig = suite.start(seed)?;
    let mut rng = Rng::new(seed);
    let first = table(&rig, Slot::Live, false)?;
    for device_names in [false, true] {
        let steps = rig.steps(&mut rng, 20);
        rig.run_well(&steps, 2)?;
        let text = table(&rig, Slot::Live, device_names)?;
        let shown: Vec<String> = text.iter().map(TargetSpec::to_string).collect();
        let wrong =
            |what: &str, failure: Failure| format!("{what} of `{}`: {failure}", shown.join("; "));
        rig.world.load(0, text).map_err(|failure| wrong("load", failure))?;
        let inactive = table(&rig, Slot::Inactive, false)?;
        rig.world.suspend(0, Held::Flush).map_err(|failure| wrong("suspend", failure))?;
        rig.world.resume(0).map_err(|failure| wrong("resume", failure))?;
        let live = table(&rig, Slot::Live, false)?;
        if inactive != first || live != first {
            return Err(format!("`{}` is loaded as {live:?}, and was {first:?}", shown.join("; ")));
        }
        rig.read_back()?;
    }
    Ok(())
}

fn table(rig: &Rig, slot: Slot, device_names: bool) -> Result<Vec<TargetSpec>, String> {
    let (report, keys) = (Report::Table, KeyText::Plain);
    let command = Command::TableStatus { id: id(0), report, slot, device_names, keys };
    match rig.world.execute(command).map_err(|failure| failure.to_string())? {
        Answer::Table(_, lines) => Ok(lines),
        other => Err(format!("the table's text is {other:?}")),
    }
}

/// Every word cut, garbled, doubled, and replaced by words that might mean something.
pub(super) fn garble(suite: &Suite) -> Result<(), String> {
    let lines = parse_table(&suite.table).map_err(|error| error.to_string())?;
    let specs: Vec<TargetSpec> = lines.into_iter().map(|(_, spec)| spec).collect();
    let optional = optional_words(suite, &specs)?;
    let first_optional = |line: Sector| {
        let own = optional.iter().filter(|(start, _)| *start == line);
        own.map(|(_, first)| *first).min()
    };
    for line in 0..specs.len() {
        let words = split_words(&specs[line].params);
        let try_words = |words: &[String]| {
            let mut specs = specs.clone();
            specs[line].params = words.join(" ").into();
            load(suite, specs)
        };
        for at in 0..words.len() {
            let with = |new: &[&str]| {
                let new = new.iter().map(|word| (*word).to_owned());
                let mut changed = words.clone();
                changed.splice(at..=at, new);
                changed
            };
            let cut = match first_optional(specs[line].start) {
                Some(first) if at >= first => None,
                // An optional word would move to the place of the one that is missing.
                Some(first) => Some([&words[..at], &words[at + 1..first]].concat()),
                None => Some(with(&[])),
            };
            if let Some(cut) = cut {
                must_name(line, None, &cut.join(" "), try_words(&cut))?;
            }
            let nonsense = with(&[NONSENSE]);
            must_name(line, Some(at), &nonsense.join(" "), try_words(&nonsense))?;
            // Either is fine, as long as there is an answer.
            for word in ODD {
                let _ = try_words(&with(&[word]));
            }
            let _ = try_words(&with(&[&words[at], &words[at]]));
            let _ = try_words(&with(&[&"9".repeat(5000)]));
        }
        let mut longer = words.clone();
        longer.push(NONSENSE.to_owned());
        let _ = try_words(&longer);
        let _ = try_words(&[]);
    }
    Ok(())
}

/// Loads the table as it is, and returns which words of it may be left out.
fn optional_words(suite: &Suite, specs: &[TargetSpec]) -> Result<Vec<(Sector, usize)>, String> {
    let world = World::new(0, suite.registry.clone());
    suite.lay_plain(&world);
    let loaded = world.create(0).and_then(|_| world.load(0, specs.to_vec()));
    loaded.map_err(|failure| format!("load: {failure}"))?;
    Ok(world.control.optional_words())
}

fn load(suite: &Suite, specs: Vec<TargetSpec>) -> Result<(), Failure> {
    let world = World::new(0, suite.registry.clone());
    suite.lay_plain(&world);
    world.create(0)?;
    world.load(0, specs).map(drop)
}

/// Fails unless the error says which line and which word is at fault; any word where one is
/// missing, as those after it have moved.
fn must_name(
    line: usize,
    word: Option<usize>,
    text: &str,
    result: Result<(), Failure>,
) -> Result<(), String> {
    let Err(failure) = result else { return Err(format!("`{text}` is taken")) };
    let Some(table) = &failure.table else {
        return Err(format!("`{text}`: the error names no line: {failure}"));
    };
    let named = match word {
        Some(word) => table.arg == Some(word) || table.to_string().contains(NONSENSE),
        None => table.arg.is_some(),
    };
    if table.target != Some(line) || !named {
        return Err(format!("`{text}`: the error does not name the word: {failure}"));
    }
    Ok(())
}

/// Messages that the types say they take, and messages of random words, while bios are under way; the
/// device goes on.
pub(super) fn messages(suite: &Suite, seed: u64) -> Result<(), String> {
    let rig = suite.start(seed)?;
    let mut rng = Rng::new(seed);
    let steps = rig.steps(&mut rng, 20);
    let told = Arc::new(Latch::new(1));
    let (tell, counts) = (tell(suite, &rig, rng), told.clone());
    let telling = rig.world.sim.start("messages", async move {
        let result = tell.await;
        counts.count();
        result
    });
    let ran = rig.run_well(&steps, 2);
    rig.wait(&told).map_err(|why| format!("a message is never answered, or {why}"))?;
    telling.take().unwrap_or(Ok(()))?;
    ran?;
    rig.read_back()?;
    table(&rig, Slot::Live, false).map(drop)
}

fn tell(
    suite: &Suite,
    rig: &Rig,
    mut rng: Rng,
) -> impl Future<Output = Result<(), String>> + Send + use<> {
    let names = ["help", "resync", "on", "off", "set", "drop", "suspend", NONSENSE, "\\", ""];
    let own = own_messages(suite);
    let (control, handle, size) =
        (rig.world.control.clone(), rig.world.handle(), rig.device.size().0);
    async move {
        for _ in 0..20 {
            let is_own = !own.is_empty() && rng.below(2) == 0;
            let (sector, message) = if is_own {
                own[rng.below(own.len())].clone()
            } else {
                let words = (0..rng.below(5)).map(|_| match rng.below(3) {
                    0 => ODD[rng.below(ODD.len())].to_owned(),
                    1 => names[rng.below(names.len())].to_owned(),
                    _ => char::from(b'!' + rng.below(90) as u8)
                        .to_string()
                        .repeat(1 + rng.below(300)),
                });
                let message = words.collect::<Vec<_>>().join(" ");
                (Sector(rng.number() % (size + 1)), message)
            };
            let (text, slot) = (message.as_str().into(), Slot::Live);
            let command = Command::TargetMsg { id: id(0), sector, message: text, slot };
            match control.execute(command).await {
                Err(failure) if is_own => {
                    return Err(format!("message `{message}`, one of the type's own: {failure}"));
                }
                // Refused or answered; both are fine.
                Ok(_) | Err(_) => {}
            }
            for _ in 0..rng.below(6) {
                handle.turn().await;
            }
        }
        Ok(())
    }
}

/// Lists the messages that the targets of the table take, each with the first sector of its target.
fn own_messages(suite: &Suite) -> Vec<(Sector, String)> {
    let lines = parse_table(&suite.table).unwrap_or_default();
    let of_line = |(_, spec): (_, TargetSpec)| {
        let target_type = suite.registry.find(&spec.target_type).cloned();
        let texts = target_type.map(|known| known.messages().to_vec()).unwrap_or_default();
        texts.into_iter().map(move |text| (spec.start, text.to_owned()))
    };
    lines.into_iter().flat_map(of_line).collect()
}
