//! What concerns the whole process.

use rustix::process::{DumpableBehavior, Resource, getrlimit, set_dumpable_behavior, setrlimit};

/// Keeps the memory of this process out of core dumps: keys come into it from here on.
pub fn keep_out_of_core_dumps() {
    // It cannot fail: the kernel knows the value.
    let _ = set_dumpable_behavior(DumpableBehavior::NotDumpable);
}

/// Lets this process have as many files open as it may: each image and each block node takes one, or more.
pub fn allow_most_files() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    // What is the limit already may always be asked for.
    let _ = setrlimit(Resource::Nofile, limit);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_files_may_be_open_as_anyhow_may() {
        allow_most_files();
        let limit = getrlimit(Resource::Nofile);
        assert_eq!(limit.current, limit.maximum);
    }
}
