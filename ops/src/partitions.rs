//! `partitions`: the partition table of an image.

use std::path::{Path, PathBuf};

use daemon::Fault;
use recognise::partitions::{Table, read_with};

use crate::device_mapper::DeviceMapper;
use crate::files::place;
use crate::open::stack::not_raw;
use crate::open::{ImageFile, told};

/// The exit status where no table can be read, as `open` has it where there is no container.
const NONE: u8 = 4;

/// Returns where the bytes of an image are: of a file, or of what an instance knows by this name.
///
/// # Errors
/// Where the instance cannot be asked.
pub fn locate(dm: Option<&mut dyn DeviceMapper>, word: &Path) -> Result<PathBuf, Fault> {
    match dm {
        Some(dm) => place(dm, word).map(|(path, _)| path),
        None => Ok(word.to_owned()),
    }
}

/// Reads the partition table of an image; none where there is none. The size of its logical sectors in bytes,
/// where it is known.
///
/// # Errors
/// Where it cannot be read; with the exit status of a damaged header where both copies of a GPT are.
pub fn read(path: &Path, sector_size: Option<u32>) -> Result<Option<Table>, Fault> {
    let image = ImageFile::open(path)?;
    let table = read_with(&image, sector_size).map_err(|error| told(path, &error))?;
    if let (None, Ok(Some(format))) = (&table, recognise::images::format(&image)) {
        let format = format.of_file(&path.display().to_string());
        return Err(Fault::new(path.display(), not_raw(&format)).with_status(NONE));
    }
    Ok(table)
}
