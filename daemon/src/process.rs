//! What concerns the whole process.

use rustix::process::{DumpableBehavior, set_dumpable_behavior};

/// Keeps the memory of this process out of core dumps: keys come into it from here on.
pub fn keep_out_of_core_dumps() {
    // It cannot fail: the kernel knows the value.
    let _ = set_dumpable_behavior(DumpableBehavior::NotDumpable);
}
