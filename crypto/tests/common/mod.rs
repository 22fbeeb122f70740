//! The pattern that all recorded data is made of, and the data's lines.
#![allow(dead_code)]

/// Where in the pattern the keys come from.
pub(crate) const KEY_SECTOR: u64 = 60_000;

/// Makes sectors of the pattern: splitmix64, seeded with 0, as little-endian words.
pub(crate) fn pattern(first: u64, sectors: u64) -> Vec<u8> {
    let words = (64 * first)..(64 * (first + sectors));
    let word = |i: u64| {
        let z = (i + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    };
    words.flat_map(|i| word(i).to_le_bytes()).collect()
}

/// Cuts the lines of a data file into fields.
pub(crate) fn lines(text: &str) -> impl Iterator<Item = Vec<&str>> {
    let data = text.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
    data.map(|line| line.split('|').collect())
}

/// Reads a number.
pub(crate) fn number<T: std::str::FromStr>(word: &str) -> T {
    word.parse().unwrap_or_else(|_| panic!("`{word}` is no number"))
}

/// Writes bytes as hex digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
