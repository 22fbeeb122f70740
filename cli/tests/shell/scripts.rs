//! Scripts that were written for the kernel, unchanged, under the machine's dmsetup.

use std::path::Path;

use crate::{disks, run, start};

#[test]
fn a_script_that_grows_snapshots_and_renames_what_is_mounted_runs_unchanged() {
    let Some(instance) = start(&["dmsetup", "mkfs.ext4", "e2fsck", "blockdev"]) else { return };
    disks(&instance, &[("a", 64), ("b", 64)]);
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/shell/old.sh");
    let work = instance.path("");
    let line =
        format!("cd {}; sh {} /dev/mapper/a /dev/mapper/b", work.display(), script.display());
    assert_eq!(run(&instance, &line), "second\nthird\n");
    instance.dmsim(&["stop"]);
}
