//! Names, numbers and nodes that go from hand to hand, and lead to no other device: what attackers tried.

use std::path::Path;

use crate::harness::{self, Instance, text, wait_until};
use crate::{Waits, disks, run, start};

/// Makes and removes devices as fast as ioctls go: `perl -e CHURN NAME`.
const CHURN: &str = r#"
open(F, '+<', '/dev/mapper/control') or die;
sub call { my ($nr, $flags, $name) = @_;
    my $b = pack('L10 Q a128 a129 x7', 4, 0, 0, 312, 312, 0, 0, $flags, 0, 0, 0, $name, '');
    return ioctl(F, 0xc138fd00 | $nr, $b) ? $b : undef; }
for (1..60) {
    my $made = call(3, 0, $ARGV[0]) or next;
    my $status = call(7, 0, $ARGV[0]);
    my ($one, $other) = map { defined($_) ? unpack('x40 Q', $_) : 0 } ($made, $status);
    print "$one is $other
" if $one >> 8 != 259 || $other && $one != $other && $ARGV[0] =~ /own/;
    call(4, 0, $ARGV[0]);
}
"#;

/// What attackers found: names and numbers that went from hand to hand, and led to other devices.
#[test]
fn no_name_leads_to_another_device_whatever_races() {
    let Some(instance) = start(&["dmsetup", "losetup"]) else { return };
    let said = run(
        &instance,
        "one() {
            for i in $(seq 12); do
                dmsetup create $1 --table '0 8 zero' && dmsetup mknodes $1
                dmsetup rename $1 $1-x && dmsetup rename $1-x $1
                dmsetup suspend $1 && dmsetup resume $1
                dmsetup remove $1
            done > /dev/null 2>&1
        }
        for name in same same same one two three; do one $name & pids=\"$pids $!\"; done
        while :; do stat -c %Hr /dev/mapper/* 2> /dev/null || true; done > seen & looks=$!
        wait $pids; kill $looks; sort -u seen
        dmsetup remove_all",
    );
    let churn = format!(
        "for name in same same same own1 own2 own3; do perl -e '{}' $name & done; wait",
        CHURN.replace('\'', "'\\''")
    );
    assert_eq!(run(&instance, &churn), "");
    // 0 is the link to the control node.
    let majors: Vec<&str> = said.lines().filter(|major| *major != "0").collect();
    assert_eq!(majors, ["259"], "{said}");
    assert_eq!(instance.dmsim(&["ls"]), "No devices found\n");
    wait_until("old names are gone", || {
        run(&instance, "ls /dev/mapper; ls /dev | grep dm- || true") == "control\n"
    });
    let loops = harness::sh("losetup", &["--list", "--noheadings", "--output", "BACK-FILE"]);
    let left = loops.lines().filter(|file| file.contains(text(&instance.path("")))).count();
    assert_eq!(left, 0, "{loops}");
    instance.dmsim(&["stop"]);
}

/// The number that the control plane has may be a device's of the machine.
#[test]
fn without_block_nodes_no_device_is_made() {
    let Some(instance) = start(&["dmsetup", "pgrep"]) else { return };
    disks(&instance, &[("a", 16)]);
    let shell = Waits::run(
        &instance,
        "echo; read x || true; dmsetup create d --notable || echo refused
        dmsetup mknodes; dmsetup ls; stat -c '%n %Hr' /dev/mapper/*",
    );
    let helper =
        harness::sh("pgrep", &["--parent", &instance.pid().to_string(), "--full", "nodes"]);
    harness::sh("kill", &["-9", helper.trim()]);
    wait_until("it has ended", || !Path::new(&format!("/proc/{}/exe", helper.trim())).exists());
    instance.dmsim(&["create", "z", "--table", "0 8 zero"]);
    let said = shell.end();
    assert!(said.contains("refused\n") && !said.contains(" 253\n"), "{said}");
    assert!(!said.contains("(253"), "{said}");
    // The next shell has nodes again.
    run(&instance, "head -c 4096 /dev/mapper/a > /dev/null; dmsetup create d --table '0 8 zero'");
}

#[test]
fn a_node_that_cannot_go_is_nobody_elses() {
    if crate::ublk::is_instead_of_loops() {
        return;
    }
    let Some(instance) = start(&["dmsetup"]) else { return };
    run(&instance, "dmsetup create m --table '0 8192 zero'");
    let disk = run(
        &instance,
        "basename $(readlink -f /sys/dev/block/$(stat -c %Hr:%Lr /dev/mapper/m)/stat | cut -d/ -f6)",
    );
    // Somebody outside has the whole loop device open.
    let held = std::fs::File::open(format!("/dev/{}", disk.trim())).expect("a loop device");
    let said = run(
        &instance,
        "fails dmsetup remove m 2> /dev/null
        dmsetup create other --table '0 8192 zero'
        stat -c %Hr:%Lr /dev/mapper/* | grep 259: | sort | uniq -d",
    );
    assert_eq!(said, "", "two devices have one node");
    drop(held);
    run(&instance, "dmsetup remove other; dmsetup remove m 2> /dev/null || true");
}

#[test]
fn a_shell_that_outlives_its_daemon_has_no_devices() {
    for force in [false, true] {
        let Some(instance) = start(&["dmsetup"]) else { return };
        disks(&instance, &[("a", 16)]);
        let shell = Waits::run(
            &instance,
            "echo; read x || true; ls /dev/mapper /dev/dm-* 2> /dev/null || true; test -e /dev/null",
        );
        let dir = match force {
            false => {
                instance.dmsim(&["stop"]);
                None
            }
            true => {
                let dir = instance.crash();
                let private = dir.path().join("run/private/dev/mapper/a");
                wait_until("the helper has ended", || !private.exists());
                Some(dir)
            }
        };
        let said = shell.end();
        assert!(!said.contains("dm-") && !said.lines().any(|name| name == "a"), "{said}");
        // It clears away what is mounted there.
        drop(dir.map(|dir| Instance::start_in(dir, &[])));
    }
}

#[test]
fn what_is_deferred_comes_when_all_have_gone() {
    let Some(instance) = start(&["dmsetup"]) else { return };
    run(
        &instance,
        "dmsetup create y --table '0 2048 zero'
        dmsetup create x --table '0 2048 linear /dev/mapper/y 0'
        dmsetup remove --deferred y; dmsetup remove x
        dmsetup create m --table '0 2048 zero'
        exec 9< /dev/mapper/m; dmsetup remove --deferred m; fails dmsetup remove m 2> /dev/null
        exec 9<&-",
    );
    wait_until("both are gone", || instance.dmsim(&["ls"]) == "No devices found\n");
}

#[test]
fn words_of_tables_mean_what_the_caller_sees() {
    let Some(instance) = start(&["dmsetup"]) else { return };
    disks(&instance, &[("a", 16)]);
    instance.dmsim(&["create", "z", "--table", "0 8 zero"]);
    for word in ["253:1", "/etc/hostname", "/dev/mapper/none", "/dev/null", "259:999999"] {
        let table = format!("dmsetup create x --table '0 8 linear {word} 0' 2>&1 || echo refused");
        let said = run(&instance, &table);
        assert!(said.ends_with("refused\n"), "{word}: {said}");
    }
    run(&instance, "dmsetup create x --table '0 8 linear /dev/mapper/z 0'; dmsetup remove x");
    // The link is there again, and leads to ours.
    run(&instance, "rm /dev/mapper/control; sleep 3; dmsetup ls | grep -q '^a'");
}

/// What ends the set has to be written to legs that hold everything.
#[test]
fn a_remove_all_that_waits_can_be_killed() {
    let Some(instance) = start(&["dmsetup"]) else { return };
    disks(&instance, &[("a", 64)]);
    let said = run(
        &instance,
        "for n in 0 1 2 3; do dmsetup create l$n --table \"0 8192 linear /dev/mapper/a $((n * 8192))\"; done
        dmsetup create r --table '0 8192 raid raid1 3 0 region_size 512 2 /dev/mapper/l0 /dev/mapper/l1 /dev/mapper/l2 /dev/mapper/l3'
        dd if=/dev/zero of=/dev/mapper/r bs=4096 count=1 conv=fsync status=none
        for n in 0 1 2 3; do dmsetup suspend --noflush l$n; done
        timeout -s KILL 2 dmsetup remove_all || echo $?
        for n in 0 1 2 3; do dmsetup resume l$n; done
        used() { dmsetup info -c --noheadings -o open | grep -q 1; }
        for n in $(seq 100); do used || break; sleep 0.1; done
        dmsetup remove_all; dmsetup ls",
    );
    assert_eq!(said, "137\nNo devices found\n");
    instance.dmsim(&["stop"]);
}

#[test]
fn a_block_device_of_the_machine_grows_under_its_table() {
    let Some(instance) = start(&["dmsetup", "losetup"]) else { return };
    let image = instance.path("host.img");
    let script = format!(
        "truncate -s 10M {image}
        loop=$(losetup --find --show {image})
        trap 'dmsetup remove g; losetup -d $loop' EXIT
        dmsetup create g --table \"0 20480 linear $loop 0\"
        truncate -s 16M {image}; losetup --set-capacity $loop
        dmsetup load g --table \"0 32768 linear $loop 0\"
        dmsetup resume g
        blockdev --getsz /dev/mapper/g",
        image = image.display()
    );
    assert_eq!(run(&instance, &script), "32768\n");
}

#[test]
fn no_daemon_is_started_in_a_shell() {
    let Some(instance) = start(&[]) else { return };
    let script = format!("DMSIM_DIR=/nowhere-at-all {} start 2>&1 || true", harness::DMSIM);
    assert!(run(&instance, &script).contains("start it outside"));
}

#[test]
fn dmsim_knows_what_programs_have_mounted_and_shells_what_dmsim_restores() {
    let Some(instance) = start(&["dmsetup", "mkfs.ext4"]) else { return };
    disks(&instance, &[("a", 32)]);
    let holds = Waits::run(
        &instance,
        "mkfs.ext4 -q /dev/mapper/a; m=$(mktemp -d); mount /dev/mapper/a $m
        echo; read x || true; umount $m; rmdir $m",
    );
    instance.dmsim(&["snapshot", "a", "before"]);
    let said = instance.refused(&["merge", "before"]);
    assert!(said.contains("block node"), "{said}");
    holds.end();
    instance.dmsim(&["merge", "before"]);
    instance.dmsim(&["stop"]);
    // A shell that is there before its devices are.
    let dir = instance.crash();
    let instance = Instance::start_in(dir, &[]);
    run(&instance, "true");
    instance.dmsim(&["restore"]);
    run(&instance, "e2fsck -fn /dev/mapper/a > /dev/null");
}

#[test]
fn a_stop_that_is_refused_changes_no_number() {
    let Some(instance) = start(&["dmsetup"]) else { return };
    disks(&instance, &[("a", 16), ("b", 16)]);
    let numbers = || run(&instance, "stat -c '%n %Hr:%Lr' /dev/mapper/[ab]");
    let before = numbers();
    let holds = Waits::run(&instance, "exec 3< /dev/mapper/a; echo; read x || true");
    instance.refused(&["stop"]);
    assert_eq!(numbers(), before);
    holds.end();
    instance.dmsim(&["stop"]);
}

/// A loop device of the machine, detached when dropped.
struct Detached(String);

impl Drop for Detached {
    fn drop(&mut self) {
        let _ = std::process::Command::new("losetup").args(["-d", &self.0]).status();
    }
}

/// The numbers of images begin where the machine has no loop devices, as a rule.
#[test]
fn a_disk_of_the_machine_is_not_taken_for_an_image_of_its_number() {
    let Some(instance) = start(&["dmsetup", "losetup"]) else { return };
    let disk = instance.path("host.img");
    std::fs::write(&disk, vec![b'h'; 4 << 20]).expect("room for it");
    disks(&instance, &[("a", 4)]);
    let images: Vec<serde_json::Value> =
        serde_json::from_str(&instance.dmsim(&["images", "--json"])).expect("JSON");
    let device = format!("/dev/loop{}", images[0]["minor"]);
    let taken = std::process::Command::new("losetup").args([&device, text(&disk)]).output();
    if !taken.is_ok_and(|output| output.status.success()) {
        println!("skipped: {device} is somebody else's");
        return;
    }
    let _until_the_end = Detached(device.clone());
    wait_until("it is seen inside", || {
        run(&instance, &format!("head -c1 {device} || true")) == "h"
    });
    let told = run(
        &instance,
        &format!(
            "head -c1 {device}; echo; dmsetup create c --table '0 8 linear {device} 0' 2> /dev/null || true; dmsetup ls"
        ),
    );
    assert!(told.starts_with("h\na\t") && !told.contains("c\t"), "{told}");
    instance.dmsim(&["stop"]);
}

/// A device over a loop device of the machine, which lies over another device of the same instance: reads of the
/// one wait for the other, and nothing that serves both may wait with them.
#[test]
fn a_disk_of_the_machine_over_a_device_of_ours_keeps_nobody_waiting() {
    let Some(instance) = start(&["dmsetup", "losetup", "dd"]) else { return };
    disks(&instance, &[("k", 32)]);
    let said = run(
        &instance,
        "dmsetup create d1 --table '0 65536 linear /dev/mapper/k 0'
            L=$(losetup --find --show /dev/mapper/d1)
            trap 'losetup -d $L' EXIT
            dmsetup create up --table \"0 65536 linear $L 0\"
            for i in $(seq 0 31); do
                timeout -s KILL 60 dd if=/dev/mapper/up of=/dev/null bs=64k count=8 skip=$((i * 16)) \\
                    iflag=direct status=none || echo lost $i & pids=\"$pids $!\"
            done
            timeout -s KILL 60 dmsetup create other --table '0 8 zero' || echo no device
            wait $pids
            dd if=/dev/mapper/up bs=4k count=1 iflag=direct status=none | tr -d '\\000' | wc -c
            printf 123 | dd of=/dev/mapper/up bs=512 conv=sync,fsync oflag=direct status=none
            dd if=/dev/mapper/d1 bs=512 count=1 iflag=direct status=none | head -c 3
            dmsetup remove up; dmsetup remove other; losetup -d $L; trap - EXIT
            i=0; while losetup $L > /dev/null 2>&1 && [ $i -lt 100 ]; do i=$((i + 1)); sleep 0.1; done
            dmsetup remove d1",
    );
    assert_eq!(said, "0\n123");
    instance.dmsim(&["stop"]);
}

/// The loop device below a node says the path that the device's file had when it was opened.
#[test]
fn a_renamed_device_is_in_nobodys_way_when_all_stops() {
    let Some(instance) = start(&["dmsetup"]) else { return };
    run(
        &instance,
        "dmsetup create z --table '0 2048 zero'; dmsetup rename z zz; head -c 512 /dev/mapper/zz > /dev/null; \
         dmsetup create z --table '0 2048 zero'",
    );
    instance.dmsim(&["rename", "z", "other"]);
    assert!(!instance.dmsim(&["info", "--json"]).contains("cannot be seen"));
    instance.dmsim(&["stop"]);
}
