//! Which program mounts a file system without the kernel, where to get it, and what else reads one.
//!
//! Each line was tried: fuse2fs 1.47, ntfs-3g 2022.10.3, fusefat 0.1a, squashfuse 0.1.105, fuseiso 20070708,
//! exfat-fuse 1.3.0, 7z 26.02 with UDF; erofsfuse and apfs-fuse are called as their manuals have it, and 7z was not
//! tried on HFS+ and APFS.

/// What is known of a type of file system.
#[derive(Debug)]
pub(super) struct Kind {
    /// What `blkid` calls it.
    names: &'static [&'static str],
    /// What `mount -t` calls it: the kernel's names, or those of programs that `mount` runs.
    pub(super) kernel: &'static [&'static str],
    /// The programs that mount a file of it, the best first.
    pub(super) programs: &'static [Program],
    /// The packages that have these.
    pub(super) packages: &'static str,
    /// What reads it without a mount, and with which words; `FILE` is the device's.
    pub(super) without: &'static str,
    /// Whether it is never written to.
    pub(super) is_read_only: bool,
}

/// A program that serves a file system by FUSE: `PROGRAM [words] FILE DIR -o OPTIONS`.
#[derive(Debug)]
pub(super) struct Program {
    pub(super) name: &'static str,
    pub(super) words: &'static [&'static str],
    /// Options to write to it; else `ro`.
    pub(super) to_write: &'static str,
    /// Options of an ordinary user, who has the numbers `UID` and `GID`.
    pub(super) of_user: &'static str,
    /// Whether it takes `fsname`; one that does not names the file by itself.
    pub(super) takes_fsname: bool,
    /// Whether it talks though all is well.
    pub(super) talks: bool,
    /// What to know before writing by it.
    pub(super) caution: &'static str,
    /// What to do where it fails for who is not root of the machine.
    pub(super) if_refused: &'static str,
}

/// What most programs take.
const PLAIN: Program = Program {
    name: "",
    words: &[],
    to_write: "",
    of_user: "",
    takes_fsname: true,
    talks: false,
    caution: "",
    if_refused: "",
};

const NTFS_3G: Program = Program {
    name: "ntfs-3g",
    takes_fsname: false,
    // Else all is root's, who is nobody in a user namespace: nothing could be written there.
    of_user: "uid=UID,gid=GID",
    if_refused: "where ntfs-3g is setuid root, as Debian has it, it cannot open what a user's daemon shows: \
                 `unshare --user --map-current-user --keep-caps --mount` begins a shell in which `dmsim mount` works; \
                 or root writes user_allow_other into /etc/fuse.conf, and `dmsim start --allow-other` starts the daemon",
    ..PLAIN
};

