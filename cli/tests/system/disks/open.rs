//! Whole stacks, made by the tools that people make them with, opened by one command.

use serde_json::Value;

use super::{MIB, can_make_groups, empty, in_shell};
use crate::harness::{Instance, can_mount, has, read_at, sh, text, wait_until, write_at};

/// Makes a disk with an ESP, an empty partition, and one with LUKS2 and LVM2 in it: a file system, swap, a
/// snapshot. Returns it and the file of the passphrase.
fn whole_disk(instance: &Instance) -> [std::path::PathBuf; 2] {
    let [disk, crypt, key] = ["disk.img", "crypt.img", "key"].map(|name| instance.path(name));
    empty(&disk, 160 * MIB);
    let table = "label: gpt\nsize=32M,type=U\nsize=8M\nsize=112M\n";
    std::fs::write(&key, table).expect("room for it");
    sh("sh", &["-ec", &format!("sfdisk -q {} <{}", text(&disk), text(&key))]);
    sh("mkfs.vfat", &["-n", "ESP", "--offset", "2048", text(&disk), "32768"]);
    std::fs::write(&key, "secret").expect("room for it");
    empty(&crypt, 112 * MIB);
    let quick = ["--pbkdf", "pbkdf2", "--pbkdf-force-iterations", "1000"];
    sh("cryptsetup", &[&["luksFormat", "-q"], &quick[..], &[text(&crypt), text(&key)]].concat());
    instance.dmsim(&["open", "--key-file", text(&key), text(&crypt), "inner"]);
    in_shell(
        instance,
        "exec 2>&1; lvm pvcreate -q /dev/mapper/inner; lvm vgcreate -q my-vg /dev/mapper/inner; \
         lvm lvcreate -q -y -L 32m -n root my-vg; lvm lvcreate -q -y -L 16m -n swap my-vg; \
         mkfs.ext4 -q -L rootfs /dev/my-vg/root; lvm lvcreate -q -y -s -L 16m -n snap my-vg/root; \
         mkswap -q -L swp /dev/my-vg/swap; lvm vgchange -q -an my-vg",
    );
    instance.dmsim(&["close", "inner"]);
    let bytes = std::fs::read(&crypt).expect("an image");
    // Behind the ESP and the empty one, which begin at 1 MiB.
    write_at(&disk, 41 * MIB, &bytes).expect("room for it");
    [disk, key]
}

#[test]
fn a_disk_with_partitions_luks_and_lvm_is_one_command_to_its_file_systems() {
    if !can_make_groups() || !has(&["sfdisk", "cryptsetup", "mkfs.vfat", "e2fsck", "debugfs"]) {
        return;
    }
    let instance = Instance::start();
    let [disk, key] = whole_disk(&instance);
    let (image, key) = (text(&disk), text(&key));
    let shown = instance.dmsim(&["open", "--key-file", key, image]);
    let words: Vec<Vec<&str>> =
        shown.lines().map(|line| line.split_whitespace().collect()).collect();
    let mapper = instance.path("run/mapper");
    let row = |name: &str, rest: &[&str]| {
        [
            &[mapper.join(name).to_str().expect("text").to_owned()][..],
            &rest.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>(),
        ]
        .concat()
    };
    assert_eq!(
        words,
        [
            row("disk1", &["vfat", "32", "MiB", "ESP"]),
            row("disk2", &["-", "8", "MiB"]),
            row("my--vg-swap", &["swap", "16", "MiB", "swp"]),
            // A snapshot is made before what it is of: without it, that one is not written.
            row("my--vg-snap", &["ext4", "32", "MiB", "rootfs"]),
            row("my--vg-root", &["ext4", "32", "MiB", "rootfs"]),
        ]
    );
    // It is sound, can be written, and the snapshot stays as it was.
    let (root, snap) = (mapper.join("my--vg-root"), mapper.join("my--vg-snap"));
    let before = std::fs::read(&snap).expect("a device");
    sh("e2fsck", &["-fn", text(&root)]);
    let source = instance.path("key");
    sh("debugfs", &["-w", "-R", &format!("write {} file", text(&source)), text(&root)]);
    sh("e2fsck", &["-fn", text(&root)]);
    assert_eq!(std::fs::read(&snap).expect("a device"), before);
    assert_ne!(std::fs::read(&root).expect("a device"), before);
    // Closed as one, by the name of the image too; a device of it alone is not.
    let told = instance.refused(&["close", "my--vg-swap"]);
    assert!(told.contains("`dmsim close disk` closes all of it"), "{told}");
    let told = instance.refused(&["open", "--key-file", key, image]);
    assert!(told.contains("`dmsim close disk` closes it"), "{told}");
    let held = std::fs::File::open(&root).expect("a device");
    let told = instance.refused(&["close", "disk"]);
    assert!(
        told.contains("my--vg-root is in use by") && told.contains("Nothing was closed"),
        "{told}"
    );
    drop(held);
    instance.dmsim(&["close", image]);
    assert_eq!(instance.dmsim(&["ls"]).trim(), "No devices found");
    // What was written is there.
    instance.dmsim(&["open", "--read-only", "--key-file", key, "--name", "x", image]);
    let said = sh("debugfs", &["-R", "cat file", text(&root)]);
    assert_eq!(said, "secret");
    write_at(&root, 0, b"no").expect_err("it is read-only");
    instance.dmsim(&["close", "x"]);
}

