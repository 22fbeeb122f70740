//! What the verbs say of sets that a table made, and not `raid create`.

use std::fs::File;

use super::{checked, is_right, states};
use crate::harness::{Instance, text, write_at};

fn sparse(instance: &Instance, names: &[&str], mib: u64) {
    for name in names {
        let file = File::create(instance.path(name)).expect("a new file");
        file.set_len(mib << 20).expect("it is sparse");
    }
}

fn at(instance: &Instance, name: &str) -> String {
    text(&instance.path(name)).to_owned()
}

#[test]
fn without_metadata_no_verb_says_that_a_leg_could_come_back() {
    let instance = Instance::start();
    sparse(&instance, &["a", "b", "new"], 18);
    let (a, b) = (at(&instance, "a"), at(&instance, "b"));
    let device = instance.create("r", &format!("0 32768 raid raid1 1 0 2 - {a} - {b}"));
    instance.dmsim(&["fail", "r", "1"]);
    write_at(&device, 0, &[7; 4096]).expect("the other leg takes it");
    for args in [
        &["raid", "replace", "r", "1", "new"][..],
        &["raid", "grow", "r", "new"],
        &["heal", "r"],
        &["wait", "--sync", "r"],
    ] {
        let told = instance.refused(args);
        assert!(told.contains("its table names no metadata"), "{args:?}: {told}");
        assert!(!told.contains("`dmsim heal") && !told.contains("raid replace"), "{told}");
    }
    let (status, told) = checked(&instance.run(&["raid", "check", "r"]));
    assert!(status == Some(1) && told.contains("nothing was compared"), "{told}");
}

#[test]
fn a_leg_whose_metadata_lies_elsewhere_can_be_replaced_and_is_put_together_by_its_table() {
    let instance = Instance::start();
    sparse(&instance, &["m0", "m1"], 4);
    sparse(&instance, &["a", "b", "small"], 16);
    sparse(&instance, &["new"], 17);
    let [m0, a, m1, b] = ["m0", "a", "m1", "b"].map(|name| at(&instance, name));
    let table = format!("0 32768 raid raid1 1 0 2 {m0} {a} {m1} {b}");
    instance.create("r", &table);
    instance.dmsim(&["wait", "--sync", "r"]);
    let told = instance.refused(&["raid", "replace", "r", "1", "small"]);
    assert!(told.contains("a leg needs 17 MiB, the first MiB of it for its metadata"), "{told}");
    instance.dmsim(&["raid", "remove", "r"]);
    let told = instance.refused(&["raid", "assemble", "m0", "m1", "--name", "r"]);
    assert!(told.contains("is the metadata alone of a set that a table made"), "{told}");
    assert!(!told.contains("truncate"), "{told}");
    let told = instance.refused(&["raid", "assemble", "a", "b", "--name", "r"]);
    assert!(
        told.contains("one whose metadata lies elsewhere is put together by its table"),
        "{told}"
    );
    instance.create("r", &table);
    instance.dmsim(&["raid", "replace", "r", "1", "new"]);
    assert_eq!(states(&instance), ["in_sync"; 2]);
    is_right(&instance);
}
