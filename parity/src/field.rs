//! GF(2⁸) modulo x⁸ + x⁴ + x³ + x² + 1 (0x11d), where the powers of 2 are all elements but zero.

/// What x⁸ is equal to.
pub(crate) const POLYNOMIAL: u8 = 0x1d;

/// Nonzero elements: the powers of 2 repeat after so many.
pub(crate) const ORDER: usize = 255;

/// A power of 2, by its exponent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Power(u8);

impl Power {
    pub(crate) const fn new(exponent: usize) -> Power {
        Power((exponent % ORDER) as u8)
    }

    pub(crate) const fn exponent(self) -> usize {
        self.0 as usize
    }

    pub(crate) const fn element(self) -> u8 {
        ELEMENTS[self.0 as usize]
    }

    pub(crate) const fn inverse(self) -> Power {
        Power::new(ORDER - self.exponent())
    }

    pub(crate) const fn times(self, other: Power) -> Power {
        Power::new(self.exponent() + other.exponent())
    }

    /// Adds one. The sum of one and one is no power.
    pub(crate) const fn plus_one(self) -> Power {
        assert!(self.0 != 0, "1 + 1 is zero");
        Power(EXPONENTS[(self.element() ^ 1) as usize])
    }
}

pub(crate) const fn double(element: u8) -> u8 {
    (element << 1) ^ if element & 0x80 == 0 { 0 } else { POLYNOMIAL }
}

const ELEMENTS: [u8; ORDER] = {
    let mut elements = [1; ORDER];
    let mut at = 1;
    while at < ORDER {
        elements[at] = double(elements[at - 1]);
        at += 1;
    }
    elements
};

/// The reverse of [`ELEMENTS`]; zero has no exponent.
const EXPONENTS: [u8; 256] = {
    let mut exponents = [0; 256];
    let mut at = 0;
    while at < ORDER {
        exponents[ELEMENTS[at] as usize] = at as u8;
        at += 1;
    }
    exponents
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_powers_of_2_are_every_element_but_zero() {
        // The start of the table in H. Peter Anvin's "The mathematics of RAID-6", and its end.
        assert_eq!(ELEMENTS[..10], [1, 2, 4, 8, 16, 32, 64, 128, 0x1d, 0x3a]);
        assert_eq!(ELEMENTS[252..], [0xad, 0x47, 0x8e]);
        assert_eq!(double(ELEMENTS[254]), 1);
        let mut sorted = ELEMENTS;
        sorted.sort();
        assert!(sorted.iter().copied().eq(1..=255));
    }

    #[test]
    fn powers_compute_as_elements_do() {
        for exponent in 0..ORDER {
            let power = Power::new(exponent);
            assert_eq!(power.times(power.inverse()).element(), 1);
            assert_eq!(power.times(Power::new(1)).element(), double(power.element()));
            if exponent != 0 {
                assert_eq!(power.plus_one().element(), power.element() ^ 1);
            }
        }
    }
}
