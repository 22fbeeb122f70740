//! Operations of the control plane from several threads at once.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use backing::{Pool, block_on};
use futures_util::FutureExt;
use sim_core::control::{Answer, Command, Id, WhenOpen};
use sim_core::{Access, Bio, BlockDevice, Control, Held, MappedDevice, NoLog, OpenDevice, Sectors};
use sim_core::{Runtime, Sector};

use crate::bytes::Bytes;
use crate::disks::{disks, id, lines};

const THREADS: usize = 3;

/// The most operations of one thread.
const STEPS: usize = 64;

const NAMES: [&str; 4] = ["w", "x", "y", "z"];

/// What is loaded: mostly other devices, so that circles are near.
const TABLES: [&str; 8] = [
    "0 8 linear a 0",
    "0 8 linear /dev/mapper/w 0",
    "0 8 linear /dev/mapper/x 0",
    "0 8 linear /dev/mapper/y 0",
    "0 8 linear /dev/mapper/z 0",
    "0 16 striped 2 8 /dev/mapper/w 0 /dev/mapper/x 0",
    "0 8 snapshot-origin /dev/mapper/y",
    "0 8 zero",
];

/// How long the devices may take to go when everything is over.
const PATIENCE: Duration = Duration::from_secs(10);

/// Carries out what the bytes stand for in three threads: whatever order they come in, no device
/// maps onto itself, none that is open goes, and nothing is left that could not be removed.
pub fn control_threads(data: &[u8]) {
    static POOL: OnceLock<Arc<Pool>> = OnceLock::new();
    let pool: Arc<dyn Runtime> = POOL.get_or_init(|| Pool::new(2)).clone();
    let backing = disks(1, Sectors(4096), 512).0;
    let control = Control::new(targets::registry(), backing, pool, Arc::new(NoLog));
    let length = data.len().div_ceil(THREADS).max(1);
    std::thread::scope(|scope| {
        let start = |part| {
            let control = &control;
            scope.spawn(move || work(control, &mut Bytes::new(part)))
        };
        let threads: Vec<_> = data.chunks(length).map(start).collect();
        // The scope by itself does not wait for what a thread gives back at its very end, which
        // would then count as leaked.
        threads.into_iter().for_each(|thread| thread.join().expect("no step panics"));
    });
    let begun = Instant::now();
    loop {
        for name in NAMES {
            // Bios that wait for it went with their threads.
            let held = Held::Flush;
            let _ = block_on(control.execute(Command::DevResume { id: id(name), held }));
        }
        block_on(control.execute(Command::RemoveAll { open: WhenOpen::Refuse })).expect("always");
        let left = block_on(control.execute(Command::ListDevices));
        if left == Ok(Answer::Devices(Vec::new())) {
            return;
        }
        assert!(begun.elapsed() < PATIENCE, "these stay: {left:?}");
    }
}

/// One thread's operations.
fn work(control: &Control, bytes: &mut Bytes<'_>) {
    let mut opened: Vec<(Arc<MappedDevice>, OpenDevice)> = Vec::new();
    for _ in 0..STEPS {
        let Some(kind) = bytes.next() else { return };
        let name = bytes.pick(&NAMES);
        let found = || control.device(&id(name)).ok();
        let run = |command| drop(block_on(control.execute(command)));
        match kind % 16 {
            0 | 1 => run(Command::DevCreate { name: name.into(), uuid: None, minor: None }),
            2 | 3 => run(Command::DevRemove {
                id: id(name),
                open: bytes.pick(&[WhenOpen::Refuse, WhenOpen::Defer]),
            }),
            4..=7 => run(Command::TableLoad {
                id: id(name),
                access: bytes.pick(&[Access::ReadWrite, Access::ReadOnly]),
                targets: lines(bytes.pick(&TABLES)),
                base: "/".to_owned(),
            }),
            8..=10 => run(Command::DevResume { id: id(name), held: Held::Flush }),
            11 => run(Command::TableClear { id: id(name) }),
            12 => {
                // A device that stays suspended holds whoever suspends one above it.
                let held = Held::NoFlush;
                let suspend = control.execute(Command::DevSuspend { id: id(name), held });
                let _ = suspend.now_or_never();
                run(Command::DevResume { id: id(name), held });
            }
            13 | 14 => opened.extend(found().and_then(|device| {
                let open = OpenDevice::new(device.clone(), Access::ReadOnly).ok()?;
                Some((device, open))
            })),
            _ => {
                opened.pop();
                control.reap();
            }
        }
        if let Some(device) = found() {
            let _ = device.walk_place(Sector::ZERO);
            let _ = device.submit(Bio::read(Sector::ZERO, &mut [0; 512])).now_or_never();
        }
        for (device, _) in &opened {
            let there = control.device(&Id::Dev(device.number()));
            assert!(
                there.is_ok_and(|there| Arc::ptr_eq(&there, device)),
                "a device that is open was removed"
            );
        }
    }
}
