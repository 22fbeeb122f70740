//! `dmsim shell`: unmodified programs of the machine on a private device-mapper.
//!
//! A program of its own: what other tests have mounted meanwhile would be mounted in the shells' namespaces
//! too, and in use until they end.

#[allow(dead_code, reason = "it is for the tests of the whole program")]
#[path = "../system/harness.rs"]
mod harness;

mod attacks;
mod cookies;
mod inside;
mod numbers;
mod scripts;
mod ublk;
mod udev;
mod users;
mod uses;

use std::io::Read;
use std::path::Path;
use std::process::{Child, ChildStdout, Stdio};

use harness::{Instance, can_mount, has, text, wait_until};

/// An instance with two disks in a shell; nothing where that cannot be.
fn start(programs: &[&str]) -> Option<Instance> {
    (can_mount() && has(programs)).then(Instance::start)
}

/// What must not succeed: `sh -e` does not mind the result of a command with a `!` before it.
const FAILS: &str = "fails() { ! \"$@\"; }\n";

/// Runs a script of sh in a shell, each command of which must succeed, but for what comes after `fails`;
/// returns what it printed.
#[track_caller]
fn run(instance: &Instance, script: &str) -> String {
    let script = &format!("{FAILS}{script}");
    let output = instance.run(&["shell", "--", "sh", "-ec", script]);
    let said = String::from_utf8_lossy(&output.stderr);
    let printed = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{script}\n{printed}{said}");
    printed.into_owned()
}

/// A shell that has said a line, and waits for the end of its input.
struct Waits {
    shell: Child,
    out: ChildStdout,
}

impl Waits {
    /// Runs a script in a shell, up to where it has said a line.
    #[track_caller]
    fn run(instance: &Instance, script: &str) -> Waits {
        let mut shell = instance.command(&["shell", "--", "sh", "-ec", script]);
        let shell = shell.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut shell = shell.spawn().expect("it runs");
        let mut out = shell.stdout.take().expect("it is piped");
        out.read_exact(&mut [0]).expect("it has got so far");
        Waits { shell, out }
    }

    /// Lets it go on to its end, which must be a good one, and returns what else it has said.
    #[track_caller]
    fn end(mut self) -> String {
        drop(self.shell.stdin.take());
        let mut said = String::new();
        self.out.read_to_string(&mut said).expect("text");
        assert!(self.shell.wait().expect("it ends").success(), "{said}");
        said
    }
}

/// Makes files of this many MiB, and shows them as disks of these names.
fn disks(instance: &Instance, disks: &[(&str, u64)]) {
    let mut args = vec!["shell".to_owned()];
    for (name, mib) in disks {
        let path = instance.path(&format!("{name}.img"));
        std::fs::File::create(&path).and_then(|file| file.set_len(mib << 20)).expect("a file");
        args.extend(["--disk".to_owned(), text(&path).to_owned()]);
    }
    args.extend(["--", "true"].map(str::to_owned));
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    instance.dmsim(&args);
}

#[test]
fn dmsetup_sees_what_dmsim_does_and_the_reverse() {
    let Some(instance) = start(&["dmsetup", "mkfs.ext4"]) else { return };
    disks(&instance, &[("a", 64)]);
    let listed =
        run(&instance, "dmsetup ls; dmsetup table a; stat -Lc '%F %t:%T' /dev/mapper/control");
    assert!(listed.starts_with("a\t(259:"), "{listed}");
    assert!(listed.contains("0 131072 linear 7:4096 0\ncharacter special file a:ec\n"), "{listed}");
    run(
        &instance,
        "dmsetup create d --table \"0 65536 linear /dev/mapper/a 0\"
        test -b /dev/mapper/d
        blockdev --getsz /dev/mapper/d | grep -qx 65536
        mkfs.ext4 -q /dev/mapper/d
        mkdir -p /tmp/dmsim-shell-$$; mount /dev/mapper/d /tmp/dmsim-shell-$$
        echo kept > /tmp/dmsim-shell-$$/file
        fails dmsetup remove d 2>/dev/null
        umount /tmp/dmsim-shell-$$; rmdir /tmp/dmsim-shell-$$
        dmsetup suspend d; dmsetup load d --table '0 131072 linear /dev/mapper/a 0'; dmsetup resume d
        blockdev --getsz /dev/mapper/d | grep -qx 131072
        dmsetup rename d e; test -b /dev/mapper/e; test ! -e /dev/mapper/d",
    );
    assert_eq!(instance.dmsim(&["ls"]).lines().count(), 2);
    assert_eq!(instance.dmsim(&["table", "e"]), "0 131072 linear 253:0 0\n");
    assert!(!Path::new("/dev/mapper/e").exists(), "nobody outside sees it");
    run(&instance, "dmsetup remove e; test ! -e /dev/mapper/e; test $(dmsetup ls | wc -l) = 1");
    // One that dmsim makes is there at once.
    instance.dmsim(&["create", "f", "--table", "0 2048 zero"]);
    run(&instance, "test -b /dev/mapper/f; dmsetup info f | grep -q 'Open count:  *0'");
    instance.dmsim(&["remove", "f"]);
    run(&instance, "test ! -e /dev/mapper/f");
    instance.dmsim(&["stop"]);
}

