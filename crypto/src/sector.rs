use std::fmt;

use xts::AesXts;

use crate::fault::{Fault, NO_PROFILE};
use crate::iv::{Elephant, Generator, Lmk, Numbered, Tcw};
use crate::keys::Keys;
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
    /// `Unknown error` where elephant's is too long; `Error creating IV` where iv mode, cipher and
    /// sector size do not go together; `Error initialising IV` for elephant's second key;
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
        let engine = Engine::new(spec, key, sector_size)?;
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
    fn new(spec: &Spec, key: &[u8], sector_size: u32) -> Result<Engine, Fault> {
        let keys = Keys::split(spec, key)?;
        let ivs = numbered(spec);
        if let (true, 1, Some(ivs)) = (spec.algorithm.is_plain_aes_xts(), spec.key_count, ivs) {
            let xts = AesXts::new(key).map_err(|_| keys.bad_length())?;
            return Ok(Engine::AesXts(xts, ivs));
        }
        let modes = keys.modes()?;
        Ok(Engine::Modes(modes, generator(spec, &keys, sector_size)?))
    }
}

fn numbered(spec: &Spec) -> Option<Numbered> {
    match spec.iv {
        Some(mode) => Numbered::new(mode, spec.iv_size(), spec.algorithm.block_size()),
        // The kernel would leave whatever lay in memory: what it wrote it could not read.
        None => Some(Numbered::Null),
    }
}

/// Makes the generator, of keys that the ciphers have taken.
fn generator(spec: &Spec, keys: &Keys<'_>, sector_size: u32) -> Result<Generator, Fault> {
    let (algorithm, iv_size) = (spec.algorithm, spec.iv_size());
    let small_iv = iv_size <= 16;
    let refuse = |detail: &str| Err(Fault::invalid("Error creating IV", detail));
    Ok(match spec.iv {
        Some(IvMode::Eboiv | IvMode::Elephant) if algorithm.block_size() != iv_size => {
            return refuse("eboiv and elephant take a cipher whose iv is one block");
        }
        Some(IvMode::Eboiv) => Generator::Eboiv { iv_size },
        Some(IvMode::Elephant) => match Elephant::new(keys.extra) {
            Some(elephant) => Generator::Elephant(elephant, iv_size),
            None => {
                let detail = format!(
                    "elephant takes 16, 24 or 32 bytes behind the cipher's key, found {}",
                    keys.extra.len()
                );
                return Err(Fault::invalid("Error initialising IV", detail));
            }
        },
        Some(IvMode::Lmk | IvMode::Tcw) if sector_size != 512 => {
            return refuse("lmk and tcw take sectors of 512 bytes only");
        }
        // The kernel would go on, with bytes that lie behind its buffers.
        Some(IvMode::Lmk | IvMode::Tcw) if !small_iv => {
            return refuse("lmk and tcw take ivs of 16 bytes at most");
        }
        Some(IvMode::Lmk) => {
            Generator::Lmk(Lmk::new((!keys.extra.is_empty()).then_some(keys.extra), iv_size))
        }
        Some(IvMode::Tcw) if !keys.has_more_than_extra() => {
            return refuse("tcw takes a key for the cipher before its own");
        }
        Some(IvMode::Tcw) => Generator::Tcw(Tcw::new(keys.extra, iv_size)),
        Some(IvMode::Random) => {
            let detail = "random ivs are stored beside the data: that takes an integrity device";
            return Err(Fault::invalid(NO_PROFILE, detail));
        }
        Some(
            IvMode::Plain | IvMode::Plain64 | IvMode::Plain64Be | IvMode::Benbi | IvMode::Null,
        )
        | None => Generator::Numbered(numbered(spec).expect("these need the number alone")),
    })
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
