//! A request that panics fails alone, and the mount goes on.

#![allow(clippy::unwrap_used, reason = "a test fails by a panic")]

mod common;

use std::fmt;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use common::World;
use common::mounted::{apart, errno, eventually, mount_world, soon};
use fuse_frontend::{Busy, Options};
use sim_core::{
    Area, Args, Bio, BlkResult, CtrError, Errno, Mapped, Profile, StatusKind, StatusWriter, Target,
    TargetType,
};

/// `broken now|later`: panics in `map`, or in what that has started.
struct Broken {
    now: bool,
}

impl TargetType for Broken {
    const NAME: &'static str = "broken";
    const VERSION: [u32; 3] = [1, 0, 0];

    fn ctr(args: &mut Args<'_>) -> Result<Broken, CtrError> {
        Ok(Broken { now: args.at(0, "no word")?.text() == "now" })
    }
}

impl Target for Broken {
    fn map<'a>(&'a self, _bio: Bio<'a>) -> Mapped<'a> {
        assert!(!self.now, "on purpose: the test shows it is caught");
        Mapped::InFlight(Box::pin(late()))
    }

    fn status(&self, _kind: StatusKind, _out: &mut StatusWriter<'_>) -> fmt::Result {
        Ok(())
    }

    fn iterate_devices(&self, _each: &mut dyn FnMut(&Area)) {}

    fn profile(&self) -> Profile {
        Profile { flush_bypasses_map: false, flush_supported: true, ..Profile::REMAP }
    }
}

/// Lets others run, and panics then.
async fn late() -> BlkResult {
    let mut yielded = false;
    std::future::poll_fn(|cx| {
        if std::mem::replace(&mut yielded, true) {
            return std::task::Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        std::task::Poll::Pending
    })
    .await;
    panic!("on purpose: the test shows it is caught");
}

#[test]
fn requests_that_panic_fail_and_the_mount_goes_on() {
    let world = World::with(targets::registry().with::<Broken>(), Arc::default());
    let options = Options { threads: 2, ..Options::default() };
    let Some(mounted) = mount_world(world, &options) else { return };
    mounted.world.create("now", "0 2048 broken now");
    mounted.world.create("later", "0 2048 broken later");
    mounted.world.create("good", "0 2048 linear disk 0");
    for name in ["now", "later"] {
        let file = Arc::new(mounted.open(name));
        // More than there are threads to serve the mount, and to run its tasks.
        let asks: Vec<_> = (0..12)
            .map(|round| {
                let file = file.clone();
                apart(move || panicking(&file, round))
            })
            .collect();
        assert!(asks.iter().all(|ask| soon(ask) == Err(Errno::IO)), "{name}");
        let good = mounted.open("good");
        let served = apart(move || {
            good.write_all_at(&[7; 4096], 0)?;
            good.sync_all()?;
            good.read_exact_at(&mut [0; 4096], 0)
        });
        assert!(soon(&served).is_ok(), "after {name}");
    }
    eventually("all are closed", || mounted.frontend.users().is_empty());
    mounted.frontend.unmount(Busy::Refuse).unwrap();
    assert!(!mounted.frontend.is_mounted());
    for name in ["now", "later"] {
        let device = mounted.world.control.find_shown(name).unwrap().device;
        assert_eq!((device.in_flight(), device.open_count()), (0, 0), "{name}");
        mounted.world.suspend(name);
    }
}

fn panicking(file: &File, round: u64) -> Result<(), Errno> {
    errno(match round % 4 {
        0 => file.read_exact_at(&mut [0; 4096], round * 4096),
        1 => file.write_all_at(&[1; 4096], round * 4096),
        2 => file.write_all_at(&[1; 10], round * 4096),
        _ => file.sync_all(),
    })
}
