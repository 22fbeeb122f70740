//! A target that moves its data while the device is in use: no bio is lost on the old route, and
//! one that waits for the move does not stop it.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use sim_core::control::{Command, Slot};
use sim_core::{
    Area, Args, Bio, CtrError, Flat, Mapped, Op, Outcome, Profile, Reply, Routes, Runtime, Sector,
    Sectors, Signal, StatusKind, StatusWriter, Target, TargetType, reply,
};
use testkit::{World, id, send};

const LEN: u64 = 16;

/// `moves <dev> <dev> <reads|all>`: maps onto one of two devices; the message `move` moves its data
/// to the other one. Reads are flattened, or all.
struct Moves(Arc<Inner>);

struct Inner {
    areas: [Area; 2],
    /// Which area is in use; [`MOVING`] while the data moves.
    at: AtomicUsize,
    moved: Signal,
    routes: Routes,
    flattens_all: bool,
    runtime: Arc<dyn Runtime>,
}

const MOVING: usize = 2;

impl Inner {
    async fn move_data(self: Arc<Self>) {
        let from = self.at.swap(MOVING, SeqCst);
        if from == MOVING {
            return;
        }
        self.routes.drained().await;
        let mut data = [0; LEN as usize * 512];
        let (from_area, to_area) = (&self.areas[from], &self.areas[1 - from]);
        from_area.submit(Sector(0), Bio::read(Sector(0), &mut data)).await.expect("healthy");
        to_area.submit(Sector(0), Bio::write(Sector(0), &data)).await.expect("healthy");
        self.at.store(1 - from, SeqCst);
        self.moved.notify();
    }

    fn area(&self) -> Option<&Area> {
        self.areas.get(self.at.load(SeqCst))
    }
}

impl TargetType for Moves {
    const NAME: &'static str = "moves";
    const VERSION: [u32; 3] = [1, 0, 0];

    fn ctr(args: &mut Args<'_>) -> Result<Moves, CtrError> {
        let (one, other) = (args.next("a device")?, args.next("a device")?);
        let areas = [
            args.area(one, Sector(0), Sectors(LEN), "a device")?,
            args.area(other, Sector(0), Sectors(LEN), "a device")?,
        ];
        let flattens_all = args.next("what is flattened")?.text() == "all";
        let (routes, runtime) = (args.routes(), args.runtime().clone());
        let (at, moved) = (AtomicUsize::new(0), Signal::default());
        Ok(Moves(Arc::new(Inner { areas, at, moved, routes, flattens_all, runtime })))
    }
}

impl Target for Moves {
    fn map<'a>(&'a self, bio: Bio<'a>) -> Mapped<'a> {
        match self.0.area() {
            Some(area) => Mapped::Remapped(area, bio.sector, bio),
            // Waits for the move with its pass of the device's gate held.
            None => Mapped::InFlight(Box::pin(async move {
                let routed = || {
                    let pass = self.0.routes.enter();
                    self.0.area().map(|area| (area, pass))
                };
                let (area, _pass) = self.0.moved.until(routed).await;
                area.submit(bio.sector, bio).await
            })),
        }
    }
    fn flatten(&self, op: Op, offset: Sector) -> Flat<'_> {
        match (op == Op::Read || self.0.flattens_all, self.0.area()) {
            (true, Some(area)) => Flat::Device(area, offset, Sectors(LEN) - offset.from_start()),
            _ => Flat::Opaque,
        }
    }
    fn profile(&self) -> Profile {
        Profile { reroutes: true, ..Profile::REMAP }
    }
    fn message<'a>(&'a self, _words: &'a [&'a str]) -> Option<Reply<'a>> {
        self.0.runtime.spawn(Box::pin(self.0.clone().move_data()));
        reply(Ok(None))
    }
    fn status(&self, _kind: StatusKind, out: &mut StatusWriter<'_>) -> fmt::Result {
        write!(out, "{}", self.0.at.load(SeqCst))
    }
    fn iterate_devices(&self, each: &mut dyn FnMut(&Area)) {
        self.0.areas.iter().for_each(each);
    }
}

fn world(seed: u64) -> World {
    let world = World::new(seed, targets::registry().with::<Moves>());
    world.add_disk(Sectors(LEN));
    world.add_disk(Sectors(LEN));
    world.set_up(0, &format!("0 {LEN} moves 7:0 7:1 {}", ["reads", "all"][seed as usize % 2]));
    world.set_up(1, &format!("0 {LEN} linear 253:0 0"));
    world.set_up(2, "0 8 linear 253:1 4\n8 8 zero");
    world
}

#[test]
fn nothing_is_lost_while_data_moves_under_load() {
    for seed in 0..300 {
        let world = world(seed);
        // One worker for each sector, by one of three ways down; each reads what it wrote last.
        let mut workers = Vec::new();
        for sector in 0..LEN {
            let (minor, at) = match sector % 3 {
                0 if (4..12).contains(&sector) => (2, sector - 4),
                1 => (1, sector),
                _ => (0, sector),
            };
            let device = world.device(minor);
            let done = Arc::new(Outcome::new());
            let ended = done.clone();
            world.sim.start("worker", async move {
                for round in 1..6u8 {
                    let data = [round; 512];
                    send(device.clone(), Bio::write(Sector(at), &data)).await.expect("healthy");
                    let mut back = [0; 512];
                    send(device.clone(), Bio::read(Sector(at), &mut back)).await.expect("healthy");
                    let seed = format!("seed {seed}, sector {sector}, round {round}");
                    assert!(back == data, "{seed}: found {}", back[0]);
                }
                ended.set(());
            });
            workers.push(done);
        }
        for _ in 0..3 {
            let (sector, message, slot) = (Sector(0), "move".into(), Slot::Live);
            let message = Command::TargetMsg { id: id(0), sector, message, slot };
            world.execute(message).expect("it takes messages");
        }
        world.sim.run_until_idle().unwrap_or_else(|stuck| panic!("{stuck}"));
        assert!(workers.iter().all(|worker| worker.has_ended()), "seed {seed}: somebody waits");
    }
}

#[test]
fn reads_alone_are_flattened_where_a_target_says_so() {
    let world = world(1);
    for minor in [0, 1, 2] {
        assert!(world.device(minor).extents().is_some());
    }
    let origin = world.set_up(3, "0 8 snapshot-origin 7:0");
    let above = world.set_up(4, "0 8 linear 253:3 0");
    assert_eq!(above.extents(), Some(2), "one for reads, one for writes");
    assert!(origin.flat_place(Sector(3)).is_some());
    assert_eq!(above.flat_place(Sector(3)), above.walk_place(Sector(3)));
}
