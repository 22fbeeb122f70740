//! LUKS2 key slots: from a passphrase to a volume key.

use crypto::Secret;

use super::metadata::{Digest, KeySlot};
use super::{Binary, Luks2, Text};
use crate::containers::kdf::{Argon2Kind, Kdf, hash_by_name};
use crate::containers::keys::{self, Area};
use crate::containers::{Limits, Unlock, af};
use crate::{Error, Source};

/// The length of every salt in bytes.
const SALT_BYTES: usize = 32;

/// The shortest digest, which is LUKS1's, and the longest.
const DIGEST_BYTES: std::ops::RangeInclusive<usize> = 20..=64;

/// The longest volume key, and the longest key of an area.
const MAX_KEY_BYTES: u32 = 512;

/// A volume key, and what it opens.
pub(super) struct Opened<'a> {
    pub(super) key_slot: u32,
    pub(super) key: Secret,
    pub(super) digest: &'a Digest,
}

impl Luks2 {
    /// Finds the volume key: by the key slot asked for, else by the preferred ones, then the
    /// normal ones. One that cannot be tried does not keep the others from being tried.
    pub(super) fn volume_key(
        &self,
        image: &dyn Source,
        passphrase: &Secret,
        how: &Unlock,
    ) -> Result<Opened<'_>, Error> {
        let mut failed = None;
        for key_slot in self.slots_to_try(how.key_slot)? {
            match self.try_slot(image, key_slot, passphrase, &how.limits) {
                Ok(Some(opened)) => return Ok(opened),
                Ok(None) => {}
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        Err(failed.unwrap_or(Error::WrongPassphrase { key_slot: how.key_slot }))
    }

    fn slots_to_try(&self, asked: Option<u32>) -> Result<Vec<u32>, Error> {
        if let Some(key_slot) = asked {
            let no_such = |why: &str| Error::NoSuchKeySlot { key_slot, why: why.into() };
            let slot = self.metadata.keyslots.get(key_slot);
            let slot = slot.ok_or_else(|| no_such("it is not active"))?;
            if slot.kind.as_bytes() != b"luks2" {
                return Err(no_such(&format!("it is of type `{}`", slot.kind)));
            }
            if self.digest_of(key_slot).is_none() {
                return Err(Error::UnboundSlot(key_slot));
            }
            return Ok(vec![key_slot]);
        }
        let priority = |slot: &KeySlot| slot.priority.unwrap_or(1);
        let slots = || {
            self.metadata.keyslots.iter().filter(|(number, slot)| {
                slot.kind.as_bytes() == b"luks2" && self.digest_of(*number).is_some()
            })
        };
        let of = |wanted: i32| slots().filter(move |(_, slot)| priority(slot) == wanted);
        Ok(of(2).chain(of(1)).map(|(number, _)| number).collect())
    }

    /// Returns the digest of a key slot's key, where the key opens data.
    fn digest_of(&self, key_slot: u32) -> Option<&Digest> {
        let mut digests = self.metadata.digests.iter().map(|(_, digest)| digest);
        digests.find(|digest| digest.keyslots.0.contains(&key_slot) && self.opens_data(digest))
    }

    /// Whether a digest is of a key that opens data, and not only what was or will be.
    pub(super) fn opens_data(&self, digest: &Digest) -> bool {
        let mut segments = digest.segments.0.iter();
        segments.any(|number| {
            self.metadata.segments.get(*number).is_some_and(|segment| !segment.is_backup())
        })
    }

    fn try_slot(
        &self,
        image: &dyn Source,
        key_slot: u32,
        passphrase: &Secret,
        limits: &Limits,
    ) -> Result<Option<Opened<'_>>, Error> {
        let (Some(slot), Some(digest)) =
            (self.metadata.keyslots.get(key_slot), self.digest_of(key_slot))
        else {
            return Ok(None);
        };
        let place = format!("key slot {key_slot}");
        let key = slot.open(image, passphrase, limits, &place)?;
        let Some(key) = key else { return Ok(None) };
        let right = digest.matches(&key, limits)?;
        Ok(right.then_some(Opened { key_slot, key, digest }))
    }
}

