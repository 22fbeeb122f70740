//! Where something is missing: what is said, and that it helps.

use std::fs;
use std::process::Command;

use super::MIB;
use super::users::user;
use crate::harness::{can_mount, has, text, tool};
use crate::users::folder;

#[test]
fn where_no_program_is_there_what_to_install_is_said_and_what_does_without() {
    if !has(&["mkfs.xfs", "xfs_db", "fuse2fs", "blkid"]) {
        return;
    }
    user(
        r#"
        truncate -s 300M fs.img; dmsim create d --table "0 614400 linear $PWD/fs.img 0"
        mkdir none tools; dmsim="$PWD/dmsim"
        without() { (PATH="$PWD/none"; says "$@"); }
        says() { words="$1"; shift; if "$@" > said 2>&1; then echo "it does not fail: $*"; exit 1; fi
            /bin/grep -qF -- "$words" said || { echo "expected: $words"; /bin/cat said; exit 1; }; }
        mkfs.ext4 -q run/mapper/d
        without 'holds ext4, and fuse2fs is not installed: package fuse2fs' "$dmsim" mount d mnt
        grep -qF "debugfs -R 'ls -l' $PWD/run/mapper/d" said
        ln -s "$(command -v fuse2fs)" tools/fuse2fs
        (PATH="$PWD/tools"; says 'fusermount3 is not installed' "$dmsim" mount d mnt); grep -q 'apt install fuse3' said
        # What a program says is passed on.
        says 'fuse2fs: ' dmsim mount d mnt -o no_such_option
        for type in vfat ntfs squashfs iso9660 erofs apfs; do
            without 'is not installed: package' "$dmsim" mount d mnt --type $type; grep -q 'without a mount: `' said
        done
        mkfs.xfs -q -f run/mapper/d
        says 'no FUSE program for xfs is known: root can mount it' dmsim mount d mnt
        grep -qF "xfs_db -r -c 'ls /' $PWD/run/mapper/d" said; grep -q 'guestmount --format=raw -a' said
        xfs_db -r -c 'ls /' run/mapper/d
        says 'no FUSE program for btrfs' dmsim mount d mnt --type btrfs; grep -qF "btrfs restore $PWD/run/mapper/d DIR" said
        "#,
        &[],
    );
}

/// The commands are those of the messages.
#[test]
fn what_reads_without_a_mount_does() {
    let makers =
        ["mkfs.vfat", "mkfs.ntfs", "mksquashfs", "genisoimage", "mkfs.erofs", "mkfs.exfat"];
    let readers =
        ["debugfs", "mcopy", "ntfscp", "unsquashfs", "bsdtar", "fsck.erofs", "fls", "tsk_recover"];
    if !has(&makers) || !has(&readers) || !has(&["fuse2fs"]) {
        return;
    }
    user(
        r#"
        dmsim="$PWD/dmsim"; mkdir none tree; echo kept > tree/here
        # try TYPE: runs each command that is told of.
        try() {
            dmsim create d --table "0 $(($(stat -c %s fs.img) / 512)) linear $PWD/fs.img 0"
            if test $# -gt 1; then shift; "$@" run/mapper/d > said 2>&1; fi
            (PATH="$PWD/none"; ! "$dmsim" mount d mnt --type "$type" 2> "$PWD/told")
            sed -n 's/^  without a mount: //p' told | grep -o '`[^`]*`' | tr -d '`' > commands; test -s commands
            sed -i -e 's/DIR/out/; s/HERE/tree\/here/; s/THERE/there/; s/PATH/there/' commands
            # What writes comes first: it has to be there to be read.
            { grep -e '-w\|ntfscp\|tree/here' commands || true; grep -v -e '-w\|ntfscp\|tree/here' commands; } > sorted
            while read -r command; do
                rm -rf out; case "$command" in *unsquashfs*) ;; *) mkdir out ;; esac
                sh -euc "$command" > said 2>&1 < /dev/null || { echo "$type: $command"; cat said; exit 1; }
                # Nothing here puts a file into exfat without a mount.
                if test $type != exfat -a -n "$(ls out)"; then grep -rqx kept out; fi
            done < sorted
            dmsim remove d; rm fs.img
        }
        image() { truncate -s 64M fs.img; }
        type=ext4; image; try ext4 mkfs.ext4 -q
        type=vfat; image; try vfat mkfs.vfat -F 32
        type=ntfs; image; try ntfs mkfs.ntfs -q -F
        type=exfat; image; try exfat mkfs.exfat
        type=squashfs; mksquashfs tree fs.img -quiet -no-progress; try squashfs
        type=iso9660; genisoimage -quiet -R -o fs.img tree; try iso9660
        type=erofs; mkfs.erofs fs.img tree > said; try erofs
        "#,
        &[],
    );
}

