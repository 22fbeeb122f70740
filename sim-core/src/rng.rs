//! The source of every choice: splitmix64, the same numbers on every machine and in every build.

/// A small seeded generator (Steele, Lea and Flood, "Fast splittable pseudorandom number
/// generators", 2014). Written out here so that no dependency's update changes what a seed means.
#[derive(Clone, Debug)]
pub struct Rng(u64);

impl Rng {
    /// Starts from a seed.
    pub fn new(seed: u64) -> Rng {
        Rng(seed)
    }

    /// Returns the next number.
    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        Rng::mix(self.0)
    }

    /// Mixes the bits of a number: a bijection that shows no pattern of what it is given.
    pub fn mix(mut z: u64) -> u64 {
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Returns a number below `end`.
    ///
    /// # Panics
    /// When `end` is zero: there is nothing to choose from.
    pub fn below(&mut self, end: usize) -> usize {
        assert!(end > 0, "a choice has at least one way");
        // The bias of the remainder is below 2^-32 for any list that fits in memory.
        (self.number() % end as u64) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_means_the_same_numbers_for_ever() {
        let mut rng = Rng::new(1234567);
        // The reference values of the generator's authors.
        let known = [6457827717110365317, 3203168211198807973, 9817491932198370423];
        assert_eq!([rng.number(), rng.number(), rng.number()], known);
    }
}
