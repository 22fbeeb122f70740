//! Faults on demand, armed and taken away.

use std::sync::Arc;

use super::cell::Cell;
use super::command::{Answer, Failure, Id, Slot};
use super::{CommandResult, Control};
use crate::fault::{FaultPlace, Faults};
use crate::{DevNumber, Errno, Fails, FaultPlan, FaultReport, OpenDevice};

fn refused(errno: Errno, why: String) -> Failure {
    Failure { errno, table: None, why: Some(why) }
}

/// Lists where the tables of a device have a device below open.
fn opens_of(cell: &Cell, below: DevNumber) -> Result<Vec<Arc<OpenDevice>>, Failure> {
    let tables = cell.tables();
    let opens: Vec<_> = tables
        .flat_map(|table| {
            let here = table.devices().filter(|open| open.number() == below);
            here.cloned().collect::<Vec<_>>()
        })
        .collect();
    match opens.is_empty() {
        true => Err(refused(Errno::NXIO, format!("no table of it maps onto {below}"))),
        false => Ok(opens),
    }
}

impl Control {
    pub(super) async fn set_fails(&self, id: &Id, below: DevNumber, fails: Fails) -> CommandResult {
        let plan = FaultPlan::of_fails(fails);
        self.set_faults(id, Some(below), plan, true).await?;
        self.status(id, Slot::Live)
    }

    pub(super) async fn set_faults(
        &self,
        id: &Id,
        below: Option<DevNumber>,
        plan: Option<FaultPlan>,
        replaces: bool,
    ) -> CommandResult {
        let arm = |plan: Option<FaultPlan>, place: FaultPlace| {
            let armed = plan.map(|plan| Faults::new(plan, place, self.runtime.clone())).transpose();
            armed.map_err(|error| refused(Errno::INVAL, error.to_string()))
        };
        let is_free = |armed: bool| match armed && plan.is_some() && !replaces {
            true => Err(refused(Errno::BUSY, "has faults already".to_owned())),
            false => Ok(()),
        };
        let (device, new, old) = self.with(id, |cell| {
            let device = cell.device.clone();
            let Some(below) = below else {
                if device.live().is_none() && plan.is_some() {
                    return Err(refused(Errno::NXIO, "has no table in use".to_owned()));
                }
                is_free(device.faults().is_some())?;
                let new = arm(plan.clone(), FaultPlace::of(&*device))?;
                let old = device.swap_faults(new.clone());
                return Ok((device, new, old));
            };
            let opens = opens_of(cell, below)?;
            is_free(opens.iter().any(|open| open.has_faults()))?;
            let new = arm(plan.clone(), FaultPlace::of(&**opens[0].device()))?;
            // All have the same one.
            let mut old = None;
            for open in &opens {
                old = open.set_faults(new.clone()).or(old);
            }
            Ok((device, new, old))
        })?;
        device.fold_anew().await;
        let told = if plan.is_some() { new } else { old };
        Ok(Answer::Faults(told.iter().map(|faults| faults.report(below)).collect()))
    }

    pub(super) fn faults(&self, id: &Id) -> CommandResult {
        self.with(id, |cell| Ok(Answer::Faults(reports(cell))))
    }
}

fn reports(cell: &Cell) -> Vec<FaultReport> {
    let mut reports: Vec<FaultReport> = cell.device.fault_report().into_iter().collect();
    for table in cell.tables() {
        for open in table.devices() {
            let known = reports.iter().any(|known| known.below == Some(open.number()));
            let report =
                open.faults().filter(|_| !known).map(|faults| faults.report(Some(open.number())));
            reports.extend(report);
        }
    }
    reports
}
