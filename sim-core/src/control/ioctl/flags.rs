//! The bits of `flags` in `struct dm_ioctl`.

/// `DM_READONLY_FLAG`.
pub(super) const READONLY: u32 = 1;
/// `DM_SUSPEND_FLAG`.
pub(super) const SUSPEND: u32 = 1 << 1;
/// `DM_PERSISTENT_DEV_FLAG`: a create asks for a minor number.
pub(super) const PERSISTENT_DEV: u32 = 1 << 3;
/// `DM_STATUS_TABLE_FLAG`: the tables are asked for, not how targets are.
pub(super) const STATUS_TABLE: u32 = 1 << 4;
/// `DM_ACTIVE_PRESENT_FLAG`.
pub(super) const ACTIVE_PRESENT: u32 = 1 << 5;
/// `DM_INACTIVE_PRESENT_FLAG`.
pub(super) const INACTIVE_PRESENT: u32 = 1 << 6;
/// `DM_BUFFER_FULL_FLAG`: the answer did not fit, and is to be asked for again.
pub(super) const BUFFER_FULL: u32 = 1 << 8;
/// `DM_SKIP_BDGET_FLAG`: the caller wants no open count; the kernel tells it all the same.
pub(super) const SKIP_BDGET: u32 = 1 << 9;
/// `DM_NOFLUSH_FLAG`.
pub(super) const NOFLUSH: u32 = 1 << 11;
/// `DM_QUERY_INACTIVE_TABLE_FLAG`.
pub(super) const QUERY_INACTIVE_TABLE: u32 = 1 << 12;
/// `DM_UEVENT_GENERATED_FLAG`.
pub(super) const UEVENT_GENERATED: u32 = 1 << 13;
/// `DM_UUID_FLAG`: a rename is one of the uuid; a list is to have uuids.
pub(super) const UUID: u32 = 1 << 14;
/// `DM_SECURE_DATA_FLAG`: the caller's buffer is to be wiped.
pub(super) const SECURE_DATA: u32 = 1 << 15;
/// `DM_DATA_OUT_FLAG`: a message was answered with a text.
pub(super) const DATA_OUT: u32 = 1 << 16;
/// `DM_DEFERRED_REMOVE`.
pub(super) const DEFERRED_REMOVE: u32 = 1 << 17;
/// `DM_INTERNAL_SUSPEND_FLAG`.
pub(super) const INTERNAL_SUSPEND: u32 = 1 << 18;
/// `DM_IMA_MEASUREMENT_FLAG`.
pub(super) const IMA_MEASUREMENT: u32 = 1 << 19;

/// What every call takes out of the flags before it looks at them.
pub(super) const TAKEN_OUT: u32 = BUFFER_FULL | UEVENT_GENERATED | SECURE_DATA | DATA_OUT;
