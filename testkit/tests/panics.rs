//! A target that panics fails what it panicked in, and nothing else.

#![allow(clippy::unwrap_used, reason = "a test may")]

use std::fmt;

use sim_core::control::{Answer, Command, Id, Report, Slot, WhenOpen};
use sim_core::{
    Area, Args, Bio, BlkError, BlkResult, BoxFuture, CtrError, DevNumber, End, Errno, Flat, Held,
    KeyText, Locked, Mapped, Op, Profile, Refusal, Registry, Reply, Sector, Sectors, StatusKind,
    StatusWriter, Target, TargetType, parse_table, reply,
};
use testkit::{World, id, send};

/// `panics <where> <dev>`: sends everything on, and panics where it is told to.
struct Panics {
    at: &'static str,
    area: Area,
    state: Locked<u32>,
}

/// Everywhere that a target is called.
const PLACES: [&str; 16] = [
    "ctr",
    "read_metadata",
    "profile",
    "iterate_devices",
    "io_hints",
    "map",
    "future",
    "lock",
    "end_io",
    "flatten",
    "status",
    "message",
    "presuspend",
    "postsuspend",
    "preresume",
    "resume",
];

impl Panics {
    fn at(&self, place: &str) {
        assert!(self.at != place, "planted in {place}");
    }
}

impl TargetType for Panics {
    const NAME: &'static str = "panics";
    const VERSION: [u32; 3] = [1, 0, 0];

    fn ctr(args: &mut Args<'_>) -> Result<Panics, CtrError> {
        let word = args.next("no place")?.text();
        let at = PLACES.into_iter().find(|place| *place == word).unwrap_or("nowhere");
        let device = args.next("no device")?;
        let area = args.area(device, args.target_start(), args.target_len(), "no device")?;
        assert!(at != "ctr", "planted in ctr");
        Ok(Panics { at, area, state: Locked::new(0) })
    }
}

impl Target for Panics {
    fn read_metadata(&mut self) -> BoxFuture<'_, Result<(), CtrError>> {
        self.at("read_metadata");
        Box::pin(std::future::ready(Ok(())))
    }
    fn map<'a>(&'a self, bio: Bio<'a>) -> Mapped<'a> {
        self.at("map");
        match (self.at, bio.op()) {
            ("future", Op::Write) => Mapped::InFlight(Box::pin(async { panic!("planted") })),
            ("lock", Op::Write) => {
                let _half_changed = self.state.lock();
                panic!("planted under a lock");
            }
            ("lock", _) => {
                *self.state.lock() += 1;
                Mapped::Remapped(&self.area, bio.sector, bio)
            }
            _ => Mapped::Remapped(&self.area, bio.sector, bio),
        }
    }
    fn status(&self, kind: StatusKind, out: &mut StatusWriter<'_>) -> fmt::Result {
        if kind == StatusKind::Info {
            self.at("status");
        }
        write!(out, "{} ", self.at)?;
        out.device(&self.area)
    }
    fn iterate_devices(&self, each: &mut dyn FnMut(&Area)) {
        self.at("iterate_devices");
        each(&self.area);
    }
    fn profile(&self) -> Profile {
        self.at("profile");
        Profile { watches_end: true, flush_bypasses_map: false, ..Profile::REMAP }
    }
    fn io_hints(&self, _limits: &mut sim_core::Limits) {
        self.at("io_hints");
    }
    fn flatten(&self, _op: Op, offset: Sector) -> Flat<'_> {
        // Not as early as when the table is built.
        if offset > Sector::ZERO {
            self.at("flatten");
        }
        match self.at {
            "nowhere" => Flat::Device(&self.area, offset, self.area.size() - offset.from_start()),
            _ => Flat::Opaque,
        }
    }
    fn end_io(&self, _end: &End<'_>, result: BlkResult) -> BlkResult {
        self.at("end_io");
        result
    }
    fn message<'a>(&'a self, _words: &'a [&'a str]) -> Option<Reply<'a>> {
        self.at("message");
        reply(Ok(None))
    }
    fn presuspend(&self) {
        self.at("presuspend");
    }
    fn postsuspend(&self) -> BoxFuture<'_, ()> {
        self.at("postsuspend");
        Box::pin(std::future::ready(()))
    }
    fn preresume(&self) -> BoxFuture<'_, Result<(), Refusal>> {
        self.at("preresume");
        Box::pin(std::future::ready(Ok(())))
    }
    fn resume(&self) {
        self.at("resume");
    }
}

fn world() -> World {
    let registry: Registry = targets::registry().with::<Panics>();
    let world = World::new(11, registry);
    world.add_disk(Sectors(256));
    world.sim.catch_panics();
    world.set_up(0, "0 64 panics nowhere 7:0");
    world.set_up(1, "0 32 linear 253:0 0");
    world
}

fn load(world: &World, place: &str) -> Result<(), Errno> {
    let lines = parse_table(&format!("0 64 panics {place} 7:0")).expect("a table").into_iter();
    let loaded = world.load(0, lines.map(|(_, line)| line).collect());
    loaded.map(drop).map_err(|failure| failure.errno)
}

