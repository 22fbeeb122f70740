//! A state that a power cut leaves: where the power went, and what of the writes before it is missing.

use std::fmt;
use std::str::FromStr;

use sim_core::Rng;

/// What is left of a write that was not durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kept {
    /// Nothing.
    Nothing,
    /// So many of its first atomic units.
    Head(u64),
    /// All but so many of its first atomic units.
    Tail(u64),
    /// Each atomic unit or not, by this seed.
    Some(u64),
}

impl Kept {
    /// Tells whether an atomic unit of the write is there, counted from 0.
    pub fn has(self, unit: u64) -> bool {
        match self {
            Kept::Nothing => false,
            Kept::Head(units) => unit < units,
            Kept::Tail(units) => unit >= units,
            Kept::Some(seed) => Rng::mix(seed ^ Rng::mix(unit)) & 1 == 1,
        }
    }
}

/// A write of which something is missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Loss {
    /// The entry of the log, from 0.
    pub entry: usize,
    /// What is left of it.
    pub kept: Kept,
}

/// A state that a power cut leaves.
///
/// As text, `CUT-ENTRY-ENTRY...`: the number of entries of the log that had come to pass, and each write that is
/// lost by the number of its entry. Of one with `h3` behind it the first 3 atomic units are there, with `t3` all but
/// these, with `r9` those that the seed 9 chooses.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct State {
    /// How many entries of the log had come to pass.
    pub cut: usize,
    /// What is missing of those that were not durable, by their entries.
    pub losses: Vec<Loss>,
}

impl State {
    /// Returns what is left of an entry, if something of it is missing.
    pub fn kept(&self, entry: usize) -> Option<Kept> {
        let at = self.losses.binary_search_by_key(&entry, |loss| loss.entry).ok()?;
        Some(self.losses[at].kept)
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.cut)?;
        for Loss { entry, kept } in &self.losses {
            write!(f, "-{entry}")?;
            match kept {
                Kept::Nothing => Ok(()),
                Kept::Head(units) => write!(f, "h{units}"),
                Kept::Tail(units) => write!(f, "t{units}"),
                Kept::Some(seed) => write!(f, "r{seed}"),
            }?;
        }
        Ok(())
    }
}

/// Why a text is no state.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "a state: expected CUT-ENTRY-ENTRY..., each a number, an entry with h, t or r and a number behind it at most, in rising order; found `{0}`"
)]
pub struct NoState(String);

impl FromStr for State {
    type Err = NoState;

    fn from_str(text: &str) -> Result<State, NoState> {
        let no_state = || NoState(text.to_owned());
        let mut parts = text.split('-');
        let cut = parts.next().and_then(|cut| cut.parse().ok()).ok_or_else(no_state)?;
        let losses: Option<Vec<Loss>> = parts.map(loss).collect();
        let losses = losses.ok_or_else(no_state)?;
        match losses.is_sorted_by(|a, b| a.entry < b.entry) {
            true => Ok(State { cut, losses }),
            false => Err(no_state()),
        }
    }
}

fn loss(text: &str) -> Option<Loss> {
    let Some(at) = text.find(|c: char| !c.is_ascii_digit()) else {
        return Some(Loss { entry: text.parse().ok()?, kept: Kept::Nothing });
    };
    let (entry, rest) = text.split_at(at);
    let kept: fn(u64) -> Kept = match rest.as_bytes().first()? {
        b'h' => Kept::Head,
        b't' => Kept::Tail,
        b'r' => Kept::Some,
        _ => return None,
    };
    Some(Loss { entry: entry.parse().ok()?, kept: kept(rest[1..].parse().ok()?) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_is_a_text_and_the_reverse() {
        for text in ["0", "118-97", "118-97-103h3-110t5-111r18446744073709551615"] {
            assert_eq!(text.parse::<State>().expect("a state").to_string(), text);
        }
        for text in ["", "-", "a", "1-", "1-2x3", "1-2h", "1-3-2", "1-2-2", "1-h2", "1--2", "1-2é"]
        {
            assert!(text.parse::<State>().is_err(), "{text}");
        }
    }

    #[test]
    fn heads_and_tails_are_what_is_left() {
        let there = |kept: Kept| (0..4).map(|unit| kept.has(unit)).collect::<Vec<_>>();
        assert_eq!(there(Kept::Head(1)), [true, false, false, false]);
        assert_eq!(there(Kept::Tail(1)), [false, true, true, true]);
        assert_eq!(there(Kept::Nothing), [false; 4]);
        let some = |seed| (0..64).filter(|unit| Kept::Some(seed).has(*unit)).count();
        assert!((1..64).contains(&some(1)) && some(1) + some(2) != 0);
    }
}
