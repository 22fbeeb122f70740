//! A line of blocks: how much of each part of a device has changed.

/// Signs from nothing to all.
pub(super) type Signs = [char; 5];

/// Nothing, up to a third, up to two thirds, less than all, all.
pub(super) const BLOCKS: Signs = ['·', '░', '▒', '▓', '█'];

/// The same where the locale has ASCII alone.
pub(super) const ASCII: Signs = ['.', '-', '+', '*', '#'];

/// Draws `chunks` chunks, of which the runs (first and count, in order) have changed, as a line of
/// `width` signs at most.
pub(super) fn draw(runs: &[(u64, u64)], chunks: u64, width: u64, signs: Signs) -> String {
    let width = width.min(chunks);
    let mut runs = runs.iter().copied().peekable();
    let cell = |cell: u64| {
        let edge = |at: u64| (u128::from(at) * u128::from(chunks) / u128::from(width)) as u64;
        let (from, to) = (edge(cell), edge(cell + 1));
        let mut changed = 0;
        while let Some((first, count)) = runs.peek().copied() {
            changed += (first + count).min(to).saturating_sub(first.max(from));
            if first + count > to {
                break;
            }
            runs.next();
        }
        sign(changed, to - from, signs)
    };
    (0..width).map(cell).collect()
}

/// The sign of a share.
pub(super) fn sign(changed: u64, of: u64, signs: Signs) -> char {
    match changed {
        0 => signs[0],
        all if all == of => signs[4],
        // As 128 bits, since three times a device's chunks need not fit 64.
        some => match u128::from(some) * 3 / u128::from(of) {
            0 => signs[1],
            1 => signs[2],
            _ => signs[3],
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_shows_its_share() {
        let draw = |runs: &[(u64, u64)], chunks, width| draw(runs, chunks, width, BLOCKS);
        assert_eq!(draw(&[], 100, 10), "··········");
        assert_eq!(draw(&[(0, 100)], 100, 10), "██████████");
        assert_eq!(draw(&[(0, 1), (10, 4), (20, 9), (35, 10)], 100, 10), "░▒▓▒▒·····");
        // Fewer chunks than signs: each has one.
        assert_eq!(draw(&[(1, 1)], 3, 10), "·█·");
        assert_eq!(draw(&[], 0, 10), "");
        // Cells of different lengths, and a run over several.
        assert_eq!(draw(&[(2, 5)], 10, 3), "▒█░");
    }

    #[test]
    fn the_largest_device_is_drawn_too() {
        let chunks = u64::MAX / 4;
        assert_eq!(draw(&[(chunks - 1, 1)], chunks, 4, ASCII), "...-");
    }
}