#[test]
fn the_exit_status_is_that_of_the_command() {
    let Some(instance) = start(&[]) else { return };
    for (script, expected) in [("exit 0", 0), ("exit 7", 7)] {
        let output = instance.run(&["shell", "--", "sh", "-c", script]);
        assert_eq!(output.status.code(), Some(expected), "{output:?}");
    }
    let output = instance.run(&["shell", "--", "no-such-program"]);
    assert_eq!(output.status.code(), Some(127), "{output:?}");
}

#[test]
fn a_day_of_a_volume_group() {
    let Some(instance) = start(&["lvm", "mkfs.ext4", "resize2fs"]) else { return };
    disks(&instance, &[("a", 160), ("b", 128), ("c", 160)]);
    let said = run(
        &instance,
        "pvcreate -q /dev/mapper/a /dev/mapper/b /dev/mapper/c
        vgcreate -q vg /dev/mapper/a /dev/mapper/b
        lvcreate -q -n data -L 64M vg
        mkfs.ext4 -q /dev/vg/data
        m=$(mktemp -d); mount /dev/vg/data $m; echo first > $m/file
        lvextend -q -L 96M vg/data; blockdev --getsz /dev/vg/data
        umount $m; e2fsck -fp /dev/vg/data > /dev/null; resize2fs /dev/vg/data; mount /dev/vg/data $m
        lvcreate -q -s -n before -L 16M vg/data
        echo second > $m/file; sync
        s=$(mktemp -d); mount -o ro /dev/vg/before $s; cat $s/file; umount $s; rmdir $s
        umount $m
        lvconvert -q --merge vg/before
        lvs --noheadings -o lv_name vg
        mount /dev/vg/data $m; cat $m/file; umount $m
        lvcreate -q --type striped -i 2 -n fast -L 16M vg; mkfs.ext4 -q /dev/vg/fast
        lvcreate -q --type mirror --mirrorlog core -m 1 -n twice -L 8M vg
        vgextend -q vg /dev/mapper/c; lvremove -qy vg/fast vg/twice
        pvmove -q -i 1 /dev/mapper/a; vgreduce -q vg /dev/mapper/a
        lvrename -q vg data moved; mount /dev/vg/moved $m; cat $m/file; umount $m; rmdir $m
        e2fsck -fn /dev/vg/moved
        vgchange -q -an vg; vgchange -q -ay vg; vgremove -qfy vg; pvremove -q /dev/mapper/c",
    );
    println!("{said}");
    assert_eq!(said.matches("first").count(), 3, "{said}");
    assert_eq!(instance.dmsim(&["ls"]).lines().count(), 3);
    assert!(!Path::new("/dev/vg").exists(), "nobody outside sees it");
    instance.dmsim(&["stop"]);
}

