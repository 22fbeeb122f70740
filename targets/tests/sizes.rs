//! Numbers of any size in every place of every target's line: a table is taken or refused, and
//! nothing takes memory, panics, or ends the process for it.
//!
//! The process has so little room that whatever is sized by a number of the line ends it.

use std::ops::Range;

use rustix::process::{Resource, getrlimit, setrlimit};
use sim_core::control::{Command, WhenOpen};
use sim_core::{Bio, BlockDevice, Held, Op, Sector, Sectors, StatusKind, parse_table, split_words};
use testkit::{Rng, Speed, World, each_seed, id, send};

/// How much the process may grow.
const ROOM: u64 = 64 << 20;

const LINES: [&str; 20] = [
    "0 64 linear a 10",
    "0 64 striped 2 4 a 100 b 200",
    "0 64 zero",
    "0 64 error a 10",
    "0 64 crypt aes-xts-plain64 00112233445566778899aabbccddeeff00112233445566778899aabbccddeefe 8 a 16 2 sector_size:512 iv_large_sectors",
    "0 64 crypt aes-xts-plain64 :32:user:key 8 a 16",
    "0 64 mirror core 1 16 2 a 10 b 20",
    "0 64 mirror disk 3 c 16 nosync 2 a 10 b 20 1 handle_errors",
    "0 64 snapshot-origin a",
    "0 64 snapshot a b P 4 1 discard_zeroes_cow",
    "0 64 snapshot a b N 4",
    "0 64 snapshot-merge a b P 4",
    "0 64 unstriped 3 4 1 a 10",
    "0 64 switch 3 8 0 a 10 b 20 c 30",
    "0 64 delay a 10 5 b 7 0 c 3 20",
    "0 64 flakey a 10 2 1 7 corrupt_bio_byte 3 r 7 0 random_write_corrupt 5000",
    "0 64 dust a 16 2048",
    "0 64 log-writes a b",
    "0 64 ebs a 16 1 8",
    "0 64 ebs b 16 8",
];

/// Where something is counted in bits, sectors, bytes or regions, and one to each side.
fn number(rng: &mut Rng) -> u64 {
    let borders = [0, 4, 9, 15, 16, 21, 22, 31, 32, 33, 41, 48, 53, 54, 55, 57, 63];
    match rng.below(8) {
        0 => rng.number(),
        1 => rng.number() >> rng.below(64),
        2 => u64::MAX - rng.below(3) as u64,
        3 => rng.below(200) as u64,
        _ => {
            let border = 1u64 << borders[rng.below(borders.len())];
            border.wrapping_add(rng.below(3) as u64).wrapping_sub(1)
        }
    }
}

/// Returns a line with other numbers, in one place or in many.
fn line(rng: &mut Rng, text: &str) -> String {
    let words = split_words(text);
    let numbers: Vec<usize> = (0..words.len())
        .filter(|at| words[*at].bytes().all(|byte| byte.is_ascii_digit()) && words[*at].len() < 9)
        .collect();
    let one = numbers[rng.below(numbers.len())];
    let many = rng.below(3) == 0;
    // A mapped device that has only an inactive table has no size: nothing is checked against it.
    let without_size = rng.below(3) == 0;
    let words = words.iter().enumerate().map(|(at, word)| match word.as_str() {
        _ if at == one => number(rng).to_string(),
        _ if many && at > 0 && numbers.contains(&at) && rng.below(2) == 0 => {
            number(rng).to_string()
        }
        "a" | "b" | "c" if without_size => match &word[..] {
            "a" => "253:1".to_owned(),
            _ => "253:2".to_owned(),
        },
        ":32:user:key" => format!(":{}:user:key", number(rng)),
        "sector_size:512" => format!("sector_size:{}", number(rng)),
        word => word.to_owned(),
    });
    words.collect::<Vec<_>>().join(" ")
}

/// Brings a table into use as far as it goes, and sends it a few bios.
fn use_it(seed: u64, table: &str, rng: &mut Rng) -> Result<(), String> {
    let world = World::new(seed, targets::registry());
    for _ in 0..3 {
        world.add_disk(Sectors(1024)).set_speed(Speed::AtOnce);
    }
    (0..3).for_each(|minor| drop(world.create(minor).expect("a device")));
    let load = |minor, table: &str| {
        let lines = parse_table(table).expect("a line").into_iter();
        world.load(minor, lines.map(|(_, spec)| spec).collect())
    };
    for below in [1, 2] {
        load(below, "0 64 linear b 100").expect("an inactive table");
    }
    if load(0, table).is_err() || world.resume(0).is_err() {
        return Ok(());
    }
    if rng.below(2) == 0 {
        [1, 2].into_iter().for_each(|below| drop(world.resume(below)));
    }
    let device = world.device(0);
    let live = device.live().expect("a live table");
    for kind in [StatusKind::Info, StatusKind::Table] {
        drop(live.status(kind, Default::default()));
    }
    for _ in 0..8 {
        let Range { start, end } = 0..device.size().0;
        let len = 1 + rng.below(16) as u64;
        let sector = [start, end / 2, end.saturating_sub(len), number(rng)][rng.below(4)];
        let mut data = vec![1; len as usize * 512];
        let bio = match rng.below(4) {
            0 => Bio::write(Sector(sector), &data),
            1 => Bio::discard(Sector(sector), Sectors(1 << rng.below(40))),
            2 => Bio::without_data(Op::WriteZeroes, Sector(sector), Sectors(len)),
            _ => Bio::read(Sector(sector), &mut data),
        };
        let sent = world.sim.try_block_on(send(device.clone(), bio));
        let _may_fail = sent.map_err(|stuck| format!("`{table}`: a bio never ends: {stuck}"))?;
    }
    let suspend = Command::DevSuspend { id: id(0), held: Held::Flush };
    let suspended = world.sim.try_block_on(world.control.execute(suspend));
    let _done = suspended.map_err(|stuck| format!("`{table}`: a suspend never ends: {stuck}"))?;
    let remove = Command::DevRemove { id: id(0), open: WhenOpen::Refuse };
    world.execute(remove).map(drop).map_err(|failure| format!("`{table}`: {failure}"))
}

#[test]
fn a_number_in_a_line_takes_no_memory_and_ends_nothing() {
    let pages = std::fs::read_to_string("/proc/self/statm").expect("what the process takes");
    let taken = pages.split(' ').next().and_then(|pages| pages.parse::<u64>().ok());
    let most = taken.expect("a number of pages") * 4096 + ROOM;
    let before = getrlimit(Resource::As);
    setrlimit(Resource::As, rustix::process::Rlimit { current: Some(most), ..before })
        .expect("a lower limit");
    each_seed("-p dmsim-targets --test sizes", 20000, |seed| {
        let mut rng = Rng::new(seed);
        let table = line(&mut rng, LINES[seed as usize % LINES.len()]);
        let run = std::panic::AssertUnwindSafe(|| use_it(seed, &table, &mut rng));
        std::panic::catch_unwind(run).unwrap_or_else(|_| Err(format!("`{table}` panics")))
    });
}
