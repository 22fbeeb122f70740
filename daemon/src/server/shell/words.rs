//! Words of tables and messages that mean devices.

/// Puts other words in the place of those for which `other` has one; nothing where it has none at all.
/// Words are what spaces separate, as the kernel's texts have them.
pub(super) fn replaced(
    text: &str,
    mut other: impl FnMut(&str) -> Option<String>,
) -> Option<String> {
    let mut replaced = String::new();
    // How much of the text is in `replaced`, as it is or otherwise.
    let mut done = 0;
    let mut at = 0;
    for word in text.split(' ') {
        if let Some(other) = may_mean_device(word).then(|| other(word)).flatten() {
            replaced.push_str(&text[done..at]);
            replaced.push_str(&other);
            done = at + word.len();
        }
        at += word.len() + 1;
    }
    (done > 0).then(|| replaced + &text[done..])
}

/// As [`replaced`], of a measurement: `name=value`, with commas between and a semicolon behind.
pub(super) fn replaced_values(
    text: &str,
    mut other: impl FnMut(&str) -> Option<String>,
) -> Option<String> {
    let mut is_another = false;
    let mut pair = |pair: &str| {
        let (name, value) = pair.split_once('=')?;
        let other = may_mean_device(value).then(|| other(value)).flatten()?;
        is_another = true;
        Some(format!("{name}={other}"))
    };
    let pairs = text.strip_suffix(';')?.split(',');
    let pairs: Vec<String> = pairs.map(|own| pair(own).unwrap_or_else(|| own.to_owned())).collect();
    is_another.then(|| pairs.join(",") + ";")
}

/// Tells whether a word is a path or `major:minor`.
fn may_mean_device(word: &str) -> bool {
    word.starts_with('/')
        || word.split_once(':').is_some_and(|(major, minor)| is_number(major) && is_number(minor))
}

fn is_number(word: &str) -> bool {
    !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_replaced_and_nothing_else_is() {
        let other = |word: &str| match word {
            "259:1" => Some("253:7".to_owned()),
            "/dev/x" => Some("253:8".to_owned()),
            _ => None,
        };
        for (text, expected) in [
            ("259:1 0", Some("253:7 0")),
            ("core 1 1024 2 259:1 0 /dev/x 8", Some("core 1 1024 2 253:7 0 253:8 8")),
            ("aes :64:logon:259:1 0 259:1 0", Some("aes :64:logon:259:1 0 253:7 0")),
            ("259:10 1259:1 /dev/xy -", None),
            ("  259:1", Some("  253:7")),
            ("", None),
        ] {
            assert_eq!(replaced(text, other).as_deref(), expected, "{text}");
        }
        for (text, expected) in [
            (
                "target_name=x,device_name=259:1,start=0;",
                Some("target_name=x,device_name=253:7,start=0;"),
            ),
            ("a=259:1,b=/dev/x;", Some("a=253:7,b=253:8;")),
            ("target_name=x,device_name=259:10,start=259;", None),
            ("a=259:1", None),
            ("", None),
        ] {
            assert_eq!(replaced_values(text, other).as_deref(), expected, "{text}");
        }
    }
}
