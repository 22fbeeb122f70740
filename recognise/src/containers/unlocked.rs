//! What an unlock gives: the lines to load into the device-mapper.

use std::fmt::Write as _;

use crypto::Secret;
use zeroize::Zeroizing;

/// What to load, keys included.
#[derive(Debug)]
pub struct Unlocked {
    /// The key slot that opened.
    pub key_slot: Option<u32>,
    /// Tables from the bottom up: the first on the image, each next on the device that the one
    /// before makes. All but cascades of ciphers have one.
    pub layers: Vec<Vec<Line>>,
    /// What a user should know although it opens.
    pub warnings: Vec<String>,
}

impl Unlocked {
    pub(crate) fn new(key_slot: Option<u32>, lines: Vec<Line>) -> Unlocked {
        Unlocked { key_slot, layers: vec![lines], warnings: Vec::new() }
    }

    /// Returns the lines of the lowest table.
    pub fn lines(&self) -> &[Line] {
        &self.layers[0]
    }

    /// Returns the device's size in 512-byte sectors.
    pub fn sectors(&self) -> u64 {
        let last = self.layers.last().and_then(|lines| lines.last());
        last.map_or(0, |line| line.start + line.len)
    }
}

/// One line of a table.
#[derive(Debug)]
pub struct Line {
    /// The first sector (512 bytes) of the device that it makes.
    pub start: u64,
    /// How many sectors.
    pub len: u64,
    /// What is there.
    pub target: LineTarget,
}

/// A target and its parameters, as the kernel's.
#[derive(Debug)]
pub enum LineTarget {
    /// dm-crypt.
    Crypt(Crypt),
    /// Data that are not encrypted, at this sector of the device below.
    Linear(u64),
    /// Zeros: places that hold metadata, not data.
    Zero,
}

/// The parameters of dm-crypt.
#[derive(Debug)]
pub struct Crypt {
    /// The cipher, as `aes-xts-plain64`.
    pub cipher: String,
    /// The volume key.
    pub key: Secret,
    /// What is added to a sector's number for its IV.
    pub iv_offset: u64,
    /// The first sector on the device below.
    pub offset: u64,
    /// The size of what is encrypted as one, in bytes.
    pub sector_size: u32,
    /// Optional parameters, apart from the sector size.
    pub options: Vec<&'static str>,
}

impl Line {
    /// Returns the name of the target type.
    pub fn target_type(&self) -> &'static str {
        match &self.target {
            LineTarget::Crypt(_) => "crypt",
            LineTarget::Linear(_) => "linear",
            LineTarget::Zero => "zero",
        }
    }

    /// Returns the table line as `dmsetup create` takes it. It holds the key.
    pub fn table_line(&self, device: &str) -> Zeroizing<String> {
        let mut line = Zeroizing::new(String::with_capacity(1024));
        let to_text = "writing to a string";
        write!(line, "{} {} {}", self.start, self.len, self.target_type()).expect(to_text);
        match &self.target {
            LineTarget::Crypt(crypt) => crypt.write(device, &mut line),
            LineTarget::Linear(at) => write!(line, " {device} {at}").expect(to_text),
            LineTarget::Zero => {}
        }
        line
    }
}

impl Crypt {
    fn write(&self, device: &str, line: &mut String) {
        let key = if self.key.is_empty() { Zeroizing::new("-".into()) } else { self.key.to_hex() };
        let Crypt { cipher, iv_offset, offset, .. } = self;
        write!(line, " {cipher} {} {iv_offset} {device} {offset}", *key).expect("a string");
        let sized = self.sector_size != 512;
        let count = self.options.len() + usize::from(sized);
        if count > 0 {
            write!(line, " {count}").expect("a string");
        }
        // In the order in which the kernel prints them.
        let (last, first): (Vec<&str>, Vec<&str>) =
            self.options.iter().partition(|option| **option == "iv_large_sectors");
        for option in first {
            write!(line, " {option}").expect("a string");
        }
        if sized {
            write!(line, " sector_size:{}", self.sector_size).expect("a string");
        }
        for option in last {
            write!(line, " {option}").expect("a string");
        }
    }
}
