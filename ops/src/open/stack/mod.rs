//! Whole stacks: disks with partitions, containers in these, volume groups in those, down to the file systems.
//!
//! What an image holds is [recognised](recognise) layer by layer. Each becomes a device; what the device shows
//! is looked at next, until all that is left are file systems, or what nobody knows.

mod close;
mod groups;
mod look;
mod made;
mod record;
mod sets;

use std::path::{Path, PathBuf};

use backing::Attach;
use containers::Unlock;
use daemon::fault::USAGE;
use daemon::{Fault, Instance, keep_out_of_core_dumps, refuse_looped};
use recognise::containers;
use serde::Serialize;
use sim_core::{Access, SECTOR_SIZE, Sectors};

use super::image::ImageFile;
use super::{KeyHolder, Sharing, WAYS_PAST_A_LOOP};
use crate::device_mapper::DeviceMapper;
use crate::files::{first_byte, image_at, open_image, place, refuse_shared, unwritable};
use crate::turn::turn;
use crate::watch::Watch;
use crate::words::{MAPPER, new_name};
pub use close::{close, find_stack};
use look::Node;
pub(crate) use look::not_raw;
use made::Work;
use record::{Record, UnderWay};

/// Which images to open, and how.
#[derive(Clone, Debug)]
pub struct Ask {
    /// The images: files, attached images' names, or mapped devices.
    pub images: Vec<PathBuf>,
    /// What the stack is to be called, and its devices after it; else after the images.
    pub name: Option<String>,
    /// Of the one image: this partition alone.
    pub partition: Option<u32>,
    /// Of the one image: what begins at this byte, and is so long.
    pub slice: Option<(u64, Option<u64>)>,
    /// Opens images read-only.
    pub read_only: bool,
    /// A container that no key opens stays closed, and the rest is opened.
    pub leave_locked: bool,
    /// Optional parameters of the crypt target.
    pub options: Vec<&'static str>,
    /// Whether other devices may use the images too.
    pub sharing: Sharing,
    /// What deriving a key may cost.
    pub unlock: Unlock,
}

/// What was opened.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Opened {
    /// What the stack is called, and closed by.
    pub name: String,
    /// The devices that were made, from the bottom up.
    pub devices: Vec<Device>,
    /// What could not be opened.
    pub not_opened: Vec<NotOpened>,
}

/// A device that was made.
#[derive(Clone, Debug, Serialize)]
pub struct Device {
    /// Its name.
    pub name: String,
    /// The file that shows it.
    pub path: PathBuf,
    /// Its size in bytes.
    pub size_bytes: u64,
    /// Whether it refuses writes.
    pub read_only: bool,
    /// Whether other devices were made of what it holds.
    pub has_layers_above: bool,
    /// Whether it is a part of another device, and nothing for people.
    pub is_part: bool,
    /// What it holds, as `blkid` would call it.
    #[serde(rename = "type")]
    pub holds: Option<String>,
    /// The label of what it holds.
    pub label: Option<String>,
    /// The uuid of what it holds.
    pub uuid: Option<String>,
    /// The lines of its table, without keys.
    pub lines: Vec<String>,
}

/// Something that could not be opened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NotOpened {
    /// What.
    pub name: String,
    /// Why not.
    pub why: String,
}

/// Opens a stack of images.
///
/// # Errors
/// With the exit status of the kind of error, as for one container. Nothing is left behind then. What of a
/// volume group cannot be opened is no error: it is told.
pub fn open(
    dm: &mut dyn DeviceMapper,
    instance: &Instance,
    ask: &Ask,
    keys: &mut dyn KeyHolder,
    watch: &dyn Watch,
) -> Result<Opened, Fault> {
    keep_out_of_core_dumps();
    let name = stack_name(ask)?;
    let folder = record::folder(instance);
    let turn = turn(dm, "open", watch)?;
    record::refuse_there(dm, &folder, &name)?;
    Record::forget(&folder, &name)?;
    let under_way = UnderWay::begin(&folder, &name)?;
    let mut work = Work::new(dm, ask, &name, folder.clone(), keys, watch);
    // From there on others see what it has to do with.
    let begun = work.begin();
    drop(turn);
    let result = match begun.and_then(|nodes| work.run(nodes)).and_then(|()| work.write_record()) {
        Ok(()) => Ok(Opened { name: name.clone(), ..work.opened() }),
        // That nothing is left is what people expect.
        Err(fault) => match work.undo() {
            Ok(()) => Err(fault),
            Err(trouble) => {
                let why = format!("{trouble}: `dmsim close {name}` takes away what is left");
                Err(fault.undone(Err(Fault { why, ..trouble }), ""))
            }
        },
    };
    under_way.end(&folder, &name);
    result
}

