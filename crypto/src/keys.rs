//! A table line's key taken apart: the ciphers' keys, side by side, and what the iv mode keeps
//! behind them.

use crate::fault::{BAD_KEY, Fault};
use crate::iv::WHITENING;
use crate::mode::Mode;
use crate::spec::{IvMode, Spec};

/// BitLocker's tweak key has no more bytes.
const MAX_ELEPHANT: usize = 32;

pub(crate) struct Keys<'a> {
    spec: &'a Spec,
    whole: &'a [u8],
    ciphers: &'a [u8],
    /// What the iv mode keeps.
    pub(crate) extra: &'a [u8],
}

impl Spec {
    /// Returns how many bytes of a key, given its size, are for the initialization vectors.
    pub fn iv_key_size(&self, size: usize) -> usize {
        let count = self.key_count as usize;
        match self.iv {
            Some(IvMode::Elephant) => size / 2,
            // loop-AES, version 3: one key more, of the same length.
            Some(IvMode::Lmk) if !size.is_multiple_of(count) => size / (count + 1),
            Some(IvMode::Tcw) => self.iv_size() + WHITENING,
            _ => 0,
        }
    }

    /// Returns how many parts a key of a size has, as the kernel counts them: one for each cipher, and
    /// those for the initialization vectors.
    pub fn key_parts(&self, size: usize) -> u32 {
        match self.iv {
            Some(IvMode::Tcw) => self.key_count + 2,
            Some(IvMode::Elephant) => 2,
            _ => self.key_count + u32::from(self.iv_key_size(size) > 0),
        }
    }
}

impl<'a> Keys<'a> {
    /// Cuts `key` as `spec` has it.
    pub(crate) fn split(spec: &'a Spec, key: &'a [u8]) -> Result<Keys<'a>, Fault> {
        let count = spec.key_count as usize;
        let extra = spec.iv_key_size(key.len());
        if spec.iv == Some(IvMode::Elephant) && extra > MAX_ELEPHANT {
            // The kernel gives no text of its own.
            let detail = format!(
                "elephant takes two keys of {MAX_ELEPHANT} bytes at most, found {} bytes",
                key.len()
            );
            return Err(Fault::invalid("Unknown error", detail));
        }
        let Some(rest) = key.len().checked_sub(extra) else {
            let detail = format!(
                "{spec} takes {extra} bytes besides the cipher's key, found {} in all",
                key.len()
            );
            return Err(Fault::invalid(BAD_KEY, detail));
        };
        // Bytes that do not make one more for each cipher are left lying, as in the kernel.
        let used = rest / count * count;
        let extra = &key[if spec.iv == Some(IvMode::Lmk) { used } else { rest }..];
        Ok(Keys { spec, whole: key, ciphers: &key[..used], extra })
    }

    /// Returns the key of each cipher.
    pub(crate) fn each(&self) -> impl Iterator<Item = &'a [u8]> {
        let (ciphers, count) = (self.ciphers, self.spec.key_count as usize);
        let len = ciphers.len() / count;
        (0..count).map(move |n| &ciphers[n * len..(n + 1) * len])
    }

    /// Says whether there is more than the iv mode keeps.
    pub(crate) fn has_more_than_extra(&self) -> bool {
        self.whole.len() > self.extra.len()
    }

    /// Sets up every cipher.
    pub(crate) fn modes(&self) -> Result<Vec<Box<dyn Mode>>, Fault> {
        let modes: Option<_> = self.each().map(|key| self.spec.algorithm.with_key(key)).collect();
        modes.ok_or_else(|| self.bad_length())
    }

    /// Makes the fault of a key whose length is not one of the cipher's.
    pub(crate) fn bad_length(&self) -> Fault {
        let besides = match (self.spec.key_count, self.whole.len() - self.ciphers.len()) {
            (1, 0) => String::new(),
            (count, 0) => format!(" for {count} ciphers"),
            (1, extra) => format!(", {extra} of them for the iv"),
            (count, extra) => format!(" for {count} ciphers, {extra} of them for the iv"),
        };
        let takes = self.spec.algorithm.keys_in_words();
        Fault::invalid(BAD_KEY, format!("{takes}; found {} bytes{besides}", self.whole.len()))
    }
}
