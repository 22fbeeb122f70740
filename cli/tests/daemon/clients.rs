//! Clients that misbehave.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::process::Stdio;

use daemon::protocol::VERSION;

use crate::harness::{Instance, SOON, can_mount, receive, send, wait_until};

#[test]
fn a_suspend_is_undone_when_its_client_hangs_up() {
    if !can_mount() {
        return;
    }
    let instance = Instance::new();
    instance.ok(&["create", "below", "--table", "0 8 zero"]);
    instance.ok(&["create", "above", "--table", "0 8 linear below 0"]);
    // A read of the upper device waits for the lower one, and the suspend of the upper one for
    // that read.
    instance.ok(&["suspend", "below"]);
    let device = instance.path("mapper/above");
    let reader = std::thread::spawn(move || std::fs::read(device));
    let is_open = || instance.json(&["info", "--json", "above"])[0]["open_count"] == 1;
    wait_until("the reader has it open", is_open);
    std::thread::sleep(std::time::Duration::from_millis(50));
    let mut suspend = instance.command(&["suspend", "above"]).spawn().unwrap();
    std::thread::sleep(std::time::Duration::from_millis(100));
    assert_eq!(suspend.try_wait().unwrap(), None, "the suspend waits");
    suspend.kill().unwrap();
    suspend.wait().unwrap();
    instance.ok(&["resume", "below"]);
    assert_eq!(reader.join().unwrap().unwrap(), vec![0; 4096]);
    assert_eq!(instance.json(&["info", "--json", "above"])[0]["suspended"], false);
    assert_eq!(std::fs::read(instance.path("mapper/above")).unwrap(), vec![0; 4096]);
}

#[test]
fn garbage_and_half_messages_end_their_own_connection_alone() {
    if !can_mount() {
        return;
    }
    let instance = Instance::new();
    instance.ok(&["create", "z", "--table", "0 8 zero"]);
    let ends = |mut stream: UnixStream| {
        stream.set_read_timeout(Some(SOON)).unwrap();
        let mut rest = Vec::new();
        // What is left unread by the daemon may end it with a reset.
        let _ = stream.read_to_end(&mut rest);
        String::from_utf8_lossy(&rest).into_owned()
    };
    let raw = || UnixStream::connect(instance.path("control.sock")).unwrap();
    // Instead of a hello.
    let mut stream = raw();
    stream.write_all(&[0xff; 64]).unwrap();
    ends(stream);
    // A wrong version: told the right one.
    let mut stream = raw();
    send(&mut stream, br#"{"version":999}"#);
    assert!(ends(stream).contains(&format!("\"version\":{VERSION}")));
    // A message that is none is answered; one that is too long or cut off is not waited for.
    for garbage in [&b"\x04\0\0\0{{{{"[..], b"\xff\xff\xff\xff", b"\x08\0\0\0\"Images\""] {
        let mut stream = instance.connect();
        stream.write_all(garbage).unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let answer = ends(stream);
        assert!(answer.contains("Failed") || answer.contains("Images"), "{answer}");
    }
    let mut stream = instance.connect();
    stream.write_all(b"\xff\0\0\0{\"Contr").unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(ends(stream), "");
    // One that goes without reading its answer.
    let mut stream = instance.connect();
    send(&mut stream, br#"{"Describe":null}"#);
    drop(stream);
    assert_eq!(instance.ok(&["table", "z"]), "0 8 zero \n");
}

#[test]
fn a_client_that_says_nothing_is_in_nobodys_way() {
    if !can_mount() {
        return;
    }
    let instance = Instance::new();
    instance.ok(&["start"]);
    let silent: Vec<UnixStream> =
        (0..20).map(|_| UnixStream::connect(instance.path("control.sock")).unwrap()).collect();
    instance.ok(&["create", "z", "--table", "0 8 zero"]);
    instance.ok(&["stop"]);
    drop(silent);
}

#[test]
fn a_command_that_waits_ends_with_the_daemon() {
    if !can_mount() {
        return;
    }
    let instance = Instance::new();
    instance.ok(&["create", "z", "--table", "0 8 zero"]);
    let mut waits = instance.connect();
    send(&mut waits, br#"{"Control":{"DevWait":{"id":{"Name":"z"},"event_nr":0}}}"#);
    let mut child = instance
        .command(&["wait", "z"])
        .stderr(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    std::thread::sleep(std::time::Duration::from_millis(100));
    instance.ok(&["stop"]);
    assert!(!child.wait().unwrap().success());
    let mut rest = Vec::new();
    let _ = waits.read_to_end(&mut rest);
}

#[test]
fn several_requests_go_over_one_connection() {
    if !can_mount() {
        return;
    }
    let instance = Instance::new();
    instance.ok(&["create", "z", "--table", "0 8 zero"]);
    let mut stream = instance.connect();
    for _ in 0..3 {
        send(&mut stream, br#"{"Control":"ListDevices"}"#);
        assert!(receive(&mut stream).contains("\"name\":\"z\""));
    }
}
