//! The images of an instance: attached by the user, or on the spot by a table that names a path.

mod ask;
mod below;
mod list;
mod mounts;
mod own;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::{Duration, Instant};

use list::List;
pub use mounts::mount_number;
use own::{Own, Way};
use sim_core::{
    Access, Backing, Bio, BlockDevice, BoxFuture, DM_MAJOR, DevNumber, Errno, Found, MAX_MINORS,
    Refusal,
};

use crate::block_on;
use crate::image::attach::{Attach, AttachError, Attached, NotFlushed, host_device};
use crate::image::numbering::{kernel_name, number_of};
use crate::image::opening::{Identity, Opened};
use crate::image::{Image, Label, Place, Places};
use crate::runtime::blocking::blocking;

/// The longest name of an image, in bytes: a path's longest part.
const LONGEST_NAME: usize = 255;

/// How long an attach waits for an image that has its file, its name or its number, and is about
/// to go or to come. Not for long, as a disk that hangs may keep one.
const SETTLE: Duration = Duration::from_secs(2);

/// The attached images of an instance.
pub struct Images {
    me: Weak<Images>,
    /// Never held while a file is opened: one that hangs holds up only those who want it.
    list: Mutex<List>,
    /// An image came or went.
    changed: Condvar,
    watcher: OnceLock<Watcher>,
    own: Own,
}

