//! A device whose table is replaced while it is written and read.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread;
use std::time::Duration;

use super::content::Pattern;
use super::stage::Stage;
use crate::fault::{About, Fault};

/// The device.
pub(super) const DEVICE: &str = "busy";

/// Its tables: the same sectors of the same images, said in different ways.
pub(super) const TABLES: [&str; 4] = [
    "0 32768 linear /dev/sda 98304",
    "0 16384 linear /dev/sda 98304\n16384 16384 linear /dev/sda 114688",
    "0 8 linear /dev/sda 98304\n8 32752 linear /dev/sda 98312\n32760 8 linear /dev/sda 131064",
    "0 4096 linear /dev/sda 98304\n4096 4096 linear /dev/sda 102400\n8192 24576 linear /dev/sda 106496",
];

/// How often the table is replaced.
const REPLACEMENTS: usize = 40;

const BLOCK: usize = 4096;
const BLOCKS: u64 = 32768 * 512 / BLOCK as u64;

/// Writes and reads blocks in two threads while the table is replaced, and holds every block
/// read against the last one written.
pub(super) fn run(stage: &Stage) -> Result<Option<String>, Fault> {
    let path = stage.device(DEVICE);
    let file = File::options().read(true).write(true).open(&path).about(path.display())?;
    let ended = AtomicBool::new(false);
    thread::scope(|scope| {
        // Each has half of the device, so that it knows what it should find.
        let halves = [0..BLOCKS / 2, BLOCKS / 2..BLOCKS].map(|blocks| {
            let (file, ended) = (&file, &ended);
            scope.spawn(move || use_blocks(file, blocks, ended))
        });
        let replaced = replace(stage);
        ended.store(true, SeqCst);
        let mut bios = 0;
        for half in halves {
            bios += half.join().map_err(|_| Fault::new("load", "a thread panicked"))??;
        }
        replaced?;
        Ok(Some(format!(
            "{REPLACEMENTS} tables, {bios} reads and writes: no error, all as written"
        )))
    })
}

fn replace(stage: &Stage) -> Result<(), Fault> {
    let mut client = stage.client()?;
    for table in TABLES.iter().cycle().skip(1).take(REPLACEMENTS) {
        stage.replace(&mut client, DEVICE, table)?;
        thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

/// Returns how many blocks were written and read.
fn use_blocks(file: &File, blocks: std::ops::Range<u64>, ended: &AtomicBool) -> Result<u64, Fault> {
    // What each block was filled from last; zero is never used, as nothing was written then.
    let mut last = vec![0; (blocks.end - blocks.start) as usize];
    let (mut random, mut bios) = (Pattern(blocks.start + 7), 0);
    let (mut data, mut expected) = ([0; BLOCK], [0; BLOCK]);
    while !ended.load(SeqCst) {
        let index = (random.next() % last.len() as u64) as usize;
        let at = (blocks.start + index as u64) * BLOCK as u64;
        if last[index] == 0 || random.next().is_multiple_of(2) {
            last[index] = random.next() | 1;
            Pattern(last[index]).fill(&mut data);
            file.write_all_at(&data, at).about(format!("write at {at}"))?;
        } else {
            Pattern(last[index]).fill(&mut expected);
            file.read_exact_at(&mut data, at).about(format!("read at {at}"))?;
            if data != expected {
                return Err(Fault::new(format!("read at {at}"), "not what was written"));
            }
        }
        bios += 1;
    }
    Ok(bios)
}
