//! The numbers of the ioctls.

/// The type byte in the code of every ioctl of device-mapper (`DM_IOCTL`).
pub(super) const TYPE: u32 = 0xfd;

/// Which ioctl a call is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Version,
    RemoveAll,
    ListDevices,
    DevCreate,
    DevRemove,
    DevRename,
    DevSuspend,
    DevStatus,
    DevWait,
    TableLoad,
    TableClear,
    TableDeps,
    TableStatus,
    ListVersions,
    TargetMsg,
    SetGeometry,
    ArmPoll,
    GetTargetVersion,
}

/// In the order of their numbers, from 0.
const KINDS: [Kind; 18] = [
    Kind::Version,
    Kind::RemoveAll,
    Kind::ListDevices,
    Kind::DevCreate,
    Kind::DevRemove,
    Kind::DevRename,
    Kind::DevSuspend,
    Kind::DevStatus,
    Kind::DevWait,
    Kind::TableLoad,
    Kind::TableClear,
    Kind::TableDeps,
    Kind::TableStatus,
    Kind::ListVersions,
    Kind::TargetMsg,
    Kind::SetGeometry,
    Kind::ArmPoll,
    Kind::GetTargetVersion,
];

impl Kind {
    pub(super) fn from_nr(nr: u32) -> Option<Kind> {
        KINDS.get(nr as usize).copied()
    }

    pub(super) fn nr(self) -> u32 {
        let nr = KINDS.iter().position(|kind| *kind == self).expect("all are in the list");
        nr as u32
    }

    /// Returns the code of the ioctl: `_IOWR(DM_IOCTL, nr, struct dm_ioctl)`.
    pub(super) fn code(self) -> u32 {
        0xc000_0000 | (super::HEADER_LEN as u32) << 16 | TYPE << 8 | self.nr()
    }

    /// Tells whether the kernel reads something behind the header.
    pub(super) fn has_payload(self) -> bool {
        matches!(self, Kind::DevRename | Kind::TableLoad | Kind::TargetMsg | Kind::SetGeometry)
    }

    /// Tells whether the kernel leaves what is behind the header's fields alone: it neither reads
    /// nor wipes nor writes it (`IOCTL_FLAGS_NO_PARAMS`).
    pub(super) fn is_header_alone(self) -> bool {
        matches!(
            self,
            Kind::RemoveAll
                | Kind::DevCreate
                | Kind::DevRemove
                | Kind::DevSuspend
                | Kind::DevStatus
                | Kind::TableClear
                | Kind::ArmPoll
        )
    }
}
