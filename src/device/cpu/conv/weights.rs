//! The gradient with respect to the filters by its definition: for each filter row, columns of the padded
//! image times rows of `dy`, summed over pixels.

use super::Upstream;
use super::gather::{Gather, Images, Window};
use crate::device::cpu::micro::Panel;
use crate::device::cpu::simd;
use crate::device::cpu::slots::{self, Shared};
use crate::ops::convolution::Geometry;
use crate::tensor::Real;

/// Elements of padded rows and of `dy` that are worked on at a time.
const BLOCK: usize = 1 << 16;

/// Parts of the batch that are summed separately, then added in order: fixed, so that results do not
/// depend on the number of threads.
const PARTS: usize = 8;

struct Layout {
    panel: usize,
    panels: usize,
    parts: usize,
    /// Elements of one panel's sums `[r, s·c, panel]`.
    sums: usize,
    wide: usize,
    block: usize,
    slab: usize,
    upstream: usize,
}

impl Layout {
    fn new<T: Real>(g: &Geometry) -> Self {
        let panel = simd::panel::<T>().min(g.k.next_multiple_of(16));
        let panels = g.k.div_ceil(panel);
        let wide = (g.wo - 1) * g.stride + g.s;
        let slab = |block: usize| ((block - 1) * g.stride + g.r) * wide * g.c;
        let upstream = |block: usize| block * g.wo * panel;
        let mut block = 1;
        while block < g.ho && slab(block + 1) + upstream(block + 1) <= BLOCK {
            block += 1;
        }
        let (slab, upstream) = (slab(block), upstream(block));
        let parts = PARTS.div_ceil(panels).min(g.n);
        Layout { panel, panels, parts, sums: g.r * g.s * g.c * panel, wide, block, slab, upstream }
    }

    fn scratch(&self) -> usize {
        self.slab + self.upstream
    }
}

pub(super) fn workspace<T: Real>(g: &Geometry) -> usize {
    let layout = Layout::new::<T>(g);
    let units = layout.panels * layout.parts;
    units * layout.sums + slots::count(units) * layout.scratch()
}

pub(super) fn run<T: Real>(
    g: &Geometry,
    sources: &[(&[T], Upstream<'_, T>)],
    dw: &mut [T],
    workspace: &mut [T],
) {
    let layout = Layout::new::<T>(g);
    let Layout { panel, panels, parts, sums, .. } = layout;
    let (partial, scratch) = workspace.split_at_mut(panels * parts * sums);
    let shared = Shared::new(partial);
    slots::for_each(panels * parts, layout.scratch(), scratch, |unit, scratch| {
        let (p, part) = (unit / parts, unit % parts);
        // SAFETY: every unit has its own sums.
        let sums = unsafe { shared.part(unit * sums, sums) };
        sums.fill(T::ZERO);
        for image in part * g.n / parts..(part + 1) * g.n / parts {
            for (x, dy) in sources {
                for first in (0..g.ho).step_by(layout.block) {
                    add_rows(g, &layout, (*x, *dy), (image, first, p), scratch, sums);
                }
            }
        }
    });
    // Sums [panel][r·s·c][channel of the panel] to filters [k][r·s·c].
    let (partial, taps, out) = (&*partial, g.r * g.s * g.c, Shared::new(dw));
    slots::for_each::<T>(g.k, 0, &mut [], |k, _| {
        let (p, j) = (k / panel, k % panel);
        // SAFETY: every unit has its own filter.
        let filter = unsafe { out.part(k * taps, taps) };
        for (tap, out) in filter.iter_mut().enumerate() {
            let of = |part: usize| partial[((p * parts + part) * taps + tap) * panel + j];
            *out = (1..parts).fold(of(0), |sum, part| sum + of(part));
        }
    });
}

fn add_rows<T: Real>(
    g: &Geometry,
    layout: &Layout,
    (x, dy): (&[T], Upstream<'_, T>),
    (image, first, p): (usize, usize, usize),
    scratch: &mut [T],
    sums: &mut [T],
) {
    let rows = layout.block.min(g.ho - first);
    let (slab, upstream) = scratch.split_at_mut(layout.slab);
    let pad = g.pad as isize;
    let (row, in_rows) = ((first * g.stride) as isize - pad, (rows - 1) * g.stride + g.r);
    let window = Window {
        image,
        row,
        column: -pad,
        rows: in_rows,
        columns: layout.wide,
        channel: 0,
        channels: g.c,
        pitch: g.c,
    };
    let images = Images { values: Upstream::Dense(x), h: g.h, w: g.w, c: g.c, dilation: 1 };
    simd::dispatch(Gather { images: &images, window, to: slab });
    let channels = layout.panel.min(g.k - p * layout.panel);
    let window = Window {
        image,
        row: first as isize,
        column: 0,
        rows,
        columns: g.wo,
        channel: p * layout.panel,
        channels,
        pitch: layout.panel,
    };
    let images = Images { values: dy, h: g.ho, w: g.wo, c: g.k, dilation: 1 };
    simd::dispatch(Gather { images: &images, window, to: upstream });
    for r in 0..g.r {
        let call = Panel {
            a: slab[r * layout.wide * g.c..].as_ptr(),
            a_row: 1,
            a_step: g.stride * g.c,
            a_segment: g.stride * layout.wide * g.c,
            b: upstream.as_ptr(),
            b_step: layout.panel,
            b_segment: g.wo * layout.panel,
            c: sums[r * g.s * g.c * layout.panel..].as_mut_ptr(),
            c_row: layout.panel,
            rows: g.s * g.c,
            columns: channels,
            depth: g.wo,
            segments: rows,
            accumulate: true,
        };
        // SAFETY: the slab holds the rows and columns of every filter position, `upstream` the whole
        // block padded to whole registers, `sums` `s·c` rows for each filter row.
        unsafe { call.run() };
    }
}
