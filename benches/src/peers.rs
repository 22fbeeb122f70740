//! The programs that show an image as a file: how each is started and stopped.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A program that shows an image as a file.
pub(crate) enum Peer {
    /// The binary at this path, with a linear device over the image.
    Dmsim(PathBuf),
    /// QEMU's FUSE export of a raw file.
    QemuStorageDaemon,
    /// nbdfuse over nbdkit's file plug-in.
    Nbdfuse,
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
            Peer::Nbdfuse => "nbdfuse",
        }
    }

    /// Shows `image`; what the program needs besides goes to `dir`.
    pub(crate) fn serve(&self, dir: &Path, image: &Path) -> Result<Served, String> {
        let size = image.metadata().map_err(|error| error.to_string())?.len();
        match self {
            Peer::Dmsim(binary) => Served::by_dmsim(binary, dir, image, size / 512),
            Peer::QemuStorageDaemon => Served::by_qemu(dir, image, size),
            Peer::Nbdfuse => Served::by_nbdfuse(dir, image, size),
        }
    }
}

impl Served {
    /// Returns the file that shows the image.
    pub(crate) fn file(&self) -> &Path {
        &self.file
    }

    fn by_dmsim(binary: &Path, dir: &Path, image: &Path, sectors: u64) -> Result<Served, String> {
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
        let table = format!("0 {sectors} linear {} 0", image.display());
        let created = dmsim(&["create", "disk", "--table", &table]).output();
        let created = created.map_err(|error| error.to_string())?;
        match created.status.success() {
            true => Ok(served),
            false => Err(String::from_utf8_lossy(&created.stderr).into_owned()),
        }
    }

    fn by_qemu(dir: &Path, image: &Path, size: u64) -> Result<Served, String> {
        let file = dir.join("qemu");
        std::fs::write(&file, []).map_err(|error| error.to_string())?;
        let mut command = Command::new("qemu-storage-daemon");
        command.arg("--blockdev");
        command.arg(format!("driver=file,node-name=file,filename={}", image.display()));
        command.args(["--blockdev", "driver=raw,node-name=raw,file=file", "--export"]);
        let mount = file.display();
        command.arg(format!("type=fuse,id=fuse,node-name=raw,mountpoint={mount},writable=on"));
        Served { file, program: start(&mut command)?, stop: None }.once_it_shows(size)
    }

    fn by_nbdfuse(dir: &Path, image: &Path, size: u64) -> Result<Served, String> {
        let mount = dir.join("nbd");
        std::fs::create_dir_all(&mount).map_err(|error| error.to_string())?;
        let file = mount.join("disk");
        let mut command = Command::new("nbdfuse");
        command.arg(&file).args(["--command", "nbdkit", "-s", "file"]).arg(image);
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
