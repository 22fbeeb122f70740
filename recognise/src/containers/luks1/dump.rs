//! Prints a LUKS1 header as `cryptsetup luksDump` does.

use std::fmt;

use super::Luks1;
use crate::bytes::hex_lines;

impl fmt::Display for Luks1 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "LUKS header information\n")?;
        writeln!(f, "Version:       \t1")?;
        writeln!(f, "Cipher name:   \t{}", self.cipher_name)?;
        writeln!(f, "Cipher mode:   \t{}", self.cipher_mode)?;
        writeln!(f, "Hash spec:     \t{}", self.hash)?;
        writeln!(f, "Payload offset:\t{}", self.payload_offset)?;
        writeln!(f, "MK bits:       \t{}", u64::from(self.key_bytes) * 8)?;
        // One line, though it is longer than sixteen bytes.
        let (first, last) = self.digest.split_at(16);
        writeln!(f, "MK digest:     \t{}{}", hex_lines(first, ""), hex_lines(last, ""))?;
        let salt = hex_lines(&self.digest_salt, "               \t");
        writeln!(f, "MK salt:       \t{salt}")?;
        writeln!(f, "MK iterations: \t{}", self.digest_iterations)?;
        writeln!(f, "UUID:          \t{}\n", self.uuid)?;
        for (number, slot) in self.key_slots.iter().enumerate() {
            if !slot.active {
                writeln!(f, "Key Slot {number}: DISABLED")?;
                continue;
            }
            writeln!(f, "Key Slot {number}: ENABLED")?;
            writeln!(f, "\tIterations:         \t{}", slot.iterations)?;
            let salt = hex_lines(&slot.salt, "\t                      \t");
            writeln!(f, "\tSalt:               \t{salt}")?;
            writeln!(f, "\tKey material offset:\t{}", slot.offset)?;
            writeln!(f, "\tAF stripes:            \t{}", slot.stripes)?;
        }
        Ok(())
    }
}
