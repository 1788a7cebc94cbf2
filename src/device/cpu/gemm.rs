//! Matrix products: the right operand is packed into panels, blocks of rows go to the threads.

use super::micro::Panel;
use super::simd;
use super::slots::{self, Shared};
use crate::tensor::Real;

/// Rows of one unit of work.
const ROWS: usize = 24;

/// Depth of one pass over packed columns, so that a panel of them (128 KiB) stays in the second-level
/// cache.
const DEPTH: usize = 512;

/// Panels, and elements of the packed right operand.
fn packed<T: Real>(n: usize, k: usize) -> (usize, usize, usize) {
    let panel = simd::panel::<T>().min(n.next_multiple_of(16));
    let panels = n.div_ceil(panel);
    (panel, panels, panels * panel * k)
}

/// Scratch elements of a product `[m, k] · [k, n]`.
pub fn workspace<T: Real>(_m: usize, n: usize, k: usize, _ta: bool, _tb: bool) -> usize {
    packed::<T>(n, k).2
}

/// `c [m, n] = op(a) · op(b)`; `ta` says that `a` is stored `[k, m]`, `tb` that `b` is stored `[n, k]`.
/// Each element is summed over `k` in one fixed order.
pub fn matmul<T: Real>(
    a: &[T],
    b: &[T],
    c: &mut [T],
    (m, n, k): (usize, usize, usize),
    (ta, tb): (bool, bool),
    workspace: &mut [T],
) {
    assert!(a.len() == m * k && b.len() == k * n && c.len() == m * n, "operands of a product");
    let (panel, panels, elements) = packed::<T>(n, k);
    let packed = &mut workspace[..elements];
    let blocks = k.div_ceil(DEPTH).max(1);
    let out = Shared::new(packed);
    slots::for_each::<T>(panels * blocks, 0, &mut [], |unit, _| {
        let (p, block) = (unit / blocks, unit % blocks);
        let (first, last) = (block * DEPTH, k.min((block + 1) * DEPTH));
        // SAFETY: every unit packs its own rows of its own panel.
        let to = unsafe { out.part((p * k + first) * panel, (last - first) * panel) };
        pack(b, to, (n, k), tb, p * panel, first);
    });
    let (packed, out) = (&*packed, Shared::new(c));
    let rows = m.div_ceil(ROWS);
    slots::for_each::<T>(rows * panels, 0, &mut [], |unit, _| {
        let (row, p) = (unit % rows * ROWS, unit / rows);
        let columns = panel.min(n - p * panel);
        for first in (0..k.max(1)).step_by(DEPTH) {
            let call = Panel {
                a: a[if ta { first * m + row } else { row * k + first }.min(a.len())..].as_ptr(),
                a_row: if ta { 1 } else { k },
                a_step: if ta { m } else { 1 },
                a_segment: 0,
                b: packed[(p * k + first) * panel..].as_ptr(),
                b_step: panel,
                b_segment: 0,
                // SAFETY: within `c`, see the assertion.
                c: unsafe { out.get().add(row * n + p * panel) },
                c_row: n,
                rows: ROWS.min(m - row),
                columns,
                depth: DEPTH.min(k - first),
                segments: 1,
                accumulate: first > 0,
            };
            // SAFETY: rows, columns and depth are cut to the operands, whose sizes were asserted; the
            // panel is padded to whole registers; every unit has its own block of `c`.
            unsafe { call.run() };
        }
    });
}

/// Copies rows `first..` of one panel of `op(b)`, columns from `column`, filled up with zeros.
fn pack<T: Real>(b: &[T], to: &mut [T], (n, k): (usize, usize), tb: bool, column: usize, first: usize) {
    let panel = simd::panel::<T>().min(n.next_multiple_of(16));
    let columns = panel.min(n - column);
    for (l, row) in to.chunks_exact_mut(panel).enumerate() {
        let l = first + l;
        if tb {
            row[..columns].iter_mut().enumerate().for_each(|(j, v)| *v = b[(column + j) * k + l]);
        } else {
            row[..columns].copy_from_slice(&b[l * n + column..l * n + column + columns]);
        }
        row[columns..].fill(T::ZERO);
    }
}
