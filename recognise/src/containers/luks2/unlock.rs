//! From a LUKS2 header to the lines that dm-crypt takes.

use crypto::Secret;

use super::metadata::Segment;
use super::slots::Opened;
use super::values::Size;
use super::{Luks2, Text};
use crate::containers::unlocked::{Crypt, Line, LineTarget};
use crate::containers::{Data, Place, Unlock, Unlocked, keys};
use crate::{Error, Source};

/// The flags of a header that are options of dm-crypt.
const OPTIONS: [(&str, &str); 6] = [
    ("allow-discards", "allow_discards"),
    ("same-cpu-crypt", "same_cpu_crypt"),
    ("high_priority", "high_priority"),
    ("submit-from-crypt-cpus", "submit_from_crypt_cpus"),
    ("no-read-workqueue", "no_read_workqueue"),
    ("no-write-workqueue", "no_write_workqueue"),
];

impl Luks2 {
    pub(crate) fn unlock(
        &self,
        image: &dyn Source,
        data: Data,
        passphrase: &Secret,
        how: &Unlock,
    ) -> Result<Unlocked, Error> {
        // What no passphrase could mend is said before any is tried.
        self.requirements()?;
        self.segments_are_ours()?;
        let spans = self.spans(data)?;
        let opened = self.volume_key(image, passphrase, how)?;
        let mut lines = Vec::with_capacity(spans.len());
        let mut start = 0;
        for (number, segment, len) in spans {
            let target = self.target(number, segment, &opened)?;
            lines.push(Line { start, len, target });
            start += len;
        }
        Ok(Unlocked::new(Some(opened.key_slot), lines))
    }

    fn requirements(&self) -> Result<(), Error> {
        let is_reencryption = |word: &str| {
            word == "offline-reencrypt"
                || word == "online-reencrypt"
                || word.starts_with("online-reencrypt-v")
        };
        let words = self.metadata.config.mandatory();
        if let Some(word) = words.iter().find(|word| is_reencryption(word)) {
            return Err(Error::ReencryptionInProgress(word.to_string()));
        }
        words.first().map_or(Ok(()), |word| Err(Error::UnknownRequirement(word.to_string())))
    }

    /// The segments that make up the device; the others are records of a reencryption.
    fn segments(&self) -> impl Iterator<Item = (u32, &Segment)> {
        self.metadata.segments.iter().filter(|(_, segment)| !segment.is_backup())
    }

    /// Refuses what cannot be activated, ciphers that are not known included.
    fn segments_are_ours(&self) -> Result<(), Error> {
        for (number, segment) in self.segments() {
            let place = format!("segment {number}");
            if segment.has_flag(|flag| flag == "in-reencryption") {
                return Err(Error::ReencryptionInProgress(place));
            }
            match &*segment.kind {
                "crypt" => {}
                "linear" => continue,
                "hw-opal" | "hw-opal-crypt" => {
                    let what = format!("{place}: encryption by the drive itself (OPAL)");
                    return Err(Error::Unsupported(what));
                }
                other => return Err(Error::Unsupported(format!("{place} of type `{other}`"))),
            }
            if let Some(integrity) = &segment.integrity {
                let integrity = integrity.kind.to_string();
                return Err(Error::IntegritySegment { segment: number, integrity });
            }
            self.check_cipher(number, segment, &place)?;
        }
        if !self.segments().any(|(_, segment)| segment.kind.as_bytes() == b"crypt") {
            return Err(Error::Unsupported("a container without an encrypted segment".into()));
        }
        Ok(())
    }

    /// Checks the cipher with the key size of the first key slot that is for this segment.
    fn check_cipher(&self, number: u32, segment: &Segment, place: &str) -> Result<(), Error> {
        let (cipher, sector_size) = cipher_of(segment);
        let digests = self.metadata.digests.iter().map(|(_, digest)| digest);
        let mut slots = digests.filter(|digest| digest.segments.0.contains(&number));
        let slots = slots.find_map(|digest| digest.keyslots.0.first());
        let slot = slots.and_then(|slot| self.metadata.keyslots.get(*slot));
        match slot {
            Some(slot) if !keys::is_null(cipher) => {
                // Longer ones are refused with the key slot's own words.
                let key_bytes = slot.key_size.min(4096);
                keys::check_cipher(place, cipher, key_bytes, sector_size)
            }
            _ => Ok(()),
        }
    }

    /// Returns how long each segment is on the data device, in sectors.
    fn spans(&self, data: Data) -> Result<Vec<(u32, &Segment, u64)>, Error> {
        let mut spans = Vec::new();
        for (number, segment) in self.segments() {
            let offset = segment.offset.0;
            if offset == 0 && data.place == Place::WithHeader {
                return Err(Error::DetachedHeader);
            }
            let unit = u64::from(cipher_of(segment).1);
            let room = data.len.saturating_sub(offset);
            let bytes = match segment.size {
                // What is left over at the end is less than can be encrypted as one.
                Size::Dynamic => room / unit * unit,
                Size::Fixed(bytes) => bytes,
            };
            if bytes == 0 || bytes > room {
                let needed = offset.saturating_add(bytes.max(unit));
                return Err(Error::TooSmall { what: "the data device", len: data.len, needed });
            }
            spans.push((number, segment, bytes / 512));
        }
        Ok(spans)
    }

    fn target(
        &self,
        number: u32,
        segment: &Segment,
        opened: &Opened<'_>,
    ) -> Result<LineTarget, Error> {
        let offset = segment.offset.0 / 512;
        if segment.kind.as_bytes() != b"crypt" {
            return Ok(LineTarget::Linear(offset));
        }
        if !opened.digest.segments.0.contains(&number) {
            let key_slot = opened.key_slot;
            let what = format!("segment {number}, which key slot {key_slot} does not open,");
            return Err(Error::Unsupported(what));
        }
        let (cipher, sector_size) = cipher_of(segment);
        let null = keys::is_null(cipher);
        if !null {
            keys::cipher(&format!("segment {number}"), cipher, opened.key.expose(), sector_size)?;
        }
        Ok(LineTarget::Crypt(Crypt {
            cipher: cipher.to_owned(),
            key: if null { Secret::new(Vec::new()) } else { opened.key.clone() },
            iv_offset: segment.iv_tweak.map_or(0, |tweak| tweak.0),
            offset,
            sector_size,
            options: self.options(),
        }))
    }

    fn options(&self) -> Vec<&'static str> {
        let flags: &[Text] = self.metadata.config.flags.as_ref().map_or(&[], |flags| &flags.0);
        let set = |flag: &str| flags.iter().any(|word| **word == *flag);
        OPTIONS.iter().filter(|(flag, _)| set(flag)).map(|(_, option)| *option).collect()
    }
}

fn cipher_of(segment: &Segment) -> (&str, u32) {
    let cipher = segment.encryption.as_ref().map_or("", |cipher| &**cipher);
    (cipher, segment.sector_size.unwrap_or(512))
}
