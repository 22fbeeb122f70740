//! Plain dm-crypt: no header at all, the key is the passphrase's hash or a key file.
//!
//! As `cryptsetup open --type plain` makes it (and hashalot before it).

use crypto::Secret;
use zeroize::Zeroizing;

use crate::Error;
use crate::containers::kdf::hash_by_name;
use crate::containers::unlocked::{Crypt, Line, LineTarget};
use crate::containers::{Unlocked, keys};

/// What there is no header for: a user has to say it, and say it again the same each time. A wrong
/// passphrase cannot be told from a right one.
#[derive(Clone, Debug)]
pub struct Plain {
    /// The cipher, as `aes-xts-plain64`.
    pub cipher: String,
    /// The key's length in bytes.
    pub key_bytes: u32,
    /// The passphrase's hash; with `:LEN` only so many bytes of the key are made, zeros follow.
    /// `plain` takes the passphrase's own bytes, and zeros where there are fewer than the key has;
    /// `plain:LEN` takes `LEN` of them, which have to be there. A key file is never hashed.
    pub hash: String,
    /// The first sector (512 bytes) on the device.
    pub offset: u64,
    /// What is added to sector numbers for the IV.
    pub skip: u64,
    /// How many sectors; without it up to the device's end.
    pub size: Option<u64>,
    /// The size of what is encrypted as one, in bytes.
    pub sector_size: u32,
    /// Whether IVs count these, and not 512 bytes.
    pub iv_large_sectors: bool,
}

impl Default for Plain {
    /// cryptsetup's own, from version 2.7 on: `aes-xts-plain64`, 256 bits, `sha256`. Before it was
    /// `aes-cbc-essiv:sha256` and `ripemd160`.
    fn default() -> Plain {
        Plain {
            cipher: "aes-xts-plain64".into(),
            key_bytes: 32,
            hash: "sha256".into(),
            offset: 0,
            skip: 0,
            size: None,
            sector_size: 512,
            iv_large_sectors: false,
        }
    }
}

