//! The journal of a set with parity: an image whose first MiB says whose it is, and the log behind it.
//!
//! md's log has no name of its set, and is written again to whatever set it is given to. So an image that was
//! another set's is not taken for one, and `assemble` takes the set's own alone.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use daemon::{About, Fault};
use sim_core::{Access, Sectors};
use targets::lines::DeviceWord;

use super::super::steps::Done;
use super::holds::holds;
use super::label::Label;
use super::{Image, META, image_there, refuse_full};
use crate::commands::one;
use crate::device_mapper::DeviceMapper;
use crate::devices::find;
use crate::files::fresh;
use crate::parts::Usage;
use crate::size::print_size;
use crate::words::MAPPER;

/// How the image begins.
const MAGIC: [u8; 16] = *b"dmsim journal 1\0";

/// How md's log begins, little endian, where a table was given the whole image for one.
const LOG: [u8; 4] = [0x09, 0xc5, 0x33, 0x64];

/// The least length of the log: 4 MiB.
const LEAST: Sectors = Sectors(8192);

/// What a log is a whole number of: 4 KiB.
const BLOCK: u64 = 8;

/// How much of an old log is taken away so that none is found.
const BEGINNING: usize = 4096;

/// The journal of a set that is about to be made or put together.
pub(in super::super) struct Journal {
    image: Image,
    len: Sectors,
    /// It is empty, or what it has is not wanted.
    is_new: bool,
}

/// Returns what the journal's device is called.
pub(in super::super) fn name_of(set: &str) -> String {
    format!("{set}_rjournal")
}

/// Returns what a table calls it.
pub(in super::super) fn word(set: &str) -> DeviceWord {
    DeviceWord(format!("{MAPPER}{}", name_of(set)))
}

/// Says how an image that nobody needs becomes zeros.
fn how_to_empty(image: &Image) -> String {
    let (path, bytes) = (image.new.path.display(), image.size.bytes());
    let is_file = image.new.dev.is_none() && image.new.path.is_file();
    let commands = match is_file {
        true => format!("`truncate -s 0 {path}` and `truncate -s {bytes} {path}`"),
        // What is attached, or mapped, keeps its length.
        false => format!(
            "`dd if=/dev/zero of={path} bs=1M iflag=count_bytes count={bytes} conv=notrunc`"
        ),
    };
    format!("To empty it, if nobody needs what it holds: {commands}")
}

/// Says what an image is by how it begins, where it is a journal.
pub(in super::super) fn told(head: &[u8]) -> Option<&'static str> {
    match () {
        () if head.starts_with(&MAGIC) => Some("is the journal of a set"),
        () if head.starts_with(&LOG) => Some("is a journal in md's format, of a set or an array"),
        () => None,
    }
}

impl Journal {
    /// Finds the image of a new set's journal, and refuses one that holds something.
    pub(in super::super) fn new(
        dm: &mut dyn DeviceMapper,
        set: &str,
        typed: &Path,
        force: bool,
    ) -> Result<Journal, Fault> {
        let journal = Journal::find(dm, set, typed, "`truncate -s 64M` makes one")?;
        if !force {
            refuse_full(&journal.image.new.path, &journal.image.about)?;
        }
        Ok(Journal { is_new: true, ..journal })
    }

    /// Finds the image of the journal that a set has, which `label` is one of the legs' of.
    pub(in super::super) fn of(
        dm: &mut dyn DeviceMapper,
        set: &str,
        typed: &Path,
        label: Option<Label>,
        force: bool,
    ) -> Result<Journal, Fault> {
        let journal = Journal::find(dm, set, typed, "the set's own has what its legs may lack")?;
        let about = &journal.image.about;
        let file = fresh(&journal.image.new.path, Access::ReadOnly)?;
        let mut head = MAGIC;
        file.read_exact_at(&mut head, 0).about(about)?;
        let found = Label::read(&file).about(about)?;
        let is_same = found.zip(label).is_some_and(|(found, label)| found.is_of_same(&label));
        let is_own = is_same && head == MAGIC;
        if is_same && !is_own {
            return Err(Fault::new(about, "is a leg of this set: name it with the others"));
        }
        if is_own {
            return Ok(Journal { is_new: false, ..journal });
        }
        // What is another set's, or somebody's data, is nobody's to be given away by a word that was meant
        // for something else.
        if let Some(found) = holds(&journal.image.new.path, about)? {
            let told = match head == MAGIC {
                true => "is that of another set, or was this one's before another took its place"
                    .to_owned(),
                false => found.told(),
            };
            let why = format!(
                "is not the journal of this set: it {}, and is left alone, with --force too. Name the set's \
                 own; where that is lost, --force takes an empty image instead. {}",
                told,
                how_to_empty(&journal.image)
            );
            return Err(Fault::new(about, why));
        }
        if force {
            return Ok(Journal { is_new: true, ..journal });
        }
        let why = "is not the journal of this set: name its own; where that is lost, --force takes this one \
                   instead, as it is empty, and what the lost one alone had is gone";
        Err(Fault::new(about, why))
    }

    /// Finds an image; `absent` is said of one that is not there.
    fn find(
        dm: &mut dyn DeviceMapper,
        set: &str,
        typed: &Path,
        absent: &str,
    ) -> Result<Journal, Fault> {
        let name = name_of(set);
        if find(dm, &name)?.is_some() {
            return Err(Fault::new(
                name,
                "is there already, and the journal's device is to be called so",
            ));
        }
        let image = image_there(dm, set, typed, Usage::ALONE, absent)?;
        let len = Sectors(image.size.0.saturating_sub(META.0) / BLOCK * BLOCK);
        if len < LEAST {
            let needed = print_size((META + LEAST).bytes());
            let why = format!("is too small: a journal needs {needed} at least");
            return Err(Fault::new(&image.about, why));
        }
        Ok(Journal { image, len, is_new: false })
    }

    /// Tells whether the set had another one, or none.
    pub(in super::super) fn is_new(&self) -> bool {
        self.is_new
    }

    pub(in super::super) fn image(&self) -> &Image {
        &self.image
    }

    /// Makes its device, and an image that is new a journal of the set.
    pub(in super::super) fn carry_out(
        &self,
        dm: &mut dyn DeviceMapper,
        set: &str,
        label: Option<Label>,
        done: &mut Done,
    ) -> Result<(), Fault> {
        let (path, image) = (&self.image.new.path, &self.image.new.word);
        if self.is_new {
            done.clear_heads(path)?;
            done.bytes(path, META.bytes(), &[0; BEGINNING])?;
            done.bytes(path, 0, &MAGIC)?;
            done.label(path, label)?;
        }
        done.device(dm, &name_of(set), one(self.len, "linear", &format!("{image} {META}")))
    }
}

/// Tells whether an image is a journal that `raid create` made.
pub(in super::super) fn is_journal(file: &File) -> bool {
    let mut head = [0; MAGIC.len()];
    file.read_exact_at(&mut head, 0).is_ok() && head == MAGIC
}
