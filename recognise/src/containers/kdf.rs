//! Keys from passphrases, at a cost that is bounded.

use argon2::{Algorithm, Argon2, Block, Params, Version};
use crypto::hash::Hash;
use zeroize::Zeroizing;

use crate::Error;
use crate::containers::Limits;

/// How a key is derived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Kdf {
    /// RFC 8018.
    Pbkdf2 {
        /// By the name that the header uses.
        hash: String,
        iterations: u64,
    },
    /// RFC 9106, version 0x13.
    Argon2 { kind: Argon2Kind, passes: u64, memory_kib: u64, lanes: u64 },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Argon2Kind {
    I,
    Id,
}

impl Kdf {
    /// Derives `len` bytes. `place` names the key slot or digest in errors.
    pub(crate) fn derive(
        &self,
        passphrase: &[u8],
        salt: &[u8],
        len: usize,
        limits: &Limits,
        place: &str,
    ) -> Result<Zeroizing<Vec<u8>>, Error> {
        let mut key = Zeroizing::new(vec![0; len]);
        match self {
            Kdf::Pbkdf2 { hash, iterations } => {
                let hash = hash_by_name(hash, place)?;
                within(place, "PBKDF2 iterations", *iterations, limits.pbkdf2_iterations)?;
                let count = u32::try_from(*iterations).ok().filter(|count| *count > 0);
                let count = count.ok_or_else(|| {
                    Error::damaged(format!("{place}: {iterations} iterations of PBKDF2"))
                })?;
                hash.pbkdf2(passphrase, salt, count, &mut key);
            }
            Kdf::Argon2 { kind, passes, memory_kib, lanes } => {
                within(place, "Argon2 memory in KiB", *memory_kib, limits.argon2_memory_kib)?;
                within(place, "Argon2 lanes", *lanes, limits.argon2_lanes)?;
                let work = memory_kib.saturating_mul(*passes);
                within(place, "Argon2 memory times passes in KiB", work, limits.argon2_work_kib)?;
                let params = params(*passes, *memory_kib, *lanes, len);
                let params = params.map_err(|why| Error::damaged(format!("{place}: {why}")))?;
                let variant = match kind {
                    Argon2Kind::I => Algorithm::Argon2i,
                    Argon2Kind::Id => Algorithm::Argon2id,
                };
                let mut memory = memory(params.block_count(), place)?;
                let argon2 = Argon2::new(variant, Version::V0x13, params);
                argon2
                    .hash_password_into_with_memory(passphrase, salt, &mut key, &mut *memory)
                    .map_err(|why| Error::damaged(format!("{place}: argon2: {why}")))?;
            }
        }
        Ok(key)
    }
}

/// Finds a hash by the name that headers use.
pub(crate) fn hash_by_name(name: &str, place: &str) -> Result<Hash, Error> {
    let known = Hash::by_name(&name.to_ascii_lowercase());
    known.ok_or_else(|| Error::UnknownHash { place: place.into(), hash: name.into() })
}

fn within(place: &str, what: &'static str, figure: u64, limit: u64) -> Result<(), Error> {
    if figure > limit {
        return Err(Error::TooCostly { place: place.into(), what, figure, limit });
    }
    Ok(())
}

fn params(passes: u64, memory_kib: u64, lanes: u64, len: usize) -> Result<Params, String> {
    let number = |what: &str, value: u64| {
        u32::try_from(value).map_err(|_| format!("argon2: {what} of {value}"))
    };
    let (passes, lanes) = (number("passes", passes)?, number("lanes", lanes)?);
    let params = Params::new(number("memory", memory_kib)?, passes, lanes, Some(len));
    params.map_err(|why| format!("argon2: {why}"))
}

/// Takes the memory for Argon2, or says that there is none. It is wiped afterwards: what is in it
/// gives the key away.
fn memory(blocks: usize, place: &str) -> Result<Zeroizing<Vec<Block>>, Error> {
    let mut memory = Zeroizing::new(Vec::new());
    let taken = memory.try_reserve_exact(blocks);
    taken.map_err(|_| Error::NoMemory { place: place.into(), kib: blocks as u64 })?;
    memory.resize(blocks, Block::default());
    Ok(memory)
}
