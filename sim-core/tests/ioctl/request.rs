//! What a call is on its way to a reply.

use sim_core::control::ioctl::{self, Call, FIELDS_LEN, HEADER_LEN, Header, Reply, client};
use sim_core::control::{Answer, Command, Id, Listed, Report, Slot};
use sim_core::{Access, DevNumber, Errno, KeyText, Params, Sector, Sectors, TargetSpec};

const LIST_DEVICES: u32 = 0xc138_fd02;
const KEY: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

fn load() -> Command {
    let params = Params::from(format!("aes-xts-plain64 {KEY} 0 /dev/vda 0"));
    let (start, len) = (Sector(0), Sectors(8));
    let targets = vec![TargetSpec { start, len, target_type: "crypt".into(), params }];
    let id = Id::Name("a".into());
    Command::TableLoad { id, access: Access::ReadWrite, targets, base: "/".into() }
}

fn table() -> Command {
    let (id, report, slot) = (Id::Name("a".into()), Report::Table, Slot::Live);
    Command::TableStatus { id, report, slot, device_names: false, keys: KeyText::Plain }
}

#[test]
fn a_load_is_wanted_whole_and_what_has_no_payload_to_its_fields() {
    for (command, wanted) in [(Command::Version, 12), (load(), 4096), (table(), FIELDS_LEN)] {
        let written = client::write(&command, 4096).expect("a call");
        let call = Call::read(written.code, &written.buffer[..FIELDS_LEN]).expect("a header");
        assert_eq!(call.reads(), wanted);
        assert!(call.decode(written.buffer[..wanted].to_vec().into()).is_ok());
        let call = Call::read(written.code, &written.buffer).expect("a header");
        let short = call.decode(written.buffer[..wanted - 1].to_vec().into());
        assert_eq!(short.expect_err("too short"), Reply::bad_address());
    }
}

#[test]
fn too_short_for_a_version_writes_nothing() {
    let reply = Call::read(LIST_DEVICES, &[4; 11]).expect_err("too short");
    assert_eq!((reply.result, reply.bytes.len()), (Err(Errno::FAULT), 0));
    let header = [4_u32, 0, 0].map(u32::to_ne_bytes).concat();
    let reply = Call::read(LIST_DEVICES, &header).expect_err("too short");
    assert_eq!(reply, Reply::bad_address());
}

#[test]
fn a_header_that_changes_under_the_call_counts_for_nothing() {
    let written = client::write(&load(), 1024).expect("a call");
    let call = Call::read(written.code, &written.buffer).expect("a header");
    let mut changed = written.buffer.to_vec();
    changed[12..28].fill(0xff);
    changed[48] = b'b';
    let request = call.decode(changed.into()).expect("a load");
    assert_eq!(request.command(), &load());
    let reply = request.reply(Ok(Answer::Status(status())), None);
    assert_eq!(reply.bytes.len(), FIELDS_LEN);
}

#[test]
fn paths_start_where_the_caller_is() {
    let written = client::write(&load(), 0).expect("a call");
    let mut request = ioctl::decode(written.code, written.buffer.to_vec()).expect("a load");
    request.set_base("/srv/u");
    let Command::TableLoad { base, .. } = request.command() else { panic!("{request:?}") };
    assert_eq!(base, "/srv/u");
}

#[test]
fn keys_are_not_printed() {
    let written = client::write(&load(), 0).expect("a call");
    let request = ioctl::decode(written.code, written.buffer.to_vec()).expect("a load");
    let code = format!("{:?}", &KEY.as_bytes()[..4]);
    for text in [format!("{written:?}"), format!("{request:?}")] {
        assert!(!text.contains(&KEY[..8]) && !text.contains(&code[1..10]), "{text}");
    }
    let reply = request.reply(Ok(Answer::Status(status())), None);
    assert_eq!(reply.wiped, written.buffer.len());
    assert!(!reply.bytes.windows(8).any(|bytes| bytes == &KEY.as_bytes()[..8]), "{reply:?}");
}

