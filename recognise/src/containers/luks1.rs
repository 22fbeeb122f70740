//! LUKS1: one header of 592 bytes, eight key slots, one cipher.
//!
//! As written by the "LUKS On-Disk Format Specification", version 1.2.3. Numbers are big-endian.

use crypto::Secret;
use serde::Serialize;

use crate::bytes::{array, be16, be32, text};
use crate::containers::kdf::{Kdf, hash_by_name};
use crate::containers::keys::{self, Area};
use crate::containers::unlocked::{Crypt, Line, LineTarget};
use crate::containers::{Data, Place, Unlock, Unlocked, af};
use crate::{Error, Source, source};

mod dump;

pub(crate) const MAGIC: &[u8; 6] = b"LUKS\xba\xbe";
const HEADER_BYTES: usize = 592;
const SLOTS: usize = 8;
const ENABLED: u32 = 0x00ac_71f3;
const DISABLED: u32 = 0x0000_dead;

/// The longest volume key: no cipher of dm-crypt takes more, and with it all areas stay small.
const MAX_KEY_BYTES: u32 = 512;

/// A LUKS1 header.
#[derive(Clone, Debug, Serialize)]
pub struct Luks1 {
    /// The cipher's name, as `aes`.
    pub cipher_name: String,
    /// Its mode, as `xts-plain64`.
    pub cipher_mode: String,
    /// The hash of the key slots and of the digest.
    pub hash: String,
    /// The first sector (512 bytes) of the data; 0 where they are on another device.
    pub payload_offset: u32,
    /// The length of the volume key in bytes.
    pub key_bytes: u32,
    /// The digest that a volume key is recognised by.
    pub digest: [u8; 20],
    /// Its salt.
    pub digest_salt: [u8; 32],
    /// Its iterations of PBKDF2.
    pub digest_iterations: u32,
    /// The container's UUID.
    pub uuid: String,
    /// The key slots.
    pub key_slots: [KeySlot; SLOTS],
}

/// A key slot of LUKS1.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct KeySlot {
    /// Whether a passphrase is set.
    pub active: bool,
    /// Iterations of PBKDF2.
    pub iterations: u32,
    /// Its salt.
    pub salt: [u8; 32],
    /// The first sector (512 bytes) of the key material.
    pub offset: u32,
    /// Stripes of the anti-forensic splitter: 4000.
    pub stripes: u32,
}

impl Luks1 {
    /// Reads the header and checks that its areas neither overlap nor leave the image.
    pub(crate) fn read(image: &dyn Source) -> Result<Luks1, Error> {
        let bytes = source::read(image, 0, HEADER_BYTES)?;
        debug_assert_eq!((&bytes[..6], be16(&bytes, 6)), (&MAGIC[..], 1), "the caller looked");
        let header = Luks1 {
            cipher_name: text(&bytes[8..40]),
            cipher_mode: text(&bytes[40..72]),
            hash: text(&bytes[72..104]),
            payload_offset: be32(&bytes, 104),
            key_bytes: be32(&bytes, 108),
            digest: array(&bytes, 112),
            digest_salt: array(&bytes, 132),
            digest_iterations: be32(&bytes, 164),
            uuid: text(&bytes[168..208]),
            key_slots: key_slots(&bytes)?,
        };
        header.check(image.len())?;
        Ok(header)
    }

    fn check(&self, image_len: u64) -> Result<(), Error> {
        if self.key_bytes == 0 || self.key_bytes > MAX_KEY_BYTES {
            let found = self.key_bytes;
            let what = format!("key bytes: expected 1 to {MAX_KEY_BYTES}, found {found}");
            return Err(Error::damaged(what));
        }
        let sectors = af::area_bytes(self.key_bytes) / 512;
        let mut areas: Vec<(u64, usize)> = Vec::with_capacity(SLOTS);
        for (number, slot) in self.key_slots.iter().enumerate() {
            let place = format!("key slot {number}");
            let start = u64::from(slot.offset);
            if slot.stripes != af::STRIPES {
                let found = slot.stripes;
                let what = format!("{place}: stripes: expected {}, found {found}", af::STRIPES);
                return Err(Error::damaged(what));
            }
            if start * 512 < HEADER_BYTES as u64 {
                let what = format!("{place}: key material at sector {start} is in the header");
                return Err(Error::damaged(what));
            }
            if self.payload_offset != 0 && start + sectors > u64::from(self.payload_offset) {
                let data = self.payload_offset;
                return Err(Error::damaged(format!(
                    "{place}: sectors {start} to {} reach into the data at sector {data}",
                    start + sectors
                )));
            }
            areas.push((start, number));
        }
        areas.sort_unstable();
        if let Some(pair) = areas.windows(2).find(|pair| pair[1].0 < pair[0].0 + sectors) {
            let (one, other) = (pair[0].1, pair[1].1);
            return Err(Error::damaged(format!("key slots {one} and {other} overlap")));
        }
        let needed = (areas[SLOTS - 1].0 + sectors) * 512;
        if image_len < needed {
            return Err(Error::TooSmall { what: "the image", len: image_len, needed });
        }
        Ok(())
    }

