//! Where a sector lies, through all layers, and which devices show one.

use std::collections::BTreeMap;

use backing::Attached;
use daemon::client::unexpected;
use daemon::protocol::Outcome;
use daemon::{Fault, mangle};
use serde::Serialize;
use sim_core::control::{Answer, Command, Id, Slot};
use sim_core::{DevNumber, Errno, Located, SECTOR_SIZE, Sector, Shows};

use crate::commands::because;
use crate::device_mapper::DeviceMapper;
use crate::devices::{NO_SUCH, find};
use crate::parts::number_of;
use crate::words::device_name;

/// The most places that are told of one sector.
const MAX_PLACES: usize = 4096;

/// A sector of a device or an image.
#[derive(Clone, Debug, Serialize)]
pub struct Place {
    /// What the device is called.
    pub name: String,
    /// Its number.
    #[serde(flatten)]
    pub dev: DevNumber,
    /// The sector, of 512 bytes.
    pub sector: u64,
    /// What lies there of the sector above it; of the sector below, where that was asked about.
    pub role: Option<String>,
    /// A mapped device, or an image.
    #[serde(flatten)]
    pub kind: PlaceKind,
    /// What is to be known of it besides.
    pub notes: Vec<String>,
    /// Where it lies below.
    pub below: Vec<Place>,
    /// What lies there, in devices above.
    pub above: Vec<Place>,
}

/// What a sector is of.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum PlaceKind {
    /// A mapped device.
    Device {
        /// The type of the target that has the sector.
        target_type: String,
    },
    /// An image.
    Image {
        /// The file behind it.
        file: String,
        /// Where in the file the sector begins.
        offset_bytes: u64,
    },
}

/// Says where a sector of a device lies, through all layers down to the images.
///
/// # Errors
/// Where there is no such device, and where the sector is past its end.
pub fn located(dm: &mut dyn DeviceMapper, word: &str, sector: Sector) -> Result<Place, Fault> {
    let name = device_name(dm.mount(), word);
    let device = find(dm, &name)?.ok_or_else(|| Fault::new(word, NO_SUCH))?;
    let mut look = Look::new(dm)?;
    look.located(device.status.dev, sector, None)
}

/// Says what lies at a sector of an image, or of a mapped device: which sectors of the devices above, up to
/// the last.
///
/// # Errors
/// Where there is no such image, and where the sector is past its end.
pub fn shown(dm: &mut dyn DeviceMapper, word: &str, sector: Sector) -> Result<Place, Fault> {
    let Some(dev) = number_of(dm, word)? else {
        let why = "no image of that name or path is attached: `dmsim images` lists them";
        return Err(Fault::new(word, why));
    };
    let mut look = Look::new(dm)?;
    look.find_above()?;
    look.shown(dev, sector)
}

/// One look at the stack.
struct Look<'a> {
    dm: &'a mut dyn DeviceMapper,
    images: Vec<Attached>,
    /// Mapped devices, with their mangled names and sizes.
    devices: BTreeMap<DevNumber, (String, u64)>,
    /// Which devices map onto one; empty where nobody looks up.
    above: BTreeMap<DevNumber, Vec<DevNumber>>,
    /// How many places were told.
    told: usize,
}

