//! Histograms of how long bios took: their bounds, and how they are shown.

use super::size::time;

/// Reads `--bounds`: times, ascending, in nanoseconds unless a unit follows.
///
/// # Errors
/// What is wrong with it.
pub(super) fn parse(text: &str) -> Result<Vec<u64>, String> {
    let mut bounds = Vec::new();
    for word in text.split(',') {
        let digits = word.bytes().take_while(u8::is_ascii_digit).count();
        let bad = || {
            let found = word[digits..].chars().next().map(String::from).unwrap_or_default();
            format!("Invalid character in histogram: {found}")
        };
        let unit = match &word[digits..] {
            "" | "ns" => 1,
            "us" => 1000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            _ => return Err(bad()),
        };
        let number: u64 = word[..digits].parse().map_err(|_| bad())?;
        let bound = number.checked_mul(unit).ok_or_else(bad)?;
        if bounds.last().is_some_and(|last| *last >= bound) {
            let why = "Histogram boundaries must be in order of increasing magnitude.";
            return Err(why.to_owned());
        }
        bounds.push(bound);
    }
    Ok(bounds)
}

/// Returns the bound below each bin but the first, and that one's: `0s,10ms,20ms`.
pub(super) fn bounds(bounds: &[u64]) -> String {
    labels(bounds, false).join(",")
}

/// Returns from where to where each bin goes: `0s-10ms,10ms-20ms,>20ms`.
pub(super) fn ranges(bounds: &[u64]) -> String {
    labels(bounds, true).join(",")
}

fn labels(bounds: &[u64], ranges: bool) -> Vec<String> {
    if bounds.is_empty() {
        return Vec::new();
    }
    let below: Vec<u64> = [0].into_iter().chain(bounds.iter().copied()).collect();
    let label = |(at, below): (usize, &u64)| match (ranges, bounds.get(at)) {
        (false, _) => time(*below),
        (true, Some(above)) => format!("{}-{}", time(*below), time(*above)),
        (true, None) => format!(">{}", time(*below)),
    };
    below.iter().enumerate().map(label).collect()
}

/// How a histogram is shown.
#[derive(Clone, Copy)]
pub(super) enum Style {
    Plain,
    Bounds,
    Ranges,
}

/// Shows the counts of a histogram, or their shares in all.
pub(super) fn show(bins: &[u64], bounds: &[u64], style: Style, relative: bool) -> String {
    if bounds.is_empty() {
        return String::new();
    }
    let all: u64 = bins.iter().sum();
    let share = |bin: u64| if all == 0 { 0.0 } else { bin as f64 * 100.0 / all as f64 };
    let value = |bin: u64| match relative {
        true => format!("{:.2}%", share(bin)),
        false => bin.to_string(),
    };
    let width = if relative { 7 } else { 6 };
    let values = bins.iter().map(|bin| value(*bin));
    let labels = match style {
        Style::Plain => return values.map(|value| format!("{value:>width$}")).collect(),
        Style::Bounds => labels(bounds, false),
        Style::Ranges => labels(bounds, true),
    };
    let cell = |(label, value): (String, String)| {
        let label = format!("{label:>6}:");
        // A long label takes of the room before the number.
        let left = (7 + width).saturating_sub(label.len());
        format!("{label}{value:>left$}")
    };
    labels.into_iter().zip(values).map(cell).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    #[test]
    fn bounds_are_times_in_order() {
        assert_eq!(parse("10ms,20ms,1s"), Ok(vec![10 * MS, 20 * MS, 1000 * MS]));
        assert_eq!(parse("10,2us"), Ok(vec![10, 2000]));
        for (bad, why) in [("x", "x"), ("1.5ms", "."), ("1h", "h"), ("", "")] {
            assert_eq!(parse(bad), Err(format!("Invalid character in histogram: {why}")));
        }
        assert!(parse("20ms,10ms").is_err() && parse("1s,1000ms").is_err());
    }

    #[test]
    fn histograms_show_as_those_of_dmstats() {
        let (bounds, bins) = ([10 * MS, 20 * MS, 1000 * MS], [0, 1, 3, 0]);
        assert_eq!(super::bounds(&bounds), "0s,10ms,20ms,1s");
        assert_eq!(ranges(&bounds), "0s-10ms,10ms-20ms,20ms-1s,>1s");
        let show = |style, relative| show(&bins, &bounds, style, relative);
        assert_eq!(show(Style::Plain, false), "     0     1     3     0");
        assert_eq!(
            show(Style::Bounds, false),
            "    0s:     0,  10ms:     1,  20ms:     3,    1s:     0"
        );
        assert_eq!(
            show(Style::Ranges, false),
            "0s-10ms:    0,10ms-20ms:  1,20ms-1s:    3,   >1s:     0"
        );
        assert_eq!(
            show(Style::Bounds, true),
            "    0s:  0.00%,  10ms: 25.00%,  20ms: 75.00%,    1s:  0.00%"
        );
        assert_eq!(
            show(Style::Ranges, true),
            "0s-10ms: 0.00%,10ms-20ms:25.00%,20ms-1s:75.00%,   >1s:  0.00%"
        );
    }
}
