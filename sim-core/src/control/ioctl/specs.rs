//! The targets in the payload of a load.

use super::header::{HEADER_LEN, text_at, u32_at, u64_at, until_nul};
use crate::{MAX_TARGETS, Params, Sector, Sectors, TargetSpec};

/// The length of `struct dm_target_spec`, which the parameters follow.
pub(super) const SPEC_LEN: usize = 40;

/// Where the type is in it.
pub(super) const TYPE_AT: usize = 24;

/// What every target spec is aligned to.
pub(super) const ALIGN: usize = 8;

/// What is wrong with the payload: the kernel's lines for it, none where it has none, as with too
/// many targets.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Broken {
    TooMany,
    Invalid(Vec<String>),
}

/// Reads `count` targets. `next` says how far each is from the one before; the first, how far it
/// is from the start of the buffer.
pub(super) fn read(bytes: &[u8], count: u32, data_start: u32) -> Result<Vec<TargetSpec>, Broken> {
    if count as usize > MAX_TARGETS {
        return Err(Broken::TooMany);
    }
    // No more of them can be there than there is room for, whatever the count says.
    let room = bytes.len() / (SPEC_LEN + ALIGN);
    let mut specs = Vec::with_capacity(room.min(count as usize));
    let (mut last, mut next, mut taken) = (0, data_start, HEADER_LEN);
    for index in 0..count {
        let distance = next as usize;
        if distance < taken {
            let what = if index == 0 { "'struct dm_ioctl'" } else { "previous target" };
            let why = format!("populate_table: next target spec (offset {next}) overlaps {what}");
            return Err(Broken::Invalid(vec![why]));
        }
        let lost = |why: String| Broken::Invalid(vec![why, "unable to find target".to_owned()]);
        // The spec, and the NUL that ends its parameters.
        if distance >= (bytes.len() - last).saturating_sub(SPEC_LEN) {
            return Err(lost("Target spec extends beyond end of parameters".to_owned()));
        }
        if !distance.is_multiple_of(ALIGN) {
            let why = format!("Next dm_target_spec (offset {next}) is not {ALIGN}-byte aligned");
            return Err(lost(why));
        }
        let at = last + distance;
        let unended = "populate_table: target parameters not NUL-terminated";
        let params = text_at(bytes, at + SPEC_LEN)
            .ok_or_else(|| Broken::Invalid(vec![unended.to_owned()]))?;
        let len = SPEC_LEN + params.len() + 1;
        let params = str::from_utf8(params).map_err(|_| {
            Broken::Invalid(vec!["populate_table: target parameters not UTF-8".to_owned()])
        })?;
        let number = |place| u64_at(bytes, at + place).expect("in the spec");
        specs.push(TargetSpec {
            start: Sector(number(0)),
            len: Sectors(number(8)),
            // One without a NUL goes on into the parameters, and is no type that there is.
            target_type: String::from_utf8_lossy(until_nul(&bytes[at + TYPE_AT..at + len]))
                .into_owned(),
            params: Params::from(params),
        });
        (last, taken) = (at, len);
        next = u32_at(bytes, at + 20).expect("in the spec");
    }
    Ok(specs)
}
