//! Sizes as people write and read them.

/// Reads a size in bytes: a number, alone or with a unit. `K`, `M`, `G` and `T` (also `KiB` and
/// so on) are powers of 1024, `s` is a sector of 512 bytes.
pub fn parse_size(text: &str) -> Result<u64, String> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let unit = unit.trim().to_ascii_lowercase();
    let unit: u64 = match unit.strip_suffix("ib").unwrap_or(&unit) {
        "" | "b" => 1,
        "s" => 512,
        "k" => 1 << 10,
        "m" => 1 << 20,
        "g" => 1 << 30,
        "t" => 1 << 40,
        _ => return Err(format!("expected a number with K, M, G, T or s, found `{text}`")),
    };
    let number: u64 = number
        .parse()
        .map_err(|_| format!("expected a number with K, M, G, T or s, found `{text}`"))?;
    match number.checked_mul(unit).filter(|size| i64::try_from(*size).is_ok()) {
        Some(0) => Err("expected more than zero bytes".to_owned()),
        Some(size) => Ok(size),
        None => Err(format!("expected less than 8 EiB, found `{text}`")),
    }
}

/// Says a length in sectors in bytes, as JSON does.
pub(crate) fn in_bytes<S: serde::Serializer>(sectors: &u64, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_u64(sectors.saturating_mul(sim_core::SECTOR_SIZE))
}

/// As [`in_bytes`], of a length that may not be known.
pub(crate) fn in_bytes_if_known<S: serde::Serializer>(
    sectors: &Option<u64>,
    to: S,
) -> Result<S::Ok, S::Error> {
    match sectors {
        Some(sectors) => in_bytes(sectors, to),
        None => to.serialize_none(),
    }
}

/// Writes a size in the largest unit in which it is a number with no decimal, or a small one with
/// one; in sectors where there is none.
pub fn print_size(bytes: u64) -> String {
    for (unit, name) in [(40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")] {
        let tenths = (u128::from(bytes) * 10) >> unit;
        let is_short = tenths.is_multiple_of(10) || tenths < 10240;
        if tenths >= 10 && is_short && tenths << unit == u128::from(bytes) * 10 {
            return match tenths % 10 {
                0 => format!("{} {name}", tenths / 10),
                rest => format!("{}.{rest} {name}", tenths / 10),
            };
        }
    }
    match bytes % 512 {
        0 if bytes == 512 => "1 sector".to_owned(),
        0 => format!("{} sectors", bytes / 512),
        _ => format!("{bytes} bytes"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_with_and_without_a_unit() {
        for (text, size) in [
            ("1", 1),
            ("4s", 2048),
            ("1K", 1024),
            ("2MiB", 2 << 20),
            ("3g", 3 << 30),
            ("1 T", 1 << 40),
        ] {
            assert_eq!(parse_size(text), Ok(size), "{text}");
        }
        for bad in ["", "M", "0", "1.5G", "-1", "1X", "8388608T", "99999999999999999999"] {
            parse_size(bad).expect_err(bad);
        }
    }

    #[test]
    fn a_size_is_written_without_loss() {
        for (size, text) in [
            (2560, "2.5 KiB"),
            (512, "1 sector"),
            (1024, "1 KiB"),
            (1536, "1.5 KiB"),
            (64 << 20, "64 MiB"),
            ((64 << 20) + 512, "131073 sectors"),
            (1000, "1000 bytes"),
        ] {
            assert_eq!(print_size(size), text);
        }
    }
}