#[test]
fn a_key_that_does_not_fit_leaves_nothing_behind_and_the_rest_can_be_had() {
    if !can_make_groups() || !has(&["sfdisk", "cryptsetup", "mkfs.vfat"]) {
        return;
    }
    let instance = Instance::start();
    let [disk, key] = whole_disk(&instance);
    let wrong = instance.path("wrong");
    std::fs::write(&wrong, "wrong").expect("room for it");
    let (image, wrong) = (text(&disk), text(&wrong));
    let output = instance.run(&["open", "--key-file", wrong, image]);
    assert_eq!(output.status.code(), Some(3), "{output:?}");
    assert_eq!(instance.dmsim(&["ls"]).trim(), "No devices found", "{output:?}");
    let output = instance.run(&["open", "--leave-locked", "--key-file", wrong, "--json", image]);
    assert_eq!(output.status.code(), Some(11), "{output:?}");
    let opened: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(opened["not_opened"][0]["name"], "disk3");
    assert_eq!(opened["devices"][2]["type"], "crypto_LUKS");
    instance.dmsim(&["close", "disk"]);
    // One partition, and what is in it; tables without any device.
    let key = text(&key);
    let shown = instance.dmsim(&["open", "--partition", "3", "--key-file", key, image]);
    assert!(!shown.contains("disk1") && shown.contains("my--vg-root"), "{shown}");
    instance.dmsim(&["close", "disk"]);
    let planned = instance.dmsim(&["open", "--plan", "--key-file", key, image]);
    assert!(planned.starts_with(&format!("disk1: 0 65536 linear {image} 2048\n")), "{planned}");
    assert!(
        planned.contains("my--vg-root: 0 65536 snapshot-origin /dev/mapper/my--vg-root-real\n")
    );
    assert_eq!(instance.dmsim(&["ls"]).trim(), "No devices found");
    let hidden = planned.lines().find(|line| line.contains(" crypt ")).expect("a line");
    assert!(hidden.contains(" xxxxxxxx"), "{hidden}");
}

#[test]
fn a_group_that_lacks_an_image_gives_what_is_left_read_only() {
    if !can_make_groups() {
        return;
    }
    let instance = Instance::start();
    let images: Vec<String> = (1..=3)
        .map(|nr| {
            let path = instance.path(&format!("{nr}.img"));
            empty(&path, 16 * MIB);
            instance.create(&format!("pv{nr}"), &format!("0 32768 linear {} 0", text(&path)));
            text(&path).to_owned()
        })
        .collect();
    in_shell(
        &instance,
        "exec 2>&1; cd /dev/mapper; lvm vgcreate -q -s 1m g /dev/mapper/pv1 /dev/mapper/pv2 /dev/mapper/pv3; \
         lvm lvcreate -q -y -Zn -Wn -l 4 -n on1 g /dev/mapper/pv1; \
         lvm lvcreate -q -y -Zn -Wn -l 4 -n both g /dev/mapper/pv1; \
         lvm lvextend -q -l +4 g/both /dev/mapper/pv2; lvm vgchange -q -an g",
    );
    for nr in 1..=3 {
        instance.dmsim(&["remove", &format!("pv{nr}")]);
    }
    // pv1 and pv3 alone.
    let output = instance.run(&["open", &images[0], &images[2], "--name", "part"]);
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        output.status.success() && told.contains("last seen as /dev/mapper/pv2 is missing"),
        "{told}"
    );
    let both = instance.path("run/mapper/g-both");
    assert_eq!(read_at(&both, 0, 4096).expect("the first half").len(), 4096);
    read_at(&both, 4 * MIB, 4096).expect_err("the second half is lost");
    write_at(&both, 0, b"x").expect_err("it is read-only");
    instance.dmsim(&["close", "part"]);
    // One by one, as a group is never two.
    let all =
        [&["open", "--name", "all"][..], &images.iter().map(String::as_str).collect::<Vec<_>>()]
            .concat();
    let shown = instance.dmsim(&all);
    assert!(shown.contains("g-on1") && !shown.contains("read-only"), "{shown}");
    instance.dmsim(&["close", "all"]);
}

