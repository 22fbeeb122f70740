//! `side-by-side --mirrors`: mirrors of two and of three legs, beside a linear device over one of
//! them, and beside a quorum of QEMU over the same images.
//!
//! All legs are in sync, and the log is in memory: a quorum has none. It reads its first child,
//! and a write of it is well where one child has it, as one of a mirror is without `handle_errors`.

use std::path::Path;

use crate::peers::{Content, Peer};
use crate::{Entrant, Options, fill, measure};

/// Measures all rows, with quorums where there is a QEMU.
pub(crate) fn run(
    options: &Options,
    dir: &Path,
    image: &Path,
    peers: &[Peer],
) -> Result<(), String> {
    let others = [dir.join("leg1"), dir.join("leg2")];
    others.iter().try_for_each(|other| fill(other, options.size))?;
    let two = Content::Mirror { others: others[..1].to_vec() };
    let three = Content::Mirror { others: others.to_vec() };
    let dmsim = &peers[0];
    let mut entrants = vec![
        Entrant { name: "one leg", peer: dmsim, content: &Content::Raw },
        Entrant { name: "2 legs", peer: dmsim, content: &two },
        Entrant { name: "3 legs", peer: dmsim, content: &three },
    ];
    let mut ratios = vec![(1, 0), (2, 0)];
    if let Some(qemu) = peers.iter().find(|peer| matches!(peer, Peer::QemuStorageDaemon)) {
        entrants.push(Entrant { name: "quorum of 2", peer: qemu, content: &two });
        entrants.push(Entrant { name: "quorum of 3", peer: qemu, content: &three });
        ratios.extend([(1, 3), (2, 4)]);
    }
    measure(options, dir, image, &entrants, &ratios)
}
