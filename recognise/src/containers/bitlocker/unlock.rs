//! From a passphrase, a recovery key or a startup key to a BitLocker volume's key.

use aes::Aes256;
use ccm::aead::{Aead as _, KeyInit as _};
use ccm::consts::{U12, U16};
use crypto::Secret;
use crypto::hash::Hash;
use zeroize::Zeroizing;

use super::entries::{Protection, Protector, Sealed, entries};
use super::{BitLocker, guid, layout};
use crate::Error;
use crate::bytes::{array, le16, le32};
use crate::containers::kdf::hash_by_name;
use crate::containers::{Data, Unlock, Unlocked, keys};

/// How often a passphrase is hashed.
const ROUNDS: u64 = 0x10_0000;
/// What a key under AES-CCM begins with: its size, kind and cipher.
const KEY_HEADER_BYTES: usize = 12;

type Key = Zeroizing<Vec<u8>>;

impl BitLocker {
    pub(crate) fn unlock(
        &self,
        data: Data,
        passphrase: &Secret,
        how: &Unlock,
    ) -> Result<Unlocked, Error> {
        if let Some(obstacle) = &self.obstacle {
            return Err(Error::Unsupported(obstacle.clone()));
        }
        let spans = layout::spans(self, data.len)?;
        let (number, master) = self.master_key(passphrase, how)?;
        self.validate(&master)?;
        let volume = self.volume_key.open(&master).and_then(payload);
        let volume = volume.ok_or_else(|| Error::damaged("the master key opens no volume key"))?;
        let volume = Secret::new(self.cipher_key(&volume)?);
        keys::cipher("metadata", self.cipher, volume.expose(), u32::from(self.sector_size))?;
        let lines = layout::lines(self, &spans, &volume);
        let mut unlocked = Unlocked::new(Some(number), lines);
        if data.len != self.volume_size {
            let (size, len) = (self.volume_size, data.len);
            let text = format!("the volume is of {size} bytes, and its device of {len}");
            unlocked.warnings.push(text);
        }
        Ok(unlocked)
    }

    fn master_key(&self, passphrase: &Secret, how: &Unlock) -> Result<(u32, Key), Error> {
        let all = (0u32..).zip(&self.protectors);
        if let Some(key_slot) = how.key_slot
            && self.protectors.get(key_slot as usize).is_none()
        {
            let why = "there is no such protector".into();
            return Err(Error::NoSuchKeySlot { key_slot, why });
        }
        let mut tried = false;
        for (number, protector) in all {
            if how.key_slot.is_some_and(|asked| asked != number) {
                continue;
            }
            tried |= protector.protection.is_ours();
            let Some(sealed) = &protector.sealed else { continue };
            let key = self.protector_key(protector, passphrase, how)?;
            let master = key.and_then(|key| sealed.open(&key)).and_then(payload);
            if let Some(master) = master {
                return Ok((number, master));
            }
        }
        if !tried {
            let kinds: Vec<String> =
                self.protectors.iter().map(|one| one.protection.to_string()).collect();
            let what = format!("what protects this volume's key ({})", kinds.join(", "));
            return Err(Error::Unsupported(what));
        }
        Err(Error::WrongPassphrase { key_slot: how.key_slot })
    }

    /// Returns the key of a protector, where what was given is of its kind.
    fn protector_key(
        &self,
        protector: &Protector,
        passphrase: &Secret,
        how: &Unlock,
    ) -> Result<Option<Key>, Error> {
        let given = passphrase.expose();
        let sha256 = hash_by_name("sha256", "BitLocker")?;
        match protector.protection {
            Protection::ClearKey => Ok(protector.clear_key.clone().map(Zeroizing::new)),
            Protection::StartupKey => startup_key(given, protector, &self.guid),
            Protection::RecoveryKey => {
                let digits = recovery_key(given);
                let first = digits.map(|digits| Zeroizing::new(sha256.digest(&*digits)));
                first.map(|first| stretch(sha256, &first, &protector.salt, how)).transpose()
            }
            Protection::Passphrase => {
                let Ok(text) = std::str::from_utf8(given) else { return Ok(None) };
                let wide = text.encode_utf16().flat_map(u16::to_le_bytes);
                let wide: Key = Zeroizing::new(wide.collect());
                let once = Zeroizing::new(sha256.digest(&wide));
                let twice = Zeroizing::new(sha256.digest(&once));
                stretch(sha256, &twice, &protector.salt, how).map(Some)
            }
            Protection::Tpm | Protection::TpmPin | Protection::SmartCard | Protection::Unknown => {
                Ok(None)
            }
        }
    }

    /// Compares the metadata with the digest that the master key opens: a checksum anybody can
    /// make right, this not.
    fn validate(&self, master: &[u8]) -> Result<(), Error> {
        let wrong = |what: &str| Error::damaged(format!("metadata: {what}"));
        let opened = self.validation.open(master);
        let opened = opened.filter(|opened| opened.len() >= 44);
        let opened = opened.ok_or_else(|| wrong("the master key does not open their digest"))?;
        // Role 0, kind 1 (a key), and the hash's number.
        if (le16(&opened, 2), le16(&opened, 4), le16(&opened, 8)) != (0, 1, 0x2005) {
            return Err(wrong("their digest is not one of SHA-256"));
        }
        if !keys::same(&opened[12..44], &self.digest) {
            return Err(wrong("they were changed by somebody who did not have the key"));
        }
        Ok(())
    }