#[test]
fn a_day_of_an_encrypted_volume() {
    let Some(instance) = start(&["cryptsetup", "mkfs.ext4"]) else { return };
    disks(&instance, &[("a", 64)]);
    run(
        &instance,
        "printf secret > /run/dmsim-key-$$
        luks() { cryptsetup -q --key-file /run/dmsim-key-$$ \"$@\"; }
        luks luksFormat --pbkdf pbkdf2 --pbkdf-force-iterations 1000 /dev/mapper/a
        luks open /dev/mapper/a plain
        mkfs.ext4 -q /dev/mapper/plain
        cryptsetup status plain | grep -q 'type:  *LUKS2'
        luks resize plain --size 40960; blockdev --getsz /dev/mapper/plain | grep -qx 40960
        luks resize plain
        m=$(mktemp -d); mount /dev/mapper/plain $m; echo kept > $m/file; umount $m
        sum=$(md5sum < /dev/mapper/plain)
        luks reencrypt --pbkdf pbkdf2 --pbkdf-force-iterations 1000 /dev/mapper/a
        test \"$sum\" = \"$(md5sum < /dev/mapper/plain)\"
        luks close plain
        fails test -e /dev/mapper/plain
        luks open /dev/mapper/a plain; mount /dev/mapper/plain $m; grep -qx kept $m/file
        umount $m; rmdir $m; luks close plain; rm /run/dmsim-key-$$",
    );
    // And dmsim opens it by itself.
    std::fs::write(instance.path("key"), "secret").expect("a file");
    instance.dmsim(&["remove", "a"]);
    instance.dmsim(&["open", "a.img", "own", "--key-file", "key"]);
    instance.dmsim(&["close", "own"]);
}

#[test]
fn partitions_are_mapped() {
    let Some(instance) = start(&["kpartx", "sfdisk"]) else { return };
    disks(&instance, &[("a", 64)]);
    let said = run(
        &instance,
        "printf 'start=2048,size=4096\\nstart=8192,size=8192\\n' | sfdisk -q --no-reread /dev/mapper/a
        kpartx -a /dev/mapper/a; dmsetup table; kpartx -d /dev/mapper/a",
    );
    assert!(said.contains("a1: 0 4096 linear 259:") && said.contains(" 8192\n"), "{said}");
    assert_eq!(instance.dmsim(&["ls"]).lines().count(), 1);
}

#[test]
fn who_has_a_node_open_is_counted() {
    let Some(instance) = start(&["dmsetup", "lvm", "mkfs.ext4"]) else { return };
    disks(&instance, &[("a", 64)]);
    let said = run(
        &instance,
        "open() { dmsetup info -c --noheadings -o open $1 3<&-; }
        open a; exec 3< /dev/mapper/a; open a; exec 3<&-; open a
        pvcreate -q /dev/mapper/a; vgcreate -q vg /dev/mapper/a; lvcreate -q -n data -L 8M vg; open a
        mkfs.ext4 -q /dev/vg/data; lvcreate -q -s -n before -L 4M vg/data
        m=$(mktemp -d); mount /dev/vg/data $m; open vg-data; unshare -m dmsetup info -c --noheadings -o open vg-data
        lvconvert -q --merge vg/before 2>&1; lvs --noheadings -o lv_device_open vg/data
        lvchange -q --refresh vg/data; dmsetup table vg-data | cut -d' ' -f3
        umount $m; rmdir $m; open vg-data
        lvchange -q -an vg/data; lvchange -q -ay --poll n vg/data; dmsetup table vg-data | cut -d' ' -f3
        vgremove -qfy vg",
    );
    let counts: Vec<&str> = said.lines().filter(|line| line.len() == 1).collect();
    assert_eq!(counts, ["0", "1", "0", "1", "1", "1", "0"], "{said}");
    // It waits for the unmount.
    assert!(said.contains(" open\n"), "{said}");
    let targets: Vec<&str> = said.lines().filter(|line| line.starts_with("snapshot-")).collect();
    assert_eq!(targets, ["snapshot-origin", "snapshot-merge"], "{said}");
    instance.dmsim(&["stop"]);
}

#[test]
fn a_loop_device_over_a_node_is_counted() {
    let Some(instance) = start(&["dmsetup", "losetup"]) else { return };
    disks(&instance, &[("a", 4)]);
    let said = run(
        &instance,
        "open() { dmsetup info -c --noheadings -o open a; }
        open; loop=$(losetup -f --show /dev/mapper/a); open; fails dmsetup remove a 2> /dev/null
        losetup -d $loop; open; dmsetup remove a",
    );
    assert_eq!(said, "0\n1\n0\n");
    instance.dmsim(&["stop"]);
}

/// As with the kernel: the test suite of file systems goes on with such pages.
#[test]
fn what_was_written_can_be_read_when_the_table_fails_everything() {
    let Some(instance) = start(&["dmsetup"]) else { return };
    disks(&instance, &[("a", 8)]);
    let said = run(
        &instance,
        "dmsetup create d --table '0 2048 linear /dev/mapper/a 0'
        exec 3<> /dev/mapper/d
        printf 'still here' | dd of=/dev/mapper/d bs=4096 conv=fsync,notrunc status=none
        dmsetup load d --table '0 2048 error'; dmsetup suspend d; dmsetup resume d
        dd if=/dev/mapper/d bs=10 count=1 status=none
        fails dd if=/dev/mapper/d bs=4096 skip=100 count=1 status=none
        exec 3>&-; dmsetup remove d",
    );
    assert_eq!(said, "still here");
    instance.dmsim(&["stop"]);
}

/// A program that opens a node and asks at once, as cryptsetup's library does to see whether a device is
/// in use, is told of it, whatever it has been told a moment ago.
#[test]
fn who_opens_a_node_and_asks_at_once_is_counted() {
    let Some(instance) = start(&["perl"]) else { return };
    disks(&instance, &[("a", 64)]);
    let program = r#"
        open(F, "+<", "/dev/mapper/control") or die;
        sub count {
            my $call = pack("L10 Q a128 a129 x7", 4, 0, 0, 512, 312, 0, 0, 0, 0, 0, 0, "a", "");
            $call .= "\0" x 200;
            ioctl(F, 0xc138fd07, $call) or die;
            return unpack("x24 L", $call);
        }
        for (1..50) {
            print count(), count();
            open(my $node, "<", "/dev/mapper/a") or die;
            print count();
            open(my $other, "<", "/dev/mapper/a") or die;
            print count(), count();
            close($node); close($other);
            print count(), "\n";
        }"#;
    let said = instance.dmsim(&["shell", "--", "perl", "-e", program]);
    assert_eq!(said, "001220\n".repeat(50));
    instance.dmsim(&["stop"]);
}

/// The crate by which Stratis uses device-mapper, in `examples/devicemapper-day`, which is built by who
/// runs the tests and names the program: it needs headers that few have.
#[test]
fn a_day_of_the_devicemapper_crate() {
    let Some(program) = std::env::var_os("DMSIM_DEVICEMAPPER_DAY") else {
        println!("skipped: DMSIM_DEVICEMAPPER_DAY does not name the example's program");
        return;
    };
    let Some(instance) = start(&[]) else { return };
    disks(&instance, &[("disk", 16)]);
    let program = std::path::absolute(program).expect("a path");
    let said = instance.dmsim(&["shell", "--", text(&program), "/dev/mapper/disk"]);
    let expected = "interface (4, 48, 0)\n2048 sectors, 2 devices\n6144 sectors by its node\n\
        0 2048 linear; 2048 4096 linear\nover the disk alone: true\nsuspended: true\n\
        same device: true\nday: false, evening: true\nin use it stays: true\n1 devices\n";
    assert_eq!(said, expected);
    let image = std::fs::read(instance.path("disk.img")).expect("a file");
    assert!(image.starts_with(b"the first day"));
    instance.dmsim(&["stop"]);
}

#[test]
fn a_node_is_as_long_as_its_device_when_a_reshape_has_made_that_longer() {
    let Some(instance) = start(&["dmsetup"]) else { return };
    disks(&instance, &[("a", 16)]);
    let said = run(
        &instance,
        "for n in 0 1 2 3; do
            dmsetup create m$n --table \"0 128 linear /dev/mapper/a $((n * 4096))\"
            dmsetup create d$n --table \"0 1024 linear /dev/mapper/a $((n * 4096 + 2112))\"
        done
        legs() { for n; do printf ' %s' /dev/mapper/m$n /dev/mapper/d$n; done; }
        dmsetup create r --table \"0 2048 raid raid5_ls 3 8 region_size 64 3$(legs 0 1 2)\"
        while ! dmsetup status r | grep -q idle; do sleep 0.01; done
        dmsetup remove r
        for n in 0 1 2 3; do
            dmsetup load d$n --table \"0 1088 linear /dev/mapper/a $((n * 4096 + 2048))\"; dmsetup resume d$n
        done
        dmsetup create r --table \"0 2048 raid raid5_ls 3 8 region_size 64 3$(legs 0 1 2)\"
        exec 3< /dev/mapper/r; blockdev --getsz /dev/mapper/r
        for asks in '7 8 region_size 64 delta_disks 1 data_offset 64' '3 8 region_size 64'; do
            dmsetup load r --table \"0 3072 raid raid5_ls $asks 4$(legs 0 1 2 3)\"; dmsetup resume r
        done
        for n in $(seq 1000); do
            test $(cat /sys/dev/block/$(dmsetup info -c --noheadings -o devno r)/size) != 3072 || break; sleep 0.01
        done
        blockdev --getsz /dev/mapper/r; cat /sys/dev/block/$(dmsetup info -c --noheadings -o devno r)/size
        exec 3<&-; dmsetup remove r",
    );
    assert_eq!(said, "2048\n3072\n3072\n");
}

#[test]
fn the_files_are_kept_true_beside_the_nodes() {
    let Some(instance) = start(&["python3"]) else { return };
    disks(&instance, &[("a", 1), ("b", 1)]);
    std::fs::write(instance.path("b.img"), [7; 1 << 20]).expect("a file");
    instance.dmsim(&["create", "d", "--table", "0 2048 linear 253:0 0"]);
    let maps = "import mmap, sys
file = open(sys.argv[1], 'rb')
pages = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
print(pages[8192], flush=True)
input()
print(pages[8192])";
    let mut python = std::process::Command::new("python3");
    python.args(["-c", maps, text(&instance.device("d"))]);
    python.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut python = python.spawn().expect("it runs");
    let out = python.stdout.take().expect("it is piped");
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(out));
    let mut line = || lines.next().expect("a line").expect("a text");
    assert_eq!(line(), "0");
    instance.dmsim(&["load", "d", "--table", "0 2048 linear 253:1 0"]);
    instance.dmsim(&["resume", "d"]);
    // The pages that the kernel had of it are forgotten.
    std::io::Write::write_all(&mut python.stdin.take().expect("it is piped"), b"\n").expect("read");
    assert_eq!(line(), "7");
    python.wait().expect("it ends");
}

