//! The shell of an ordinary user: dmsetup on a control node without block nodes, and who else may use that.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};

use tempfile::TempDir;

use crate::harness::{DMSIM, can_mount, has, text};

/// What each session begins with: as what is run outside a shell, and in one.
const BEGIN: &str = r#"
set -eu; PATH="$PWD:$PATH:/usr/sbin:/sbin"; export PATH
fails() { ! "$@"; }
"#;

/// A folder for everybody, with the program in it; nothing where an ordinary user cannot be tried.
pub(crate) fn folder(programs: &[&str]) -> Option<TempDir> {
    let needed = ["unshare", "setpriv", "fusermount3", "dmsetup"];
    if !can_mount() || !has(&needed) || !has(programs) {
        return None;
    }
    let dir = tempfile::tempdir().expect("a temporary folder");
    let all = |path: &Path, mode| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).expect("ours");
    };
    all(dir.path(), 0o777);
    std::fs::copy(DMSIM, dir.path().join("dmsim")).expect("a copy that everybody may run");
    all(&dir.path().join("dmsim"), 0o755);
    Some(dir)
}

/// Prepares a script of sh as nobody, in a mount namespace of its own that `prepare` has changed as root.
pub(crate) fn as_nobody(dir: &TempDir, prepare: &str, script: &str) -> Command {
    let path = text(dir.path());
    let prepare = format!(
        "set -e; {prepare}
        exec setpriv --reuid=65534 --regid=65534 --clear-groups sh -c \"$1\""
    );
    let fuse = format!(
        "set -e; mkdir -p {path}/fuse; mount -t tmpfs tmpfs {path}/fuse; mknod -m 666 {path}/fuse/fuse c 10 229
        mount --bind {path}/fuse/fuse /dev/fuse; exec sh -c \"$@\""
    );
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "sh", "-c", &fuse, "sh", &prepare, "sh"]);
    let stops = "trap 'dmsim stop --force > /dev/null 2>&1 || true' EXIT";
    command.arg(format!("{BEGIN}{stops}\n{script}")).current_dir(dir.path());
    command.env("DMSIM_DIR", dir.path().join("run")).env("HOME", dir.path());
    command.env_remove("XDG_RUNTIME_DIR").env("LC_ALL", "C");
    command
}

/// What a command printed, which must have succeeded.
#[track_caller]
pub(crate) fn went_well(output: &Output) -> (String, String) {
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{printed}{said}");
    (printed, said)
}

/// A day of dmsetup, in a shell: each of its verbs, over image files.
const DAY: &str = r#"
test "$(id -u)" = 0; test "$(stat -Lc '%F %t:%T' /dev/mapper/control)" = 'character special file a:ec'
truncate -s 16M a.img
dmsetup create d --uuid U-1 --table "0 16384 linear $PWD/a.img 0"
test "$(dmsetup ls)" = "$(printf 'd\t(253:0)')"
dmsetup ls --tree | grep -q '^d (253:0)'
dmsetup info d > info; grep -q '^Open count:  *0$' info; grep -q '^UUID: U-1' info
test "$(dmsetup info -c --noheadings -o name,blkdevname,attr,open)" = d:dm-0:L--w:0
dmsetup table d | grep -q '^0 16384 linear 7:[0-9]* 0$'
test "$(dmsetup status)" = 'd: 0 16384 linear '
dmsetup deps d | grep -q '^1 dependencies'
# A name is a block device to who looks, and the file to who opens.
test -b /dev/mapper/d; test "$(stat -c %t:%T /dev/mapper/d)" = fd:0; test "$(ls /dev/mapper | wc -l)" = 2
mke2fs -q -t ext4 /dev/mapper/d; e2fsck -fn /dev/mapper/d
echo kept > file; debugfs -w -R 'write file file' /dev/mapper/d; debugfs -R 'cat file' run/mapper/d | grep -qx kept
exec 3< /dev/mapper/d; dmsetup info d | grep '^Open count:  *1$'; fails dmsetup remove d; exec 3<&-
dmsetup suspend d; test "$(cat /sys/block/dm-0/dm/suspended)" = 1; dmsetup info d | grep -q SUSPENDED
dmsetup reload d --table "0 8192 linear $PWD/a.img 0"; dmsetup resume d
test "$(cat /sys/dev/block/253:0/size)" = 8192; test "$(wc -c < /dev/mapper/d)" = 4194304
dmsetup create over --table '0 8 linear /dev/mapper/d 0'; dmsetup ls --tree | grep -q 'd (253:0)'
test -e /sys/block/dm-0/holders/dm-1; dmsetup remove over; test ! -e /sys/block/dm-0/holders/dm-1
dmsetup rename d e; test -b /dev/mapper/e; test ! -e /dev/mapper/d; test "$(cat /sys/block/dm-0/dm/name)" = e
dmsetup create n --notable; dmsetup rename n --setuuid U-2; test "$(dmsetup info -c --noheadings -o uuid n)" = U-2
dmsetup mknodes; dmsetup remove n
dmsetup create m --table "0 8192 mirror core 1 1024 2 $PWD/a.img 0 $PWD/a.img 8192"
dmsetup wait m 0; dmsetup status m | grep -q ' 8/8 '
dmsetup message e 0 no 2>&1 | grep -q 'Invalid argument'; dmsetup remove m
exec 3< /dev/mapper/e; dmsetup remove --deferred e; test ! -e /dev/mapper/e; exec 3<&-
dmsetup create f --table '0 8 zero'; dmsetup create g --table '0 8 zero'; dmsetup remove_all
test "$(dmsetup ls)" = 'No devices found'
dmsetup create x --table '0 8 nothing' 2>&1 | grep -q 'Invalid argument'
dmsetup create x --table '0 8 linear /no/such/image 0' 2>&1 | grep -q 'No such file'
test "$(dmsetup ls)" = 'No devices found'; grep -q 'unknown target type' run/kmsg
echo day is over
"#;

