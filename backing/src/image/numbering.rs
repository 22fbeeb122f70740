//! Which `major:minor` a device's name stands for: the numbers of Linux
//! (`Documentation/admin-guide/devices.txt`).

use sim_core::{DevNumber, LOOP_MAJOR, MAX_MINORS};

/// The major number that virtio disks are given on a running Linux.
const VIRTIO_MAJOR: u32 = 254;

/// Minor numbers of a disk and its partitions.
const MINORS_PER_DISK: u32 = 16;

/// Returns the number that `/dev/loopN`, `/dev/sdX`, `/dev/sdXn`, `/dev/vdX` or `/dev/vdXn` has
/// on Linux; `None` for every other name, and for numbers that Linux gives out as it needs them
/// (partitions past the 15th).
pub(crate) fn number_of(name: &str) -> Option<DevNumber> {
    let name = name.strip_prefix("/dev/")?;
    if let Some(digits) = name.strip_prefix("loop") {
        let minor = plain_number(digits)?;
        return (minor < MAX_MINORS).then_some(DevNumber { major: LOOP_MAJOR, minor });
    }
    let split = name.find(|c: char| c.is_ascii_digit()).unwrap_or(name.len());
    let (disk, digits) = name.split_at(split);
    let partition = if digits.is_empty() { 0 } else { partition(digits)? };
    let (major, minor) = if let Some(letters) = disk.strip_prefix("sd") {
        scsi(disk_index(letters)?)?
    } else {
        let index = disk_index(disk.strip_prefix("vd")?)?;
        (VIRTIO_MAJOR, index.checked_mul(MINORS_PER_DISK)?)
    };
    (minor < MAX_MINORS).then_some(DevNumber { major, minor: minor + partition })
}

/// Returns what kernel messages call the device: the last part of a name that stands for a
/// number, else `loopN`.
pub(crate) fn kernel_name(name: Option<&str>, number: DevNumber) -> String {
    let own = name.filter(|name| number_of(name) == Some(number));
    match own.and_then(|name| name.strip_prefix("/dev/")) {
        Some(name) => name.to_owned(),
        None if number.major == LOOP_MAJOR => format!("loop{}", number.minor),
        None => number.to_string(),
    }
}

/// The kernel's `sd_major` and `make_sd_dev`: sixteen disks to a major, then round again with
/// higher minors.
fn scsi(index: u32) -> Option<(u32, u32)> {
    let major = match (index & 0xf0) >> 4 {
        0 => 8,
        n @ 1..=7 => 65 + n - 1,
        n => 128 + n - 8,
    };
    let minor = ((index & 0xf) << 4) | (index & 0xf_ff00);
    (index < MAX_MINORS).then_some((major, minor))
}

/// `a` is 0, `z` is 25, `aa` is 26.
fn disk_index(letters: &str) -> Option<u32> {
    let mut index: Option<u32> = None;
    for letter in letters.bytes() {
        let digit = letter.is_ascii_lowercase().then(|| u32::from(letter - b'a'))?;
        index = Some(match index {
            None => digit,
            Some(index) => index.checked_add(1)?.checked_mul(26)?.checked_add(digit)?,
        });
    }
    index
}

fn partition(digits: &str) -> Option<u32> {
    plain_number(digits).filter(|n| (1..MINORS_PER_DISK).contains(n))
}

/// Reads a number the way names have it: no sign, no leading zero.
fn plain_number(digits: &str) -> Option<u32> {
    let plain = digits.bytes().all(|b| b.is_ascii_digit());
    let padded = digits.len() > 1 && digits.starts_with('0');
    (plain && !padded).then(|| digits.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_the_numbers_of_linux() {
        let table = [
            ("/dev/loop0", "7:0"),
            ("/dev/loop17", "7:17"),
            ("/dev/sda", "8:0"),
            ("/dev/sdb", "8:16"),
            ("/dev/sda1", "8:1"),
            ("/dev/sdp15", "8:255"),
            ("/dev/sdq", "65:0"),
            ("/dev/sdz", "65:144"),
            ("/dev/sdaa", "65:160"),
            ("/dev/sdab3", "65:179"),
            ("/dev/sddx", "71:240"),
            ("/dev/sddy", "128:0"),
            ("/dev/sdiv", "135:240"),
            ("/dev/sdiw", "8:256"),
            ("/dev/sdaaa", "131:736"),
            ("/dev/vda", "254:0"),
            ("/dev/vdb", "254:16"),
            ("/dev/vdb2", "254:18"),
        ];
        for (name, number) in table {
            assert_eq!(number_of(name).map(|n| n.to_string()).as_deref(), Some(number), "{name}");
        }
    }

    #[test]
    fn other_names_have_no_number_of_their_own() {
        for name in [
            "/dev/sd",
            "/dev/sd1",
            "sda",
            "/dev/sda0",
            "/dev/sda01",
            "/dev/sda16",
            "/dev/sdA",
            "/dev/sda1b",
            "/dev/loop",
            "/dev/loop00",
            "/dev/loop-1",
            "/dev/loop1048576",
            "/dev/loop0p1",
            "/dev/nvme0n1",
            "/dev/vdzzzzzzzzz",
            "/dev/sdzzzzzzzzz",
            "disk.img",
            "",
        ] {
            assert_eq!(number_of(name), None, "{name}");
        }
    }

    #[test]
    fn a_device_is_called_by_the_last_part_of_its_name_or_by_its_loop_number() {
        let number = |major, minor| DevNumber { major, minor };
        assert_eq!(kernel_name(Some("/dev/sdb"), number(8, 16)), "sdb");
        assert_eq!(kernel_name(Some("data"), number(7, 3)), "loop3");
        assert_eq!(kernel_name(None, number(7, 0)), "loop0");
        // Restored under another number than its name stands for.
        assert_eq!(kernel_name(Some("/dev/sdb"), number(7, 1)), "loop1");
    }
}
