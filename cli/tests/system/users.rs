//! Without root: an ordinary user with `/dev/fuse` and fusermount3, and root of a user namespace.

use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use tempfile::TempDir;

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

/// A folder for everybody, with the program and a script in it.
pub(crate) fn folder(script: &str) -> TempDir {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let all = |path: &std::path::Path, mode| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).expect("ours")
    };
    all(dir.path(), 0o1777);
    let binary = dir.path().join("dmsim");
    std::fs::copy(DMSIM, &binary).expect("a copy that everybody may run");
    all(&binary, 0o755);
    std::fs::write(dir.path().join("session"), script).expect("a file");
    dir
}

/// Runs a folder's script as nobody, in a mount namespace with a device node of its own, by way of
/// `wrapper`.
pub(crate) fn session(dir: &TempDir, wrapper: &[&str], fuse2fs: bool) {
    if !can_mount() || !has(&["unshare", "setpriv", "fusermount3", "mke2fs", "debugfs", "e2fsck"]) {
        return;
    }
    let script = dir.path().join("session");
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
    went_well(&mut command);
}

fn went_well(command: &mut Command) {
    let output = command.output().expect("it runs");
    let said = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.ends_with("the session went well\n"), "{said}{errors}");
}

#[test]
fn an_ordinary_user_does_everything_but_the_kernel_mount() {
    session(&folder(SESSION), &[], true);
}

#[test]
fn so_does_root_of_a_user_namespace() {
    session(&folder(SESSION), &["unshare", "--user", "--map-root-user", "--mount"], false);
}

/// What an ordinary user does with a whole disk: opened as one, written without a mount, closed.
const WHOLE_DISK: &str = r#"
set -eu
cd "$1"; dmsim="$1/dmsim"; export DMSIM_DIR="$1/run" HOME="$1" PATH="$PATH:/usr/sbin:/sbin"
trap '"$dmsim" stop --force >/dev/null 2>&1 || true' EXIT
truncate -s 48M disk.img; printf 'label: gpt\nsize=8M,type=U\nsize=24M\n' | sfdisk -q disk.img
"$dmsim" open disk.img; mke2fs -q -F -t ext4 run/mapper/disk1; "$dmsim" close disk
truncate -s 24M crypt.img; echo -n secret > key
cryptsetup luksFormat -q --pbkdf pbkdf2 --pbkdf-force-iterations 1000 crypt.img key
dd if=crypt.img of=disk.img bs=1M seek=9 conv=notrunc status=none
printf secret | "$dmsim" open disk.img > told
grep -q 'mapper/disk1  *ext4' told; grep -q 'mapper/disk2_crypt ' told
mke2fs -q -F -t ext4 -L home run/mapper/disk2_crypt
debugfs -w -R "write key key" run/mapper/disk2_crypt 2>/dev/null; e2fsck -fn run/mapper/disk2_crypt
"$dmsim" close disk.img; test -z "$(ls run/mapper)"
"$dmsim" open --plan --key-file key disk.img | grep -q '^disk2_crypt: 0 .* crypt '
printf secret | "$dmsim" open --read-only disk.img > told; grep -q 'ext4.*read-only  home' told
test "$(debugfs -R 'cat key' run/mapper/disk2_crypt 2>/dev/null)" = secret
"$dmsim" close disk; "$dmsim" stop
echo the session went well
"#;

#[test]
fn an_ordinary_user_and_root_of_a_user_namespace_open_whole_disks() {
    if has(&["sfdisk", "cryptsetup", "dd"]) {
        session(&folder(WHOLE_DISK), &[], false);
        let namespace = ["unshare", "--user", "--map-root-user", "--mount"];
        session(&folder(WHOLE_DISK), &namespace, false);
    }
}

