use std::fmt;

use crate::Fault;
use crate::algorithm::Algorithm;
use crate::fault::FaultKind;

/// An algorithm's name has fewer bytes than this (`CRYPTO_MAX_ALG_NAME`).
const MAX_NAME: usize = 128;
/// Keys side by side, at most; the kernel stops somewhat later, where it finds no memory.
const MAX_KEYS: u32 = 8192;

/// What a `crypt` line's first word says: cipher, mode, number of keys, and where ivs come from.
///
/// Two forms, as in the kernel: `cipher[:keycount]-chainmode-ivmode[:ivopts]`, and
/// `capi:algorithm-ivmode[:ivopts]` with the crypto API's own names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spec {
    text: String,
    pub(crate) algorithm: Algorithm,
    pub(crate) key_count: u32,
    /// `None` where the mode has no iv, and where the `capi:` form names none: zeros, then.
    pub(crate) iv: Option<IvMode>,
}

/// Where an iv comes from. `essiv` is `Plain64` here: the rest of it is the algorithm's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum IvMode {
    Plain,
    Plain64,
    Plain64Be,
    Benbi,
    Null,
    Eboiv,
    Elephant,
    Lmk,
    Tcw,
    Random,
}

/// The words of a specification, before anybody has looked at what they mean.
struct Words<'a> {
    algorithm: String,
    key_count: u32,
    iv: Option<&'a str>,
}

impl Spec {
    /// Reads a specification, checking in the kernel's order: the words, then the algorithm, then
    /// the iv mode.
    ///
    /// # Errors
    /// With the kernel's texts: `Bad cipher specification`, `Bad cipher key count specification`,
    /// `IV mechanism required`, `Digest algorithm missing for ESSIV mode`, `Error allocating
    /// crypto tfm`, `Invalid IV mode`, `Cannot allocate cipher strings`.
    pub fn parse(text: &str) -> Result<Spec, Fault> {
        let words = match text.strip_prefix("capi:") {
            Some(rest) => capi(rest)?,
            None => legacy(text)?,
        };
        let algorithm = Algorithm::parse(&words.algorithm)?;
        let iv = match words.iv {
            // The kernel warns that the cipher takes no iv, and forgets the mode, even a wrong one.
            _ if algorithm.iv_size() == 0 => None,
            Some(name) => Some(IvMode::by_name(name)?),
            None => None,
        };
        Ok(Spec { text: text.to_owned(), algorithm, key_count: words.key_count, iv })
    }

    /// Bytes of dm-crypt's iv: it has room for a sector number at least.
    pub(crate) fn iv_size(&self) -> usize {
        self.algorithm.iv_size().max(8)
    }
}

impl fmt::Display for Spec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// `cipher[:keycount]-chainmode-ivmode[:ivopts]`.
fn legacy(text: &str) -> Result<Words<'_>, Fault> {
    if text.contains('(') {
        return Err(Fault::invalid(
            "Bad cipher specification",
            format!("`{text}`: algorithms with parentheses are written after `capi:`"),
        ));
    }
    let mut words = text.splitn(3, '-');
    let first = words.next().unwrap_or_default();
    let (cipher, key_count) = match first.split_once(':') {
        Some((cipher, count)) => (cipher, parse_key_count(count)?),
        None => (first, 1),
    };
    let mode = words.next();
    let (iv, options) = match words.next() {
        Some(rest) => match rest.split_once(':') {
            Some((iv, options)) => (Some(iv), Some(options)),
            None => (Some(rest), None),
        },
        None => (None, None),
    };
    // The first mapping format had a name only, or `-plain` after it.
    let (mode, iv) = match (mode, iv) {
        (None, _) | (Some("plain"), None) => ("cbc", Some("plain")),
        (Some("ecb"), None) => ("ecb", None),
        (Some(mode), Some(iv)) => (mode, Some(iv)),
        (Some(_), None) => {
            let detail = format!("`{text}`: expected an iv mode at the end, such as -plain64");
            return Err(Fault::invalid("IV mechanism required", detail));
        }
    };
    let algorithm = match (iv, options) {
        (Some("essiv"), Some(hash)) => format!("essiv({mode}({cipher}),{hash})"),
        (Some("essiv"), None) => return Err(no_digest(text)),
        _ => format!("{mode}({cipher})"),
    };
    match algorithm.len() {
        0..MAX_NAME => Ok(Words { algorithm, key_count, iv }),
        _ => Err(too_long("Cannot allocate cipher strings", algorithm.len())),
    }
}

