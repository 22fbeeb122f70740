//! The images of an instance: attached by the user, or on the spot by a table that names a path.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use sim_core::{Access, Backing, Bio, BlockDevice, DM_MAJOR, DevNumber, Errno};

use crate::attach::{Attach, AttachError, Attached};
use crate::block_on;
use crate::image::{Image, Label};
use crate::numbering::{LOOP_MAJOR, MAX_MINORS, kernel_name, number_of};
use crate::opening::{Identity, Opened};

/// How long an attach waits for images that are about to go.
const SETTLE: Duration = Duration::from_secs(2);

/// The attached images of an instance.
pub struct Images {
    me: Weak<Images>,
    entries: Mutex<BTreeMap<DevNumber, Entry>>,
    /// Images are attached one at a time, and opened without `entries` being held.
    attaching: Mutex<()>,
    /// An entry went.
    left: Condvar,
}

struct Entry {
    identity: Identity,
    name: Option<String>,
    image: Weak<Image>,
    /// Keeps what the user attached; what a table attached is kept by its users alone.
    kept: Option<Arc<Image>>,
    /// Detached; someone has not let go of it yet.
    detached: bool,
}

impl Entry {
    fn is_going(&self) -> bool {
        self.detached || self.image.strong_count() == 0
    }
}

/// The entry of an image. It is the last of an image to go: until then its number is taken, and
/// whoever wants the same file waits.
pub(crate) struct Place {
    images: Weak<Images>,
    number: DevNumber,
}

impl Place {
    pub(crate) fn new(images: Weak<Images>, number: DevNumber) -> Place {
        Place { images, number }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(images) = self.images.upgrade() {
            images.entries().remove(&self.number);
            images.left.notify_all();
        }
    }
}

type Entries<'a> = MutexGuard<'a, BTreeMap<DevNumber, Entry>>;

impl Images {
    /// Makes an instance's list, empty.
    pub fn new() -> Arc<Images> {
        Arc::new_cyclic(|me| Images {
            me: me.clone(),
            entries: Mutex::default(),
            attaching: Mutex::default(),
            left: Condvar::new(),
        })
    }

    /// Attaches an image for as long as the user wants it.
    pub fn attach(&self, ask: &Attach) -> Result<Attached, AttachError> {
        Ok(self.attach_as(ask, Keep::Attached)?.attached())
    }

    /// Detaches what goes by a name, a number, a kernel name (`loop3`) or a path.
    pub fn detach(&self, word: &str) -> Result<(), AttachError> {
        let unknown = || AttachError::Unknown { word: word.to_owned() };
        let image = self.find(word).ok_or_else(unknown)?;
        let attached = image.attached();
        image.retire().map_err(|users| {
            let (name, number) = (attached.known_as().to_owned(), attached.number);
            AttachError::InUse { name, number, users }
        })?;
        let kept = self.entries().get_mut(&attached.number).and_then(|entry| {
            entry.detached = true;
            entry.kept.take()
        });
        // Outside the lock, which an image takes when it goes.
        drop((kept, image));
        Ok(())
    }

    /// Lists what is attached, by number.
    pub fn list(&self) -> Vec<Attached> {
        self.all().iter().map(|image| image.attached()).collect()
    }

    /// Makes everything durable, waiting for it; all images are tried. Returns the path and the
    /// error of the first that could not be.
    pub fn flush_all(&self) -> Result<(), (String, Errno)> {
        let mut result = Ok(());
        for image in self.all() {
            if let Err(error) = block_on(image.submit(Bio::flush())) {
                let path = image.attached().path.display().to_string();
                result = result.and(Err((path, error.errno())));
            }
        }
        result
    }