fn status() -> sim_core::control::DevStatus {
    let written = client::write(&Command::ArmPoll, 0).expect("a call");
    client::read(&Command::ArmPoll, &written.buffer).expect("a header").status
}

/// Lists two devices, `ab` with a uuid and `b` without.
fn list(flags: u32, name: &str, uuid: &str) -> Vec<String> {
    let mut header = Header { version: [4, 0, 0], data_size: 1024, flags, ..Header::default() };
    header.name[..name.len()].copy_from_slice(name.as_bytes());
    header.uuid[..uuid.len()].copy_from_slice(uuid.as_bytes());
    let mut buffer = vec![0; 1024];
    header.write(&mut buffer);
    let request = ioctl::decode(LIST_DEVICES, buffer.clone()).expect("a list");
    let device = |minor, name: &str, uuid: Option<&str>| Listed {
        name: name.to_owned(),
        uuid: uuid.map(str::to_owned),
        dev: DevNumber { major: 253, minor },
        event_nr: 0,
    };
    let devices = vec![device(0, "ab", Some("U-1")), device(1, "b", None)];
    request.reply(Ok(Answer::Devices(devices)), None).apply(&mut buffer);
    match client::read(&Command::ListDevices, &buffer).expect("a list").answer {
        Some(Answer::Devices(devices)) => devices
            .into_iter()
            .map(|d| format!("{}:{}", d.name, d.uuid.unwrap_or_default()))
            .collect(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_list_has_what_begins_as_was_asked() {
    const UUIDS: u32 = 1 << 14;
    for (flags, name, uuid, expected) in [
        (UUIDS, "", "", vec!["ab:U-1", "b:"]),
        (0, "", "", vec!["ab:", "b:"]),
        (0, "a", "", vec!["ab:"]),
        (0, "", "U-", vec!["ab:"]),
        (UUIDS, "b", "U-", vec![]),
        (0, "abc", "", vec![]),
    ] {
        assert_eq!(list(flags, name, uuid), expected, "{flags} {name} {uuid}");
    }
}

#[test]
fn what_the_interface_has_no_call_for_is_not_written() {
    let id = || Id::Name("a".into());
    let dev = DevNumber { major: 0, minor: 0 };
    for (command, errno) in [
        (Command::SetReadAhead { id: id(), sectors: Sectors(8) }, Errno::OPNOTSUPP),
        (Command::DevStatus { id: Id::Dev(dev), slot: Slot::Live }, Errno::INVAL),
        (Command::TableClear { id: Id::Name(String::new()) }, Errno::INVAL),
        (Command::TableClear { id: Id::Name("a\0b".into()) }, Errno::INVAL),
        (Command::TableClear { id: Id::Name("n".repeat(128)) }, Errno::NAMETOOLONG),
        (Command::TableClear { id: Id::Uuid("u".repeat(129)) }, Errno::NAMETOOLONG),
        (Command::GetTargetVersion { name: String::new() }, Errno::INVAL),
    ] {
        assert_eq!(client::write(&command, 0).expect_err("no call"), errno, "{command:?}");
    }
    let longest = Command::TableClear { id: Id::Uuid("u".repeat(128)) };
    assert!(client::write(&longest, HEADER_LEN).is_ok());
}

#[test]
fn lists_that_lie_are_no_answers() {
    let written = client::write(&Command::ListVersions, 1024).expect("a call");
    let request = ioctl::decode(written.code, written.buffer.to_vec()).expect("a call");
    let version =
        |name: &str| sim_core::control::TargetVersion { name: name.to_owned(), version: [1, 2, 3] };
    let mut buffer = written.buffer;
    let versions = vec![version("a"), version("b")];
    request.reply(Ok(Answer::Versions(versions)), None).apply(&mut buffer);
    for next in [1_u32, 17, 712, u32::MAX] {
        buffer[HEADER_LEN..HEADER_LEN + 4].copy_from_slice(&next.to_ne_bytes());
        let read = client::read(&Command::ListVersions, &buffer);
        assert_eq!(read.expect_err("a lie"), Errno::PROTO, "{next}");
    }
}
