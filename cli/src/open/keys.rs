//! Keys that the record does not have: asked for again when devices are restored.

use std::path::{Path, PathBuf};

use containers::{Data, LineTarget, Place, Source, Unlock};
use crypto::Secret;
use sim_core::{DevNumber, Params, TargetSpec};
use zeroize::Zeroizing;

use super::image::ImageFile;
use super::passphrase::{self, Range};
use super::{UUID, keep_out_of_core_dumps, read_header, told};
use crate::fault::Fault;
use crate::protocol::{Filled, Keyless, KeylessStack};

/// What stands in a recorded table for a key, before its length in bytes.
const LEFT_OUT: char = '?';

/// Where the keys of devices come from that are restored.
pub(crate) struct Keys {
    files: Vec<(String, PathBuf)>,
    headers: Vec<(String, PathBuf)>,
}

/// Images by their numbers.
type Images = [(DevNumber, PathBuf)];

impl Keys {
    /// Takes files by the names of the devices.
    pub(crate) fn new(files: Vec<(String, PathBuf)>, headers: Vec<(String, PathBuf)>) -> Keys {
        Keys { files, headers }
    }

    /// Gives tables their keys again. Those of a device for which no file is named and nobody can
    /// be asked stay as they are, and those for which that leads to no key: why, is told.
    pub(crate) fn fill(&self, keyless: &KeylessStack) -> Vec<Filled> {
        keep_out_of_core_dumps();
        let mut filled = Vec::new();
        for device in &keyless.devices {
            let file = named(&self.files, &device.name);
            if file.is_none() && !passphrase::is_asked() {
                continue;
            }
            match self.fill_device(device, &keyless.images, file) {
                Ok(tables) => filled.extend(tables),
                Err(fault) => eprintln!("dmsim: restore: {}: {fault}", device.name),
            }
        }
        filled
    }

    fn fill_device(
        &self,
        device: &Keyless,
        images: &Images,
        file: Option<&Path>,
    ) -> Result<Vec<Filled>, Fault> {
        let kind = device.uuid.as_ref().and_then(|uuid| uuid.strip_prefix(UUID));
        if kind.is_some_and(|kind| kind.starts_with("TCRYPT-")) {
            let why = "a cascade of ciphers has several keys: `dmsim open` it again";
            return Err(Fault::new("key", why));
        }
        let key = match self.container(device, images) {
            Some((header, data)) => unlock(device, file, &header, data.as_deref())?,
            None => plain_key(device, file)?,
        };
        let tables = device.tables.iter().map(|(slot, lines)| {
            let targets = lines.iter().map(|line| with_key(line, &key));
            let targets = targets.collect::<Result<_, _>>()?;
            Ok(Filled { name: device.name.clone(), slot: *slot, targets })
        });
        tables.collect()
    }

    /// Returns where a device's header lies, if it has one, and where the data, if apart.
    fn container(&self, device: &Keyless, images: &Images) -> Option<(PathBuf, Option<PathBuf>)> {
        let kind = device.uuid.as_ref()?.strip_prefix(UUID)?;
        if kind.starts_with("PLAIN-") {
            return None;
        }
        let data = image_of(device, images)?;
        match named(&self.headers, &device.name) {
            Some(header) => Some((header.to_owned(), Some(data))),
            None => Some((data, None)),
        }
    }
}

fn named<'a>(files: &'a [(String, PathBuf)], name: &str) -> Option<&'a Path> {
    files.iter().find(|(of, _)| of == name).map(|(_, path)| path.as_path())
}

/// Returns the image that a device's first line with a key maps onto, as far as it is one.
fn image_of(device: &Keyless, images: &Images) -> Option<PathBuf> {
    let lines = device.tables.iter().flat_map(|(_, lines)| lines);
    let numbers = lines.flat_map(|line| line.params.split(' '));
    let number: DevNumber = numbers.filter_map(|word| word.parse().ok()).next()?;
    let image = images.iter().find(|(dev, _)| *dev == number);
    image.map(|(_, path)| path.clone())
}

fn unlock(
    device: &Keyless,
    file: Option<&Path>,
    header: &Path,
    data: Option<&Path>,
) -> Result<Secret, Fault> {
    let source = ImageFile::open(header)?;
    let container = read_header(&source, header)?;
    let data = match data {
        None => Data { len: source.len(), place: Place::WithHeader },
        Some(data) => Data { len: ImageFile::open(data)?.len(), place: Place::Apart },
    };
    let prompt = format!("Passphrase for {} ({}): ", device.name, header.display());
    let passphrase = match file {
        Some(file) => passphrase::from_file(file, Range::default())?,
        None => passphrase::ask(&prompt)?,
    };
    let unlocked = container.unlock(&source, data, &passphrase, &Unlock::default());
    let unlocked = unlocked.map_err(|error| told(header, &error))?;
    let key = unlocked.lines().iter().find_map(|line| match &line.target {
        LineTarget::Crypt(crypt) => Some(crypt.key.clone()),
        LineTarget::Linear(_) | LineTarget::Zero => None,
    });
    key.ok_or_else(|| Fault::new(header.display(), "the container has no key"))
}

/// Takes a key that no container keeps: as it is from a file, in hexadecimal digits if typed.
fn plain_key(device: &Keyless, file: Option<&Path>) -> Result<Secret, Fault> {
    if let Some(file) = file {
        return passphrase::from_file(file, Range::default());
    }
    let typed = passphrase::ask(&format!("Key of {} in hexadecimal digits: ", device.name))?;
    let digits = std::str::from_utf8(typed.expose()).unwrap_or_default();
    Secret::from_hex(digits.trim()).map_err(|fault| Fault::new(&device.name, fault.detail))
}

/// Writes the key where it was left out.
fn with_key(line: &TargetSpec, key: &Secret) -> Result<TargetSpec, Fault> {
    let room = line.params.len() + 2 * key.len();
    let mut params = Zeroizing::new(String::with_capacity(room));
    for word in line.params.split(' ') {
        if !params.is_empty() {
            params.push(' ');
        }
        match word.strip_prefix(LEFT_OUT).map(str::parse::<usize>) {
            Some(Ok(len)) if len == key.len() => params.push_str(&key.to_hex()),
            Some(Ok(len)) => {
                let why = format!("expected a key of {len} bytes, found {}", key.len());
                return Err(Fault::new("key", why));
            }
            Some(Err(_)) | None => params.push_str(word),
        }
    }
    Ok(TargetSpec { params: Params::from(params.as_str()), ..line.clone() })
}
