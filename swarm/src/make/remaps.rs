//! Lines of the targets that send each bio on to one place.

use super::{Line, Maker, Promises, Space};

/// A range that a target of a random length lies on, cut to blocks of what is below.
fn range(maker: &mut Maker<'_>, align: u64) -> (Space, u64) {
    let len = maker.length();
    let space = maker.space(len, align);
    let len = len - len % space.block.max(1);
    (space, len.max(16))
}

pub(super) fn linear(maker: &mut Maker<'_>) -> Option<Line> {
    let (space, len) = range(maker, 1);
    Some(Line::over(&space, len, format!("linear {}", space.text())))
}

pub(super) fn striped(maker: &mut Maker<'_>) -> Option<Line> {
    let legs = 1 + maker.rng.below(4);
    let chunk = maker.one(&[8, 8, 16, 4, 5, 3]);
    let rows = 1 + maker.rng.below(6) as u64;
    let spaces: Vec<Space> = (0..legs).map(|_| maker.space(chunk * rows, 8)).collect();
    if spaces.iter().any(|space| !chunk.is_multiple_of(space.block)) {
        return None;
    }
    let texts: Vec<String> = spaces.iter().map(Space::text).collect();
    let words = format!("striped {legs} {chunk} {}", texts.join(" "));
    Some(Line::over_all(&spaces, chunk * rows * legs as u64, words))
}

/// What a target without storage promises.
const NO_STORAGE: Promises = Promises { bytes: false, ..Promises::ALL };

pub(super) fn zero(maker: &mut Maker<'_>) -> Option<Line> {
    let len = maker.length();
    Some(Line { promises: NO_STORAGE, ..Line::over_all(&[], len, "zero".to_owned()) })
}

pub(super) fn error(maker: &mut Maker<'_>) -> Option<Line> {
    let len = maker.length();
    let promises = Promises { well: false, ..NO_STORAGE };
    Some(Line { promises, ..Line::over_all(&[], len, "error".to_owned()) })
}

pub(super) fn crypt(maker: &mut Maker<'_>) -> Option<Line> {
    let key = |maker: &mut Maker<'_>, bytes: usize| -> String {
        (0..bytes).map(|_| format!("{:02x}", maker.rng.number() & 0xff)).collect()
    };
    let (cipher, bytes) = maker.one(&[
        ("aes-xts-plain64", 64),
        ("aes-xts-plain64", 32),
        ("aes-cbc-essiv:sha256", 32),
        ("aes-cbc-plain", 16),
        ("aes-xts-plain64be", 64),
    ]);
    let key = key(maker, bytes);
    let sectors = maker.one(&[1u64, 1, 2, 4, 8]);
    let (space, len) = range(maker, 8);
    let block = sectors.max(space.block);
    let len = len - len % block;
    if len == 0 || !space.start.is_multiple_of(sectors) {
        return None;
    }
    let mut options: Vec<String> = Vec::new();
    if maker.chance(3) {
        options.push("allow_discards".to_owned());
    }
    for option in ["same_cpu_crypt", "submit_from_crypt_cpus", "no_read_workqueue"] {
        if maker.chance(6) {
            options.push(option.to_owned());
        }
    }
    if sectors > 1 {
        options.push(format!("sector_size:{}", sectors * 512));
        if maker.chance(2) {
            options.push("iv_large_sectors".to_owned());
        }
    }
    let offset = maker.rng.below(4) as u64 * 8;
    let options = match options.len() {
        0 => String::new(),
        count => format!(" {count} {}", options.join(" ")),
    };
    let words = format!("crypt {cipher} {key} {offset} {}{options}", space.text());
    Some(Line { block, ..Line::over(&space, len, words) })
}

pub(super) fn unstriped(maker: &mut Maker<'_>) -> Option<Line> {
    let (stripes, chunk) = (1 + maker.rng.below(3) as u64, maker.one(&[4u64, 8, 5]));
    let rows = 1 + maker.rng.below(5) as u64;
    let stripe = maker.rng.below(stripes as usize);
    let space = maker.space(chunk * rows * stripes, 8);
    if !chunk.is_multiple_of(space.block) {
        return None;
    }
    let words = format!("unstriped {stripes} {chunk} {stripe} {}", space.text());
    let line = Line::over(&space, chunk * rows, words);
    // No flush is passed on, as the kernel has it.
    Some(Line { promises: Promises { durable: false, faults: false, ..line.promises }, ..line })
}

pub(super) fn switch(maker: &mut Maker<'_>) -> Option<Line> {
    let (space, len) = range(maker, 8);
    let region = maker.one(&[8, 5, 16]);
    if !u64::is_multiple_of(region, space.block) {
        return None;
    }
    let paths = 1 + maker.rng.below(3);
    let texts = vec![space.text(); paths];
    let words = format!("switch {paths} {region} 0 {}", texts.join(" "));
    let line = Line::over(&space, len, words);
    let messages = (0..3).map(|_| {
        let path = maker.rng.below(paths);
        format!("set_region_mappings {:x}:{path:x}", maker.rng.below(len.div_ceil(region) as usize))
    });
    let messages = messages.collect();
    let promises = Promises { durable: false, faults: false, ..line.promises };
    Some(Line { messages, promises, ..line })
}

