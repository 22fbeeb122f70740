//! What is past: from this record and from the old one, on its way back.

use super::*;
use crate::record::PastDevice;

/// Builds what a past device was, as a restore does.
fn build(rig: &Rig, past: &PastDevice) {
    let device = &past.device;
    let (name, uuid) = (device.name.clone(), device.uuid.clone());
    rig.perform(Command::DevCreate { name, uuid, minor: Some(device.minor) }).unwrap();
    if let Some(table) = &device.live {
        let (id, access, base) = (named(&device.name), table.access, "/".to_owned());
        let targets = table.targets.clone();
        rig.perform(Command::TableLoad { id, access, targets, base }).unwrap();
        rig.perform(resume(&device.name)).unwrap();
    }
}

/// A folder with `a`, and `b` on it, which has an inactive table too.
fn two_devices() -> Simulated {
    let rig = Rig::new();
    life().into_iter().take(7).for_each(|command| rig.run(command).unwrap());
    rig.folder.clone()
}

#[test]
fn a_device_is_past_until_it_is_back_at_every_byte() {
    let folder = two_devices();
    let rig = Rig::over(&folder, MARGIN);
    let (before, durable) = (rig.past(), folder.bytes(NAME).len());
    for past in &rig.keeper.past().unwrap().devices {
        let restoring = rig.keeper.restoring(past);
        build(&rig, past);
        if past.device.inactive.is_some() {
            rig.perform(load("b", "0 4 linear 253:0 4")).unwrap();
        }
        restoring.done(false);
    }
    block_on(rig.control.commit()).unwrap();
    assert_eq!(rig.keeper.pending(), 0);
    let bytes = folder.bytes(NAME);
    for len in durable..=bytes.len() {
        assert_eq!(read(&Simulated::with(NAME, &bytes[..len])), before, "cut at {len}");
    }
}

#[test]
fn a_restore_that_is_given_up_leaves_the_device_as_past_as_it_was() {
    let folder = two_devices();
    let rig = Rig::over(&folder, MARGIN);
    let before = rig.past();
    let all = rig.keeper.past().unwrap().devices;
    let restoring = rig.keeper.restoring(&all[0]);
    build(&rig, &all[0]);
    rig.perform(remove("a")).unwrap();
    drop(restoring);
    block_on(rig.control.commit()).unwrap();
    assert_eq!((rig.past(), rig.keeper.pending()), (before.clone(), 2));
    assert_eq!(read(&folder), before);
}

#[test]
fn what_is_left_of_a_restore_that_cannot_be_undone_is_on_record_besides() {
    let folder = two_devices();
    let rig = Rig::over(&folder, MARGIN);
    let all = rig.keeper.past().unwrap().devices;
    let restoring = rig.keeper.restoring(&all[0]);
    rig.run(create(&all[0].device.name)).unwrap();
    drop(restoring);
    block_on(rig.control.commit()).unwrap();
    assert_eq!(rig.keeper.pending(), 2);
    assert_eq!(read(&folder).devices.len(), 3, "it has no table yet");
}

#[test]
fn what_is_there_again_with_its_tables_is_no_more_of_the_past_at_the_next_start() {
    let folder = two_devices();
    let rig = Rig::over(&folder, MARGIN);
    let before = rig.past();
    for past in &rig.keeper.past().unwrap().devices {
        build(&rig, past);
    }
    block_on(rig.control.commit()).unwrap();
    assert_eq!(rig.keeper.pending(), 2, "as long as this daemon runs");
    let names = |stack: &Stack| -> Vec<String> {
        stack.devices.iter().map(|device| device.name.clone()).collect()
    };
    // One of the two had a table in its other slot, which is not there again.
    let found = names(&read(&folder));
    let lost = before.devices.iter().filter(|device| device.inactive.is_some()).count();
    assert_eq!(found.len(), 2 + lost, "{found:?}");
}

#[test]
fn an_inactive_table_that_could_not_be_loaded_stays_past() {
    let folder = two_devices();
    let rig = Rig::over(&folder, MARGIN);
    for past in &rig.keeper.past().unwrap().devices {
        let restoring = rig.keeper.restoring(past);
        build(&rig, past);
        restoring.done(past.device.inactive.is_some());
    }
    let left = rig.past();
    assert_eq!((left.devices.len(), rig.keeper.pending()), (1, 1));
    assert_eq!(left.devices[0].live, None);
    assert_eq!(
        left.devices[0].inactive.as_ref().unwrap().targets[0].to_string(),
        "0 4 linear 253:0 4"
    );
    // Also after another start, beside what is there.
    let found = read(&folder);
    assert_eq!(found.devices.len(), 3);
    rig.keeper.device_is_back(&rig.keeper.past().unwrap().devices[0]);
    assert_eq!(rig.past(), Stack::default());
    assert_eq!(read(&folder).devices.len(), 2);
}

#[test]
fn what_is_past_can_be_forgotten_and_what_is_there_stays() {
    let folder = two_devices();
    let rig = Rig::over(&folder, MARGIN);
    rig.run(create("z")).unwrap();
    rig.keeper.forget();
    assert_eq!((rig.past(), rig.keeper.pending()), (Stack::default(), 0));
    assert_eq!(read(&folder), rig.there());
    // A restore that runs meanwhile has nothing to leave behind.
    let folder = two_devices();
    let rig = Rig::over(&folder, MARGIN);
    let all = rig.keeper.past().unwrap().devices;
    let restoring = rig.keeper.restoring(&all[0]);
    build(&rig, &all[0]);
    rig.keeper.forget();
    restoring.done(true);
    block_on(rig.control.commit()).unwrap();
    assert_eq!(read(&folder), rig.there());
}

