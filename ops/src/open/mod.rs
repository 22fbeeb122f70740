//! `open`, `close` and `dump`: what encrypted images hold.
//!
//! The client reads the header and derives the keys; the daemon is given the finished table, as
//! `cryptsetup` gives it to the kernel. So a header that was made to do harm costs the client
//! alone, and the daemon never knows a passphrase.

mod image;
mod keys;

use std::path::{Path, PathBuf};

use containers::{
    Container, Data, Error, Limits, Line, LineTarget, Plain, PlainKey, Unlock, Unlocked, VeraCrypt,
};
use crypto::Secret;
use daemon::client::unexpected;
use daemon::protocol::Outcome;
use daemon::{About, Fault, keep_out_of_core_dumps};
use sim_core::control::{Answer, Command, Id, Slot, WhenOpen};
use sim_core::{Access, Errno, Held, Sector, Sectors, TargetSpec};
use zeroize::Zeroizing;

use crate::commands::remove;
use crate::device_mapper::DeviceMapper;
use crate::files::refuse_shared;
use crate::words::{MAPPER, check_name};
use image::{Image, ImageFile, UUID, read_header, told};
pub use keys::{KeyForm, fill};

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
    /// Passes discards on to the image.
    pub allow_discards: bool,
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

/// Makes a device that shows what a container holds; returns its file.
///
/// # Errors
/// With the exit status of the kind of error, as `dmsim open` has them. Nothing is left behind.
pub fn open(
    dm: &mut dyn DeviceMapper,
    ask: &Open,
    keys: &mut dyn KeyHolder,
) -> Result<PathBuf, Fault> {
    keep_out_of_core_dumps();
    check_name("open", &ask.name)?;
    if status(dm, &ask.name)?.is_some() {
        return Err(Fault::new("open", format!("a device `{}` is there already", ask.name)));
    }
    let image = Image::find(dm, &ask.image)?;
    match ask.sharing {
        Sharing::Exclusive => refuse_shared(dm, &image.path, &image.word)?,
        Sharing::Shared => {}
    }
    let opened = match &ask.kind {
        Kind::Container { header, unlock } => {
            open_container(&image, header.as_deref(), unlock, keys)?
        }
        Kind::Plain { plain, raw_key } => open_plain(&image, plain, *raw_key, keys)?,
        Kind::VeraCrypt { volume, key_files, limits } => {
            open_veracrypt(&image, volume, key_files, limits, keys)?
        }
    };
    opened.unlocked.warnings.iter().for_each(|warning| keys.warn(&warning.to_string()));
    activate(dm, ask, &image, opened)?;
    Ok(dm.mount().join(&ask.name))
}

/// Reads the header of a container.
///
/// # Errors
/// Where there is none, or it is damaged.
pub fn header(path: &Path) -> Result<Container, Fault> {
    read_header(&ImageFile::open(path)?, path)
}

/// Removes a device that [`open`] made, and what it made below it.
///
/// # Errors
/// Where it was not made by `open`, or is in use.
pub fn close(dm: &mut dyn DeviceMapper, name: &str) -> Result<(), Fault> {
    let uuid = status(dm, name)?.ok_or_else(|| Fault::new(name, "no such device"))?;
    if !uuid.starts_with(UUID) {
        let why = "not made by `open`: `dmsim remove` removes any device";
        return Err(Fault::new(name, why));
    }
    for layer in layers(dm, name, &uuid)? {
        remove(dm, &layer)?;
    }
    Ok(())
}

/// Lists a device and those below it that the same `open` made, from the top down.
fn layers(dm: &mut dyn DeviceMapper, name: &str, uuid: &str) -> Result<Vec<String>, Fault> {
    let mut layers = vec![name.to_owned()];
    loop {
        let below = layer_name(name, layers.len());
        match status(dm, &below)? {
            Some(other) if other.strip_suffix(&below) == uuid.strip_suffix(name) => {
                layers.push(below);
            }
            Some(_) | None => return Ok(layers),
        }
    }
}

/// Names the device so many layers below the one that was asked for, as cryptsetup does.
fn layer_name(name: &str, below: usize) -> String {
    if below == 0 { name.to_owned() } else { format!("{name}_{below}") }
}

/// A container that is open, but for the devices.
struct Opened {
    /// What the uuid has between its prefix and the name.
    kind: String,
    unlocked: Unlocked,
}

