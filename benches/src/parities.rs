//! The parity of RAID-5 and RAID-6 by us and by ISA-L.

use parity::{Backend, Parity};

use crate::isal::Isal;

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// P and Q of all data.
    Pq,
    /// P of all data.
    P,
    /// The first two data blocks, from the others, P and Q.
    Recover,
}

/// An implementation.
pub struct Maker {
    /// Says which one.
    pub name: String,
    kind: Kind,
}

enum Kind {
    Ours(Parity),
    Isal { library: Isal, pq: &'static str, xor: &'static str },
}

impl Maker {
    /// Lists all of them: ISA-L as it chooses, its kernels for narrower registers, and each
    /// backend of ours, the fastest last. ISA-L is left out, with a word on standard error, where
    /// it is not installed, and where it lacks the work.
    pub fn all(work: Work) -> Vec<Maker> {
        let mut all = Vec::new();
        if work != Work::Recover {
            all.extend(isal("isal", "pq_gen", "xor_gen"));
            all.extend(isal("isal-sse", "pq_gen_sse", "xor_gen_sse"));
            if Backend::available().contains(&Backend::Avx2) {
                all.extend(isal("isal-avx2", "pq_gen_avx2", "xor_gen_avx"));
            }
        }
        if work != Work::Recover && all.is_empty() {
            eprintln!("isal: skipped: there is no libisal.so.2 (Debian: libisal2)");
        }
        let ours = |backend: Backend| Maker {
            name: backend.name().to_owned(),
            kind: Kind::Ours(Parity::with_backend(backend)),
        };
        all.extend(Backend::available().into_iter().map(ours));
        all
    }

    /// Gets ready to do the work on a stripe, again and again.
    pub fn ready<'a>(&'a self, work: Work, stripe: &'a mut Stripe) -> Box<dyn FnMut() + 'a> {
        let (data, [p, q, x, y]) = stripe.split();
        match &self.kind {
            Kind::Ours(parity) => {
                let mut blocks: Vec<Option<&[u8]>> = data.iter().copied().map(Some).collect();
                match work {
                    Work::Pq => Box::new(move || parity.syndromes(&blocks, p, q)),
                    Work::P => Box::new(move || parity.xor_to(p, &data)),
                    Work::Recover => {
                        blocks[..2].fill(None);
                        Box::new(move || parity.recover_two_data(&blocks, [0, 1], p, q, [x, y]))
                    }
                }
            }
            Kind::Isal { library, pq, xor } => {
                let mut ready = match work {
                    Work::Pq => library.ready(pq, &data, [p, q]),
                    Work::P => library.ready(xor, &data, [p]),
                    Work::Recover => unreachable!("`all` has left it out"),
                };
                Box::new(move || ready.run())
            }
        }
    }
}

fn isal(name: &str, pq: &'static str, xor: &'static str) -> Option<Maker> {
    let library = Isal::load()?;
    Some(Maker { name: name.to_owned(), kind: Kind::Isal { library, pq, xor } })
}

/// The blocks of one stripe, each on pages of its own.
pub struct Stripe {
    memory: Vec<u8>,
    start: usize,
    data: usize,
    block: usize,
}

const PAGE: usize = 4096;

impl Stripe {
    /// Makes one of `disks`, P's and Q's among them, with `block` bytes each.
    pub fn new(disks: usize, block: usize) -> Stripe {
        // Two more blocks for what is recovered.
        let memory = vec![0x5a; (disks + 2) * block + PAGE];
        let start = memory.as_ptr().align_offset(PAGE);
        Stripe { memory, start, data: disks - 2, block }
    }

    /// Bytes of data.
    pub fn bytes(&self) -> usize {
        self.data * self.block
    }

    fn split(&mut self) -> (Vec<&[u8]>, [&mut [u8]; 4]) {
        let (data, rest) = self.memory[self.start..].split_at_mut(self.data * self.block);
        let mut rest = rest.chunks_exact_mut(self.block);
        let results = std::array::from_fn(|_| rest.next().expect("four blocks follow the data"));
        (data.chunks_exact(self.block).collect(), results)
    }
}
