//! What is attached, how it is asked for, and why it can be refused.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sim_core::{Access, DevNumber, Errno, Sectors};

use crate::image::path::Lost;

/// What to attach, and as what.
#[derive(Serialize, Deserialize, Clone, Debug)]
pub struct Attach {
    /// The image file, or a block device node.
    pub path: PathBuf,
    /// The name that table lines use for it (`--as`). A name that Linux has a number for
    /// (`/dev/sda`, `/dev/loop3`) brings that number along.
    pub name: Option<String>,
    /// The number it must have; `None`: that of the name, or the lowest free `7:N`.
    pub number: Option<DevNumber>,
    /// Whether the image may be written to.
    pub access: Access,
    /// The logical block size in bytes: 512 or 4096.
    pub sector_size: u32,
    /// Makes the file first, this many bytes long and sparse; it must not exist.
    pub create: Option<u64>,
    /// Takes room for the whole image on its file system now, so that no write can run out of it.
    pub preallocate: bool,
    /// Takes a block device of this machine, which nobody else may use meanwhile. Without it, one
    /// is refused: a name of a manual's example must not lead to the machine's own disks.
    #[serde(default)]
    pub host_device: bool,
}

impl Attach {
    /// An image that is not to be written.
    pub fn read_only(path: &Path) -> Attach {
        Attach { access: Access::ReadOnly, ..Attach::as_it_is(path) }
    }

    /// An image under its own path, with sectors of 512 bytes.
    pub fn as_it_is(path: &Path) -> Attach {
        Attach {
            path: path.to_owned(),
            name: None,
            number: None,
            access: Access::ReadWrite,
            sector_size: 512,
            create: None,
            preallocate: false,
            host_device: false,
        }
    }
}

/// An image that is attached.
#[derive(Serialize, Deserialize, Clone, Debug)]
pub struct Attached {
    /// Its `major:minor`.
    pub number: DevNumber,
    /// The name it was given.
    pub name: Option<String>,
    /// What kernel messages call it (`loop0`, `sda`).
    pub kernel_name: String,
    /// The file, with all symbolic links followed.
    pub path: PathBuf,
    /// The size in sectors of 512 bytes: a multiple of the logical block size.
    pub size: Sectors,
    /// Whether it may be written to.
    pub access: Access,
    /// The logical block size in bytes.
    pub sector_size: u32,
    /// A block device of this machine.
    #[serde(default)]
    pub host_device: bool,
    /// Attached because a table named its path; detached with its last user.
    pub on_the_spot: bool,
    /// How often it is open.
    pub users: u32,
    /// Why it fails all I/O from now on, if it does.
    pub fault: Option<String>,
    /// What the system refused last: a full disk, a bad block.
    #[serde(default)]
    pub last_error: Option<String>,
    /// How many bytes of the file take room on its disk; nothing for a block device.
    #[serde(default)]
    pub allocated: Option<u64>,
    /// Why its path leads to the file no more, if so.
    #[serde(default)]
    pub lost: Option<Lost>,
}

/// Why an image could not be flushed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}: {}", path.display(), self.why())]
pub struct NotFlushed {
    /// The image.
    pub path: PathBuf,
    /// The error.
    pub errno: Errno,
    /// Why it fails all I/O, if it does.
    pub fault: Option<String>,
}

impl NotFlushed {
    /// Says why, without the path.
    pub fn why(&self) -> String {
        self.fault.clone().unwrap_or_else(|| lower_first(self.errno.text()))
    }
}

