//! What a table is made for: bios, or requests.

use super::build::Build;
use super::{Table, TableError};

/// What a device takes of those above it: the kernel's `enum dm_queue_mode`. A device keeps the type
/// of its first table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TableType {
    /// `DM_TYPE_BIO_BASED`: bios.
    Bios,
    /// `DM_TYPE_REQUEST_BASED`: requests, for which the devices below have to take them too. Here
    /// they are bios as well; what differs is what may be stacked.
    Requests,
}

impl TableType {
    /// Returns the number that the kernel's messages have for it.
    pub(crate) fn number(self) -> u32 {
        match self {
            TableType::Bios => 1,
            TableType::Requests => 2,
        }
    }
}

impl Table {
    /// Finds out which type the table is of, with the kernel's checks and what it logs
    /// (`dm_table_determine_type`). `device` is the type that its device has, and `live` that of the
    /// table in use.
    pub(crate) fn determine_type(
        &self,
        device: Option<TableType>,
        live: Option<TableType>,
        with: &Build<'_>,
    ) -> Result<TableType, TableError> {
        let refuse = |text: &str| {
            with.around.log.line(&format!("device-mapper: table: {text}"));
            with.around.log.line("device-mapper: table: unable to determine table type");
            Err(TableError::new(text))
        };
        let asked = self.entries().iter().find_map(|entry| entry.profile.table_type);
        let hybrid = self.entries().iter().all(|entry| entry.target_type.features().hybrid);
        let by_device = device.filter(|_| hybrid).unwrap_or(TableType::Bios);
        match asked.unwrap_or(by_device) {
            TableType::Bios => return Ok(TableType::Bios),
            TableType::Requests if self.count() > 1 => {
                return refuse("request-based DM doesn't support multiple targets");
            }
            TableType::Requests => {}
        }
        let mut stackable = true;
        let mut any = false;
        for entry in self.entries() {
            entry.target.iterate_devices(&mut |area| {
                any = true;
                stackable &= area.takes_requests();
            });
        }
        let entry = &self.entries()[0];
        if !any {
            Ok(live.unwrap_or(TableType::Requests))
        } else if !entry.target_type.features().immutable {
            refuse("table load rejected: immutable target is required")
        } else if entry.profile.max_io_len.is_some() {
            refuse("table load rejected: immutable target that splits IO is not supported")
        } else if !stackable {
            refuse("table load rejected: including non-request-stackable devices")
        } else {
            Ok(TableType::Requests)
        }
    }
}
