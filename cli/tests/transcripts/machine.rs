//! A machine in memory: a control plane over attached memory devices, and the commands of a
//! transcript on it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use backing::{Pool, block_on};
use dmsim_cli::dmsetup::{Called, Dm, Streams, run};
use sha2::{Digest, Sha256};
use sim_core::control::{Answer, Command, Failure, Shown};
use sim_core::{
    Access, Backing, Bio, BlkError, BlockDevice, BoxFuture, Control, DevNumber, Errno, Half,
    KernelLog, OpenDevice, Panic, Runtime, Sector, Sectors,
};
use zeroize::Zeroizing;

use crate::images::pattern;
use crate::loops::{Loop, Loops};
use crate::script::{BACKGROUND, Image, Outcome, words};

#[derive(Default)]
struct Log(Mutex<Vec<String>>);

impl KernelLog for Log {
    fn line(&self, line: &str) {
        self.0.lock().unwrap().push(line.to_owned());
    }
}

/// The guest had one processor.
struct OneProcessor(Arc<Pool>);

impl Runtime for OneProcessor {
    fn spawn(&self, task: BoxFuture<'static, ()>) {
        self.0.spawn(task);
    }
    fn spawn_here(&self, task: BoxFuture<'static, ()>) {
        self.0.spawn_here(task);
    }
    fn join(&self, one: Half<'_>, other: Half<'_>) {
        self.0.join(one, other);
    }
    fn key(&self, kind: &str, description: &str) -> Result<Zeroizing<Vec<u8>>, Errno> {
        self.0.key(kind, description)
    }
    fn now(&self) -> Duration {
        self.0.now()
    }
    fn sleep(&self, time: Duration) -> BoxFuture<'static, ()> {
        self.0.sleep(time)
    }
    fn random(&self) -> u64 {
        self.0.random()
    }
    fn caught(&self, place: &str, panic: Panic) {
        self.0.caught(place, panic);
    }
}

/// The way of dmsetup's verbs to the control plane.
struct InProcess<'a>(&'a Machine);

impl Dm for InProcess<'_> {
    fn call(&mut self, command: Command) -> Result<Answer, Failure> {
        block_on(self.0.control.execute(command))
    }

    fn device_name(&mut self, dev: DevNumber) -> Option<String> {
        self.0.loops.by_number(dev).ok().map(|device| device.name())
    }

    fn base(&self) -> String {
        "/".to_owned()
    }
}

/// A machine in memory.
pub(crate) struct Machine {
    control: Arc<Control>,
    loops: Arc<Loops>,
    log: Arc<Log>,
    held: Vec<OpenDevice>,
    names: BTreeMap<String, u32>,
    /// What images were when they were kept.
    kept: BTreeMap<String, (u64, String)>,
    /// Tells the status of what goes on in the background, when it has ended.
    background: Option<mpsc::Receiver<i32>>,
}

impl Machine {
    pub(crate) fn new() -> Machine {
        let (loops, log) = (Arc::<Loops>::default(), Arc::<Log>::default());
        let runtime = Arc::new(OneProcessor(Pool::new(1)));
        let control = Control::new(targets::registry(), loops.clone(), runtime, log.clone());
        let (held, names, kept) = (Vec::new(), BTreeMap::new(), BTreeMap::new());
        Machine { control, loops, log, held, names, kept, background: None }
    }

    pub(crate) fn attach(&mut self, image: &Image) {
        let content = image.fill.map(|first| pattern(first, image.sectors));
        self.loops.add(image.minor, Loop::new(image, content.as_deref()));
        self.names.insert(image.name.clone(), image.minor);
    }

