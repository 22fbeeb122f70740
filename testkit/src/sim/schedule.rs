//! Who comes next: at random, by priorities, or exactly as told.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use crate::Rng;

/// How an executor chooses. Its text is one line that repeats the run: `random 17`,
/// `priority 17`, `exact 17 0.2.1`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Schedule {
    /// By a seed, which also chooses whether tasks or I/O are preferred.
    Random(u64),
    /// By priorities that a seed deals out, changed at a few points of the run: finds in few runs
    /// what needs one task to be slow all along (Burckhardt and others, "A randomized scheduler
    /// with probabilistic guarantees of finding bugs", 2010).
    Priority(u64),
    /// By this list, one number for each step at which there is a choice; the first way when it
    /// has come to its end.
    Exact {
        /// The seed of what targets and disks take at random.
        seed: u64,
        /// The choices.
        choices: Vec<u32>,
    },
}

/// A choice that was made: which way, of how many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Choice {
    /// The way, from 0.
    pub way: u32,
    /// How many there were, two at least.
    pub of: u32,
}

impl Schedule {
    /// Returns the seed.
    pub fn seed(&self) -> u64 {
        match self {
            Schedule::Random(seed) | Schedule::Priority(seed) | Schedule::Exact { seed, .. } => {
                *seed
            }
        }
    }
}

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Schedule::Random(seed) => write!(f, "random {seed}"),
            Schedule::Priority(seed) => write!(f, "priority {seed}"),
            Schedule::Exact { seed, choices } => {
                write!(f, "exact {seed} ")?;
                let texts: Vec<String> = choices.iter().map(u32::to_string).collect();
                f.write_str(if texts.is_empty() { "-" } else { "" })?;
                f.write_str(&texts.join("."))
            }
        }
    }
}

impl FromStr for Schedule {
    type Err = String;

    fn from_str(text: &str) -> Result<Schedule, String> {
        let wrong = || format!("expected a schedule such as `random 17`, found `{text}`");
        let words: Vec<&str> = text.split_whitespace().collect();
        let seed = || words.get(1).and_then(|word| word.parse().ok()).ok_or_else(wrong);
        match words[..] {
            ["random", _] => Ok(Schedule::Random(seed()?)),
            ["priority", _] => Ok(Schedule::Priority(seed()?)),
            ["exact", _, "-"] => Ok(Schedule::Exact { seed: seed()?, choices: Vec::new() }),
            ["exact", _, choices] => {
                let choices = choices.split('.').map(|way| way.parse().map_err(|_| wrong()));
                Ok(Schedule::Exact { seed: seed()?, choices: choices.collect::<Result<_, _>>()? })
            }
            _ => Err(wrong()),
        }
    }
}

/// Which of the things that could happen next a seed leans to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    /// None more than the other.
    Even,
    /// Tasks, as long as one can run: I/O piles up and ends late.
    TasksFirst,
    /// I/O, as long as some is pending: each ends as soon as it can.
    IoFirst,
}

/// How many steps of a run the changes of priority fall into.
const PRIORITY_STEPS: usize = 300;

/// How often priorities change in a run.
const PRIORITY_CHANGES: usize = 3;

/// Makes the choices of one run, and keeps them.
pub(crate) struct Chooser {
    rule: Rule,
    made: Vec<Choice>,
}

enum Rule {
    Random { rng: Rng, order: Order },
    Priority { rng: Rng, ranks: BTreeMap<u64, u64>, changes: Vec<usize>, step: usize },
    Exact { choices: Vec<u32>, next: usize },
}

impl Chooser {
    pub(crate) fn new(schedule: &Schedule) -> Chooser {
        let mut rng = Rng::new(schedule.seed());
        let rule = match schedule {
            Schedule::Random(_) => {
                let order = [Order::Even, Order::TasksFirst, Order::IoFirst][rng.below(3)];
                Rule::Random { rng, order }
            }
            Schedule::Priority(_) => {
                let changes = (0..PRIORITY_CHANGES).map(|_| rng.below(PRIORITY_STEPS)).collect();
                Rule::Priority { rng, ranks: BTreeMap::new(), changes, step: 0 }
            }
            Schedule::Exact { choices, .. } => Rule::Exact { choices: choices.clone(), next: 0 },
        };
        Chooser { rule, made: Vec::new() }
    }

