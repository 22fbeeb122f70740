//! Files that hold a disk, but not byte for byte: images of virtual machines, of forensic tools, of phones,
//! and compressed ones. They are named, with the command that makes a raw image of them.
//!
//! What they hold is not looked at: whoever has one is told what to do, and does it once.

use std::fmt;

use serde::Serialize;

use crate::{Error, Source};

/// How a file holds what it holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Format {
    /// Its name, as people know it.
    pub name: &'static str,
    /// The command that makes `disk.raw` of it, to be run by a shell. `FILE` stands for the file. None where
    /// no program is known.
    pub raw: Option<String>,
    /// The command that shows it without a copy, where there is one: as `disk.raw`, for as long as it runs,
    /// or below `mnt`, until that is unmounted.
    pub shown: Option<String>,
}

/// Where the file's name goes in a command.
const FILE: &str = "FILE";

/// How a format is brought to be raw.
enum Way {
    /// By qemu, which calls it so.
    Qemu(&'static str),
    /// By this command.
    By(&'static str),
    /// By this one; the other shows it without a copy.
    Or(&'static str, &'static str),
    /// By none that is known here.
    Unknown,
}

/// The bytes that a format shows itself by: where, from the end where negative, and what.
type Magic = (i64, &'static [u8]);

const EWF: Way = Way::Or("ewfexport -u -f raw -t disk FILE", "mkdir mnt && ewfmount FILE mnt");
const AFF: Way = Way::Or("affcat FILE >disk.raw", "mkdir mnt && affuse FILE mnt");

/// The longer signatures first: a disk whose first bytes are a shorter one by chance is not to be one.
#[rustfmt::skip]
const FORMATS: &[(&str, &[Magic], Way)] = &[
    ("qcow2", &[(0, b"QFI\xfb\0\0\0\x02")], Way::Qemu("qcow2")),
    ("qcow2", &[(0, b"QFI\xfb\0\0\0\x03")], Way::Qemu("qcow2")),
    ("qcow", &[(0, b"QFI\xfb\0\0\0\x01")], Way::Qemu("qcow")),
    ("QED", &[(0, b"QED\0")], Way::Qemu("qed")),
    ("VMDK", &[(0, b"KDMV")], Way::Qemu("vmdk")),
    ("VMDK of ESX", &[(0, b"COWD")], Way::Qemu("vmdk")),
    ("VMDK descriptor", &[(0, b"# Disk DescriptorFile")], Way::Qemu("vmdk")),
    ("VDI", &[(64, b"\x7f\x10\xda\xbe")], Way::Qemu("vdi")),
    ("VHDX", &[(0, b"vhdxfile")], Way::Qemu("vhdx")),
    ("VHD", &[(0, b"conectix")], Way::Qemu("vpc")),
    ("VHD of a fixed size", &[(-512, b"conectix")], Way::By("head -c -512 FILE >disk.raw")),
    ("VHD of a fixed size", &[(-511, b"conectix")], Way::By("head -c -511 FILE >disk.raw")),
    ("Parallels", &[(0, b"WithoutFreeSpace")], Way::Qemu("parallels")),
    ("Parallels", &[(0, b"WithouFreSpacExt")], Way::Qemu("parallels")),
    ("E01", &[(0, b"EVF\x09\x0d\x0a\xff\0")], EWF),
    ("Ex01", &[(0, b"EVF2\x0d\x0a\x81\0")], EWF),
    ("AFF", &[(0, b"AFF10\x0d\x0a\0")], AFF),
    ("AFF4", &[(0, b"PK\x03\x04"), (30, b"container.description")], Way::Unknown),
    ("AFF4", &[(0, b"PK\x03\x04"), (30, b"information.turtle")], Way::Unknown),
    ("Android sparse image", &[(0, b"\x3a\xff\x26\xed\x01\0")], Way::By("simg2img FILE disk.raw")),
    ("DMG", &[(-512, b"koly\0\0\0\x04\0\0\x02\0")], Way::By("dmg2img FILE disk.raw")),
    ("xz", &[(0, b"\xfd7zXZ\0")], Way::By("xz -dc FILE >disk.raw")),
    ("7z", &[(0, b"7z\xbc\xaf\x27\x1c")], Way::By("7z e -so FILE >disk.raw")),
    ("bzip2", &[(0, b"BZh"), (4, b"\x31\x41\x59\x26\x53\x59")], Way::By("bzip2 -dc FILE >disk.raw")),
    ("zstd", &[(0, b"\x28\xb5\x2f\xfd")], Way::By("zstd -dc FILE >disk.raw")),
    ("lz4", &[(0, b"\x04\x22\x4d\x18")], Way::By("lz4 -dc FILE >disk.raw")),
    ("zip", &[(0, b"PK\x03\x04")], Way::By("unzip -p FILE >disk.raw")),
    ("gzip", &[(0, b"\x1f\x8b\x08")], Way::By("gzip -dc FILE >disk.raw")),
];

/// Says in what format a file is, if it is one of those that are not raw.
///
/// # Errors
/// [`Error::Io`] when it cannot be read.
pub fn format(source: &dyn Source) -> Result<Option<Format>, Error> {
    const HEAD: u64 = 128;
    const TAIL: u64 = 512;
    let len = source.len();
    let head = crate::source::read(source, 0, len.min(HEAD) as usize)?;
    let tail = len.saturating_sub(TAIL);
    let tail = crate::source::read(source, tail, (len - tail) as usize)?;
    let has = |(at, bytes): &Magic| {
        let (place, at) = match usize::try_from(*at) {
            Ok(at) => (&head, Some(at)),
            Err(_) => (&tail, tail.len().checked_sub(at.unsigned_abs() as usize)),
        };
        at.and_then(|at| place.get(at..)).is_some_and(|rest| rest.starts_with(bytes))
    };
    let found = FORMATS.iter().find(|(_, magics, _)| magics.iter().all(has));
    Ok(found.map(|(name, _, way)| {
        let (raw, shown) = way.commands();
        Format { name, raw, shown }
    }))
}

impl Way {
    fn commands(&self) -> (Option<String>, Option<String>) {
        match self {
            Way::Qemu(driver) => {
                let raw = format!("qemu-img convert -f {driver} -O raw {FILE} disk.raw");
                let shown = format!(
                    "touch disk.raw && qemu-storage-daemon \
                     --blockdev driver=file,node-name=file,filename={FILE},read-only=on \
                     --blockdev driver={driver},node-name=disk,file=file,read-only=on \
                     --export type=fuse,id=raw,node-name=disk,mountpoint=disk.raw"
                );
                (Some(raw), Some(shown))
            }
            Way::By(raw) => (Some((*raw).to_owned()), None),
            Way::Or(raw, shown) => (Some((*raw).to_owned()), Some((*shown).to_owned())),
            Way::Unknown => (None, None),
        }
    }
}

impl Format {
    /// Puts a file's name, as a shell takes it, into both commands.
    #[must_use]
    pub fn of_file(mut self, name: &str) -> Format {
        let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+:@%".contains(c);
        // A name that begins with `-` would be taken for an option.
        let name = if name.starts_with('-') { format!("./{name}") } else { name.to_owned() };
        let quoted = match !name.is_empty() && name.chars().all(plain) {
            true => name,
            false => format!("'{}'", name.replace('\'', r"'\''")),
        };
        // A comma ends a value of --blockdev; a second one stands for it.
        let doubled = quoted.replace(',', ",,");
        self.raw = self.raw.map(|raw| raw.replace(FILE, &quoted));
        let shown = self.shown.map(|shown| {
            let shown = shown.replace("filename=FILE", &format!("filename={doubled}"));
            shown.replace(FILE, &quoted)
        });
        Format { shown, ..self }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: not a raw image", self.name)?;
        self.raw.iter().try_for_each(|raw| write!(f, "; to have one: {raw}"))
    }
}
