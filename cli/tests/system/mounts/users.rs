//! As an ordinary user, by FUSE programs.

use crate::harness::has;
use crate::users::{folder, session};

/// What an ordinary user's sessions begin with.
const BEGIN: &str = r#"
set -eu
cd "$1"; export DMSIM_DIR="$1/run" HOME="$1" LC_ALL=C; PATH="$1:$PATH:/usr/sbin:/sbin"
trap 'dmsim stop --force >/dev/null 2>&1 || true' EXIT
# says WORDS COMMAND...: the command fails, and says so.
says() { words="$1"; shift; if "$@" > said 2>&1; then echo "it does not fail: $*"; exit 1; fi
    grep -qF -- "$words" said || { echo "expected: $words"; cat said; exit 1; }; }
fails() { ! "$@"; }
mkdir mnt
"#;

pub(super) fn user(script: &str, wrapper: &[&str]) {
    session(&folder(&format!("{BEGIN}{script}\necho the session went well\n")), wrapper, false);
}

#[test]
fn a_user_mounts_by_fuse_programs() {
    if !has(&[
        "fuse2fs",
        "fusefat",
        "squashfuse",
        "mksquashfs",
        "mkfs.vfat",
        "fsck.vfat",
        "blkid",
        "genisoimage",
        "fuseiso",
    ]) {
        return;
    }
    user(
        r#"
        truncate -s 64M ext4.img vfat.img
        for kind in ext4 vfat; do dmsim create $kind --table "0 131072 linear $PWD/$kind.img 0"; done
        mkfs.ext4 -q run/mapper/ext4; mkfs.vfat -F 32 run/mapper/vfat
        for kind in ext4 vfat; do
            test "$(dmsim mount $kind mnt 2> said)" = "$PWD/mnt"
            echo $kind > mnt/file; dmsim umount mnt; dmsim umount $kind 2>&1 | grep -q 'is not mounted'
            dmsim mount run/mapper/$kind mnt --read-only; grep -qx $kind mnt/file; says 'Read-only' sh -c 'echo > mnt/no'
            says "unmounts it from $PWD/mnt" dmsim remove $kind
            says "in use by fuse" dmsim stop
            exec 3< mnt/file; says "uses $PWD/mnt/file" dmsim umount $kind; exec 3<&-
            dmsim umount $kind
        done
        e2fsck -fn run/mapper/ext4; fsck.vfat -n run/mapper/vfat
        dmsim remove ext4; dmsim remove vfat
        mkdir tree; echo packed > tree/file; mksquashfs tree sq.img -quiet -no-progress
        dmsim create sq --table "0 $(($(stat -c %s sq.img) / 512)) linear $PWD/sq.img 0"
        dmsim mount sq mnt; grep -qx packed mnt/file; dmsim umount sq; dmsim remove sq
        genisoimage -quiet -R -o iso.img tree
        dmsim create iso --table "0 $(($(stat -c %s iso.img) / 512)) linear $PWD/iso.img 0"
        dmsim mount iso mnt; grep -qx packed mnt/file; dmsim umount mnt; dmsim remove iso
        # Names that options and the mount table write in other ways.
        mkdir 'm n'; dmsim create 'x,y z' --table "0 131072 linear $PWD/ext4.img 0"
        dmsim mount 'x,y z' 'm n' -o kernel_cache; grep -qx ext4 'm n/file'; dmsim umount 'm n'
        dmsim remove 'x,y z'
        # One that takes its time to end.
        mkdir slow; { echo '#!/bin/sh'; echo 'exec 9< "$1"'
            echo "( $(command -v fuse2fs) -f \"\$@\"; sleep 1 ) > /dev/null 2>&1 &"; } > slow/fuse2fs
        chmod +x slow/fuse2fs; dmsim create slow --table "0 131072 linear $PWD/ext4.img 0"
        (PATH="$PWD/slow:$PATH"; dmsim mount slow mnt); dmsim umount slow; dmsim remove slow
        "#,
        &[],
    );
}

#[test]
fn a_journal_that_is_to_be_replayed_is_in_the_way_of_what_cannot_and_no_dead_mount_stays() {
    if !has(&["fuse2fs", "debugfs", "e2fsck", "blkid"]) {
        return;
    }
    user(
        r#"
        truncate -s 64M fs.img; dmsim create d --table "0 131072 linear $PWD/fs.img 0"
        mkfs.ext4 -q run/mapper/d; debugfs -w -R 'feature needs_recovery' run/mapper/d 2> said
        says 'Journal needs recovery' dmsim mount d mnt --read-only
        grep -qF "e2fsck -E journal_only $PWD/run/mapper/d" said
        # One that replays it, or ends by a fault of its own.
        if dmsim mount d mnt 2> said; then
            test -d mnt/lost+found; dmsim umount d
        else
            grep -q 'fuse2fs: ended as soon as it had mounted it' said; fails grep -q "$PWD/mnt" /proc/self/mountinfo
        fi
        debugfs -w -R 'feature needs_recovery' run/mapper/d 2> said
        dmsim mount d mnt -o ro,norecovery; test -d mnt/lost+found; dmsim umount d
        e2fsck -p -E journal_only run/mapper/d
        dmsim mount d mnt; echo x > mnt/file; dmsim umount d; dmsim remove d
        "#,
        &[],
    );
}

#[test]
fn a_user_mounts_ntfs_where_the_program_may_and_else_is_told_what_to_do() {
    if !has(&["ntfs-3g", "mkfs.ntfs", "ntfscp", "blkid"]) {
        return;
    }
    user(
        r#"
        truncate -s 64M ntfs.img; dmsim create ntfs --table "0 131072 linear $PWD/ntfs.img 0"
        mkfs.ntfs -q -F run/mapper/ntfs 2> said
        if ! dmsim mount ntfs mnt 2> said; then
            # A setuid program may not open what a user's FUSE shows. What the message says is tried.
            grep -q 'ntfs-3g: Failed to access volume' said || grep -q 'privilege to mount' said; cat said
            grep -q 'unshare --user --map-current-user --keep-caps --mount' said
            echo copied > file; ntfscp run/mapper/ntfs file copied; ntfscat run/mapper/ntfs copied | grep -qx copied
            unshare --user --map-current-user --keep-caps --mount sh -euc '
                dmsim mount ntfs mnt; grep -qx copied mnt/copied; echo written > mnt/file; dmsim umount ntfs'
        else
            echo written > mnt/file; dmsim umount ntfs
        fi
        ntfscat run/mapper/ntfs file | grep -qx written; ntfsfix -n run/mapper/ntfs; dmsim remove ntfs
        "#,
        &[],
    );
}