/// The README's commands, in its order, each with what it has to print.
fn readme() -> Vec<(String, Vec<String>)> {
    let text = include_str!("../../../README.md");
    let mut commands: Vec<(String, Vec<String>)> = Vec::new();
    let mut within = false;
    for line in text.lines() {
        if line.starts_with("```") {
            within = line == "```console";
        } else if within {
            match (line.strip_prefix("$ "), commands.last_mut()) {
                (Some(command), _) => commands.push((command.to_owned(), Vec::new())),
                (None, Some((_, prints))) => prints.push(line.to_owned()),
                (None, None) => panic!("output without a command: {line}"),
            }
        }
    }
    // What cargo runs has tests of its own.
    commands.retain(|(command, _)| !command.contains("cargo "));
    assert!(commands.len() > 20, "the README has commands: {commands:?}");
    commands
}

/// Runs the README's commands in one shell, whose folder has a container `backup.img`, and compares
/// what they print with what the README shows. One that is shown with an error has to fail.
fn readme_script() -> String {
    let mut script = String::from(
        r#"
set -eu
cd "$1"; PATH="$1:$PATH:/usr/sbin:/sbin" HOME="$1"; here=$(pwd -P)
trap 'dmsim stop --force >/dev/null 2>&1 || true' EXIT
failed() { echo "README: $1: $2"; cat "$here/out"; exit 1; }
"#,
    );
    let quoted = |text: &str| format!("'{}'", text.replace('\'', r"'\''"));
    for (command, prints) in readme() {
        let fails = prints.first().is_some_and(|line| line.starts_with("dmsim: "));
        let what = quoted(&command);
        // Keys come from standard input where that is no terminal.
        let keys = if command.starts_with("dmsim open ") { "printf passphrase | " } else { "" };
        script += &match fails {
            true => format!(
                "if {{ {command}\n}} >out 2>&1; then failed {what} 'it does not fail'; fi\n"
            ),
            false => format!("{keys}{{ {command}\n}} >out 2>&1 || failed {what} 'it fails'\n"),
        };
        for line in prints {
            let line = quoted(&line).replace("/srv/you", "'\"$here\"'");
            script +=
                &format!("grep -qxF -- {line} out || failed {what} 'it does not print '{line}\n");
        }
    }
    script + "dmsim stop\necho the session went well\n"
}

/// Makes the container of the README's second section, and a disk with it in its second partition; false where a tool is missing.
fn make_backup(dir: &TempDir) -> bool {
    let tools = [
        "cryptsetup",
        "mkfs.ext4",
        "fuse2fs",
        "fusermount3",
        "blkid",
        "mkfs.vfat",
        "mcopy",
        "sfdisk",
    ];
    if !has(&tools) {
        return false;
    }
    let image = dir.path().join("backup.img");
    let run = r#"
        set -e; truncate -s 32M "$1"
        printf passphrase | cryptsetup luksFormat -q --pbkdf pbkdf2 --pbkdf-force-iterations 1000 "$1" -
        export DMSIM_DIR="$(dirname "$1")/making"
        device=$(printf passphrase | "$2" open "$1" backup); mkfs.ext4 -q "$device"; "$2" stop
        disk="$(dirname "$1")/laptop.img"; truncate -s 64M "$disk"
        printf 'label: gpt\nsize=8M,type=U\nsize=32M\n' | sfdisk -q "$disk"
        dd if="$1" of="$disk" bs=1M seek=9 conv=notrunc status=none
        rm -r "$DMSIM_DIR"; chmod 666 "$1" "$disk"; echo the session went well
    "#;
    went_well(Command::new("sh").args(["-c", run, "sh", text(&image), DMSIM]));
    true
}

#[test]
fn the_readmes_commands_do_as_it_says_for_an_ordinary_user() {
    let dir = folder(&readme_script());
    if can_mount() && make_backup(&dir) {
        session(&dir, &[], false);
    }
}

#[test]
fn the_readmes_commands_do_as_it_says_for_root() {
    let dir = folder(&readme_script());
    if can_mount() && make_backup(&dir) {
        let script = dir.path().join("session");
        went_well(Command::new("sh").args([text(&script), text(dir.path())]));
    }
}
