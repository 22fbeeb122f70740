//! What a failure says: the story of a case, what tasks wait for, and who has stopped.

use std::fmt;
use std::process::Command;
use std::sync::Mutex;

use sim_core::{
    Area, Args, Bio, BlkResult, CtrError, Mapped, Op, Profile, Sector, StatusKind, StatusWriter,
    Target, TargetType,
};
use testkit::conformance::{FailedCase, Part, Suite};

/// `faulty <dev> <start>`: as linear, and at fault from the second write of its sector 3 on.
struct Faulty<const FAULT: u8> {
    area: Area,
    writes: Mutex<u32>,
}

/// A write that is not long goes to the next sector.
const ELSEWHERE: u8 = 0;
/// It waits for what never comes.
const WAITS: u8 = 1;
/// It goes in circles.
const SPINS: u8 = 2;

impl<const FAULT: u8> TargetType for Faulty<FAULT> {
    const NAME: &'static str = "faulty";
    const VERSION: [u32; 3] = [1, 0, 0];

    fn ctr(args: &mut Args<'_>) -> Result<Faulty<FAULT>, CtrError> {
        args.exactly(2, "Invalid argument count")?;
        let (device, start) = (args.next("Missing device")?, args.next("Missing start")?);
        let start = start.sector("Invalid start")?;
        let area = args.area(device, start, args.target_len(), "Device lookup failed")?;
        Ok(Faulty { area, writes: Mutex::new(0) })
    }
}

impl<const FAULT: u8> Target for Faulty<FAULT> {
    fn map<'a>(&'a self, bio: Bio<'a>) -> Mapped<'a> {
        Mapped::InFlight(Box::pin(self.run(bio)))
    }

    fn status(&self, kind: StatusKind, out: &mut StatusWriter<'_>) -> fmt::Result {
        match kind {
            StatusKind::Info => Ok(()),
            StatusKind::Table => {
                out.device(&self.area)?;
                write!(out, " {}", self.area.start)
            }
        }
    }

    fn iterate_devices(&self, each: &mut dyn FnMut(&Area)) {
        each(&self.area);
    }

    fn profile(&self) -> Profile {
        Profile { num_flush_bios: 1, ..Profile::default() }
    }
}

impl<const FAULT: u8> Faulty<FAULT> {
    async fn run(&self, bio: Bio<'_>) -> BlkResult {
        let mut at = bio.sector;
        if bio.op() == Op::Write && (at.0..at.0 + bio.len().0).contains(&3) {
            let writes = {
                let mut writes = self.writes.lock().expect("nobody panics with it");
                *writes += 1;
                *writes
            };
            match FAULT {
                ELSEWHERE if writes >= 2 && bio.len().0 < 16 => at = Sector(at.0 + 1),
                WAITS if writes == 2 => std::future::pending().await,
                SPINS if writes == 2 => loop {
                    std::hint::spin_loop();
                },
                _ => {}
            }
        }
        self.area.submit(at, bio).await
    }
}

fn found<const FAULT: u8>() -> FailedCase {
    let suite = Suite::of::<Faulty<FAULT>>("0 64 faulty a 8")
        .blocks(&[512])
        .named("some-crate", "conformance");
    suite.find(Part::Operations, 0..20).expect("it is at fault")
}

#[test]
fn a_story_has_the_bios_and_the_io_of_the_sector_that_is_wrong() {
    let FailedCase { why, story, seed, .. } = found::<ELSEWHERE>();
    assert!(why.contains("sector "), "{why}");
    let sector = why.split("sector ").last().and_then(|text| text.split(' ').next());
    let sector: u64 = sector.expect("a sector").parse().expect("a number");
    assert!(story.starts_with(&format!("what led there, as far as sector {sector}")), "{story}");
    // The write that went elsewhere, and what it has become on the disk.
    let lines: Vec<&str> = story.lines().collect();
    assert!(
        lines.iter().any(|line| line.starts_with("  bio ") && line.contains("Write")),
        "{story}"
    );
    assert!(lines.iter().any(|line| line.contains("W a ") && line.contains("(bio ")), "{story}");
    assert!(lines.iter().any(|line| line.contains(&format!(">> sector {sector} has"))), "{story}");
    let all = format!("DMSIM_TRACE=1 DMSIM_SEED={seed} cargo test -p some-crate operations");
    assert!(story.contains(&all), "{story}");
    // A minute's reading.
    assert!(lines.len() < 120, "{story}");
}

#[test]
fn a_deadlock_names_the_bio_and_what_was_done_last() {
    let FailedCase { why, .. } = found::<WAITS>();
    assert!(why.contains("a bio never ends"), "{why}");
    assert!(
        why.contains("task 0") && why.contains("waits for a lock, a gate or a signal"),
        "{why}"
    );
    assert!(why.contains("under way: bio ") && why.contains("Write"), "{why}");
}

#[test]
#[ignore = "goes in circles: the next test runs it in a process of its own"]
fn spins() {
    found::<SPINS>();
}

#[test]
fn a_target_that_spins_is_ended_by_the_watchdog_which_names_part_and_seed() {
    let program = std::env::current_exe().expect("this program has a path");
    let mut command = Command::new(program);
    command.args(["--exact", "spins", "--ignored"]).env(testkit::WATCHDOG, "1");
    let output = command.output().expect("it runs");
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success(), "{text}");
    for part in [
        "part operations, seed ",
        "no step of the executor in 1s",
        "task 0 runs",
        "cargo test -p some-crate operations",
        "DMSIM_WATCHDOG_SECONDS=0 DMSIM_SEED=",
    ] {
        assert!(text.contains(part), "`{part}` is not in: {text}");
    }
    // Where a debugger is there and may look, the line of the loop.
    if text.contains("it is here:") {
        assert!(text.contains("stories/main.rs:"), "{text}");
    }
}
