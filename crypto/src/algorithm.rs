//! Algorithms by the names of the kernel's crypto API, such as `essiv(cbc(aes),sha256)`.

use crate::block::Cipher;
use crate::fault::{Fault, FaultKind};
use crate::hash::Hash;
use crate::mode::{Adiantum, Cbc, Ctr, Ecb, Essiv, Lrw, Mode, Pcbc, Stream, Xts};

/// What a kernel says where the crypto API has no such algorithm, or cannot put it together.
const NO_TFM: &str = "Error allocating crypto tfm";

/// Names that the kernel knows and that are no cipher for whole sectors: with them it gives
/// `EINVAL`, as the words are right and the kind is wrong.
const OTHER_KINDS: [&str; 11] = [
    "authenc",
    "authencesn",
    "ccm",
    "cmac",
    "gcm",
    "hmac",
    "rfc4106",
    "rfc4309",
    "rfc7539",
    "rfc7539esp",
    "xcbc",
];

/// A mode of a cipher, perhaps with essiv around it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Algorithm {
    mode: ModeName,
    cipher: Cipher,
    essiv: Option<Hash>,
}

/// A mode's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ModeName {
    /// Not one of [`ModeName::ALL`], as it takes a stream cipher and a block cipher.
    Adiantum(Stream),
    Cbc,
    Ctr,
    Ecb,
    Lrw,
    Pcbc,
    Xts,
}

impl ModeName {
    const ALL: [(&'static str, ModeName); 6] = [
        ("cbc", ModeName::Cbc),
        ("ctr", ModeName::Ctr),
        ("ecb", ModeName::Ecb),
        ("lrw", ModeName::Lrw),
        ("pcbc", ModeName::Pcbc),
        ("xts", ModeName::Xts),
    ];

    fn by_name(name: &str) -> Option<ModeName> {
        ModeName::ALL.iter().find(|known| known.0 == name).map(|known| known.1)
    }

    fn name(self) -> &'static str {
        if let ModeName::Adiantum(_) = self {
            return "adiantum";
        }
        let found = ModeName::ALL.iter().find(|known| known.1 == self);
        found.expect("every mode is in the list").0
    }

    /// Says whether the mode is defined for blocks of `size` bytes.
    fn takes_blocks_of(self, size: usize) -> bool {
        match self {
            ModeName::Cbc | ModeName::Ecb | ModeName::Pcbc => true,
            ModeName::Ctr => size >= 4,
            ModeName::Adiantum(_) | ModeName::Lrw | ModeName::Xts => size == 16,
        }
    }
}

impl Algorithm {
    /// Finds what an algorithm's name stands for.
    ///
    /// # Errors
    /// `Error allocating crypto tfm`, as the kernel: `ENOENT` for an unknown name, `EINVAL` for
    /// parts that do not go together.
    pub(crate) fn parse(name: &str) -> Result<Algorithm, Fault> {
        let Some((template, inner)) = call(name) else {
            return Err(unknown(name, "is not of the form mode(cipher)"));
        };
        if template == "essiv" {
            return Algorithm::parse_essiv(name, inner);
        }
        if template == "adiantum" {
            return Algorithm::parse_adiantum(inner);
        }
        if OTHER_KINDS.contains(&template) {
            return Err(mismatch(format!(
                "`{name}` authenticates: that takes an integrity device below, which is not supported"
            )));
        }
        let Some(mode) = ModeName::by_name(template) else {
            return Err(unknown(template, "is no mode of operation that is known here"));
        };
        let Some(cipher) = Cipher::by_name(inner) else {
            return Err(unknown(inner, "is no cipher that is known here"));
        };
        match mode.takes_blocks_of(cipher.block_size()) {
            true => Ok(Algorithm { mode, cipher, essiv: None }),
            false => Err(mismatch(format!(
                "mode {template} does not go with {inner}, whose blocks have {} bytes",
                cipher.block_size()
            ))),
        }
    }

    fn parse_adiantum(arguments: &str) -> Result<Algorithm, Fault> {
        let Some((stream, cipher)) = arguments.split_once(',') else {
            return Err(unknown(arguments, "is not the two ciphers that adiantum takes"));
        };
        let Some(known) = Cipher::by_name(cipher) else {
            return Err(unknown(cipher, "is no cipher that is known here"));
        };
        let Some(stream) = Stream::by_name(stream) else {
            return Err(unknown(stream, "is no stream cipher that adiantum is known with here"));
        };
        let takes_32 = known.with_key(&[0; 32]).is_some();
        match known.block_size() == 16 && takes_32 {
            true => Ok(Algorithm { mode: ModeName::Adiantum(stream), cipher: known, essiv: None }),
            false => Err(mismatch(format!(
                "adiantum takes a cipher with blocks of 16 bytes and keys of 32, found `{cipher}`"
            ))),
        }
    }