#[test]
fn without_dev_fuse_and_without_fusermount3_what_helps_is_said() {
    if !can_mount() || !has(&["unshare", "setpriv"]) {
        return;
    }
    let dir = folder("");
    let place = text(dir.path());
    let said = |prepare: &str, user: &str, words: &str| {
        let script = format!(
            "{prepare}; cd {place}; exec setpriv {user} env DMSIM_DIR={place}/run HOME={place} ./dmsim {words}"
        );
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation", "private", "sh", "-c", &script]);
        let output = command.env_remove("XDG_RUNTIME_DIR").output().expect("it runs");
        assert!(!output.status.success(), "{words}: {output:?}");
        let _left = fs::remove_dir_all(dir.path().join("run"));
        String::from_utf8(output.stderr).expect("text")
    };
    fs::File::create(dir.path().join("a.img")).and_then(|file| file.set_len(MIB)).expect("room");
    let nobody = "--reuid=65534 --regid=65534 --clear-groups";
    // As in a container that was not given the device.
    let no_device = "mount -t tmpfs tmpfs /dev && mknod -m 666 /dev/null c 1 3";
    for user in [nobody, "--reuid=0"] {
        for words in ["start", "open a.img"] {
            let told = said(no_device, user, words);
            assert!(told.contains("/dev/fuse: cannot be opened: "), "{told}");
            assert!(told.contains("`--device /dev/fuse`"), "{told}");
        }
    }
    // As where fuse3 is not installed; for root, in a container that may not mount.
    let bin = dir.path().join("bin");
    fs::create_dir(&bin).expect("a folder");
    for program in ["setpriv", "env"] {
        let there = tool(program).expect("it is there");
        std::os::unix::fs::symlink(there, bin.join(program)).expect("a link");
    }
    let device = format!(
        "mkdir {place}/dev; mount -t tmpfs tmpfs {place}/dev; mknod -m 666 {place}/dev/fuse c 10 229
        mount --bind {place}/dev/fuse /dev/fuse; PATH={}",
        text(&bin)
    );
    for user in [nobody, "--bounding-set=-sys_admin --inh-caps=-sys_admin"] {
        for words in ["start", "open a.img"] {
            let _left = fs::remove_dir_all(dir.path().join("dev"));
            let told = said(&device, user, words);
            assert!(told.contains("fusermount3 is not installed"), "{told}");
            assert!(
                told.contains("apt install fuse3") && told.contains("--cap-add SYS_ADMIN"),
                "{told}"
            );
        }
    }
}

#[test]
fn root_and_setuid_programs_are_let_in_by_allow_other() {
    // What is there is replaced for the session.
    let is_there = fs::exists("/etc/fuse.conf").is_ok_and(|is_there| is_there);
    if !is_there
        || !can_mount()
        || !has(&["unshare", "setpriv", "mkfs.ntfs", "ntfs-3g", "mkfs.ext4", "blkid"])
    {
        return;
    }
    let session = r#"
        set -eu; cd "$1"; export DMSIM_DIR="$1/run" HOME="$1" LC_ALL=C; unset XDG_RUNTIME_DIR
        PATH="$1:$PATH:/usr/sbin:/sbin"
        user() { setpriv --reuid=65534 --regid=65534 --clear-groups sh -euc "$1"; }
        trap 'user "dmsim stop --force" > /dev/null 2>&1 || true' EXIT
        mkdir dev; mount -t tmpfs tmpfs dev; mknod -m 666 dev/fuse c 10 229; mount --bind dev/fuse /dev/fuse
        echo user_allow_other > fuse.conf; mount --bind fuse.conf /etc/fuse.conf
        truncate -s 16M ext4.img ntfs.img; chmod 666 ext4.img ntfs.img
        mkfs.ext4 -q -F ext4.img; mkfs.ntfs -q -F ntfs.img 2> said
        mkdir root; user 'mkdir mnt
            dmsim create ext4 --table "0 32768 linear $PWD/ext4.img 0"'
        if dmsim mount ext4 root 2> said; then exit 1; fi
        grep -q 'cannot be read: Permission denied' said; grep -q 'dmsim start --allow-other' said
        user 'dmsim remove ext4; dmsim stop; dmsim start --allow-other
            dmsim create ext4 --table "0 32768 linear $PWD/ext4.img 0"
            dmsim create ntfs --table "0 32768 linear $PWD/ntfs.img 0"'
        dmsim mount ext4 root; echo x > root/file
        if user 'dmsim umount ext4' 2> said; then exit 1; fi
        grep -q "root mounted it at $1/root" said
        dmsim umount ext4
        user 'if dmsim mount ntfs mnt; then echo x > mnt/file; dmsim umount ntfs; dmsim remove ntfs
              else test ! -u "$(command -v ntfs-3g)"; fi'
        echo the session went well
    "#;
    let dir = folder(session);
    let mut command = Command::new("unshare");
    let script = dir.path().join("session");
    command.args(["--mount", "--propagation", "private", "sh", text(&script), text(dir.path())]);
    let output = command.output().expect("it runs");
    assert!(output.status.success(), "{output:?}");
}