type Watcher = Box<dyn Fn(ImageChange<'_>) + Send + Sync>;

/// What a watcher is told.
#[derive(Clone, Copy, Debug)]
pub enum ImageChange<'a> {
    /// An image is attached.
    Attached(&'a Attached),
    /// The image with this number is detached, or its last user has let go of it.
    Gone(DevNumber),
}

impl Images {
    /// Makes an instance's list, empty.
    pub fn new() -> Arc<Images> {
        Arc::new_cyclic(|me| Images {
            me: me.clone(),
            list: Mutex::default(),
            changed: Condvar::new(),
            watcher: OnceLock::new(),
            own: Own::default(),
        })
    }

    /// Tells `watcher` of each image that comes or goes from now on, in the order in which they
    /// do: with the list locked, so that it must neither wait nor ask for images.
    ///
    /// # Panics
    /// When there is a watcher already.
    pub fn watch(&self, watcher: impl Fn(ImageChange<'_>) + Send + Sync + 'static) {
        let set = self.watcher.set(Box::new(watcher));
        assert!(set.is_ok(), "a list of images has one watcher");
    }

    fn tell(&self, change: ImageChange<'_>) {
        if let Some(watcher) = self.watcher.get() {
            watcher(change);
        }
    }

    /// Says in which folder the instance shows its mapped devices, which is mounted by now: a path
    /// of a file there is another name of the device, and no image.
    pub fn shown_in(&self, mount: &Path) {
        self.own.mounted(mount);
    }

    /// Says in which folders the instance keeps its record, logs, lock and socket, which are no
    /// images.
    pub fn kept_in(&self, folders: &[PathBuf]) {
        self.own.keeps(folders);
    }

    /// Attaches an image for as long as the user wants it.
    pub fn attach(&self, ask: &Attach) -> Result<Attached, AttachError> {
        let path = ask.path.clone();
        match self.own.way(&path) {
            Way::Free => {}
            Way::Mapped(name) => return Err(AttachError::Mapped { path, name }),
            Way::Barred(why) => return Err(AttachError::OnDmsim { path, why }),
        }
        Ok(self.attach_as(ask, KeptBy::User)?.attached())
    }

    /// Attaches a block device of this machine by its own number, for the tables that open it while
    /// what is returned is there: it goes with the last of them. The path is that of its node.
    ///
    /// # Errors
    /// As [`attach`](Self::attach); where somebody else uses the device.
    pub fn attach_host_device(
        &self,
        number: DevNumber,
        path: &Path,
    ) -> Result<Arc<dyn BlockDevice>, AttachError> {
        match self.own.way(path) {
            Way::Free => {}
            Way::Mapped(name) => return Err(AttachError::Mapped { path: path.to_owned(), name }),
            Way::Barred(why) => return Err(AttachError::OnDmsim { path: path.to_owned(), why }),
        }
        let ask = Attach { number: Some(number), host_device: true, ..Attach::as_it_is(path) };
        Ok(self.attach_for_tables(ask)?)
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
        let mut list = self.locked();
        let kept = list.detach(attached.number);
        self.tell(ImageChange::Gone(attached.number));
        drop(list);
        // Outside the lock, which an image takes when it goes.
        drop((kept, image));
        Ok(())
    }

    /// Looks how long the file of an image is by now, and goes by that from then on, as `losetup -c`
    /// does for a loop device. What goes by a name, a number, a kernel name or a path.
    pub fn resize(&self, word: &str) -> Result<Attached, AttachError> {
        let unknown = || AttachError::Unknown { word: word.to_owned() };
        let image = self.find(word).ok_or_else(unknown)?;
        image.resize()?;
        Ok(image.attached())
    }

    /// Looks how long the block devices of this machine are by now, and goes by that from then on: to others
    /// they become longer and shorter without a word to us. One that has no size any more stays as it was.
    pub fn follow_host_devices(&self) {
        self.all().iter().for_each(|image| image.follow());
    }

    /// Returns the image that has a number.
    pub fn attached(&self, number: DevNumber) -> Option<Attached> {
        let image = self.locked().get(number).and_then(|entry| entry.image());
        image.filter(|image| !image.is_gone()).map(|image| image.attached())
    }

    /// Lists what is attached, by number.
    pub fn list(&self) -> Vec<Attached> {
        self.all().iter().map(|image| image.attached()).collect()
    }

    /// Makes everything durable, waiting for it; all images are tried. Returns the path and the
    /// error of the first that could not be.
    pub fn flush_all(&self) -> Result<(), NotFlushed> {
        let mut result = Ok(());
        for image in self.all() {
            if let Err(error) = block_on(image.submit(Bio::flush())) {
                let Attached { path, fault, .. } = image.attached();
                result = result.and(Err(NotFlushed { path, errno: error.errno(), fault }));
            }
        }
        result
    }

    /// Returns every image, the lock let go: an image may go with what is returned.
    fn all(&self) -> Vec<Arc<Image>> {
        let all = self.locked().all();
        all.into_iter().filter(|image| !image.is_gone()).collect()
    }

    fn find(&self, word: &str) -> Option<Arc<Image>> {
        let file = Identity::of(Path::new(word)).ok();
        let bare = word.strip_prefix("/dev/").unwrap_or(word);
        let by_number = |number| self.locked().get(number).and_then(|entry| entry.image());
        let named = self.locked().number_of(word);
        let found = named.and_then(by_number);
        let found = found.or_else(|| word.parse().ok().and_then(by_number));
        // Its path also when the file has lost that name.
        let stored = |image: &Arc<Image>| image.attached().path == Path::new(word);
        let held = file.and_then(|file| self.holder(file));
        let found = found.or_else(|| held.clone().filter(stored));
        let found = found.or_else(|| {
            let called = number_of(&format!("/dev/{bare}")).and_then(by_number);
            called.filter(|image| image.name() == bare)
        });
        let found = found.or(held);
        found.or_else(|| self.all().into_iter().find(stored)).filter(|image| !image.is_gone())
    }

    /// Returns the image that has a file.
    fn holder(&self, file: Identity) -> Option<Arc<Image>> {
        self.locked().holders(file).find_map(|(_, entry)| entry.image())
    }

    /// Waits for images that are about to go or to come and have what is wanted.
    fn settled(
        &self,
        file: Option<Identity>,
        name: Option<&str>,
        number: Option<DevNumber>,
    ) -> MutexGuard<'_, List> {
        let deadline = Instant::now() + SETTLE;
        let mut list = self.locked();
        while list.is_changing(file, name, number) {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            let waited = self.changed.wait_timeout(list, left);
            list = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        list
    }

    fn attach_as(&self, ask: &Attach, kept_by: KeptBy) -> Result<Arc<Image>, AttachError> {
        let place = match self.reserve(ask, kept_by)? {
            Reserved::Here(image) => return Ok(image),
            Reserved::Place(place) => place,
        };
        let number = place.number();
        let opened = Opened::new(ask)?;
        if self.own.shows(&opened.file) {
            let why = "has become a file of the instance's own mount".to_owned();
            return Err(AttachError::OnDmsim { path: ask.path.clone(), why });
        }
        let name = ask.name.clone();
        let kernel_name = kernel_name(name.as_deref(), number);
        let (access, sector_size) = (ask.access, ask.sector_size);
        let on_the_spot = kept_by == KeptBy::Tables;
        let label = Label { number, name, kernel_name, access, sector_size, on_the_spot };
        let file = opened.identity;
        let image = Arc::new(Image::new(label, opened, place));
        let kept = (kept_by == KeptBy::User).then(|| image.clone());
        let attached = image.attached();
        let mut list = self.locked();
        list.arrive(number, file, &image, kept);
        self.tell(ImageChange::Attached(&attached));
        drop(list);
        self.changed.notify_all();
        tracing::info!(path = %ask.path.display(), %number, "attached");
        Ok(image)
    }

    /// Takes a place for an image, unless the one that is asked for is here already.
    fn reserve(&self, ask: &Attach, kept_by: KeptBy) -> Result<Reserved, AttachError> {
        let file = Identity::of(&ask.path).ok();
        let wanted = ask.number.or_else(|| ask.name.as_deref().and_then(number_of));
        let mut list = self.settled(file, ask.name.as_deref(), wanted);
        // They may go with the last of these, which takes the lock.
        let mut looked_at = Vec::new();
        let found = file.and_then(|file| {
            list.holders(file).find_map(|(number, entry)| {
                let image = entry.image();
                looked_at.extend(image.clone());
                let known_as = || match entry.name() {
                    Some(name) => name.to_owned(),
                    None => kernel_name(None, number),
                };
                match (image, kept_by) {
                    // Two tables that name one path at once.
                    (Some(image), KeptBy::Tables) if !image.is_gone() => {
                        Some(Ok(Reserved::Here(image)))
                    }
                    (Some(image), KeptBy::User)
                        if image.access().is_read_only() && ask.access.is_read_only() =>
                    {
                        None
                    }
                    // Its lock is let go at any moment: the file says whether that is over.
                    (None, _) if !entry.is_coming() => None,
                    (Some(_) | None, _) => {
                        let (path, name) = (ask.path.clone(), known_as());
                        Some(Err(AttachError::AttachedAlready { path, name, number }))
                    }
                }
            })
        });
        let reserved = match found {
            Some(found) => found,
            None => number_for(&list, ask, wanted).map(|number| {
                list.reserve(number, ask.name.as_deref(), file);
                Reserved::Place(Place::new(self.me.clone(), number))
            }),
        };
        drop(list);
        drop(looked_at);
        reserved
    }

    /// Attaches what a table names by its path. The machine's own disks are not for it, as a table is written by
    /// whoever talks to the socket.
    fn attach_on_the_spot(&self, path: &Path) -> Result<Arc<Image>, AttachError> {
        self.attach_for_tables(Attach::as_it_is(path))
    }

    /// Attaches, read-only where it cannot be written.
    fn attach_for_tables(&self, mut ask: Attach) -> Result<Arc<Image>, AttachError> {
        match self.attach_as(&ask, KeptBy::Tables) {
            Err(AttachError::System {
                errno: Errno::ACCES | Errno::ROFS | Errno::PERM, ..
            }) => {
                ask.access = Access::ReadOnly;
                self.attach_as(&ask, KeptBy::Tables)
            }
            other => other,
        }
    }

    /// Finds the device of a path, and attaches an image where there is none. Blocks while the file
    /// is opened.
    fn open_path(&self, path: &Path) -> Result<Found, Refusal> {
        match self.own.way(path) {
            Way::Free => {}
            Way::Mapped(name) => return Ok(Found::Mapped(name)),
            Way::Barred(why) => return Err(Refusal { errno: Errno::LOOP, why: Some(why) }),
        }
        let file = Identity::of(path).map_err(|error| error.errno())?;
        if let Some(image) = self.holder(file).filter(|image| !image.is_gone()) {
            return Ok(Found::Device(image));
        }
        match self.attach_on_the_spot(path) {
            Ok(image) => Ok(Found::Device(image)),
            Err(error) => {
                tracing::warn!(%error, "attach on the spot");
                let errno = error.errno();
                let why = match error {
                    AttachError::HostDevice { path } => Some(host_device(&path)),
                    _ => None,
                };
                Err(Refusal { errno, why })
            }
        }
    }

    fn locked(&self) -> MutexGuard<'_, List> {
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Places for Images {
    fn take_back(&self, number: DevNumber) {
        let mut list = self.locked();
        if list.remove(number) {
            self.tell(ImageChange::Gone(number));
        }
        drop(list);
        self.changed.notify_all();
    }
}

impl Backing for Images {
    fn by_number(&self, number: DevNumber) -> Result<Arc<dyn BlockDevice>, Errno> {
        let image = self.locked().get(number).and_then(|entry| entry.image());
        match image {
            Some(image) if !image.is_gone() => Ok(image),
            Some(_) | None => Err(Errno::NXIO),
        }
    }

    fn by_word<'a>(
        &'a self,
        word: &'a str,
        base: &'a str,
    ) -> BoxFuture<'a, Result<Arc<dyn BlockDevice>, Errno>> {
        Box::pin(async move {
            match self.look_up(word, base).await.map_err(|refusal| refusal.errno)? {
                Found::Device(device) => Ok(device),
                Found::Mapped(_) => Err(Errno::NOTBLK),
            }
        })
    }

    fn look_up<'a>(
        &'a self,
        word: &'a str,
        base: &'a str,
    ) -> BoxFuture<'a, Result<Found, Refusal>> {
        Box::pin(async move {
            let named = {
                let list = self.locked();
                list.number_of(word).and_then(|number| list.get(number)?.image())
            };
            if let Some(image) = named.filter(|image| !image.is_gone()) {
                return Ok(Found::Device(image));
            }
            let path: PathBuf = Path::new(base).join(word);
            let images = self.me.upgrade().ok_or(Errno::NXIO)?;
            // Even to look at a file may hang, on a network or in another daemon.
            blocking("attach", move || images.open_path(&path)).await
        })
    }
}

