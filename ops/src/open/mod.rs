//! `open`, `close` and `dump`: what encrypted images hold.
//!
//! The client reads the header and derives the keys; the daemon is given the finished table, as
//! `cryptsetup` gives it to the kernel. So a header that was made to do harm costs the client
//! alone, and the daemon never knows a passphrase.

mod image;
mod keys;
pub mod stack;
mod unlock;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crypto::Secret;
use daemon::client::unexpected;
use daemon::fault::USAGE;
use daemon::protocol::Outcome;
use daemon::{About, Fault, Instance, keep_out_of_core_dumps, refuse_looped};
use recognise::Found;
use recognise::containers::{Container, Limits, Line, LineTarget, Plain, Unlock, VeraCrypt};
use sim_core::control::{Answer, Command, Id, MAX_UUID, Slot, WhenOpen};
use sim_core::{Access, Errno, SECTOR_SIZE, Sector, Sectors, TargetSpec};
use targets::lines::DeviceWord;
use zeroize::Zeroizing;

use crate::commands::{remove_when, resume};
use crate::device_mapper::DeviceMapper;
use crate::files::refuse_shared;
use crate::raid::{Belongs, belongs};
use crate::turn::turn;
use crate::watch::Watch;
use crate::words::{MAPPER, device_name, kernel_form, new_name};
use daemon::mangle::What;
use image::{Image, UUID, read_header};
pub(crate) use image::{ImageFile, told};
pub use keys::{KeyForm, can_look, fill};
pub use unlock::Expected;
use unlock::{Opened, unlock};

/// Which container to open, and how.
#[derive(Clone, Debug)]
pub struct Open {
    /// The image: a file, an attached image's name, or a mapped device.
    pub image: PathBuf,
    /// What the device is to be called.
    pub name: String,
    /// What the image is.
    pub kind: Kind,
    /// Refuses writes to the device.
    pub read_only: bool,
    /// Optional parameters of the crypt target, as `allow_discards`.
    pub options: Vec<&'static str>,
    /// Whether other devices may use the image too.
    pub sharing: Sharing,
}

/// Whether other devices may use an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sharing {
    /// One that another device uses is refused.
    Exclusive,
    /// It is opened all the same.
    Shared,
}

/// What an image is.
#[derive(Clone, Debug)]
pub enum Kind {
    /// What its header says: LUKS1, LUKS2, BitLocker.
    Container {
        /// Which of them it has to be.
        expected: Expected,
        /// The file of the header, where it lies apart from the data.
        header: Option<PathBuf>,
        /// The key slot, and what deriving its key may cost.
        unlock: Unlock,
    },
    /// Plain dm-crypt, which has no header.
    Plain {
        /// What there is no header for.
        plain: Plain,
        /// The key is not a passphrase to be hashed.
        raw_key: bool,
    },
    /// VeraCrypt, or TrueCrypt.
    VeraCrypt {
        /// Which of its headers, and what it may be.
        volume: VeraCrypt,
        /// Contents of key files that go with the passphrase.
        key_files: Vec<Secret>,
        /// What deriving a key may cost.
        limits: Limits,
    },
}

/// Who knows passphrases and keys.
pub trait KeyHolder {
    /// Returns a passphrase or key; `prompt` says whose.
    ///
    /// # Errors
    /// Where there is none.
    fn key(&mut self, prompt: &str) -> Result<Secret, Fault>;

    /// Is told that the key does not open what lies there; tells whether to ask again.
    fn is_wrong(&mut self, place: &Path) -> bool;

    /// Is told what is odd about a container that opens all the same.
    fn warn(&mut self, what: &str);
}

/// How an image is opened that a loop device writes to.
const WAYS_PAST_A_LOOP: &str =
    "--read-only opens it without a write, --shared opens it all the same";

