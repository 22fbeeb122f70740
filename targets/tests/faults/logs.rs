//! Logs of `log-writes`: what is in them, in which order, and what the kernel's hold.

use std::collections::BTreeMap;

use sha2::{Digest, Sha256};
use sim_core::control::{Command, WhenOpen};
use sim_core::{Bio, Held, Op, Sector, Sectors};
use targets::log_writes::format::{Kinds, Log};
use testkit::{BioStep, Fault, Rng, Speed, id, pattern, send};

use crate::images::image;
use crate::rig::Rig;

const TABLE: &str = "0 128 log-writes a b";

/// An entry, read without any code of the target's.
#[derive(Debug, PartialEq, Eq)]
struct Read {
    at: u64,
    len: u64,
    kinds: u64,
    text: String,
    data: Vec<u8>,
}

/// Reads a log as the replay programs do.
fn read(log: &[u8]) -> Vec<Read> {
    let number = |at: usize| u64::from_le_bytes(log[at..at + 8].try_into().expect("eight bytes"));
    assert_eq!((number(0), number(8)), (0x006a_7366_7773_6872, 1), "magic and version");
    let unit = number(24) as u32 as usize;
    let mut at = unit;
    let entry = |_| {
        let [sector, len, kinds, text_len] = [0, 8, 16, 24].map(|skip| number(at + skip));
        let text = &log[at + 32..at + 32 + text_len as usize];
        let text = String::from_utf8(text.to_vec()).expect("UTF-8");
        let data = if kinds & 4 == 0 { len as usize * unit } else { 0 };
        let data = log[at + unit..at + unit + data].to_vec();
        at += unit + data.len();
        Read { at: sector, len, kinds, text, data }
    };
    (0..number(16)).map(entry).collect()
}

/// Carries entries out on a device of this content; what is discarded reads as zeros.
fn replay(content: &mut [u8], unit: usize, entries: &[Read]) {
    for entry in entries {
        let at = entry.at as usize * unit;
        match entry.kinds & 4 {
            0 => content[at..at + entry.data.len()].copy_from_slice(&entry.data),
            _ => content[at..at + entry.len as usize * unit].fill(0),
        }
    }
}

impl Rig {
    fn remove(&self) {
        let remove = Command::DevRemove { id: id(0), open: WhenOpen::Refuse };
        self.world.execute(remove).expect("removed");
    }

    fn log(&self) -> Vec<Read> {
        read(&self.disks[1].content())
    }
}

fn kinds(entries: &[Read]) -> Vec<(u64, u64, &str)> {
    entries.iter().map(|entry| (entry.at, entry.kinds, entry.text.as_str())).collect()
}

#[test]
fn what_has_ended_is_logged_with_the_next_flush_and_the_rest_at_the_end() {
    let rig = Rig::new(1, TABLE);
    rig.write(3, 3).expect("written");
    rig.send(Bio::discard(Sector(8), Sectors(4))).expect("discarded");
    assert_eq!((rig.message("mark one"), rig.status().as_str()), (Ok(None), "1 1"));
    rig.send(Bio::write(Sector(4), &[4; 512]).with_fua()).expect("written");
    rig.send(Bio::flush()).expect("flushed");
    rig.write(5, 5).expect("written");
    rig.world.suspend(0, Held::Flush).expect("suspended");
    rig.remove();
    let log = rig.log();
    assert_eq!(
        kinds(&log),
        [
            (0, 8, "one"),
            (4, 2, ""),
            (3, 0, ""),
            (8, 4, ""),
            (0, 1, ""),
            (5, 0, ""),
            (0, 8, "dm-log-writes-end"),
        ]
    );
    assert_eq!(log[2].data, [3; 512]);
    assert_eq!((log[3].len, log[3].data.len()), (4, 0));
}

#[test]
fn another_table_ends_the_log_too_and_a_resume_alone_does_not() {
    let rig = Rig::new(2, TABLE);
    rig.write(3, 3).expect("written");
    rig.world.suspend(0, Held::Flush).expect("suspended");
    rig.world.resume(0).expect("resumed");
    assert_eq!(rig.status(), "0 0");
    let lines = sim_core::parse_table("0 128 linear a 0").expect("a table");
    rig.world.load(0, lines.into_iter().map(|(_, spec)| spec).collect()).expect("loaded");
    rig.world.resume(0).expect("resumed");
    assert_eq!(kinds(&rig.log()), [(3, 0, ""), (0, 8, "dm-log-writes-end")]);
}