fn day_script() -> String {
    format!("dmsim shell -- sh -c '{}'; dmsim stop", format!("{BEGIN}{DAY}").replace('\'', r"'\''"))
}

#[test]
fn an_ordinary_user_has_dmsetups_whole_day() {
    let Some(dir) = folder(&["mke2fs", "e2fsck", "debugfs"]) else { return };
    let output = as_nobody(&dir, "", &day_script()).output().expect("it runs");
    let (printed, said) = went_well(&output);
    assert!(printed.contains("day is over\n"), "{printed}{said}");
    assert_eq!(said.matches("no block nodes for an ordinary user").count(), 1, "{said}");
    assert!(!said.contains("BLKRAGET"), "{said}");
}

/// Where the machine's /dev has no directory for names, the shell gets a /dev of its own.
#[test]
fn so_does_one_of_a_machine_without_a_directory_of_names() {
    let Some(dir) = folder(&["mke2fs", "e2fsck", "debugfs"]) else { return };
    let dev = "mkdir dev; mount -t tmpfs tmpfs dev; mkdir dev/pts dev/shm; chmod 755 dev
        for name in null zero full random urandom tty fuse; do touch dev/$name; mount --bind /dev/$name dev/$name; done
        mknod -m 600 dev/sda b 8 0; ln -s /proc/self/fd dev/fd; mount --rbind dev /dev; ls /dev | grep -v mapper";
    let script = day_script()
        .replace("echo day", "ls -l /dev; test ! -e /dev/sda; test -c /dev/zero; echo day");
    let output = as_nobody(&dir, dev, &script).output().expect("it runs");
    assert!(went_well(&output).0.contains("day is over\n"), "{output:?}");
}

#[test]
fn disks_of_a_user_are_shown_by_their_names() {
    let Some(dir) = folder(&["fuse2fs", "mke2fs"]) else { return };
    let script = r#"
        truncate -s 8M one.img two.img
        dmsim shell --disk one.img --disk two.img -- sh -c 'dmsetup table; mke2fs -q /dev/mapper/one
            mkdir m; fuse2fs -o fakeroot /dev/mapper/one m; echo x > m/file; umount m || fusermount3 -u m
            pvs; losetup -f --show one.img || echo no loop device'
        dmsim remove one; dmsim ls; dmsim stop
    "#;
    let output = as_nobody(&dir, "", script).output().expect("it runs");
    let (printed, said) = went_well(&output);
    assert!(
        printed.contains("one: 0 16384 linear") && printed.contains("two\t(253:1)"),
        "{printed}{said}"
    );
    assert!(printed.contains("no loop device\n"), "{printed}{said}");
}

#[test]
fn shells_in_shells_and_beside_them_see_the_same() {
    let Some(dir) = folder(&[]) else { return };
    let script = r#"
        dmsim shell -- sh -c '
            dmsetup create d --table "0 8 zero"
            dmsim shell -- dmsetup ls
            dmsim shell -- dmsim ls
            unshare --user --map-root-user dmsetup ls
            dmsim start --dir /tmp/no-such-place 2>&1 || true'
        dmsim shell -- sh -c 'dmsetup ls; dmsetup remove d'
        dmsim ls; dmsim stop
    "#;
    let output = as_nobody(&dir, "", script).output().expect("it runs");
    let (printed, said) = went_well(&output);
    assert_eq!(printed.matches("d\t(253:0)\n").count(), 4, "{printed}{said}");
    assert!(
        printed.contains("start it outside") && printed.contains("No devices found"),
        "{printed}{said}"
    );
}