/// Makes a device that shows what a container holds; returns its file.
///
/// # Errors
/// With the exit status of the kind of error, as `dmsim open` has them. Nothing is left behind.
pub fn open(
    dm: &mut dyn DeviceMapper,
    instance: &Instance,
    ask: &Open,
    keys: &mut dyn KeyHolder,
    watch: &dyn Watch,
) -> Result<PathBuf, Fault> {
    keep_out_of_core_dumps();
    let name = new_name("open", &ask.name)?;
    if status(dm, &name)?.is_some() {
        return Err(Fault::new("open", format!("a device `{}` is there already", ask.name)));
    }
    let image = Image::find(dm, &ask.image)?;
    let refuse_used = |dm: &mut dyn DeviceMapper| match ask.sharing {
        Sharing::Exclusive => {
            stack::refuse_under_way(instance, &image.path)?;
            refuse_shared(dm, &image.path, &image.word)?;
            match ask.read_only {
                true => Ok(()),
                false => refuse_looped(&image.path, WAYS_PAST_A_LOOP),
            }
        }
        Sharing::Shared => Ok(()),
    };
    refuse_used(dm)?;
    let opened = unlock(&image.path, &ask.kind, keys, watch)?;
    // Somebody else may have opened it meanwhile.
    let _turn = turn(dm, "open", watch)?;
    refuse_used(dm)?;
    let new = New {
        typed: &ask.name,
        name: &name,
        access: if ask.read_only { Access::ReadOnly } else { Access::ReadWrite },
        options: &ask.options,
    };
    activate(dm, &planned(&new, &image.word, opened, keys)?, new.access)?;
    Ok(dm.mount().join(name))
}

/// Tries a passphrase or key, as [`open`] would, and makes no device; returns the key slot that
/// opens, where there are key slots.
///
/// # Errors
/// With the exit status of the kind of error.
pub fn try_key(
    image: &Path,
    kind: &Kind,
    keys: &mut dyn KeyHolder,
    watch: &dyn Watch,
) -> Result<Option<u32>, Fault> {
    keep_out_of_core_dumps();
    unlock(image, kind, keys, watch).map(|opened| opened.unlocked.key_slot)
}

/// Reads the header of a container.
///
/// # Errors
/// Where there is none, or it is damaged.
pub fn header(path: &Path) -> Result<Container, Fault> {
    read_header(&ImageFile::open(path)?, path)
}

/// What an image holds, of all that is known.
enum Recognised {
    /// What its bytes say.
    Known(Box<Found>),
    /// It is a member of a RAID set.
    Member(Belongs),
}

/// Finds out what an image holds. A member of a set may look like what the set holds.
fn recognised(path: &Path, source: &ImageFile) -> Result<Recognised, recognise::Error> {
    let found = recognise::probe(source);
    let len = Sectors(recognise::Source::len(source) / SECTOR_SIZE);
    // Some superblocks may as well be those of a partition that ends where the disk does.
    let has_partitions = matches!(found, Ok(Found::Partitions(_)));
    match belongs(path, len) {
        Some(set) if !(set.may_be_of_a_part && has_partitions) => Ok(Recognised::Member(set)),
        _ => Ok(Recognised::Known(Box::new(found?))),
    }
}

/// What an image holds, for people.
#[derive(Clone, Debug)]
pub enum Holds {
    /// What its bytes say.
    Known(Box<Found>),
    /// It is a member of a RAID set: of which one.
    Member(String),
}

/// Finds out what an image holds.
///
/// # Errors
/// Where it cannot be read, what it holds is damaged, or nothing in it is known.
pub fn look(path: &Path) -> Result<Holds, Fault> {
    let source = ImageFile::open(path)?;
    match recognised(path, &source).map_err(|error| told(path, &error))? {
        Recognised::Member(set) => Ok(Holds::Member(set.told)),
        Recognised::Known(found) if matches!(*found, Found::Nothing) => {
            let why = "no container found: nothing in it is known";
            Err(Fault::new(path.display(), why).with_status(4))
        }
        Recognised::Known(found) => Ok(Holds::Known(found)),
    }
}