fn open_container(
    image: &Image,
    header: Option<&Path>,
    unlock: &Unlock,
    keys: &mut dyn KeyHolder,
) -> Result<Opened, Fault> {
    let data = ImageFile::open(&image.path)?;
    let (header, data, place) = match header {
        None => {
            let len = containers::Source::len(&data);
            (data, Data::with_header(len), image.path.as_path())
        }
        Some(path) => (ImageFile::open(path)?, Data::apart(containers::Source::len(&data)), path),
    };
    let container = read_header(&header, place)?;
    let open = |passphrase: &Secret| container.unlock(&header, data, passphrase, unlock);
    let unlocked = with_key(place, keys, open)?;
    let uuid = container.uuid().unwrap_or_default().replace('-', "");
    Ok(Opened { kind: format!("{}-{uuid}", container.kind().to_uppercase()), unlocked })
}

fn open_plain(
    image: &Image,
    plain: &Plain,
    raw_key: bool,
    keys: &mut dyn KeyHolder,
) -> Result<Opened, Fault> {
    let data = ImageFile::open(&image.path)?;
    let len = containers::Source::len(&data);
    let open = |secret: &Secret| {
        let key = if raw_key { PlainKey::KeyFile(secret) } else { PlainKey::Passphrase(secret) };
        plain.unlock(len, key)
    };
    let unlocked = with_key(&image.path, keys, open)?;
    Ok(Opened { kind: "PLAIN".to_owned(), unlocked })
}

fn open_veracrypt(
    image: &Image,
    volume: &VeraCrypt,
    key_files: &[Secret],
    limits: &Limits,
    keys: &mut dyn KeyHolder,
) -> Result<Opened, Fault> {
    let data = ImageFile::open(&image.path)?;
    let open = |secret: &Secret| volume.unlock(&data, secret, key_files, limits);
    let unlocked = with_key(&image.path, keys, open)?;
    Ok(Opened { kind: "TCRYPT".to_owned(), unlocked })
}

/// Unlocks what lies there, with as many keys as there are.
fn with_key(
    place: &Path,
    keys: &mut dyn KeyHolder,
    unlock: impl Fn(&Secret) -> Result<Unlocked, Error>,
) -> Result<Unlocked, Fault> {
    let prompt = format!("Passphrase for {}: ", place.display());
    loop {
        match unlock(&keys.key(&prompt)?) {
            Err(Error::WrongPassphrase { .. }) if keys.is_wrong(place) => {}
            other => return other.map_err(|error| told(place, &error)),
        }
    }
}

/// Makes the devices, from the bottom up; none is left where one fails.
fn activate(
    dm: &mut dyn DeviceMapper,
    ask: &Open,
    image: &Image,
    opened: Opened,
) -> Result<(), Fault> {
    let access = if ask.read_only { Access::ReadOnly } else { Access::ReadWrite };
    let mut below = image.word.to_string();
    let mut made = Vec::new();
    let mut layers = opened.unlocked.layers;
    if ask.allow_discards {
        layers.iter_mut().flatten().for_each(allow_discards);
    }
    for (at, lines) in layers.iter().enumerate() {
        let name = layer_name(&ask.name, layers.len() - 1 - at);
        let targets = lines.iter().map(|line| spec(line, &below)).collect();
        let uuid = format!("{UUID}{}-{name}", opened.kind);
        let result = make(dm, &name, uuid, access, targets);
        made.push(name.clone());
        if let Err(fault) = result {
            for name in made.iter().rev() {
                let open = WhenOpen::Refuse;
                // Where it was not made there is nothing to remove.
                let _ = dm.control(Command::DevRemove { id: Id::Name(name.clone()), open });
            }
            return Err(fault);
        }
        below = format!("{MAPPER}{name}");
    }
    Ok(())
}

fn make(
    dm: &mut dyn DeviceMapper,
    name: &str,
    uuid: String,
    access: Access,
    targets: Vec<TargetSpec>,
) -> Result<(), Fault> {
    let id = || Id::Name(name.to_owned());
    let base = "/".to_owned();
    for command in [
        Command::DevCreate { name: name.to_owned(), uuid: Some(uuid), minor: None },
        Command::TableLoad { id: id(), access, targets, base },
        Command::DevResume { id: id(), held: Held::Flush },
    ] {
        dm.control(command)?.about(name)?;
    }
    Ok(())
}

/// Makes a table line for the control plane.
fn spec(line: &Line, below: &str) -> TargetSpec {
    let text: Zeroizing<String> = line.table_line(below);
    let (start, len) = (Sector(line.start), Sectors(line.len));
    let target_type = line.target_type().to_owned();
    let params = text.splitn(4, ' ').nth(3).unwrap_or_default().into();
    TargetSpec { start, len, target_type, params }
}

fn allow_discards(line: &mut Line) {
    const OPTION: &str = "allow_discards";
    match &mut line.target {
        LineTarget::Crypt(crypt) if !crypt.options.contains(&OPTION) => crypt.options.push(OPTION),
        LineTarget::Crypt(_) | LineTarget::Linear(_) | LineTarget::Zero => {}
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
