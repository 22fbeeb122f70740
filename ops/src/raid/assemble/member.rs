//! What an image says of its set.

use daemon::{About, Fault};
use sim_core::Sectors;
use targets::raid::bitmap::{HEADER, Header, OFFSET};
use targets::raid::superblock::{self, DONE, Extension, Superblock};

use super::super::bios;
use super::super::leg::journal::is_journal;
use super::super::leg::label::Label;
use super::super::leg::{Image, heads};
use super::super::level::level_of;
use super::Seat;

/// By so many events a superblock may be behind the freshest: those of one commit, which a crash has cut off.
/// Most are one; a leg that fails is two, and so is what a table changes.
const CUT_OFF: u64 = 4;

/// An image, and what its metadata says.
pub(super) struct Member {
    pub(super) image: Image,
    pub(super) superblock: Superblock,
    pub(super) extension: Extension,
    /// The bitmap's header, where there is one.
    pub(super) bitmap: Option<Header>,
    /// That of its set, where it has one.
    label: Option<Label>,
}

/// An image that was to be a leg more, and has no superblock yet.
pub(super) struct Blank {
    pub(super) image: Image,
    label: Label,
    place: usize,
}

pub(super) enum Found {
    Member(Box<Member>),
    Blank(Blank),
}

/// A reshape that gives a set more legs.
#[derive(Clone, Copy)]
pub(super) struct Reshape {
    /// How many there were.
    pub(super) before: usize,
    /// How much room is in front of the data.
    pub(super) room: Sectors,
}

impl Member {
    pub(super) fn label(&self) -> Option<Label> {
        self.label
    }

    /// Returns how much of the leg is in use: in a reshape, the room counts as well.
    pub(super) fn device(&self) -> Sectors {
        let room = if self.extension.reshape.is_some() { self.extension.data_offset } else { 0 };
        Sectors(self.extension.device_sectors.saturating_sub(room))
    }

    /// Returns the reshape that goes on, by its superblock.
    pub(super) fn reshape(&self) -> Option<Reshape> {
        self.extension.reshape?;
        let legs = i64::from(self.superblock.devices) - i64::from(self.extension.delta_disks);
        let room = Sectors(self.extension.data_offset);
        Some(Reshape { before: usize::try_from(legs).unwrap_or_default(), room })
    }

    /// Says why data does not lie as `raid create` and `raid grow` have it.
    fn refuse_tables(&self) -> Option<String> {
        let extension = &self.extension;
        let ring = self.label.and_then(|label| label.ring());
        let devices = self.superblock.devices as usize;
        let is_ours = match extension.reshape {
            None => extension.data_offset == 0,
            Some(superblock::Reshape::Backwards) => false,
            Some(superblock::Reshape::Forwards) => {
                extension.delta_disks > 0
                    && i64::from(extension.delta_disks) < devices as i64
                    && extension.new_data_offset == 0
                    && extension.new_geometry == self.superblock.geometry
                    && ring.is_some_and(|ring| {
                        ring.legs() == devices && ring.room().0 == extension.data_offset
                    })
            }
        };
        (!is_ours).then(|| {
            "is of a set whose data was moved by tables, not by `dmsim raid grow`: tables go on with it \
             (docs/src/reshape.md)"
                .to_owned()
        })
    }
}

impl From<Member> for Seat {
    fn from(member: Member) -> Seat {
        let place = member.superblock.position as usize;
        let behind = member.superblock.recovery_offset != DONE;
        Seat { place, behind, image: member.image, label: member.label }
    }
}

impl From<Blank> for Seat {
    fn from(blank: Blank) -> Seat {
        let Blank { image, label, place } = blank;
        Seat { place, behind: false, image, label: Some(label) }
    }
}

/// Refuses an image that was to be a leg more of another set, or of one that knows nothing of that.
pub(super) fn refuse_early(freshest: &Member, blank: &Blank) -> Result<(), Fault> {
    let (about, other) = (&blank.image.about, &freshest.image.about);
    if !freshest.label.is_some_and(|label| label.is_of_same(&blank.label)) {
        let why = format!("is of another set than {other}: leave one of the two out");
        return Err(Fault::new(about, why));
    }
    let is_new = freshest.reshape().is_some_and(|moves| {
        let legs = moves.before..freshest.superblock.devices as usize;
        freshest.extension.reshape_position == 0 && legs.contains(&blank.place)
    });
    if is_new {
        return Ok(());
    }
    let why = format!(
        "was to be leg {} of the set of {other}, which was cut off before that had begun: leave it out, and \
         `dmsim raid grow --force` gives it to the set",
        blank.place
    );
    Err(Fault::new(about, why))
}

