//! The program of an author with types of their own, and what it tells of one that spins or ends its
//! process. This test is that program: it starts itself.

#![allow(clippy::unwrap_used, reason = "it is a test, without a harness")]

use std::fmt;
use std::process::{Command, ExitCode};

use serde_json::Value;
use sim_core::{
    Area, Args, Bio, CtrError, Mapped, Op, Profile, Reply, Sector, StatusKind, StatusWriter,
    Target, TargetType,
};

/// What is wrong with a type.
const NOTHING: u8 = 0;
const SPINS: u8 = 1;
const DIES: u8 = 2;
const PANICS_WHEN_TOLD: u8 = 3;

/// `mine <dev> <start>`, of which the swarm was told nothing.
struct Mine<const WRONG: u8>(Area);

impl<const WRONG: u8> TargetType for Mine<WRONG> {
    const NAME: &'static str = ["mine", "spins", "dies", "listens"][WRONG as usize];
    const VERSION: [u32; 3] = [1, 0, 0];
    const EXAMPLE: &'static str =
        ["", "0 64 spins a 8", "0 64 dies a 8", "0 64 listens a 8"][WRONG as usize];
    const MESSAGES: &'static [&'static str] =
        if WRONG == PANICS_WHEN_TOLD { &["now"] } else { &[] };

    fn ctr(args: &mut Args<'_>) -> Result<Self, CtrError> {
        const COUNT: &str = "Invalid argument count";
        args.exactly(2, COUNT)?;
        let (device, start) = (args.next(COUNT)?, args.next(COUNT)?.sector("Invalid sector")?);
        Ok(Mine(args.area(device, start, args.target_len(), "Device lookup failed")?))
    }
}

impl<const WRONG: u8> Target for Mine<WRONG> {
    fn map<'a>(&'a self, bio: Bio<'a>) -> Mapped<'a> {
        if bio.op() == Op::Write && bio.sector < Sector(4) {
            match WRONG {
                SPINS => loop {
                    std::hint::spin_loop();
                },
                DIES => std::process::abort(),
                _ => {}
            }
        }
        Mapped::Remapped(&self.0, bio.sector, bio)
    }

    fn status(&self, kind: StatusKind, out: &mut StatusWriter<'_>) -> fmt::Result {
        if kind == StatusKind::Table {
            out.device(&self.0)?;
            write!(out, " {}", self.0.start)?;
        }
        Ok(())
    }

    fn message<'a>(&'a self, words: &'a [&'a str]) -> Option<Reply<'a>> {
        assert!(WRONG != PANICS_WHEN_TOLD || words != ["now"], "it was told");
        None
    }

    fn iterate_devices(&self, each: &mut dyn FnMut(&Area)) {
        each(&self.0);
    }

    fn profile(&self) -> Profile {
        Profile::REMAP
    }
}

/// Which type this run of the program has; the test itself has none.
const TYPE: &str = "DMSIM_SWARM_TEST_TYPE";

fn main() -> ExitCode {
    match std::env::var(TYPE).as_deref() {
        Ok("mine") => swarm::main(targets::registry().with::<Mine<NOTHING>>()),
        Ok("listens") => swarm::main(targets::registry().with::<Mine<PANICS_WHEN_TOLD>>()),
        Ok("spins") => swarm::main(targets::registry().with::<Mine<SPINS>>()),
        Ok(_) => swarm::main(targets::registry().with::<Mine<DIES>>()),
        Err(_) => {
            a_type_that_nobody_told_of_is_run();
            one_that_spins_is_killed_and_its_seed_told();
            one_that_ends_its_process_is_told_of();
            the_messages_of_a_type_are_sent();
            ExitCode::SUCCESS
        }
    }
}

/// Runs this program as an author would, and returns its report and how it ended.
fn run(own: &str, arguments: &[&str]) -> (Value, Option<i32>, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.env(TYPE, own).args(["--json", "--quiet", "--out"]).arg(folder.path());
    let output = command.args(arguments).output().unwrap();
    let report = serde_json::from_slice(&output.stdout);
    let why = String::from_utf8_lossy(&output.stderr);
    (report.unwrap_or_else(|error| panic!("{error}: {why}")), output.status.code(), folder)
}

fn a_type_that_nobody_told_of_is_run() {
    let (report, code, _folder) = run("mine", &["--cases", "60"]);
    assert_eq!(code, Some(0), "{report:#}");
    let counts = &report["coverage"]["mine"];
    assert!(counts["stacks"].as_u64().unwrap() > 20, "{counts}");
    assert!(counts["refused"].as_u64().unwrap() < 10 && counts["bios"].as_u64().unwrap() > 200);
}

fn one_that_spins_is_killed_and_its_seed_told() {
    let (report, code, _folder) =
        run("spins", &["--cases", "2", "--seed", "2", "--limit", "1s", "--jobs", "2"]);
    assert_eq!(code, Some(1), "{report:#}");
    let find = &report["kinds"][0]["finds"][0];
    assert_eq!(find["why"], "gives no answer within 1s");
    let file = find["file"].as_str().unwrap();
    let case = std::fs::read_to_string(file).unwrap();
    assert!(case.starts_with(&format!("# seed {}\n", find["seed"])) && case.contains(" spins 7:"));
}

fn one_that_ends_its_process_is_told_of() {
    let (report, code, _folder) = run("dies", &["--cases", "4", "--jobs", "2"]);
    assert_eq!(code, Some(1), "{report:#}");
    let find = &report["kinds"][0]["finds"][0];
    assert!(find["why"].as_str().unwrap().starts_with("kills the process: signal: 6"), "{find}");
    let case = std::fs::read_to_string(find["file"].as_str().unwrap()).unwrap();
    let bios = case.lines().filter(|line| line.starts_with("bio ")).count();
    assert_eq!((case.matches(" dies ").count(), bios), (1, 1), "{case}");
}

fn the_messages_of_a_type_are_sent() {
    let (report, code, _folder) = run("listens", &["--cases", "60", "--jobs", "2"]);
    assert_eq!(code, Some(1), "{report:#}");
    let find = &report["kinds"][0]["finds"][0];
    assert!(find["why"].as_str().unwrap().contains("it was told"), "{find}");
}
