//! What is known of some rows of a stripe: read, given, or computed from the rest.

use sim_core::Buffer;

use crate::raid::layout::{Role, Stripe};

/// A block for each leg whose content is known.
pub(super) struct Blocks<'d> {
    stripe: Stripe,
    bytes: usize,
    known: Vec<Option<Block<'d>>>,
}

enum Block<'d> {
    Own(Buffer),
    Given(&'d [u8]),
}

impl<'d> Blocks<'d> {
    /// Begins with nothing, for blocks of so many bytes.
    pub(super) fn new(stripe: Stripe, bytes: usize) -> Blocks<'d> {
        Blocks { stripe, bytes, known: (0..stripe.legs()).map(|_| None).collect() }
    }

    pub(super) fn stripe(&self) -> &Stripe {
        &self.stripe
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn put(&mut self, leg: usize, block: Buffer) {
        self.known[leg] = Some(Block::Own(block));
    }

    pub(super) fn give(&mut self, leg: usize, block: &'d [u8]) {
        self.known[leg] = Some(Block::Given(block));
    }

    pub(super) fn get(&self, leg: usize) -> Option<&[u8]> {
        match self.known[leg].as_ref()? {
            Block::Own(block) => Some(block),
            Block::Given(block) => Some(block),
        }
    }

    /// Takes a block that was read or computed.
    pub(super) fn take(&mut self, leg: usize) -> Option<Buffer> {
        match self.known[leg].take()? {
            Block::Own(block) => Some(block),
            Block::Given(_) => None,
        }
    }

    /// Computes the data that is not known, no more than there is parity.
    pub(super) fn solve(&mut self) {
        let mut lost = self.stripe.data().filter(|leg| self.known[*leg].is_none());
        let Some(one) = lost.next() else { return };
        let other = lost.next();
        debug_assert!(lost.next().is_none(), "three legs are lost");
        drop(lost);
        let (stripe, mut block) = (self.stripe, Buffer::take(self.bytes));
        let p = self.get(stripe.p());
        let q = || stripe.q().and_then(|leg| self.get(leg)).expect("parity for what is lost");
        match (other, p) {
            (None, Some(p)) => {
                let others = stripe.data().filter_map(|leg| self.get(leg));
                parity::xor_to(&mut block, &others.chain([p]).collect::<Vec<_>>());
            }
            (None, None) => {
                let mut p = Buffer::take(self.bytes);
                let weight = stripe.weight(one);
                parity::recover_data_and_p(&self.by_weight(), weight, q(), &mut block, &mut p);
            }
            (Some(other), p) => {
                let mut second = Buffer::take(self.bytes);
                let lost = [stripe.weight(one), stripe.weight(other)];
                let p = p.expect("two parities for two that are lost");
                let blocks = [&mut *block, &mut *second];
                parity::recover_two_data(&self.by_weight(), lost, p, q(), blocks);
                self.put(other, second);
            }
        }
        self.put(one, block);
    }

    /// Computes the parity of all data, which is known, for those legs that are wanted.
    pub(super) fn parity(&self, is_wanted: impl Fn(usize) -> bool) -> Vec<(usize, Buffer)> {
        let stripe = &self.stripe;
        let block = |leg: &usize| is_wanted(*leg).then(|| Buffer::take(self.bytes));
        let (mut p, mut q) = (block(&stripe.p()), stripe.q().and_then(|leg| block(&leg)));
        match (&mut p, &mut q) {
            (Some(p), Some(q)) => parity::syndromes(&self.by_weight(), p, q),
            (None, Some(q)) => parity::q(&self.by_weight(), q),
            (Some(p), None) => {
                let data: Vec<&[u8]> = stripe.data().filter_map(|leg| self.get(leg)).collect();
                parity::xor_to(p, &data);
            }
            (None, None) => {}
        }
        let p = p.map(|block| (stripe.p(), block));
        p.into_iter().chain(stripe.q().zip(q)).collect()
    }

    /// Changes the parity that is known for a leg whose old data is, and takes the new.
    pub(super) fn modify(&mut self, leg: usize, new: &'d [u8]) {
        let Role::Data(_) = self.stripe.role_of(leg) else { unreachable!("parity is no data") };
        let mut old = self.take(leg).expect("the old data was read");
        let (p, q) = (self.take(self.stripe.p()), self.stripe.q().and_then(|leg| self.take(leg)));
        let weight = self.stripe.weight(leg);
        let changed = match (p, q) {
            (Some(mut p), Some(mut q)) => {
                parity::replace(weight, &old, new, &mut p, &mut q);
                (Some(p), Some(q))
            }
            (p, q) => {
                parity::xor(&mut old, &[new]);
                let p = p.map(|mut p| {
                    parity::xor(&mut p, &[&old]);
                    p
                });
                let q = q.map(|mut q| {
                    parity::scale_add(&mut q, weight, &old);
                    q
                });
                (p, q)
            }
        };
        self.give(leg, new);
        if let Some(p) = changed.0 {
            self.put(self.stripe.p(), p);
        }
        if let Some((leg, q)) = self.stripe.q().zip(changed.1) {
            self.put(leg, q);
        }
    }

    /// Lists the data that is known, at its places in Q.
    fn by_weight(&self) -> Vec<Option<&[u8]>> {
        let mut data = vec![None; self.stripe.legs()];
        for leg in self.stripe.data() {
            data[self.stripe.weight(leg)] = self.get(leg);
        }
        data
    }
}
