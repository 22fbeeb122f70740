//! How long a bio takes, beside one that is only sent on. No time fails: machines differ, and what else
//! one does.

use std::sync::Arc;
use std::time::{Duration, Instant};

use backing::block_on;
use sim_core::{Bio, BlockDevice, MappedDevice, Op, Sector, Sectors};

use super::super::ground::Ground;
use super::super::suite::Suite;
use super::Machine;
use crate::SECTOR;
use crate::conformance::through::Through;

/// How many times each is measured, in turn; what is told is the median.
const ROUNDS: usize = 5;

/// How long one is measured, and how many bios that are at the most.
const LASTS: Duration = Duration::from_millis(5);
const MOST: u32 = 2000;

/// The length of a bio in sectors, where the device has as many.
const LEN: u64 = 8;

/// Times reads and writes of 4 KiB, the target's and those of a line that sends each bio on, over disks in
/// memory; fails where a bio does.
pub(in super::super) fn speed(suite: &Suite) -> Result<(), String> {
    let (machine, device) = suite.machine(&Ground::plain(suite, 512), false)?;
    let block = device.limits().logical_block().0.max(1);
    let len = (device.size().0.min(LEN) / block * block).max(block);
    if device.size().0 < len {
        return Err(format!("a device of {} sectors has no room for a block", device.size()));
    }
    let beside = Machine::new(suite.registry.clone(), &Ground::plain(suite, 512), false);
    let name = <Through as sim_core::TargetType>::NAME;
    let through = beside.set_up(0, &format!("0 64 {name} a 0"))?;
    for op in [Op::Read, Op::Write] {
        let (mut own, mut sent_on) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            own.push(time(&device, op, len, suite.is_storage())?);
            sent_on.push(time(&through, op, len, true)?);
        }
        machine.verdict()?;
        let (own, sent_on) = (median(own), median(sent_on));
        println!(
            "{op:?} of {} bytes: {own:.0} ns, {:.1} times the {sent_on:.0} ns of one that is sent on",
            len as usize * SECTOR,
            own / sent_on
        );
    }
    Ok(())
}

/// Returns how many nanoseconds a bio takes, carried out as the mount does: on the spot where nothing in it
/// can wait.
fn time(device: &Arc<MappedDevice>, op: Op, len: u64, is_storage: bool) -> Result<f64, String> {
    let mut buffer = vec![0x5a; len as usize * SECTOR];
    let (began, mut count) = (Instant::now(), 0);
    while count < MOST && (count == 0 || began.elapsed() < LASTS) {
        let bio = match op {
            Op::Read => Bio::read(Sector::ZERO, &mut buffer),
            _ => Bio::write(Sector::ZERO, &buffer),
        };
        let result = match device.try_now(bio) {
            Ok(result) => result,
            Err(bio) => block_on(device.submit(bio)),
        };
        match result {
            Err(error) if is_storage => {
                return Err(format!("a {op:?} of {} failed: {error}", Sectors(len)));
            }
            Ok(()) | Err(_) => count += 1,
        }
    }
    Ok(began.elapsed().as_nanos() as f64 / f64::from(count))
}

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}