/// Why an image is not attached, or not detached.
#[derive(Debug, thiserror::Error)]
pub enum AttachError {
    /// The system refused something.
    #[error("{}: {what}: {}", path.display(), lower_first(errno.text()))]
    System {
        /// What it was asked to do.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// The error.
        errno: Errno,
    },
    /// Its path is no text: it could be neither kept on record nor listed.
    #[error("{}: expected a path in UTF-8; a link with such a name does not help", path.display())]
    NotText {
        /// The file.
        path: PathBuf,
    },
    /// Neither a regular file nor a block device node.
    #[error("{}: expected a regular file or a block device, found {found}", path.display())]
    NotADisk {
        /// The file.
        path: PathBuf,
        /// What it is.
        found: &'static str,
    },
    /// A block device of this machine that nobody asked for as such.
    #[error("{}: is {}", path.display(), host_device(path))]
    HostDevice {
        /// The node.
        path: PathBuf,
    },
    /// Somebody has the block device: it is mounted, or another has it exclusively.
    #[error("{}: in use: mounted, or open by another exclusively", path.display())]
    HostDeviceBusy {
        /// The node.
        path: PathBuf,
    },
    /// The file shows a mapped device of this instance.
    #[error("{}: shows the mapped device `{name}`, which tables name by its name", path.display())]
    Mapped {
        /// The file.
        path: PathBuf,
        /// The device.
        name: String,
    },
    /// Whoever had it open would wait for an instance, and that in the end for the other.
    #[error("{}: {why}", path.display())]
    OnDmsim {
        /// The file.
        path: PathBuf,
        /// On what of it.
        why: String,
    },
    /// There is not one logical block in it.
    #[error("{}: expected at least one sector of {sector_size} bytes, found {size} bytes", path.display())]
    TooSmall {
        /// The file.
        path: PathBuf,
        /// Its size in bytes.
        size: u64,
        /// The logical block size in bytes.
        sector_size: u32,
    },
    /// Another process, or another open file of this one, has the lock.
    #[error("{}: in use by another instance or program (it holds the lock on the file)", path.display())]
    Locked {
        /// The file.
        path: PathBuf,
    },
    /// The same file is attached already, and one of the two would write to it.
    #[error("{}: attached already as {name} ({number}); an image has one writer", path.display())]
    AttachedAlready {
        /// The file.
        path: PathBuf,
        /// The name of the device that has it.
        name: String,
        /// The device that has it.
        number: DevNumber,
    },
    /// Another device has the name.
    #[error("name `{name}`: used by {number} already")]
    NameTaken {
        /// The name.
        name: String,
        /// The device that has it.
        number: DevNumber,
    },
    /// A name that a table line could not use.
    #[error(
        "name `{name}`: expected one word of 255 bytes at most, without `.` and `..`, that no mapped device and no number can have"
    )]
    BadName {
        /// The name.
        name: String,
    },
    /// Another device has the number.
    #[error("number {number}: used by another device already")]
    NumberTaken {
        /// The number.
        number: DevNumber,
    },
    /// A number that no image can have.
    #[error(
        "number {number}: expected a number that is not a mapped device's, minor below 1048576"
    )]
    BadNumber {
        /// The number.
        number: DevNumber,
    },
    /// Every loop number is used.
    #[error("no number is free: 1048576 devices are attached")]
    NoNumber,
    /// It was resized as often as it can be.
    #[error("{}: resized {times} times: detach it and attach it again", path.display())]
    ResizedTooOften {
        /// The file.
        path: PathBuf,
        /// How often.
        times: u32,
    },
    /// A logical block size that there is not.
    #[error("sector size: expected 512 or 4096, found {found}")]
    SectorSize {
        /// What was asked for, in bytes.
        found: u32,
    },
    /// A file that is made cannot be read-only: nothing could ever be in it.
    #[error("{}: expected a read-write image where one is created or preallocated", path.display())]
    ReadOnlyCreate {
        /// The file.
        path: PathBuf,
    },
    /// Nothing of that name is attached.
    #[error("`{word}`: not attached")]
    Unknown {
        /// What was asked for.
        word: String,
    },
    /// A table uses it.
    #[error("{name} ({number}): in use by {users} {}", if *users == 1 { "table" } else { "tables" })]
    InUse {
        /// The device's name.
        name: String,
        /// The device.
        number: DevNumber,
        /// How often it is open.
        users: u32,
    },
}

impl Attached {
    /// Returns the name that the user knows it by: the one it was attached under, else the
    /// kernel's.
    pub fn known_as(&self) -> &str {
        self.name.as_deref().unwrap_or(&self.kernel_name)
    }
}

impl AttachError {
    /// Returns the errno that says about the same.
    pub fn errno(&self) -> Errno {
        match self {
            AttachError::System { errno, .. } => *errno,
            AttachError::NotADisk { .. } => Errno::NOTBLK,
            AttachError::HostDevice { .. } => Errno::ACCES,
            AttachError::OnDmsim { .. } => Errno::LOOP,
            AttachError::TooSmall { .. }
            | AttachError::BadName { .. }
            | AttachError::BadNumber { .. }
            | AttachError::SectorSize { .. }
            | AttachError::NotText { .. }
            | AttachError::ReadOnlyCreate { .. } => Errno::INVAL,
            AttachError::Locked { .. }
            | AttachError::AttachedAlready { .. }
            | AttachError::HostDeviceBusy { .. }
            | AttachError::Mapped { .. }
            | AttachError::NumberTaken { .. }
            | AttachError::InUse { .. } => Errno::BUSY,
            AttachError::NameTaken { .. } => Errno::EXIST,
            AttachError::NoNumber | AttachError::ResizedTooOften { .. } => Errno::NOSPC,
            AttachError::Unknown { .. } => Errno::NXIO,
        }
    }
}

/// Says of a block device of this machine how it can be used.
pub(crate) fn host_device(path: &Path) -> String {
    format!(
        "a block device of this machine, used only where it is attached as one: `dmsim attach \
         --host-device {}`",
        path.display()
    )
}

fn lower_first(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map(|first| first.to_lowercase().chain(chars).collect()).unwrap_or_default()
}
