//! The programs that show an image as a file: how each is started and stopped.

use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use crate::write_blocks;

/// A program that shows an image as a file.
pub(crate) enum Peer {
    /// The binary at this path, with a linear device over the image.
    Dmsim(PathBuf),
    /// QEMU's FUSE export.
    QemuStorageDaemon,
    /// QEMU's FUSE export, with what was written durable when a write ends.
    QemuWritethrough,
    /// nbdfuse over nbdkit's file plug-in.
    Nbdfuse,
}

/// What the image holds.
pub(crate) enum Content {
    /// The bytes that are shown.
    Raw,
    /// A LUKS1 container; its passphrase is in this file.
    Luks1(PathBuf),
    /// The bytes of which a new snapshot is shown.
    Snapshot {
        /// Bytes of a chunk, or of a qcow2 cluster.
        chunk: u64,
    },
    /// The bytes that a mirror shows, which all its legs have: the image is the first.
    Mirror {
        /// The others.
        others: Vec<PathBuf>,
    },
    /// Nothing: a RAID set of other images, as large as this one, is shown.
    Raid(Raid),
}

/// A RAID set.
#[derive(Clone, Copy)]
pub(crate) struct Raid {
    /// As `dmsim raid create` calls it.
    pub(crate) level: &'static str,
    /// How many legs it has.
    pub(crate) legs: u64,
    /// How many of these have data, counted without copies and parity.
    pub(crate) data: u64,
    /// How many have failed.
    pub(crate) lost: u64,
}

/// Where the data of a LUKS1 container begin, in bytes, with a key of 512 bits.
const LUKS1_DATA: u64 = 4096 * 512;

/// Makes a LUKS1 container of an image, with cryptsetup's usual cipher.
pub(crate) fn luks1(dir: &Path, image: &Path) -> Result<Content, String> {
    let key = dir.join("passphrase");
    std::fs::write(&key, "side by side").map_err(|error| error.to_string())?;
    let output = Command::new("cryptsetup")
        .args(["luksFormat", "--batch-mode", "--type", "luks1", "--cipher", "aes-xts-plain64"])
        .args(["--key-size", "512", "--pbkdf-force-iterations", "1000", "--key-file"])
        .arg(&key)
        .arg(image)
        .output();
    succeeded("cryptsetup", output).map(|()| Content::Luks1(key))
}

/// Makes a qcow2 image over a raw one that it is to leave alone.
fn qcow2(dir: &Path, image: &Path, cluster: u64) -> Result<PathBuf, String> {
    let overlay = dir.join("overlay");
    let output = Command::new("qemu-img")
        .args(["create", "-q", "-f", "qcow2", "-F", "raw", "-b"])
        .arg(image)
        .args(["-o", &format!("cluster_size={cluster}")])
        .arg(&overlay)
        .output();
    succeeded("qemu-img", output).map(|()| overlay)
}

/// Returns the table of the device that shows an image, and makes what it needs besides in `dir`.
fn table(dir: &Path, image: &Path, content: &Content) -> Result<String, String> {
    let size = image.metadata().map_err(|error| error.to_string())?.len();
    let (path, sectors) = (image.display(), size / 512);
    Ok(match content {
        Content::Luks1(_) | Content::Raid(_) => unreachable!("dmsim makes its table itself"),
        Content::Raw => format!("0 {sectors} linear {path} 0"),
        Content::Snapshot { chunk } => {
            let cow = dir.join("cow");
            // The store grows with what is written, as a qcow2 image does.
            let room = std::fs::File::create(&cow)
                .and_then(|file| file.set_len(size + size / 64 + (1 << 20)));
            room.map_err(|error| error.to_string())?;
            let (cow, chunk) = (cow.display(), chunk / 512);
            format!("0 {sectors} snapshot {path} {cow} P {chunk}")
        }
        Content::Mirror { others } => {
            let legs = others.len() + 1;
            let others: String =
                others.iter().map(|other| format!(" {} 0", other.display())).collect();
            // Regions of 512 KiB.
            format!("0 {sectors} mirror core 2 1024 nosync {legs} {path} 0{others}")
        }
    })
}

/// A file that a program shows, until it is dropped.
pub(crate) struct Served {
    file: PathBuf,
    program: Child,
    stop: Option<Command>,
}

