//! The parts of a name that LVM made: `VG-LV-LAYER`, with `-` within a part doubled.

/// The parts of a name.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Parts {
    pub(super) vg: String,
    pub(super) lv: String,
    pub(super) layer: String,
}

impl Parts {
    /// Takes a name apart. A dash at the end ends nothing.
    pub(super) fn of(name: &str) -> Parts {
        let mut parts = vec![String::new()];
        let mut chars = name.chars().peekable();
        while let Some(char) = chars.next() {
            // No more than three: the rest belongs to the layer.
            let is_last = parts.len() == 3;
            let part = parts.last_mut().expect("there is a part");
            if char != '-' {
                part.push(char);
            } else if chars.next_if_eq(&'-').is_some() || chars.peek().is_none() || is_last {
                part.push('-');
            } else {
                parts.push(String::new());
            }
        }
        let mut parts = parts.into_iter();
        let mut next = || parts.next().unwrap_or_default();
        Parts { vg: next(), lv: next(), layer: next() }
    }
}

/// The subsystem that a uuid names: what comes before its first dash.
pub(super) fn subsystem(uuid: &str) -> &str {
    uuid.split_once('-').map_or("", |(subsystem, _)| subsystem)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(name: &str) -> [String; 3] {
        let Parts { vg, lv, layer } = Parts::of(name);
        [vg, lv, layer]
    }

    #[test]
    fn single_dashes_separate_and_double_ones_stand_for_one() {
        assert_eq!(parts("vg-lv"), ["vg", "lv", ""]);
        assert_eq!(parts("a--b-c--d-e--f"), ["a-b", "c-d", "e-f"]);
        assert_eq!(parts("a--b"), ["a-b", "", ""]);
        assert_eq!(parts("-a"), ["", "a", ""]);
        assert_eq!(parts("a-"), ["a-", "", ""]);
    }

    #[test]
    fn a_uuid_begins_with_its_subsystem() {
        assert_eq!(subsystem("LVM-abc"), "LVM");
        assert_eq!(subsystem("CRYPT-LUKS2-abc-x"), "CRYPT");
        assert_eq!(subsystem("u 1"), "");
    }
}
