//! Modes of operation over whole units, each unit with its own iv.

mod adiantum;
mod cbc;
mod ctr;
mod ecb;
mod essiv;
mod lrw;
mod pcbc;
mod xts;

pub(crate) use adiantum::{Adiantum, Stream};
pub(crate) use cbc::Cbc;
pub(crate) use ctr::Ctr;
pub(crate) use ecb::Ecb;
pub(crate) use essiv::Essiv;
pub(crate) use lrw::Lrw;
pub(crate) use pcbc::Pcbc;
pub(crate) use xts::Xts;

/// An iv; a mode looks at the first bytes only, as many as its iv has.
pub(crate) type Iv = [u8; 32];

/// Units that are handed to a mode in one call, at most. Eight units keep a pipelined cipher
/// busy where each unit is a chain of its own, and their ivs fit the stack.
pub(crate) const MAX_UNITS: usize = 8;

/// Bytes that are worked on at once where a mode needs room of its own.
pub(crate) const BATCH: usize = 1024;

/// A mode of operation with its keys. `data` is `ivs.len()` units of equal size, at most
/// [`MAX_UNITS`], each of whole cipher blocks.
pub(crate) trait Mode: Send + Sync {
    fn encrypt(&self, ivs: &[Iv], data: &mut [u8]);
    fn decrypt(&self, ivs: &[Iv], data: &mut [u8]);
}

/// The bytes of one unit.
fn unit_size(ivs: &[Iv], data: &[u8]) -> usize {
    debug_assert!(
        !ivs.is_empty() && ivs.len() <= MAX_UNITS && data.len().is_multiple_of(ivs.len())
    );
    data.len() / ivs.len()
}

fn xor(into: &mut [u8], with: &[u8]) {
    debug_assert_eq!(into.len(), with.len());
    into.iter_mut().zip(with).for_each(|(into, with)| *into ^= with);
}

/// Which way a cipher runs.
#[derive(Clone, Copy)]
enum Way {
    Encrypt,
    Decrypt,
}
