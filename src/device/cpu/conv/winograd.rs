//! Sliding 3×3 convolutions of stride 1 as 36 small matrix products over tiles of 4×4 results.
//!
//! A unit of work is a slab of tiles: their transformed inputs stay in the second-level cache while one
//! panel of result channels after the other is multiplied, transformed back, finished and stored, so
//! that neither transformed tensor ever goes to memory.

use super::finish::{Block, Finish};
use super::gather::{Images, Window};
use super::transform::{self, IN, OUT, POINTS};
use super::{Filters, Sliding, Upstream};
use crate::device::cpu::micro::Panel;
use crate::device::cpu::simd::{self, Job, Vector};
use crate::device::cpu::slots::{self, Shared};
use crate::tensor::Real;

/// Elements of transformed inputs and products that a slab may fill: most of a second-level cache.
const SLAB: usize = 170_000;

/// Most tiles of a slab, a multiple of the panel kernel's rows.
const TILES: usize = 48;

/// Keeps the 36 planes of a slab from falling on the same cache sets.
const SKEW: usize = 16;

struct Layout {
    panel: usize,
    panels: usize,
    /// Channels of the source, filled up to whole registers.
    pitch: usize,
    /// Tiles on each axis, of all images, and of a slab.
    down: usize,
    across: usize,
    tiles: usize,
    slab: usize,
    /// Elements of one plane of transformed inputs, and of products.
    input: usize,
    product: usize,
    /// Elements of one source's transformed filters for one panel, `[36, c, panel]`.
    filter: usize,
}

impl Layout {
    fn new<T: Real>(g: &Sliding, sources: usize, pooled: bool) -> Self {
        let panel = simd::panel::<T>().min(g.k.next_multiple_of(16));
        let pitch = g.c.next_multiple_of(16);
        let step = if pooled { 2 } else { 1 };
        let (down, across) = ((g.ho / step * step).div_ceil(OUT), (g.wo / step * step).div_ceil(OUT));
        let tiles = g.n * down * across;
        let fit = SLAB / (POINTS * (sources * pitch + panel)) / 6 * 6;
        // Few tiles are shared out among the threads all the same.
        let slab = fit.clamp(6, TILES).min(tiles.div_ceil(2)).max(1);
        let (input, product) = (slab * pitch + SKEW, slab * panel + SKEW);
        let filter = POINTS * g.c * panel;
        Layout {
            panel,
            panels: g.k.div_ceil(panel),
            pitch,
            down,
            across,
            tiles,
            slab,
            input,
            product,
            filter,
        }
    }

    fn scratch(&self, sources: usize) -> usize {
        POINTS * (sources * self.input + self.product + self.pitch) + OUT * OUT * self.panel
    }
}

pub(super) fn workspace<T: Real>(g: &Sliding, sources: usize, pooled: bool) -> usize {
    let layout = Layout::new::<T>(g, sources, pooled);
    let units = layout.tiles.div_ceil(layout.slab);
    sources * layout.panels * layout.filter + slots::count(units) * layout.scratch(sources)
}

pub(super) fn run<T: Real>(
    g: &Sliding,
    sources: &[(Upstream<'_, T>, Filters<'_, T>)],
    finish: &Finish<'_, T>,
    workspace: &mut [T],
) {
    let count = sources.len();
    let layout = Layout::new::<T>(g, count, finish.is_pooled());
    let Layout { panel, panels, filter, .. } = layout;
    let (filters, scratch) = workspace.split_at_mut(count * panels * filter);
    let shared = Shared::new(filters);
    // Transformed filters: [panel][source][36][c][panel].
    slots::for_each::<T>(panels * count * g.c, 0, &mut [], |unit, _| {
        let (c, source, p) = (unit % g.c, unit / g.c % count, unit / g.c / count);
        for j in 0..panel {
            let k = p * panel + j;
            let mut taps = [[T::ZERO; 3]; 3];
            if k < g.k {
                for (r, row) in taps.iter_mut().enumerate() {
                    for (s, tap) in row.iter_mut().enumerate() {
                        *tap = sources[source].1.at(k, r, s, c);
                    }
                }
            }
            // SAFETY: plain numbers need no instruction set.
            let points = unsafe { transform::both(transform::Filter, taps, T::ZERO) };
            for (point, &value) in points.as_flattened().iter().enumerate() {
                let at = (p * count + source) * filter + (point * g.c + c) * panel + j;
                // SAFETY: within the filters; every unit has its own channel.
                unsafe { shared.get().add(at).write(value) };
            }
        }
    });
    let filters = &*filters;
    let units = layout.tiles.div_ceil(layout.slab);
    slots::for_each(units, layout.scratch(count), scratch, |unit, scratch| {
        let first = unit * layout.slab;
        let tiles = layout.slab.min(layout.tiles - first);
        let (inputs, rest) = scratch.split_at_mut(POINTS * count * layout.input);
        let (products, rest) = rest.split_at_mut(POINTS * layout.product);
        let (patch, block) = rest.split_at_mut(POINTS * layout.pitch);
        for (i, (values, _)) in sources.iter().enumerate() {
            let images = Images { values: *values, h: g.h, w: g.w, c: g.c, dilation: 1 };
            let planes = &mut inputs[i * POINTS * layout.input..][..POINTS * layout.input];
            simd::dispatch(Transform { g, layout: &layout, images: &images, first, tiles, patch, planes });
        }
        for p in 0..panels {
            for point in 0..POINTS {
                let call = Panel {
                    a: inputs[point * layout.input..].as_ptr(),
                    a_row: layout.pitch,
                    a_step: 1,
                    a_segment: POINTS * layout.input,
                    b: filters[p * count * filter + point * g.c * panel..].as_ptr(),
                    b_step: panel,
                    b_segment: filter,
                    c: products[point * layout.product..].as_mut_ptr(),
                    c_row: panel,
                    rows: tiles,
                    columns: panel,
                    depth: g.c,
                    segments: count,
                    accumulate: false,
                };
                // SAFETY: each plane holds `slab` rows of `pitch` inputs and of `panel` products, each
                // filter plane `c` rows of a whole panel.
                unsafe { call.run() };
            }
            simd::dispatch(Restore { g, layout: &layout, products, first, tiles, p, block, finish });
        }
    });
}

