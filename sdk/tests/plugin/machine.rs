//! Plug-ins made by the C compiler, and a control plane over an image to use them in.

use std::path::{Path, PathBuf};
use std::process::Command as Process;
use std::sync::Arc;

use backing::{Attach, Images, Pool, block_on};
use sdk::sim_core::control::{Answer, Command, Failure, Id, Report, Slot, WhenOpen};
use sdk::sim_core::{
    Access, Bio, BlkError, BlkResult, BlockDevice, Control, Held, KeyText, MappedDevice, NoLog,
    Registry, SECTOR_SIZE, Sector, Sectors, parse_table,
};
use tempfile::TempDir;

/// The image's size, in sectors; a target in these tests has half of it.
pub(crate) const IMAGE: u64 = 128;

/// Tells whether there is a C compiler to test with.
pub(crate) fn have_cc() -> bool {
    let found = Process::new("cc").arg("--version").output();
    if let Err(error) = &found {
        assert!(std::env::var_os("CI").is_none(), "no cc: {error}");
        println!("skipped: no cc: {error}");
    }
    found.is_ok()
}

/// Compiles a C file of this crate into a library.
pub(crate) fn compile(dir: &Path, source: &str, flags: &[&str]) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let library = dir.join("plugin.so");
    let mut cc = Process::new("cc");
    cc.args(["-shared", "-fPIC", "-Wall", "-Wextra", "-Werror", "-Wno-unused-function"]);
    cc.args(flags).arg("-I").arg(root.join("include")).arg("-o").arg(&library);
    let output = cc.arg(root.join(source)).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    library
}

/// Compiles the example with something wrong with it, and loads it.
pub(crate) fn load_with(what: &str, flags: &[&str]) -> Result<Registry, String> {
    let dir = tempfile::tempdir().unwrap();
    let what = format!("-DWHAT={what}");
    let flags: Vec<&str> = flags.iter().copied().chain([&*what]).collect();
    load(&compile(dir.path(), "tests/c/nonsense.c", &flags))
}

/// Loads a library into a registry of its own.
pub(crate) fn load(library: &Path) -> Result<Registry, String> {
    let mut registry = Registry::new();
    sdk::load(library, &mut registry).map_err(|error| error.to_string())?;
    Ok(registry)
}

/// A control plane with one image.
pub(crate) struct Machine {
    control: Arc<Control>,
    dir: TempDir,
    _images: Arc<Images>,
}

impl Machine {
    /// Makes one whose image `disk` has [`IMAGE`] sectors of zeros.
    pub(crate) fn new(registry: Registry) -> Machine {
        let dir = tempfile::tempdir().unwrap();
        let images = Images::new();
        let ask = Attach {
            name: Some("disk".to_owned()),
            create: Some(IMAGE * SECTOR_SIZE),
            ..Attach::as_it_is(&dir.path().join("image"))
        };
        images.attach(&ask).unwrap();
        let control = Control::new(registry, images.clone(), Pool::new(2), Arc::new(NoLog));
        Machine { control, dir, _images: images }
    }

    /// Makes the example's plug-in into a machine with a device `d` of half the image.
    pub(crate) fn with(what: &str, flags: &[&str]) -> Machine {
        let machine = Machine::new(load_with(what, flags).unwrap());
        machine.set_up("d", "0 64 invert disk 0", Access::ReadWrite).unwrap();
        machine
    }

    /// Makes a device and brings it into use.
    pub(crate) fn set_up(&self, name: &str, table: &str, access: Access) -> Result<(), Failure> {
        let named = name.to_owned();
        self.execute(Command::DevCreate { name: named, uuid: None, minor: None })?;
        let targets = parse_table(table).unwrap().into_iter().map(|(_, spec)| spec).collect();
        let load = Command::TableLoad { id: id(name), access, targets, base: String::new() };
        let loaded = self.execute(load).and_then(|_| self.resume(name));
        if loaded.is_err() {
            let open = WhenOpen::Refuse;
            self.execute(Command::DevRemove { id: id(name), open })?;
        }
        loaded
    }

    pub(crate) fn execute(&self, command: Command) -> Result<Answer, Failure> {
        block_on(self.control.execute(command))
    }

    pub(crate) fn suspend(&self, name: &str) {
        self.execute(Command::DevSuspend { id: id(name), held: Held::Flush }).unwrap();
    }

    pub(crate) fn resume(&self, name: &str) -> Result<(), Failure> {
        self.execute(Command::DevResume { id: id(name), held: Held::Flush }).map(drop)
    }

    /// Returns what the one target of a device writes.
    pub(crate) fn text(&self, name: &str, report: Report) -> String {
        let slot = Slot::Live;
        let keys = KeyText::Zeros;
        let ask = Command::TableStatus { id: id(name), report, slot, device_names: false, keys };
        match self.execute(ask).unwrap() {
            Answer::Table(_, targets) => targets[0].params.to_string(),
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn message(&self, name: &str, message: &str) -> Result<Option<String>, Failure> {
        let message = message.to_owned();
        match self.execute(Command::TargetMsg {
            id: id(name),
            sector: Sector::ZERO,
            message: message.into(),
            slot: Slot::Live,
        })? {
            Answer::Text(text) => Ok(text),
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn device(&self, name: &str) -> Arc<MappedDevice> {
        self.control.device(&id(name)).unwrap()
    }

    pub(crate) fn submit(&self, name: &str, bio: Bio<'_>) -> BlkResult {
        block_on(self.device(name).submit(bio))
    }

    pub(crate) fn read(&self, name: &str, at: u64, len: u64) -> Result<Vec<u8>, BlkError> {
        let mut buffer = vec![0x11; Sectors(len).bytes() as usize];
        self.submit(name, Bio::read(Sector(at), &mut buffer)).map(|()| buffer)
    }

    /// Returns what is in the image.
    pub(crate) fn image(&self) -> Vec<u8> {
        std::fs::read(self.dir.path().join("image")).unwrap()
    }
}

fn id(name: &str) -> Id {
    Id::Name(name.to_owned())
}
