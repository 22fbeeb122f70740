//! TrueCrypt and VeraCrypt: a header that looks like noise, until a passphrase and one of many
//! derivations and ciphers open it.
//!
//! As "VeraCrypt Volume Format Specification" says; read by cryptsetup as `tcrypt`. Numbers are
//! big-endian. The oldest containers, in CBC, are not read, nor are those with Kuznyechik, for which
//! there is no cipher here (nor in the kernel).

use crypto::Secret;
use zeroize::Zeroizing;

use crate::bytes::{be16, be32, be64};
use crate::containers::kdf::{Argon2Kind, Kdf};
use crate::containers::unlocked::{Crypt, Line, LineTarget};
use crate::containers::{Limits, Unlocked};
use crate::{Error, Source, source};

/// The length of a header, of its salt, and of the keys that open it, in bytes.
const HEADER_BYTES: usize = 512;
const SALT_BYTES: usize = 64;
const KEY_BYTES: usize = 192;
/// Where the volume's keys are in the opened header, which lacks the salt.
const KEYS: std::ops::Range<usize> = 192..448;

/// How a TrueCrypt or VeraCrypt volume is to be opened: there is nothing to find it by.
#[derive(Clone, Debug, Default)]
pub struct VeraCrypt {
    /// Which volume of the container.
    pub volume: Volume,
    /// Whether to use the header at the container's end.
    pub backup: bool,
    /// VeraCrypt's "personal iterations multiplier".
    pub pim: Option<u32>,
    /// Only derivations with this hash, as `sha512`; or `argon2id`. Trying all takes a minute.
    pub hash: Option<String>,
    /// Only ciphers by this name, as `aes` or `serpent-twofish-aes`.
    pub cipher: Option<String>,
    /// TrueCrypt's derivations alone.
    pub truecrypt_only: bool,
}

/// A volume of a container.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Volume {
    /// The one that everybody may know of.
    #[default]
    Outer,
    /// The one that lies in its free space.
    Hidden,
    /// An encrypted system disk, as a whole.
    System,
}

/// Who makes headers by a derivation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Maker {
    TrueCrypt,
    VeraCrypt,
}

/// A derivation: its maker, its hash, its iterations, and those with a PIM: so many, and so many
/// times the PIM.
type Derivation = (Maker, &'static str, u64, (u64, u64));

const DERIVATIONS: [Derivation; 13] = [
    (Maker::TrueCrypt, "ripemd160", 2000, (0, 0)),
    (Maker::TrueCrypt, "ripemd160", 1000, (0, 0)),
    (Maker::TrueCrypt, "sha512", 1000, (0, 0)),
    (Maker::TrueCrypt, "whirlpool", 1000, (0, 0)),
    (Maker::VeraCrypt, "sha512", 500_000, (15_000, 1000)),
    (Maker::VeraCrypt, "whirlpool", 500_000, (15_000, 1000)),
    (Maker::VeraCrypt, "sha256", 500_000, (15_000, 1000)),
    (Maker::VeraCrypt, "sha256", 200_000, (0, 2048)),
    (Maker::VeraCrypt, "blake2s-256", 500_000, (15_000, 1000)),
    (Maker::VeraCrypt, "blake2s-256", 200_000, (0, 2048)),
    (Maker::VeraCrypt, "ripemd160", 655_331, (15_000, 1000)),
    (Maker::VeraCrypt, "ripemd160", 327_661, (0, 2048)),
    (Maker::VeraCrypt, "stribog512", 500_000, (15_000, 1000)),
];

/// The ciphers, outermost last: the order in which they encrypt is the reverse of their names'.
const CIPHERS: [(&str, &[&str]); 15] = [
    ("aes", &["aes"]),
    ("serpent", &["serpent"]),
    ("twofish", &["twofish"]),
    ("twofish-aes", &["twofish", "aes"]),
    ("serpent-twofish-aes", &["serpent", "twofish", "aes"]),
    ("aes-serpent", &["aes", "serpent"]),
    ("aes-twofish-serpent", &["aes", "twofish", "serpent"]),
    ("serpent-twofish", &["serpent", "twofish"]),
    ("camellia", &["camellia"]),
    ("kuznyechik", &["kuznyechik"]),
    ("kuznyechik-camellia", &["kuznyechik", "camellia"]),
    ("twofish-kuznyechik", &["twofish", "kuznyechik"]),
    ("serpent-camellia", &["serpent", "camellia"]),
    ("aes-kuznyechik", &["aes", "kuznyechik"]),
    ("camellia-serpent-kuznyechik", &["camellia", "serpent", "kuznyechik"]),
];

/// The modes: LRW is TrueCrypt's 4.1 to 4.3, XTS what followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Xts,
    Lrw,
}

