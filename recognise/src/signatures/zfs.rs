//! Members of a ZFS pool: a list of names and values, in four labels.

use super::{Found, Window, text};
use crate::bytes::{be32, be64};

const LABEL: u64 = 256 << 10;

/// The list within a label.
const LIST: u64 = 16 << 10;
const LIST_LEN: usize = 112 << 10;

const NUMBER: u32 = 8;
const TEXT: u32 = 9;
const LIST_OF_ITS_OWN: u32 = 19;

#[derive(Default)]
struct Pool {
    name: Option<String>,
    guid: u64,
    pool_guid: u64,
    state: Option<u64>,
    txg: u64,
}

pub(super) fn zfs(window: &Window, _: u64) -> Option<Found> {
    let end = window.len() - window.len() % LABEL;
    for label in [0, LABEL, end.checked_sub(2 * LABEL)?, end - LABEL] {
        // A list in the encoding that goes between machines, the only one on disks.
        let begins = window.at(label + LIST, 12).is_some_and(|head| head[0] == 1 && head[1] <= 1);
        if !begins {
            continue;
        }
        let Some(pool) = window.at(label + LIST, LIST_LEN).and_then(|list| pool(&list)) else {
            continue;
        };
        let (cache, spare) = (Some(4), Some(3));
        let is_member = pool.guid != 0
            && pool.state.is_some_and(|state| state <= 7)
            && (pool.state == cache || pool.state == spare || pool.txg > 0);
        if is_member {
            let uuid = (pool.pool_guid != 0).then(|| pool.pool_guid.to_string());
            return Some(Found { label: pool.name, uuid, size: None });
        }
    }
    None
}

/// Walks through the pairs of a list: size, name and value each, of big words; the lists within are
/// passed over pair by pair, a pair of size zero ends one.
fn pool(list: &[u8]) -> Option<Pool> {
    let (mut pool, mut depth, mut at) = (Pool::default(), 0usize, 12);
    loop {
        let Some(pair) = list.get(at..).filter(|rest| rest.len() > 16) else { return Some(pool) };
        let size = be32(pair, 0) as usize;
        if size == 0 {
            if depth == 0 {
                return Some(pool);
            }
            depth -= 1;
            at += 8;
            continue;
        }
        let pair = pair.get(..size)?;
        let name_len = be32(pair.get(8..12)?, 0) as usize;
        let name = pair.get(12..)?.get(..name_len)?;
        let value =
            pair.get(12 + name_len.next_multiple_of(4)..).filter(|value| value.len() >= 8)?;
        let kind = be32(value, 0);
        if kind == LIST_OF_ITS_OWN {
            depth += 1;
            at += 12 + name_len.next_multiple_of(4) + 16;
            continue;
        }
        let number = || (kind == NUMBER && value.len() >= 16).then(|| be64(value, 8));
        match name {
            _ if depth != 0 => {}
            b"name" if kind == TEXT => {
                let len = be32(value.get(8..12)?, 0) as usize;
                pool.name = text::label(value.get(12..)?.get(..len)?);
            }
            b"guid" => pool.guid = number()?,
            b"pool_guid" => pool.pool_guid = number()?,
            b"state" => pool.state = Some(number()?),
            b"txg" => pool.txg = number()?,
            _ => {}
        }
        at += size;
    }
}