#[test]
fn logical_partitions_bare_names_and_words_that_are_no_names() {
    if !can_mount() || !has(&["sfdisk", "mkfs.ext4", "qemu-img"]) {
        return;
    }
    let instance = Instance::start();
    let disk = instance.path("1.img");
    empty(&disk, 64 * MIB);
    let logical = "size=4M\n".repeat(6);
    let table = format!("label: dos\nsize=2M\nsize=2M\nsize=2M\nsize=48M,type=5\n{logical}");
    std::fs::write(instance.path("table"), table).expect("room for it");
    let table = instance.path("table");
    sh("sh", &["-ec", &format!("sfdisk -q {} <{}", text(&disk), text(&table))]);
    let shown = instance.dmsim(&["open", text(&disk)]);
    let names: Vec<&str> =
        shown.lines().filter_map(|line| line.split(' ').next()?.rsplit('/').next()).collect();
    assert_eq!(names, ["1p1", "1p2", "1p3", "1p5", "1p6", "1p7", "1p8", "1p9", "1p10"]);
    // A file system in one of them, looked at by its bare name.
    sh("mkfs.ext4", &["-q", "-L", "inside", text(&instance.path("run/mapper/1p5"))]);
    let shown = instance.dmsim(&["dump", "1p5"]);
    assert!(shown.contains("ext4") && shown.contains("inside"), "{shown}");
    let output = instance.run(&["open", "1p6", "--name", "again"]);
    assert_eq!(output.status.code(), Some(4), "a device was found, and nothing in it: {output:?}");
    instance.dmsim(&["close", "1"]);
    // Of two words the second is a name, unless it is or looks like a file.
    let told = instance.refused(&["open", text(&disk), "not-there.img"]);
    assert!(told.contains("not-there.img: no such file; where a name is meant, --name"), "{told}");
    let output = instance.run(&["open", text(&disk), "./not/there"]);
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{told}");
    assert!(told.contains("no such file; and a name has no"), "{told}");
    let told = instance.refused(&["open", text(&instance.path("nothing"))]);
    assert!(told.contains("No such file"), "{told}");
    // What is not raw is named, with the command that makes it so.
    let qcow = instance.path("a.qcow2");
    sh("qemu-img", &["create", "-q", "-f", "qcow2", text(&qcow), "8M"]);
    let output = instance.run(&["open", text(&qcow)]);
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(4), "{told}");
    assert!(told.contains("qcow2") && told.contains("qemu-img convert"), "{told}");
}

#[test]
fn a_set_over_two_images_goes_with_its_legs() {
    if !can_mount() || !has(&["mkfs.ext4"]) {
        return;
    }
    let instance = Instance::start();
    let [one, two] = ["1.img", "2.img"].map(|name| instance.path(name));
    let (one, two) = (text(&one), text(&two));
    instance.dmsim(&["raid", "create", "raid1", one, two, "r", "--size", "8M"]);
    sh("mkfs.ext4", &["-q", "-L", "inside", text(&instance.path("run/mapper/r"))]);
    instance.dmsim(&["raid", "remove", "r"]);
    let shown = instance.dmsim(&["open", "--name", "set", one, two]);
    assert!(shown.contains("ext4") && shown.contains("inside"), "{shown}");
    instance.dmsim(&["close", "set"]);
    assert_eq!(instance.dmsim(&["ls"]).trim(), "No devices found");
}

