//! Queue limits and the checks made with them, held against recordings of Linux 6.12.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::FutureExt;
use sim_core::control::{Answer, Command, Failure, Id, WhenOpen};
use sim_core::{
    Access, Backing, Bio, BlkResult, BlockDevice, BoxFuture, Control, DevNumber, Errno, Half, Held,
    KernelLog, Limits, Runtime, Sectors, parse_table,
};

/// A disk of 64 MiB that is only ever looked at.
struct Disk {
    minor: u32,
    limits: Limits,
}

impl BlockDevice for Disk {
    fn number(&self) -> DevNumber {
        DevNumber { major: 7, minor: self.minor }
    }
    fn name(&self) -> String {
        format!("loop{}", self.minor)
    }
    fn size(&self) -> Sectors {
        Sectors(131_072)
    }
    fn limits(&self) -> Limits {
        self.limits.clone()
    }
    fn access(&self) -> Access {
        Access::ReadWrite
    }
    fn try_now<'b>(&self, bio: Bio<'b>) -> Result<BlkResult, Bio<'b>> {
        Err(bio)
    }
    fn submit<'a>(&'a self, _bio: Bio<'a>) -> BoxFuture<'a, BlkResult> {
        std::future::ready(Ok(())).boxed()
    }
    fn open(&self, _access: Access) -> Result<(), Errno> {
        Ok(())
    }
    fn release(&self) {}
}

/// `/dev/loop0` and on.
struct Disks(Vec<Arc<Disk>>);

impl Backing for Disks {
    fn by_number(&self, number: DevNumber) -> Result<Arc<dyn BlockDevice>, Errno> {
        let disk = self.0.get(number.minor as usize).filter(|_| number.major == 7);
        disk.map(|disk| disk.clone() as Arc<dyn BlockDevice>).ok_or(Errno::NXIO)
    }
    fn by_word<'a>(
        &'a self,
        word: &'a str,
        _base: &'a str,
    ) -> BoxFuture<'a, Result<Arc<dyn BlockDevice>, Errno>> {
        Box::pin(async move {
            let minor = word.strip_prefix("/dev/loop").and_then(|minor| minor.parse().ok());
            self.by_number(DevNumber { major: 7, minor: minor.ok_or(Errno::NOENT)? })
                .map_err(|_| Errno::NOENT)
        })
    }
}

/// Nothing here asks for tasks or time.
struct NoRuntime;

impl Runtime for NoRuntime {
    fn join(&self, one: Half<'_>, other: Half<'_>) {
        one();
        other();
    }
    fn spawn(&self, _task: BoxFuture<'static, ()>) {}
    fn spawn_here(&self, task: BoxFuture<'static, ()>) {
        task.now_or_never().expect("nothing waits here");
    }
    fn now(&self) -> Duration {
        Duration::ZERO
    }
    fn sleep(&self, _time: Duration) -> BoxFuture<'static, ()> {
        std::future::ready(()).boxed()
    }
    fn random(&self) -> u64 {
        0
    }
    fn caught(&self, _place: &str, panic: sim_core::Panic) {
        std::panic::resume_unwind(panic);
    }
}

#[derive(Default)]
struct Log(Mutex<Vec<String>>);

impl KernelLog for Log {
    fn line(&self, line: &str) {
        self.0.lock().expect("no test panics with the lock").push(line.to_owned());
    }
}

struct Kernel {
    control: Arc<Control>,
    log: Arc<Log>,
}

impl Kernel {
    fn new() -> Kernel {
        let limits = [512, 512, 4096, 512, 4096, 512].map(Limits::image);
        let disk = |(minor, limits)| Arc::new(Disk { minor, limits });
        let disks = (0..).zip(limits).map(disk).collect();
        let log = Arc::new(Log::default());
        let backing = Arc::new(Disks(disks));
        let control = Control::new(targets::registry(), backing, Arc::new(NoRuntime), log.clone());
        Kernel { control, log }
    }

    fn call(&self, command: Command) -> Result<Answer, Failure> {
        self.control.execute(command).now_or_never().expect("nothing waits here")
    }

    fn load(&self, table: &str, access: Access) -> Result<(), Failure> {
        let targets = parse_table(table).expect("a table").into_iter().map(|(_, spec)| spec);
        let (id, base) = (Id::Name("d".into()), String::new());
        let targets = targets.collect();
        self.call(Command::TableLoad { id, access, targets, base }).map(|_| ())
    }