#[test]
fn a_write_that_ends_after_a_flush_was_sent_is_not_before_it() {
    let mut seen = [0, 0];
    for seed in 0..40 {
        let rig = Rig::new(seed, TABLE);
        rig.disks[0].set_speed(Speed::Waits);
        let device = || rig.world.device(0);
        let (write, flush) = (device(), device());
        let write = async move { send(write, Bio::write(Sector(1), &[1; 512])).await };
        let write = rig.world.sim.start("write", write);
        let flush = rig.world.sim.start("flush", async move { send(flush, Bio::flush()).await });
        rig.world.sim.run_until_idle().expect("an end");
        assert!(write.take() == Some(Ok(())) && flush.take() == Some(Ok(())));
        rig.remove();
        let log = rig.log();
        let which = log.iter().position(|entry| entry.kinds == 1).expect("a flush");
        seen[which] += 1;
    }
    assert!(seen[0] > 0 && seen[1] > 0, "either comes first at times: {seen:?}");
}

#[test]
fn a_replay_of_random_traffic_gives_what_the_device_holds() {
    for seed in 0..30 {
        let rig = Rig::new(seed, TABLE);
        let mut rng = Rng::new(seed);
        let limits = sim_core::BlockDevice::limits(&*rig.world.device(0));
        for nr in 0..60 {
            let mut step = BioStep::random(&mut rng, 128, &limits);
            // What is logged as it ends must not come before what it was written over.
            step.flags.preflush |= step.flags.fua;
            let data = pattern(nr, step.sector, step.len);
            let bio = match step.op {
                Op::Read => continue,
                Op::Write => Bio::write(Sector(step.sector), &data),
                op => Bio::without_data(op, Sector(step.sector), Sectors(step.len)),
            };
            rig.send(bio.with_flags(step.flags)).expect("it ends well");
        }
        rig.remove();
        let (log, bytes) = (rig.log(), rig.disks[1].content());
        let mut content = vec![0; 4096 * 512];
        replay(&mut content, 512, &log);
        assert!(content == rig.disks[0].content(), "seed {seed}");
        let own = Log::parse(&bytes).expect("a log").map(|entry| entry.expect("an entry"));
        let own = own.map(|entry| Read {
            at: entry.head.at,
            len: entry.head.len,
            kinds: entry.head.kinds.0,
            text: String::from_utf8_lossy(entry.text).into_owned(),
            data: entry.data.to_vec(),
        });
        assert!(own.eq(log), "seed {seed}: both readers read the same");
    }
}

#[test]
fn a_log_that_fails_is_given_up_and_the_device_goes_on() {
    let rig = Rig::new(3, TABLE);
    rig.world.take_log();
    rig.disks[1].inject(Fault::Range(Sector(1), Sectors(1)));
    rig.write(3, 3).expect("written");
    rig.send(Bio::flush()).expect("flushed");
    rig.message("mark one").expect("taken");
    assert!(rig.status().ends_with(" logging_disabled"), "{}", rig.status());
    let told = ["device-mapper: log-writes: Error writing log block, error=10"];
    assert_eq!(rig.world.take_log(), told);
    assert_eq!(rig.write(4, 4), Ok(()));
    assert_eq!(rig.disks[0].sector(Sector(4)), [4; 512]);
}

#[test]
fn a_write_that_is_given_up_is_logged() {
    let rig = Rig::new(4, TABLE);
    rig.disks[0].set_speed(Speed::Waits);
    let device = rig.world.device(0);
    let mut write = Box::pin(send(device, Bio::write(Sector(1), &[1; 512])));
    let waker = std::task::Waker::noop();
    let poll = write.as_mut().poll(&mut std::task::Context::from_waker(waker));
    assert!(poll.is_pending());
    drop(write);
    rig.remove();
    assert_eq!(kinds(&rig.log())[0], (1, 0, ""));
}

/// The log of a small ext4 file system that Linux 6.12 has made files on, as its own log-writes wrote
/// it, and the file system at its end.
#[test]
fn a_log_of_the_kernel_replays_to_the_file_system_that_it_left() {
    let (log, before) = (image("log-writes-ext4/log"), image("log-writes-ext4/before"));
    let entries = read(&log);
    let mut by_kind: BTreeMap<u64, u32> = BTreeMap::new();
    entries.iter().for_each(|entry| *by_kind.entry(entry.kinds).or_default() += 1);
    let own: Vec<_> = Log::parse(&log).expect("a log").collect();
    assert_eq!(own.len(), entries.len());
    let marks = entries.iter().filter(|entry| entry.kinds == Kinds::MARK.0);
    let marks: Vec<&str> = marks.map(|entry| entry.text.as_str()).collect();
    assert_eq!(marks, ["mounted", "written", "removed", "unmounted", "dm-log-writes-end"]);
    assert!(by_kind[&1] > 0 && by_kind.keys().any(|kinds| kinds & 16 != 0), "{by_kind:?}");
    let mut content = before;
    replay(&mut content, 512, &entries);
    let digest: String =
        Sha256::digest(&content).iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(digest, "0a0d2893a5b86bd18e3473febc8f36c2f68419d76843525d380cec2fa17bf16f");
}