    /// Returns every image, the lock let go: an image may go with what is returned.
    fn all(&self) -> Vec<Arc<Image>> {
        let all = |entries: Entries<'_>| -> Vec<Arc<Image>> {
            entries.values().filter_map(|entry| entry.image.upgrade()).collect()
        };
        all(self.entries()).into_iter().filter(|image| !image.is_gone()).collect()
    }

    fn find(&self, word: &str) -> Option<Arc<Image>> {
        let number = word.parse::<DevNumber>().ok();
        let kernel_name = word.strip_prefix("/dev/").unwrap_or(word);
        let identity = Identity::of(Path::new(word)).ok();
        let all = self.all();
        let named = |image: &&Arc<Image>| image.attached().name.as_deref() == Some(word);
        let numbered = |image: &&Arc<Image>| Some(image.number()) == number;
        let called = |image: &&Arc<Image>| image.name() == kernel_name;
        let found = all.iter().find(named);
        let found = found.or_else(|| all.iter().find(numbered));
        // Its path also when the file has lost that name.
        let stored = |image: &&Arc<Image>| image.attached().path == Path::new(word);
        let found = found.or_else(|| all.iter().find(stored));
        let found = found.or_else(|| all.iter().find(called)).cloned();
        found.or_else(|| self.holder(identity?))
    }

    /// Returns the image that has a file.
    fn holder(&self, identity: Identity) -> Option<Arc<Image>> {
        let same = |entry: &&Entry| entry.identity == identity;
        self.entries().values().filter(same).find_map(|entry| entry.image.upgrade())
    }

    /// Waits for images that are about to go, so that their files, names and numbers are free;
    /// not for long, as a disk that hangs may keep one.
    fn settle(&self) {
        let going = |entries: &mut BTreeMap<_, Entry>| entries.values().any(Entry::is_going);
        let waited = self.left.wait_timeout_while(self.entries(), SETTLE, going);
        drop(waited.unwrap_or_else(PoisonError::into_inner));
    }

    fn attach_as(&self, ask: &Attach, keep: Keep) -> Result<Arc<Image>, AttachError> {
        let one_at_a_time = self.attaching.lock().unwrap_or_else(PoisonError::into_inner);
        self.settle();
        if let Some(holder) = Identity::of(&ask.path).ok().and_then(|file| self.holder(file)) {
            match keep {
                // Two tables that name one path for the first time at once.
                Keep::OnTheSpot if !holder.is_gone() => return Ok(holder),
                Keep::Attached if holder.access().is_read_only() && ask.access.is_read_only() => {}
                Keep::OnTheSpot | Keep::Attached => {
                    let (path, held) = (ask.path.clone(), holder.attached());
                    let (name, number) = (held.known_as().to_owned(), held.number);
                    return Err(AttachError::AttachedAlready { path, name, number });
                }
            }
        }
        let number = self.number_for(ask)?;
        let opened = Opened::new(ask)?;
        let name = ask.name.clone();
        let kernel_name = kernel_name(name.as_deref(), number);
        let (access, sector_size) = (ask.access, ask.sector_size);
        let on_the_spot = keep == Keep::OnTheSpot;
        let label = Label { number, name, kernel_name, access, sector_size, on_the_spot };
        let (identity, name) = (opened.identity, ask.name.clone());
        let place = Place::new(self.me.clone(), number);
        let image = Arc::new(Image::new(label, opened, place));
        let kept = (keep == Keep::Attached).then(|| image.clone());
        let entry = Entry { identity, name, image: Arc::downgrade(&image), kept, detached: false };
        self.entries().insert(number, entry);
        drop(one_at_a_time);
        tracing::info!(path = %ask.path.display(), %number, "attached");
        Ok(image)
    }

    /// Returns the number that an image gets: the one asked for, that of its name, or the lowest
    /// free `7:N`. Checks that name and number are free.
    fn number_for(&self, ask: &Attach) -> Result<DevNumber, AttachError> {
        let entries = self.entries();
        if let Some(name) = &ask.name {
            if !is_usable(name) {
                return Err(AttachError::BadName { name: name.clone() });
            }
            let taken = entries.iter().find(|(_, entry)| entry.name.as_ref() == Some(name));
            if let Some((number, _)) = taken {
                return Err(AttachError::NameTaken { name: name.clone(), number: *number });
            }
        }
        let wanted = ask.number.or_else(|| ask.name.as_deref().and_then(number_of));
        let Some(number) = wanted else {
            let mut all = (0..MAX_MINORS).map(|minor| DevNumber { major: LOOP_MAJOR, minor });
            return all.find(|number| !entries.contains_key(number)).ok_or(AttachError::NoNumber);
        };
        if number.major == DM_MAJOR || number.major == 0 || number.minor >= MAX_MINORS {
            return Err(AttachError::BadNumber { number });
        }
        match entries.contains_key(&number) {
            true => Err(AttachError::NumberTaken { number }),
            false => Ok(number),
        }
    }

    fn attach_on_the_spot(&self, path: &Path) -> Result<Arc<Image>, AttachError> {
        let mut ask = Attach {
            path: path.to_owned(),
            name: None,
            number: None,
            access: Access::ReadWrite,
            sector_size: 512,
            create: None,
            preallocate: false,
        };
        match self.attach_as(&ask, Keep::OnTheSpot) {
            Err(AttachError::System {
                errno: Errno::ACCES | Errno::ROFS | Errno::PERM, ..
            }) => {
                ask.access = Access::ReadOnly;
                self.attach_as(&ask, Keep::OnTheSpot)
            }
            other => other,
        }
    }

    fn entries(&self) -> Entries<'_> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Backing for Images {
    fn by_number(&self, number: DevNumber) -> Result<Arc<dyn BlockDevice>, Errno> {
        let image = self.entries().get(&number).and_then(|entry| entry.image.upgrade());
        match image {
            Some(image) if !image.is_gone() => Ok(image),
            Some(_) | None => Err(Errno::NXIO),
        }
    }

    fn by_word(&self, word: &str, base: &str) -> Result<Arc<dyn BlockDevice>, Errno> {
        let named = {
            let named = |entry: &&Entry| entry.name.as_deref() == Some(word);
            let entries = self.entries();
            entries.values().find(named).and_then(|entry| entry.image.upgrade())
        };
        if let Some(image) = named.filter(|image| !image.is_gone()) {
            return Ok(image);
        }
        let path = Path::new(base).join(word);
        let identity = Identity::of(&path).map_err(|error| error.errno())?;
        if let Some(image) = self.holder(identity).filter(|image| !image.is_gone()) {
            return Ok(image);
        }
        match self.attach_on_the_spot(&path) {
            Ok(image) => Ok(image),
            Err(error) => {
                tracing::warn!(%error, "attach on the spot");
                Err(error.errno())
            }
        }
    }
}

/// Who keeps an image.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Keep {
    /// The user, until it is detached.
    Attached,
    /// Its users alone.
    OnTheSpot,
}

/// Tells whether a table line that has this word means an image by it.
fn is_usable(name: &str) -> bool {
    let elsewhere = ["/dev/mapper/", "/dev/dm-"];
    let found_elsewhere = elsewhere.iter().any(|prefix| name.starts_with(prefix));
    let one_word = !name.is_empty() && !name.contains(|c: char| c.is_whitespace() || c == '\\');
    one_word && !found_elsewhere && name.parse::<DevNumber>().is_err()
}
