//! Operations on tables and targets: loading, reporting, messages.

use std::sync::Arc;

use zeroize::Zeroizing;

use super::{
    Answer, Cell, Changed, CommandResult, Control, Failure, Id, Report, Slot, TargetVersion,
    command,
};
use crate::stats;
use crate::table::{Entry, TextStyle};
use crate::{
    Access, AnyTargetType, BlockDevice, DevNumber, Errno, KeyText, MappedDevice, Sector, Table,
    TableError, TableType, TargetSpec, split_words,
};

impl Control {
    pub(super) async fn table_load(
        &self,
        id: &Id,
        access: Access,
        targets: &[TargetSpec],
        base: &str,
    ) -> CommandResult {
        let device = self.device(id)?;
        let site = self.site(&device, access, base);
        let table = Table::build(targets, &site.build()).await?;
        let live = device.live().and(device.table_type());
        let table_type = table.determine_type(device.table_type(), live, &site.build())?;
        self.check_immutable(&device, &table)?;
        let table = Arc::new(table);
        let first = self.with_device(&device, |cell| !cell.has_disk)?;
        if first {
            let limits = table.limits(&site.build()).inspect_err(|_| {
                self.log.line("device-mapper: core: Cannot calculate initial queue limits");
                self.log.line("device-mapper: ioctl: unable to set up device queue for new table.");
            })?;
            device.set_limits(limits);
        }
        self.check_type(&device, table_type)?;
        let (old, name, status) = self.with_device(&device, |cell| {
            let old = cell.inactive.replace(table);
            cell.has_disk = true;
            self.note(cell);
            self.journal.table_loaded(cell);
            (old, cell.name.clone(), cell.status(Slot::Live))
        })?;
        drop((old, site));
        self.reap();
        if first {
            self.changed(&Changed::Name(name));
        }
        Ok(Answer::Status(status))
    }

    /// Acts on a device that was found before, unless it was removed meanwhile.
    fn with_device<T>(
        &self,
        device: &MappedDevice,
        act: impl FnOnce(&mut Cell) -> T,
    ) -> Result<T, Failure> {
        let found = self.cells().cell_of(device).map(act);
        found.ok_or_else(|| {
            self.failure(Errno::NXIO, "device has been removed from the dev hash table.")
        })
    }

    /// Refuses a table in the place of one whose type is replaced by its own kind alone.
    fn check_immutable(&self, device: &MappedDevice, table: &Table) -> Result<(), TableError> {
        if let Some(old) = device.live()
            && let Some(immutable) = old.immutable_type()
            && table.immutable_type() != Some(immutable)
            && !table.is_wildcard()
        {
            let why = format!("can't replace immutable target type {immutable}");
            self.log.line(&format!("device-mapper: ioctl: {why}"));
            return Err(TableError::new(why));
        }
        Ok(())
    }

    /// Gives a device the type of its first table, and refuses another later.
    fn check_type(&self, device: &MappedDevice, new: TableType) -> Result<(), TableError> {
        let old = device.settle_type(new);
        if old == new {
            return Ok(());
        }
        let (old, new) = (old.number(), new.number());
        let why =
            format!("can't change device type (old={old} vs new={new}) after initial table load.");
        self.log.line(&format!("device-mapper: ioctl: {why}"));
        Err(TableError::new(why))
    }

    pub(super) fn table_clear(&self, id: &Id) -> CommandResult {
        let (old, status) = self.change(id, |cell| {
            let old = cell.inactive.take();
            if old.is_some() {
                self.journal.table_cleared(cell);
            }
            Ok((old, cell.status(Slot::Live)))
        })?;
        drop(old);
        self.reap();
        Ok(Answer::Status(status))
    }

    pub(super) fn table_deps(&self, id: &Id, slot: Slot) -> CommandResult {
        let table = self.with(id, |cell| Ok(cell.table(slot)))?;
        let deps = table.iter().flat_map(|table| table.devices());
        Ok(Answer::Deps(deps.map(|open| open.number()).collect()))
    }

    pub(super) fn locate(&self, id: &Id, sector: Sector) -> CommandResult {
        let table = self.live(id)?;
        let located = table.locate(sector).ok_or_else(|| Failure {
            errno: Errno::INVAL,
            table: None,
            why: Some(format!("sector {sector} is past its end: it has {} sectors", table.size())),
        })?;
        Ok(Answer::Located(located))
    }

    pub(super) fn shows(&self, id: &Id, below: DevNumber, sector: Sector) -> CommandResult {
        Ok(Answer::Shows(self.live(id)?.shows(below, sector)))
    }

    fn live(&self, id: &Id) -> Result<Arc<Table>, Failure> {
        let table = self.with(id, |cell| Ok(cell.table(Slot::Live)))?;
        table.ok_or_else(|| Failure {
            errno: Errno::NXIO,
            table: None,
            why: Some("has no live table".to_owned()),
        })
    }

    pub(super) async fn table_status(
        &self,
        id: &Id,
        report: Report,
        slot: Slot,
        device_names: bool,
        keys: KeyText,
    ) -> CommandResult {
        let asked = || self.with(id, |cell| Ok((cell.status(slot), cell.table(slot))));
        let (mut status, mut table) = asked()?;
        if report == Report::Status && slot == Slot::Live && !status.suspended {
            if let Some(table) = &table {
                table.prepare_status().await;
            }
            // It may have waited.
            (status, table) = asked()?;
        }
        let devices = command::style(device_names);
        let lines = |table: Arc<Table>| match report.kind() {
            Some(kind) => table.status(kind, TextStyle { devices, keys }).map(|(lines, _)| lines),
            None => table.measures(devices),
        };
        let lines = table.map(lines).transpose()?;
        Ok(Answer::Table(status, lines.unwrap_or_default()))
    }