#[test]
fn a_stack_over_a_device_is_read_only_where_asked_and_its_record_harms_no_device() {
    if !can_mount() || !has(&["mkfs.ext4", "cryptsetup"]) {
        return;
    }
    let instance = Instance::start();
    let image = instance.image("a.img", "/dev/sda", 8 * MIB);
    let below = instance.create("below", "0 16384 linear /dev/sda 0");
    sh("mkfs.ext4", &["-q", text(&below)]);
    instance.dmsim(&["open", "--read-only", "--name", "look", "below"]);
    write_at(&instance.path("run/mapper/look"), 0, b"no").expect_err("it is read-only");
    // An image that was attached under another name is known by its file.
    instance.dmsim(&["close", "look"]);
    instance.dmsim(&["remove", "below"]);
    instance.dmsim(&["open", "--name", "x", "/dev/sda"]);
    instance.dmsim(&["close", text(&image)]);
    // A record whose device was removed by hand is nothing to another device of that name.
    instance.dmsim(&["open", "--name", "x", "/dev/sda"]);
    instance.dmsim(&["remove", "x"]);
    let crypt = instance.path("crypt.img");
    empty(&crypt, 20 * MIB);
    let key = instance.path("key");
    std::fs::write(&key, "secret").expect("room for it");
    let quick = ["--pbkdf", "pbkdf2", "--pbkdf-force-iterations", "1000"];
    sh("cryptsetup", &[&["luksFormat", "-q"], &quick[..], &[text(&crypt), text(&key)]].concat());
    instance.dmsim(&["open", "--key-file", text(&key), text(&crypt), "x"]);
    instance.dmsim(&["close", "x"]);
    assert_eq!(instance.dmsim(&["ls"]).trim(), "No devices found");
    // To try a passphrase makes no device, whatever else is said.
    for (more, is_one) in
        [(&["--name", "y"][..], true), (&["y"], true), (&["a.img"], false), (&["a", "b"], false)]
    {
        let words = ["open", "--test-passphrase", "--key-file", text(&key), text(&crypt)];
        let output = instance.run(&[&words[..], more].concat());
        assert_eq!(output.status.success(), is_one, "{more:?}: {output:?}");
    }
    assert_eq!(instance.dmsim(&["ls"]).trim(), "No devices found");
}

/// Waits for a key that never comes, and is told to end.
#[test]
fn a_signal_while_a_passphrase_is_asked_for_leaves_nothing_behind() {
    if !can_mount() || !has(&["cryptsetup", "sfdisk"]) {
        return;
    }
    let instance = Instance::start();
    let [disk, key] = ["disk.img", "key"].map(|name| instance.path(name));
    std::fs::write(&key, "secret").expect("room for it");
    empty(&disk, 40 * MIB);
    let make = format!("printf 'label: gpt\\nsize=1M\\nsize=20M\\n' | sfdisk -q {}", text(&disk));
    sh("sh", &["-ec", &make]);
    let crypt = instance.path("crypt.img");
    empty(&crypt, 20 * MIB);
    let quick = ["--pbkdf", "pbkdf2", "--pbkdf-force-iterations", "1000"];
    sh("cryptsetup", &[&["luksFormat", "-q"], &quick[..], &[text(&crypt), text(&key)]].concat());
    write_at(&disk, 2 * MIB, &std::fs::read(&crypt).expect("an image")).expect("room for it");
    for more in [&["--plan"][..], &[]] {
        let temporary = tempfile::tempdir().expect("a temporary folder");
        let mut command = instance.command(&[&["open", text(&disk)], more].concat());
        command.env("TMPDIR", temporary.path()).stdin(std::process::Stdio::piped());
        let output = (std::process::Stdio::piped(), std::process::Stdio::piped());
        let mut child = command.stdout(output.0).stderr(output.1).spawn().expect("dmsim runs");
        // Its input is open, and nothing comes.
        let _input = child.stdin.take();
        // The partitions are there, and the container is asked about.
        let mapper = match more {
            [] => instance.path("run/mapper"),
            _ => {
                let made = || std::fs::read_dir(temporary.path()).expect("a folder").next();
                wait_until("an instance is made", || made().is_some());
                made().expect("it is there").expect("an entry").path().join("mapper")
            }
        };
        wait_until("the partitions are there", || mapper.join("disk2").exists());
        std::thread::sleep(std::time::Duration::from_millis(300));
        let pid = rustix::process::Pid::from_child(&child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("it runs");
        let output = child.wait_with_output().expect("it ends");
        assert_eq!(output.status.code(), Some(130), "{output:?}");
        assert_eq!(instance.dmsim(&["ls"]).trim(), "No devices found");
        let left = std::fs::read_dir(temporary.path()).expect("a folder").count();
        assert_eq!(left, 0, "of the instance something is left");
    }
}
