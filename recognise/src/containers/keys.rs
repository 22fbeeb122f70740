//! What LUKS1 and LUKS2 share about keys: areas of key material, and ciphers that fit their keys.

use crypto::hash::Hash;
use crypto::{IvUnit, Secret, SectorCipher, Spec};

use crate::containers::af;
use crate::{Error, Source, source};

/// Where a key slot keeps its key.
pub(crate) struct Area<'a> {
    /// The key slot, for errors.
    pub(crate) place: &'a str,
    /// What the area is encrypted with, as `aes-xts-plain64`.
    pub(crate) cipher: &'a str,
    /// In bytes, from the start of the image.
    pub(crate) offset: u64,
    /// The length of the key that it holds.
    pub(crate) key_bytes: u32,
    /// What its stripes are mixed with.
    pub(crate) hash: Hash,
}

impl Area<'_> {
    /// Reads the area, decrypts it and puts the key together. With a wrong area key the result is
    /// junk, which only a digest can tell.
    pub(crate) fn open(&self, image: &dyn Source, area_key: &[u8]) -> Result<Secret, Error> {
        let len = usize::try_from(af::area_bytes(self.key_bytes)).expect("keys are short");
        let mut material = source::read(image, self.offset, len)?;
        if !is_null(self.cipher) {
            let cipher = cipher(self.place, self.cipher, area_key, 512)?;
            // The area's first sector is number 0.
            cipher.decrypt(0, &mut material);
        }
        let key_bytes = self.key_bytes as usize;
        let stripes = &material[..key_bytes * af::STRIPES as usize];
        let mut key = af::merge(self.hash, stripes, key_bytes, af::STRIPES as usize);
        Ok(Secret::new(std::mem::take(&mut *key)))
    }
}

/// Makes a cipher as dm-crypt would; `place` is where the header names it.
pub(crate) fn cipher(
    place: &str,
    text: &str,
    key: &[u8],
    sector_size: u32,
) -> Result<SectorCipher, Error> {
    let unknown =
        |why: String| Error::UnknownCipher { place: place.into(), cipher: text.into(), why };
    let spec = Spec::parse(text).map_err(|fault| unknown(fault.detail))?;
    let cipher = SectorCipher::new(&spec, key, sector_size, IvUnit::Sector512);
    cipher.map_err(|fault| unknown(fault.detail))
}

/// Says what is wrong with a cipher and a key of this length, before there is a key.
pub(crate) fn check_cipher(
    place: &str,
    text: &str,
    key_bytes: u32,
    sector_size: u32,
) -> Result<(), Error> {
    // Not all alike: a key of equal halves is one that some reader of keys may refuse.
    let stand_in: Vec<u8> = (0..key_bytes).map(|i| i as u8).collect();
    cipher(place, text, &stand_in, sector_size).map(drop)
}

/// Compares two digests in a time that does not tell where they differ.
pub(crate) fn same(one: &[u8], other: &[u8]) -> bool {
    let differ = one.iter().zip(other).fold(0, |differ, (a, b)| differ | (a ^ b));
    one.len() == other.len() && std::hint::black_box(differ) == 0
}

/// Whether a cipher leaves data as they are.
pub(crate) fn is_null(cipher: &str) -> bool {
    cipher == "null" || cipher == "cipher_null" || cipher.starts_with("cipher_null-")
}