    /// Runs a command; `None` for one that is about the machine, not about device-mapper.
    pub(crate) fn run(&mut self, line: &str, probe: bool) -> Option<Outcome> {
        let (line, waits) = match line.strip_suffix(BACKGROUND) {
            Some(line) => (line, false),
            None => (line, true),
        };
        let mut words = words(line).expect("quotes are closed");
        let stdin = words.iter().position(|word| word == "<<").map(|at| {
            let text = format!("{}\n", words[at + 1]);
            words.truncate(at);
            text
        });
        let (head, rest) = words.split_first().expect("a command");
        let text: Vec<&str> = rest.iter().map(String::as_str).collect();
        let mut outcome = match (head.as_str(), &text[..]) {
            ("dmsetup" | "dmstats", args) => {
                let stdin = stdin.unwrap_or_default();
                let called = if head == "dmsetup" { Called::Dmsetup } else { Called::Dmstats };
                let mut outcome = self.dmsetup(called, args, &stdin);
                if probe && outcome.status == 0 {
                    self.undo_probe(&mut outcome);
                }
                outcome
            }
            ("put", [device, sector, count, first]) if !waits => {
                self.put_in_background(device, number(sector), number(count), number(first));
                Outcome::default()
            }
            ("get", [device, sector, _]) if !waits => {
                self.get_in_background(device, number(sector));
                Outcome::default()
            }
            ("poke", [device, at, bytes]) => {
                self.poke(device, number(at), bytes);
                Outcome::default()
            }
            ("put", [device, sector, count, first]) => {
                self.put(device, number(sector), number(count), first.parse().ok())
            }
            ("get", [device, sector, count]) => self.get(device, number(sector), number(count)),
            ("dd", _) => self.dd(&text),
            ("blkdiscard", _) => self.discard(&text),
            ("blockdev", _) => self.blockdev(&text),
            ("cat", _) if text.iter().all(|word| word.starts_with("/sys/block/dm-")) => {
                self.queue(&text)
            }
            ("ls", ["/dev/mapper"]) => {
                let shown = self.control.shown();
                let mut names: Vec<_> = shown.into_iter().map(|shown| shown.name).collect();
                names.push("control".to_owned());
                names.sort();
                said(names)
            }
            ("hold", [device]) => {
                let device = self.device(device).expect("a device to hold");
                self.held.push(OpenDevice::new(device, Access::ReadOnly).unwrap());
                Outcome::default()
            }
            ("keep", [name, device]) => {
                let device = self.device(device).expect("a device to keep");
                self.kept.insert((*name).to_owned(), digest(&*device));
                Outcome::default()
            }
            ("release", _) => {
                self.held.clear();
                self.control.reap();
                Outcome::default()
            }
            _ => return None,
        };
        outcome.kernel = self.log();
        Some(outcome)
    }

    /// Takes what was logged since the last command.
    pub(crate) fn log(&self) -> Vec<String> {
        let mut lines = std::mem::take(&mut *self.log.0.lock().unwrap());
        // The recording has no others.
        lines.retain(|line| line.starts_with("device-mapper: "));
        lines
    }

    /// Runs a command line of dmsetup's verbs.
    pub(crate) fn dmsetup(&self, called: Called, args: &[&str], stdin: &str) -> Outcome {
        let args: Vec<String> = args.iter().map(|arg| (*arg).to_owned()).collect();
        let (mut stdin, mut stdout, mut stderr) = (stdin.as_bytes(), Vec::new(), Vec::new());
        let mut streams = Streams { stdin: &mut stdin, stdout: &mut stdout, stderr: &mut stderr };
        let status = run(called, &args, &mut InProcess(self), &mut streams);
        let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
        let (stdout, stderr) = (text(stdout), text(stderr));
        Outcome { stdout, stderr, status, ..Outcome::default() }
    }

    /// Shows the device that was not to be, and removes it again.
    fn undo_probe(&self, outcome: &mut Outcome) {
        for line in self.dmsetup(Called::Dmsetup, &["table", "bad"], "").stdout.lines() {
            outcome.stdout += &format!("table: {line}\n");
        }
        if outcome.stdout.contains(" mirror ") {
            // The kernel had time for the resync.
            std::thread::sleep(Duration::from_millis(50));
        }
        self.dmsetup(Called::Dmsetup, &["remove", "--force", "bad"], "");
    }

    fn find(&self, path: &str) -> Option<Shown> {
        self.control.find_shown(path.strip_prefix("/dev/mapper/")?)
    }

    fn device(&self, path: &str) -> Option<Arc<dyn BlockDevice>> {
        match self.find(path) {
            Some(shown) => Some(shown.device),
            None => block_on(self.loops.by_word(path, "/")).ok(),
        }
    }

    fn put(&self, path: &str, sector: u64, count: u64, first: Option<u64>) -> Outcome {
        let Some(device) = self.device(path) else { return no_file("dd", path) };
        let data = match first {
            Some(first) => pattern(first, count),
            None => vec![0; usize::try_from(count).unwrap() * 512],
        };
        let piece = piece(&[sector, count, first.unwrap_or(0)]);
        let write = |(at, data): (usize, &[u8])| {
            if device.access().is_read_only() {
                return Err(Errno::PERM);
            }
            let bio = Bio::write(Sector(sector + at as u64 * piece), data);
            Ok(block_on(device.submit(bio))?)
        };
        let bytes = usize::try_from(piece).unwrap() * 512;
        match data.chunks(bytes).enumerate().try_for_each(write) {
            Ok(()) => Outcome::default(),
            Err(errno) => failed(format!("dd: error writing '{path}': {errno}")),
        }
    }

    /// Writes all at once, and does not wait for the end.
    fn put_in_background(&mut self, path: &str, sector: u64, count: u64, first: u64) {
        let device = self.device(path).expect("a device to write");
        let (tell, ended) = mpsc::channel();
        std::thread::spawn(move || {
            let data = pattern(first, count);
            let result = block_on(device.submit(Bio::write(Sector(sector), &data)));
            // Nobody asks at the end of a transcript.
            let _ = tell.send(i32::from(result.is_err()));
        });
        self.background = Some(ended);
        std::thread::sleep(Duration::from_millis(50));
    }

