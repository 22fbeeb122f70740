//! How a persistent store comes to be: read from its device, or made there.

use std::sync::Arc;

use sim_core::{Area, Bio, Buffer, Errno, Locked, Runtime, Sector, Sectors, TargetLog};

use super::{Persistent, State};
use crate::lines::snapshot::STORE_MODULE;
use crate::snapshot::ChunkSize;
use crate::snapshot::store::format::{Found, Header, Layout, VERSION};
use crate::snapshot::store::scan::{Scan, Scanned};
use crate::snapshot::store::{Loaded, Refused};
use crate::snapshot::table::ExceptionTable;

impl Persistent {
    /// Reads the store of a device, or makes one where there is none. `chunk` is the table line's.
    pub(crate) async fn load(
        cow: Area,
        chunk: Option<ChunkSize>,
        blocks: &[Sectors],
        runtime: Arc<dyn Runtime>,
        log: &TargetLog,
    ) -> Result<Loaded<Persistent>, Refused> {
        let log = log.of_module(STORE_MODULE);
        let asked = chunk.unwrap_or_else(|| default_chunk(&cow));
        let found = read_header(&cow, asked).await?;
        let header = match found {
            Found::New => None,
            Found::Store(header) => Some(header),
            Found::Other => {
                log.line("Invalid or corrupt snapshot");
                let detail = "expected `SnAp` or zeros at the start of the store";
                return Err(Refused { errno: Errno::NXIO, detail: detail.to_owned() });
            }
        };
        let chunk_size = match header {
            Some(header) if header.chunk_size != asked.sectors() => {
                on_disk_chunk(header, asked, chunk.is_some(), blocks, &log)?
            }
            Some(_) | None => asked,
        };
        let layout = Layout::new(chunk_size);
        let state =
            Locked::new(State { next_free: layout.data_at_or_after(0), ..State::default() });
        let store = Persistent { cow, layout, runtime, log, state };
        let exceptions = match header {
            None => store.format().await.map(|()| Some(ExceptionTable::new()))?,
            Some(header) if header.version != VERSION => {
                let version = header.version.cast_signed();
                store.log.line(format_args!("unable to handle snapshot disk version {version}"));
                let detail = format!("expected version {VERSION} of the store, found {version}");
                return Err(Refused { errno: Errno::INVAL, detail });
            }
            Some(Header { valid: false, .. }) => None,
            Some(_) => Some(store.read_entries().await?),
        };
        Ok(Loaded { store, exceptions })
    }

    /// Makes a store without exceptions.
    async fn format(&self) -> Result<(), Refused> {
        let chunk = self.layout.chunk().sectors();
        if self.chunks() < 2 {
            self.log.line("zero_disk_area(0) failed");
            let cow = self.cow.size();
            let detail = format!("two chunks of {chunk} sectors do not fit the store's {cow}");
            return Err(Refused { errno: Errno::IO, detail });
        }
        // The header last: until it is there, whoever comes next makes the store anew.
        let written = async {
            self.zero_area(0).await?;
            let rest = Sectors::in_bytes(self.block());
            self.zero(rest.to_sector(), chunk - rest).await?;
            self.write_header(true).await
        };
        written.await.map_err(|error| {
            self.log.line("write_header failed");
            Refused::io(error, "the store cannot be made")
        })
    }

    async fn read_entries(&self) -> Result<ExceptionTable, Refused> {
        let mut scan = Scan::new(self.layout, self.cow.size());
        let mut fault = None;
        let mut buffer = Buffer::take(0);
        while let Some((sector, len)) = scan.wants() {
            let bytes = len.bytes() as usize;
            if buffer.len() != bytes {
                buffer = Buffer::take(bytes);
            }
            let read = self.cow.submit(sector, Bio::read(sector, &mut buffer)).await;
            read.map_err(|error| {
                Refused::io(error, format!("the store's metadata at sector {sector} is not there"))
            })?;
            let taken = scan.take(&buffer, &mut |damage| {
                fault.get_or_insert_with(|| damage.to_string());
            });
            taken.map_err(|why| Refused { errno: Errno::NOMEM, detail: why.to_string() })?;
            if fault.is_some() {
                break;
            }
        }
        let Scanned { exceptions, area, entries, next_free } = scan.finish(&mut |chunk| {
            fault.get_or_insert_with(|| {
                format!("chunk {chunk} of the store has the data of two exceptions")
            });
        });
        if let Some(detail) = fault {
            self.log.line("Invalid or corrupt snapshot");
            return Err(Refused { errno: Errno::NXIO, detail });
        }
        let mut state = self.state();
        (state.area, state.entries, state.next_free) = (area, entries, next_free);
        drop(state);
        Ok(exceptions)
    }
}

/// Returns what a chunk is where nobody says: 16 KiB, or a block of the device if that is more.
fn default_chunk(cow: &Area) -> ChunkSize {
    let block = cow.limits().logical_block();
    let chunk = ChunkSize::DEFAULT.sectors().max(block);
    ChunkSize::new(chunk, &[]).unwrap_or(ChunkSize::DEFAULT)
}

async fn read_header(cow: &Area, chunk: ChunkSize) -> Result<Found, Refused> {
    // The kernel reads the whole chunk.
    if chunk.sectors() > cow.size() {
        let detail = format!(
            "a chunk of {} sectors does not fit the store's {}",
            chunk.sectors(),
            cow.size()
        );
        return Err(Refused { errno: Errno::IO, detail });
    }
    let mut bytes = Buffer::take(cow.limits().logical_block().bytes() as usize);
    let read = cow.submit(Sector::ZERO, Bio::read(Sector::ZERO, &mut bytes)).await;
    read.map_err(|error| Refused::io(error, "the header of the store cannot be read"))?;
    Ok(Header::read(&bytes))
}

/// Returns the chunk size of a header, which wins over the table line's.
fn on_disk_chunk(
    header: Header,
    asked: ChunkSize,
    was_asked: bool,
    blocks: &[Sectors],
    log: &TargetLog,
) -> Result<ChunkSize, Refused> {
    let size = header.chunk_size;
    if was_asked {
        log.line(format_args!(
            "chunk size {size} in device metadata overrides table chunk size of {}.",
            asked.sectors()
        ));
    }
    ChunkSize::new(size, blocks).map_err(|why| {
        log.line(format_args!("invalid on-disk chunk size {size}: {why}."));
        Refused { errno: Errno::INVAL, detail: format!("chunk size {size} in the store: {why}") }
    })
}
