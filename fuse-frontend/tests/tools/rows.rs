//! What programs leave, row by row.

/// What a program leaves on the file, whose bytes before the source's end are `[0, N)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Leaves {
    /// `[0, N)` is the source, the rest as it was.
    Source,
    /// As `Source`, with zeros up to the end of its last sector: the program knows no smaller unit.
    SourceInSectors,
    /// The source, from this byte on.
    SourceAt(usize),
    /// The hole at the end of the source keeps what was there.
    AllButLastHole,
    /// Every hole of the source keeps what was there, by blocks of this size.
    Data(usize),
    /// Some holes of the source keep what was there.
    SomeHoles,
    /// `[0, N)` reads as zeros up to the end of its last sector, the rest is as it was.
    Zeros,
    /// These bytes read as zeros, the rest is as it was.
    ZerosIn(usize, usize),
    /// The program succeeds, and everything is as it was.
    Nothing,
    /// The program fails with this word, and everything is as it was.
    Refused(&'static str),
    /// As `Refused`, and the program exits with success.
    Warned(&'static str),
    /// The program fails, and what it leaves is its own.
    Fails,
    /// The program succeeds, and what it leaves is its own.
    Own,
    /// The program puts another file in the place of this one.
    Replaced,
}

use Leaves::{
    AllButLastHole, Data, Fails, Nothing, Own, Refused, Replaced, SomeHoles, Source, SourceAt,
    SourceInSectors, Warned, Zeros, ZerosIn,
};

/// What a program does, called in a shell: `$SRC` is the source, `$DST` the device's file, `$DIR`
/// the directory of the source, `$HTTP` where it is served.
#[derive(Clone, Copy)]
pub(crate) struct Row {
    /// What has to be installed.
    pub(crate) program: &'static str,
    pub(crate) script: &'static str,
    pub(crate) file: Leaves,
    /// On the devices of these kinds, the file is left as this instead.
    pub(crate) but: (&'static [&'static str], Leaves),
    /// The block node of a loop device in place of the file.
    pub(crate) node: Leaves,
}

/// A row that is the same on a block node.
const fn row(program: &'static str, script: &'static str, file: Leaves) -> Row {
    Row { program, script, file, but: (&[], file), node: file }
}

impl Row {
    const fn node(self, node: Leaves) -> Row {
        Row { node, ..self }
    }

    const fn but(self, kinds: &'static [&'static str], leaves: Leaves) -> Row {
        Row { but: (kinds, leaves), ..self }
    }

    /// Returns what the row leaves on the file of a device of this kind.
    pub(crate) fn on(&self, kind: &str) -> Leaves {
        if self.but.0.contains(&kind) { self.but.1 } else { self.file }
    }
}

const NOT_PERMITTED: Leaves = Refused("Operation not permitted");
const NO_SPACE: Leaves = Refused("No space left");
const NOT_SUPPORTED: Leaves = Refused("Operation not supported");
/// What `fallocate` makes of the same error where it asks for the size to be kept, as for a hole.
const NO_SUCH_MODE: Leaves = Refused("keep size mode is unsupported");

/// Where a discard does not read as zeros.
const NO_HOLES: &[&str] = &["crypt", "snapshot", "mirror"];

