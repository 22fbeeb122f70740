//! The command line of the verbs that show what goes on in a stack.

use clap::Args;
use ops::size::parse_size;
use sim_core::{SECTOR_SIZE, Sector};

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