/// `algorithm-ivmode[:ivopts]`, from behind, as an algorithm and a hash may hold both signs.
fn capi(rest: &str) -> Result<Words<'_>, Fault> {
    let (rest, options) = match rest.rsplit_once(':') {
        Some((rest, options)) => (rest, Some(options)),
        None => (rest, None),
    };
    let (name, iv) = match rest.rsplit_once('-') {
        Some((name, iv)) => (name, Some(iv)),
        None => (rest, None),
    };
    let key_count = if iv == Some("lmk") { 64 } else { 1 };
    let algorithm = match (iv, options) {
        (Some("essiv"), Some(hash)) => format!("essiv({name},{hash})"),
        (Some("essiv"), None) => return Err(no_digest(rest)),
        _ => return Ok(Words { algorithm: name.to_owned(), key_count, iv }),
    };
    match algorithm.len() {
        0..MAX_NAME => Ok(Words { algorithm, key_count, iv }),
        _ => Err(too_long("Cannot allocate cipher string", algorithm.len())),
    }
}

/// Reads as the kernel's `sscanf("%u%c")` does: blanks first, the value cut to 32 bits.
fn parse_key_count(word: &str) -> Result<u32, Fault> {
    const BAD: &str = "Bad cipher key count specification";
    let digits = word.trim_start();
    let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    let count = digits.bytes().fold(0_u32, |count, digit| {
        count.wrapping_mul(10).wrapping_add(u32::from(digit.wrapping_sub(b'0')))
    });
    if !is_number || !count.is_power_of_two() {
        return Err(Fault::invalid(
            BAD,
            format!("key count: expected a power of two, found `{word}`"),
        ));
    }
    if count > MAX_KEYS {
        let detail = format!("key count: expected at most {MAX_KEYS}, found `{word}`");
        return Err(Fault::new("Error allocating crypto tfm", FaultKind::NoMemory, detail));
    }
    Ok(count)
}

fn no_digest(text: &str) -> Fault {
    let detail = format!("`{text}`: expected a hash, such as essiv:sha256");
    Fault::invalid("Digest algorithm missing for ESSIV mode", detail)
}

fn too_long(kernel: &'static str, len: usize) -> Fault {
    let detail = format!("the algorithm's name has {len} bytes, of {} at most", MAX_NAME - 1);
    Fault::new(kernel, FaultKind::NoMemory, detail)
}

impl IvMode {
    const ALL: [(&'static str, IvMode); 11] = [
        ("plain", IvMode::Plain),
        ("plain64", IvMode::Plain64),
        ("plain64be", IvMode::Plain64Be),
        ("essiv", IvMode::Plain64),
        ("benbi", IvMode::Benbi),
        ("null", IvMode::Null),
        ("eboiv", IvMode::Eboiv),
        ("elephant", IvMode::Elephant),
        ("lmk", IvMode::Lmk),
        ("tcw", IvMode::Tcw),
        ("random", IvMode::Random),
    ];

    fn by_name(name: &str) -> Result<IvMode, Fault> {
        let found = IvMode::ALL.iter().find(|known| known.0 == name);
        found.map(|known| known.1).ok_or_else(|| {
            let known: Vec<_> = IvMode::ALL.iter().map(|known| known.0).collect();
            let detail = format!("iv mode: expected one of {}, found `{name}`", known.join(", "));
            Fault::invalid("Invalid IV mode", detail)
        })
    }
}
