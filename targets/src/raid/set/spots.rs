//! Where the sectors of a set lie: told, with no I/O.

use sim_core::{DevNumber, Sector, Sectors, Spots};

use super::RaidSet;
use super::state::{Leg, State};
use crate::raid::layout::{Layout, Place, Role};

impl RaidSet {
    pub(super) fn spots(&self, at: Sector, out: &mut Spots) -> Option<Sectors> {
        let state = self.state();
        let (layout, end) = self.layout_at(&state, at);
        if at.0 >= layout.len().0 {
            out.say("past the last whole chunk of the legs: every read and write fails");
            return Some(Sectors(1));
        }
        let mut put = |place: Place, what: &str| self.put(&state, place, what, out);
        match layout {
            Layout::Raid0 { .. } => put(layout.places(at)[0], "data"),
            Layout::Raid1 { .. } => {
                layout.places(at).into_iter().for_each(|place| put(place, "copy"));
            }
            Layout::Raid10(_) => {
                for (copy, place) in layout.places(at).into_iter().enumerate() {
                    put(place, &format!("copy {copy}"));
                }
            }
            Layout::Parity(parity) => {
                let Place { leg, sector } = parity.place(at);
                let stripe = parity.stripe_at(sector);
                let sector = sector + parity.offset();
                put(Place { leg, sector }, "data");
                put(Place { leg: stripe.p(), sector }, "parity P");
                stripe.q().into_iter().for_each(|leg| put(Place { leg, sector }, "parity Q"));
            }
        }
        if state.moves.position.is_some() {
            let lies =
                if *layout == self.layout { "has moved already" } else { "has not moved yet" };
            out.say(format!("the set is being reshaped: this sector {lies}"));
        }
        Some(layout.run_end(at).min(end) - at)
    }

    /// The sectors of the set at that place of each leg on the device; where that is parity, those that it is
    /// made of.
    pub(super) fn shown_from(&self, below: DevNumber, sector: Sector) -> Vec<Sector> {
        let old = self.reshape.as_ref().map(|reshape| &reshape.moving.old);
        let mut shown = Vec::new();
        for layout in [&self.layout].into_iter().chain(old) {
            for (leg, devices) in self.legs.iter().enumerate().take(layout.legs()) {
                let here = devices.data.as_ref().and_then(|data| data.sector_of(below, sector));
                shown.extend(here.into_iter().flat_map(|at| at_place(layout, leg, at)));
            }
        }
        shown
    }

    /// Returns how a sector lies, and up to where others do so.
    fn layout_at(&self, state: &State, at: Sector) -> (&Layout, Sector) {
        match (&self.reshape, state.moves.position) {
            (Some(reshape), Some(position)) => reshape.moving.side(position, at),
            (Some(_), None) | (None, _) => (&self.layout, Sector(u64::MAX)),
        }
    }

    fn put(&self, state: &State, place: Place, what: &str, out: &mut Spots) {
        let leg = place.leg;
        let how = match state.legs.get(leg) {
            Some(Leg::InSync) | None => "",
            Some(Leg::Behind(_)) => ", which is being rebuilt",
            Some(Leg::Failed(_) | Leg::Broken) => ", which has failed",
            Some(Leg::Missing) => ", which is missing",
        };
        match &self.legs[leg].data {
            Some(data) => out.at(data, place.sector, format!("{what}, leg {leg}{how}")),
            None => out.say(format!("{what} would be on leg {leg}{how}")),
        }
    }
}

/// Returns the sectors of a set that lie at a place, or whose parity does.
fn at_place(layout: &Layout, leg: usize, sector: Sector) -> Vec<Sector> {
    let Layout::Parity(parity) = layout else {
        return layout.sector_at(Place { leg, sector }).into_iter().map(|(at, _)| at).collect();
    };
    let row = sector.0.checked_sub(parity.offset().0).map(Sector);
    let Some(row) = row.filter(|row| row.0 < parity.device_len().0) else { return Vec::new() };
    let stripe = parity.stripe_at(row);
    let on = |leg: usize| parity.sector_at(Place { leg, sector: row });
    match stripe.role_of(leg) {
        Role::Data(_) => on(leg).into_iter().collect(),
        Role::P | Role::Q => stripe.data().filter_map(on).collect(),
    }
}
