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
    compile_with(instance, &["examples/c/invert.c"])
}

/// As [`compile`], with a change of the callbacks.
fn compile_with(instance: &Instance, args: &[&str]) -> Option<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let library = instance.root().join("libinvert.so");
    let mut cc = Command::new("cc");
    cc.args(["-shared", "-fPIC", "-I"]).arg(root.join("sdk/include")).arg("-o").arg(&library);
    match cc.args(args).current_dir(root.join("sdk")).status() {
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
}

/// What is on record may be made of its types.
#[test]
fn a_plug_in_comes_back_with_the_next_start_until_it_is_taken_off_the_record() {
    let instance = Instance::new();
    let Some(library) = compile(&instance).filter(|_| can_mount()) else { return };
    instance.ok(&["start", "--plugin", "libinvert.so"]);
    instance.ok(&["attach", "disk.img", "--create", "1M", "--as", "disk"]);
    instance.ok(&["create", "x", "--table", "0 2048 invert disk 0"]);
    instance.ok(&["stop"]);
    instance.ok(&["start"]);
    instance.ok(&["restore"]);
    assert_eq!(instance.ok(&["table", "x"]), "0 2048 invert 7:4096 0\n");
    instance.ok(&["remove", "x"]);
    instance.ok(&["stop"]);
    std::fs::rename(&library, instance.root().join("moved.so")).unwrap();
    let complaint = instance.fails(&["start"]);
    assert!(complaint.contains("libinvert.so") && complaint.contains("--no-plugin"), "{complaint}");
    for start in [&["start", "--no-plugin"][..], &["start"]] {
        instance.ok(start);
        assert!(!instance.ok(&["targets"]).contains("invert"));
        instance.ok(&["stop"]);
    }
}

#[test]
fn a_plug_in_that_ends_the_daemon_is_named_in_its_log() {
    let instance = Instance::new();
    let wild = ["-DWHAT=type.write=write_wild", "tests/c/nonsense.c"];
    let Some(library) = compile_with(&instance, &wild).filter(|_| can_mount()) else { return };
    instance.ok(&["start", "--plugin", library.to_str().unwrap()]);
    instance.ok(&["attach", "disk.img", "--create", "1M", "--as", "disk"]);
    instance.ok(&["create", "x", "--table", "0 2048 invert disk 0"]);
    let written = std::fs::write(instance.path("mapper/x"), [7; 4096]);
    assert!(written.is_err());
    let log = std::fs::read_to_string(instance.path("log")).unwrap();
    let library = library.display();
    let words = format!(
        "dmsim: plug-in {library}: target type `invert`: SIGSEGV in `write`: the process ends\n"
    );
    assert!(log.contains(&words), "{log}");
}

#[test]
fn a_plug_in_is_held_to_the_parts_of_the_suite() {
    let instance = Instance::new();
    if compile(&instance).is_none() {
        return;
    }
    let library = instance.root().join("libinvert.so");
    let library = library.to_str().unwrap();
    let of = |table, more: &[&str]| {
        let args = [&["test-plugin", library, "--table", table], more].concat();
        instance.run(&args)
    };
    let told = |output: &std::process::Output| String::from_utf8_lossy(&output.stdout).into_owned();
    let well = of("0 64 invert a 0", &["--part", "operations"]);
    assert!(well.status.success(), "{well:?}");
    assert!(told(&well).starts_with("operations: 20 cases in "), "{well:?}");
    assert!(told(&well).ends_with("1 part holds\n"), "{well:?}");
    let none = of("0 64 invert a 0", &["--part", "nothing"]);
    assert!(String::from_utf8_lossy(&none.stderr).contains("expected a part (model, "));
    // A flush that does nothing, and the line that repeats it.
    let lost = ["-DWHAT=type.flush=plain_code", "-DCODE=0", "tests/c/nonsense.c"];
    compile_with(&instance, &lost).unwrap();
    let fails = of("0 64 invert a 0", &["--part", "operations"]);
    assert_eq!(fails.status.code(), Some(1));
    let repeat = format!("dmsim test-plugin {library} --table '0 64 invert a 0' --part operations");
    assert!(told(&fails).contains(&repeat), "{fails:?}");
    assert!(told(&fails).ends_with("of 1 parts, 1 failed: operations\n"), "{fails:?}");
    compile_with(&instance, &["-DWHAT=type.write=write_wild", "tests/c/nonsense.c"]).unwrap();
    let wild = of("0 64 invert a 0", &["--part", "operations"]);
    let words = String::from_utf8_lossy(&wild.stderr).into_owned();
    assert!(words.contains("target type `invert`: SIGSEGV in `write`"), "{wild:?}");
    assert!(told(&wild).contains("has ended the process by signal 11"), "{wild:?}");
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