    /// Returns the cipher as dm-crypt takes it.
    fn cipher(&self) -> String {
        format!("{}-{}", self.cipher_name, self.cipher_mode)
    }

    pub(crate) fn unlock(
        &self,
        image: &dyn Source,
        data: Data,
        passphrase: &Secret,
        how: &Unlock,
    ) -> Result<Unlocked, Error> {
        // What no passphrase could mend is said before any is tried.
        let null = keys::is_null(&self.cipher_name);
        if !null {
            keys::check_cipher("header", &self.cipher(), self.key_bytes, 512)?;
        }
        hash_by_name(&self.hash, "header")?;
        let (offset, len) = self.data_area(data)?;
        // With this cipher any passphrase would open: whoever can write the header could make a
        // user believe that data are encrypted. cryptsetup takes the empty one alone, too.
        if null && !passphrase.is_empty() {
            return Err(Error::WrongPassphrase { key_slot: how.key_slot });
        }
        let (key_slot, key) = self.volume_key(image, passphrase, how)?;
        let key = if null { Secret::new(Vec::new()) } else { key };
        let crypt = Crypt {
            cipher: self.cipher(),
            key,
            iv_offset: 0,
            offset,
            sector_size: 512,
            options: Vec::new(),
        };
        let line = Line { start: 0, len, target: LineTarget::Crypt(crypt) };
        Ok(Unlocked::new(Some(key_slot), vec![line]))
    }

    /// Returns the first sector of the data and how many there are.
    fn data_area(&self, data: Data) -> Result<(u64, u64), Error> {
        let offset = u64::from(self.payload_offset);
        if offset == 0 && data.place == Place::WithHeader {
            return Err(Error::DetachedHeader);
        }
        let len = (data.len / 512).saturating_sub(offset);
        if len == 0 {
            let needed = (offset + 1) * 512;
            return Err(Error::TooSmall { what: "the data device", len: data.len, needed });
        }
        Ok((offset, len))
    }

    fn volume_key(
        &self,
        image: &dyn Source,
        passphrase: &Secret,
        how: &Unlock,
    ) -> Result<(u32, Secret), Error> {
        let mut slots: Vec<u32> = (0..SLOTS as u32).collect();
        if let Some(asked) = how.key_slot {
            let slot = self.key_slots.get(asked as usize);
            if !slot.is_some_and(|slot| slot.active) {
                let why = slot.map_or("LUKS1 has key slots 0 to 7", |_| "it is not active");
                return Err(Error::NoSuchKeySlot { key_slot: asked, why: why.into() });
            }
            slots = vec![asked];
        }
        slots.retain(|slot| self.key_slots[*slot as usize].active);
        for number in slots {
            let key = self.open_slot(image, number, passphrase, how)?;
            if self.digest_matches(&key, how)? {
                return Ok((number, key));
            }
        }
        Err(Error::WrongPassphrase { key_slot: how.key_slot })
    }

    fn open_slot(
        &self,
        image: &dyn Source,
        number: u32,
        passphrase: &Secret,
        how: &Unlock,
    ) -> Result<Secret, Error> {
        let slot = &self.key_slots[number as usize];
        let place = format!("key slot {number}");
        let kdf = Kdf::Pbkdf2 { hash: self.hash.clone(), iterations: slot.iterations.into() };
        let len = self.key_bytes as usize;
        let key = kdf.derive(passphrase.expose(), &slot.salt, len, &how.limits, &place)?;
        let area = Area {
            place: &place,
            cipher: &self.cipher(),
            offset: u64::from(slot.offset) * 512,
            key_bytes: self.key_bytes,
            hash: hash_by_name(&self.hash, &place)?,
        };
        area.open(image, &key)
    }

    fn digest_matches(&self, key: &Secret, how: &Unlock) -> Result<bool, Error> {
        let (hash, iterations) = (self.hash.clone(), self.digest_iterations.into());
        let kdf = Kdf::Pbkdf2 { hash, iterations };
        let salt = &self.digest_salt;
        let found = kdf.derive(key.expose(), salt, self.digest.len(), &how.limits, "digest")?;
        Ok(keys::same(&found, &self.digest))
    }
}

fn key_slots(bytes: &[u8]) -> Result<[KeySlot; SLOTS], Error> {
    let mut slots = Vec::with_capacity(SLOTS);
    for number in 0..SLOTS {
        let at = 208 + 48 * number;
        let active = match be32(bytes, at) {
            ENABLED => true,
            DISABLED => false,
            other => {
                let what = format!(
                    "key slot {number}: state: expected {ENABLED:#x} or {DISABLED:#x}, found {other:#x}"
                );
                return Err(Error::damaged(what));
            }
        };
        slots.push(KeySlot {
            active,
            iterations: be32(bytes, at + 4),
            salt: array(bytes, at + 8),
            offset: be32(bytes, at + 40),
            stripes: be32(bytes, at + 44),
        });
    }
    Ok(slots.try_into().expect("eight were read"))
}
