//! Without root: an ordinary user with `/dev/fuse` and fusermount3, and root of a user namespace.

use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use crate::harness::{DMSIM, can_mount, has, text, tool};

/// What an ordinary user does, in sh: everything but the kernel mount.
const SESSION: &str = r#"
set -eu
cd "$1"; dmsim="$1/dmsim"; export DMSIM_DIR="$1/run" HOME="$1" PATH="$PATH:/usr/sbin:/sbin"
trap '"$dmsim" stop --force >/dev/null 2>&1 || true' EXIT
"$dmsim" attach a.img --create 16M --as /dev/sda
"$dmsim" create disk --table '0 32768 linear /dev/sda 0'
mkdir tree; for i in 1 2 3 4 5; do head -c 100000 /dev/urandom > tree/file$i; done
mke2fs -q -F -t ext4 run/mapper/disk
for i in 1 2 3 4 5; do debugfs -w -R "write tree/file$i file$i" run/mapper/disk 2>/dev/null; done
e2fsck -fn run/mapper/disk
for i in 1 2 3 4 5; do
    debugfs -R "dump file$i back$i" run/mapper/disk 2>/dev/null
    cmp tree/file$i back$i
done
if [ -n "${FUSE2FS:-}" ]; then
    mkdir mnt; "$FUSE2FS" -o fakeroot,ro run/mapper/disk mnt; cmp tree/file1 mnt/file1; fusermount3 -u mnt
fi
"$dmsim" remove disk
"$dmsim" stop
test ! -e run/control.sock
echo the session went well
"#;

/// Runs the session as nobody, in a mount namespace with a device node of its own, by way of
/// `wrapper`.
fn session(wrapper: &[&str], fuse2fs: bool) {
    if !can_mount() || !has(&["unshare", "setpriv", "fusermount3", "mke2fs", "debugfs", "e2fsck"]) {
        return;
    }
    let dir = tempfile::tempdir().expect("a temporary folder");
    let all = |path: &std::path::Path, mode| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).expect("ours")
    };
    all(dir.path(), 0o777);
    let binary = dir.path().join("dmsim");
    std::fs::copy(DMSIM, &binary).expect("a copy that everybody may run");
    all(&binary, 0o755);
    let script = dir.path().join("session");
    std::fs::write(&script, SESSION).expect("a file");
    let fuse = format!(
        "set -e; mkdir {0}/dev; mount -t tmpfs tmpfs {0}/dev; mknod -m 666 {0}/dev/fuse c 10 229; \
         mount --bind {0}/dev/fuse /dev/fuse; shift; exec \"$@\"",
        text(dir.path())
    );
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "sh", "-c", &fuse, "sh", "--"]);
    command.args(["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]).args(wrapper);
    command.args(["sh", text(&script), text(dir.path())]).env_remove("XDG_RUNTIME_DIR");
    if let Some(fuse2fs) = tool("fuse2fs").filter(|_| fuse2fs) {
        command.env("FUSE2FS", fuse2fs);
    }
    let output = command.output().expect("unshare runs");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.ends_with("the session went well\n"), "{output:?}");
}

#[test]
fn an_ordinary_user_does_everything_but_the_kernel_mount() {
    session(&[], true);
}

#[test]
fn so_does_root_of_a_user_namespace() {
    session(&["unshare", "--user", "--map-root-user", "--mount"], false);
}