/// Transformed inputs of a slab of tiles: planes `[36][tile, pitch]`.
struct Transform<'a, 'b, T> {
    g: &'b Sliding,
    layout: &'b Layout,
    images: &'b Images<'a, T>,
    first: usize,
    tiles: usize,
    patch: &'b mut [T],
    planes: &'b mut [T],
}

impl Layout {
    /// Image, first row and first column of a tile.
    #[inline(always)]
    fn place(&self, tile: usize) -> (usize, usize, usize) {
        let image = tile / (self.down * self.across);
        (image, tile / self.across % self.down * OUT, tile % self.across * OUT)
    }
}

impl<T: Real> Job<T> for Transform<'_, '_, T> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Vector<Element = T>>(self) {
        let (g, layout, pitch) = (self.g, self.layout, self.layout.pitch);
        for tile in 0..self.tiles {
            let (image, row, column) = layout.place(self.first + tile);
            let window = Window {
                image,
                row: row as isize - g.pad[0],
                column: column as isize - g.pad[1],
                rows: IN,
                columns: IN,
                channel: 0,
                channels: g.c,
                pitch,
            };
            self.images.copy(&window, self.patch);
            // SAFETY: the patch holds 36 pixels of `pitch` channels, a plane `pitch` elements a tile.
            unsafe {
                patch_to_planes::<V>(self.patch, pitch, &mut self.planes[tile * pitch..], layout.input)
            };
        }
    }
}

/// `Bᵀ d B` of a patch `[6, 6, pitch]`, point by point `plane` elements apart.
///
/// # Safety
/// `planes` must hold `pitch` elements at each multiple of `plane`; `pitch` is a multiple of 16.
#[inline(always)]
pub(super) unsafe fn patch_to_planes<V: Vector>(
    patch: &[V::Element],
    pitch: usize,
    planes: &mut [V::Element],
    plane: usize,
) {
    assert!(patch.len() >= POINTS * pitch && planes.len() >= (POINTS - 1) * plane + pitch);
    for c in (0..pitch).step_by(V::LANES) {
        // SAFETY: within the slices, see the assertion; the caller has the instructions.
        unsafe {
            let zero = V::splat(V::Element::ZERO);
            let mut tile = [[zero; IN]; IN];
            for (pixel, value) in tile.as_flattened_mut().iter_mut().enumerate() {
                *value = V::load(patch.as_ptr().add(pixel * pitch + c));
            }
            let points = transform::both(transform::Input, tile, zero);
            for (point, value) in points.as_flattened().iter().enumerate() {
                value.store(planes.as_mut_ptr().add(point * plane + c));
            }
        }
    }
}

/// Products of a slab back to results, finished and stored.
struct Restore<'a, 'b, T> {
    g: &'b Sliding,
    layout: &'b Layout,
    products: &'b [T],
    first: usize,
    tiles: usize,
    p: usize,
    block: &'b mut [T],
    finish: &'b Finish<'a, T>,
}

impl<T: Real> Job<T> for Restore<'_, '_, T> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Vector<Element = T>>(self) {
        let (layout, panel) = (self.layout, self.layout.panel);
        assert!(self.products.len() >= POINTS * layout.product && self.block.len() >= OUT * OUT * panel);
        for tile in 0..self.tiles {
            for c in (0..panel).step_by(V::LANES) {
                // SAFETY: within the products and the block, see the assertion.
                unsafe {
                    let zero = V::splat(T::ZERO);
                    let mut points = [[zero; IN]; IN];
                    for (point, value) in points.as_flattened_mut().iter_mut().enumerate() {
                        *value =
                            V::load(self.products.as_ptr().add(point * layout.product + tile * panel + c));
                    }
                    let results = transform::both(transform::Output, points, zero);
                    for (pixel, value) in results.as_flattened().iter().enumerate() {
                        value.store(self.block.as_mut_ptr().add(pixel * panel + c));
                    }
                }
            }
            let (image, row, column) = layout.place(self.first + tile);
            let block = Block {
                image,
                row,
                column,
                rows: OUT,
                columns: OUT,
                channel: self.p * panel,
                channels: panel.min(self.g.k - self.p * panel),
                pitch: panel,
            };
            // SAFETY: every unit has its own tiles.
            unsafe { self.finish.store(block, self.block) };
        }
    }
}
