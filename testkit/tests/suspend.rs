//! What suspended devices do to bios, and open ones to removals: one case each, by hand.

use sim_core::control::{Command, WhenOpen};
use sim_core::{
    Access, Bio, BlkError, BlockDevice, Errno, Flags, Held, OpenDevice, Sector, Sectors,
};
use testkit::{Fault, World, id, send};

/// Two disks; d0 and d1 over one each, d2 over d0, d3 striped over both.
fn stack(seed: u64) -> World {
    let world = World::new(seed, targets::registry());
    world.add_disk(Sectors(64));
    world.add_disk(Sectors(64));
    world.set_up(0, "0 32 linear 7:0 0");
    world.set_up(1, "0 32 linear 7:1 0");
    world.set_up(2, "0 16 linear 253:0 8");
    world.set_up(3, "0 64 striped 2 4 253:0 0 253:1 0");
    world
}

#[test]
fn a_suspended_device_holds_the_bios_of_those_above_and_no_others() {
    for seed in 0..50 {
        let world = stack(seed);
        world.suspend(0, Held::Flush).unwrap();
        let write = |device: u32| {
            let device = world.device(device);
            world
                .sim
                .start("write", async move { send(device, Bio::write(Sector(0), &[5; 512])).await })
        };
        let (above, beside) = (write(2), write(1));
        world.sim.run_until_idle().unwrap();
        assert_eq!((above.is_done(), beside.take()), (false, Some(Ok(()))));
        world.resume(0).unwrap();
        world.sim.run_until_idle().unwrap();
        assert_eq!(above.take(), Some(Ok(())));
    }
}

#[test]
fn a_suspended_device_turns_away_who_will_not_wait() {
    let world = stack(1);
    world.suspend(0, Held::Flush).unwrap();
    for device in [0, 2, 3] {
        let read = |flags: Flags| {
            let mut buffer = [0; 512];
            let bio = Bio::read(Sector(0), &mut buffer).with_flags(flags);
            world.sim.block_on(send(world.device(device), bio))
        };
        let nowait = Flags { nowait: true, ..Flags::default() };
        let readahead = Flags { readahead: true, ..Flags::default() };
        assert_eq!(read(nowait), Err(BlkError::Again), "d{device}");
        assert_eq!(read(readahead), Err(BlkError::Io), "d{device}");
    }
}

#[test]
fn a_flattened_flush_reaches_each_disk_once() {
    let world = stack(1);
    world.set_up(4, "0 16 linear 253:3 0\n16 16 linear 253:2 0\n32 8 zero");
    assert!(world.device(4).extents().is_some());
    for (device, reached) in [(0, [1, 0]), (2, [1, 0]), (3, [1, 1]), (4, [1, 1])] {
        let flushes = |minor: u32| world.disk(minor).counts().flushes;
        let before = [flushes(0), flushes(1)];
        world.sim.block_on(send(world.device(device), Bio::flush())).unwrap();
        assert_eq!([flushes(0) - before[0], flushes(1) - before[1]], reached, "d{device}");
    }
}

#[test]
fn an_open_device_is_busy_or_goes_when_it_is_closed() {
    let world = stack(1);
    let remove = |minor: u32, open: WhenOpen| {
        let command = Command::DevRemove { id: id(minor), open };
        world.execute(command).map(drop).map_err(|failure| failure.errno)
    };
    let open = OpenDevice::new(world.device(2), Access::ReadWrite).unwrap();
    assert_eq!(remove(2, WhenOpen::Refuse), Err(Errno::BUSY));
    assert_eq!(remove(0, WhenOpen::Refuse), Err(Errno::BUSY), "two tables have it open");
    assert_eq!(remove(0, WhenOpen::Defer), Ok(()));
    assert_eq!(remove(2, WhenOpen::Defer), Ok(()));
    assert_eq!(remove(3, WhenOpen::Refuse), Ok(()));
    assert_eq!(world.status(0).unwrap().open_count, 1);
    drop(open);
    world.control.reap();
    assert_eq!(world.status(2).unwrap_err().errno, Errno::NXIO);
    assert_eq!(world.status(0).unwrap_err().errno, Errno::NXIO, "it went with the last above");
}

#[test]
fn an_error_is_counted_for_its_leg_by_either_path() {
    for folding in [true, false] {
        let world = World::new(2, targets::registry());
        let disk = world.add_disk(Sectors(64));
        world.set_up(0, "0 8 linear 7:0 0");
        world.set_up(1, "0 8 linear 7:0 8");
        // The two legs lie side by side on the disk.
        let striped = world.set_up(2, "0 16 striped 2 8 253:0 0 253:1 0");
        striped.set_folding(folding);
        disk.inject(Fault::Range(Sector(10), Sectors(1)));
        let mut buffer = [0; 16 * 512];
        let read = Bio::read(Sector(0), &mut buffer);
        assert_eq!(world.sim.block_on(send(striped.clone(), read)), Err(BlkError::Io));
        let live = striped.live().unwrap();
        let status =
            live.status(sim_core::StatusKind::Info, Default::default()).expect("no panic").0;
        assert_eq!(&*status[0].params, "2 253:0 253:1 1 AD", "folding {folding}");
    }
}

