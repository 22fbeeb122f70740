//! Prints a LUKS2 header as `cryptsetup luksDump` does.

use std::fmt;

use super::metadata::{Digest, KeySlot, Segment};
use super::values::Size;
use super::{Binary, Kdf, Luks2, Text};
use crate::bytes::hex_lines;

/// Where the further lines of bytes begin.
const INDENT: &str = "\t            ";

impl fmt::Display for Luks2 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let or = |text: &str, none: &str| if text.is_empty() { none } else { text }.to_owned();
        let config = &self.metadata.config;
        writeln!(f, "LUKS header information")?;
        writeln!(f, "Version:       \t2")?;
        writeln!(f, "Epoch:         \t{}", self.seqid)?;
        writeln!(f, "Metadata area: \t{} [bytes]", self.header_bytes)?;
        writeln!(f, "Keyslots area: \t{} [bytes]", config.keyslots_size.0)?;
        writeln!(f, "UUID:          \t{}", or(&self.uuid, "(no UUID)"))?;
        writeln!(f, "Label:         \t{}", or(&self.label, "(no label)"))?;
        writeln!(f, "Subsystem:     \t{}", or(&self.subsystem, "(no subsystem)"))?;
        let flags = words(config.flags.as_ref().map_or(&[], |flags| &flags.0));
        writeln!(f, "Flags:       \t{}", or(&flags, "(no flags)"))?;
        if !config.mandatory().is_empty() {
            writeln!(f, "Requirements:\t{}", words(config.mandatory()))?;
        }
        writeln!(f, "\nData segments:")?;
        for (number, segment) in self.metadata.segments.iter() {
            write!(f, "  {number}: {segment}")?;
        }
        self.key_slots(f)?;
        writeln!(f, "Tokens:")?;
        for (number, token) in self.metadata.tokens.iter() {
            writeln!(f, "  {number}: {}", token.kind)?;
            if let (b"luks2-keyring", Some(text)) = (token.kind.as_bytes(), &token.key_description)
            {
                writeln!(f, "\tKey description: {text}")?;
            }
            for slot in &token.keyslots.0 {
                writeln!(f, "\tKeyslot:    {slot}")?;
            }
        }
        writeln!(f, "Digests:")?;
        for (number, digest) in self.metadata.digests.iter() {
            write!(f, "  {number}: {digest}")?;
        }
        Ok(())
    }
}

impl Luks2 {
    fn key_slots(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "Keyslots:")?;
        for (number, slot) in self.metadata.keyslots.iter() {
            let digests = || {
                self.metadata
                    .digests
                    .iter()
                    .filter(|(_, digest)| digest.keyslots.0.contains(&number))
            };
            let bound = digests().any(|(_, digest)| self.opens_data(digest));
            let unbound = if bound { "" } else { " (unbound)" };
            write!(f, "  {number}: {}{unbound}\n{slot}", slot.kind)?;
            for (digest, _) in digests() {
                writeln!(f, "\tDigest ID:  {digest}")?;
            }
        }
        Ok(())
    }
}

impl fmt::Display for Segment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.kind)?;
        writeln!(f, "\toffset: {} [bytes]", self.offset.0)?;
        match self.size {
            Size::Dynamic => writeln!(f, "\tlength: (whole device)")?,
            Size::Fixed(bytes) => writeln!(f, "\tlength: {bytes} [bytes]")?,
        }
        let cipher = self.encryption.as_ref().map_or("(no SW encryption)", |cipher| &**cipher);
        writeln!(f, "\tcipher: {cipher}")?;
        if let Some(bytes) = self.sector_size {
            writeln!(f, "\tsector: {bytes} [bytes]")?;
        }
        if let Some(integrity) = &self.integrity {
            writeln!(f, "\tintegrity: {}", integrity.kind)?;
        }
        if let Some(flags) = self.flags.as_ref().filter(|flags| !flags.0.is_empty()) {
            let flags: Vec<&str> = flags.0.iter().map(|flag| &**flag).collect();
            writeln!(f, "\tflags : {}", flags.join(", "))?;
        }
        writeln!(f)
    }
}

impl fmt::Display for KeySlot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "\tKey:        {} bits", u64::from(self.key_size) * 8)?;
        let priority = match self.priority.unwrap_or(1) {
            0 => "ignored",
            1 => "normal",
            2 => "preferred",
            _ => "invalid",
        };
        writeln!(f, "\tPriority:   {priority}")?;
        let words = [
            ("Mode:       ", &self.mode),
            ("Direction:  ", &self.direction),
            ("Resilience: ", &self.mode.as_ref().map(|_| self.area.kind.clone())),
            ("Hash:       ", &self.area.hash),
            ("Cipher:     ", &self.area.encryption),
        ];
        for (name, word) in words {
            if let Some(word) = word {
                writeln!(f, "\t{name}{word}")?;
            }
        }
        if let Some(bytes) = self.area.sector_size {
            writeln!(f, "\tHash data:  {bytes} [bytes]")?;
        }
        if let Some(bytes) = self.area.shift_size {
            writeln!(f, "\tShift size: {} [bytes]", bytes.0)?;
        }
        if let Some(bytes) = self.area.key_size {
            writeln!(f, "\tCipher key: {} bits", u64::from(bytes) * 8)?;
        }
        if let Some(kdf) = &self.kdf {
            write!(f, "{kdf}")?;
        }
        if let Some(af) = &self.af {
            writeln!(f, "\tAF stripes: {}", af.stripes)?;
            writeln!(f, "\tAF hash:    {}", af.hash)?;
        }
        writeln!(f, "\tArea offset:{} [bytes]", self.area.offset.0)?;
        writeln!(f, "\tArea length:{} [bytes]", self.area.size.0)
    }
}

impl fmt::Display for Kdf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "\tPBKDF:      {}", self.kind)?;
        if let Some(hash) = &self.hash {
            writeln!(f, "\tHash:       {hash}")?;
        }
        let numbers = [
            ("Iterations: ", self.iterations),
            ("Time cost:  ", self.time),
            ("Memory:     ", self.memory),
            ("Threads:    ", self.cpus),
        ];
        for (name, number) in numbers {
            if let Some(number) = number {
                writeln!(f, "\t{name}{number}")?;
            }
        }
        writeln!(f, "\tSalt:       {}", hex_lines(&self.salt.0, INDENT))
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.kind)?;
        if let Some(hash) = &self.hash {
            writeln!(f, "\tHash:       {hash}")?;
        }
        if let Some(iterations) = self.iterations {
            writeln!(f, "\tIterations: {iterations}")?;
        }
        for (name, bytes) in [("Salt:       ", &self.salt), ("Digest:     ", &self.digest)] {
            if let Some(Binary(bytes)) = bytes {
                writeln!(f, "\t{name}{}", hex_lines(bytes, INDENT))?;
            }
        }
        Ok(())
    }
}

/// Prints words with a blank after each.
fn words(words: &[Text]) -> String {
    words.iter().map(|word| format!("{word} ")).collect()
}
