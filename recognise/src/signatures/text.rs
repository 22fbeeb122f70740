//! Labels and uuids, decoded as blkid does.

use crate::bytes::hex;

/// Makes a label fit for a terminal: what would steer it, or turn the direction of the text, is replaced.
fn safe(label: &str) -> Option<String> {
    let label = label.trim_end_matches([' ', '\t', '\n', '\x0b', '\x0c', '\r']);
    let turns = |c| matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let safe = |c: char| if c.is_control() || turns(c) { char::REPLACEMENT_CHARACTER } else { c };
    (!label.is_empty()).then(|| label.chars().map(safe).collect())
}

fn until_nul(field: &[u8]) -> &[u8] {
    &field[..field.iter().position(|byte| *byte == 0).unwrap_or(field.len())]
}

/// Decodes a label that is UTF-8, or was meant to be: what is not is taken for Latin-1, which loses
/// nothing. None where it is empty.
pub(super) fn label(field: &[u8]) -> Option<String> {
    match std::str::from_utf8(until_nul(field)) {
        Ok(label) => safe(label),
        Err(_) => latin1(field),
    }
}

/// Decodes a label in Latin-1.
pub(super) fn latin1(field: &[u8]) -> Option<String> {
    safe(&until_nul(field).iter().map(|byte| char::from(*byte)).collect::<String>())
}

/// Decodes a label in UTF-16 of the low byte first.
pub(super) fn utf16_le(field: &[u8]) -> Option<String> {
    utf16(field, u16::from_le_bytes)
}

/// Decodes a label in UTF-16 of the high byte first.
pub(super) fn utf16_be(field: &[u8]) -> Option<String> {
    utf16(field, u16::from_be_bytes)
}

fn utf16(field: &[u8], unit: fn([u8; 2]) -> u16) -> Option<String> {
    let units = field.chunks_exact(2).map(|pair| unit([pair[0], pair[1]]));
    let chars = char::decode_utf16(units.take_while(|unit| *unit != 0));
    safe(&chars.map(|c| c.unwrap_or(char::REPLACEMENT_CHARACTER)).collect::<String>())
}

/// Prints a uuid of 16 bytes; none where all are zero.
pub(super) fn uuid(field: &[u8]) -> Option<String> {
    let text = nonzero(field).map(hex)?;
    let parts = [&text[..8], &text[8..12], &text[12..16], &text[16..20], &text[20..32]];
    Some(parts.join("-"))
}

/// Prints the serial number of a FAT: `ABCD-1234`; none where it is zero.
pub(super) fn serial(field: &[u8]) -> Option<String> {
    let [a, b, c, d] = *nonzero(field)? else { return None };
    Some(format!("{d:02X}{c:02X}-{b:02X}{a:02X}"))
}

pub(super) fn nonzero(field: &[u8]) -> Option<&[u8]> {
    field.iter().any(|byte| *byte != 0).then_some(field)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_decoded_and_made_safe() {
        assert_eq!(label(b"plain\0rest").as_deref(), Some("plain"));
        assert_eq!(label(b"spaces  \t").as_deref(), Some("spaces"));
        assert_eq!(label(b"\0nothing"), None);
        assert_eq!(label(b"caf\xe9").as_deref(), Some("caf\u{e9}"));
        assert_eq!(label(b"a\x1b[2Jb").as_deref(), Some("a\u{fffd}[2Jb"));
        assert_eq!(label("a\u{202e}b".as_bytes()).as_deref(), Some("a\u{fffd}b"));
        assert_eq!(utf16_le(b"a\0\x3d\xd8\0\xde\0\0b\0").as_deref(), Some("a\u{1f600}"));
        assert_eq!(utf16_be(b"\0a\xd8\x3d").as_deref(), Some("a\u{fffd}"));
    }

    #[test]
    fn uuids_are_printed_as_blkid_does() {
        let bytes: Vec<u8> = (0..16).collect();
        assert_eq!(uuid(&bytes).as_deref(), Some("00010203-0405-0607-0809-0a0b0c0d0e0f"));
        assert_eq!(uuid(&[0; 16]), None);
        assert_eq!(serial(&[0x34, 0x12, 0xcd, 0xab]).as_deref(), Some("ABCD-1234"));
    }
}