#[test]
fn what_is_in_use_is_not_taken_away() {
    let Some(instance) = start(&["mkfs.ext4"]) else { return };
    disks(&instance, &[("a", 64)]);
    let holds = Waits::run(&instance, "exec 3< /dev/mapper/a; echo; read x || true");
    let said = instance.refused(&["remove", "a"]);
    assert!(said.contains("in use by whoever has its block node open"), "{said}");
    let said = instance.refused(&["stop"]);
    assert!(said.contains("`a`"), "{said}");
    // Whoever has the file itself open is in the way too, and then nothing of the shell's is gone.
    let file = std::fs::File::open(instance.device("a")).expect("a file");
    let said = instance.refused(&["stop"]);
    assert!(said.contains("in use by"), "{said}");
    assert!(!said.contains("loop"), "{said}");
    drop(file);
    // As before.
    run(&instance, "head -c 4096 /dev/mapper/a > /dev/null");
    holds.end();
    instance.dmsim(&["remove", "a"]);
    instance.dmsim(&["stop"]);
}

#[test]
fn nodes_of_an_instance_that_is_read_only_take_no_writes() {
    let Some(instance) = start(&["dmsetup", "blockdev"]) else { return };
    drop(instance);
    let folder = tempfile::tempdir().expect("a temporary folder");
    let instance = Instance::start_in(folder, &["--read-only"]);
    let said = run(
        &instance,
        "dmsetup create z --table '0 8 zero'; blockdev --getro /dev/mapper/z
        fails dd if=/dev/zero of=/dev/mapper/z bs=4096 count=1 conv=fsync 2> /dev/null
        head -c 4096 /dev/mapper/z | wc -c",
    );
    assert_eq!(said, "1\n4096\n");
    instance.dmsim(&["stop"]);
}