#[test]
fn a_suspend_waits_for_bios_on_either_path() {
    for seed in 0..50 {
        let world = stack(seed);
        let device = world.device(2);
        device.set_folding(seed % 2 == 0);
        let write = device.submit(Bio::write(Sector(0), &[6; 512]));
        // Polled once: it is under way on the disk.
        let mut write = Box::pin(write);
        assert!(futures_util::FutureExt::now_or_never(&mut write).is_none());
        let control = world.control.clone();
        let suspend = Command::DevSuspend { id: id(0), held: Held::Flush };
        let suspend = world.sim.start("suspend", async move { control.execute(suspend).await });
        world.sim.block_on(async { world.handle().turn().await });
        assert!(!suspend.is_done(), "seed {seed}");
        world.sim.block_on(write).unwrap();
        world.sim.run_until_idle().unwrap();
        assert!(suspend.is_done());
        assert_eq!(world.disk(0).content()[8 * 512], 6);
    }
}

#[test]
fn a_second_suspend_waits_for_the_map_that_the_first_has_taken() {
    for seed in 0..50 {
        let world = stack(seed);
        // By the map of d2, through d0; the suspend of d2 takes that map away.
        let device = world.device(2);
        let mut write = device.submit(Bio::write(Sector(0), &[7; 512]));
        assert!(futures_util::FutureExt::now_or_never(&mut write).is_none());
        let suspend = |minor: u32| {
            let control = world.control.clone();
            let suspend = Command::DevSuspend { id: id(minor), held: Held::Flush };
            world.sim.start("suspend", async move { control.execute(suspend).await.is_ok() })
        };
        let upper = suspend(2);
        world.sim.block_on(async { world.handle().turn().await });
        let lower = suspend(0);
        for _ in 0..4 {
            world.sim.block_on(async { world.handle().turn().await });
        }
        assert!(!upper.is_done() && !lower.is_done(), "seed {seed}");
        world.sim.block_on(write).unwrap();
        world.sim.run_until_idle().unwrap();
        assert_eq!((upper.take(), lower.take()), (Some(true), Some(true)));
    }
}

/// `told <dev> <start>`: a linear target that counts what it is told, on the device's sector 63.
mod told {
    use std::fmt;

    use sim_core::*;

    pub(super) struct Told(Area);

    impl TargetType for Told {
        const NAME: &'static str = "told";
        const VERSION: [u32; 3] = [1, 0, 0];
        fn ctr(args: &mut Args<'_>) -> Result<Told, CtrError> {
            let (device, start) = (args.next("device")?, args.next("start")?);
            let len = args.target_len();
            Ok(Told(args.area(device, start.sector("start")?, len, "device")?))
        }
    }

    impl Target for Told {
        fn map<'a>(&'a self, bio: Bio<'a>) -> Mapped<'a> {
            Mapped::Remapped(&self.0, bio.sector, bio)
        }
        fn status(&self, _kind: StatusKind, _out: &mut StatusWriter<'_>) -> fmt::Result {
            Ok(())
        }
        fn iterate_devices(&self, each: &mut dyn FnMut(&Area)) {
            each(&self.0);
        }
        fn postsuspend(&self) -> BoxFuture<'_, ()> {
            Box::pin(async {
                let at = Sector(self.0.size().0 - 1);
                let mut sector = [0; 512];
                self.0.submit(at, Bio::read(at, &mut sector)).await.expect("the disk is good");
                sector[0] += 1;
                self.0.submit(at, Bio::write(at, &sector)).await.expect("the disk is good");
            })
        }
    }
}

#[test]
fn a_removal_tells_the_targets_as_a_suspend_does_and_once() {
    for suspended in [false, true] {
        for deferred in [false, true] {
            let world = World::new(7, targets::registry().with::<told::Told>());
            let disk = world.add_disk(Sectors(64));
            let device = world.set_up(0, "0 64 told 7:0 0");
            if suspended {
                world.suspend(0, Held::Flush).unwrap();
            }
            let user = deferred.then(|| OpenDevice::new(device, Access::ReadOnly).unwrap());
            let open = WhenOpen::Defer;
            world.execute(Command::DevRemove { id: id(0), open }).unwrap();
            if let Some(user) = user {
                assert_eq!(disk.content()[63 * 512], u8::from(suspended));
                drop(user);
                world.control.reap();
            }
            world.sim.run_until_idle().unwrap();
            let told = disk.content()[63 * 512];
            assert_eq!(told, 1, "suspended: {suspended}, deferred: {deferred}");
            assert_eq!(disk.open_count(), 0);
        }
    }
}
