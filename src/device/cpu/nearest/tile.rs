//! The two best scores of a tile of points: points lie in the lanes of registers, centres are broadcast, so
//! that the best of all centres is found lane by lane, without a table of scores.

use super::Points;
use crate::device::cpu::simd::Vector;

/// Centres whose scores are computed together: 6 centres × all registers of a panel of points.
const GROUP: usize = 6;

/// Points of a tile at most: the widest panel.
pub const WIDEST: usize = 64;

/// Steps of a sum between two requests for later points.
const STRIDE: usize = 32;

/// Centres, packed for [`best_two`].
pub struct Packed {
    d: usize,
    /// Centres of a group: at most [`GROUP`], and as even as possible.
    group: usize,
    groups: usize,
    /// `w ∘ c` in `[groups][d][group]`; zeros behind the last.
    values: Vec<f32>,
    /// `−‖c‖²/2`; behind the last a value that never wins.
    offsets: Vec<f32>,
}

impl Packed {
    pub fn new(k: usize, d: usize) -> Self {
        let groups = k.div_ceil(GROUP);
        let group = k.div_ceil(groups.max(1));
        let offsets = vec![f32::NEG_INFINITY; groups * group];
        Packed { d, group, groups, values: vec![0.0; groups * d * group], offsets }
    }

    /// Takes centres `w ∘ c` `[k, d]` and `−‖c‖²/2`.
    pub fn pack(&mut self, flat: &[f32], offsets: &[f32]) {
        self.offsets[..offsets.len()].copy_from_slice(offsets);
        for (k, centre) in flat.chunks(self.d).enumerate() {
            let (group, place) = (k / self.group, k % self.group);
            for (j, &c) in centre.iter().enumerate() {
                self.values[(group * self.d + j) * self.group + place] = c;
            }
        }
    }
}

/// Best and second best score of each lane, and the centre of the best (exact as a float: there are fewer
/// than 2²⁴ centres).
pub struct Found {
    pub best: [f32; WIDEST],
    pub second: [f32; WIDEST],
    pub centre: [f32; WIDEST],
}

impl Found {
    pub fn new() -> Self {
        Found { best: [0.0; WIDEST], second: [0.0; WIDEST], centre: [0.0; WIDEST] }
    }
}

/// Copies points into a tile `[d][V::PANEL]`; lanes behind the last point repeat it.
///
/// # Safety
/// The instruction set of `V` must be there.
#[inline(always)]
pub unsafe fn gather<V: Vector<Element = f32>>(points: &Points<'_>, rows: &[usize], tile: &mut [f32]) {
    let d = points.d;
    assert!(!rows.is_empty() && tile.len() == d * V::PANEL);
    for lane in (0..V::PANEL).step_by(8) {
        let row = |i: usize| points.row(rows[(lane + i).min(rows.len() - 1)]);
        let from: [&[f32]; 8] = std::array::from_fn(row);
        for j in (0..d / 8 * 8).step_by(8) {
            // SAFETY: eight elements of each row follow `j`, and eight lanes follow `lane` in eight
            // columns of the tile.
            unsafe {
                let to = tile.as_mut_ptr().add(j * V::PANEL + lane);
                V::transpose8(from.map(|row| row.as_ptr().add(j)), to, V::PANEL);
            }
        }
        for j in d / 8 * 8..d {
            for (i, row) in from.iter().enumerate() {
                tile[j * V::PANEL + lane + i] = row[j];
            }
        }
    }
}

/// The two best scores of each lane. Meanwhile asks for the `next` points.
///
/// # Safety
/// The instruction set of `V` must be there.
#[inline(always)]
pub unsafe fn best_two<V: Vector<Element = f32>>(
    centres: &Packed,
    tile: &[f32],
    points: &Points<'_>,
    next: &[usize],
    found: &mut Found,
) {
    let next = Ahead { points, rows: next, at: 0 };
    assert!(tile.len() == centres.d * V::PANEL && V::PANEL <= WIDEST);
    // SAFETY: the caller's; both sizes are those of the arrays.
    unsafe {
        match V::COLUMNS {
            2 => by_group::<V, 2>(centres, tile, next, found),
            _ => by_group::<V, 4>(centres, tile, next, found),
        }
    }
}

/// Numbers of a cache line.
const LINE: usize = 16;

