//! The words of table lines, as they are compared: written as the target itself would print them.

use sim_core::{Params, TargetSpec, split_words};
use targets::lines;
use zeroize::Zeroizing;

/// Stands in a line for a key that was left out, before its length in bytes.
const LEFT_OUT: char = '?';

/// Where the key stands among the words of `crypt`.
const KEY: usize = 1;

/// Where the device stands among the words of `crypt`.
pub(super) const CRYPT_DEVICE: usize = 3;

/// Splits a line into words, backslashes gone.
pub(super) fn unescaped(params: &str) -> Zeroizing<Vec<String>> {
    Zeroizing::new(split_words(params))
}

/// Writes a word so that it is one word of a line.
pub(super) fn escaped(word: &str) -> String {
    lines::DeviceWord(word.to_owned()).to_string()
}

/// Returns the words of a line as its target type prints them; as they are where that is not known.
pub(super) fn canonical(line: &TargetSpec) -> Zeroizing<Vec<String>> {
    let mut words = unescaped(&line.params);
    let key = (line.target_type == "crypt")
        .then(|| words.get(KEY).and_then(|key| left_out(key).map(|len| (key.clone(), len))))
        .flatten();
    // No line of `crypt` is without a key: one of that length does as well.
    let printed = match &key {
        Some((_, len)) => {
            words[KEY] = "0".repeat(2 * len);
            printed(line, &joined(&words))
        }
        None => printed(line, &line.params),
    };
    if let Some(printed) = printed {
        words = unescaped(&printed);
    }
    if let Some((key, _)) = key {
        words[KEY] = key;
    }
    words
}

/// Joins words to a line.
pub(super) fn joined(words: &[String]) -> Params {
    let words: Zeroizing<Vec<String>> =
        Zeroizing::new(words.iter().map(|word| escaped(word)).collect());
    Params::from(words.join(" "))
}

/// Prints a line as the target would; nothing where it cannot be read, or the type is of a plug-in.
fn printed(line: &TargetSpec, params: &str) -> Option<Params> {
    let len = line.len;
    macro_rules! printed {
        ($($name:literal => $of:ident),* $(,)?) => {
            match line.target_type.as_str() {
                $($name => lines::$of::Line::from_text(params, len).ok().map(|line| line.to_string()),)*
                _ => None,
            }
        };
    }
    let printed = printed! {
        "linear" => linear, "striped" => striped, "crypt" => crypt, "mirror" => mirror,
        "snapshot" => snapshot, "snapshot-merge" => snapshot, "snapshot-origin" => snapshot_origin,
        "raid" => raid, "multipath" => multipath, "unstriped" => unstriped, "switch" => switch,
        "delay" => delay, "flakey" => flakey, "dust" => dust, "log-writes" => log_writes, "ebs" => ebs,
    };
    printed.map(Params::from)
}

/// Returns the length of a key that a word stands for.
fn left_out(word: &str) -> Option<usize> {
    // No cipher has a longer one; what is longer is told by whoever loads it.
    word.strip_prefix(LEFT_OUT)?.parse().ok().filter(|len| (1..=4096).contains(len))
}

/// Returns the word that stands for a line's key, and where, if the key was left out.
pub(super) fn lacks_key(line: &TargetSpec) -> bool {
    line.target_type == "crypt"
        && unescaped(&line.params).get(KEY).is_some_and(|key| left_out(key).is_some())
}

/// Tells whether a line has a key in clear.
pub(super) fn has_key(line: &TargetSpec) -> bool {
    line.target_type == "crypt"
        && unescaped(&line.params)
            .get(KEY)
            .is_some_and(|key| !key.starts_with([LEFT_OUT, ':', '-']) && !key.is_empty())
}

/// Puts the key of one line into another.
pub(super) fn with_key_of(line: &TargetSpec, full: &TargetSpec) -> TargetSpec {
    let (mut words, full) = (unescaped(&line.params), unescaped(&full.params));
    if let (Some(to), Some(key)) = (words.get_mut(KEY), full.get(KEY)) {
        *to = key.clone();
    }
    TargetSpec { params: joined(&words), ..line.clone() }
}

/// Tells whether two words are of the same key, as far as that is said.
pub(super) fn same_key(one: &str, other: &str) -> bool {
    match (left_out(one), left_out(other)) {
        (Some(len), None) => other.len() == 2 * len,
        (None, Some(len)) => one.len() == 2 * len,
        (Some(_), Some(_)) | (None, None) => one.eq_ignore_ascii_case(other),
    }
}

/// Tells whether a word at this place of a line is a key.
pub(super) fn is_key(line: &TargetSpec, index: usize) -> bool {
    line.target_type == "crypt" && index == KEY
}

/// Writes a line for people, without its key.
pub(super) fn shown(line: &TargetSpec) -> String {
    if !has_key(line) {
        return line.to_string();
    }
    let mut words = unescaped(&line.params);
    if let Some(key) = words.get_mut(KEY) {
        *key = format!("{LEFT_OUT}{}", key.len() / 2);
    }
    TargetSpec { params: joined(&words), ..line.clone() }.to_string()
}
