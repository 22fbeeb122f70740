//! Names and uuids as the kernel is given them: bytes that udev cannot take written as `\xNN`, as
//! libdevmapper does.

use sim_core::control::{MAX_NAME, MAX_UUID};

/// How names and uuids are written for the kernel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// As they are.
    None,
    /// Bytes off the whitelist as `\xNN`; what is written so already is kept.
    #[default]
    Auto,
    /// Bytes off the whitelist as `\xNN`, backslashes among them.
    Hex,
}

/// What is mangled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// A device's name, of [`MAX_NAME`] bytes at most.
    Name,
    /// A device's uuid, of [`MAX_UUID`] bytes at most.
    Uuid,
}

impl Mode {
    /// Reads the argument of `--manglename`.
    pub fn named(word: &str) -> Option<Mode> {
        match word.to_ascii_lowercase().as_str() {
            "none" => Some(Mode::None),
            "auto" => Some(Mode::Auto),
            "hex" => Some(Mode::Hex),
            _ => None,
        }
    }
}

impl What {
    fn word(self) -> &'static str {
        match self {
            What::Name => "name",
            What::Uuid => "UUID",
        }
    }

    fn limit(self) -> usize {
        match self {
            What::Name => MAX_NAME,
            What::Uuid => MAX_UUID,
        }
    }
}

/// Writes a name or uuid for the kernel.
///
/// # Errors
/// The line to print.
pub fn mangle(text: &str, what: What, mode: Mode) -> Result<String, String> {
    let mut out = String::with_capacity(text.len());
    let (mut kept, mut changed, mut improper) = (false, false, false);
    let mut at = 0;
    let bytes = text.as_bytes();
    while at < bytes.len() {
        match (mode, escape(&bytes[at..])) {
            (Mode::Auto, Escape::Whole(_)) => {
                out.push_str(&text[at..at + 4]);
                kept = true;
                at += 4;
                continue;
            }
            (Mode::Auto, Escape::Broken) => improper = true,
            (Mode::None, _) => {
                out.push_str(text);
                break;
            }
            (Mode::Auto, Escape::No) | (Mode::Hex, _) => (),
        }
        if is_plain(bytes[at]) {
            out.push(char::from(bytes[at]));
        } else {
            out.push_str(&format!("\\x{:02x}", bytes[at]));
            changed = true;
        }
        at += 1;
    }
    if improper || (kept && changed) {
        return Err(format!(
            "The {} \"{text}\" contains mixed mangled and unmangled characters or it's already mangled improperly.",
            what.word()
        ));
    }
    if out.len() > what.limit() {
        return Err(format!("Mangled form of the {} too long for \"{text}\".", what.word()));
    }
    Ok(out)
}

/// Reads a name or uuid as the kernel has it.
///
/// # Errors
/// The line to print where the kernel has what this mode would never have written.
pub fn unmangle(text: &str, what: What, mode: Mode) -> Result<String, String> {
    if mode == Mode::None {
        return Ok(text.to_owned());
    }
    if text.bytes().any(|byte| byte != b'\\' && !is_plain(byte)) {
        return Err(format!(
            "The {} \"{text}\" should be mangled but it contains blacklisted characters.",
            what.word()
        ));
    }
    refuse_twice(text, what, mode)?;
    Ok(decode(text))
}

/// Refuses what auto mode could not read back: it would be taken for mangled more than once.
///
/// # Errors
/// The line to print.
pub fn refuse_twice(text: &str, what: What, mode: Mode) -> Result<(), String> {
    if mode == Mode::Auto && is_mangled_twice(text) {
        return Err(format!(
            "The {} \"{text}\" seems to be mangled more than once. This is not allowed in auto mode.",
            what.word()
        ));
    }
    Ok(())
}

/// Replaces each `\xNN` by its byte.
pub fn decode(text: &str) -> String {
    let bytes = text.as_bytes();
    let (mut out, mut at) = (Vec::with_capacity(bytes.len()), 0);
    while at < bytes.len() {
        match escape(&bytes[at..]) {
            Escape::Whole(byte) => {
                out.push(byte);
                at += 4;
            }
            Escape::Broken | Escape::No => {
                out.push(bytes[at]);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// Tells whether what a name stands for looks like a mangled name itself, as libdevmapper looks.
pub fn is_mangled_twice(text: &str) -> bool {
    text.contains(r"\x5cx")
}

/// What a text begins with.
enum Escape {
    /// `\xNN`, which stands for this byte.
    Whole(u8),
    /// `\x` and the text's end, or one digit.
    Broken,
    /// Anything else.
    No,
}

fn escape(bytes: &[u8]) -> Escape {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    match bytes {
        [b'\\', b'x'] => Escape::Broken,
        [b'\\', b'x', high, low, ..] => match (digit(*high), digit(*low)) {
            (Some(high), Some(low)) => {
                Escape::Whole(u8::try_from(high * 16 + low).expect("two digits fit a byte"))
            }
            (Some(_), None) => Escape::Broken,
            (None, _) => Escape::No,
        },
        [b'\\', b'x', high] if digit(*high).is_some() => Escape::Broken,
        _ => Escape::No,
    }
}

fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"#+-.:=@_".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn auto(text: &str) -> Result<String, String> {
        mangle(text, What::Name, Mode::Auto)
    }

    #[test]
    fn what_udev_cannot_take_becomes_hex() {
        assert_eq!(auto("name with space").unwrap(), r"name\x20with\x20space");
        assert_eq!(auto("hex#+:=_name").unwrap(), "hex#+:=_name");
        assert_eq!(auto("a\\").unwrap(), r"a\x5c");
        assert_eq!(auto(r"x\y").unwrap(), r"x\x5cy");
        assert_eq!(auto("ä").unwrap(), r"\xc3\xa4");
    }

    #[test]
    fn what_is_mangled_already_is_kept() {
        assert_eq!(auto(r"sp\x20mangled").unwrap(), r"sp\x20mangled");
        assert_eq!(mangle(r"a\x20b", What::Name, Mode::Hex).unwrap(), r"a\x5cx20b");
        assert_eq!(mangle("raw name", What::Name, Mode::None).unwrap(), "raw name");
    }

    #[test]
    fn a_mixture_is_refused() {
        for text in [r"a\x20 b", r"a\x2", r"a\x20b\x"] {
            let error = auto(text).unwrap_err();
            assert!(error.starts_with("The name") && error.contains("mixed"), "{error}");
        }
    }

    #[test]
    fn a_name_that_grows_too_long_is_refused() {
        let text = " ".repeat(40);
        assert_eq!(
            auto(&text).unwrap_err(),
            format!("Mangled form of the name too long for \"{text}\".")
        );
    }

    #[test]
    fn the_kernels_form_reads_back() {
        let auto = |text| unmangle(text, What::Name, Mode::Auto);
        assert_eq!(auto(r"e\x20x").unwrap(), "e x");
        assert_eq!(auto(r"a\x5c").unwrap(), "a\\");
        assert!(auto("raw name").unwrap_err().contains("blacklisted"));
        assert!(auto(r"a\x5cx20b").unwrap_err().contains("more than once"));
        assert!(auto(r"a\x5cx2").unwrap_err().contains("more than once"));
        assert_eq!(auto(r"a\x5cX20b").unwrap(), r"a\X20b");
        assert_eq!(unmangle(r"a\x5cx20b", What::Name, Mode::Hex).unwrap(), r"a\x20b");
    }
}