    /// Reads a little, and does not wait for the end.
    fn get_in_background(&mut self, path: &str, sector: u64) {
        let device = self.device(path).expect("a device to read");
        let (tell, ended) = mpsc::channel();
        std::thread::spawn(move || {
            let mut data = [0; 4096];
            let result = block_on(device.submit(Bio::read(Sector(sector), &mut data)));
            let _ = tell.send(i32::from(result.is_err()));
        });
        self.background = Some(ended);
        std::thread::sleep(Duration::from_millis(50));
    }

    /// Returns the status of what went on in the background, as soon as it has ended.
    pub(crate) fn background_status(&mut self) -> Option<i32> {
        self.background.take()?.recv_timeout(Duration::from_secs(8)).ok()
    }

    /// Writes a few bytes, given in hexadecimal digits.
    fn poke(&self, path: &str, at: u64, bytes: &str) {
        let device = self.device(path).expect("a device to poke");
        let byte = |at: usize| u8::from_str_radix(&bytes[at..at + 2], 16).unwrap();
        for (at, byte) in (at..).zip((0..bytes.len()).step_by(2).map(byte)) {
            let mut sector = [0; 512];
            block_on(device.submit(Bio::read(Sector(at / 512), &mut sector))).unwrap();
            sector[at as usize % 512] = byte;
            block_on(device.submit(Bio::write(Sector(at / 512), &sector))).unwrap();
        }
    }

    fn get(&self, path: &str, sector: u64, count: u64) -> Outcome {
        let Some(device) = self.device(path) else { return no_file("dd", path) };
        let (piece, mut hash, mut done) = (piece(&[sector, count]), Sha256::new(), 0);
        let mut outcome = Outcome::default();
        while done < count {
            let mut data = vec![0; usize::try_from(piece.min(count - done)).unwrap() * 512];
            let bio = Bio::read(Sector(sector + done), &mut data);
            if let Err(error) = block_on(device.submit(bio)) {
                outcome = failed(format!("dd: error reading '{path}': {}", error.errno()));
                break;
            }
            hash.update(&data);
            done += data.len() as u64 / 512;
        }
        outcome.stdout = format!("sha256 {} bytes {}\n", hex(&hash.finalize()), done * 512);
        outcome
    }

    /// Reads to nowhere, flushes, or writes what is durable at once.
    fn dd(&self, words: &[&str]) -> Outcome {
        let word = |key: &str| words.iter().find_map(|word| word.strip_prefix(key));
        let value = |key: &str, otherwise| word(key).map_or(otherwise, number);
        let (block, count) = (value("bs=", 512) / 512, value("count=", 0));
        let (from, to) = (word("if=").unwrap(), word("of=").unwrap());
        if to == "/dev/null" {
            let read = self.get(from, value("skip=", 0) * block, count * block);
            return Outcome { stdout: String::new(), ..read };
        }
        let Some(device) = self.device(to) else { return no_file("dd", to) };
        let flush = || block_on(device.submit(Bio::flush()));
        for nr in 0..count {
            let data = pattern((value("skip=", 0) + nr) * block, block);
            let at = Sector((value("seek=", 0) + nr) * block);
            let bio = Bio::write(at, &data).with_fua();
            if block_on(device.submit(bio)).and_then(|()| flush()).is_err() {
                return failed(format!("dd: error writing '{to}': Input/output error"));
            }
        }
        match word("conv=") == Some("fsync") && flush().is_err() {
            true => failed(format!("dd: fsync failed for '{to}': Input/output error")),
            false => Outcome::default(),
        }
    }

    fn discard(&self, words: &[&str]) -> Outcome {
        let after = |option: &str| {
            let at = words.iter().position(|word| *word == option)?;
            Some(number(words[at + 1]) / 512)
        };
        let path = words.iter().find(|word| word.starts_with('/')).unwrap();
        let Some(shown) = self.find(path) else { return no_file("blkdiscard", path) };
        let start = Sector(after("-o").unwrap_or(0));
        let len = Sectors(after("-l").unwrap_or(shown.device.size().0 - start.0));
        let size = shown.device.size().0;
        let piece = size.min(128);
        // It looks for a file system first, at the beginning and at the end, unless it is forced.
        let can_look = || [0, size - piece].iter().all(|at| self.get(path, *at, piece).status == 0);
        if !words.contains(&"-f") && !can_look() {
            return failed("blkdiscard: failed to probe the device: Input/output error".to_owned());
        }
        let zero = words.contains(&"-z");
        let bio = if zero { Bio::write_zeroes(start, len) } else { Bio::discard(start, len) };
        let mut result = block_on(shown.device.submit(bio));
        if zero && result == Err(BlkError::NotSupported) {
            // As the kernel does for a device that cannot.
            let zeros = vec![0; usize::try_from(len.bytes()).unwrap()];
            result = block_on(shown.device.submit(Bio::write(start, &zeros)));
        }
        let what = if zero { "BLKZEROOUT" } else { "BLKDISCARD" };
        let mut outcome = match result {
            Ok(()) => Outcome::default(),
            Err(error) => {
                failed(format!("blkdiscard: {path}: {what} ioctl failed: {}", error.errno()))
            }
        };
        if words.contains(&"-f") {
            let warning = "blkdiscard: Operation forced, data will be lost!\n";
            outcome.stderr.insert_str(0, warning);
        }
        outcome
    }

