//! Target types that do not come with dmsim: from a library, and from a program of one's own.

#![allow(clippy::unwrap_used, reason = "a test may")]

#[allow(dead_code, reason = "this program uses its part")]
#[path = "daemon/harness.rs"]
mod harness;

use std::path::{Path, PathBuf};
use std::process::Command;

use harness::{Instance, can_mount};

/// Compiles the example in C to a file of the instance's folder; nothing where there is no cc.
fn compile(instance: &Instance) -> Option<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let library = instance.root().join("libinvert.so");
    let mut cc = Command::new("cc");
    cc.args(["-shared", "-fPIC", "-I"]).arg(root.join("sdk/include")).arg("-o").arg(&library);
    match cc.arg(root.join("sdk/examples/c/invert.c")).status() {
        Ok(status) => assert!(status.success()),
        Err(error) => {
            assert!(std::env::var_os("CI").is_none(), "no cc: {error}");
            println!("skipped: no cc: {error}");
            return None;
        }
    }
    Some(library)
}

#[test]
fn a_target_of_a_plug_in_is_mounted_as_any_other() {
    let instance = Instance::new();
    if !can_mount() || compile(&instance).is_none() {
        return;
    }
    // A relative path, which the daemon, that runs elsewhere, must find all the same.
    instance.ok(&["start", "--plugin", "libinvert.so"]);
    assert!(instance.ok(&["targets"]).contains("invert"), "it is listed");
    instance.ok(&["attach", "disk.img", "--create", "1M", "--as", "disk"]);
    instance.ok(&["create", "x", "--table", "0 2048 invert disk 0"]);
    let device = instance.path("mapper/x");
    let data: Vec<u8> = (0..1 << 20).map(|n: u32| (n / 5) as u8).collect();
    std::fs::write(&device, &data).unwrap();
    assert_eq!(std::fs::read(&device).unwrap(), data);
    let inverted: Vec<u8> = data.iter().map(|byte| !byte).collect();
    assert_eq!(instance.ok(&["table", "x"]), "0 2048 invert 7:4096 0\n");
    assert!(instance.ok(&["status", "x"]).contains(" writes"));
    let complaint = instance.fails(&["create", "y", "--table", "0 8 invert disk zero"]);
    assert!(complaint.contains("Invalid device sector"), "{complaint}");
    instance.ok(&["remove", "x"]);
    // At once: the device below is free when the remove has ended.
    instance.ok(&["detach", "disk"]);
    assert_eq!(std::fs::read(instance.root().join("disk.img")).unwrap(), inverted);
    instance.ok(&["stop"]);
    // It is on record nowhere: the next daemon is without it.
    instance.ok(&["start"]);
    assert!(!instance.ok(&["targets"]).contains("invert"));
}

#[test]
fn a_daemon_whose_plug_in_cannot_be_loaded_does_not_start() {
    if !can_mount() {
        return;
    }
    let instance = Instance::new();
    std::fs::write(instance.root().join("text.so"), "no library").unwrap();
    for file in ["text.so", "none.so"] {
        let complaint = instance.fails(&["start", "--plugin", file]);
        assert!(complaint.starts_with("dmsim: ") && complaint.contains(file), "{complaint}");
        assert_eq!(instance.pid(), None);
    }
}

#[test]
fn a_program_with_a_target_of_its_own_is_the_whole_command_line() {
    if !can_mount() {
        return;
    }
    let test = std::env::current_exe().unwrap();
    let program = test.ancestors().nth(2).unwrap().join("examples/own_target");
    if !program.exists() {
        assert!(std::env::var_os("CI").is_none(), "{} is not built", program.display());
        return println!("skipped: {} is not built", program.display());
    }
    let instance = Instance::new();
    let own = |args: &[&str]| {
        let mut command = Command::new(&program);
        command.args(args).env("DMSIM_DIR", instance.path("")).current_dir(instance.root());
        command.output().unwrap()
    };
    // Its own daemon is started by the verb that needs one.
    let made = own(&["create", "x", "--table", "0 8 fill 7"]);
    assert!(made.status.success(), "{made:?}");
    assert_eq!(std::fs::read(instance.path("mapper/x")).unwrap(), [7; 4096]);
    assert_eq!(own(&["table", "x"]).stdout, b"0 8 fill 7\n");
    let refused = own(&["create", "y", "--table", "0 8 fill 256"]);
    assert!(String::from_utf8_lossy(&refused.stderr).contains("Invalid byte"), "{refused:?}");
    assert!(own(&["stop", "--force"]).status.success());
}
