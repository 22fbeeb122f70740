//! The command line of the verbs that show what goes on in a stack.

mod top;
mod trace;

use std::time::Duration;

use clap::{Args, value_parser};
use ops::size::parse_size;
use sim_core::{SECTOR_SIZE, Sector};

pub(crate) use top::TopArgs;
pub(crate) use trace::TraceArgs;

/// Tell where a sector lies, through all layers, or which devices show it
///
/// With the name of a device: in which image, at which sector and byte, each copy of the sector lies, and what parity
/// of it there is. With --image the other way round: which sectors of which devices lie at that sector of an image.
/// Nothing is read or written, and a suspended device answers, too: it is what the tables in use say at that moment.
/// What a target cannot say it says.
///
/// --json prints a tree of objects: name, major and minor, sector, role (what lies there), kind (`device` with
/// target_type, `image` with file and offset_bytes), notes (a list of texts), below and above (lists of such).
#[derive(Args, Clone, Debug)]
pub(crate) struct Where {
    /// NAME is an image, or a device that others map onto: tell what is above
    #[arg(long)]
    pub(crate) image: bool,
    /// The mapped device; with --image, the image's name, major:minor or path
    pub(crate) name: String,
    /// The sector, of 512 bytes, from 0; with a unit the place of a byte (4096b, 10M)
    #[arg(value_parser = parse_sector)]
    pub(crate) sector: Sector,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// Draw the stack: devices, what they map onto, images
///
/// Each device is drawn once, above what it maps onto; images are at the bottom. Arrows that are dashed and red are
/// made to fail on purpose; dashed boxes are suspended, and red images fail. What `tree` says as text.
#[derive(Args, Clone, Debug)]
pub(crate) struct GraphArgs {
    /// Write it in the language of graphviz's dot: what is done without an option
    #[arg(long, conflicts_with = "svg")]
    pub(crate) dot: bool,
    /// Draw it as SVG; takes no other program
    #[arg(long)]
    pub(crate) svg: bool,
}

/// Show what is read and written where, over a while
///
/// Counts for --for what the device is sent, area by area, by a region of its statistics, which is taken away at
/// the end; a signal ends it early, and what was counted so far is shown. Each sign is an area: nothing, up to a third of
/// what the busiest one was sent, up to two thirds, less than that, and the busiest.
///
/// --json prints an object: name, major and minor; took_ms; areas, a list of objects with start and len (sectors),
/// read_count, read_bytes, write_count and written_bytes.
#[derive(Args, Clone, Debug)]
pub(crate) struct HeatArgs {
    /// The mapped device
    pub(crate) name: String,
    /// How long: seconds, or with ms, s or m
    #[arg(long = "for", value_name = "TIME", default_value = "10s", value_parser = parse_time)]
    pub(crate) long: Duration,
    /// How many areas, at most
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = value_parser!(u32).range(1..=4096))]
    pub(crate) areas: u32,
    /// Draw it as SVG
    #[arg(long)]
    pub(crate) svg: bool,
    /// Print JSON
    #[arg(long, conflicts_with = "svg")]
    pub(crate) json: bool,
}

/// The longest time that may be waited: a day.
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

fn parse_time(text: &str) -> Result<Duration, String> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let ms = match unit {
        "ms" => 1,
        "" | "s" => 1000,
        "m" => 60_000,
        _ => return Err(format!("expected a number with ms, s or m, found `{text}`")),
    };
    let number: Option<u64> = number.parse().ok();
    let time = number.and_then(|number| number.checked_mul(ms)).map(Duration::from_millis);
    time.filter(|time| !time.is_zero() && *time <= LONGEST)
        .ok_or_else(|| format!("expected more than nothing and a day at most, found `{text}`"))
}

fn parse_sector(text: &str) -> Result<Sector, String> {
    let is_plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    match is_plain {
        true => {
            text.parse().map(Sector).map_err(|_| format!("expected less than 2^64, found `{text}`"))
        }
        false => parse_size(text).map(|bytes| Sector(bytes / SECTOR_SIZE)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_has_a_unit_and_an_end() {
        assert_eq!(parse_time("3"), Ok(Duration::from_secs(3)));
        assert_eq!(parse_time("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(parse_time("1440m"), Ok(LONGEST));
        for bad in ["", "0", "s", "-1", "1h", "1441m", "18446744073709551615m"] {
            parse_time(bad).expect_err(bad);
        }
    }

    #[test]
    fn a_sector_is_a_number_or_the_place_of_a_byte() {
        assert_eq!(parse_sector("0"), Ok(Sector(0)));
        assert_eq!(parse_sector("4096"), Ok(Sector(4096)));
        assert_eq!(parse_sector("4097b"), Ok(Sector(8)));
        assert_eq!(parse_sector("1M"), Ok(Sector(2048)));
        for bad in ["", "-1", "1.5", "x", "18446744073709551616"] {
            parse_sector(bad).expect_err(bad);
        }
    }
}