/// Refuses an image of which another command opens a stack.
///
/// # Errors
/// Where there is such a command.
pub(super) fn refuse_under_way(instance: &Instance, image: &Path) -> Result<(), Fault> {
    record::refuse_image_under_way(&record::folder(instance), image)
}

/// Returns the name of a stack: the one that was asked for, or that of its first image.
fn stack_name(ask: &Ask) -> Result<String, Fault> {
    let name = match (&ask.name, &ask.images[..]) {
        (Some(name), _) => name.clone(),
        (None, [image, ..]) => base_name(image)?,
        (None, []) => return Err(Fault::new("open", "expected an image").with_status(USAGE)),
    };
    new_name("open", &name)?;
    Ok(name)
}

/// How the names of files end that are images.
const ENDINGS: [&str; 11] =
    [".img", ".raw", ".iso", ".bin", ".dd", ".image", ".disk", ".dmg", ".vhd", ".qcow2", ".vmdk"];

/// Tells whether a word looks like the name of an image's file.
pub fn is_image_name(word: &str) -> bool {
    without_ending(word).len() < word.len()
}

/// Leaves out what says that a file is an image, but for a name that has nothing else.
fn without_ending(name: &str) -> &str {
    let lower = name.to_ascii_lowercase();
    let ending = ENDINGS.iter().find(|ending| lower.ends_with(**ending));
    let len = name.len() - ending.map_or(0, |ending| ending.len());
    if len == 0 { name } else { &name[..len] }
}

/// Names devices after an image: by its file's name.
fn base_name(image: &Path) -> Result<String, Fault> {
    let name = image.file_name().and_then(|name| name.to_str());
    let name =
        name.ok_or_else(|| Fault::new(image.display(), "has no name for devices: --name"))?;
    Ok(without_ending(name).to_owned())
}

