//! The powers of 2 as the instructions take them.

use crate::field::{ORDER, POLYNOMIAL, Power, double};

/// For each power, its products with the lower halves of bytes and with the upper ones.
pub(super) static HALVES: [[[u8; 16]; 2]; ORDER] = {
    let mut tables = [[[0; 16]; 2]; ORDER];
    let mut exponent = 0;
    while exponent < ORDER {
        // Times 1, 2, 4, ... 128.
        let products = multiples(Power::new(exponent));
        let mut half = 0;
        while half < 16 {
            let mut bit = 0;
            while bit < 4 {
                if half >> bit & 1 == 1 {
                    tables[exponent][0][half] ^= products[bit];
                    tables[exponent][1][half] ^= products[bit + 4];
                }
                bit += 1;
            }
            half += 1;
        }
        exponent += 1;
    }
    tables
};

/// For each power, the matrix of bits that multiplies by it: a byte a row, the row of the lowest
/// bit on top, as GF2P8AFFINEQB reads them.
pub(super) static MATRICES: [u64; ORDER] = {
    let mut matrices = [0; ORDER];
    let mut exponent = 0;
    while exponent < ORDER {
        let products = multiples(Power::new(exponent));
        let mut row = 0;
        while row < 8 {
            let mut column = 0;
            while column < 8 {
                let bit = (products[column] >> row & 1) as u64;
                matrices[exponent] |= bit << (8 * (7 - row) + column);
                column += 1;
            }
            row += 1;
        }
        exponent += 1;
    }
    matrices
};

/// What stays what it is when it is doubled and has the polynomial added.
///
/// A shuffle makes zero of a byte whose highest bit is set, and of any other what a table says.
/// With the polynomial in the table that is what doubling must add, but for the polynomial. So
/// a Q that lies above this much is found above as much again, for an instruction less.
pub(super) const RESTING: u8 = {
    let mut resting = 0;
    while double(resting) ^ POLYNOMIAL != resting {
        resting += 1;
    }
    resting
};

const fn multiples(power: Power) -> [u8; 8] {
    let mut products = [power.element(); 8];
    let mut bit = 1;
    while bit < 8 {
        products[bit] = double(products[bit - 1]);
        bit += 1;
    }
    products
}