#[test]
fn an_image_comes_and_goes_with_whoever_attaches_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("image");
    std::fs::write(&path, vec![0; 1 << 20]).unwrap();
    let folder = Simulated::default();
    let rig = Rig::over(&folder, MARGIN);
    rig.run(create("a")).unwrap();
    let on_the_spot = format!("0 8 linear {} 0", path.display());
    rig.run(load("a", &on_the_spot)).unwrap();
    assert_eq!(rig.there().images.len(), 1);
    assert_eq!(read(&folder), rig.there());
    rig.run(Command::TableClear { id: named("a") }).unwrap();
    assert_eq!(read(&folder), rig.there());
    assert_eq!(rig.there().images, []);
    let image = backing::Attach {
        path: path.clone(),
        name: Some("/dev/sda".to_owned()),
        number: None,
        access: Access::ReadOnly,
        sector_size: 4096,
        create: None,
        preallocate: false,
        host_device: false,
    };
    rig.images.attach(&image).unwrap();
    block_on(rig.control.commit()).unwrap();
    assert_eq!(read(&folder), rig.there());
    rig.images.detach("/dev/sda").unwrap();
    block_on(rig.control.commit()).unwrap();
    assert_eq!(read(&folder).images, []);
    // And back: one line says that it is no longer past.
    rig.images.attach(&image).unwrap();
    block_on(rig.control.commit()).unwrap();
    let before = rig.there();
    drop(rig.images.detach("/dev/sda"));
    let cut = Simulated::with(NAME, &folder.bytes(NAME));
    let rig = Rig::over(&cut, MARGIN);
    let past = rig.keeper.past().unwrap();
    if let [past] = &past.images[..] {
        let returning = rig.keeper.returning(past);
        rig.images.attach(&past.image.attach()).unwrap();
        drop(returning);
        block_on(rig.control.commit()).unwrap();
        assert_eq!(rig.keeper.pending(), 1, "the device is left");
        assert_eq!(read(&cut).images, before.images);
    }
}

/// A `state.json` as it was written before there was `record.log`.
fn old() -> String {
    let image = |n: u32, name: &str| {
        serde_json::json!({
            "path": format!("/images/{n}"), "dev": sim_core::DevNumber { major: 7, minor: n },
            "name": name, "access": Access::ReadWrite, "sector_size": 512,
        })
    };
    let device = |name: &str, minor: u32, table: serde_json::Value| {
        serde_json::json!({
            "name": name, "uuid": null, "minor": minor, "live": table, "inactive": null,
            "suspended": false, "read_ahead": null,
            "node": sim_core::control::Node::default(),
        })
    };
    let table = |line: &str| serde_json::json!({ "access": Access::ReadWrite, "targets": targets_of(line) });
    let top = device("top", 1, table("0 8 linear 253:4 0"));
    serde_json::json!({
        "version": 1,
        "images": [image(0, "one")],
        "devices": [device("low", 4, table("0 8 linear 7:0 0")), top, device("none", 2, serde_json::Value::Null)],
        "past": { "images": [image(1, "two"), image(0, "one")], "devices": [top] },
    })
    .to_string()
}

fn names(rig: &Rig) -> Vec<String> {
    let past = rig.keeper.past().unwrap();
    let images = past.images.iter().map(|past| past.image.name.clone().unwrap());
    images.chain(past.devices.iter().map(|past| past.device.name.clone())).collect()
}

#[test]
fn an_old_record_is_read_once_and_in_its_order() {
    let folder = Simulated::with("state.json", old().as_bytes());
    for _ in 0..3 {
        let rig = Rig::over(&folder, MARGIN);
        assert_eq!(names(&rig), ["one", "two", "low", "top", "none"]);
        assert_eq!(folder.names(), [NAME, "state.json.converted"]);
    }
    assert_eq!(folder.bytes("state.json.converted"), old().as_bytes());
}

#[test]
fn an_old_record_is_lost_at_no_step_of_its_conversion_and_read_twice_at_none() {
    for step in 1.. {
        let folder = Simulated::with("state.json", old().as_bytes());
        folder.fail(step, true);
        let done = Rig::open(&folder, MARGIN).is_ok();
        for cut in folder.after_a_cut() {
            let rig = Rig::over(&cut, MARGIN);
            assert_eq!(names(&rig), ["one", "two", "low", "top", "none"], "step {step}");
        }
        if done {
            return;
        }
    }
}

#[test]
fn an_old_record_of_no_known_version_or_none_is_refused_and_kept() {
    for text in ["", "{", "[]", r#"{"version":2}"#, r#"{"version":1,"images":3}"#] {
        let folder = Simulated::with("state.json", text.as_bytes());
        let fault = Rig::open(&folder, MARGIN).err().unwrap();
        assert!(fault.why.contains("move it away"), "{fault}");
        assert_eq!(folder.bytes("state.json"), text.as_bytes());
    }
}

#[test]
fn a_record_of_another_version_or_none_is_refused_and_kept() {
    let later = r#"{"sum":"00000000","line":1,"flushed":1,"record":{"version":3,"by":"later"}}"#;
    for (text, why) in [("", "no record"), ("not ours", "no record"), (later, "found 3")] {
        let folder = Simulated::with(NAME, text.as_bytes());
        let fault = Rig::open(&folder, MARGIN).err().unwrap();
        assert!(fault.why.contains("move it away") && fault.why.contains(why), "{fault}");
        assert_eq!(folder.bytes(NAME), text.as_bytes());
    }
}
