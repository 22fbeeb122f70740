//! LUKS2's JSON text. Fields that are not known are left alone, as the format says.

use serde::{Deserialize, Serialize};

use super::values::{self, Binary, Number, Numbered, Numbers, Size, Text, Words};
use crate::Error;

/// All of the JSON text. The fields of these objects have the format's own names.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Metadata {
    /// What opens with a passphrase.
    pub keyslots: Numbered<KeySlot>,
    /// What helps programs to find a passphrase.
    pub tokens: Numbered<Token>,
    /// Where the data lie.
    pub segments: Numbered<Segment>,
    /// What a volume key is recognised by.
    pub digests: Numbered<Digest>,
    /// All else.
    pub config: Config,
}

/// A key slot.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct KeySlot {
    /// `luks2` or `reencrypt`; others may come.
    #[serde(rename = "type")]
    pub kind: Text,
    /// The length of the key that it holds, in bytes.
    pub key_size: u32,
    /// 0: only when asked for; 1: normal; 2: before the normal ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<i32>,
    /// How the key is split.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub af: Option<Af>,
    /// Where it lies.
    pub area: Area,
    /// How its area's key is made of a passphrase.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kdf: Option<Kdf>,
    /// Of a reencryption: what it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<Text>,
    /// Of a reencryption: `forward` or `backward`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub direction: Option<Text>,
}

/// How a key is split.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Af {
    /// `luks1`.
    #[serde(rename = "type")]
    pub kind: Text,
    /// 4000.
    pub stripes: u32,
    /// What the stripes are mixed with.
    pub hash: Text,
}

/// Where a key slot keeps its key.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Area {
    /// `raw`, or one of those of a reencryption.
    #[serde(rename = "type")]
    pub kind: Text,
    /// Its start, in bytes from the start of the image.
    pub offset: Number,
    /// Its size in bytes.
    pub size: Number,
    /// Its cipher, as `aes-xts-plain64`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encryption: Option<Text>,
    /// The length of its cipher's key in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_size: Option<u32>,
    /// Of a reencryption: the hash of its checksums.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hash: Option<Text>,
    /// Of a reencryption: what one checksum is over, in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sector_size: Option<u32>,
    /// Of a reencryption: how far data are moved, in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shift_size: Option<Number>,
}

/// How a key is made of a passphrase.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Kdf {
    /// `pbkdf2`, `argon2i` or `argon2id`.
    #[serde(rename = "type")]
    pub kind: Text,
    /// PBKDF2's hash.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hash: Option<Text>,
    /// PBKDF2's iterations.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub iterations: Option<u64>,
    /// Argon2's passes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time: Option<u64>,
    /// Argon2's memory in KiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<u64>,
    /// Argon2's lanes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpus: Option<u64>,
    /// 32 bytes.
    pub salt: Binary,
}

/// A token.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Token {
    /// `luks2-keyring`, or whatever its program calls it.
    #[serde(rename = "type")]
    pub kind: Text,
    /// The key slots whose passphrase it helps to find.
    pub keyslots: Numbers,
    /// The key ring's key that holds the passphrase.
    #[serde(default, deserialize_with = "values::text_or_nothing")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_description: Option<Text>,
}

/// A piece of the data.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Segment {
    /// `crypt`, `linear`, `hw-opal` or `hw-opal-crypt`.
    #[serde(rename = "type")]
    pub kind: Text,
    /// Its start on the data device in bytes.
    pub offset: Number,
    /// Its size.
    pub size: Size,
    /// What is added to its sector numbers for the IV.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub iv_tweak: Option<Number>,
    /// Its cipher, as `aes-xts-plain64`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encryption: Option<Text>,
    /// The size of what is encrypted as one, in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sector_size: Option<u32>,
    /// The dm-integrity below it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub integrity: Option<Integrity>,
    /// `in-reencryption`, `backup-previous`, `backup-final`, ...
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flags: Option<Words>,
}

/// The dm-integrity below a segment.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Integrity {
    /// As `hmac(sha256)`.
    #[serde(rename = "type")]
    pub kind: Text,
    /// `none`.
    pub journal_encryption: Text,
    /// `none`.
    pub journal_integrity: Text,
}

/// What a volume key is recognised by.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Digest {
    /// `pbkdf2`.
    #[serde(rename = "type")]
    pub kind: Text,
    /// The key slots that hold this key.
    pub keyslots: Numbers,
    /// The segments that it opens; none for an unbound key.
    pub segments: Numbers,
    /// PBKDF2's hash.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hash: Option<Text>,
    /// PBKDF2's iterations.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub iterations: Option<u64>,
    /// 32 bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub salt: Option<Binary>,
    /// The key's digest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<Binary>,
}

/// Sizes, flags and requirements.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Config {
    /// The size of the JSON area in bytes.
    pub json_size: Number,
    /// The size of all key slots' areas in bytes.
    pub keyslots_size: Number,
    /// How to activate: `allow-discards`, ...
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flags: Option<Words>,
    /// What a reader must know.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requirements: Option<Requirements>,
}

/// What a reader must know.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct Requirements {
    /// A reader that does not know one of these must not activate.
    #[serde(default)]
    pub mandatory: Words,
}

impl Segment {
    /// Whether it records how things were, or will be, for a reencryption.
    pub fn is_backup(&self) -> bool {
        self.has_flag(|flag| flag.starts_with("backup-"))
    }

    pub(super) fn has_flag(&self, is: impl Fn(&str) -> bool) -> bool {
        self.flags.iter().flat_map(|flags| &flags.0).any(|flag| is(flag))
    }
}

impl Config {
    /// Returns what a reader must know.
    pub(super) fn mandatory(&self) -> &[Text] {
        self.requirements.as_ref().map_or(&[], |requirements| &requirements.mandatory.0)
    }
}

/// Reads the JSON area: one object from its first byte on, then NULs to the end, one at least.
pub(super) fn parse(area: &[u8]) -> Result<Metadata, Error> {
    let damaged = |what: String| Error::damaged(format!("JSON area: {what}"));
    if area.first() != Some(&b'{') {
        return Err(damaged("expected `{` at its start".into()));
    }
    let end = area.iter().position(|byte| *byte == 0);
    let end = end.ok_or_else(|| damaged("expected a NUL after the text".into()))?;
    if let Some(at) = area[end..].iter().position(|byte| *byte != 0) {
        return Err(damaged(format!("byte {}: expected nothing after the text", end + at)));
    }
    serde_json::from_slice(&area[..end]).map_err(|error| damaged(error.to_string()))
}
