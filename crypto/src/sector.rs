use std::fmt;

use xts::AesXts;

use crate::fault::{BAD_KEY, Fault, NO_PROFILE};
use crate::iv::{Generator, Numbered};
use crate::mode::{Iv, MAX_UNITS, Mode};
use crate::spec::{IvMode, Spec};

/// What a unit's number counts, for its iv.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IvUnit {
    /// Sectors of 512 bytes, whatever the sector size: the default, and what LUKS2 means.
    Sector512,
    /// Units of the sector size: the option `iv_large_sectors`.
    Large,
}

/// Encrypts and decrypts units of 512 to 4096 bytes as dm-crypt does, each with the iv that its
/// place on the device gives it.
///
/// Any number of threads may use one at a time. The keys are wiped when it is dropped; `Debug`
/// shows the specification and no key.
pub struct SectorCipher {
    spec: Spec,
    unit: usize,
    iv_unit: IvUnit,
    engine: Engine,
}

enum Engine {
    /// The common case, with code of its own.
    AesXts(AesXts, Numbered),
    /// One mode for each of the keys side by side, a power of two of them.
    Modes(Vec<Box<dyn Mode>>, Generator),
}

impl SectorCipher {
    /// Sets up the key, checking in the kernel's order after [`Spec::parse`].
    ///
    /// # Errors
    /// `Error decoding and setting key` where the key's length is not one of the cipher's;
    /// `Error creating IV` where iv mode, cipher and sector size do not go together;
    /// `Integrity profile not supported.` for ivs that are random (the kernel says that once it
    /// has opened the device, see [`Fault::is_about_the_device`]).
    ///
    /// # Panics
    /// When `sector_size` is not 512, 1024, 2048 or 4096.
    pub fn new(
        spec: &Spec,
        key: &[u8],
        sector_size: u32,
        iv_unit: IvUnit,
    ) -> Result<SectorCipher, Fault> {
        assert!(
            matches!(sector_size, 512 | 1024 | 2048 | 4096),
            "a sector size of {sector_size} has been refused before"
        );
        let engine = Engine::new(spec, key)?;
        Ok(SectorCipher { spec: spec.clone(), unit: sector_size as usize, iv_unit, engine })
    }

    /// Returns the specification this was made from.
    pub fn spec(&self) -> &Spec {
        &self.spec
    }

    /// Encrypts `from` into `to`. `sector` is the number of the first 512-byte sector, with the
    /// table's `iv_offset` added; both buffers have one length of whole units.
    ///
    /// # Panics
    /// When the lengths differ or are not whole units.
    pub fn encrypt_to(&self, sector: u64, from: &[u8], to: &mut [u8]) {
        assert_eq!(from.len(), to.len(), "encryption keeps the length");
        match &self.engine {
            Engine::AesXts(xts, ivs) => {
                xts.encrypt_to(from, to, self.unit, |unit| self.aes_xts_iv(*ivs, sector, unit));
            }
            Engine::Modes(..) => {
                // A few units at a time, so that what is copied is still near when it is encrypted.
                let piece = MAX_UNITS * self.unit;
                let mut at = sector;
                for (from, to) in from.chunks(piece).zip(to.chunks_mut(piece)) {
                    to.copy_from_slice(from);
                    self.encrypt(at, to);
                    at = at.wrapping_add((piece / 512) as u64);
                }
            }
        }
    }

    /// Encrypts `data`, whole units of which the first lies at `sector`, in place.
    ///
    /// # Panics
    /// When the length is not whole units.
    pub fn encrypt(&self, sector: u64, data: &mut [u8]) {
        match &self.engine {
            Engine::AesXts(xts, ivs) => {
                xts.encrypt(data, self.unit, |unit| self.aes_xts_iv(*ivs, sector, unit));
            }
            Engine::Modes(modes, generator) => {
                self.in_groups(modes, sector, data, |mode, numbers, group| {
                    let mut ivs = [[0; 32]; MAX_UNITS];
                    let bulk = &*modes[0];
                    for ((iv, unit), number) in each(&mut ivs, group, self.unit).zip(numbers) {
                        *iv = generator.before_encryption(*number, unit, bulk);
                    }
                    mode.encrypt(&ivs[..numbers.len()], group);
                    for ((_, unit), number) in each(&mut ivs, group, self.unit).zip(numbers) {
                        generator.after_encryption(*number, unit);
                    }
                });
            }
        }
    }

