//! The command lines of `mount` and `umount`.

use std::path::PathBuf;

use clap::Args;

/// Mount the file system on a device, by what the machine has, and print the directory
///
/// As root, by the kernel over a loop device, where it knows the file system; else, and as an ordinary user, by the
/// program that serves it by FUSE: fuse2fs, ntfs-3g, fusefat, squashfuse, fuseiso, erofsfuse. Where there is none,
/// it says which to install, and what reads the file system without a mount. A device that is read-only is mounted
/// read-only.
///
/// `dmsim umount` is the way back; `close`, `remove` and `stop` refuse what is mounted.
#[derive(Args, Clone, Debug)]
pub(crate) struct Mount {
    /// The device, or the path of its file
    pub(crate) name: String,
    /// Where to: an empty directory
    pub(crate) dir: PathBuf,
    /// Mount it read-only
    #[arg(long, short = 'r')]
    pub(crate) read_only: bool,
    /// The type of file system, as blkid calls it [default: recognised]
    #[arg(long = "type", short = 't', value_name = "FS")]
    pub(crate) kind: Option<String>,
    /// Options for mount, or for the program, with commas in between
    #[arg(long, short, value_name = "OPTIONS")]
    pub(crate) options: Option<String>,
}

impl Mount {
    /// Returns what is asked for.
    pub(crate) fn ask(self) -> ops::mount::Ask {
        let Mount { name, dir, read_only, kind, options } = self;
        ops::mount::Ask { name, dir, read_only, kind, options }
    }
}

/// Unmount a device's file system, and wait until the device is let go of
///
/// All places where the device is mounted are unmounted, or the directory alone.
#[derive(Args, Clone, Debug)]
pub(crate) struct Umount {
    /// The device, or a directory where one of this instance is mounted
    #[arg(value_name = "NAME|DIR")]
    pub(crate) word: String,
}