/// An opened header, without its salt.
struct Header {
    bytes: Zeroizing<Vec<u8>>,
    chain: &'static [&'static str],
    mode: Mode,
}

impl VeraCrypt {
    /// Tries all derivations and ciphers that are asked for. `key_files` are the content of key
    /// files, of which the first MiB counts.
    ///
    /// # Errors
    /// [`Error::WrongPassphrase`] where none of them opens the header: nothing tells a wrong
    /// passphrase from an image that holds no volume. [`Error::TooCostly`] and the like see there.
    pub fn unlock(
        &self,
        image: &dyn Source,
        passphrase: &Secret,
        key_files: &[Secret],
        limits: &Limits,
    ) -> Result<Unlocked, Error> {
        let pool = self.pool(passphrase, key_files)?;
        for offset in self.places(image.len()) {
            let Some(offset) = offset else { continue };
            let header = source::read(image, offset, HEADER_BYTES)?;
            if let Some(opened) = self.open(&header, &pool, limits)? {
                return self.lines(&opened, image.len());
            }
        }
        Err(Error::WrongPassphrase { key_slot: None })
    }

    /// Returns where the header may be, from the end where it is counted so.
    fn places(&self, len: u64) -> [Option<u64>; 2] {
        let from_end = |bytes: u64| len.checked_sub(bytes);
        match (self.volume, self.backup) {
            (Volume::System, _) => [Some(31744), None],
            (Volume::Outer, false) => [Some(0), None],
            (Volume::Outer, true) => [from_end(131_072), None],
            (Volume::Hidden, false) => [Some(65536), from_end(1536)],
            (Volume::Hidden, true) => [from_end(65536), None],
        }
        .map(|place| place.filter(|at| at.saturating_add(HEADER_BYTES as u64) <= len))
    }

    /// Mixes the passphrase with the key files.
    fn pool(&self, passphrase: &Secret, key_files: &[Secret]) -> Result<Zeroizing<Vec<u8>>, Error> {
        let passphrase = passphrase.expose();
        // In VeraCrypt the pool's length depends on the passphrase's.
        let len = if passphrase.len() > 64 && !self.truecrypt_only { 128 } else { 64 };
        if passphrase.len() > len {
            let found = passphrase.len();
            let what = format!("a passphrase of {found} bytes: expected {len} at most");
            return Err(Error::BadArgument(what));
        }
        let mut pool = Zeroizing::new(vec![0u8; len]);
        for file in key_files {
            let mut crc = crc32fast::Hasher::new();
            let mut places = (0..len).cycle();
            for byte in file.expose().iter().take(1 << 20) {
                crc.update(std::slice::from_ref(byte));
                // The register, before its final inversion.
                for part in (!crc.clone().finalize()).to_be_bytes() {
                    let at = places.next().expect("a cycle has no end");
                    pool[at] = pool[at].wrapping_add(part);
                }
            }
        }
        for (place, byte) in pool.iter_mut().zip(passphrase) {
            *place = place.wrapping_add(*byte);
        }
        if key_files.is_empty() {
            pool.truncate(passphrase.len());
        }
        Ok(pool)
    }

    /// Goes through the derivations that are asked for, the quick ones first.
    fn derivations(&self) -> Vec<Kdf> {
        let asked = |hash: &str| self.hash.as_ref().is_none_or(|asked| asked == hash);
        let mut all: Vec<Kdf> = Vec::new();
        for (maker, hash, usual, (least, times)) in DERIVATIONS {
            let vera = maker == Maker::VeraCrypt;
            if !asked(hash) || (vera && self.truecrypt_only) || (!vera && self.pim.is_some()) {
                continue;
            }
            let iterations = self.pim.map_or(usual, |pim| least + times * u64::from(pim));
            all.push(Kdf::Pbkdf2 { hash: hash.into(), iterations });
        }
        if asked("argon2id") && !self.truecrypt_only {
            let pim = u64::from(self.pim.unwrap_or(12).max(1));
            let (passes, mib) =
                if pim <= 31 { ((pim - 1) / 3 + 3, 64 + (pim - 1) * 32) } else { (pim - 18, 1024) };
            let (kind, memory_kib) = (Argon2Kind::Id, mib * 1024);
            all.push(Kdf::Argon2 { kind, passes, memory_kib, lanes: 1 });
        }
        all
    }

