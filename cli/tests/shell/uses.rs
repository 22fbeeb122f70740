//! What the kernel itself has a node open for, without a process that has: programs ask how often a device is open, and
//! merge, reduce or remove what nobody uses.

use crate::harness::{has, text};
use crate::{Waits, disks, run, start};

/// Says how often devices are open, when it has come to be so.
const OPEN: &str = "opens() { dmsetup info -c --noheadings -o open \"$1\" | tr -d ' '; }
is() { n=0; while [ \"$(opens $1)\" != $2 ]; do n=$((n + 1)); [ $n -lt 50 ] || { opens $1; return 1; }; sleep 0.1; done; }
";

#[test]
fn what_the_kernel_uses_is_open_and_keeps_its_node() {
    let tools = ["dmsetup", "losetup", "mkfs.ext4", "mkswap", "swapon"];
    let Some(instance) = start(&tools) else { return };
    disks(&instance, &[("a", 128), ("b", 128)]);
    let script = "
        busy() { is $1 1; fails dmsetup remove $1 2> /dev/null; test -b /dev/mapper/$1; is $1 1; }
        is a 0; is b 0

        # A loop device over it, used by its mount alone.
        L=$(losetup -f --show /dev/mapper/a)
        busy a; is b 0
        losetup -d $L; is a 0

        # Swap.
        mkswap -q /dev/mapper/a; swapon /dev/mapper/a
        busy a
        swapoff /dev/mapper/a; is a 0
        ln -s mapper/b /dev/swap; mkswap -q /dev/swap; swapon /dev/swap
        busy b
        swapoff /dev/swap; is b 0

        # A file system that was unmounted while a file in it is open.
        mkfs.ext4 -q /dev/mapper/a; mkdir m; mount /dev/mapper/a m
        exec 9> m/file
        umount -l m
        busy a
        exec 9>&-; is a 0; rmdir m";
    run(&instance, &format!("cd {}; {OPEN}{script}", instance.path("").display()));
    instance.dmsim(&["stop"]);
}

#[test]
fn a_file_system_over_several_devices_has_each_of_them_open() {
    let Some(instance) = start(&["dmsetup", "mkfs.btrfs"]) else { return };
    if !std::fs::read_to_string("/proc/filesystems").is_ok_and(|known| known.contains("btrfs")) {
        println!("skipped: the kernel has no btrfs");
        return;
    }
    assert!(has(&["mount"]));
    disks(&instance, &[("a", 128), ("b", 128)]);
    let script = "
        ln -s /dev/mapper/a /dev/first
        mkfs.btrfs -q -d raid0 /dev/mapper/a /dev/mapper/b; mkdir m
        mount -o device=/dev/mapper/b /dev/first m
        is a 1; is b 1
        fails dmsetup remove b 2> /dev/null; test -b /dev/mapper/b
        umount m; is a 0; is b 0; rmdir m";
    run(&instance, &format!("cd {}; {OPEN}{script}", instance.path("").display()));
    instance.dmsim(&["stop"]);
}

#[test]
fn a_disk_grows_with_its_file_when_it_is_shown_again() {
    let Some(instance) = start(&["dmsetup", "blockdev"]) else { return };
    disks(&instance, &[("a", 8)]);
    let image = instance.path("a.img");
    let size = || run(&instance, "blockdev --getsize64 /dev/mapper/a");
    assert_eq!(size(), format!("{}\n", 8 << 20));
    let set_len = |mib: u64| {
        let file = std::fs::File::options().write(true).open(&image).expect("a file");
        file.set_len(mib << 20).expect("room for it");
    };
    set_len(12);
    assert_eq!(size(), format!("{}\n", 8 << 20));
    instance.dmsim(&["shell", "--disk", text(&image), "--", "true"]);
    assert_eq!(size(), format!("{}\n", 12 << 20));
    // What is shorter stays as it is: its end may be in use.
    set_len(4);
    instance.dmsim(&["shell", "--disk", text(&image), "--", "true"]);
    assert_eq!(size(), format!("{}\n", 12 << 20));
    set_len(12);
    instance.dmsim(&["stop"]);
}

/// As `su -` and sudo do.
#[test]
fn a_program_that_clears_its_environment_finds_the_settings_of_lvm() {
    let Some(instance) = start(&["dmsetup", "lvm"]) else { return };
    disks(&instance, &[("a", 64)]);
    run(
        &instance,
        "env -i PATH=\"$PATH\" sh -ec 'pvcreate -q /dev/mapper/a; vgcreate -q dmsimbare /dev/mapper/a
        lvcreate -q -y -n l -L 8M dmsimbare; test -b /dev/dmsimbare/l; test -e /etc/lvm/backup/dmsimbare
        vgremove -q -fy dmsimbare'",
    );
    for place in ["backup", "archive"] {
        let copies = std::fs::read_dir(format!("/etc/lvm/{place}")).into_iter().flatten().flatten();
        let mut names = copies.map(|copy| copy.file_name().to_string_lossy().into_owned());
        assert!(!names.any(|name| name.contains("dmsimbare")), "the machine's own {place}");
    }
    instance.dmsim(&["stop"]);
}

/// The loop device of a device's own node is no use of it.
#[test]
fn a_device_is_mounted_outside_after_a_shell_and_not_while_one_has_it() {
    let Some(instance) = start(&["dmsetup", "mkfs.ext4"]) else { return };
    disks(&instance, &[("a", 16)]);
    run(&instance, "mkfs.ext4 -q /dev/mapper/a");
    let dir = instance.path("m");
    std::fs::create_dir(&dir).expect("a folder");
    instance.dmsim(&["mount", "a", text(&dir)]);
    instance.dmsim(&["umount", "a"]);
    let shell =
        Waits::run(&instance, "mkdir n; mount /dev/mapper/a n; echo; read x || true; umount n");
    let told = instance.refused(&["mount", "a", text(&dir)]);
    assert!(told.contains("a: is in use by"), "{told}");
    shell.end();
    instance.dmsim(&["stop"]);
}