/// What an attach finds.
enum Reserved {
    /// The image, attached already.
    Here(Arc<Image>),
    /// A place for it.
    Place(Place),
}

/// Tells whether the machine has a block device of this number. A loop device that was taken down is still
/// there, and holds nothing.
pub fn machine_has(number: DevNumber) -> bool {
    let sectors = std::fs::read_to_string(format!("/sys/dev/block/{number}/size"));
    sectors.is_ok_and(|sectors| sectors.trim() != "0")
}

/// Returns the number that an image gets: the one that is wanted, or the lowest free `7:N` from
/// [`NAMED_LOOPS`](list::NAMED_LOOPS) on that the machine has no disk of. Checks that name and number are free.
fn number_for(
    list: &List,
    ask: &Attach,
    wanted: Option<DevNumber>,
) -> Result<DevNumber, AttachError> {
    if let Some(name) = &ask.name {
        if !is_usable(name) {
            return Err(AttachError::BadName { name: name.clone() });
        }
        if let Some(number) = list.number_of(name) {
            return Err(AttachError::NameTaken { name: name.clone(), number });
        }
    }
    let Some(number) = wanted else {
        return list.free_loop(machine_has).ok_or(AttachError::NoNumber);
    };
    if number.major == DM_MAJOR || number.major == 0 || number.minor >= MAX_MINORS {
        return Err(AttachError::BadNumber { number });
    }
    match list.get(number) {
        Some(_) => Err(AttachError::NumberTaken { number }),
        None => Ok(number),
    }
}

/// Who keeps an image.
#[derive(Clone, Copy, PartialEq, Eq)]
enum KeptBy {
    /// The user, until it is detached.
    User,
    /// The tables that use it: one of them named its path.
    Tables,
}

/// Tells whether a table line that has this word means an image by it.
fn is_usable(name: &str) -> bool {
    let elsewhere = ["/dev/mapper/", "/dev/dm-"];
    let found_elsewhere = elsewhere.iter().any(|prefix| name.starts_with(prefix));
    let one_word = !name.is_empty() && !name.contains(|c: char| c.is_whitespace() || c == '\\');
    // Another way to write a path would lead elsewhere where a table has it.
    let is_plain = !name.split('/').any(|part| matches!(part, "." | ".."));
    one_word
        && is_plain
        && name.len() <= LONGEST_NAME
        && !found_elsewhere
        && name.parse::<DevNumber>().is_err()
}
