//! Volume groups whose physical volumes were found.

use std::collections::BTreeSet;

use daemon::Fault;
use recognise::Layer;
use recognise::volumes::lvm1::{Member, assemble};
use recognise::volumes::lvm2::{PhysicalVolume, groups};
use recognise::volumes::{Group, Place, Plan, plan};
use sim_core::{Access, Sectors};

use super::super::{Made, make};
use super::look::Node;
use super::made::Work;
use super::record::Part;
use crate::words::new_name;

impl Work<'_> {
    /// Opens the groups whose volumes were found; tells whether there were any.
    pub(super) fn open_groups(&mut self) -> Result<bool, Fault> {
        let (volumes, nodes): (Vec<PhysicalVolume>, Vec<Node>) =
            std::mem::take(&mut self.volumes).into_iter().unzip();
        if volumes.is_empty() {
            return Ok(false);
        }
        let names: Vec<String> = nodes.iter().map(|node| node.about.clone()).collect();
        for (volume, name) in volumes.iter().zip(&names) {
            volume.warnings.iter().for_each(|what| self.keys.warn(&format!("{name}: {what}")));
        }
        let found = groups(&volumes, &names).map_err(|why| Fault::new("open", why))?;
        for (at, why) in found.alone {
            self.not_opened(&names[at], why);
        }
        for group in found.groups {
            group.warnings.iter().for_each(|what| self.keys.warn(what));
            let there: Vec<Option<&Node>> =
                group.there.iter().map(|at| at.map(|at| &nodes[at])).collect();
            self.open_group(&group.group, &there)?;
        }
        Ok(true)
    }

    /// Opens the groups of LVM1 whose volumes were found; tells whether there were any.
    pub(super) fn open_old_groups(&mut self) -> Result<bool, Fault> {
        let mut members = std::mem::take(&mut self.old_volumes);
        let found_any = !members.is_empty();
        while let Some((first, _)) = members.first() {
            let id = first.group_id.clone();
            let (of_it, rest): (Vec<_>, Vec<_>) =
                members.into_iter().partition(|(member, _)| member.group_id == id);
            members = rest;
            let (volumes, nodes): (Vec<Member>, Vec<Node>) = of_it.into_iter().unzip();
            if volumes[0].group.is_empty() {
                for node in &nodes {
                    let why = "is a physical volume of LVM1, and of no group".to_owned();
                    self.not_opened(&node.about, why);
                }
                continue;
            }
            let group = match assemble(&volumes) {
                Ok(group) => group,
                Err(error) => {
                    self.not_opened(&volumes[0].group, error.to_string());
                    continue;
                }
            };
            let place = |id: &str| volumes.iter().position(|member| member.id == id);
            let there: Vec<Option<&Node>> =
                group.physical.iter().map(|it| place(&it.id).map(|at| &nodes[at])).collect();
            self.open_group(&group, &there)?;
        }
        Ok(found_any)
    }

    /// Opens one group.
    pub(super) fn open_group(
        &mut self,
        group: &Group,
        there: &[Option<&Node>],
    ) -> Result<(), Fault> {
        let place = |node: &Node| Place { device: node.word.clone(), sectors: node.sectors.0 };
        let places: Vec<Option<Place>> = there.iter().map(|node| node.map(place)).collect();
        let nodes: Vec<&Node> = there.iter().flatten().copied().collect();
        let read_only = nodes.iter().any(|node| node.access.is_read_only());
        let Plan { layers, not_opened, warnings } = plan(group, &places, read_only);
        warnings.iter().for_each(|what| self.keys.warn(what));
        not_opened.into_iter().for_each(|it| self.not_opened(&it.name, it.why));
        if there.iter().any(Option::is_none) {
            let whole = match whole(&layers)[..] {
                [] => "none of its volumes is whole".to_owned(),
                ref names => format!("nothing is lost of {}", names.join(", ")),
            };
            self.warn(&format!("{}: {whole}", group.name));
        }
        let Some(first) = nodes.first() else { return Ok(()) };
        let mut below = Node::clone(first);
        below.depth = nodes.iter().map(|node| node.depth).max().unwrap_or(0);
        nodes.iter().for_each(|node| self.has_layers_above(node));
        let mut failed: BTreeSet<String> = BTreeSet::new();
        let mut parts = Vec::new();
        for layer in &layers {
            let Ok(name) = new_name("open", &layer.name) else { continue };
            match self.refuses_taken(&layer.name, &name)? {
                true => drop(failed.insert(layer.name.clone())),
                false => parts.push(Part { name, uuid: layer.uuid.clone() }),
            }
        }
        self.will_make(parts)?;
        for layer in layers {
            self.open_volume(&below, layer, &mut failed)?;
        }
        Ok(())
    }

    fn open_volume(
        &mut self,
        below: &Node,
        layer: Layer,
        failed: &mut BTreeSet<String>,
    ) -> Result<(), Fault> {
        if failed.contains(&layer.name) {
            return Ok(());
        }
        let lost = layer.lies_on().find(|name| failed.contains(*name)).map(str::to_owned);
        if let Some(part) = lost {
            let why = format!("lies on {part}, which could not be opened");
            self.not_opened(&layer.name, why);
            failed.insert(layer.name);
            return Ok(());
        }
        let mut read_only = layer.read_only;
        if let Some(snapshot) = layer.read_only_without.iter().find(|name| failed.contains(*name)) {
            let why = format!(
                "{}: is opened read-only: its snapshot {snapshot} could not be opened, and would not see \
                 what is written",
                layer.name
            );
            self.warn(&why);
            read_only = true;
        }
        let mut node = below.clone();
        if read_only {
            node.access = Access::ReadOnly;
        }
        let sectors = Sectors(layer.lines.iter().map(|line| line.len.0).sum());
        let name = match new_name("open", &layer.name) {
            Ok(name) => name,
            Err(fault) => {
                self.not_opened(&layer.name, fault.why);
                failed.insert(layer.name);
                return Ok(());
            }
        };
        let made = Made { name, uuid: layer.uuid, targets: layer.lines };
        if let Err(fault) = make(self.dm, &made, node.access) {
            self.not_opened(&layer.name, fault.why);
            failed.insert(layer.name);
            return Ok(());
        }
        // The group's volumes were noted as used already.
        node.device = None;
        let node = self.was_made(&node, &layer.name, made, sectors, !layer.shown)?;
        if layer.shown {
            self.push(node);
        }
        Ok(())
    }
}

/// Lists the volumes that lack nothing, of those that are there for people. Each comes after what it lies on.
fn whole(layers: &[Layer]) -> Vec<&str> {
    let mut broken = BTreeSet::new();
    let mut whole = Vec::new();
    for layer in layers {
        let lacks = layer.lines.iter().any(|line| line.target_type == "error");
        if lacks || layer.lies_on().any(|name| broken.contains(name)) {
            broken.insert(layer.name.as_str());
        } else if layer.shown {
            whole.push(layer.name.as_str());
        }
    }
    whole
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::one;

    #[test]
    fn a_volume_is_whole_that_lies_on_nothing_that_is_lost() {
        let layer = |name: &str, target_type: &str, params: &str, shown| Layer {
            name: name.to_owned(),
            uuid: String::new(),
            lines: one(Sectors(8), target_type, params),
            read_only: false,
            read_only_without: Vec::new(),
            shown,
        };
        let layers = [
            layer("g-lost", "error", "", true),
            layer("g-part", "linear", "/dev/sda 0", false),
            layer("g-whole", "linear", "/dev/mapper/g-part 0", true),
            layer("g-above", "linear", "/dev/mapper/g-lost 0", true),
        ];
        assert_eq!(whole(&layers), ["g-whole"]);
    }
}
