//! Reads the images of this folder, as their README has them. Tests of several crates do.

#![allow(dead_code, reason = "not every one of them needs all of it")]

/// Returns the bytes of an image.
pub(crate) fn image(name: &str) -> Vec<u8> {
    // From whichever crate of the workspace this file is part of.
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
    let path = format!("{root}/targets/tests/data/images/{name}");
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    let mut image = Vec::new();
    for line in text.lines() {
        let words: Vec<&str> = line.split(' ').collect();
        let number = |at: usize| words[at].parse::<usize>().expect("a number");
        match words[0] {
            "zero" => image.resize(image.len() + number(1) * 512, 0),
            "pat" => image.extend(pattern(number(1) as u64, number(2) as u64)),
            "hex" => {
                let end = image.len() + number(1) * 512;
                let digits = words[2].as_bytes().chunks_exact(2);
                let byte = |pair: &[u8]| {
                    let text = std::str::from_utf8(pair).expect("ASCII");
                    u8::from_str_radix(text, 16).expect("a hexadecimal byte")
                };
                image.extend(digits.map(byte));
                image.resize(end, 0);
            }
            other => panic!("{name}: {other}"),
        }
    }
    image
}

/// Sectors of the pattern: words of splitmix64 from seed 0, 64 a sector.
pub(crate) fn pattern(first: u64, count: u64) -> Vec<u8> {
    let word = |index: u64| {
        let z = (index + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let z = (z ^ z >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ z >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ z >> 31).to_le_bytes()
    };
    (64 * first..64 * (first + count)).flat_map(word).collect()
}