impl KeySlot {
    /// Returns the key that this passphrase leads to, which may be junk.
    fn open(
        &self,
        image: &dyn Source,
        passphrase: &Secret,
        limits: &Limits,
        place: &str,
    ) -> Result<Option<Secret>, Error> {
        let damaged = |what: String| Error::damaged(format!("{place}: {what}"));
        let missing = |name: &str| damaged(format!("there is no {name}"));
        let af = self.af.as_ref().ok_or_else(|| missing("af"))?;
        let kdf = self.kdf.as_ref().ok_or_else(|| missing("kdf"))?;
        let encryption = self.area.encryption.as_ref();
        let encryption = encryption.ok_or_else(|| missing("encryption of its area"))?;
        let area_key_bytes = self.area.key_size.ok_or_else(|| missing("key size of its area"))?;
        if af.kind.as_bytes() != b"luks1" || af.stripes != af::STRIPES {
            let found = format!("`{}`, {} stripes", af.kind, af.stripes);
            return Err(damaged(format!("af: expected `luks1`, 4000 stripes, found {found}")));
        }
        if self.area.kind.as_bytes() != b"raw" {
            return Err(damaged(format!("area: expected `raw`, found `{}`", self.area.kind)));
        }
        for bytes in [self.key_size, area_key_bytes] {
            if bytes == 0 || bytes > MAX_KEY_BYTES {
                let expected = format!("expected 1 to {MAX_KEY_BYTES}");
                return Err(damaged(format!("key size: {expected}, found {bytes}")));
            }
        }
        let needed = af::area_bytes(self.key_size);
        if self.area.size.0 < needed {
            let found = self.area.size.0;
            return Err(damaged(format!("area: expected {needed} bytes at least, found {found}")));
        }
        // With this cipher any passphrase would open: whoever can write the header could make a
        // user believe that data are encrypted. cryptsetup takes the empty one alone, too.
        if keys::is_null(encryption) && !passphrase.is_empty() {
            return Ok(None);
        }
        if !keys::is_null(encryption) {
            keys::check_cipher(place, encryption, area_key_bytes, 512)?;
        }
        let hash = hash_by_name(&af.hash, place)?;
        let salt = salt(place, Some(&kdf.salt))?;
        let len = area_key_bytes as usize;
        let area_key = kdf.cost(place)?.derive(passphrase.expose(), salt, len, limits, place)?;
        let (offset, key_bytes) = (self.area.offset.0, self.key_size);
        let area = Area { place, cipher: encryption, offset, key_bytes, hash };
        area.open(image, &area_key).map(Some)
    }
}

impl super::Kdf {
    fn cost(&self, place: &str) -> Result<Kdf, Error> {
        let missing = |name: &str| Error::damaged(format!("{place}: kdf: there is no {name}"));
        let kind = match &*self.kind {
            "pbkdf2" => {
                let hash = self.hash.as_ref().ok_or_else(|| missing("hash"))?.to_string();
                let iterations = self.iterations.ok_or_else(|| missing("iterations"))?;
                return Ok(Kdf::Pbkdf2 { hash, iterations });
            }
            "argon2i" => Argon2Kind::I,
            "argon2id" => Argon2Kind::Id,
            other => return Err(Error::Unsupported(format!("{place}: kdf `{other}`"))),
        };
        Ok(Kdf::Argon2 {
            kind,
            passes: self.time.ok_or_else(|| missing("time"))?,
            memory_kib: self.memory.ok_or_else(|| missing("memory"))?,
            lanes: self.cpus.ok_or_else(|| missing("cpus"))?,
        })
    }
}

impl Digest {
    /// Returns whether this is the key that the digest was made of.
    fn matches(&self, key: &Secret, limits: &Limits) -> Result<bool, Error> {
        let missing = |name: &str| Error::damaged(format!("digest: there is no {name}"));
        if self.kind.as_bytes() != b"pbkdf2" {
            return Err(Error::Unsupported(format!("digest of type `{}`", self.kind)));
        }
        let hash = self.hash.as_ref().map(Text::to_string).ok_or_else(|| missing("hash"))?;
        let iterations = self.iterations.ok_or_else(|| missing("iterations"))?;
        let Binary(digest) = self.digest.as_ref().ok_or_else(|| missing("digest"))?;
        // A short digest would let junk pass for a key.
        if !DIGEST_BYTES.contains(&digest.len()) {
            let what = format!("digest: expected 20 to 64 bytes, found {}", digest.len());
            return Err(Error::damaged(what));
        }
        let salt = salt("digest", self.salt.as_ref())?;
        let kdf = Kdf::Pbkdf2 { hash, iterations };
        let found = kdf.derive(key.expose(), salt, digest.len(), limits, "digest")?;
        Ok(keys::same(&found, digest))
    }
}

fn salt<'a>(place: &str, salt: Option<&'a Binary>) -> Result<&'a [u8], Error> {
    match salt {
        Some(Binary(salt)) if salt.len() == SALT_BYTES => Ok(salt),
        found => {
            let found = found.map_or(0, |salt| salt.0.len());
            Err(Error::damaged(format!("{place}: salt: expected 32 bytes, found {found}")))
        }
    }
}