impl Peer {
    /// Lists dmsim and those peers that are installed.
    pub(crate) fn installed(dmsim: &Path) -> Result<Vec<Peer>, String> {
        if !dmsim.is_file() {
            let path = dmsim.display();
            return Err(format!("no {path}: build it with `cargo build --release`"));
        }
        let mut peers = vec![Peer::Dmsim(dmsim.to_owned())];
        for (peer, program) in
            [(Peer::QemuStorageDaemon, "qemu-storage-daemon"), (Peer::Nbdfuse, "nbdfuse")]
        {
            let found = Command::new(program).arg("--version").output();
            match found.is_ok_and(|output| output.status.success()) {
                true => peers.push(peer),
                false => eprintln!("skipped: no {program}"),
            }
        }
        Ok(peers)
    }

    /// Returns the program's name.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Peer::Dmsim(_) => "dmsim",
            Peer::QemuStorageDaemon => "qemu-storage-daemon",
            Peer::QemuWritethrough => "qemu-storage-daemon, writethrough",
            Peer::Nbdfuse => "nbdfuse",
        }
    }

    /// Shows `image`; what the program needs besides goes to `dir`.
    pub(crate) fn serve(
        &self,
        dir: &Path,
        image: &Path,
        content: &Content,
    ) -> Result<Served, String> {
        let size = image.metadata().map_err(|error| error.to_string())?.len();
        let size = match content {
            Content::Raw | Content::Snapshot { .. } | Content::Mirror { .. } => size,
            Content::Raid(_) => size,
            Content::Luks1(_) => size - LUKS1_DATA,
        };
        match self {
            Peer::Dmsim(binary) => Served::by_dmsim(binary, dir, image, content),
            Peer::QemuStorageDaemon => Served::by_qemu(dir, image, content, size, "off"),
            Peer::QemuWritethrough => Served::by_qemu(dir, image, content, size, "on"),
            Peer::Nbdfuse => Served::by_nbdfuse(dir, image, content, size),
        }
    }
}

impl Served {
    /// Returns the file that shows the image.
    pub(crate) fn file(&self) -> &Path {
        &self.file
    }

