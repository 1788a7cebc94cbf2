//! Sums of the points of each centre, in double precision and in the order of the points; where the additions
//! are exact, only points that changed their centre are moved, which gives the same bits.

use std::ops::Range;

use super::Points;

/// Points are moved where at most one in so many changed its centre in the last pass.
const FEW: usize = 4;

/// Points are moved where at most one in so many columns rounds.
const LOOSE: usize = 8;

/// Sums over a range of the points.
pub struct Sums {
    rows: Range<usize>,
    pub values: Vec<f64>,
    pub counts: Vec<u64>,
    /// Are they those of the labels of the last pass?
    current: bool,
    columns: Option<Columns>,
    how: How,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// No sums are wanted.
    Not,
    /// All points are added.
    Anew,
    /// Points that change their centre are moved.
    Moved,
}

/// Columns whose sums could round.
struct Columns {
    loose: Vec<usize>,
    /// Their numbers, `[rows][loose]`.
    copies: Vec<f32>,
}

impl Sums {
    pub fn new(rows: Range<usize>, k: usize, d: usize) -> Self {
        let (values, counts) = (vec![0.0; k * d], vec![0; k]);
        Sums { rows, values, counts, current: false, columns: None, how: How::Not }
    }

    /// The labels are forgotten.
    pub fn restart(&mut self) {
        self.current = false;
    }

    /// Before a pass; `changed` points changed their centre in the last one.
    pub fn begin(&mut self, points: &Points<'_>, wanted: bool, changed: usize) -> How {
        self.how = match wanted {
            false => How::Not,
            true if self.current && changed <= self.rows.len() / FEW && self.exact(points) => How::Moved,
            true => How::Anew,
        };
        if self.how == How::Anew {
            self.values.fill(0.0);
            self.counts.fill(0);
        }
        self.current = wanted;
        self.how
    }

    /// Do enough columns add up without rounding?
    fn exact(&mut self, points: &Points<'_>) -> bool {
        let rows = self.rows.clone();
        let columns = self.columns.get_or_insert_with(|| Columns::new(points, rows));
        columns.loose.len() <= points.d / LOOSE
    }

    #[inline(always)]
    pub fn add(&mut self, row: &[f32], label: u32) {
        self.counts[label as usize] += 1;
        let sums = &mut self.values[label as usize * row.len()..][..row.len()];
        sums.iter_mut().zip(row).for_each(|(s, &x)| *s += f64::from(x));
    }

    #[inline(always)]
    pub fn change(&mut self, row: &[f32], from: u32, to: u32) {
        self.add(row, to);
        self.counts[from as usize] -= 1;
        let sums = &mut self.values[from as usize * row.len()..][..row.len()];
        sums.iter_mut().zip(row).for_each(|(s, &x)| *s -= f64::from(x));
    }

    /// After a pass that moved points: adds up the columns that could round.
    pub fn end(&mut self, d: usize, labels: &[u32]) {
        let Some(Columns { loose, copies }) = self.columns.as_ref().filter(|_| self.how == How::Moved) else {
            return;
        };
        if loose.is_empty() {
            return;
        }
        let k = self.counts.len();
        let mut sums = vec![0.0; k * loose.len()];
        for (row, &label) in copies.chunks_exact(loose.len()).zip(labels) {
            let sums = &mut sums[label as usize * loose.len()..][..loose.len()];
            sums.iter_mut().zip(row).for_each(|(s, &x)| *s += f64::from(x));
        }
        for (k, sums) in sums.chunks_exact(loose.len()).enumerate() {
            loose.iter().zip(sums).for_each(|(&j, &sum)| self.values[k * d + j] = sum);
        }
    }
}

impl Columns {
    fn new(points: &Points<'_>, rows: Range<usize>) -> Self {
        let d = points.d;
        let values = &points.values[rows.start * d..rows.end * d];
        // Least magnitude but zero, as bits minus one.
        let (mut least, mut reach) = (vec![u32::MAX; d], vec![0.0; d]);
        for row in values.chunks_exact(d) {
            for ((least, reach), x) in least.iter_mut().zip(&mut reach).zip(row) {
                *least = (*least).min((x.to_bits() & (u32::MAX >> 1)).wrapping_sub(1));
                *reach += f64::from(x.abs());
            }
        }
        // Every sum of some of the numbers is a multiple of the last place of the least one, and exact where
        // it has no more than 53 binary digits.
        let exact = |&j: &usize| {
            let exponent = ((least[j].wrapping_add(1) >> 23) as i32).max(1) - 127 - 23;
            least[j] == u32::MAX || reach[j] * (1.0 + 1e-6) < f64::powi(2.0, 53 + exponent)
        };
        let loose: Vec<usize> = (0..d).filter(|j| !exact(j)).collect();
        let copies = if loose.len() <= d / LOOSE {
            values.chunks_exact(d).flat_map(|row| loose.iter().map(|&j| row[j])).collect()
        } else {
            Vec::new()
        };
        Columns { loose, copies }
    }
}