impl Look<'_> {
    fn new(dm: &mut dyn DeviceMapper) -> Result<Look<'_>, Fault> {
        let (images, described) = (dm.images()?, dm.describe()?);
        let number = |major, minor| DevNumber { major, minor };
        let devices = described.into_iter();
        let devices = devices.map(|one| (number(one.major, one.minor), (one.name, one.size)));
        let (devices, above) = (devices.collect(), BTreeMap::new());
        Ok(Look { images, devices, above, dm, told: 0 })
    }

    /// Finds out who maps onto what.
    fn find_above(&mut self) -> Result<(), Fault> {
        for dev in self.devices.keys() {
            let deps = Command::TableDeps { id: Id::Dev(*dev), slot: Slot::Live };
            // One that is removed meanwhile is left out.
            let Ok(Answer::Deps(deps)) = self.dm.control(deps)? else { continue };
            for below in deps {
                self.above.entry(below).or_default().push(*dev);
            }
        }
        Ok(())
    }

    fn located(
        &mut self,
        dev: DevNumber,
        sector: Sector,
        role: Option<String>,
    ) -> Result<Place, Fault> {
        self.told += 1;
        if !self.devices.contains_key(&dev) {
            return Ok(Place { role, ..self.image(dev, sector) });
        }
        let Located { target_type, spots, notes, .. } = self.locate(dev, sector)?;
        let mut place = Place { role, notes, ..self.device(dev, sector, target_type) };
        for spot in spots {
            if self.told >= MAX_PLACES {
                place.notes.push(format!("more than {MAX_PLACES} places: the others are left out"));
                break;
            }
            place.below.push(self.located(spot.below, spot.sector, Some(spot.role))?);
        }
        Ok(place)
    }

    fn shown(&mut self, dev: DevNumber, sector: Sector) -> Result<Place, Fault> {
        let size = match self.devices.get(&dev) {
            Some((_, size)) => Some(*size),
            None => self.images.iter().find(|image| image.number == dev).map(|image| image.size.0),
        };
        let mut place = match self.devices.contains_key(&dev) {
            true => {
                let target_type = self.locate(dev, sector)?.target_type;
                self.device(dev, sector, target_type)
            }
            false => self.image(dev, sector),
        };
        if let Some(size) = size.filter(|size| sector.0 >= *size) {
            let why = format!("sector {sector} is past its end: it has {size} sectors");
            return Err(Fault::new(place.name, why));
        }
        self.add_above(&mut place)?;
        Ok(place)
    }

    fn add_above(&mut self, place: &mut Place) -> Result<(), Fault> {
        let (below, sector) = (place.dev, Sector(place.sector));
        for dev in self.above.get(&below).cloned().unwrap_or_default() {
            let name = mangle::decode(&self.devices[&dev].0);
            let shows = Command::Shows { id: Id::Dev(dev), below, sector };
            let Shows { shown, notes } = match self.dm.control(shows)? {
                Ok(Answer::Shows(shows)) => shows,
                // As there, who is removed meanwhile.
                Err(failure) if failure.errno == Errno::NXIO => continue,
                Err(failure) => return Err(because(&name, &failure)),
                other => return Err(unexpected(Outcome::Control(other))),
            };
            let is_image = matches!(place.kind, PlaceKind::Image { .. });
            if is_image && shown.is_empty() && notes.is_empty() {
                place.notes.push(format!(
                    "{name} maps onto it and has no sector there: metadata of its own, or unused"
                ));
            }
            place.notes.extend(notes.into_iter().map(|note| format!("{name}: {note}")));
            for shown in shown {
                self.told += 1;
                if self.told >= MAX_PLACES {
                    place
                        .notes
                        .push(format!("more than {MAX_PLACES} sectors: the others are left out"));
                    return Ok(());
                }
                let above = self.device(dev, shown.sector, shown.target_type);
                let mut above = Place { role: Some(shown.role), ..above };
                self.add_above(&mut above)?;
                place.above.push(above);
            }
        }
        Ok(())
    }

    /// Asks about a device by its number, so that a name that is given anew meanwhile is nothing to it.
    fn locate(&mut self, dev: DevNumber, sector: Sector) -> Result<Located, Fault> {
        match self.dm.control(Command::Locate { id: Id::Dev(dev), sector })? {
            Ok(Answer::Located(located)) => Ok(located),
            Err(failure) => Err(because(&mangle::decode(&self.devices[&dev].0), &failure)),
            other => Err(unexpected(Outcome::Control(other))),
        }
    }

    fn device(&self, dev: DevNumber, sector: Sector, target_type: String) -> Place {
        let name = self.devices.get(&dev).map_or("?".to_owned(), |(name, _)| mangle::decode(name));
        place(name, dev, sector, PlaceKind::Device { target_type })
    }

    fn image(&self, dev: DevNumber, sector: Sector) -> Place {
        let image = self.images.iter().find(|image| image.number == dev);
        let name = image.map(|image| image.name.clone().unwrap_or(image.kernel_name.clone()));
        let file = image.map_or(String::new(), |image| image.path.display().to_string());
        let offset_bytes = sector.0.saturating_mul(SECTOR_SIZE);
        let kind = PlaceKind::Image { file, offset_bytes };
        place(name.unwrap_or("?".to_owned()), dev, sector, kind)
    }
}

fn place(name: String, dev: DevNumber, sector: Sector, kind: PlaceKind) -> Place {
    let (below, above) = (Vec::new(), Vec::new());
    Place { name, dev, sector: sector.0, role: None, kind, notes: Vec::new(), below, above }
}
