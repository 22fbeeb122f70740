//! The messages about statistics, as Linux 6.12 reads them.
//!
//! A number there is decimal digits, which may be too many: then it is what is left of it in 64 or
//! 32 bits.

use std::ops::Range;

use super::region::Shape;
use crate::{Errno, Sectors};

/// A message about statistics.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Message {
    /// Makes a region, and answers its number.
    Create(Shape),
    /// Ends a region.
    Delete(u32),
    /// Sets the counters of a region back.
    Clear(u32),
    /// Lists the regions, or those of one program.
    List(Option<String>),
    /// Tells the counters of some areas of a region.
    Print {
        id: u32,
        areas: Range<u64>,
        /// Sets them back.
        clear: bool,
    },
    /// Has a region keep a word.
    SetAux(u32, String),
}

/// Reads a message for a device of this size; `None` where it is no message about statistics,
/// [`Errno::INVAL`] where it makes no sense.
pub(crate) fn parse(words: &[&str], size: Sectors) -> Option<Result<Message, Errno>> {
    let (verb, words) = words.split_first()?;
    let message = match verb.to_ascii_lowercase().as_str() {
        "@stats_create" => create(words, size).map(Message::Create),
        "@stats_delete" => only_id(words).map(Message::Delete),
        "@stats_clear" => only_id(words).map(Message::Clear),
        "@stats_list" => match words {
            [] => Some(Message::List(None)),
            [program] => Some(Message::List(Some((*program).to_owned()))),
            _ => None,
        },
        "@stats_print" => print(words, false),
        "@stats_print_clear" => print(words, true),
        "@stats_set_aux" => match words {
            [number, text] => id(number).map(|id| Message::SetAux(id, (*text).to_owned())),
            _ => None,
        },
        _ => return None,
    };
    Some(message.ok_or(Errno::INVAL))
}

/// Reads `<range> <step> [<number of options> <option>...] [<program> [<aux>]]`.
fn create(words: &[&str], size: Sectors) -> Option<Shape> {
    let (range, step, words) = match words {
        [range, step, words @ ..] => (*range, *step, words),
        _ => return None,
    };
    let (start, len) = match range.split_once('+') {
        _ if range == "-" => (0, size.0.max(1)),
        Some((start, len)) => (digits(start)?, digits(len)?),
        None => return None,
    };
    let end = start.checked_add(len).filter(|end| start < *end)?;
    let step = match step.strip_prefix('/') {
        Some(areas) => {
            let areas = digits32(areas).filter(|areas| *areas > 0)?;
            (end - start).div_ceil(areas.into())
        }
        None => digits(step)?,
    };
    if step == 0 {
        return None;
    }
    let (mut precise, mut bounds) = (false, Vec::new());
    let mut words = words.iter().copied().peekable();
    if let Some(count) = words.peek().and_then(|word| digits32(word)) {
        words.next();
        for _ in 0..count {
            let option = words.next()?;
            if option.eq_ignore_ascii_case("precise_timestamps") {
                precise = true;
            } else if bounds.is_empty() {
                bounds = histogram(option)?;
            } else {
                return None;
            }
        }
    }
    let mut word = || words.next().unwrap_or("-").to_owned();
    let (program, aux) = (word(), word());
    let all = words.next().is_none();
    all.then_some(Shape { start, end, step, precise, bounds, program, aux })
}

/// Reads `histogram:<bound>,<bound>...`: ascending, and none of them 0.
fn histogram(option: &str) -> Option<Vec<u64>> {
    const NAME: &str = "histogram:";
    let named = option.get(..NAME.len())?.eq_ignore_ascii_case(NAME);
    let bounds = named.then(|| option[NAME.len()..].split(','))?;
    let mut last = 0;
    let ascending = |word| {
        let bound = digits(word).filter(|bound| *bound > last)?;
        last = bound;
        Some(bound)
    };
    bounds.map(ascending).collect()
}

/// Reads `<id> [<first area>|- <number of areas>|-]`.
fn print(words: &[&str], clear: bool) -> Option<Message> {
    let number = |word: &str, instead| if word == "-" { Some(instead) } else { digits(word) };
    let (id, areas) = match words {
        [number] => (id(number)?, 0..u64::MAX),
        [region, first, count] => {
            let (first, count) = (number(first, 0)?, number(count, u64::MAX)?);
            (id(region)?, first..first.saturating_add(count))
        }
        _ => return None,
    };
    Some(Message::Print { id, areas, clear })
}

fn only_id(words: &[&str]) -> Option<u32> {
    match words {
        [number] => id(number),
        _ => None,
    }
}

/// Reads the number of a region: 31 bits.
fn id(word: &str) -> Option<u32> {
    let number = match word.strip_prefix('-') {
        Some(number) => digits32(number)?.wrapping_neg(),
        None => digits32(word)?,
    };
    i32::try_from(number).ok().map(i32::cast_unsigned)
}

fn digits32(word: &str) -> Option<u32> {
    digits(word).map(|number| number as u32)
}

/// Reads digits and nothing else, modulo 2^64.
fn digits(word: &str) -> Option<u64> {
    let number = |number: u64, digit: u8| {
        let digit = digit.is_ascii_digit().then(|| u64::from(digit - b'0'))?;
        Some(number.wrapping_mul(10).wrapping_add(digit))
    };
    let word = (!word.is_empty()).then_some(word)?;
    word.bytes().try_fold(0, number)
}
