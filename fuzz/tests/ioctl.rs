//! The recorded calls of the ioctl interface, made on a control plane: what it answers is what
//! Linux 6.12 did, as far as it knows what they ask for.

#[path = "../../sim-core/tests/ioctl/recording.rs"]
mod recording;

use std::path::Path;
use std::sync::{Arc, Mutex};

use backing::Memory;
use fuzz::Disks;
use recording::Exchange;
use sim_core::control::ioctl::{Call, Reply};
use sim_core::{Control, DevNumber, KernelLog, Sectors};
use testkit::Sim;

#[derive(Default)]
struct Log(Mutex<Vec<String>>);

impl KernelLog for Log {
    fn line(&self, line: &str) {
        self.0.lock().expect("nobody panics with it").push(line.to_owned());
    }
}

/// Where the control plane is known to answer otherwise: a word of `TITLE: CALL`, and why.
type Known<'a> = &'a [(&'a str, &'a str)];

const EVERYWHERE: Known<'_> = &[
    (": versions", "the registry has other target types than the kernel had loaded"),
    ("@stats_", "there are no statistics"),
];

#[test]
fn calls_at_the_edges_of_the_rules() {
    check(
        "rules.txt",
        &[
            ("data_size past the memory", "whoever serves the call finds that out"),
            ("the second lies", "the whole list is read before the first target is built"),
            ("no text: refused", "parameters have to be UTF-8"),
            ("remove: open, deferred: ", "/dev/mapper/low was not there, as udev was not"),
        ],
    );
}

#[test]
fn a_session_of_dmsetup() {
    check(
        "dmsetup.txt",
        &[
            ("key set 11111111", "its line begins with another word, and was not recorded"),
            ("remove c: ", "the shell had it open"),
            ("remove --deferred c: ", "it is gone"),
            ("info c: ", "it is gone"),
            ("dmsetup ls: list", "the creates of many devices were left out"),
            ("--noheadings", "likewise"),
        ],
    );
}

#[test]
fn a_session_of_cryptsetup() {
    check(
        "cryptsetup.txt",
        &[
            ("version of integrity", "there is no such target"),
            (" luks: ", "its keys were in the keyring of the kernel"),
        ],
    );
}

#[test]
fn a_session_of_lvm() {
    check(
        "lvm.txt",
        &[("lvconvert", "how often a mirror has raised events, that is resynchronizing")],
    );
}

/// Makes the calls of a recording. What comes out otherwise is known to, and what is known to does.
fn check(name: &str, known: Known<'_>) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../sim-core/tests/data/ioctl");
    let disk =
        |minor, name| Memory::new(DevNumber { major: 254, minor }, name, Sectors(131_072), 512);
    let (sim, log) = (Sim::new(0), Arc::new(Log::default()));
    let disks = Arc::new(Disks(vec![disk(0, "vda"), disk(16, "vdb")]));
    let control = Control::new(targets::registry(), disks, sim.runtime(), log.clone());
    let (mut same, mut met) = (0, vec![false; known.len()]);
    for exchange in recording::read(&folder.join(name)) {
        let call = Call::read(exchange.code, &exchange.before);
        let reply = match call.and_then(|call| call.decode(exchange.before.clone().into())) {
            Ok(request) => sim.block_on(control.ioctl(request)),
            Err(reply) => reply,
        };
        let mut lines = std::mem::take(&mut *log.0.lock().expect("nobody panics with it"));
        lines.extend(reply.log.iter().cloned());
        let Some(difference) = difference(&exchange, &reply, &lines) else {
            same += 1;
            continue;
        };
        let place = format!("{}: {}", exchange.title, exchange.want);
        let found = known.iter().position(|(word, _)| place.contains(word));
        let is_known = EVERYWHERE.iter().any(|(word, _)| place.contains(word));
        assert!(found.is_some() || is_known, "{name}: {place}: {difference}");
        found.into_iter().for_each(|index| met[index] = true);
    }
    assert!(same > 50, "{name}: {same} are the same");
    let unmet: Vec<_> = known.iter().zip(met).filter(|(_, met)| !met).collect();
    assert!(unmet.is_empty(), "{name}: {unmet:?}");
}

fn difference(exchange: &Exchange, reply: &Reply, log: &[String]) -> Option<String> {
    let errno = reply.result.err().map_or(0, |errno| errno.0);
    if errno != exchange.errno {
        return Some(format!("errno {errno}, not {}; {log:?}", exchange.errno));
    }
    if log != exchange.log {
        return Some(format!("log {log:?}, not {:?}", exchange.log));
    }
    let (mut buffer, mut after) = (exchange.before.clone(), exchange.after.clone());
    reply.apply(&mut buffer);
    // Removals, renames and resumes make no uevent, and say of none.
    if errno == 0 && matches!(exchange.code & 0xff, 4..=6) {
        after[29] &= !0x20;
    }
    let at = buffer.iter().zip(&after).position(|(found, expected)| found != expected)?;
    Some(format!("byte {at}: {}, not {}", buffer[at], after[at]))
}