    fn parse_essiv(name: &str, arguments: &str) -> Result<Algorithm, Fault> {
        let Some((inner, hash)) = arguments.rsplit_once(',') else {
            return Err(unknown(name, "is not essiv of a mode and a hash"));
        };
        let inner = Algorithm::parse(inner)?;
        let Some(hash) = Hash::by_kernel_name(hash) else {
            return Err(unknown(hash, "is no hash that is known here"));
        };
        let (min, max) = inner.cipher.key_sizes();
        let fits = (min..=max).contains(&hash.len());
        if inner.essiv.is_some() || inner.iv_size() != inner.cipher.block_size() || !fits {
            return Err(mismatch(format!(
                "`{name}`: essiv takes a mode whose iv is one block, and a hash whose {} bytes {} \
                 takes as a key",
                hash.len(),
                inner.cipher.name()
            )));
        }
        Ok(Algorithm { essiv: Some(hash), ..inner })
    }

    /// Bytes of the iv, none in a mode without.
    pub(crate) fn iv_size(self) -> usize {
        match self.mode {
            ModeName::Adiantum(_) => 32,
            ModeName::Ecb => 0,
            ModeName::Cbc | ModeName::Ctr | ModeName::Lrw | ModeName::Pcbc | ModeName::Xts => {
                self.cipher.block_size()
            }
        }
    }

    /// Bytes of what the crypto API calls a block of this algorithm: one for a stream.
    pub(crate) fn block_size(self) -> usize {
        match self.mode {
            ModeName::Ctr => 1,
            _ => self.cipher.block_size(),
        }
    }

    /// Says whether this is `xts(aes)` and nothing around it, which has a crate of its own.
    pub(crate) fn is_plain_aes_xts(self) -> bool {
        self == Algorithm { mode: ModeName::Xts, cipher: Cipher::Aes, essiv: None }
    }

    /// Sets the key up; `None` where its length is not one of this algorithm's.
    pub(crate) fn with_key(self, key: &[u8]) -> Option<Box<dyn Mode>> {
        let (cipher, block) = (self.cipher, self.cipher.block_size());
        let mode: Box<dyn Mode> = match self.mode {
            ModeName::Adiantum(stream) => Box::new(Adiantum::new(stream, cipher, key)?),
            ModeName::Cbc => Box::new(Cbc::new(cipher.with_key(key)?, block)),
            ModeName::Ctr => Box::new(Ctr::new(cipher.with_key(key)?, block)),
            ModeName::Ecb => Box::new(Ecb(cipher.with_key(key)?)),
            ModeName::Pcbc => Box::new(Pcbc::new(cipher.with_key(key)?, block)),
            ModeName::Lrw => {
                let (key, mask) = key.split_last_chunk::<16>()?;
                Box::new(Lrw::new(cipher.with_key(key)?, *mask))
            }
            ModeName::Xts if key.len() % 2 == 1 => return None,
            ModeName::Xts => {
                let (data, tweak) = key.split_at(key.len() / 2);
                Box::new(Xts::new(cipher.with_key(data)?, cipher.with_key(tweak)?))
            }
        };
        let Some(hash) = self.essiv else { return Some(mode) };
        let salt = hash.digest(key);
        Some(Box::new(Essiv::new(mode, cipher.with_key(&salt)?, block)))
    }

    /// Says which keys fit, for messages.
    pub(crate) fn keys_in_words(self) -> String {
        let each = self.cipher.key_sizes_in_words();
        let salt = match self.essiv {
            Some(hash) => {
                format!(", and the {} bytes of {} as a second key", hash.len(), hash.name())
            }
            None => String::new(),
        };
        let (name, mode) = (self.cipher.name(), self.mode.name());
        match self.mode {
            ModeName::Adiantum(_) => format!("{mode} takes 32 bytes"),
            ModeName::Xts => format!("{mode}({name}) takes two keys of {each}{salt}"),
            ModeName::Lrw => {
                format!("{mode}({name}) takes a key of {each} and 16 bytes more{salt}")
            }
            _ => format!("{mode}({name}) takes {each}{salt}"),
        }
    }
}

/// Takes `template(inner)` apart.
fn call(name: &str) -> Option<(&str, &str)> {
    name.strip_suffix(')')?.split_once('(')
}

fn unknown(name: &str, what: &str) -> Fault {
    Fault::new(NO_TFM, FaultKind::NoEntry, format!("`{name}` {what}"))
}

fn mismatch(detail: String) -> Fault {
    Fault::invalid(NO_TFM, detail)
}
