//! Programs that make of the tree of a shell what it should not be: nobody follows it, and the next shell has all.

use std::fs;
use std::path::Path;

use crate::harness::{Instance, text, wait_until};
use crate::inside::{Container, contained};
use crate::{run, start};

/// Parts that are mounted for shells, or in which something is made for them.
const PARTS: [&str; 15] = [
    "dev",
    "dev/mapper",
    "dev/pts",
    "dev/shm",
    "dev/null",
    "sys-dev-block",
    "sys-block",
    "sys-devices",
    "proc-devices",
    "lvm",
    "lvm/lvm.conf",
    "lvm/lvm.conf.new",
    "lvm-lock",
    "run",
    "run/udev",
];

/// What says that all is there.
const THERE: &str = "test -c /dev/mapper/control; test -b /dev/mapper/a; test -c /dev/null; test -c /dev/pts/ptmx
    dmsetup ls | grep -q '^a'; test \"$(cat /sys/block/dm-*/dm/name)\" = a; grep -q device-mapper /proc/devices
    test -d /run/lvm; test ! -e /run/udev/control";

/// A folder that is nobody's business, with the names of all that is in a tree.
fn victim(instance: &Instance) -> impl Fn(&str) {
    let victim = instance.path("victim");
    fs::create_dir(&victim).expect("room for it");
    for part in PARTS {
        for name in Path::new(part) {
            fs::write(victim.join(name), "precious").expect("room for it");
        }
    }
    let all = move || {
        let mut all: Vec<(String, String)> = fs::read_dir(&victim)
            .expect("it is there")
            .map(|entry| {
                let path = entry.expect("it is there").path();
                (text(&path).to_owned(), fs::read_to_string(&path).unwrap_or_default())
            })
            .collect();
        all.sort();
        all
    };
    let before = all();
    move |after: &str| assert_eq!(all(), before, "{after}")
}

#[test]
fn what_a_container_makes_of_the_tree_is_followed_by_no_later_shell() {
    let Some((instance, container)) = contained() else { return };
    let is_untouched = victim(&instance);
    let (pid, private) = (container.pid(), instance.path("run/private"));
    let enter = |script: &str, what: &str| {
        let there = "dmsetup ls | grep -q '^a'; test -f $LVM_SYSTEM_DIR/lvm.conf";
        let script = format!("{there}\n{script}");
        let output = instance.run(&["shell", "--enter", &pid, "--", "sh", "-ec", &script]);
        assert!(output.status.success(), "{what}: {output:?}");
    };
    let others = ["ln -s $victim/dev $part", "mkdir -p $part/d/d", "mkfifo $part"];
    for (part, other) in PARTS.iter().zip(others.iter().cycle()) {
        for makes in ["ln -s $victim $part", other] {
            // The daemon makes some of it again at once: what takes its place is made before.
            let script = format!(
                "cd {}; victim={}; rm -rf .made* .gone*; part=.made; {makes}; mkdir -p $(dirname {part}); n=0
                 until mv -T .made {part} 2> /dev/null; do n=$((n + 1)); mv -T {part} .gone$n; done",
                text(&private),
                text(&instance.path("victim"))
            );
            let what = format!("{part}: {makes}");
            enter(&script, &what);
            run(&instance, THERE);
            is_untouched(&what);
        }
    }
    enter("true", "the last one");
    drop(container);
    instance.dmsim(&["stop"]);
    is_untouched("stop");
}

/// What was put into a container is written down outside of the tree that the container has.
#[test]
fn what_a_container_makes_of_the_notes_is_followed_by_no_later_shell() {
    let Some((instance, container)) = contained() else { return };
    let is_untouched = victim(&instance);
    let pid = container.pid();
    let script = format!(
        "cd {}; n=$(readlink /proc/self/ns/mnt | tr -dc 0-9); rm -f inside-$n; ln -s {} inside-$n",
        text(&instance.path("run/private")),
        text(&instance.path("victim/dev"))
    );
    for script in [&*script, "dmsetup ls"] {
        let output = instance.run(&["shell", "--enter", &pid, "--", "sh", "-ec", script]);
        assert!(output.status.success(), "{output:?}");
    }
    is_untouched("a note");
    let left: Vec<_> = fs::read_dir(instance.path("run/lvm"))
        .expect("it is there")
        .map(|entry| entry.expect("it is there").file_name())
        .filter(|name| name.to_str().is_some_and(|name| name.starts_with("inside-")))
        .collect();
    assert!(left.is_empty(), "a shell that has ended leaves no note: {left:?}");
    drop(container);
    instance.dmsim(&["stop"]);
}

#[test]
fn a_shell_after_one_that_removed_the_control_node_has_it_again() {
    let Some(instance) = start(&["dmsetup"]) else { return };
    crate::disks(&instance, &[("a", 4)]);
    run(&instance, "rm -rf /dev/mapper /dev/null /dev/dm-*");
    run(&instance, THERE);
    // What libdevmapper makes where it finds none: that of the machine.
    run(&instance, "rm /dev/mapper/control; mknod /dev/mapper/control c 10 236");
    run(&instance, THERE);
    // Others look at all loop devices of the machine, and have this one's open for a moment.
    wait_until("it stops", || instance.run(&["stop"]).status.success());
}

#[test]
fn a_shell_without_the_control_node_is_refused() {
    let Some((instance, container)) = contained() else { return };
    let private = instance.path("run/private");
    let script = format!("cd {}; umount -l node; rmdir node; mkdir node", text(&private));
    let output = instance.run(&["shell", "--enter", &container.pid(), "--", "sh", "-ec", &script]);
    assert!(output.status.success(), "{output:?}");
    let said = instance.refused(&["shell", "--", "true"]);
    let why = "/dev/mapper/control: is not the control node of this instance";
    assert!(said.contains(why) && said.contains("`dmsim stop --force`"), "{said}");
    let said = instance.refused(&["shell", "--enter", &container.pid(), "--", "true"]);
    assert!(said.contains(why), "{said}");
    instance.dmsim(&["stop", "--force"]);
    let instance = Instance::start_in(instance.crash(), &[]);
    instance.dmsim(&["restore"]);
    run(&instance, "dmsetup ls; test -c /dev/mapper/control");
    drop(Container::start(&instance));
    instance.dmsim(&["stop"]);
}
