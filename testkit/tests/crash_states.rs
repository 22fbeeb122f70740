//! The states that power cuts leave: that there are all of them, and none that cannot be.

use std::collections::BTreeSet;
use std::sync::Arc;

use sim_core::{Bio, BlockDevice, Sector, Sectors};
use testkit::{Event, Explorer, Journal, Legal, Plan, Sim, SimDisk};

const PLAN: Plan = Plan { listed: 100, random: 50, seed: 1 };

struct Rig {
    sim: Sim,
    disks: Vec<Arc<SimDisk>>,
    journal: Arc<Journal>,
    begin: usize,
}

fn rig() -> Rig {
    let sim = Sim::new(1);
    let disk = SimDisk::new(sim.handle(), 0, Sectors(4));
    let journal = Arc::new(Journal::default());
    let begin = disk.checkpoint();
    disk.record(journal.clone());
    Rig { sim, disks: vec![disk], journal, begin }
}

impl Rig {
    fn submit(&self, bio: Bio<'_>) {
        self.sim.block_on(self.disks[0].submit(bio)).expect("the disk is healthy");
    }

    fn write(&self, sector: u64, bytes: &[u8]) {
        let data: Vec<u8> = bytes.iter().flat_map(|byte| [*byte; 512]).collect();
        self.submit(Bio::write(Sector(sector), &data));
    }

    /// Returns the first bytes of the sectors after each power cut at or after the line `from`.
    fn states(&self, from: usize) -> BTreeSet<Vec<u8>> {
        let record = self.journal.take();
        self.disks[0].rewind(self.begin);
        let mut states = BTreeSet::new();
        let mut legal = Legal::new(&[]);
        let explorer = Explorer::new(&self.disks, &record);
        let found = explorer.run(PLAN, &mut legal, |crash, _| {
            if crash.at >= from {
                states.insert(self.disks[0].content().chunks(512).map(|s| s[0]).collect());
            }
            Ok(())
        });
        assert!(found.expect("nothing is checked") > 0);
        assert_eq!(self.disks[0].content(), vec![0; 2048], "all is undone");
        states
    }
}

fn set<const N: usize>(states: [[u8; 4]; N]) -> BTreeSet<Vec<u8>> {
    states.into_iter().map(Vec::from).collect()
}

#[test]
fn every_mixture_of_what_is_not_durable_is_made() {
    let rig = rig();
    rig.write(0, &[1, 2]);
    rig.write(1, &[3]);
    let all = set([[0; 4], [1, 0, 0, 0], [0, 2, 0, 0], [1, 2, 0, 0], [0, 3, 0, 0], [1, 3, 0, 0]]);
    assert_eq!(rig.states(2), all);
}

#[test]
fn what_was_flushed_stays() {
    let rig = rig();
    rig.write(0, &[1]);
    rig.submit(Bio::flush());
    rig.write(0, &[2]);
    rig.write(1, &[3]);
    assert_eq!(rig.states(4), set([[1, 0, 0, 0], [2, 0, 0, 0], [1, 3, 0, 0], [2, 3, 0, 0]]));
}

#[test]
fn a_write_under_way_may_be_torn_though_it_is_durable_when_it_ends() {
    let rig = rig();
    rig.submit(Bio::write(Sector(0), &[7; 1024]).with_fua());
    assert_eq!(rig.states(0), set([[0; 4], [7, 0, 0, 0], [0, 7, 0, 0], [7, 7, 0, 0]]));
    rig.submit(Bio::write(Sector(0), &[7; 1024]).with_fua());
    assert_eq!(rig.states(1), set([[7, 7, 0, 0]]));
}

#[test]
fn a_lost_flush_leaves_a_state_that_is_not_legal() {
    for flushes in [true, false] {
        let rig = rig();
        let event = |event| rig.journal.push(testkit::Entry::Event { device: 0, event });
        let data = Some([1; 512][..].into());
        event(Event::Write { id: 1, sector: 0, len: 1, data });
        rig.write(0, &[1]);
        event(Event::End { id: 1, ok: true, fua: false });
        event(Event::Flush { id: 2 });
        if flushes {
            rig.submit(Bio::flush());
        }
        event(Event::End { id: 2, ok: true, fua: false });
        let record = rig.journal.take();
        rig.disks[0].rewind(rig.begin);
        let mut legal = Legal::new(&[0; 2048]);
        let result = Explorer::new(&rig.disks, &record).run(PLAN, &mut legal, |_, legal| {
            let bytes = rig.disks[0].sector(Sector(0));
            if legal.after_power_cut(0, &bytes) { Ok(()) } else { Err(legal.explain(0, &bytes)) }
        });
        match flushes {
            true => assert!(result.is_ok(), "{result:?}"),
            false => {
                let want = "power cut after 5 steps, with the first 0 volatile writes: \
                            sector 0 has the first content, of: the first content, bio 1 (durable)";
                assert_eq!(result.unwrap_err(), want);
            }
        }
    }
}
