//! The commands of the driver, for disks as ours are.

use std::fs::{self, File};
use std::io;
use std::path::Path;

use sim_core::{DevNumber, MAX_TABLE_LEN};

use super::format::{
    BASIC_AND_DISCARD, Basic, CACHE_AND_FUA, Code, ControlCommand, DeviceInfo, Discard, FEATURES,
    Parameters,
};
use super::ring::call;
use crate::special::Special;

/// How many requests a disk has under way at most. What asks for more waits in the kernel.
pub(super) const DEPTH: u16 = 64;

/// The largest request, in bytes.
pub(super) const LARGEST: u32 = 1 << 20;

/// The longest discard, in sectors: 1 GiB. The kernel cuts longer ones.
const LONGEST_DISCARD: u32 = 1 << 21;

/// What a `ControlCommand` says that is about no queue.
const NO_QUEUE: u16 = u16::MAX;

/// What the driver takes for the next free number.
const ANY: u32 = u32::MAX;

/// Where the driver's character devices are listed.
const DEVICES: &str = "/sys/class/ublk-char";

/// `/dev/ublk-control`.
#[derive(Debug)]
pub(super) struct Control(File);

impl Control {
    /// Opens it, wherever it is listed, and asks whether it can do what is needed; nothing where there is
    /// no such driver.
    pub(super) fn open() -> io::Result<Option<Control>> {
        let listed = fs::read_to_string("/sys/class/misc/ublk-control/dev");
        let open = || File::options().read(true).write(true).open("/dev/ublk-control");
        let file = match (open(), listed) {
            (Ok(file), _) => file,
            (Err(_), Ok(number)) => {
                Special::character(number_in(&number)?, "ublk-control")?.write()?
            }
            (Err(_), Err(_)) => return Ok(None),
        };
        let control = Control(file);
        let mut features = 0_u64;
        call(&control.0, Code::Features, ControlCommand::default(), &mut features)?;
        match features & FEATURES == FEATURES {
            true => Ok(Some(control)),
            false => Err(io::Error::other(format!(
                "the driver has the features {features:#x}, and {FEATURES:#x} are needed"
            ))),
        }
    }

    /// Makes a disk that nobody sees yet, with 64 bits of ours, and returns its number.
    pub(super) fn add(&self, own: u64) -> io::Result<u32> {
        let mut info = DeviceInfo {
            queues: 1,
            depth: DEPTH,
            max_io_bytes: LARGEST,
            id: ANY,
            flags: FEATURES,
            own,
            ..DeviceInfo::default()
        };
        let command = ControlCommand { id: ANY, queue: NO_QUEUE, ..ControlCommand::default() };
        call(&self.0, Code::Add, command, &mut info)?;
        let is_as_asked =
            info.flags & FEATURES == FEATURES && (info.queues, info.depth) == (1, DEPTH);
        if !is_as_asked {
            self.delete(info.id)?;
            return Err(io::Error::other(format!("the driver has made something else: {info:?}")));
        }
        Ok(info.id)
    }

    /// Gives a disk its limits, and shows it. Its queue must be served by now.
    pub(super) fn start(&self, id: u32) -> io::Result<()> {
        let mut parameters = Parameters {
            // Without what fills the structure up.
            len: 60,
            types: BASIC_AND_DISCARD,
            basic: Basic {
                attributes: CACHE_AND_FUA,
                logical_block: 9,
                physical_block: 12,
                best_io: 12,
                least_io: 12,
                max_sectors: LARGEST >> 9,
                chunk_sectors: 0,
                sectors: MAX_TABLE_LEN.0,
                virtual_boundary: 0,
            },
            discard: Discard {
                alignment: 0,
                granularity: 4096,
                max_sectors: LONGEST_DISCARD,
                max_write_zeroes_sectors: LONGEST_DISCARD,
                max_segments: 1,
                reserved: 0,
            },
            pad: 0,
        };
        call(&self.0, Code::SetParameters, about(id), &mut parameters)?;
        self.by_us(Code::Start, id)
    }

    /// Takes a disk away from those who see it, be it open: what they ask from now on fails. It waits until
    /// all has been answered that was asked.
    pub(super) fn stop(&self, id: u32) -> io::Result<()> {
        call(&self.0, Code::Stop, about(id), &mut 0_u64).map(drop)
    }

    /// Takes a disk and its number away; as long as somebody has it open the number stays taken.
    pub(super) fn delete(&self, id: u32) -> io::Result<()> {
        call(&self.0, Code::DeleteLater, about(id), &mut 0_u64).map(drop)
    }

    /// Begins to take over a disk whose server is gone; EBUSY as long as it is not.
    pub(super) fn start_recovery(&self, id: u32) -> io::Result<()> {
        call(&self.0, Code::StartRecovery, about(id), &mut 0_u64).map(drop)
    }

    /// Lets through what waits since the server has gone.
    pub(super) fn end_recovery(&self, id: u32) -> io::Result<()> {
        self.by_us(Code::EndRecovery, id)
    }

    pub(super) fn information(&self, id: u32) -> io::Result<DeviceInfo> {
        let mut info = DeviceInfo::default();
        call(&self.0, Code::Information, about(id), &mut info)?;
        Ok(info)
    }

    fn by_us(&self, code: Code, id: u32) -> io::Result<()> {
        let command = ControlCommand { data: u64::from(std::process::id()), ..about(id) };
        call(&self.0, code, command, &mut 0_u64).map(drop)
    }
}

fn about(id: u32) -> ControlCommand {
    ControlCommand { id, queue: NO_QUEUE, ..ControlCommand::default() }
}

/// Lists the numbers of all disks that the driver has, whoever serves them.
pub(super) fn listed() -> Vec<u32> {
    let entries = fs::read_dir(DEVICES).into_iter().flatten().flatten();
    let number =
        |entry: fs::DirEntry| entry.file_name().to_str()?.strip_prefix("ublkc")?.parse().ok();
    entries.filter_map(number).collect()
}

/// Opens a disk's character device, which one process alone can at a time: EBUSY where another has.
pub(super) fn open_device(id: u32) -> io::Result<File> {
    let number = fs::read_to_string(Path::new(DEVICES).join(format!("ublkc{id}/dev")))?;
    Special::character(number_in(&number)?, &format!("ublkc{id}"))?.write()
}

fn number_in(text: &str) -> io::Result<DevNumber> {
    let number = text.trim().parse();
    number.map_err(|errno: sim_core::Errno| io::Error::from_raw_os_error(errno.0))
}