fn errno(result: Result<Answer, sim_core::control::Failure>) -> Result<(), Errno> {
    result.map(drop).map_err(|failure| failure.errno)
}

fn bio(world: &World, minor: u32, bio: Bio<'_>) -> BlkResult {
    world.sim.block_on(send(world.device(minor), bio))
}

/// One bio of each kind: some end in an error, none hangs.
fn bios(world: &World) -> Vec<BlkResult> {
    let mut buffer = [0; 1024];
    let mut results = Vec::new();
    for minor in [0, 1] {
        results.push(bio(world, minor, Bio::write(Sector(3), &[7; 1024])));
        results.push(bio(world, minor, Bio::read(Sector(3), &mut buffer)));
        results.push(bio(world, minor, Bio::flush()));
        results.push(bio(world, minor, Bio::discard(Sector(0), Sectors(8))));
    }
    results
}

fn status(world: &World) -> Result<(), Errno> {
    errno(world.execute(Command::TableStatus {
        id: id(0),
        report: Report::Status,
        slot: Slot::Live,
        device_names: false,
        keys: KeyText::Zeros,
    }))
}

#[test]
fn wherever_a_target_panics_all_else_goes_on() {
    for place in PLACES {
        let world = world();
        let loaded = load(&world, place);
        let resumed = world.resume(0);
        if ["ctr", "read_metadata", "profile"].contains(&place) {
            assert_eq!(loaded, Err(Errno::IO), "{place}");
        } else {
            assert_eq!(loaded, Ok(()), "{place}");
        }
        if ["preresume", "resume", "iterate_devices", "io_hints"].contains(&place) {
            assert_eq!(errno(resumed), Err(Errno::IO), "{place}");
            assert!(world.device(0).is_suspended(), "{place}: the device stays suspended");
            if ["preresume", "resume"].contains(&place) {
                let table = world.device(0).live().expect("a table");
                let text = table.status(StatusKind::Table, Default::default()).expect("a text");
                assert!(text.0[0].params.starts_with(place), "with the new table");
            }
        } else {
            let _ = (bios(&world), status(&world));
            let message = Command::TargetMsg {
                id: id(0),
                sector: Sector(0),
                message: "hello".into(),
                slot: Slot::Live,
            };
            let _ = world.execute(message);
            for held in [Held::Flush, Held::NoFlush] {
                let _ = world.suspend(0, held);
                let _ = world.resume(0);
            }
            let _ = bios(&world);
        }
        assert!(!world.sim.panics().is_empty(), "{place}: nothing panicked");
        assert_eq!(world.device(0).in_flight(), 0, "{place}: a pass is lost");
        // A table that does not panic heals it; whoever waits for it goes on.
        assert_eq!(load(&world, "nowhere"), Ok(()), "{place}");
        assert_eq!(errno(world.resume(0)), Ok(()), "{place}");
        // The old table was told to go.
        let _ = world.sim.panics();
        assert_eq!(bios(&world), vec![Ok(()); 8], "{place}");
        assert_eq!(status(&world), Ok(()), "{place}");
        assert_eq!(world.sim.panics(), Vec::<String>::new(), "{place}");
        for minor in [1, 0] {
            let remove = Command::DevRemove { id: id(minor), open: WhenOpen::Refuse };
            assert_eq!(errno(world.execute(remove)), Ok(()), "{place}");
        }
        assert_eq!(world.disk(0).open_count(), 0, "{place}");
    }
}

#[test]
fn a_bio_that_panics_fails_alone_unless_a_lock_is_left_half_changed() {
    for (place, read_after) in [("future", Ok(())), ("lock", Err(BlkError::Io))] {
        let world = world();
        load(&world, place).unwrap();
        world.resume(0).unwrap();
        let read = || bio(&world, 0, Bio::read(Sector(3), &mut [0; 512]));
        assert_eq!(read(), Ok(()));
        assert_eq!(bio(&world, 0, Bio::write(Sector(3), &[7; 512])), Err(BlkError::Io));
        assert_eq!(read(), read_after, "{place}");
        // The same target anew.
        load(&world, place).unwrap();
        world.resume(0).unwrap();
        assert_eq!(read(), Ok(()));
    }
}

#[test]
fn a_command_that_panics_fails_alone_and_is_told_of() {
    let world = world();
    for place in ["status", "message"] {
        load(&world, place).unwrap();
        world.resume(0).unwrap();
        let failed = match place {
            "status" => status(&world),
            _ => errno(world.execute(Command::TargetMsg {
                id: Id::Dev(DevNumber::mapped(0)),
                sector: Sector(0),
                message: "hello".into(),
                slot: Slot::Live,
            })),
        };
        assert_eq!(failed, Err(Errno::IO), "{place}");
        let told = world.sim.panics();
        assert_eq!(told, [format!("the table of 253:0: planted in {place}")]);
        assert_eq!(bios(&world), vec![Ok(()); 8], "{place}");
    }
}