    /// Chooses among `ready` tasks and, after them, pending I/Os; `id` names each of the ways.
    pub(crate) fn choose(&mut self, ready: usize, all: usize, id: impl Fn(usize) -> u64) -> usize {
        let way = match &mut self.rule {
            Rule::Random { rng, order } => {
                let ways = match order {
                    Order::TasksFirst if ready > 0 => 0..ready,
                    Order::IoFirst if all > ready => ready..all,
                    Order::Even | Order::TasksFirst | Order::IoFirst => 0..all,
                };
                ways.start + rng.below(ways.len())
            }
            Rule::Priority { rng, ranks, changes, step } => {
                for way in 0..all {
                    // Above every rank that a change gives.
                    ranks.entry(id(way)).or_insert_with(|| rng.number() | 1 << 32);
                }
                let rank = |way: &usize| ranks[&id(*way)];
                let way = (0..all).max_by_key(rank).expect("there is a way");
                if let Some(change) = changes.iter().position(|change| change == step) {
                    ranks.insert(id(way), change as u64);
                }
                *step += 1;
                way
            }
            Rule::Exact { choices, next } if all > 1 => {
                let way = choices.get(*next).copied().unwrap_or(0) as usize;
                *next += 1;
                way.min(all - 1)
            }
            Rule::Exact { .. } => 0,
        };
        if all > 1 {
            self.made.push(Choice { way: way as u32, of: all as u32 });
        }
        way
    }

    pub(crate) fn made(&self) -> &[Choice] {
        &self.made
    }
}

/// What a property found under a schedule, and the choices that were made.
pub type Run = (Result<(), String>, Vec<Choice>);

/// Tries every schedule of a run, depth first, and returns how many there are; `None` where
/// `limit` was not enough.
///
/// # Errors
/// The first failure, with the shortest schedule found that leads to one.
pub fn exhaustive(
    seed: u64,
    limit: u64,
    mut run: impl FnMut(&Schedule) -> Run,
) -> Result<Option<u64>, (Schedule, String)> {
    let mut choices = Vec::new();
    for count in 1..=limit {
        let (result, made) = run(&Schedule::Exact { seed, choices });
        if let Err(error) = result {
            return Err(shrink(seed, &made, error, run));
        }
        let Some(last) = made.iter().rposition(|choice| choice.way + 1 < choice.of) else {
            return Ok(Some(count));
        };
        choices = made[..last].iter().map(|choice| choice.way).collect();
        choices.push(made[last].way + 1);
    }
    Ok(None)
}

/// How many runs it takes at most to make a schedule shorter.
const SHRINK_RUNS: usize = 500;

/// Makes a failing list of choices shorter and more of them 0, as long as the run fails.
pub fn shrink(
    seed: u64,
    made: &[Choice],
    error: String,
    mut run: impl FnMut(&Schedule) -> Run,
) -> (Schedule, String) {
    let mut best: Vec<u32> = made.iter().map(|choice| choice.way).collect();
    let mut why = error;
    let mut left = SHRINK_RUNS;
    let mut fails = |choices: &[u32], why: &mut String| {
        left = left.saturating_sub(1);
        if left == 0 {
            return false;
        }
        let (result, _) = run(&Schedule::Exact { seed, choices: choices.to_vec() });
        result.map_err(|error| *why = error).is_err()
    };
    let mut cut = best.len() / 2;
    while cut > 0 {
        let shorter = best.len().saturating_sub(cut);
        if shorter < best.len() && fails(&best[..shorter], &mut why) {
            best.truncate(shorter);
        } else {
            cut /= 2;
        }
    }
    for at in 0..best.len() {
        let way = std::mem::take(&mut best[at]);
        if way != 0 && !fails(&best, &mut why) {
            best[at] = way;
        }
    }
    // Whatever comes after the end of the list is 0.
    let len = best.iter().rposition(|way| *way != 0).map_or(0, |last| last + 1);
    best.truncate(len);
    (Schedule::Exact { seed, choices: best }, why)
}