/// Removes a device that [`open`] made, and what it made below it. One that is in use is refused, or
/// goes when nobody has it open any more.
///
/// # Errors
/// Where it was not made by `open`, or is in use.
pub fn close(dm: &mut dyn DeviceMapper, word: &str, open: WhenOpen) -> Result<(), Fault> {
    let name = &device_name(dm.mount(), word);
    let uuid = status(dm, name)?.ok_or_else(|| match Path::new(word).is_file() {
        true => Fault::new(word, "no stack is open of this image, and no device is called so"),
        false => Fault::new(name, "no such device"),
    })?;
    if !uuid.starts_with(UUID) {
        let why = "not made by `open`: `dmsim remove` removes any device";
        return Err(Fault::new(name, why));
    }
    for layer in layers(dm, name, &uuid)? {
        remove_when(dm, &layer, open)?;
    }
    Ok(())
}

/// Lists a device and those below it that the same `open` made, from the top down.
fn layers(dm: &mut dyn DeviceMapper, name: &str, uuid: &str) -> Result<Vec<String>, Fault> {
    let mut layers = vec![name.to_owned()];
    loop {
        let below = layer_name(name, layers.len());
        match status(dm, &below)? {
            // A cascade's uuids have no more in them than the names, which may be cut.
            Some(other)
                if other.starts_with(CASCADE)
                    && Some(&*other) == cut_uuid(&format!("{CASCADE}{below}"))
                    && uuid.starts_with(CASCADE) =>
            {
                layers.push(below);
            }
            Some(_) | None => return Ok(layers),
        }
    }
}

/// What the uuids of VeraCrypt's devices begin with.
const CASCADE: &str = "CRYPT-TCRYPT-";

/// Names the device so many layers below the one that was asked for, as cryptsetup does.
fn layer_name(name: &str, below: usize) -> String {
    if below == 0 { name.to_owned() } else { format!("{name}_{below}") }
}

/// A device that is to show what a container holds.
struct New<'a> {
    typed: &'a str,
    /// As the kernel has it.
    name: &'a str,
    access: Access,
    /// Optional parameters of the crypt target.
    options: &'a [&'static str],
}

/// A device that was made: its name as the kernel has it, its uuid, and its table.
#[derive(Clone, Debug)]
pub(super) struct Made {
    pub(super) name: String,
    pub(super) uuid: String,
    pub(super) targets: Vec<TargetSpec>,
}

/// Says which devices show what a container holds, from the bottom up.
fn planned(
    new: &New<'_>,
    image: &DeviceWord,
    opened: Opened,
    keys: &mut dyn KeyHolder,
) -> Result<Vec<Made>, Fault> {
    let mut below = image.to_string();
    let mut layers = opened.unlocked.layers;
    layers.iter_mut().flatten().for_each(|line| add_options(line, new.options));
    let mut planned = Vec::new();
    for (at, lines) in layers.iter().enumerate() {
        let typed = layer_name(new.typed, layers.len() - 1 - at);
        let name = layer_name(new.name, layers.len() - 1 - at);
        let uuid = uuid(&opened.kind, &typed, keys)?;
        let targets: Vec<_> = lines.iter().map(|line| spec(line, &below)).collect();
        below = DeviceWord(format!("{MAPPER}{name}")).to_string();
        planned.push(Made { name, uuid, targets });
    }
    let uuids: BTreeSet<&str> = planned.iter().map(|layer| &*layer.uuid).collect();
    if uuids.len() < planned.len() {
        let why = "name too long for a cascade of ciphers: the uuids of its devices, which end in \
                   their names, would all be cut to the same one";
        return Err(Fault::new("open", why).with_status(USAGE));
    }
    Ok(planned)
}

