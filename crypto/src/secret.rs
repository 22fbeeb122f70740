use std::fmt;

use subtle::ConstantTimeEq;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::Fault;
use crate::fault::BAD_KEY;

/// Bytes that nobody may see: wiped when dropped, shown by no `Debug`, compared in constant time.
#[derive(Clone, Default, Zeroize, ZeroizeOnDrop)]
pub struct Secret(Vec<u8>);

impl Secret {
    /// Takes the bytes over, without a copy.
    pub fn new(bytes: Vec<u8>) -> Secret {
        Secret(bytes)
    }

    /// Makes a secret of `len` zeros, to be filled in place.
    pub fn zeroed(len: usize) -> Secret {
        Secret(vec![0; len])
    }

    /// Reads hex digits as the kernel reads a key in a table line: either case, two digits a
    /// byte, and an odd digit at the end is dropped. The word `-` is an empty key.
    ///
    /// # Errors
    /// Anything but hex digits, and an empty word, is `Error decoding and setting key`.
    pub fn from_hex(hex: &str) -> Result<Secret, Fault> {
        if hex == "-" {
            return Ok(Secret::default());
        }
        let len = hex.len() / 2;
        if len == 0 {
            return Err(Fault::invalid(BAD_KEY, "the key is empty; `-` stands for no key"));
        }
        // Made whole at once: a vector that grows leaves copies behind.
        let mut key = Secret::zeroed(len);
        for (at, pair) in hex.as_bytes().chunks_exact(2).enumerate() {
            match (digit(pair[0]), digit(pair[1])) {
                (Some(high), Some(low)) => key.0[at] = high << 4 | low,
                _ => {
                    let detail =
                        format!("the key's digits {0} and {1}: not hex", 2 * at, 2 * at + 1);
                    return Err(Fault::invalid(BAD_KEY, detail));
                }
            }
        }
        Ok(key)
    }

    /// Writes the bytes as lower case hex, as `dmsetup table --showkeys` does; `-` where there
    /// are none. The text is wiped when dropped.
    pub fn to_hex(&self) -> Zeroizing<String> {
        if self.0.is_empty() {
            return Zeroizing::new("-".to_owned());
        }
        let mut hex = Zeroizing::new(String::with_capacity(2 * self.0.len()));
        for byte in &self.0 {
            for digit in [byte >> 4, byte & 15] {
                hex.push(char::from(b"0123456789abcdef"[usize::from(digit)]));
            }
        }
        hex
    }

    /// Returns the number of bytes.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Says whether there are no bytes, as with the key `-`.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Shows the bytes to whoever computes with them.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }

    /// Gives the bytes to be filled in place; their number stays.
    pub fn expose_mut(&mut self) -> &mut [u8] {
        &mut self.0
    }
}

fn digit(ascii: u8) -> Option<u8> {
    char::from(ascii).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secret({} bytes)", self.0.len())
    }
}

impl PartialEq for Secret {
    fn eq(&self, other: &Secret) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl Eq for Secret {}

impl From<&[u8]> for Secret {
    fn from(bytes: &[u8]) -> Secret {
        Secret(bytes.to_vec())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hex_is_read_as_the_kernel_reads_it() {
        let read = |hex| Secret::from_hex(hex).map(|key| key.expose().to_vec());
        assert_eq!(read("00ff"), Ok(vec![0, 255]));
        assert_eq!(read("aBCd"), Ok(vec![0xab, 0xcd]));
        assert_eq!(read("aBCd7"), Ok(vec![0xab, 0xcd]), "an odd digit is dropped");
        assert_eq!(read("aBCdx"), Ok(vec![0xab, 0xcd]), "whatever it is");
        assert_eq!(read("-"), Ok(vec![]));
        for bad in ["", "0", "0g", "g0", "0x11", "é0"] {
            assert_eq!(read(bad).map_err(|fault| fault.kernel), Err(BAD_KEY), "{bad}");
        }
    }

    #[test]
    fn hex_goes_both_ways() {
        let all: Vec<u8> = (0..=255).collect();
        let hex = Secret::new(all.clone()).to_hex();
        assert_eq!(Secret::from_hex(&hex), Ok(Secret::new(all)));
        assert_eq!(Secret::default().to_hex().as_str(), "-");
    }

    #[test]
    fn debug_shows_a_length_only() {
        assert_eq!(format!("{:?}", Secret::new(vec![7; 32])), "Secret(32 bytes)");
    }

    #[test]
    fn secrets_are_equal_by_their_bytes() {
        assert_eq!(Secret::new(vec![1, 2]), Secret::new(vec![1, 2]));
        assert_ne!(Secret::new(vec![1, 2]), Secret::new(vec![1, 3]));
        assert_ne!(Secret::new(vec![1, 2]), Secret::new(vec![1, 2, 0]));
    }
}
