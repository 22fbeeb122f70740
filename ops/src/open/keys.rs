//! Keys that the record does not have: asked for again when devices are restored.

use std::path::{Path, PathBuf};

use crypto::Secret;
use daemon::protocol::{Filled, Keyless};
use daemon::{Fault, keep_out_of_core_dumps};
use recognise::Source;
use recognise::containers::{Data, LineTarget, Place, Unlock};
use sim_core::{DevNumber, Params, TargetSpec};
use zeroize::Zeroizing;

use super::image::{ImageFile, UUID, read_header, told};

/// What stands in a recorded table for a key, before its length in bytes.
const LEFT_OUT: char = '?';

/// What a key is asked for as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyForm {
    /// A passphrase, or the contents of a key file.
    Passphrase,
    /// The key itself, which no container keeps.
    Raw,
}

/// Images, and devices that are there, by their numbers.
type Images = [(DevNumber, PathBuf)];

/// Gives the tables of a device that is to be restored their key again. `header` is where that of
/// its container lies, if apart; `key` is asked for the passphrase or key, with a prompt.
///
/// # Errors
/// Where the device has several keys, or the one that is given is not its key.
pub fn fill(
    device: &Keyless,
    images: &Images,
    header: Option<&Path>,
    key: &mut dyn FnMut(&str, KeyForm) -> Result<Secret, Fault>,
) -> Result<Vec<Filled>, Fault> {
    keep_out_of_core_dumps();
    let kind = device.uuid.as_ref().and_then(|uuid| uuid.strip_prefix(UUID));
    if kind.is_some_and(|kind| kind.starts_with("TCRYPT-")) {
        let why = "a cascade of ciphers has several keys: `dmsim open` it again";
        return Err(Fault::new("key", why));
    }
    let key = match container(device, images, header) {
        Some((header, data)) => unlock(device, &header, data.as_deref(), key)?,
        None => key(&format!("Key of {} in hexadecimal digits: ", device.name), KeyForm::Raw)?,
    };
    let tables = device.tables.iter().map(|(slot, lines)| {
        let targets = lines.iter().map(|line| with_key(line, &key));
        let targets = targets.collect::<Result<_, _>>()?;
        Ok(Filled { name: device.name.clone(), slot: *slot, targets })
    });
    tables.collect()
}

/// Tells whether [`fill`] knows where the header of a device's container lies, or needs none: what it lies on may be
/// a device that is to be restored first.
pub fn can_look(device: &Keyless, images: &Images) -> bool {
    !has_header(device) || image_of(device, images).is_some()
}

fn has_header(device: &Keyless) -> bool {
    let kind = device.uuid.as_ref().and_then(|uuid| uuid.strip_prefix(UUID));
    kind.is_some_and(|kind| !kind.starts_with("PLAIN-"))
}

/// Returns where a device's header lies, if it has one, and where the data, if apart.
fn container(
    device: &Keyless,
    images: &Images,
    header: Option<&Path>,
) -> Option<(PathBuf, Option<PathBuf>)> {
    if !has_header(device) {
        return None;
    }
    let data = image_of(device, images)?;
    match header {
        Some(header) => Some((header.to_owned(), Some(data))),
        None => Some((data, None)),
    }
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
    header: &Path,
    data: Option<&Path>,
    key: &mut dyn FnMut(&str, KeyForm) -> Result<Secret, Fault>,
) -> Result<Secret, Fault> {
    let source = ImageFile::open(header)?;
    let container = read_header(&source, header)?;
    let data = match data {
        None => Data { len: source.len(), place: Place::WithHeader },
        Some(data) => Data { len: ImageFile::open(data)?.len(), place: Place::Apart },
    };
    let prompt = format!("Passphrase for {} ({}): ", device.name, header.display());
    let passphrase = key(&prompt, KeyForm::Passphrase)?;
    let unlocked = container.unlock(&source, data, &passphrase, &Unlock::default());
    let unlocked = unlocked.map_err(|error| told(header, &error))?;
    let key = unlocked.lines().iter().find_map(|line| match &line.target {
        LineTarget::Crypt(crypt) => Some(crypt.key.clone()),
        LineTarget::Linear(_) | LineTarget::Zero => None,
    });
    key.ok_or_else(|| Fault::new(header.display(), "the container has no key"))
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
