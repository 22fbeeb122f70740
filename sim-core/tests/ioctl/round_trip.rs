//! Any command and any answer, written and read again.

use proptest::collection::vec;
use proptest::prelude::*;
use sim_core::control::ioctl::{self, client};
use sim_core::control::{
    Answer, Command, DevStatus, Id, Listed, NewName, Report, Slot, TargetVersion, WhenOpen,
};
use sim_core::{
    Access, DM_MAJOR, DevNumber, Errno, Held, KeyText, Params, Sector, Sectors, TargetSpec,
};

fn text(longest: usize) -> impl Strategy<Value = String> {
    let chars = prop_oneof![Just('a'), Just('\u{e9}'), Just(' '), Just('/'), Just('\u{1}')];
    vec(chars, 1..=longest / 2).prop_map(String::from_iter)
}

fn dev() -> impl Strategy<Value = DevNumber> {
    (1_u32..4096, 0_u32..1 << 20).prop_map(|(major, minor)| DevNumber { major, minor })
}

fn id() -> impl Strategy<Value = Id> {
    prop_oneof![text(127).prop_map(Id::Name), text(128).prop_map(Id::Uuid), dev().prop_map(Id::Dev)]
}

fn slot() -> impl Strategy<Value = Slot> {
    prop_oneof![Just(Slot::Live), Just(Slot::Inactive)]
}

fn held() -> impl Strategy<Value = Held> {
    prop_oneof![Just(Held::Flush), Just(Held::NoFlush)]
}

fn open() -> impl Strategy<Value = WhenOpen> {
    prop_oneof![Just(WhenOpen::Refuse), Just(WhenOpen::Defer)]
}

fn targets() -> impl Strategy<Value = Vec<TargetSpec>> {
    let params = prop_oneof![Just(String::new()), text(60)];
    let target =
        (any::<u64>(), any::<u64>(), text(15), params).prop_map(|(start, len, of, params)| {
            let (start, len, params) = (Sector(start), Sectors(len), Params::from(params));
            TargetSpec { start, len, target_type: of, params }
        });
    vec(target, 0..5)
}

fn command() -> impl Strategy<Value = Command> {
    let report = prop_oneof![
        Just(Report::Status),
        Just(Report::StatusNoFlush),
        Just(Report::Table),
        Just(Report::Measure)
    ];
    let new = prop_oneof![text(127).prop_map(NewName::Name), text(128).prop_map(NewName::Uuid)];
    let access = prop_oneof![Just(Access::ReadOnly), Just(Access::ReadWrite)];
    let status = |(id, report, slot)| Command::TableStatus {
        id,
        report,
        slot,
        device_names: false,
        keys: KeyText::Plain,
    };
    let load = |(id, access, targets)| Command::TableLoad { id, access, targets, base: "/".into() };
    let message = |(id, sector, text): (Id, u64, String)| Command::TargetMsg {
        id,
        sector: Sector(sector),
        message: text.into(),
        slot: Slot::Live,
    };
    let create = (text(127), proptest::option::of(text(128)), proptest::option::of(0_u32..1 << 20));
    prop_oneof![
        Just(Command::Version),
        Just(Command::ListDevices),
        Just(Command::ListVersions),
        Just(Command::ArmPoll),
        open().prop_map(|open| Command::RemoveAll { open }),
        create.prop_map(|(name, uuid, minor)| Command::DevCreate { name, uuid, minor }),
        (id(), open()).prop_map(|(id, open)| Command::DevRemove { id, open }),
        (text(127).prop_map(Id::Name), new).prop_map(|(id, new)| Command::DevRename { id, new }),
        (id(), held()).prop_map(|(id, held)| Command::DevSuspend { id, held }),
        (id(), held()).prop_map(|(id, held)| Command::DevResume { id, held }),
        (id(), slot()).prop_map(|(id, slot)| Command::DevStatus { id, slot }),
        (id(), any::<u32>()).prop_map(|(id, event_nr)| Command::DevWait { id, event_nr }),
        (id(), access, targets()).prop_map(load),
        id().prop_map(|id| Command::TableClear { id }),
        (id(), slot()).prop_map(|(id, slot)| Command::TableDeps { id, slot }),
        (id(), report, slot()).prop_map(status),
        (id(), any::<u64>(), text(200)).prop_map(message),
        (id(), text(40)).prop_map(|(id, geometry)| Command::SetGeometry { id, geometry }),
        text(127).prop_map(|name| Command::GetTargetVersion { name }),
    ]
}