/// Points that are asked for a line at a time.
struct Ahead<'a> {
    points: &'a Points<'a>,
    rows: &'a [usize],
    /// Of the first of them.
    at: usize,
}

impl Ahead<'_> {
    /// # Safety
    /// The instruction set of `V` must be there.
    #[inline(always)]
    unsafe fn ask<V: Vector<Element = f32>>(&mut self) {
        let Some((&row, rest)) = self.rows.split_first() else { return };
        // SAFETY: the caller's; requests may go anywhere.
        unsafe { V::prefetch(self.points.values.as_ptr().wrapping_add(row * self.points.d + self.at)) };
        self.at += LINE;
        if self.at >= self.points.d {
            (self.rows, self.at) = (rest, 0);
        }
    }
}

#[inline(always)]
unsafe fn by_group<V: Vector<Element = f32>, const COLUMNS: usize>(
    centres: &Packed,
    tile: &[f32],
    next: Ahead<'_>,
    found: &mut Found,
) {
    // SAFETY: the caller's.
    unsafe {
        match centres.group {
            1 => scan::<V, 1, COLUMNS>(centres, tile, next, found),
            2 => scan::<V, 2, COLUMNS>(centres, tile, next, found),
            3 => scan::<V, 3, COLUMNS>(centres, tile, next, found),
            4 => scan::<V, 4, COLUMNS>(centres, tile, next, found),
            5 => scan::<V, 5, COLUMNS>(centres, tile, next, found),
            _ => scan::<V, GROUP, COLUMNS>(centres, tile, next, found),
        }
    }
}

#[inline(always)]
unsafe fn scan<V: Vector<Element = f32>, const R: usize, const COLUMNS: usize>(
    centres: &Packed,
    tile: &[f32],
    mut next: Ahead<'_>,
    found: &mut Found,
) {
    let d = centres.d;
    assert!(centres.group == R && V::COLUMNS == COLUMNS);
    // Requests are spread evenly over all strides: a burst would wait for free line buffers.
    let strides = centres.groups * d.div_ceil(STRIDE);
    let lines = (d * V::PANEL).div_ceil(LINE).div_ceil(strides);
    // SAFETY: the tile has `d` rows of `COLUMNS` registers, a group `d` rows of `R` values, and `found`
    // room for the widest panel.
    unsafe {
        let lowest = V::splat(f32::NEG_INFINITY);
        let (mut best, mut second, mut index) = ([lowest; COLUMNS], [lowest; COLUMNS], [lowest; COLUMNS]);
        let mut c = centres.values.as_ptr();
        for group in 0..centres.groups {
            let mut sums = [[lowest; COLUMNS]; R];
            for (r, sums) in sums.iter_mut().enumerate() {
                *sums = [V::splat(*centres.offsets.as_ptr().add(group * R + r)); COLUMNS];
            }
            let mut x = tile.as_ptr();
            let mut left = d;
            while left > 0 {
                for _ in 0..lines {
                    next.ask::<V>();
                }
                for _ in 0..left.min(STRIDE) {
                    let mut lanes = [lowest; COLUMNS];
                    for (j, lanes) in lanes.iter_mut().enumerate() {
                        *lanes = V::load(x.add(j * V::LANES));
                    }
                    for (r, sums) in sums.iter_mut().enumerate() {
                        let value = V::splat(*c.add(r));
                        for (sum, lanes) in sums.iter_mut().zip(lanes) {
                            *sum = value.mul_add(lanes, *sum);
                        }
                    }
                    x = x.add(V::PANEL);
                    c = c.add(R);
                }
                left -= left.min(STRIDE);
            }
            for (r, sums) in sums.iter().enumerate() {
                let centre = V::splat((group * R + r) as f32);
                for (j, &score) in sums.iter().enumerate() {
                    index[j] = score.where_greater(best[j], centre, index[j]);
                    second[j] = second[j].max(best[j].min(score));
                    best[j] = best[j].max(score);
                }
            }
        }
        for j in 0..COLUMNS {
            best[j].store(found.best.as_mut_ptr().add(j * V::LANES));
            second[j].store(found.second.as_mut_ptr().add(j * V::LANES));
            index[j].store(found.centre.as_mut_ptr().add(j * V::LANES));
        }
    }
}
