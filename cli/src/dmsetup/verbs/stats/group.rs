//! `stats group`, `stats ungroup`: regions that are reported as one.

use super::super::devices::Device;
use super::region::{Group, Regions, parse_list};
use super::{regions, send};
use crate::dmsetup::dm::Called;
use crate::dmsetup::session::{Done, Session, Task};

/// `stats group --regions LIST [--alias NAME] DEVICE`.
pub(super) fn group(session: &mut Session<'_, '_>, device: &Device) -> Done {
    let Some(list) = session.options.statistics.regions.clone() else {
        return session.fail("Group requires --regions.");
    };
    let name = device.shown_or_named(session)?;
    let made = match parse_list(&list) {
        Some(members) => make(session, &device.task, members),
        None => session.fail(&format!("Could not parse list: '{list}'")),
    };
    let id = match made {
        Ok(id) => id,
        Err(stop) => {
            session.complain(&format!("Could not create group on {name}: {list}"));
            return Err(stop);
        }
    };
    session.print(format_args!("Grouped regions {list} as group ID {id} on {name}\n"))
}

/// Makes a group of some regions, and returns its number.
pub(super) fn make(session: &mut Session<'_, '_>, task: &Task, members: Vec<u32>) -> Done<u32> {
    let regions = regions(session, task)?;
    if let Some(id) = members.iter().find(|id| regions.get(**id).is_none()) {
        return session.fail(&format!("Invalid region ID: {id}"));
    }
    for id in &members {
        if let Some(group) = regions.group_of(*id) {
            let text = format!("Region ID {id} already a member of group ID {group}");
            return session.fail(&text);
        }
    }
    let alias = session.options.statistics.alias.clone();
    let id = *members.first().expect("a list has a number at least");
    keep(session, task, &regions, id, Some(&Group { alias, members }))?;
    Ok(id)
}

/// `stats ungroup --groupid ID DEVICE`.
pub(super) fn ungroup(session: &mut Session<'_, '_>, device: &Device) -> Done {
    let Some(id) = session.options.statistics.group_id else {
        return session.fail("Please specify group id.");
    };
    let name = device.shown_or_named(session)?;
    let removed = format!("Removed group ID {id} on {name}\n");
    let as_dmstats = session.called != Called::Dmsim;
    if as_dmstats {
        // It says so before it tries.
        session.print(&removed)?;
    }
    let regions = regions(session, &device.task)?;
    if let Err(stop) = known(session, &regions, id) {
        session.complain(&format!("Could not delete group {id} on {name}."));
        return Err(stop);
    }
    keep(session, &device.task, &regions, id, None)?;
    if as_dmstats { Ok(()) } else { session.print(&removed) }
}

/// `stats delete --groupid ID DEVICE`: with all its regions.
pub(super) fn delete(session: &mut Session<'_, '_>, device: &Device) -> Done {
    let id = session.options.statistics.group_id.expect("whoever calls has one");
    let regions = regions(session, &device.task)?;
    let group = match known(session, &regions, id) {
        Ok(group) => group,
        Err(stop) => {
            session.complain("Could not delete statistics group.");
            return Err(stop);
        }
    };
    // The one that keeps the group goes last: what is left after a failure is a group yet.
    for member in regions.members(&group).iter().rev() {
        send(session, &device.task, &format!("@stats_delete {}", member.id))?;
    }
    Ok(())
}

fn known(session: &mut Session<'_, '_>, regions: &Regions, id: u32) -> Done<Group> {
    match (regions.get(id), regions.group(id)) {
        (_, Some(group)) => Ok(group.clone()),
        (Some(_), None) => session.fail(&format!("Group ID {id} does not exist")),
        (None, None) => session.fail(&format!("Invalid group ID: {id}")),
    }
}

/// Takes a region that is about to go out of its group.
pub(super) fn leave(
    session: &mut Session<'_, '_>,
    task: &Task,
    regions: &mut Regions,
    id: u32,
) -> Done {
    // With the one that keeps it the group goes by itself.
    let Some(leader) = regions.group_of(id).filter(|leader| *leader != id) else { return Ok(()) };
    let Some(mut group) = regions.group(leader).cloned() else { return Ok(()) };
    group.members.retain(|member| *member != id);
    keep(session, task, regions, leader, Some(&group))
}

/// Has a region keep a group, or none.
fn keep(
    session: &mut Session<'_, '_>,
    task: &Task,
    regions: &Regions,
    id: u32,
    group: Option<&Group>,
) -> Done {
    let region = regions.get(id).expect("the region was looked up");
    // The kernel takes one word.
    let text = region.kept(group).replace('\\', "\\\\").replace(' ', "\\ ");
    send(session, task, &format!("@stats_set_aux {id} {text}")).map(drop)
}
