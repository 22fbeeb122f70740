//! Which path the kernel takes, as plainly as it can be said.

/// The paths and groups of a multipath device.
#[derive(Clone, Debug)]
pub(crate) struct Model {
    pub(crate) groups: Vec<Group>,
    pub(crate) next: Option<usize>,
    pub(crate) current: Option<usize>,
}

#[derive(Clone, Debug)]
pub(crate) struct Group {
    pub(crate) kind: Kind,
    pub(crate) disabled: bool,
    /// In the order in which they are asked; those that failed too.
    pub(crate) paths: Vec<Path>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    RoundRobin,
    QueueLength,
    ServiceTime,
}

#[derive(Clone, Debug)]
pub(crate) struct Path {
    pub(crate) nr: usize,
    pub(crate) failed: bool,
    pub(crate) failures: u32,
    pub(crate) throughput: u64,
    /// The lengths of the bios in flight, in sectors.
    pub(crate) in_flight: Vec<u64>,
}

impl Model {
    /// Chooses a path for a bio of so many sectors.
    pub(crate) fn choose(&mut self, len: u64) -> Option<usize> {
        if self.groups.iter().all(|group| group.paths.iter().all(|path| path.failed)) {
            self.current = None;
            return None;
        }
        let mut order = Vec::new();
        order.extend(self.next.take());
        order.extend(self.current);
        order.extend((0..self.groups.len()).filter(|group| !self.groups[*group].disabled));
        order.extend((0..self.groups.len()).filter(|group| self.groups[*group].disabled));
        for nr in order {
            if let Some(path) = self.groups[nr].choose(len) {
                self.current = Some(nr);
                return Some(path);
            }
        }
        unreachable!("a path has not failed")
    }

    pub(crate) fn fail(&mut self, nr: usize) {
        for group in &mut self.groups {
            let Some(at) = group.paths.iter().position(|path| path.nr == nr) else { continue };
            if !group.paths[at].failed {
                group.paths[at].failed = true;
                group.paths[at].failures += 1;
            }
        }
    }

    pub(crate) fn reinstate(&mut self, nr: usize) {
        for group in &mut self.groups {
            let Some(at) = group.paths.iter().position(|path| path.nr == nr) else { continue };
            if group.paths[at].failed {
                let mut path = group.paths.remove(at);
                path.failed = false;
                match group.kind {
                    Kind::RoundRobin => group.paths.insert(0, path),
                    Kind::QueueLength | Kind::ServiceTime => group.paths.push(path),
                }
            }
        }
    }

    pub(crate) fn path(&mut self, nr: usize) -> &mut Path {
        let mut paths = self.groups.iter_mut().flat_map(|group| &mut group.paths);
        paths.find(|path| path.nr == nr).expect("a path")
    }
}

impl Group {
    fn choose(&mut self, len: u64) -> Option<usize> {
        let live = || self.paths.iter().filter(|path| !path.failed);
        let best = match self.kind {
            Kind::RoundRobin => live().next()?.nr,
            Kind::QueueLength => live().min_by_key(|path| path.in_flight.len())?.nr,
            Kind::ServiceTime => {
                let mut best = live().next()?;
                for path in live() {
                    if path.is_sooner(best, len) {
                        best = path;
                    }
                }
                best.nr
            }
        };
        let at = self.paths.iter().position(|path| path.nr == best)?;
        let path = self.paths.remove(at);
        self.paths.push(path);
        Some(best)
    }
}

impl Path {
    fn is_sooner(&self, other: &Path, len: u64) -> bool {
        let sum = |path: &Path| path.in_flight.iter().sum::<u64>();
        let (own, others) = (sum(self), sum(other));
        if self.throughput == other.throughput {
            return own < others;
        }
        if own == others || self.throughput == 0 || other.throughput == 0 {
            return self.throughput > other.throughput;
        }
        let (own, others) = ((own + len) * other.throughput, (others + len) * self.throughput);
        own < others || own == others && self.throughput > other.throughput
    }
}