#[test]
fn a_user_who_may_make_no_user_namespace_is_told_so() {
    let Some(dir) = folder(&[]) else { return };
    // As nobody may in a chroot.
    let chroot = "mkdir root; mount --rbind / root
        exec chroot root setpriv --reuid=65534 --regid=65534 --clear-groups sh -c \"cd '$PWD'; $1\"";
    let script = "dmsim start; dmsim shell -- true 2>&1 || true; dmsim stop";
    let output = as_nobody(&dir, chroot, script).output().expect("it runs");
    assert!(went_well(&output).0.contains("no user namespace: "), "{output:?}");
}

/// Those that reach the node of another user, with an open file that they were handed or by its path: from
/// standard input comes what becomes of each, as `who errno`.
const ATTACK: &str = r#"
import ctypes, fcntl, os, socket, struct, sys
libc = ctypes.CDLL(None, use_errno=True)
path, user = sys.argv[1], 65534
def call(file):
    header = struct.pack('=10IQ128s129s7x', 4, 0, 0, 312, 312, 0, 0, 0, 0, 0, 0, b'', b'')
    try:
        fcntl.ioctl(file, 0xc138fd00, bytearray(header)); return 0
    except OSError as error:
        return error.errno
def use():
    try:
        file = os.open(path, os.O_RDWR)
    except OSError as error:
        return error.errno
    return call(file)
def said(who, what):
    if os.fork() == 0:
        os.write(1, f'{who} {what()}\n'.encode()); os._exit(0)
    os.wait()
def become(uid):
    os.setgroups([]); os.setresgid(uid, uid, uid); os.setresuid(uid, uid, uid); show()
# As an exec would: else the daemon sees nothing of this process, and refuses it for that.
def show():
    assert libc.prctl(4, 1, 0, 0, 0) == 0
def as_owner():
    become(user); return use()
ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
if os.fork() == 0:
    become(user); socket.send_fds(theirs, [b'x'], [os.open(path, os.O_RDWR)]); os._exit(0)
handed = socket.recv_fds(ours, 1, 1)[1][0]; os.wait()
def other():
    become(user - 1); return call(handed)
def setuid():
    os.setgroups([]); os.setresgid(user, user, user); os.setresuid(user, user, 0); show(); return call(handed)
# The owner's number in a namespace that somebody else has made.
def namespaced(by_owner):
    (ready, tell), (go, on) = os.pipe(), os.pipe()
    child = os.fork()
    if child == 0:
        if by_owner: become(user)
        assert libc.unshare(0x10000000) == 0
        os.write(tell, b'x'); os.read(go, 1)
        os.setresgid(0, 0, 0); os.setresuid(0, 0, 0); show()
        os._exit(call(handed))
    os.read(ready, 1)
    open(f'/proc/{child}/setgroups', 'w').write('deny')
    for name in 'uid_map', 'gid_map': open(f'/proc/{child}/{name}', 'w').write(f'0 {user} 1')
    os.write(on, b'x')
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
said('owner', as_owner)
said('root', lambda: call(handed))
said('other', other)
said('setuid', setuid)
said('foreign', lambda: namespaced(False))
said('own', lambda: namespaced(True))
"#;

#[test]
fn nobody_else_may_use_a_users_node() {
    let Some(dir) = folder(&["python3"]) else { return };
    std::fs::write(dir.path().join("attack.py"), ATTACK).expect("a file");
    let script = r#"
        dmsim shell -- sh -c 'dmsetup ls > /dev/null; setpriv --bounding-set=-all --inh-caps=-all dmsetup ls 2>&1 || echo refused'
        touch ready; for i in $(seq 1200); do test ! -e attacked || break; sleep 0.05; done; cat roots
        dmsim stop
    "#;
    // Beside it, as root, in the same mount namespace: the user's mounts are there.
    let beside = "( for i in $(seq 1200); do test ! -e ready || break; sleep 0.05; done; timeout 60 python3 attack.py run/private/node/control 2>&1
        DMSIM_DIR=run ./dmsim shell -- true > roots 2>&1 || true; touch attacked ) &";
    let output = as_nobody(&dir, beside, script).output().expect("it runs");
    let (printed, said) = went_well(&output);
    assert!(
        printed.starts_with("/dev/mapper/control: open failed: Permission denied\n"),
        "{printed}{said}"
    );
    let attacks = printed.split_once("refused\n").expect("a capability is needed").1;
    let expected = "owner 0\nroot 13\nother 13\nsetuid 13\nforeign 13\nown 0\n";
    assert!(attacks.starts_with(expected), "{printed}{said}");
    assert!(attacks.contains("is that of the user 65534, who alone may use it"), "{printed}");
}
