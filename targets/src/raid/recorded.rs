//! What Linux left on metadata devices, for the tests.

/// The beginning of a metadata device.
pub(super) struct Recorded {
    /// The first 160 bytes.
    pub(super) superblock: Vec<u8>,
    /// Bytes from 4096 on.
    pub(super) bitmap: Vec<u8>,
}

/// Returns what was recorded under a name.
pub(super) fn recorded(name: &str) -> Recorded {
    let mut lines = include_str!("recorded.txt").lines().map(|line| line.split(' '));
    let mut words = lines.find(|words| words.clone().next() == Some(name)).expect("a recording");
    let mut bytes = || {
        let hex = words.by_ref().find(|word| *word != name).expect("bytes");
        let digits: Vec<u32> = hex.chars().map(|c| c.to_digit(16).expect("a digit")).collect();
        digits.chunks(2).map(|pair| (pair[0] * 16 + pair[1]) as u8).collect()
    };
    Recorded { superblock: bytes(), bitmap: bytes() }
}
