//! What a journal has when a set starts, written to the legs.

use std::collections::BTreeMap;
use std::sync::Arc;

use sim_core::{Bio, BlkError, BlkResult, Buffer, Sector};

use super::{APART, Log, RaidSet};
use crate::raid::journal::{BLOCK, Meta, Payload, checksum};
use crate::raid::layout::{Parity, Place};

/// What the log has of a row of pages: blocks of the journal.
#[derive(Default)]
struct Row {
    /// By leg.
    data: BTreeMap<usize, u64>,
    /// P, and Q.
    parity: Vec<u64>,
}

impl RaidSet {
    /// Writes to the legs what the journal has, and begins a new log.
    pub(in super::super) async fn replay(
        self: &Arc<Self>,
        log: &Arc<Log>,
        parity: &Parity,
    ) -> BlkResult {
        let (mut rows, mut block) = (BTreeMap::<Sector, Row>::new(), 0);
        let mut seq = None;
        while let Some(meta) = self.next_meta(log, block, seq).await? {
            if seq.is_some_and(|seq| meta.seq != seq.wrapping_add(1)) {
                // The kernel goes on behind a log that it has replayed, and begins with the old one
                // each time: what that has is older than the legs.
                rows.clear();
            }
            let mut page = block + 1;
            for payload in &meta.payloads {
                self.take_payload(log, parity, &mut rows, payload, page).await?;
                page += payload.pages();
            }
            (seq, block) = (Some(meta.seq), page);
        }
        let (whole, rest): (Vec<_>, Vec<_>) =
            rows.into_iter().partition(|(_, row)| !row.parity.is_empty());
        for (at, row) in whole {
            self.write_row(log, parity, at, row).await?;
        }
        // Without parity: it is computed from all data.
        for (row, Row { data, .. }) in rest {
            for (leg, block) in data {
                let place = Place { leg, sector: row };
                let at = parity.sector_at(place).ok_or(BlkError::Io)?;
                let page = log.read(block).await?;
                self.write_stripes(*parity, Bio::write(at, &page), None, None).await?;
            }
        }
        self.flush_legs().await?;
        let before = seq.unwrap_or_else(|| self.state().events.now() << 20);
        log.begin(before.wrapping_add(APART)).await?;
        log.state.lock().started = true;
        Ok(())
    }

    /// Reads a meta block with its pages; none where the log ends. Its number is the next one, or
    /// that of a log that was begun later.
    async fn next_meta(
        &self,
        log: &Log,
        block: u64,
        before: Option<u64>,
    ) -> Result<Option<Meta>, BlkError> {
        if block >= log.blocks {
            return Ok(None);
        }
        let Some(meta) = Meta::read(&log.read(block).await?, block) else { return Ok(None) };
        let by = before.map_or(1, |seq| meta.seq.wrapping_sub(seq));
        if !(1..=APART + 1).contains(&by) || meta.pages() >= log.blocks - block {
            return Ok(None);
        }
        let mut page = block;
        for payload in &meta.payloads {
            let checksums: &[u32] = match payload {
                Payload::Data { checksum, .. } => std::slice::from_ref(checksum),
                Payload::Parity { checksums, .. } => checksums,
                Payload::Flush { .. } => &[],
            };
            for expected in checksums {
                page += 1;
                if checksum(&log.read(page).await?) != *expected {
                    return Ok(None);
                }
            }
        }
        Ok(Some(meta))
    }

    /// Takes in what a meta block says of pages.
    async fn take_payload(
        self: &Arc<Self>,
        log: &Log,
        parity: &Parity,
        rows: &mut BTreeMap<Sector, Row>,
        payload: &Payload,
        page: u64,
    ) -> BlkResult {
        let in_set = |at: Sector, len: u64| at.0 < len && at.0.is_multiple_of(8);
        match payload {
            Payload::Data { at, .. } if in_set(*at, parity.len().0) => {
                let place = parity.place(*at);
                let row = rows.entry(place.sector).or_default();
                if !row.parity.is_empty() {
                    // What was logged with its parity before is older.
                    let older = std::mem::take(row);
                    self.write_row(log, parity, place.sector, older).await?;
                }
                rows.entry(place.sector).or_default().data.insert(place.leg, page);
            }
            Payload::Parity { row, checksums } if in_set(*row, parity.device_len().0) => {
                let pages = page..page + checksums.len() as u64;
                rows.entry(*row).or_default().parity = pages.collect();
            }
            Payload::Data { .. } | Payload::Parity { .. } => {}
            Payload::Flush { rows: flushed } => flushed.iter().for_each(|row| {
                rows.remove(row);
            }),
        }
        Ok(())
    }

    /// Writes data and parity of a row to the legs that are alive.
    async fn write_row(
        self: &Arc<Self>,
        log: &Log,
        parity: &Parity,
        at: Sector,
        row: Row,
    ) -> BlkResult {
        let stripe = parity.stripe_at(at);
        let mut failed = Vec::new();
        for (leg, block) in row.data.into_iter().chain(stripe.parities().zip(row.parity)) {
            if !self.state().legs[leg].is_alive() {
                continue;
            }
            let page: Buffer = log.read(block).await?;
            debug_assert_eq!(page.len(), BLOCK);
            if let Err(error) = self.data(leg).submit(at, Bio::write(at, &page)).await {
                failed.push((leg, error));
            }
        }
        self.lost(failed).await
    }
}