    pub(super) fn versions(&self) -> Vec<TargetVersion> {
        let version = |target_type: &Arc<dyn AnyTargetType>| TargetVersion {
            name: target_type.name().to_owned(),
            version: target_type.version(),
        };
        self.registry.iter().map(version).collect()
    }

    pub(super) fn target_version(&self, name: &str) -> CommandResult {
        let found = self.versions().into_iter().find(|version| version.name == name);
        found.map(|version| Answer::Versions(vec![version])).ok_or(Errno::INVAL.into())
    }

    pub(super) async fn target_msg(
        &self,
        id: &Id,
        sector: Sector,
        message: &str,
        slot: Slot,
    ) -> CommandResult {
        let table = self.with(id, |cell| Ok(cell.table(slot)))?;
        let words = Zeroizing::new(split_words(message));
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let Some(first) = words.first() else {
            self.log.line("device-mapper: ioctl: Empty message received.");
            return Err(Errno::INVAL.into());
        };
        if first.starts_with('@') {
            return self.core_msg(id, &words);
        }
        let Some(table) = table else {
            return Err(self.failure(Errno::INVAL, "The device has no table."));
        };
        let Some(entry) = table.find(sector) else {
            let why = "Target message sector outside device.";
            return Err(self.failure(Errno::INVAL, why));
        };
        let number = self.device_in_message(id, entry, &words).await?;
        let mut words = words;
        if let Some((index, number)) = &number {
            words[*index] = number;
        }
        let Some(answer) = table.message(entry, &words).await else {
            return Err(self.failure(Errno::INVAL, "Target type does not support messages"));
        };
        self.change(id, |_| Ok(()))?;
        Ok(Answer::Text(answer?))
    }

    /// Finds the device that a message names, and returns which word does so, and the number to be put
    /// in its place; none where it is a number already, or not found.
    async fn device_in_message(
        &self,
        id: &Id,
        entry: &Entry,
        words: &[&str],
    ) -> Result<Option<(usize, String)>, Failure> {
        let Some(index) = entry.target.message_device(words) else { return Ok(None) };
        let Some(word) = words.get(index) else { return Ok(None) };
        if word.parse::<DevNumber>().is_ok() {
            return Ok(None);
        }
        let device = self.device(id)?;
        let site = self.site(&device, Access::ReadOnly, "/");
        let found = site.finder.number_of(word).await;
        Ok(found.map(|number| (index, number.to_string())))
    }

    /// A message for the core: its first word begins with `@`.
    pub(super) fn core_msg(&self, id: &Id, words: &[&str]) -> CommandResult {
        if let Ok(device) = self.device(id)
            && let Some(message) = stats::parse(words, device.size())
        {
            let done = message.and_then(|message| device.count(message));
            return done.map(Answer::Text).map_err(|errno| self.no_statistics(errno, words[0]));
        }
        if !words[0].eq_ignore_ascii_case("@cancel_deferred_remove") {
            let why = format!("Unsupported message sent to DM core: {}", words[0]);
            return Err(self.failure(Errno::INVAL, &why));
        }
        if words.len() != 1 {
            let why = "Invalid arguments for @cancel_deferred_remove";
            return Err(self.failure(Errno::INVAL, why));
        }
        let minor = self.with(id, |cell| Ok(cell.device.minor()))?;
        let name = self.defer_removal(minor, false)?;
        self.changed(&Changed::Name(name));
        Ok(Answer::Text(None))
    }

    /// Tells why a message about statistics was refused.
    fn no_statistics(&self, errno: Errno, verb: &str) -> Failure {
        let why = match errno {
            Errno::INVAL => format!("Invalid parameters for message {verb}"),
            Errno::NOENT => "The device has no region of that number.".to_owned(),
            Errno::NOMEM | Errno::OVERFLOW => "There is no room for so many areas.".to_owned(),
            _ => return errno.into(),
        };
        if errno == Errno::INVAL {
            self.log.line(&format!("device-mapper: stats: {why}"));
        }
        Failure { errno, table: None, why: Some(why) }
    }

    pub(super) fn set_geometry(&self, id: &Id, geometry: &str) -> CommandResult {
        let device = self.device(id)?;
        let numbers: Vec<Option<u64>> =
            geometry.split_whitespace().map(|word| word.parse().ok()).collect();
        let [Some(cylinders), Some(heads), Some(sectors), Some(start)] = numbers[..] else {
            return Err(self.failure(Errno::INVAL, "Unable to interpret geometry settings."));
        };
        if cylinders > 65535 || heads > 255 || sectors > 255 {
            return Err(self.failure(Errno::INVAL, "Geometry exceeds range limits."));
        }
        // At most 65535 * 255 * 255, by the check above.
        if start > cylinders * heads * sectors {
            let why = "Start sector is beyond the geometry limits.";
            self.log.line(&format!("device-mapper: core: {why}"));
            return Err(Failure { errno: Errno::INVAL, table: None, why: Some(why.into()) });
        }
        // A regular file has no geometry to report: it is checked, and dropped.
        self.status(&Id::Dev(device.number()), Slot::Live)
    }
}
