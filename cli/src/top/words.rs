//! Numbers as people read them, in few columns.

use super::sample::Progress;

/// Writes how many there are a second: `0`, `3.5`, `950`, `12k`.
pub(crate) fn count(per_s: f64) -> String {
    scaled(per_s, 1000.0, &["", "k", "M", "G"])
}

/// Writes bytes a second: `0`, `3.5K`, `950M`.
pub(crate) fn bytes(per_s: f64) -> String {
    scaled(per_s, 1024.0, &["", "K", "M", "G", "T"])
}

fn scaled(number: f64, step: f64, units: &[&str]) -> String {
    let (mut number, mut units) = (number, units.iter());
    let mut unit = *units.next().unwrap_or(&"");
    while number >= 999.5
        && let Some(next) = units.next()
    {
        (number, unit) = (number / step, *next);
    }
    match number < 9.95 && number.fract() >= 0.05 {
        true => format!("{number:.1}{unit}"),
        false => format!("{number:.0}{unit}"),
    }
}

/// Writes a time: `850ns`, `12us`, `3.4ms`, `2.0s`.
pub(crate) fn time(ns: u64) -> String {
    let ns = ns as f64;
    match ns {
        _ if ns < 999.5 => format!("{ns:.0}ns"),
        _ if ns < 999_500.0 => short(ns / 1e3, "us"),
        _ if ns < 999_500_000.0 => short(ns / 1e6, "ms"),
        _ => short(ns / 1e9, "s"),
    }
}

fn short(number: f64, unit: &str) -> String {
    if number < 9.95 { format!("{number:.1}{unit}") } else { format!("{number:.0}{unit}") }
}

/// Writes what goes on in the background: `resync 31%`, `merge 12M left`.
pub(crate) fn progress(progress: &Progress) -> String {
    let Progress { what, done, total } = *progress;
    match total {
        Some(0) => what.to_owned(),
        Some(total) => format!("{what} {}%", u128::from(done) * 100 / u128::from(total)),
        None if done == 0 => what.to_owned(),
        None => format!("{what} {} left", bytes(done as f64 * 512.0)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_take_few_columns() {
        for (number, text) in [
            (0.0, "0"),
            (0.04, "0"),
            (3.5, "3.5"),
            (9.96, "10"),
            (999.4, "999"),
            (999.6, "1.0k"),
            (12_345.0, "12k"),
            (5e12, "5000G"),
        ] {
            assert_eq!(count(number), text, "{number}");
        }
        assert_eq!(
            (bytes(1536.0), bytes(1e9), bytes(0.0)),
            ("1.5K".into(), "954M".into(), "0".into())
        );
        for (ns, text) in
            [(850, "850ns"), (3400, "3.4us"), (12_000, "12us"), (2_000_000_000, "2.0s")]
        {
            assert_eq!(time(ns), text);
        }
        let merge = Progress { what: "merge", done: 2048, total: None };
        assert_eq!(progress(&merge), "merge 1M left");
        let none = Progress { what: "resync", done: 0, total: Some(0) };
        assert_eq!(progress(&none), "resync");
        assert_eq!(progress(&Progress { done: 5, total: Some(16), ..none }), "resync 31%");
    }
}
