//! Commands on one set that run beside one another.

use std::path::Path;
use std::process::{Child, Output, Stdio};

use super::{MIB, create, is_right, json, states};
use crate::harness::{Instance, text, wait_until};

fn spawn(instance: &Instance, args: &[&str]) -> Child {
    let mut command = instance.command(args);
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("dmsim runs")
}

fn ended(child: Child) -> (bool, String) {
    let Output { status, stderr, .. } = child.wait_with_output().expect("it ends");
    (status.success(), String::from_utf8_lossy(&stderr).into_owned())
}

fn sparse(path: &Path, bytes: u64) {
    std::fs::File::create(path).expect("a new file").set_len(bytes).expect("it is sparse");
}

#[test]
fn of_many_that_make_a_set_one_does_and_no_other_takes_anything_away_or_says_so() {
    let instance = Instance::start();
    let make = ["raid", "create", "raid5", "a.img", "b.img", "c.img", "r", "--size", "9M"];
    let other = ["raid", "create", "raid1", "a.img", "b.img", "s", "--force"];
    let children: Vec<Child> =
        (0..4).flat_map(|_| [spawn(&instance, &make), spawn(&instance, &other)]).collect();
    let ends: Vec<(bool, String)> = children.into_iter().map(ended).collect();
    let made = ends.iter().filter(|(is_good, _)| *is_good).count();
    assert_eq!(made, 1, "{ends:?}");
    for (_, told) in ends.iter().filter(|(is_good, _)| !is_good) {
        assert!(!told.contains("remove") && !told.contains("undoing"), "{told}");
    }
    if instance.dmsim(&["ls"]).contains("s\t") {
        instance.dmsim(&["raid", "remove", "s"]);
        instance.dmsim(&[&make[..], &["--force"]].concat());
    }
    instance.dmsim(&["wait", "--sync", "r"]);
    is_right(&instance);
    sparse(&instance.path("d.img"), 9 * MIB);
    let grow = ["raid", "grow", "r", "d.img"];
    let children: Vec<Child> = (0..4).map(|_| spawn(&instance, &grow)).collect();
    let ends: Vec<(bool, String)> = children.into_iter().map(ended).collect();
    assert_eq!(ends.iter().filter(|(is_good, _)| *is_good).count(), 1, "{ends:?}");
    assert!(ends.iter().all(|(_, told)| !told.contains("remove")), "{ends:?}");
    assert_eq!(states(&instance), ["in_sync"; 4]);
    is_right(&instance);
}

#[test]
fn a_replacement_whose_set_is_removed_says_what_is_left() {
    let instance = Instance::start();
    create(&instance, "raid1", 2, "17M");
    // So it takes its time.
    let table = instance.dmsim(&["table", "r"]);
    let words: Vec<&str> = table.split_whitespace().collect();
    let params: usize = words[4].parse().expect("a number of parameters");
    let slow = ["max_recovery_rate", "1024"];
    let (head, count, tail) = (words[..4].join(" "), params + slow.len(), words[6..].join(" "));
    let slow = format!("{head} {count} 0 {} {tail}", slow.join(" "));
    instance.dmsim(&["load", "r", "--table", &slow]);
    instance.dmsim(&["suspend", "r"]);
    instance.dmsim(&["resume", "r"]);
    sparse(&instance.path("new.img"), 17 * MIB);
    let waits = spawn(&instance, &["raid", "replace", "r", "1", "new.img"]);
    wait_until("it is filled", || json(&instance)["action"]["what"] == "recover");
    instance.dmsim(&["remove", "r"]);
    let (is_good, told) = ended(waits);
    assert!(!is_good && told.contains("the set was removed meanwhile: its images keep"), "{told}");
    for leg in ["r_rmeta_0", "r_rimage_0", "r_rmeta_1", "r_rimage_1"] {
        instance.dmsim(&["remove", leg]);
    }
    let images = [instance.path("0.img"), instance.path("new.img")];
    instance.dmsim(&["raid", "assemble", text(&images[0]), text(&images[1]), "--name", "r"]);
    instance.dmsim(&["wait", "--sync", "r"]);
    is_right(&instance);
    assert_eq!(states(&instance), ["in_sync"; 2]);
}