const KINDS: &[Kind] = &[
    Kind {
        names: &["ext2", "ext3", "ext4"],
        kernel: &[],
        // Else it asks permissions of a user who is none of the file system's.
        programs: &[Program {
            name: "fuse2fs",
            of_user: "fakeroot",
            // Version 1.47.0 ends by a fault where it replays a journal itself.
            if_refused: "where a journal is to be replayed: `e2fsck -E journal_only FILE` does that, `-o \
                         ro,norecovery` mounts without",
            ..PLAIN
        }],
        packages: "fuse2fs (Debian, Fedora)",
        without: "`debugfs -R 'ls -l' FILE` lists, `debugfs -R 'rdump / DIR' FILE` copies all of it, `debugfs -w -R \
                  'write HERE THERE' FILE` writes (package e2fsprogs)",
        is_read_only: false,
    },
    Kind {
        names: &["ntfs"],
        kernel: &["ntfs3", "ntfs-3g"],
        programs: &[NTFS_3G, Program { name: "lowntfs-3g", ..NTFS_3G }],
        packages: "ntfs-3g (Debian, Fedora)",
        without: "`ntfsls FILE` lists, `ntfscat FILE PATH` reads, `ntfscp FILE HERE THERE` writes (package ntfs-3g; \
                  Fedora: ntfsprogs)",
        is_read_only: false,
    },
    Kind {
        names: &["vfat", "msdos"],
        kernel: &["vfat"],
        programs: &[Program {
            name: "fusefat",
            // It takes nothing less for a will to write.
            to_write: "rw+",
            talks: true,
            caution: "fusefat calls its own writing experimental, and mtools refuse a FAT16 that it wrote to: \
                      `mcopy -i FILE HERE ::` writes without a mount, --read-only mounts to read",
            ..PLAIN
        }],
        packages: "fusefat (Debian)",
        without: "`mdir -i FILE ::` lists, `mcopy -s -i FILE ::/ DIR` copies all of it, `mcopy -i FILE HERE ::` \
                  writes (package mtools)",
        is_read_only: false,
    },
    Kind {
        names: &["exfat"],
        kernel: &["exfat", "exfat-fuse"],
        programs: &[Program {
            name: "mount.exfat-fuse",
            if_refused: "exfat-fuse mounts block devices, for root: there is no exfat for an ordinary user",
            ..PLAIN
        }],
        packages: "exfat-fuse (Debian; Fedora: fuse-exfat of RPM Fusion), which is for root alone",
        without: "`fls -r FILE` lists, `tsk_recover -a FILE DIR` copies all of it (package sleuthkit)",
        is_read_only: false,
    },
    Kind {
        names: &["squashfs"],
        kernel: &[],
        programs: &[
            Program { name: "squashfuse_ll", ..PLAIN },
            Program { name: "squashfuse", ..PLAIN },
        ],
        packages: "squashfuse (Debian, Fedora)",
        without: "`unsquashfs -d DIR FILE` unpacks it (package squashfs-tools)",
        is_read_only: true,
    },
    Kind {
        names: &["iso9660"],
        kernel: &[],
        // Else it writes a table of its own into the home folder.
        programs: &[Program { name: "fuseiso", words: &["-n"], ..PLAIN }],
        packages: "fuseiso (Debian, Fedora)",
        without: "`bsdtar -xf FILE -C DIR` unpacks it (package libarchive-tools; Fedora: bsdtar)",
        is_read_only: true,
    },
    Kind {
        names: &["udf"],
        kernel: &[],
        programs: &[],
        packages: "",
        without: "`7z x FILE` unpacks it (package 7zip or p7zip-full)",
        is_read_only: false,
    },
    Kind {
        names: &["erofs"],
        kernel: &[],
        programs: &[Program { name: "erofsfuse", ..PLAIN }],
        packages: "erofsfuse (Debian 13; Fedora: erofs-fuse)",
        without: "`fsck.erofs --extract=DIR FILE` unpacks it (package erofs-utils)",
        is_read_only: true,
    },
    Kind {
        names: &["apfs"],
        kernel: &[],
        programs: &[Program { name: "apfs-fuse", ..PLAIN }],
        packages: "apfs-fuse, from its sources (github.com/sgan81/apfs-fuse)",
        without: "`7z x FILE` unpacks it (package 7zip or p7zip-full)",
        is_read_only: true,
    },
    Kind {
        names: &["hfsplus", "hfs"],
        kernel: &[],
        programs: &[],
        packages: "",
        without: "`7z x FILE` unpacks it (package 7zip or p7zip-full)",
        is_read_only: false,
    },
    Kind {
        names: &["xfs"],
        kernel: &[],
        programs: &[],
        packages: "",
        without: "`xfs_db -r -c 'ls /' FILE` lists (package xfsprogs)",
        is_read_only: false,
    },
    Kind {
        names: &["btrfs"],
        kernel: &[],
        programs: &[],
        packages: "",
        without: "`btrfs restore FILE DIR` copies all of it (package btrfs-progs)",
        is_read_only: false,
    },
];

/// A file system of which nothing is known but its name.
const UNKNOWN: Kind =
    Kind { names: &[], kernel: &[], programs: &[], packages: "", without: "", is_read_only: false };

/// What ends the names of what is no file system, and has others within it.
const NO_FILE_SYSTEM: [&str; 5] =
    ["_member", "crypto_LUKS", "BitLocker", "DM_snapshot_cow", "swap"];

impl Kind {
    /// Returns what is known of a type.
    pub(super) fn of(name: &str) -> &'static Kind {
        KINDS.iter().find(|kind| kind.names.contains(&name)).unwrap_or(&UNKNOWN)
    }

    /// What reads it without a mount; nothing where nothing does.
    pub(super) fn without(&self, file: &str) -> Option<String> {
        (!self.without.is_empty()).then(|| self.without.replace("FILE", file))
    }
}

/// Tells whether a program of this name serves file systems by FUSE. The kernel cuts names off.
pub(super) fn serves(program: &str) -> bool {
    let cut = |name: &'static str| &name[..name.len().min(15)];
    KINDS.iter().flat_map(|kind| kind.programs).any(|known| cut(known.name) == program)
}

/// Tells whether what `blkid` calls so is no file system.
pub(super) fn is_no_file_system(name: &str) -> bool {
    NO_FILE_SYSTEM.iter().any(|end| name.ends_with(end))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The page has a line for each type, with its programs and commands.
    #[test]
    fn the_page_says_what_the_messages_say() {
        let page = include_str!("../../../docs/src/mounts.md");
        for kind in KINDS {
            let has_it = |line: &&str| line.starts_with('|') && line.contains(kind.names[0]);
            let line = page.lines().find(has_it).unwrap_or_else(|| panic!("{:?}", kind.names));
            let commands = kind.without.split('`').skip(1).step_by(2);
            for word in commands.chain(kind.programs.iter().map(|program| program.name)) {
                assert!(line.contains(&format!("`{word}`")), "{word}: {line}");
            }
        }
    }
}