pub(super) fn delay(maker: &mut Maker<'_>) -> Option<Line> {
    let (space, len) = range(maker, 1);
    let ms = |maker: &mut Maker<'_>| maker.one(&[0u32, 1, 5, 300]);
    let place = space.text();
    let mut words = format!("delay {place} {}", ms(maker));
    let classes = maker.rng.below(3);
    for _ in 0..classes {
        words += &format!(" {place} {}", ms(maker));
    }
    Some(Line::over(&space, len, words))
}

pub(super) fn flakey(maker: &mut Maker<'_>) -> Option<Line> {
    let (space, len) = range(maker, 1);
    let (up, down) = maker.one(&[(3600, 0), (1, 1), (2, 1), (1, 3)]);
    let more =
        if down > 0 { maker.one(&["", "", " 1 error_writes", " 1 error_reads"]) } else { "" };
    let line = Line::over(&space, len, format!("flakey {} {up} {down}{more}", space.text()));
    let broken = Promises { well: false, ..line.promises };
    let promises = if down == 0 { line.promises } else { broken };
    Some(Line { promises, ..line })
}

pub(super) fn dust(maker: &mut Maker<'_>) -> Option<Line> {
    let (space, len) = range(maker, 8);
    let block = maker.one(&[512u64, 1024, 4096]).max(space.block * 512);
    let blocks = (len * 512 / block).max(1) as usize;
    let line = Line::over(&space, len, format!("dust {} {block}", space.text()));
    let mut messages = Vec::new();
    if maker.chance(2) {
        let at = |maker: &mut Maker<'_>| maker.rng.below(blocks);
        messages.push(format!("addbadblock {}", at(maker)));
        messages.push(format!("addbadblock {} {}", at(maker), maker.one(&[1, 2, 9])));
        messages.push(format!("removebadblock {}", at(maker)));
        messages.push(format!("queryblock {}", at(maker)));
        messages
            .extend(["enable", "disable", "clearbadblocks", "listbadblocks"].map(str::to_owned));
    }
    let broken = Promises { well: false, ..line.promises };
    let promises = if messages.is_empty() { line.promises } else { broken };
    Some(Line { promises, messages, ..line })
}

pub(super) fn ebs(maker: &mut Maker<'_>) -> Option<Line> {
    let (space, len) = range(maker, 8);
    let (emulated, underlying) = maker.one(&[(1u64, 8u64), (2, 4), (8, 1), (1, 2), (4, 8)]);
    if underlying < space.block || !space.start.is_multiple_of(emulated.max(underlying)) {
        return None;
    }
    let words = format!("ebs {} {emulated} {underlying}", space.text());
    let len = len - len % emulated.max(underlying);
    let line = Line::over(&space, len, words);
    // A block that is written in part is read and written whole: where one below is longer than those
    // that are shown, it may be torn with what it has of others.
    let whole = emulated >= space.block;
    let Promises { durable, faults, faults_and_cut, .. } = line.promises;
    let promises = Promises {
        durable: durable && whole,
        faults: faults && whole,
        faults_and_cut: faults_and_cut && whole,
        ..line.promises
    };
    Some(Line { block: emulated, promises, ..line })
}

pub(super) fn multipath(maker: &mut Maker<'_>) -> Option<Line> {
    let len = maker.length();
    let space = maker.whole(len);
    // Paths are whole devices; the target is as long as it likes, from the device's start.
    let len = len - len % space.block.max(1);
    let device = space.below.number();
    let mut groups = String::new();
    let count = 1 + maker.rng.below(2);
    for _ in 0..count {
        let paths = 1 + maker.rng.below(2);
        let (selector, arguments) = maker.one(&[
            ("round-robin", ""),
            ("queue-length", ""),
            ("service-time", ""),
            ("historical-service-time", ""),
        ]);
        groups += &format!(" {selector} 0 {paths} 0");
        groups += &format!(" {device}{arguments}").repeat(paths);
    }
    let words = format!("multipath 2 queue_mode bio 0 {count} 1{groups}");
    let line = Line::over(&space, len, words);
    let mut messages = vec!["enable_group 1".to_owned(), format!("switch_group {count}")];
    messages.push(format!("disable_group {count}"));
    messages.push(format!("reinstate_path {device}"));
    let fails = maker.chance(3);
    if fails {
        messages.push(format!("fail_path {device}"));
    }
    // A path that has failed stays so until somebody reinstates it.
    let promises = Promises { well: line.promises.well && !fails, ..line.promises };
    Some(Line { promises, messages, alone: true, ..line })
}
