//! Sliding convolutions by their definition: padded rows in scratch memory, the panel kernel along each
//! row with one segment for each filter row.

use super::finish::{Block, Finish};
use super::gather::{Gather, Images, Window};
use super::{Filters, Sliding, Upstream};
use crate::device::cpu::micro::Panel;
use crate::device::cpu::simd;
use crate::device::cpu::slots::{self, Shared};
use crate::tensor::Real;

/// Elements of scratch memory that a block of rows may fill: half of a second-level cache.
const BLOCK: usize = 1 << 17;

struct Layout {
    panel: usize,
    panels: usize,
    /// Columns of a padded row, elements of a filter panel.
    wide: usize,
    filter: usize,
    /// Result rows that are needed, in a block, and blocks in an image.
    rows: usize,
    block: usize,
    blocks: usize,
    slab: usize,
    tile: usize,
}

impl Layout {
    fn new<T: Real>(g: &Sliding, pooled: bool) -> Self {
        let panel = simd::panel::<T>().min(g.k.next_multiple_of(16));
        let panels = g.k.div_ceil(panel);
        let wide = (g.wo - 1) * g.stride + g.s;
        let step = if pooled { 2 } else { 1 };
        let rows = g.ho / step * step;
        let slab = |block: usize| ((block - 1) * g.stride + g.r) * wide * g.c;
        let tile = |block: usize| block * g.wo * g.k;
        let mut block = step;
        while block + step <= rows && slab(block + step) + tile(block + step) <= BLOCK {
            block += step;
        }
        let (slab, tile) = (slab(block), tile(block));
        let filter = g.r * g.s * g.c * panel;
        Layout { panel, panels, wide, filter, rows, block, blocks: rows.div_ceil(block), slab, tile }
    }
}

pub(super) fn workspace<T: Real>(g: &Sliding, sources: usize, pooled: bool) -> usize {
    let layout = Layout::new::<T>(g, pooled);
    sources * layout.panels * layout.filter + slots::count(g.n * layout.blocks) * (layout.slab + layout.tile)
}

pub(super) fn run<T: Real>(
    g: &Sliding,
    sources: &[(Upstream<'_, T>, Filters<'_, T>)],
    finish: &Finish<'_, T>,
    workspace: &mut [T],
) {
    let layout = Layout::new::<T>(g, finish.is_pooled());
    let Layout { panel, panels, filter, .. } = layout;
    let (packed, scratch) = workspace.split_at_mut(sources.len() * panels * filter);
    let shared = Shared::new(packed);
    slots::for_each::<T>(sources.len() * panels * g.r, 0, &mut [], |unit, _| {
        let (source, p, r) = (unit / g.r / panels, unit / g.r % panels, unit % g.r);
        let size = filter / g.r;
        // SAFETY: every unit packs its own filter row of its own panel.
        let to = unsafe { shared.part((source * panels + p) * filter + r * size, size) };
        pack(g, &sources[source].1, p * panel, r, panel, to);
    });
    let packed = &*packed;
    slots::for_each(g.n * layout.blocks, layout.slab + layout.tile, scratch, |unit, scratch| {
        let (slab, tile) = scratch.split_at_mut(layout.slab);
        for (i, (values, _)) in sources.iter().enumerate() {
            let packed = &packed[i * panels * filter..][..panels * filter];
            rows(
                g,
                &layout,
                (unit / layout.blocks, unit % layout.blocks),
                (*values, packed),
                (slab, tile),
                i > 0,
            );
        }
        let row = unit % layout.blocks * layout.block;
        let block = Block {
            image: unit / layout.blocks,
            row,
            column: 0,
            rows: layout.block.min(layout.rows - row),
            columns: g.wo,
            channel: 0,
            channels: g.k,
            pitch: g.k,
        };
        // SAFETY: every unit has its own rows of the result.
        unsafe { finish.store(block, tile) };
    });
}

/// Filter row `r` for the panel from channel `first`: `[s·c, panel]`, filled up with zeros.
fn pack<T: Real>(g: &Sliding, filters: &Filters<'_, T>, first: usize, r: usize, panel: usize, to: &mut [T]) {
    for (l, row) in to.chunks_exact_mut(panel).enumerate() {
        let (s, c) = (l / g.c, l % g.c);
        for (j, to) in row.iter_mut().enumerate() {
            *to = if first + j < g.k { filters.at(first + j, r, s, c) } else { T::ZERO };
        }
    }
}

/// Sums of one source for one block of rows, into `tile [rows, wo, k]`.
fn rows<T: Real>(
    g: &Sliding,
    layout: &Layout,
    (image, block): (usize, usize),
    (values, packed): (Upstream<'_, T>, &[T]),
    (slab, tile): (&mut [T], &mut [T]),
    accumulate: bool,
) {
    let first = block * layout.block;
    let rows = layout.block.min(layout.rows - first);
    let window = Window {
        image,
        row: (first * g.stride) as isize - g.pad[0],
        column: -g.pad[1],
        rows: (rows - 1) * g.stride + g.r,
        columns: layout.wide,
        channel: 0,
        channels: g.c,
        pitch: g.c,
    };
    let images = Images { values, h: g.h, w: g.w, c: g.c, dilation: g.dilation };
    simd::dispatch(Gather { images: &images, window, to: slab });
    for p in 0..layout.panels {
        let columns = layout.panel.min(g.k - p * layout.panel);
        for row in 0..rows {
            let call = Panel {
                a: slab[row * g.stride * layout.wide * g.c..].as_ptr(),
                a_row: g.stride * g.c,
                a_step: 1,
                a_segment: layout.wide * g.c,
                b: packed[p * layout.filter..].as_ptr(),
                b_step: layout.panel,
                b_segment: g.s * g.c * layout.panel,
                c: tile[row * g.wo * g.k + p * layout.panel..].as_mut_ptr(),
                c_row: g.k,
                rows: g.wo,
                columns,
                depth: g.s * g.c,
                segments: g.r,
                accumulate,
            };
            // SAFETY: `Layout` made the slab wide enough for every filter position of the row, the tile
            // holds `rows · wo · k` elements, and the panel is padded to whole registers.
            unsafe { call.run() };
        }
    }
}