fn status() -> impl Strategy<Value = DevStatus> {
    let numbers = (0_u32..1 << 20, 0_u32..1 << 31, any::<u32>(), any::<[bool; 5]>());
    let names = (text(127), proptest::option::of(text(128)));
    (names, numbers).prop_map(|((name, uuid), (minor, open_count, event_nr, flags))| {
        let [suspended, read_only, live_present, inactive_present, deferred_remove] = flags;
        DevStatus {
            name,
            uuid,
            dev: DevNumber { major: DM_MAJOR, minor },
            open_count,
            event_nr,
            target_count: 0,
            suspended,
            read_only: read_only && live_present,
            live_present,
            inactive_present,
            deferred_remove,
            read_ahead: None,
            overlap: None,
            fault_rules: 0,
        }
    })
}

/// A command about one device, or none, and an answer to it.
fn exchange() -> impl Strategy<Value = (Command, Answer)> {
    let a = || Id::Name("a".to_owned());
    let listed = (text(127), proptest::option::of(text(128)), dev(), any::<u32>());
    let listed =
        listed.prop_map(|(name, uuid, dev, event_nr)| Listed { name, uuid, dev, event_nr });
    let version = (text(60), any::<[u32; 3]>());
    let version = version.prop_map(|(name, version)| TargetVersion { name, version });
    let table = Command::TableStatus {
        id: a(),
        report: Report::Table,
        slot: Slot::Live,
        device_names: false,
        keys: KeyText::Plain,
    };
    let with_table = |mut status: DevStatus, targets: Vec<TargetSpec>| {
        (status.live_present, status.target_count) = (true, targets.len());
        Answer::Table(status, targets)
    };
    let deps = Command::TableDeps { id: a(), slot: Slot::Live };
    let message =
        Command::TargetMsg { id: a(), sector: Sector(0), message: "m".into(), slot: Slot::Live };
    prop_oneof![
        vec(listed, 0..5).prop_map(|all| (Command::ListDevices, Answer::Devices(all))),
        vec(version, 1..5).prop_map(|all| (Command::ListVersions, Answer::Versions(all))),
        vec(dev(), 0..5).prop_map(move |all| (deps.clone(), Answer::Deps(all))),
        (status(), targets())
            .prop_map(move |(status, targets)| (table.clone(), with_table(status, targets))),
        proptest::option::of(text(80)).prop_map(move |text| (message.clone(), Answer::Text(text))),
        status().prop_map(move |status| {
            let command = Command::DevStatus { id: a(), slot: Slot::Live };
            (command, Answer::Status(status))
        }),
    ]
}

proptest! {
    #[test]
    fn commands_are_read_as_they_were_written(command in command(), size in 0_usize..2048) {
        let call = client::write(&command, size).expect("within all limits");
        let request = ioctl::decode(call.code, call.buffer.to_vec()).expect("as it should be");
        prop_assert_eq!(request.command(), &command);
    }

    #[test]
    fn answers_are_read_as_they_were_written(
        (command, answer) in exchange(), of in status(), size in 0_usize..1024,
    ) {
        let of = DevStatus { live_present: true, ..of };
        let large = ask(&command, &answer, &of, 1 << 16);
        prop_assert_eq!(large.answer.as_ref(), Some(&answer));
        if let Answer::Status(status) | Answer::Table(status, _) = &answer {
            prop_assert_eq!(&large.status, status);
        } else if matches!(answer, Answer::Deps(_) | Answer::Text(_)) {
            prop_assert_eq!(&large.status, &of);
        }
        // Whole, or not at all.
        let small = ask(&command, &answer, &of, size).answer;
        prop_assert!(small.is_none() || small == Some(answer));
    }

    #[test]
    fn a_refusal_tells_the_version_or_wipes(command in command(), size in 305_usize..2048) {
        let call = client::write(&command, size).expect("within all limits");
        let request = ioctl::decode(call.code, call.buffer.to_vec()).expect("as it should be");
        let reply = request.reply(Err(Errno::BUSY), None);
        let mut buffer = call.buffer.to_vec();
        reply.apply(&mut buffer);
        prop_assert_eq!(reply.result, Err(Errno::BUSY));
        match reply.wiped {
            0 => {
                prop_assert_eq!(&buffer[..12], [4_u32, 48, 0].map(u32::to_ne_bytes).concat());
                prop_assert_eq!(&buffer[12..], &call.buffer[12..]);
            }
            // Keys were in it, or were to come into it.
            _ => prop_assert!(buffer.iter().all(|byte| *byte == 0)),
        }
    }
}

/// Makes a call, answers it, and reads the answer.
fn ask(command: &Command, answer: &Answer, of: &DevStatus, size: usize) -> client::Reading {
    let call = client::write(command, size).expect("within all limits");
    let request = ioctl::decode(call.code, call.buffer.to_vec()).expect("as it should be");
    let also = request.also().map(|_| Answer::Status(of.clone()));
    let reply = request.reply(Ok(answer.clone()), also);
    let mut buffer = call.buffer;
    reply.apply(&mut buffer);
    client::read(command, &buffer).expect("an answer")
}
