//! How fast regions are copied where each takes its time.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use sim_core::{
    Area, Args, Bio, CtrError, Mapped, Op, Profile, Runtime, Sector, Sectors, StatusKind,
    StatusWriter, Target, TargetType,
};
use testkit::{World, send};

const REGIONS: u64 = 32;

/// What a write of a slow device takes.
const TAKES: Duration = Duration::from_millis(10);

/// `slow <dev>`: each write takes its time.
struct Slow(Area, Arc<dyn Runtime>);

impl TargetType for Slow {
    const NAME: &'static str = "slow";
    const VERSION: [u32; 3] = [1, 0, 0];

    fn ctr(args: &mut Args<'_>) -> Result<Slow, CtrError> {
        let (word, len) = (args.next("a device")?, args.target_len());
        let area = args.area(word, Sector::ZERO, len, "a device")?;
        Ok(Slow(area, args.runtime().clone()))
    }
}

impl Target for Slow {
    fn map<'a>(&'a self, bio: Bio<'a>) -> Mapped<'a> {
        match bio.op() {
            Op::Write => Mapped::InFlight(Box::pin(async move {
                self.1.sleep(TAKES).await;
                self.0.submit(bio.sector, bio).await
            })),
            _ => Mapped::Remapped(&self.0, bio.sector, bio),
        }
    }
    fn profile(&self) -> Profile {
        Profile::REMAP
    }
    fn status(&self, _kind: StatusKind, out: &mut StatusWriter<'_>) -> fmt::Result {
        out.device(&self.0)
    }
    fn iterate_devices(&self, each: &mut dyn FnMut(&Area)) {
        each(&self.0);
    }
}

/// Copies all regions, and returns how long it takes; another bio comes every so often.
fn resync(every: Option<Duration>) -> Duration {
    let world = World::new(1, targets::registry().with::<Slow>());
    (0..2).for_each(|_| drop(world.add_disk(Sectors(REGIONS * 8))));
    let size = REGIONS * 8;
    world.set_up(0, &format!("0 {size} slow 7:1"));
    let begun = world.handle().now();
    let device = world.set_up(1, &format!("0 {size} mirror core 1 8 2 7:0 0 253:0 0"));
    let (handle, mirror) = (world.handle(), device.clone());
    let in_sync = move || {
        let live = mirror.live().expect("a table");
        let status = live.status(StatusKind::Info, Default::default()).expect("no panic");
        status.0[0].params.contains(&format!(" {REGIONS}/{REGIONS} "))
    };
    world.sim.block_on(async move {
        while !in_sync() {
            if every.is_some() {
                let mut sector = [0; 512];
                let read = Bio::read(Sector::ZERO, &mut sector);
                send(device.clone(), read).await.expect("healthy");
            }
            handle.sleep(every.unwrap_or(TAKES / 10)).await;
        }
        handle.now() - begun
    })
}

/// Regions are copied four at a time.
#[test]
fn a_mirror_that_is_used_is_copied_half_of_the_time_and_one_that_is_not_all_the_time() {
    let alone = TAKES * (REGIONS as u32 / 4);
    let (unused, used) = (resync(None), resync(Some(TAKES / 10)));
    assert!((alone..alone + TAKES).contains(&unused), "{unused:?}");
    assert!((alone * 3 / 2..alone * 9 / 4).contains(&used), "{used:?}");
}
