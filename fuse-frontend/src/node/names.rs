//! The names of devices beside the node, where they can have no block nodes.
//!
//! libdevmapper makes a node for each device that has none with its number, and no ordinary user can make
//! one: it is content where a look finds a block device. What such a name opens has to be something else,
//! as there is no device of that number, or another one. So a name comes to one of two inodes, as that of
//! the control node does: the device for whoever looks, a link to the device's file for whoever opens.

use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::time::SystemTime;

use sim_core::control::Shown;
use sim_core::{Control, DevNumber, Errno};

use super::caller;
use crate::files::{
    Attributes, Caller, Entry, Kind, Listed, Listing, Operation, ROOT, Refuse, Replies, Reply,
};
use crate::mount;

/// The first inode, that of device 0 as it is seen; the next one is its link, and so on.
const FIRST: u64 = 4;

/// The place in a listing of device 0: `.`, `..` and the node come before it.
const FIRST_PLACE: u64 = 4;

/// The names of devices.
pub(super) struct Names {
    /// Where their files are.
    files: PathBuf,
    mounted: SystemTime,
    owner: (u32, u32),
}

/// What a request about a name comes to.
pub(super) enum OfName {
    Entry(Attributes),
    Attributes(Attributes),
    Target(PathBuf),
    Listing(Listing),
    Refused(Errno),
}

impl OfName {
    pub(super) fn answer(self, reply: impl Replies) {
        match self {
            OfName::Entry(found) => reply.ok(&Entry(found)),
            OfName::Attributes(attributes) => Reply::<Attributes>::ok(reply, &attributes),
            OfName::Target(path) => Reply::<[u8]>::ok(reply, path.as_os_str().as_bytes()),
            OfName::Listing(names) => reply.ok(&names),
            OfName::Refused(errno) => Refuse::error(reply, errno),
        }
    }
}

/// What a name comes to: what is looked at, or what is opened.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Role {
    Device,
    Link,
}

impl Names {
    /// Names whose files are in `files`.
    pub(super) fn new(files: PathBuf) -> Names {
        Names { files, mounted: SystemTime::now(), owner: mount::owner() }
    }

    /// Answers what is about a name; nothing where a request is about something else.
    pub(super) fn serve(
        &self,
        control: &Control,
        caller: Caller,
        inode: u64,
        operation: &Operation<'_>,
    ) -> Option<OfName> {
        if inode == ROOT {
            return match operation {
                // Whatever a device may be called, this is the node.
                Operation::LookUp { name } if *name != super::NAME => {
                    let shown = control.find_named(name.to_str()?)?;
                    let role = if caller::opens(caller.pid) { Role::Link } else { Role::Device };
                    Some(OfName::Entry(self.attributes(shown.device.minor(), role)))
                }
                Operation::List { after, most } => {
                    Some(OfName::Listing(list(control, *after, *most)))
                }
                _ => None,
            };
        }
        let (minor, role) = place(inode)?;
        Some(match (operation, role) {
            (Operation::Attributes, _) if named(control, minor).is_some() => {
                OfName::Attributes(self.attributes(minor, role))
            }
            (Operation::Attributes, _) => OfName::Refused(Errno::NOENT),
            (Operation::ReadLink, Role::Link) => match named(control, minor) {
                Some(shown) => OfName::Target(self.files.join(shown.name)),
                None => OfName::Refused(Errno::NOENT),
            },
            // The kernel asks for nothing else of a device or a link, but to change its attributes.
            _ => OfName::Refused(Errno::PERM),
        })
    }

    fn attributes(&self, minor: u32, role: Role) -> Attributes {
        let number = DevNumber::mapped(minor);
        let (kind, mode) = match role {
            Role::Device => (Kind::BlockDevice(number), 0o600),
            Role::Link => (Kind::Link, 0o777),
        };
        let (uid, gid) = self.owner;
        Attributes { inode: inode(minor, role), kind, size: 0, mode, uid, gid, time: self.mounted }
    }
}

fn named(control: &Control, minor: u32) -> Option<Shown> {
    control.named_from(minor, 1).pop().filter(|shown| shown.device.minor() == minor)
}

fn inode(minor: u32, role: Role) -> u64 {
    FIRST + 2 * u64::from(minor) + u64::from(role == Role::Link)
}

/// Tells what an inode is, where it is a name's.
fn place(inode: u64) -> Option<(u32, Role)> {
    let nr = inode.checked_sub(FIRST)?;
    let role = if nr % 2 == 0 { Role::Device } else { Role::Link };
    Some((u32::try_from(nr / 2).ok()?, role))
}

/// Lists what there is, the node before the names of devices.
fn list(control: &Control, after: u64, most: usize) -> Listing {
    let mut listing = super::service::list(after, most);
    let minor = u32::try_from(after.saturating_add(1).saturating_sub(FIRST_PLACE));
    let Ok(minor) = minor else { return listing };
    let room = most - listing.0.len();
    listing.0.extend(control.named_from(minor, room).into_iter().map(|shown| {
        let minor = shown.device.minor();
        Listed {
            inode: inode(minor, Role::Device),
            place: FIRST_PLACE + u64::from(minor),
            kind: Kind::BlockDevice(DevNumber::mapped(minor)),
            name: shown.name,
        }
    }));
    listing
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_inode_tells_whose_it_is() {
        for minor in [0, 1, 7, u32::MAX] {
            for role in [Role::Device, Role::Link] {
                assert!(place(inode(minor, role)) == Some((minor, role)), "{minor}");
            }
        }
        // The directory, and the node's two.
        assert!((0..FIRST).all(|inode| place(inode).is_none()));
        assert!(place(u64::MAX).is_none());
    }
}