pub(crate) const ROWS: &[Row] = &[
    row("cp", "cp $SRC $DST", Source),
    row("cp", "cp --sparse=always $SRC $DST", Source),
    row("cp", "cp --sparse=never $SRC $DST", Source),
    row("cp", "cp --sparse=auto --reflink=never $SRC $DST", Source),
    row("cp", "cp --reflink=auto $SRC $DST", Source),
    row("cp", "cp --reflink=always $SRC $DST", Refused("cross-device")).node(Refused("Invalid")),
    row("cp", "cp --remove-destination $SRC $DST", NOT_PERMITTED).node(Replaced),
    row("cp", "cp $DIR/larger $DST", Fails),
    row("dd", "dd if=$SRC of=$DST bs=64k", Source),
    row("dd", "dd if=$SRC of=$DST bs=64k conv=notrunc", Source),
    row("dd", "dd if=$SRC of=$DST bs=4k seek=16", SourceAt(65_536)),
    row("dd", "dd if=$SRC of=$DST bs=4k conv=sparse", AllButLastHole).node(Data(4096)),
    row("dd", "dd if=$SRC of=$DST bs=4k conv=sparse,notrunc", Data(4096)),
    row("dd", "dd if=$SRC of=$DST bs=64k oflag=direct", Source),
    row("dd", "dd if=$SRC of=$DST bs=64k oflag=append conv=notrunc", NO_SPACE).node(Source),
    row("cat", "cat $SRC > $DST", Source),
    row("cat", "cat $SRC 1<> $DST", Source),
    row("cat", "cat $SRC >> $DST", NO_SPACE).node(Source),
    row("tee", "tee $DST < $SRC > /dev/null", Source),
    row("sponge", "sponge $DST < $SRC", Source),
    row("python3", "python3 -c \"import shutil; shutil.copyfile('$SRC', '$DST')\"", Source),
    row("install", "install $SRC $DST", NOT_PERMITTED).node(Replaced),
    row("mv", "mv $SRC $DST", NOT_PERMITTED).node(Replaced),
    row("ln", "ln -f $SRC $DST", Refused("cross-device")),
    row("rm", "rm -f $DST", NOT_PERMITTED).node(Replaced),
    row("touch", "touch $DST", Nothing),
    row("sed", "sed -i s/a/b/ $DST", NOT_PERMITTED).node(Refused("not a regular file")),
    row("tar", "tar -C $DIR -cSf - d | tar -C $(dirname $DST) --overwrite -xSf -", Source)
        .node(Replaced),
    row("tar", "tar -C $DIR -cf - d | tar -C $(dirname $DST) --overwrite -xf -", Source)
        .node(Replaced),
    row("tar", "tar -C $DIR -cSf - d | tar -C $(dirname $DST) -xSf -", Refused("File exists"))
        .node(Replaced),
    row("bsdtar", "bsdtar -C $DIR -cf - d | bsdtar -C $(dirname $DST) -xf -", NOT_PERMITTED)
        .node(Replaced),
    row(
        "cpio",
        "echo d | cpio -D $DIR -o | cpio -D $(dirname $DST) -iu",
        Warned("Operation not permitted"),
    )
    .node(Replaced),
    row("rsync", "rsync --inplace $SRC $DST", Source).node(Replaced),
    row("rsync", "rsync --inplace --sparse $SRC $DST", Source).node(Replaced),
    row("rsync", "rsync --inplace --no-whole-file $SRC $DST", Source).node(Replaced),
    row("rsync", "rsync --inplace --write-devices $SRC $DST", Source),
    row("rsync", "rsync $SRC $DST", NOT_PERMITTED).node(Replaced),
    row("curl", "curl -s -o $DST file://$SRC", Source),
    row("wget", "wget -q -O $DST $HTTP", Source),
    row("gzip", "gzip -c $SRC | gzip -d > $DST", Source),
    row("xz", "xz -0 -c $SRC | xz -d > $DST", Source),
    row("xz", "xz -0 -c $SRC | xz -d >> $DST", NO_SPACE).node(Source),
    row("zstd", "zstd -q -c $SRC | zstd -d -q > $DST", Source),
    row("zstd", "zstd -q -c $SRC | zstd -d -q --sparse > $DST", Source).node(SomeHoles),
    row("zstd", "zstd -q -c $SRC | zstd -d -q -f -o $DST", Source).node(SomeHoles),
    row("qemu-img", "qemu-img convert -f raw -O raw $SRC $DST", SourceInSectors),
    row("qemu-img", "qemu-img convert -f raw -O raw -S 0 $SRC $DST", SourceInSectors),
    row("qemu-img", "qemu-img convert -f raw -O raw -n $SRC $DST", SourceInSectors),
    row("qemu-img", "qemu-img convert -f raw -O raw -t none -W $SRC $DST", SourceInSectors),
    row(
        "qemu-img",
        "qemu-img convert -f raw -O raw -o preallocation=full $SRC $DST",
        Refused("shrinking files"),
    )
    .node(Refused("Unsupported preallocation")),
    row(
        "qemu-img",
        "qemu-img convert -f raw -O raw -o preallocation=falloc $SRC $DST",
        Refused("shrinking files"),
    )
    .node(Refused("Unsupported preallocation")),
    row("qemu-img", "qemu-img dd -f raw -O raw bs=4k if=$SRC of=$DST", SourceInSectors),
    row("qemu-img", "qemu-img create -f raw $DST $(stat -c %s $SRC)", Zeros).node(ZerosIn(0, 512)),
    row("qemu-img", "qemu-img resize -f raw $DST 8M", Refused("File too large"))
        .node(Refused("Cannot resize device")),
    row(
        "qemu-io",
        "qemu-img create -q -f qcow2 -b $DST -F raw $DIR/o && \
         qemu-io -c 'write -P 0 64k 64k' $DIR/o && qemu-img commit -q $DIR/o",
        ZerosIn(65_536, 131_072),
    ),
    // To a block node, it discards what is no whole sector.
    row("nbdcopy", "nbdcopy -- [ nbdkit --exit-with-parent file $SRC ] $DST", Source).node(Fails),
    row("ddrescue", "ddrescue --force $SRC $DST", Source),
    row("ddrescue", "ddrescue --force --sparse $SRC $DST", Data(65_536))
        .node(Refused("Only regular files")),
    row("shred", "shred -n 1 -z $DST", ZerosIn(0, super::DEVICE)),
    row("shred", "shred -n 0 -u $DST", NOT_PERMITTED).node(Replaced),
    row("truncate", "truncate -s 8M $DST", Refused("File too large")).node(Refused("Invalid")),
    row("truncate", "truncate -s 1000 $DST", Nothing).node(Refused("Invalid")),
    row("truncate", "truncate -s 1M $DST; cp --sparse=always $SRC $DST", Source),
    row("python3", "python3 -c \"import os; os.truncate('$DST', 1000)\"", Refused("Invalid")),
    row("fallocate", "fallocate -l 1M $DST", Nothing)
        .but(&["snapshot"], NOT_SUPPORTED)
        .node(NOT_SUPPORTED),
    row("fallocate", "fallocate -n -o 1M -l 1M $DST", Nothing)
        .but(&["snapshot"], NO_SUCH_MODE)
        .node(NO_SUCH_MODE),
    row("fallocate", "fallocate -x -l 1M $DST", Nothing),
    row("fallocate", "fallocate -l 8M $DST", NO_SPACE).node(Refused("Invalid")),
    row("fallocate", "fallocate -p -o 4096 -l 131072 $DST", ZerosIn(4096, 135_168))
        .but(NO_HOLES, NO_SUCH_MODE),
    row("fallocate", "fallocate -p -o 5000 -l 100000 $DST", ZerosIn(5000, 105_000))
        .but(NO_HOLES, NO_SUCH_MODE)
        .node(Refused("Invalid")),
    row("fallocate", "fallocate -z -o 4096 -l 131072 $DST", ZerosIn(4096, 135_168)),
    row("fallocate", "fallocate -z -o 5000 -l 100000 $DST", ZerosIn(5000, 105_000))
        .node(Refused("Invalid")),
    row("fallocate", "fallocate -z -n -o 5000 -l 100000 $DST", ZerosIn(5000, 105_000))
        .node(Refused("Invalid")),
    row("fallocate", "cp --sparse=never $SRC $DST; fallocate -d $DST || :", Source),
    row("fallocate", "fallocate -c -o 4096 -l 8192 $DST", NOT_SUPPORTED),
    row("fallocate", "fallocate -i -o 4096 -l 8192 $DST", NOT_SUPPORTED),
    row("blkdiscard", "blkdiscard -f $DST", Refused("not a block device"))
        .node(ZerosIn(0, super::DEVICE)),
    row(
        "python3",
        "python3 -c \"import os; s, d = os.open('$SRC', 0), os.open('$DST', 1); \
         os.copy_file_range(s, d, 4096)\"",
        Refused("cross-device"),
    )
    .node(Refused("Invalid")),
    row("xfs_io", "xfs_io -c \"sendfile -i $SRC 0 1053576\" $DST", Source),
    row(
        "xfs_io",
        "xfs_io -c 'mmap -rw 0 1m' -c 'mwrite -S 0 5000 100000' -c 'msync -s' $DST",
        ZerosIn(5000, 105_000),
    ),
    row("xfs_io", "xfs_io -t -c 'pwrite -S 0 104999 1' $DST", ZerosIn(0, 105_000))
        .node(ZerosIn(104_999, 105_000)),
    row("xfs_io", "xfs_io -a -c 'pwrite -S 0 0 512' $DST", NO_SPACE).node(ZerosIn(0, 512)),
    row("sqlite3", "sqlite3 $DST 'create table t(a)'", Refused("not a database")).node(Own),
];
