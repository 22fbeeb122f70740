//! What an image holds, unlocked: its header read, and its keys derived.

use std::path::Path;
use std::sync::Arc;

use crypto::Secret;
use daemon::Fault;
use recognise::Error;
use recognise::containers::{
    Container, Data, Limits, Plain, PlainKey, Unlock, Unlocked, VeraCrypt, probe,
};

use super::image::{ImageFile, read_header, told};
use super::{KeyHolder, Kind};
use crate::watch::{Watch, unless_interrupted};

/// Which containers are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected {
    /// Whatever there is.
    Any,
    /// LUKS1 or LUKS2.
    Luks,
    /// LUKS1.
    Luks1,
    /// LUKS2.
    Luks2,
    /// BitLocker.
    BitLocker,
}

impl Expected {
    /// Refuses a container that is another one.
    ///
    /// # Errors
    /// With the exit status of an image that holds no container.
    pub fn check(self, container: &Container, place: &Path) -> Result<(), Fault> {
        let expected = match (self, container) {
            (Expected::Any, _)
            | (Expected::Luks | Expected::Luks1, Container::Luks1(_))
            | (Expected::Luks | Expected::Luks2, Container::Luks2(_))
            | (Expected::BitLocker, Container::BitLocker(_)) => return Ok(()),
            (Expected::Luks, _) => "luks",
            (Expected::Luks1, _) => "luks1",
            (Expected::Luks2, _) => "luks2",
            (Expected::BitLocker, _) => "bitlk",
        };
        let why = format!("expected {expected}, found {}", container.kind());
        Err(Fault::new(place.display(), why).with_status(4))
    }
}

/// A container that is open, but for the devices.
pub(super) struct Opened {
    /// What the uuid has between its prefix and the name.
    pub(super) kind: String,
    pub(super) unlocked: Unlocked,
}

/// Reads what there is, and derives its keys.
pub(super) fn unlock(
    image: &Path,
    kind: &Kind,
    keys: &mut dyn KeyHolder,
    watch: &dyn Watch,
) -> Result<Opened, Fault> {
    let opened = match kind {
        Kind::Container { expected, header, unlock } => {
            open_container(image, *expected, header.as_deref(), unlock, keys, watch)?
        }
        Kind::Plain { plain, raw_key } => open_plain(image, plain, *raw_key, keys, watch)?,
        Kind::VeraCrypt { volume, key_files, limits } => {
            open_veracrypt(image, volume, key_files, limits, keys, watch)?
        }
    };
    opened.unlocked.warnings.iter().for_each(|warning| keys.warn(&warning.to_string()));
    Ok(opened)
}

fn open_container(
    image: &Path,
    expected: Expected,
    header: Option<&Path>,
    unlock: &Unlock,
    keys: &mut dyn KeyHolder,
    watch: &dyn Watch,
) -> Result<Opened, Fault> {
    let data = ImageFile::open(image)?;
    let (header, data, place) = match header {
        None => {
            let len = recognise::Source::len(&data);
            (data, Data::with_header(len), image)
        }
        Some(path) => (ImageFile::open(path)?, Data::apart(recognise::Source::len(&data)), path),
    };
    let container = read_header(&header, place)?;
    expected.check(&container, place)?;
    unlock_from(place, &header, data, &container, unlock, keys, watch)
}

/// Unlocks a container with its data behind its header.
pub(super) fn unlock_container(
    image: &Path,
    source: &ImageFile,
    container: &Container,
    unlock: &Unlock,
    keys: &mut dyn KeyHolder,
    watch: &dyn Watch,
) -> Result<Opened, Fault> {
    let data = Data::with_header(recognise::Source::len(source));
    let opened = unlock_from(image, source, data, container, unlock, keys, watch)?;
    opened.unlocked.warnings.iter().for_each(|warning| keys.warn(&warning.to_string()));
    Ok(opened)
}

fn unlock_from(
    place: &Path,
    header: &ImageFile,
    data: Data,
    container: &Container,
    unlock: &Unlock,
    keys: &mut dyn KeyHolder,
    watch: &dyn Watch,
) -> Result<Opened, Fault> {
    let (source, owned, unlock) = (header.clone(), container.clone(), *unlock);
    let open = move |passphrase: &Secret| owned.unlock(&source, data, passphrase, &unlock);
    let unlocked = with_key(place, keys, watch, Some(header), open)?;
    let uuid = container.uuid().unwrap_or_default().replace('-', "");
    Ok(Opened { kind: format!("{}-{uuid}", container.kind().to_uppercase()), unlocked })
}

fn open_plain(
    image: &Path,
    plain: &Plain,
    raw_key: bool,
    keys: &mut dyn KeyHolder,
    watch: &dyn Watch,
) -> Result<Opened, Fault> {
    let data = ImageFile::open(image)?;
    let len = recognise::Source::len(&data);
    // cryptsetup asks for a confirmation. Behind an offset, what the start holds says nothing.
    if let (0, Ok(container)) = (plain.offset, probe(&data)) {
        let kind = container.kind();
        let place = image.display();
        keys.warn(&format!(
            "{place} holds {kind}: as plain dm-crypt it is shown in the wrong place"
        ));
    }
    let plain = plain.clone();
    let open = move |secret: &Secret| {
        let key = if raw_key { PlainKey::KeyFile(secret) } else { PlainKey::Passphrase(secret) };
        plain.unlock(len, key)
    };
    let unlocked = with_key(image, keys, watch, None, open)?;
    Ok(Opened { kind: "PLAIN".to_owned(), unlocked })
}

fn open_veracrypt(
    image: &Path,
    volume: &VeraCrypt,
    key_files: &[Secret],
    limits: &Limits,
    keys: &mut dyn KeyHolder,
    watch: &dyn Watch,
) -> Result<Opened, Fault> {
    let data = ImageFile::open(image)?;
    let (volume, key_files, limits) = (volume.clone(), key_files.to_vec(), *limits);
    let source = data.clone();
    let open = move |secret: &Secret| volume.unlock(&source, secret, &key_files, &limits);
    let unlocked = with_key(image, keys, watch, Some(&data), open)?;
    Ok(Opened { kind: "TCRYPT".to_owned(), unlocked })
}

/// Unlocks what lies there, with as many keys as there are. To derive a key may take minutes.
fn with_key(
    place: &Path,
    keys: &mut dyn KeyHolder,
    watch: &dyn Watch,
    source: Option<&ImageFile>,
    unlock: impl Fn(&Secret) -> Result<Unlocked, Error> + Send + Sync + 'static,
) -> Result<Unlocked, Fault> {
    let about = place.display().to_string();
    let prompt = format!("Passphrase for {about}: ");
    let unlock = Arc::new(unlock);
    loop {
        let (key, unlock) = (keys.key(&prompt)?, unlock.clone());
        let unlocked = unless_interrupted(&about, watch, move || unlock(&key));
        match unlocked.inspect_err(|_| source.into_iter().for_each(ImageFile::close))? {
            Err(Error::WrongPassphrase { .. }) if keys.is_wrong(place) => {}
            other => return other.map_err(|error| told(place, &error)),
        }
    }
}