/// Reads what an image says of its set.
pub(super) fn member(image: Image) -> Result<Found, Fault> {
    let refuse = |why: &str| Err(Fault::new(&image.about, why));
    let found = heads(&image.new.path)?;
    let label = match &found {
        Some((file, _)) => Label::read(file).about(&image.about)?,
        None => None,
    };
    let (file, bytes) = found.map(|(file, bytes)| (Some(file), bytes)).unwrap_or_default();
    let superblock = match bytes.is_empty() {
        true => None,
        false => Superblock::read(&bytes),
    };
    let Some(superblock) = superblock else {
        if file.as_ref().is_some_and(is_journal) {
            return refuse("is the journal of a set, and no leg: --journal names it");
        }
        if let Some((label, place)) = label.and_then(|label| Some((label, label.place()?))) {
            return Ok(Found::Blank(Blank { image, label, place }));
        }
        if let Some(why) = bios::stranger(&image) {
            return refuse(&why);
        }
        return refuse(
            "holds no leg of a set: expected a superblock at its start. `dmsim raid create` makes a set, \
             `dmsim raid replace` puts an image in the place of a leg; one whose metadata lies elsewhere is put \
             together by its table (`dmsim create --table`)",
        );
    };
    let bits = &bytes[OFFSET as usize..][..HEADER];
    let bitmap = Header::read(bits.try_into().expect("so long a header is")).ok();
    let Some(extension) = superblock.extension.clone() else {
        return refuse("has a superblock of before dm-raid 1.9.0, which says too little");
    };
    let member = Member { image, superblock, extension, bitmap, label };
    match member.refuse_tables() {
        None => Ok(Found::Member(Box::new(member))),
        Some(why) => Err(Fault::new(&member.image.about, why)),
    }
}

/// Refuses a leg of another set than that of the freshest.
pub(super) fn refuse_stranger(freshest: &Member, member: &Member) -> Result<(), Fault> {
    let shape = |member: &Member| {
        let superblock = &member.superblock;
        let extension = &member.extension;
        (superblock.geometry, superblock.devices, extension.array_sectors, member.device())
    };
    let labels = freshest.label.zip(member.label);
    let is_same = labels.is_none_or(|(one, other)| one.is_of_same(&other));
    // Legs of one set that a crash has cut off in a reshape tell of different numbers, and lengths.
    let has_moved = labels
        .is_some_and(|(one, other)| one.ring().is_some() && other.ring().is_some())
        && is_same
        && member.superblock.devices <= freshest.superblock.devices
        && member.superblock.geometry == freshest.superblock.geometry
        && member.device() == freshest.device();
    if shape(freshest) == shape(member) || has_moved {
        return match is_same {
            true => Ok(()),
            false => {
                let about = &freshest.image.about;
                let why = format!("is of another set than {about}: leave one of the two out");
                Err(Fault::new(&member.image.about, why))
            }
        };
    }
    let text = |member: &Member| {
        let (_, devices, array, _) = shape(member);
        let level = level_of(&member.superblock);
        format!("a {level} of {devices} legs and {array} sectors")
    };
    let (one, other) = (text(member), text(freshest));
    let about = &freshest.image.about;
    let why = match one == other {
        true => format!("is laid out otherwise than the set of {about}: leave one of the two out"),
        false => format!("belongs to {one}, and {about} to {other}: leave one of the two out"),
    };
    Err(Fault::new(&member.image.about, why))
}

/// Refuses two legs that were each used without the other.
pub(super) fn refuse_parted(members: &[Member]) -> Result<(), Fault> {
    for (nr, one) in members.iter().enumerate() {
        for other in &members[..nr] {
            let has_failed = |one: &Member, other: &Member| {
                one.superblock.failed.has(other.superblock.position as usize)
            };
            if has_failed(one, other) && has_failed(other, one) {
                let (one, other) = (&one.image.about, &other.image.about);
                let why = format!(
                    "was used without {other}, and {other} without it, so that they differ: name the \
                     one that is right, and `dmsim raid replace` the other"
                );
                return Err(Fault::new(one, why));
            }
        }
    }
    Ok(())
}

/// Tells whether a leg that others have not as failed is behind them: a crash cut it off while superblocks
/// were written, or it is a copy from before the set was used last. Nothing tells the one from the other.
pub(super) fn is_late(freshest: &Member, member: &Member) -> bool {
    let (own, last) = (&member.superblock, &freshest.superblock);
    own.events < last.events && !last.failed.has(own.position as usize)
}

/// Refuses a leg that others have not as failed, and that was not there when they were used last: one
/// that was replaced. The target would take it for good, as the kernel does.
pub(super) fn refuse_stale(freshest: &Member, member: &Member) -> Result<(), Fault> {
    let (own, last) = (&member.superblock, &freshest.superblock);
    let is_known = last.failed.has(own.position as usize);
    if is_known || own.events.saturating_add(CUT_OFF) >= last.events {
        return Ok(());
    }
    let why = format!(
        "is not up to date, and {} knows nothing of that: it is at event {}, and the set at {}. It was \
         replaced, or is an old copy: leave it out",
        freshest.image.about, own.events, last.events
    );
    Err(Fault::new(&member.image.about, why))
}