    fn blockdev(&self, words: &[&str]) -> Outcome {
        let (options, paths): (Vec<&str>, Vec<&str>) =
            words.iter().partition(|word| word.starts_with('-'));
        let mut answers = Vec::new();
        for path in paths {
            let Some(shown) = self.find(path) else {
                return failed(format!("blockdev: cannot open {path}: No such file or directory"));
            };
            answers.extend(options.iter().map(|option| self.ask(&shown, option)));
        }
        said(answers)
    }

    fn ask(&self, shown: &Shown, option: &str) -> String {
        let limits = shown.device.limits();
        match option {
            "--getsz" => shown.device.size().0.to_string(),
            "--getss" => limits.logical_block_size.to_string(),
            "--getpbsz" => limits.physical_block_size.to_string(),
            "--getiomin" => limits.io_min.to_string(),
            "--getioopt" => limits.io_opt.to_string(),
            "--getalignoff" if limits.misaligned => "-1".to_owned(),
            "--getalignoff" => limits.alignment_offset.to_string(),
            "--getro" => u8::from(shown.device.access().is_read_only()).to_string(),
            "--getra" => self.read_ahead(shown).to_string(),
            other => panic!("unknown option {other}"),
        }
    }

    fn read_ahead(&self, shown: &Shown) -> Sectors {
        let (id, slot) =
            (sim_core::control::Id::Name(shown.name.clone()), sim_core::control::Slot::Live);
        match block_on(self.control.execute(Command::DevStatus { id, slot })) {
            Ok(Answer::Status(status)) => status.read_ahead.expect("a device with a disk"),
            other => panic!("{other:?}"),
        }
    }

    fn queue(&self, paths: &[&str]) -> Outcome {
        let answer = |path: &&str| {
            let (minor, name) = path["/sys/block/dm-".len()..].split_once("/queue/").unwrap();
            let shown = self.control.find_minor(minor.parse().unwrap()).expect("a device");
            let limits = shown.device.limits();
            match name {
                "logical_block_size" => u64::from(limits.logical_block_size),
                "max_sectors_kb" => u64::from(limits.max_sectors()) / 2,
                "discard_granularity" => limits.discard_granularity.into(),
                "discard_max_bytes" => u64::from(limits.max_discard_sectors) * 512,
                "write_zeroes_max_bytes" => u64::from(limits.max_write_zeroes_sectors) * 512,
                "max_segment_size" => limits.max_segment_size.into(),
                "dma_alignment" => limits.dma_alignment.into(),
                other => panic!("unknown limit {other}"),
            }
            .to_string()
        };
        said(paths.iter().map(answer))
    }

    /// The size in bytes and the sha256 of an image, as it was kept or as it is.
    pub(crate) fn digest(&self, name: &str) -> (u64, String) {
        if let Some(kept) = self.kept.get(name) {
            return kept.clone();
        }
        digest(&*self.loops.get(self.names[name]).expect("an attached image"))
    }
}

fn digest(device: &dyn BlockDevice) -> (u64, String) {
    let mut data = vec![0; usize::try_from(device.size().bytes()).unwrap()];
    block_on(device.submit(Bio::read(Sector::ZERO, &mut data))).unwrap();
    (data.len() as u64, hex(&Sha256::digest(&data)))
}

fn said(lines: impl IntoIterator<Item = String>) -> Outcome {
    let stdout = lines.into_iter().map(|line| line + "\n").collect();
    Outcome { stdout, ..Outcome::default() }
}

fn failed(line: String) -> Outcome {
    Outcome { stderr: line + "\n", status: 1, ..Outcome::default() }
}

fn no_file(program: &str, path: &str) -> Outcome {
    failed(format!("{program}: failed to open '{path}': No such file or directory"))
}

fn number(word: &str) -> u64 {
    word.parse().unwrap()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The size of one request, in sectors: as large as all these are multiples of.
fn piece(numbers: &[u64]) -> u64 {
    let fits = |piece: &u64| numbers.iter().all(|number| number % piece == 0);
    [128, 8].into_iter().find(fits).unwrap_or(1)
}
