//! Settings for LVM where the instance's own are not seen.

use std::fs;
use std::path::{Path, PathBuf};

use block_frontend::Within;
use daemon::protocol::Private;
use daemon::{About, Fault};

/// LVM does not look at what is mounted below /dev unless it is told to.
const SCAN: &str = "devices {\n    scan = [ \"/dev\", \"/dev/mapper\" ]\n}\n";

/// Puts a copy of the settings for LVM into the tree, as their own place is not seen from everywhere. Containers
/// have the tree, and may have made anything of what was there.
pub(super) fn settings_for_lvm(private: &Private) -> Result<PathBuf, Fault> {
    let (from, to) = (private.lvm.join("lvm.conf"), private.dir.join("lvm"));
    let settings = fs::read_to_string(&from).about(from.display())? + SCAN;
    let tree = Within::open(&private.dir).about(private.dir.display())?;
    let put = || {
        tree.make_folder(Path::new("lvm"), 0o700)?;
        tree.put_file(Path::new("lvm/lvm.conf"), settings.as_bytes(), 0o600)
    };
    put().about(to.display())?;
    Ok(to)
}