impl Work<'_> {
    /// Finds the images, and notes them in the record.
    fn begin(&mut self) -> Result<Vec<Node>, Fault> {
        let ask = self.ask;
        if ask.images.len() > 1 && (ask.partition.is_some() || ask.slice.is_some()) {
            let why = "--partition, --offset and --size are of one image: open them one by one";
            return Err(Fault::new("open", why).with_status(USAGE));
        }
        let mut nodes = Vec::<Node>::new();
        for image in &ask.images {
            let mut base = match ask.images.len() {
                1 => self.name.clone(),
                _ => base_name(image)?,
            };
            let is_taken = |base: &str| nodes.iter().find(|node| node.base == base);
            if let Some(other) = is_taken(&base) {
                let (one, other) = (image.display().to_string(), other.about.clone());
                let mut free = (2..).map(|nr| format!("{base}_{nr}"));
                base = free.find(|base| is_taken(base).is_none()).unwrap_or_default();
                let why = format!(
                    "{one} is called as {other} is: devices of it are named after `{base}`, and those of the other \
                     as ever"
                );
                self.keys.warn(&why);
            }
            nodes.push(self.image(image, base)?);
        }
        self.will_make([])?;
        for image in std::mem::take(&mut self.to_attach) {
            self.dm.attach(Attach::read_only(&image))?;
            self.attached.push(image);
        }
        Ok(nodes)
    }

    /// Opens all of it.
    fn run(&mut self, nodes: Vec<Node>) -> Result<(), Fault> {
        let ask = self.ask;
        for mut node in nodes {
            if let Some((offset, size)) = ask.slice {
                let Some(piece) = self.slice(&node, offset, size)? else { continue };
                node = piece;
            }
            self.push(node);
        }
        // Sets and groups have members in several places: each time, all that there is was looked at.
        loop {
            while let Some(node) = self.next() {
                self.look(&node)?;
            }
            if !self.assemble_sets()? && !self.open_groups()? && !self.open_old_groups()? {
                break;
            }
        }
        self.refuse_nothing()
    }

    /// Finds an image, and says how it is opened.
    fn image(&mut self, typed: &Path, base: String) -> Result<Node, Fault> {
        let (path, word) = place(self.dm, typed)?;
        if self.ask.sharing == Sharing::Exclusive {
            record::refuse_open(self.dm, &self.folder, &path)?;
            refuse_shared(self.dm, &path, &word)?;
            if !self.ask.read_only {
                refuse_looped(&path, WAYS_PAST_A_LOOP)?;
            }
        }
        let mut node = Node::top(typed.display().to_string(), path, word, base);
        // That there is no such file is found here.
        let len = recognise::Source::len(&ImageFile::open(&node.path)?);
        node.sectors = Sectors(len / SECTOR_SIZE);
        self.images.push(node.path.clone());
        if self.ask.read_only {
            node.access = Access::ReadOnly;
        } else if let Some(error) = unwritable(&node.path) {
            self.warn(&format!(
                "{} cannot be written: {error}: it is opened read-only",
                node.about
            ));
            node.access = Access::ReadOnly;
        }
        let is_mapped = node.word.0.starts_with(MAPPER);
        if node.access.is_read_only() && !is_mapped {
            // A table's line finds it there by its path.
            match image_at(self.dm, &node.path)? {
                Some(image) if image.access.is_read_only() => {}
                Some(_) if self.ask.read_only => {
                    let why = "is attached, and not read-only: `dmsim detach` it first";
                    return Err(Fault::new(&node.about, why));
                }
                Some(_) => {}
                None => self.to_attach.push(node.path.clone()),
            }
        }
        Ok(node)
    }

    /// Makes a device of a part of an image.
    fn slice(
        &mut self,
        node: &Node,
        offset: u64,
        size: Option<u64>,
    ) -> Result<Option<Node>, Fault> {
        let len = node.sectors.bytes();
        let size = size.unwrap_or(len.saturating_sub(offset));
        if !offset.is_multiple_of(SECTOR_SIZE) || !size.is_multiple_of(SECTOR_SIZE) {
            let why = "--offset and --size: expected a multiple of 512 bytes";
            return Err(Fault::new(&node.about, why).with_status(USAGE));
        }
        if offset >= len {
            let why = format!("--offset: has {len} bytes, and ends before byte {offset}");
            return Err(Fault::new(&node.about, why).with_status(USAGE));
        }
        if size == 0 || offset.checked_add(size).is_none_or(|end| end > len) {
            let why = format!("has {len} bytes, expected {size} from byte {offset} on");
            return Err(Fault::new(&node.about, why).with_status(USAGE));
        }
        let line = format!("{} {}", node.word, offset / SECTOR_SIZE);
        let table = crate::commands::one(Sectors(size / SECTOR_SIZE), "linear", &line);
        self.make_over(node, &node.base.clone(), &format!("DMSIM-PIECE-{}", node.base), table)
    }
}

/// Says what an image is of which nothing can be opened.
fn nothing_known(about: &str, path: &Path) -> Fault {
    let first = open_image(path).and_then(|file| Ok((file.metadata()?, first_byte(&file)?)));
    if let Ok((file, None)) = first {
        let why = match file.is_file() && file.len() == 0 {
            true => "is empty",
            false => {
                "has nothing but zeros at its start and its end: nothing is on it, or it was wiped"
            }
        };
        return Fault::new(about, why).with_status(4);
    }
    let why = "no container found: nothing in it is known. Plain dm-crypt and VeraCrypt have no header: `dmsim open \
               --type plain IMAGE NAME`, or `--type veracrypt`";
    Fault::new(about, why).with_status(4)
}