    /// Makes the device `d`, and returns its limits in the order of the recording.
    fn create(&self, table: &str, access: Access) -> Result<String, Failure> {
        self.call(Command::DevCreate { name: "d".into(), uuid: None, minor: None })?;
        let id = || Id::Name("d".into());
        let loaded = self.load(table, access);
        let loaded =
            loaded.and_then(|()| self.call(Command::DevResume { id: id(), held: Held::Flush }));
        let limits = self.control.device(&id()).map(|device| device.limits());
        self.call(Command::DevRemove { id: id(), open: WhenOpen::Refuse })?;
        loaded?;
        let l = limits?;
        let bytes = |sectors: u32| u64::from(sectors) * 512;
        let numbers = [
            l.logical_block_size.into(),
            l.physical_block_size.into(),
            l.io_min.into(),
            l.io_opt.into(),
            l.discard_granularity.into(),
            bytes(l.max_discard_sectors),
            bytes(l.max_write_zeroes_sectors),
            (l.max_sectors() / 2).into(),
            (l.max_hw_sectors / 2).into(),
            l.max_segment_size.into(),
            l.max_segments.into(),
            l.max_discard_segments.into(),
            l.chunk_sectors.into(),
            l.dma_alignment.into(),
            l.read_ahead().0 / 2,
        ]
        .map(|number| number.to_string())
        .join(" ");
        Ok(format!("{numbers} {}", if l.write_cache { "wb" } else { "wt" }))
    }
}

#[test]
fn limits_stack_as_the_kernels_do() {
    let mut cases = 0;
    let recorded = include_str!("data/limits.txt");
    for case in recorded.split("\n\n").skip(1) {
        let [name, table, want] = case.trim().lines().collect::<Vec<_>>()[..] else {
            panic!("a case has three lines: {case}");
        };
        // Stacked ones need the devices below them; loop3 has no cache.
        if table.contains("/dev/mapper/") || table.contains("/dev/loop3") {
            continue;
        }
        let access = match name.ends_with(" ro") {
            true => Access::ReadOnly,
            false => Access::ReadWrite,
        };
        let kernel = Kernel::new();
        let got = kernel.create(&table.replace(',', "\n"), access);
        assert_eq!(got.as_deref(), Ok(want), "{name}: {table}");
        cases += 1;
    }
    assert!(cases >= 33, "only {cases} cases");
}

/// Loads a table that is refused, and returns the last but two of the kernel's lines: the reason.
fn refused(table: &str) -> String {
    let kernel = Kernel::new();
    kernel.create(table, Access::ReadWrite).expect_err("a refusal");
    let log = kernel.log.0.lock().expect("no test panics with the lock");
    let [.., reason, core, ioctl] = &log[..] else { panic!("three lines: {log:?}") };
    assert_eq!(core, "device-mapper: core: Cannot calculate initial queue limits");
    assert_eq!(ioctl, "device-mapper: ioctl: unable to set up device queue for new table.");
    reason.strip_prefix("device-mapper: table: 253:0: ").expect("a table's line").to_owned()
}

#[test]
fn an_area_that_cuts_a_logical_block_is_refused() {
    let unaligned = "not aligned to h/w logical block size 4096 of";
    for (table, want) in [
        ("0 1024 linear /dev/loop2 4", format!("start=4 {unaligned} loop2")),
        ("0 1020 linear /dev/loop2 0", format!("len=1020 {unaligned} loop2")),
        ("0 2100 striped 2 6 /dev/loop0 0 /dev/loop2 0", format!("len=1050 {unaligned} loop0")),
    ] {
        assert_eq!(refused(table), want, "{table}");
    }
}

#[test]
fn a_target_boundary_that_cuts_the_tables_logical_block_is_refused() {
    let small = "0 4 linear /dev/loop0 0\n4 1024 linear /dev/loop2 0";
    let want = "table line 1 (start sect 4 len 1024) not aligned to h/w logical block size 4096";
    assert_eq!(refused(small), want);
    // Where the last target ends within a block the kernel counts one on.
    let end = "0 1024 linear /dev/loop2 0\n1024 4 linear /dev/loop0 0";
    let want = "table line 2 (start sect 1024 len 4) not aligned to h/w logical block size 4096";
    assert_eq!(refused(end), want);
}

#[test]
fn a_later_table_that_does_not_fit_is_refused_at_resume_and_leaves_the_old_one_suspended() {
    let kernel = Kernel::new();
    let id = || Id::Name("d".into());
    kernel.call(Command::DevCreate { name: "d".into(), uuid: None, minor: None }).expect("made");
    kernel.load("0 8 linear /dev/loop0 0", Access::ReadWrite).expect("loaded");
    let resume = || kernel.call(Command::DevResume { id: id(), held: Held::Flush });
    resume().expect("resumed");
    kernel.load("0 8 linear /dev/loop0 999999999", Access::ReadWrite).expect("not checked yet");
    assert_eq!(resume().map_err(|failure| failure.errno), Err(Errno::INVAL));
    let status = || match kernel.call(Command::DevStatus { id: id(), slot: Default::default() }) {
        Ok(Answer::Status(status)) => status,
        other => panic!("a status, not {other:?}"),
    };
    let now = status();
    assert!((now.suspended, now.live_present, now.inactive_present) == (true, true, false));
    resume().expect("the old table is good");
    assert!(!status().suspended);
}