/// Makes the devices, from the bottom up; none is left where one fails.
fn activate(dm: &mut dyn DeviceMapper, planned: &[Made], access: Access) -> Result<(), Fault> {
    for (at, layer) in planned.iter().enumerate() {
        if let Err(fault) = make(dm, layer, access) {
            for layer in planned[..at].iter().rev() {
                take_back(dm, &layer.name);
            }
            return Err(fault);
        }
    }
    Ok(())
}

/// Removes a device that was just made, if it is there.
fn take_back(dm: &mut dyn DeviceMapper, name: &str) {
    let (id, open) = (Id::Name(name.to_owned()), WhenOpen::Refuse);
    let _ = dm.control(Command::DevRemove { id, open });
}

/// Returns the uuid of a device of this kind and name, as cryptsetup makes it: cut where it would be
/// longer than the kernel takes, then written as libdevmapper writes it.
fn uuid(kind: &str, typed: &str, keys: &mut dyn KeyHolder) -> Result<String, Fault> {
    let whole = format!("{UUID}{kind}-{typed}");
    let form = cut_uuid(&whole).map_or_else(
        // Cut within a character, it is too long in any case.
        || Err(format!("mangled form of the UUID too long for \"{whole}\"")),
        |cut| kernel_form(cut, What::Uuid),
    );
    let form = form.map_err(|why| Fault::new("open", why).with_status(USAGE))?;
    if whole.len() > MAX_UUID {
        keys.warn(&format!("the uuid of `{typed}` is too long, and cut to {MAX_UUID} bytes"));
    }
    Ok(form)
}

fn cut_uuid(whole: &str) -> Option<&str> {
    whole.get(..whole.len().min(MAX_UUID))
}

/// Makes a device, and lets it run; it is not there where that fails.
fn make(dm: &mut dyn DeviceMapper, new: &Made, access: Access) -> Result<(), Fault> {
    let Made { name, uuid, targets } = new;
    let base = "/".to_owned();
    let create = Command::DevCreate { name: name.clone(), uuid: Some(uuid.clone()), minor: None };
    dm.control(create)?.map_err(|failure| match failure.errno {
        Errno::BUSY => {
            let why = format!("a device of this name, or of the uuid `{uuid}`, is there already");
            Fault::new(name, why)
        }
        _ => Fault::new(name, failure),
    })?;
    let targets = targets.clone();
    let load = Command::TableLoad { id: Id::Name(name.clone()), access, targets, base };
    let loaded = dm.control(load)?.about(name).and_then(|_| resume(dm, name));
    loaded.inspect_err(|_| take_back(dm, name))
}

/// Makes a table line for the control plane.
fn spec(line: &Line, below: &str) -> TargetSpec {
    let text: Zeroizing<String> = line.table_line(below);
    let (start, len) = (Sector(line.start), Sectors(line.len));
    let target_type = line.target_type().to_owned();
    let params = text.splitn(4, ' ').nth(3).unwrap_or_default().into();
    TargetSpec { start, len, target_type, params }
}

fn add_options(line: &mut Line, options: &[&'static str]) {
    match &mut line.target {
        LineTarget::Crypt(crypt) => {
            let new = options.iter().filter(|option| !crypt.options.contains(option));
            let new: Vec<&str> = new.copied().collect();
            crypt.options.extend(new);
        }
        LineTarget::Linear(_) | LineTarget::Zero => {}
    }
}

/// Returns the uuid of a device; nothing where there is no such device.
fn status(dm: &mut dyn DeviceMapper, name: &str) -> Result<Option<String>, Fault> {
    let (id, slot) = (Id::Name(name.to_owned()), Slot::Live);
    match dm.control(Command::DevStatus { id, slot })? {
        Ok(Answer::Status(status)) => Ok(Some(status.uuid.unwrap_or_default())),
        Err(failure) if failure.errno == Errno::NXIO => Ok(None),
        Err(failure) => Err(Fault::new(name, failure)),
        Ok(other) => Err(unexpected(Outcome::Control(Ok(other)))),
    }
}