    fn by_dmsim(
        binary: &Path,
        dir: &Path,
        image: &Path,
        content: &Content,
    ) -> Result<Served, String> {
        let instance = dir.join("dmsim");
        let dmsim = |words: &[&str]| {
            let mut command = Command::new(binary);
            command.env("DMSIM_DIR", &instance).args(words);
            command
        };
        let program = start(&mut dmsim(&["start", "--foreground"]))?;
        let mut stop = dmsim(&["stop", "--force"]);
        stop.stdout(Stdio::null());
        let file = instance.join("mapper/disk");
        let served = Served { file, program, stop: Some(stop) };
        let deadline = Instant::now() + Duration::from_secs(10);
        while !dmsim(&["version"]).output().is_ok_and(|output| output.status.success()) {
            if Instant::now() > deadline {
                return Err("dmsim does not serve".to_owned());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let path = image.display().to_string();
        let created = match content {
            Content::Raid(raid) => return raid.create(dir, image, &dmsim).map(|()| served),
            Content::Luks1(key) => {
                let key = key.display().to_string();
                dmsim(&["open", &path, "disk", "--key-file", &key]).output()
            }
            Content::Raw | Content::Snapshot { .. } | Content::Mirror { .. } => {
                let table = table(dir, image, content)?;
                dmsim(&["create", "disk", "--table", &table]).output()
            }
        };
        succeeded("dmsim", created).map(|()| served)
    }

    fn by_qemu(
        dir: &Path,
        image: &Path,
        content: &Content,
        size: u64,
        writethrough: &str,
    ) -> Result<Served, String> {
        let file = dir.join("qemu");
        std::fs::write(&file, []).map_err(|error| error.to_string())?;
        let mut command = Command::new("qemu-storage-daemon");
        command.arg("--blockdev");
        command.arg(format!("driver=file,node-name=file,filename={}", image.display()));
        match content {
            Content::Snapshot { chunk } => {
                let overlay = qcow2(dir, image, *chunk)?;
                let overlay = format!("driver=file,node-name=over,filename={}", overlay.display());
                command.args(["--blockdev", &overlay, "--blockdev"]);
                command.arg("driver=raw,node-name=below,file=file,read-only=on");
                command.args(["--blockdev", "driver=qcow2,node-name=raw,file=over,backing=below"])
            }
            Content::Mirror { others } => {
                // It reads the first child, and a write is well where one child has it.
                let mut quorum = "driver=quorum,node-name=raw,vote-threshold=1,read-pattern=fifo,\
                                  children.0=file"
                    .to_owned();
                for (other, at) in others.iter().zip(1..) {
                    let leg = format!("driver=file,node-name=leg{at},filename={}", other.display());
                    command.args(["--blockdev", &leg]);
                    quorum += &format!(",children.{at}=leg{at}");
                }
                command.args(["--blockdev", &quorum])
            }
            Content::Raid(_) => return Err("QEMU has no RAID sets".to_owned()),
            Content::Raw => command.args(["--blockdev", "driver=raw,node-name=raw,file=file"]),
            Content::Luks1(key) => command
                .args(["--object", &format!("secret,id=key,file={}", key.display())])
                .args(["--blockdev", "driver=luks,node-name=raw,file=file,key-secret=key"]),
        };
        command.arg("--export");
        let mount = file.display();
        command.arg(format!(
            "type=fuse,id=fuse,node-name=raw,mountpoint={mount},writable=on,\
             writethrough={writethrough}"
        ));
        Served { file, program: start(&mut command)?, stop: None }.once_it_shows(size)
    }

    fn by_nbdfuse(
        dir: &Path,
        image: &Path,
        content: &Content,
        size: u64,
    ) -> Result<Served, String> {
        let mount = dir.join("nbd");
        std::fs::create_dir_all(&mount).map_err(|error| error.to_string())?;
        let file = mount.join("disk");
        let mut command = Command::new("nbdfuse");
        command.arg(&file).args(["--command", "nbdkit", "-s", "file"]).arg(image);
        if let Content::Luks1(key) = content {
            command.args(["--filter=luks", &format!("passphrase=+{}", key.display())]);
        }
        let mut stop = Command::new("fusermount3");
        stop.arg("-u").arg(&mount);
        Served { file, program: start(&mut command)?, stop: Some(stop) }.once_it_shows(size)
    }

    fn once_it_shows(self, size: u64) -> Result<Served, String> {
        let deadline = Instant::now() + Duration::from_secs(10);
        while !self.file.metadata().is_ok_and(|data| data.len() == size) {
            if Instant::now() > deadline {
                return Err(format!("{} does not show", self.file.display()));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(self)
    }
}

impl Raid {
    /// Makes the set of new images, all written once, and takes the legs out that it has lost.
    fn create(
        self,
        dir: &Path,
        image: &Path,
        dmsim: &dyn Fn(&[&str]) -> Command,
    ) -> Result<(), String> {
        let size = image.metadata().map_err(|error| error.to_string())?.len();
        let folder = dir.join("legs");
        // Those of another set.
        let _best_effort = std::fs::remove_dir_all(&folder);
        std::fs::create_dir(&folder).map_err(|error| error.to_string())?;
        let leg = |nr: u64| folder.join(nr.to_string()).display().to_string();
        let legs: Vec<String> = (0..self.legs).map(leg).collect();
        // The metadata takes a MiB.
        let size = (size.div_ceil(self.data) + (1 << 20)).to_string();
        let mut words = vec!["raid", "create", self.level];
        words.extend(legs.iter().map(String::as_str));
        words.extend(["disk", "--size", &size]);
        succeeded("dmsim", dmsim(&words).output())?;
        succeeded("dmsim", dmsim(&["wait", "--sync", "disk"]).output())?;
        fill_device(&dir.join("dmsim/mapper/disk"))?;
        (0..self.lost).try_for_each(|leg| {
            succeeded("dmsim", dmsim(&["fail", "disk", &leg.to_string()]).output())
        })
    }
}

/// Writes all of a device.
fn fill_device(file: &Path) -> Result<(), String> {
    let opened = std::fs::OpenOptions::new().write(true).open(file);
    let file = opened.map_err(|error| error.to_string())?;
    let len = file.metadata().map_err(|error| error.to_string())?.len();
    write_blocks(file, len >> 20)
}

/// Fails with what a program told that failed.
fn succeeded(program: &str, output: io::Result<Output>) -> Result<(), String> {
    let output = output.map_err(|error| format!("{program}: {error}"))?;
    match output.status.success() {
        true => Ok(()),
        false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        match &mut self.stop {
            Some(stop) => {
                let _best_effort = stop.status();
            }
            None => {
                let pid = rustix::process::Pid::from_child(&self.program);
                let _best_effort =
                    rustix::process::kill_process(pid, rustix::process::Signal::TERM);
            }
        }
        let _ended = self.program.wait();
    }
}

fn start(command: &mut Command) -> Result<Child, String> {
    let quiet = command.stdin(Stdio::null()).stdout(Stdio::null());
    quiet.spawn().map_err(|error| format!("{:?}: {error}", command.get_program()))
}