    fn open(&self, header: &[u8], pool: &[u8], limits: &Limits) -> Result<Option<Header>, Error> {
        let (salt, sealed) = header.split_at(SALT_BYTES);
        let derivations = self.derivations();
        if derivations.is_empty() {
            let hash = self.hash.clone().unwrap_or_default();
            return Err(Error::UnknownHash { place: "VeraCrypt".into(), hash });
        }
        for kdf in derivations {
            let key = kdf.derive(pool, salt, KEY_BYTES, limits, "VeraCrypt")?;
            let asked = |name: &str| self.cipher.as_ref().is_none_or(|asked| asked == name);
            for (_, chain) in CIPHERS.iter().filter(|(name, _)| asked(name)) {
                for mode in [Mode::Xts, Mode::Lrw] {
                    if let Some(bytes) = decrypt(sealed, &key, chain, mode) {
                        return Ok(Some(Header { bytes, chain, mode }));
                    }
                }
            }
        }
        Ok(None)
    }

    fn lines(&self, header: &Header, len: u64) -> Result<Unlocked, Error> {
        let bytes = &header.bytes;
        let (version, hidden_size) = (be16(bytes, 4), be64(bytes, 28));
        let (volume_size, data_at) = (be64(bytes, 36), be64(bytes, 44));
        let sector_size = be32(bytes, 64);
        if !sector_size.is_multiple_of(512) {
            return Err(Error::Unsupported(format!("a sector size of {sector_size} bytes")));
        }
        let data_at = if data_at == 0 { 512 } else { data_at };
        let old_hidden = || len.checked_sub(1536).and_then(|end| end.checked_sub(hidden_size));
        let offset = match (self.volume, header.mode) {
            (Volume::System, _) => Some(data_at),
            (_, Mode::Xts) if version < 3 => Some(512),
            (Volume::Hidden, Mode::Xts) if version > 3 => Some(data_at),
            (Volume::Hidden, _) => old_hidden(),
            (Volume::Outer, _) => Some(data_at),
        };
        let size = match self.volume {
            Volume::Hidden if hidden_size != 0 => hidden_size,
            _ => volume_size,
        };
        let fits = offset.filter(|offset| size >= 512 && offset.saturating_add(size) <= len);
        let Some(offset) =
            fits.or(offset.filter(|offset| size == 0 && offset.saturating_add(512) <= len))
        else {
            let needed = offset.unwrap_or(0).saturating_add(size.max(512));
            return Err(Error::TooSmall { what: "the image", len, needed });
        };
        let sectors = (if size == 0 { len - offset } else { size }) / 512;
        let iv_offset = if header.mode == Mode::Xts { offset / 512 } else { 0 };
        let count = header.chain.len();
        // The last cipher of the name is the first to decrypt: it lies on the disk.
        let layers = (0..count).rev().map(|place| {
            let crypt = Crypt {
                cipher: header.mode.spec(header.chain[place]),
                key: Secret::new(key(&bytes[KEYS], place, count, header.mode)),
                iv_offset,
                offset: if place + 1 == count { offset / 512 } else { 0 },
                sector_size: 512,
                options: Vec::new(),
            };
            vec![Line { start: 0, len: sectors, target: LineTarget::Crypt(crypt) }]
        });
        Ok(Unlocked { key_slot: None, layers: layers.collect(), warnings: Vec::new() })
    }
}

impl Mode {
    fn spec(self, cipher: &str) -> String {
        match self {
            Mode::Xts => format!("{cipher}-xts-plain64"),
            Mode::Lrw => format!("{cipher}-lrw-benbi"),
        }
    }
}

/// Takes a cipher's key out of those of a chain: in XTS all first halves, then all second ones; in
/// LRW the common tweak key, then the ciphers' own.
fn key(keys: &[u8], place: usize, count: usize, mode: Mode) -> Vec<u8> {
    match mode {
        Mode::Xts => [&keys[32 * place..][..32], &keys[32 * (count + place)..][..32]].concat(),
        Mode::Lrw => [&keys[32 + 32 * place..][..32], &keys[..16]].concat(),
    }
}

/// Decrypts a header, or finds that it is not one.
fn decrypt(sealed: &[u8], keys: &[u8], chain: &[&str], mode: Mode) -> Option<Zeroizing<Vec<u8>>> {
    let mut bytes = Zeroizing::new(sealed.to_vec());
    // A header is one unit of 448 bytes: what is behind it does not matter to it.
    bytes.resize(HEADER_BYTES, 0);
    for (place, cipher) in chain.iter().enumerate().rev() {
        let key = Zeroizing::new(key(keys, place, chain.len(), mode));
        // One that is not known opens nothing.
        let cipher =
            crate::containers::keys::cipher("header", &mode.spec(cipher), &key, 512).ok()?;
        cipher.decrypt(0, &mut bytes);
    }
    let version = be16(&bytes, 4);
    let magic = matches!(&bytes[..4], b"TRUE" | b"VERA");
    let sums = crc32fast::hash(&bytes[KEYS]) == be32(&bytes, 8)
        && (version <= 3 || crc32fast::hash(&bytes[..188]) == be32(&bytes, 188));
    (magic && sums).then_some(bytes)
}