#[test]
fn a_daemon_that_is_killed_takes_its_nodes_along() {
    if ublk::is_instead_of_loops() {
        return;
    }
    let Some(instance) = start(&["losetup", "mkfs.ext4"]) else { return };
    disks(&instance, &[("a", 64)]);
    let ours = |dir: &Path| {
        let loops = harness::sh("losetup", &["--list", "--noheadings", "--output", "BACK-FILE"]);
        loops.lines().filter(|file| file.contains(text(dir))).count()
    };
    run(&instance, "mkfs.ext4 -q /dev/mapper/a");
    let dir = instance.path("");
    assert_eq!(ours(&dir), 1);
    let dir = instance.crash();
    wait_until("its loop devices are gone", || ours(dir.path()) == 0);
    let mounts = || std::fs::read_to_string("/proc/self/mounts").expect("mounts");
    let private = format!("{}/run/private", text(dir.path()));
    assert!(mounts().contains(&private), "it is left behind");
    let instance = Instance::start_in(dir, &[]);
    assert!(!mounts().contains(&private), "the next daemon takes it away");
    instance.dmsim(&["restore"]);
    run(&instance, "e2fsck -fn /dev/mapper/a > /dev/null");
}

#[test]
fn volumes_have_their_links_again_after_a_restore() {
    let Some(instance) = start(&["lvm", "mkfs.ext4"]) else { return };
    disks(&instance, &[("a", 64), ("b", 64)]);
    run(
        &instance,
        "vgcreate -q v-g /dev/mapper/a /dev/mapper/b; lvcreate -qn l-v -L 8M -Wn v-g
        lvcreate -qn twice --type mirror --mirrorlog core -m 1 -L 8M -Wn v-g; mkfs.ext4 -q /dev/v-g/l-v
        lvcreate -qsn before -L 4M v-g/l-v",
    );
    let before = run(&instance, "ls /dev/v-g");
    assert_eq!(before, "before\nl-v\ntwice\n");
    let said = instance.run(&["stop"]);
    let told = String::from_utf8_lossy(&said.stderr);
    assert!(
        told.contains("devices went with the daemon") && told.contains("`dmsim restore`"),
        "{told}"
    );
    let dir = instance.crash();
    let instance = Instance::start_in(dir, &[]);
    // Before the first shell, and in one.
    let holds = Waits::run(
        &instance,
        "echo; read x || true; ls /dev/v-g; e2fsck -fn /dev/v-g/l-v > /dev/null",
    );
    instance.dmsim(&["restore"]);
    assert_eq!(holds.end(), before);
    instance.dmsim(&["stop"]);
    let instance = Instance::start_in(instance.crash(), &[]);
    instance.dmsim(&["restore"]);
    assert_eq!(run(&instance, "ls /dev/v-g; test -b /dev/v-g/l-v"), before);
    run(&instance, "vgremove -qfy v-g; test ! -e /dev/v-g");
    instance.dmsim(&["remove", "a"]);
    instance.dmsim(&["remove", "b"]);
    assert!(instance.run(&["stop"]).stderr.is_empty(), "nothing went");
}

#[test]
fn what_a_stranger_wants_to_know_is_said() {
    let Some(instance) = start(&[]) else { return };
    let mut shell = instance.command(&["shell"]);
    let output = shell.env("SHELL", "/bin/true").output().expect("it runs");
    let said = String::from_utf8_lossy(&output.stdout);
    let kmsg = instance.path("run/kmsg");
    assert!(
        said.contains(&format!("why a table is refused stands in {}\n", text(&kmsg))),
        "{said}"
    );
    instance.dmsim(&["stop"]);
    let said = instance.refused(&["ls"]);
    assert!(said.contains("`create` and `shell` start one"), "{said}");
}