/// What the key is made of.
#[derive(Clone, Copy, Debug)]
pub enum PlainKey<'a> {
    /// It is hashed.
    Passphrase(&'a Secret),
    /// Its first bytes are the key.
    KeyFile(&'a Secret),
}

impl Plain {
    /// Returns what to load onto a device of `len` bytes.
    ///
    /// # Errors
    /// [`Error::UnknownCipher`], [`Error::UnknownHash`]; [`Error::TooSmall`] where the device ends
    /// before the data do; [`Error::BadArgument`] for a key file or a `plain` passphrase that is
    /// shorter than the key, or a hash's length that is longer.
    pub fn unlock(&self, len: u64, key: PlainKey<'_>) -> Result<Unlocked, Error> {
        let sectors = self.sectors(len)?;
        let null = keys::is_null(&self.cipher);
        if self.key_bytes > 4096 {
            return Err(Error::BadArgument(format!("a key of {} bytes", self.key_bytes)));
        }
        let key = match key {
            _ if null => Secret::new(Vec::new()),
            PlainKey::Passphrase(passphrase) => self.hashed(passphrase.expose())?,
            PlainKey::KeyFile(bytes) => Secret::new(self.first(bytes.expose(), "key file")?),
        };
        if !null {
            keys::cipher("plain", &self.cipher, key.expose(), self.sector_size)?;
        }
        let options = if self.iv_large_sectors { vec!["iv_large_sectors"] } else { Vec::new() };
        let (iv_offset, offset, sector_size) = (self.skip, self.offset, self.sector_size);
        let cipher = self.cipher.clone();
        let crypt = Crypt { cipher, key, iv_offset, offset, sector_size, options };
        let line = Line { start: 0, len: sectors, target: LineTarget::Crypt(crypt) };
        Ok(Unlocked::new(None, vec![line]))
    }

    fn sectors(&self, len: u64) -> Result<u64, Error> {
        if !matches!(self.sector_size, 512 | 1024 | 2048 | 4096) {
            return Err(Error::BadArgument(format!("a sector size of {}", self.sector_size)));
        }
        let unit = u64::from(self.sector_size / 512);
        let room = (len / 512).saturating_sub(self.offset);
        let sectors = self.size.unwrap_or(room / unit * unit);
        if sectors == 0 || sectors > room {
            let needed = self.offset.saturating_add(sectors.max(unit)).saturating_mul(512);
            return Err(Error::TooSmall { what: "the data device", len, needed });
        }
        if !sectors.is_multiple_of(unit) {
            let what = format!("a size of {sectors} sectors: expected a multiple of {unit}");
            return Err(Error::BadArgument(what));
        }
        Ok(sectors)
    }

    fn first(&self, bytes: &[u8], what: &str) -> Result<Vec<u8>, Error> {
        let key_bytes = self.key_bytes as usize;
        let first = bytes.get(..key_bytes).map(<[u8]>::to_vec);
        first.ok_or_else(|| {
            let found = bytes.len();
            Error::BadArgument(format!("{what}: expected {key_bytes} bytes, found {found}"))
        })
    }

    fn hashed(&self, passphrase: &[u8]) -> Result<Secret, Error> {
        let key_bytes = self.key_bytes as usize;
        let (name, hashed_bytes) = match self.hash.split_once(':') {
            None => (&*self.hash, key_bytes),
            Some((name, digits)) => {
                let bytes = digits.parse().ok().filter(|bytes| *bytes <= key_bytes);
                let bytes = bytes.ok_or_else(|| {
                    let hash = &self.hash;
                    Error::BadArgument(format!(
                        "hash `{hash}`: expected a length up to {key_bytes}"
                    ))
                })?;
                (name, bytes)
            }
        };
        let mut key = if self.hash == "plain" {
            // As cryptsetup has it: cut or filled up with zeros.
            passphrase[..passphrase.len().min(key_bytes)].to_vec()
        } else if name == "plain" {
            let plain = Plain { key_bytes: hashed_bytes as u32, ..self.clone() };
            plain.first(passphrase, "passphrase")?
        } else {
            let hash = hash_by_name(name, "plain")?;
            let pieces = (0..hashed_bytes.div_ceil(hash.len())).flat_map(|round| {
                // Each further piece has one letter more before the passphrase.
                let input = Zeroizing::new([&vec![b'A'; round][..], passphrase].concat());
                hash.digest(&input)
            });
            pieces.take(hashed_bytes).collect()
        };
        key.resize(key_bytes, 0);
        Ok(Secret::new(key))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crypto::hash::Hash;

    fn key_of(plain: &Plain, passphrase: &str) -> Result<String, String> {
        let passphrase = Secret::new(passphrase.into());
        let unlocked = plain.unlock(1 << 20, PlainKey::Passphrase(&passphrase));
        let unlocked = unlocked.map_err(|error| error.to_string())?;
        let line = unlocked.lines()[0].table_line("7:0");
        Ok(line.split(' ').nth(4).expect("a key").to_owned())
    }

    fn hex_digest(hash: &str, input: &str) -> String {
        crate::bytes::hex(&Hash::by_name(hash).unwrap().digest(input.as_bytes()))
    }

    #[test]
    fn a_long_key_is_made_of_several_hashes() {
        let plain = Plain { key_bytes: 64, ..Plain::default() };
        let expected = hex_digest("sha256", "secret") + &hex_digest("sha256", "Asecret");
        assert_eq!(key_of(&plain, "secret"), Ok(expected));
        let plain = Plain { hash: "ripemd160".into(), ..Plain::default() };
        let expected = hex_digest("ripemd160", "secret") + &hex_digest("ripemd160", "Asecret");
        assert_eq!(key_of(&plain, "secret"), Ok(expected[..64].to_owned()));
    }

    #[test]
    fn a_hash_with_a_length_is_followed_by_zeros() {
        let plain = Plain { hash: "sha256:20".into(), ..Plain::default() };
        let expected = hex_digest("sha256", "secret")[..40].to_owned() + &"0".repeat(24);
        assert_eq!(key_of(&plain, "secret"), Ok(expected));
        for hash in ["sha256:33", "sha256:", "sha256:x"] {
            let plain = Plain { hash: hash.into(), ..Plain::default() };
            assert!(key_of(&plain, "secret").unwrap_err().contains("a length up to 32"), "{hash}");
        }
    }

    #[test]
    fn plain_and_key_files_are_taken_as_they_are() {
        let plain = Plain { hash: "plain:4".into(), ..Plain::default() };
        assert_eq!(key_of(&plain, "abcdef"), Ok("61626364".to_owned() + &"0".repeat(56)));
        assert!(key_of(&plain, "abc").unwrap_err().contains("expected 4 bytes, found 3"));
        let plain = Plain { hash: "plain".into(), ..Plain::default() };
        assert_eq!(key_of(&plain, "abc"), Ok("616263".to_owned() + &"0".repeat(58)));
        assert_eq!(key_of(&plain, &"a".repeat(40)), Ok("61".repeat(32)));

        let file = Secret::new((0..40).collect());
        let unlocked = Plain::default().unlock(1 << 20, PlainKey::KeyFile(&file)).unwrap();
        let hex: String = (0..32).map(|byte| format!("{byte:02x}")).collect();
        let line = unlocked.lines()[0].table_line("7:0");
        assert_eq!(*line, format!("0 2048 crypt aes-xts-plain64 {hex} 0 7:0 0"));
        let short = Plain::default().unlock(1 << 20, PlainKey::KeyFile(&Secret::new(vec![0; 31])));
        assert!(matches!(short, Err(Error::BadArgument(_))), "{short:?}");
    }

    #[test]
    fn offset_skip_and_size_are_in_sectors() {
        let plain = Plain {
            offset: 8,
            skip: 16,
            size: Some(24),
            sector_size: 4096,
            iv_large_sectors: true,
            ..Plain::default()
        };
        let file = Secret::new((0..32).collect());
        let line = |plain: &Plain| {
            let unlocked = plain.unlock(1 << 20, PlainKey::KeyFile(&file));
            unlocked.map(|unlocked| unlocked.lines()[0].table_line("7:0").to_string())
        };
        let text = line(&plain).unwrap();
        assert!(text.starts_with("0 24 crypt "), "{text}");
        assert!(text.ends_with(" 16 7:0 8 2 sector_size:4096 iv_large_sectors"), "{text}");
        for (size, offset) in [(Some(2041), 8), (Some(0), 0), (None, 2048), (None, u64::MAX)] {
            let error = line(&Plain { size, offset, ..plain.clone() });
            assert!(matches!(error, Err(Error::TooSmall { .. })), "{size:?}: {error:?}");
        }
        let odd = line(&Plain { size: Some(25), ..plain });
        assert!(matches!(odd, Err(Error::BadArgument(_))), "{odd:?}");
    }

    /// Recorded from Linux 6.12 with cryptsetup: `printf secretpass | cryptsetup open --type plain`.
    #[test]
    fn tables_are_those_of_cryptsetup() {
        let plain = |cipher: &str, key_bytes, hash: &str| Plain {
            cipher: cipher.into(),
            key_bytes,
            hash: hash.into(),
            ..Plain::default()
        };
        let part = Plain {
            offset: 8,
            skip: 16,
            size: Some(24),
            ..plain("aes-xts-plain64", 32, "sha512:20")
        };
        let large = Plain {
            sector_size: 4096,
            iv_large_sectors: true,
            ..plain("aes-xts-plain64", 32, "plain:2")
        };
        for (plain, table) in [
            (
                plain("aes-xts-plain64", 64, "sha256"),
                "0 40960 crypt aes-xts-plain64 e05f79651d465214e7558a382ed0f0e5a77380a649f4573f3a\
                 1036dc4ee10c0be126c18f09c9e939bc87e04a8e0c26920a1e2b7de57e56cb06fc4465b5e12e4b \
                 0 dev 0",
            ),
            (
                plain("aes-cbc-essiv:sha256", 32, "ripemd160"),
                "0 40960 crypt aes-cbc-essiv:sha256 \
                 b8d47f109a9851e4c17f85527390f19d151939c62ff30975b3125eeac3b266c3 0 dev 0",
            ),
            (
                part,
                "0 24 crypt aes-xts-plain64 \
                 4aa7d0542fa97281ca6c24eb9d0df4b99e31fd23000000000000000000000000 16 dev 8",
            ),
            (
                large,
                "0 40960 crypt aes-xts-plain64 \
                 7365000000000000000000000000000000000000000000000000000000000000 0 dev 0 \
                 2 sector_size:4096 iv_large_sectors",
            ),
        ] {
            let passphrase = Secret::new(b"secretpass".to_vec());
            let unlocked = plain.unlock(20 << 20, PlainKey::Passphrase(&passphrase)).unwrap();
            assert_eq!(*unlocked.lines()[0].table_line("dev"), table);
        }
    }
}
