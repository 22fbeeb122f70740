//! Numbers and text at fixed places of a header.

pub(crate) use targets::bytes::{array, be16, be32, be64, le16, le32, le64};

/// Reads a text that ends at the first NUL, or with its field. What is not printable text is
/// replaced: it would reach a terminal.
pub(crate) fn text(field: &[u8]) -> String {
    let end = field.iter().position(|byte| *byte == 0).unwrap_or(field.len());
    printable(&String::from_utf8_lossy(&field[..end]))
}

/// Replaces what a terminal would take for a command.
pub(crate) fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c }).collect()
}

/// Prints bytes as `cryptsetup luksDump` does: `0a 1b `, sixteen a line, further lines after
/// `indent`.
pub(crate) fn hex_lines(bytes: &[u8], indent: &str) -> String {
    let line = |part: &[u8]| part.iter().map(|byte| format!("{byte:02x} ")).collect::<String>();
    bytes.chunks(16).map(line).collect::<Vec<_>>().join(&format!("\n{indent}"))
}

/// Prints bytes as lower-case hex digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