    /// Decrypts `data`, whole units of which the first lies at `sector`, in place.
    ///
    /// # Panics
    /// When the length is not whole units.
    pub fn decrypt(&self, sector: u64, data: &mut [u8]) {
        match &self.engine {
            Engine::AesXts(xts, ivs) => {
                xts.decrypt(data, self.unit, |unit| self.aes_xts_iv(*ivs, sector, unit));
            }
            Engine::Modes(modes, generator) => {
                self.in_groups(modes, sector, data, |mode, numbers, group| {
                    let mut ivs = [[0; 32]; MAX_UNITS];
                    let bulk = &*modes[0];
                    for ((iv, unit), number) in each(&mut ivs, group, self.unit).zip(numbers) {
                        *iv = generator.before_decryption(*number, unit, bulk);
                    }
                    mode.decrypt(&ivs[..numbers.len()], group);
                    for ((_, unit), number) in each(&mut ivs, group, self.unit).zip(numbers) {
                        generator.after_decryption(*number, unit);
                    }
                });
            }
        }
    }

    fn aes_xts_iv(&self, ivs: Numbered, sector: u64, unit: u64) -> [u8; 16] {
        let sector = sector.wrapping_add(unit.wrapping_mul((self.unit / 512) as u64));
        let iv = ivs.iv(self.number(sector));
        *iv.first_chunk().expect("an iv has 32 bytes")
    }

    /// What a unit's iv is made of.
    fn number(&self, sector: u64) -> u64 {
        match self.iv_unit {
            IvUnit::Sector512 => sector,
            IvUnit::Large => sector >> (self.unit / 512).ilog2(),
        }
    }

    /// Calls `run` with the mode, the numbers and the data of a few units at a time: those that
    /// have a key in common.
    fn in_groups(
        &self,
        modes: &[Box<dyn Mode>],
        sector: u64,
        data: &mut [u8],
        run: impl Fn(&dyn Mode, &[u64], &mut [u8]),
    ) {
        assert!(data.len().is_multiple_of(self.unit), "data is whole units");
        let step = (self.unit / 512) as u64;
        let units = if modes.len() == 1 { MAX_UNITS } else { 1 };
        let mut sector = sector;
        for group in data.chunks_mut(units * self.unit) {
            // The key goes by 512-byte sectors, whatever the iv counts.
            let mode = &*modes[sector as usize & (modes.len() - 1)];
            let mut numbers = [0; MAX_UNITS];
            let numbers = &mut numbers[..group.len() / self.unit];
            for number in &mut *numbers {
                *number = self.number(sector);
                sector = sector.wrapping_add(step);
            }
            run(mode, numbers, group);
        }
    }
}

fn each<'a>(
    ivs: &'a mut [Iv],
    group: &'a mut [u8],
    unit: usize,
) -> impl Iterator<Item = (&'a mut Iv, &'a mut [u8])> {
    ivs.iter_mut().zip(group.chunks_exact_mut(unit))
}

impl Engine {
    fn new(spec: &Spec, key: &[u8]) -> Result<Engine, Fault> {
        let algorithm = spec.algorithm;
        let bad_key = || {
            let detail = format!("{}, found {} bytes", algorithm.keys_in_words(), key.len());
            Fault::invalid(BAD_KEY, detail)
        };
        let iv_size = algorithm.iv_size().max(8);
        let numbered = match spec.iv {
            Some(mode) => Numbered::new(mode, iv_size, algorithm.block_size()),
            // The kernel would leave whatever lay in memory: what it wrote it could not read.
            None => Some(Numbered::Null),
        };
        if let (true, 1, Some(ivs)) = (algorithm.is_plain_aes_xts(), spec.key_count, numbered) {
            let xts = AesXts::new(key).map_err(|_| bad_key())?;
            return Ok(Engine::AesXts(xts, ivs));
        }
        let each = key.len() >> spec.key_count.ilog2();
        let keys = (0..spec.key_count as usize).map(|n| &key[n * each..(n + 1) * each]);
        let modes: Option<Vec<_>> = keys.map(|key| algorithm.with_key(key)).collect();
        let modes = modes.ok_or_else(bad_key)?;
        let generator = match spec.iv {
            Some(IvMode::Random) => {
                let detail =
                    "random ivs are stored beside the data: that takes an integrity device";
                return Err(Fault::invalid(NO_PROFILE, detail));
            }
            Some(IvMode::Eboiv) if algorithm.block_size() != algorithm.iv_size() => {
                let detail = "eboiv takes a cipher whose iv is one block";
                return Err(Fault::invalid("Error creating IV", detail));
            }
            Some(IvMode::Eboiv) => Generator::Eboiv { iv_size: algorithm.iv_size() },
            Some(IvMode::Elephant | IvMode::Lmk | IvMode::Tcw) => {
                return Err(Fault::invalid("Error creating IV", "this iv mode is not supported"));
            }
            _ => Generator::Numbered(numbered.unwrap_or(Numbered::Null)),
        };
        Ok(Engine::Modes(modes, generator))
    }
}

impl fmt::Debug for SectorCipher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SectorCipher")
            .field("spec", &self.spec.to_string())
            .field("sector_size", &self.unit)
            .field("iv_unit", &self.iv_unit)
            .finish_non_exhaustive()
    }
}