    /// Returns the volume key as dm-crypt takes it.
    fn cipher_key(&self, key: &[u8]) -> Result<Vec<u8>, Error> {
        // Two keys of 16 bytes lie in halves of 32.
        if self.cipher == "aes-cbc-elephant" && self.key_bytes == 32 && key.len() == 64 {
            return Ok([&key[..16], &key[32..48]].concat());
        }
        if key.len() != self.key_bytes {
            let (found, expected) = (key.len(), self.key_bytes);
            let what = format!("volume key: expected {expected} bytes, found {found}");
            return Err(Error::damaged(what));
        }
        Ok(key.to_vec())
    }
}

impl Protection {
    fn is_ours(self) -> bool {
        use Protection::{ClearKey, Passphrase, RecoveryKey, StartupKey};
        matches!(self, ClearKey | Passphrase | RecoveryKey | StartupKey)
    }
}

impl Sealed {
    /// Decrypts the value, or finds that the key is not its own.
    fn open(&self, key: &[u8]) -> Option<Key> {
        let cipher = ccm::Ccm::<Aes256, U16, U12>::new_from_slice(key).ok()?;
        let sealed = [&self.bytes[..], &self.tag].concat();
        cipher.decrypt(&self.nonce.into(), &*sealed).ok().map(Zeroizing::new)
    }
}

/// Takes a key out of its entry, which says its own size.
fn payload(entry: Key) -> Option<Key> {
    let sized = entry.len() > KEY_HEADER_BYTES && usize::from(le16(&entry, 0)) == entry.len();
    sized.then(|| Zeroizing::new(entry[KEY_HEADER_BYTES..].to_vec()))
}

/// Hashes a passphrase's hash a million times, with the salt and the count.
fn stretch(sha256: Hash, first: &[u8], salt: &[u8; 16], how: &Unlock) -> Result<Key, Error> {
    let limit = how.limits.pbkdf2_iterations;
    if ROUNDS > limit {
        let (place, what) = ("BitLocker".into(), "hashing rounds");
        return Err(Error::TooCostly { place, what, figure: ROUNDS, limit });
    }
    let mut state = Zeroizing::new([0; 88]);
    state[32..64].copy_from_slice(first);
    state[64..80].copy_from_slice(salt);
    let mut digest = Zeroizing::new([0; 32]);
    for count in 0..ROUNDS {
        state[80..].copy_from_slice(&count.to_le_bytes());
        sha256.digest_of(&[&state[..]], &mut *digest);
        state[..32].copy_from_slice(&*digest);
    }
    Ok(Zeroizing::new(digest.to_vec()))
}

/// Reads a recovery key: eight numbers of six digits, each 11 times one of two bytes.
fn recovery_key(given: &[u8]) -> Option<Zeroizing<[u8; 16]>> {
    let text = std::str::from_utf8(given).ok()?;
    let mut key = Zeroizing::new([0; 16]);
    let mut parts = text.strip_suffix('\n').unwrap_or(text).split('-');
    for place in key.chunks_exact_mut(2) {
        let digits = parts.next().filter(|part| part.len() == 6)?;
        let number: u32 =
            digits.bytes().all(|c| c.is_ascii_digit()).then(|| digits.parse().ok())??;
        let value = u16::try_from(number / 11).ok().filter(|_| number.is_multiple_of(11))?;
        place.copy_from_slice(&value.to_le_bytes());
    }
    parts.next().is_none().then_some(key)
}

/// Reads a startup key's file, as written on a memory stick (`.BEK`).
fn startup_key(file: &[u8], protector: &Protector, volume: &str) -> Result<Option<Key>, Error> {
    const HEADER_BYTES: usize = 48;
    let is_file = file.len() > HEADER_BYTES && le32(file, 0) as usize == file.len();
    if !is_file || le32(file, 4) != 1 || guid(array(file, 16)) != protector.guid {
        return Ok(None);
    }
    let damaged = |what: &str| Error::damaged(format!("startup key: {what}"));
    let entry = entries(&file[HEADER_BYTES..]).next().ok_or_else(|| damaged("no entry"))??;
    if (entry.role, entry.kind) != (6, 9) {
        return Err(damaged("its entry is of another kind"));
    }
    for entry in entries(&entry.at_least(24)?[24..]) {
        let entry = entry?;
        match entry.kind {
            1 => return Ok(Some(Zeroizing::new(entry.at_least(4)?[4..].to_vec()))),
            0x17 if guid(array(entry.at_least(16)?, 0)) != volume => {
                return Err(damaged("it is another volume's"));
            }
            _ => {}
        }
    }
    Err(damaged("no key in it"))
}
