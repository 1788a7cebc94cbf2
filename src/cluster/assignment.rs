//! The best one-to-one assignment of rows to columns (Kuhn 1955), by shortest augmenting paths with
//! potentials, in `rows² · columns` steps. Written here because tables are a few hundred wide at most, and a
//! crate for it would bring graph searches of all kinds along.

/// The column of each row of `gains [rows, columns]`, so that the sum of the chosen gains is the largest
/// possible.
///
/// # Panics
/// If there are more rows than columns.
pub fn best(gains: &[f64], rows: usize, columns: usize) -> Vec<usize> {
    assert!(rows <= columns && gains.len() == rows * columns, "a column for each row");
    // Rows and columns count from 1; column 0 holds the row that is being placed. `held[c]` is the row of a
    // column, 0 for none. Costs less potentials are never negative, and 0 where a column is held.
    let cost = |row: usize, column: usize| -gains[(row - 1) * columns + column - 1];
    let (mut of_rows, mut of_columns) = (vec![0.0; rows + 1], vec![0.0; columns + 1]);
    let mut held = vec![0; columns + 1];
    for row in 1..=rows {
        held[0] = row;
        let (mut least, mut before) = (vec![f64::INFINITY; columns + 1], vec![0; columns + 1]);
        let mut reached = vec![false; columns + 1];
        let mut column = 0;
        while held[column] != 0 || column == 0 {
            reached[column] = true;
            let (from, mut step, mut next) = (held[column], f64::INFINITY, 0);
            for c in (1..=columns).filter(|&c| !reached[c]) {
                let reduced = cost(from, c) - of_rows[from] - of_columns[c];
                if reduced < least[c] {
                    (least[c], before[c]) = (reduced, column);
                }
                if least[c] < step {
                    (step, next) = (least[c], c);
                }
            }
            for c in 0..=columns {
                if reached[c] {
                    of_rows[held[c]] += step;
                    of_columns[c] -= step;
                } else {
                    least[c] -= step;
                }
            }
            column = next;
        }
        while column != 0 {
            held[column] = held[before[column]];
            column = before[column];
        }
    }
    let mut assigned = vec![0; rows];
    (1..=columns).filter(|&c| held[c] != 0).for_each(|c| assigned[held[c] - 1] = c - 1);
    assigned
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::{Purpose, Stream};

    fn total(gains: &[f64], columns: usize, assigned: &[usize]) -> f64 {
        assigned.iter().enumerate().map(|(row, &column)| gains[row * columns + column]).sum()
    }

    /// The largest sum over all ways to give rows from `row` on a column that is still free.
    fn all_ways(gains: &[f64], (rows, columns): (usize, usize), row: usize, taken: u32) -> f64 {
        if row == rows {
            return 0.0;
        }
        (0..columns)
            .filter(|c| taken & 1 << c == 0)
            .map(|c| gains[row * columns + c] + all_ways(gains, (rows, columns), row + 1, taken | 1 << c))
            .fold(f64::NEG_INFINITY, f64::max)
    }

    #[test]
    fn no_other_assignment_is_better() {
        let mut draw = Stream::new(1, Purpose::Synthetic, 5);
        for number in 0..300 {
            let rows = 1 + draw.below(6);
            let columns = rows + draw.below(3);
            // Counts, with many ties, and sometimes negative ones.
            let low = if number % 2 == 0 { 0.0 } else { 4.0 };
            let gains: Vec<f64> = (0..rows * columns).map(|_| draw.below(9) as f64 - low).collect();
            let found = best(&gains, rows, columns);
            let mut once = found.clone();
            once.sort_unstable();
            once.dedup();
            assert_eq!(once.len(), rows);
            let most = all_ways(&gains, (rows, columns), 0, 0);
            assert_eq!(total(&gains, columns, &found), most, "{gains:?}");
        }
    }
}
