//! The gradient of 3×3 filters in the transformed space: `dw = Gᵀ [Σ (Bᵀ d B) ⊙ (A dy Aᵀ)] G`, 36 matrix
//! products summed over tiles.
//!
//! A unit of work is a block of source channels, a group of result channels and a part of the tiles. It
//! transforms its tiles slab by slab into planes that stay in the last-level cache, each once; one point's
//! products then read two small planes and add to sums that stay in the first two levels.

use super::Upstream;
use super::gather::{Images, Window};
use super::transform::{self, IN, OUT, POINTS};
use super::winograd::patch_to_planes;
use crate::device::cpu::micro::Panel;
use crate::device::cpu::simd::{self, Job, Vector};
use crate::device::cpu::slots::{self, Shared};
use crate::ops::convolution::Geometry;
use crate::tensor::Real;

/// Most source and result channels of a unit, a multiple of every panel.
const CHANNELS: usize = 128;

/// Tiles of a slab.
const TILES: usize = 64;

/// Units to have at least; the tiles are split in parts until there are as many. Fixed, so that results
/// do not depend on the number of threads.
const UNITS: usize = 4;

/// Keeps the 36 planes of a slab from falling on the same cache sets.
const SKEW: usize = 16;

struct Layout {
    panel: usize,
    /// Source channels of a unit, filled up to whole registers.
    pitch: usize,
    /// Panels of result channels of a unit.
    panels: usize,
    blocks: usize,
    groups: usize,
    parts: usize,
    down: usize,
    across: usize,
    tiles: usize,
    /// Elements of a plane of transformed inputs, of transformed gradients, and of one unit's sums.
    input: usize,
    upstream: usize,
    sums: usize,
}

impl Layout {
    fn new<T: Real>(g: &Geometry) -> Self {
        let panel = simd::panel::<T>().min(g.k.next_multiple_of(16));
        let pitch = g.c.next_multiple_of(16).min(CHANNELS);
        let panels = (CHANNELS / panel).min(g.k.div_ceil(panel));
        let (blocks, groups) = (g.c.div_ceil(pitch), g.k.div_ceil(panels * panel));
        let (down, across) = (g.ho.div_ceil(OUT), g.wo.div_ceil(OUT));
        let tiles = g.n * down * across;
        Layout {
            panel,
            pitch,
            panels,
            blocks,
            groups,
            parts: UNITS.div_ceil(blocks * groups).min(tiles),
            down,
            across,
            tiles,
            input: TILES * pitch + SKEW,
            upstream: TILES * panels * panel + SKEW,
            sums: POINTS * panels * pitch * panel,
        }
    }

    /// Result channels of a whole group.
    fn group(&self) -> usize {
        self.panels * self.panel
    }

    fn units(&self) -> usize {
        self.groups * self.blocks * self.parts
    }

    fn scratch(&self) -> usize {
        POINTS * (self.input + self.upstream) + POINTS * self.pitch.max(self.group())
    }
}

pub(super) fn workspace<T: Real>(g: &Geometry) -> usize {
    let layout = Layout::new::<T>(g);
    layout.units() * layout.sums + slots::count(layout.units()) * layout.scratch()
}

pub(super) fn run<T: Real>(
    g: &Geometry,
    sources: &[(&[T], Upstream<'_, T>)],
    dw: &mut [T],
    workspace: &mut [T],
) {
    let layout = Layout::new::<T>(g);
    let Layout { panel, pitch, blocks, parts, .. } = layout;
    let (partial, scratch) = workspace.split_at_mut(layout.units() * layout.sums);
    let shared = Shared::new(partial);
    slots::for_each(layout.units(), layout.scratch(), scratch, |unit, scratch| {
        let (part, block, group) = (unit % parts, unit / parts % blocks, unit / parts / blocks);
        // SAFETY: every unit has its own sums.
        let sums = unsafe { shared.part(unit * layout.sums, layout.sums) };
        sums.fill(T::ZERO);
        let (first, last) = (part * layout.tiles / parts, (part + 1) * layout.tiles / parts);
        for first in (first..last).step_by(TILES) {
            for &(x, dy) in sources {
                let tiles = (first, TILES.min(last - first));
                add_slab(g, &layout, (x, dy), tiles, (group, block), scratch, sums);
            }
        }
    });
    let (partial, out) = (&*partial, Shared::new(dw));
    slots::for_each::<T>(g.k, 0, &mut [], |k, _| {
        let (group, p, j) = (k / layout.group(), k % layout.group() / panel, k % panel);
        // SAFETY: every unit has its own filter.
        let filter = unsafe { out.part(k * 9 * g.c, 9 * g.c) };
        for c in 0..g.c {
            let unit = (group * blocks + c / pitch) * parts;
            let mut points = [[T::ZERO; IN]; IN];
            for (point, value) in points.as_flattened_mut().iter_mut().enumerate() {
                let at = ((point * layout.panels + p) * pitch + c % pitch) * panel + j;
                let of = |part: usize| partial[(unit + part) * layout.sums + at];
                *value = (1..parts).fold(of(0), |sum, part| sum + of(part));
            }
            // SAFETY: plain numbers need no instruction set.
            let taps = unsafe { transform::both(transform::FilterTransposed, points, T::ZERO) };
            for (tap, &value) in taps.as_flattened().iter().enumerate() {
                filter[tap * g.c + c] = value;
            }
        }
    });
}

fn add_slab<T: Real>(
    g: &Geometry,
    layout: &Layout,
    (x, dy): (&[T], Upstream<'_, T>),
    (first, tiles): (usize, usize),
    (group, block): (usize, usize),
    scratch: &mut [T],
    sums: &mut [T],
) {
    let (inputs, rest) = scratch.split_at_mut(POINTS * layout.input);
    let (upstreams, patch) = rest.split_at_mut(POINTS * layout.upstream);
    let images = Images { values: Upstream::Dense(x), h: g.h, w: g.w, c: g.c, dilation: 1 };
    let Layout { panel, pitch, .. } = *layout;
    let channels = pitch.min(g.c - block * pitch);
    let columns = layout.group().min(g.k - group * layout.group());
    let slab = Slab { layout, first, tiles };
    simd::dispatch(Inputs {
        slab,
        g,
        images: &images,
        channel: block * pitch,
        channels,
        patch,
        planes: inputs,
    });
    let images = Images { values: dy, h: g.ho, w: g.wo, c: g.k, dilation: 1 };
    let (channel, planes) = (group * layout.group(), &mut *upstreams);
    simd::dispatch(Upstreams { slab, images: &images, channel, channels: columns, patch, planes });
    for point in 0..POINTS {
        for p in 0..columns.div_ceil(panel) {
            let call = Panel {
                a: inputs[point * layout.input..].as_ptr(),
                a_row: 1,
                a_step: pitch,
                a_segment: 0,
                b: upstreams[point * layout.upstream + p * TILES * panel..].as_ptr(),
                b_step: panel,
                b_segment: 0,
                c: sums[(point * layout.panels + p) * pitch * panel..].as_mut_ptr(),
                c_row: panel,
                rows: channels,
                columns: panel,
                depth: tiles,
                segments: 1,
                accumulate: true,
            };
            // SAFETY: the planes hold `tiles` rows of `pitch` channels and of a whole panel, the sums `pitch`
            // rows of a panel.
            unsafe { call.run() };
        }
    }
}

#[derive(Clone, Copy)]
struct Slab<'b> {
    layout: &'b Layout,
    first: usize,
    tiles: usize,
}

impl Slab<'_> {
    /// Image, first row and first column of a tile of the slab.
    #[inline(always)]
    fn place(&self, tile: usize) -> (usize, isize, isize) {
        let (tile, layout) = (self.first + tile, self.layout);
        let (row, column) = (tile / layout.across % layout.down, tile % layout.across);
        (tile / (layout.down * layout.across), (row * OUT) as isize, (column * OUT) as isize)
    }
}

/// `Bᵀ d B` of the tiles' inputs.
struct Inputs<'a, 'b, T> {
    slab: Slab<'b>,
    g: &'b Geometry,
    images: &'b Images<'a, T>,
    channel: usize,
    channels: usize,
    patch: &'b mut [T],
    planes: &'b mut [T],
}

impl<T: Real> Job<T> for Inputs<'_, '_, T> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Vector<Element = T>>(self) {
        let pad = self.g.pad as isize;
        for tile in 0..self.slab.tiles {
            let (image, row, column) = self.slab.place(tile);
            let window = Window {
                image,
                row: row - pad,
                column: column - pad,
                rows: IN,
                columns: IN,
                channel: self.channel,
                channels: self.channels,
                pitch: self.slab.layout.pitch,
            };
            self.images.copy(&window, self.patch);
            let pitch = self.slab.layout.pitch;
            let planes = &mut self.planes[tile * pitch..];
            // SAFETY: a plane holds `pitch` channels for each tile.
            unsafe { patch_to_planes::<V>(self.patch, pitch, planes, self.slab.layout.input) };
        }
    }
}

/// `A dy Aᵀ` of the tiles' gradients.
struct Upstreams<'a, 'b, T> {
    slab: Slab<'b>,
    images: &'b Images<'a, T>,
    channel: usize,
    channels: usize,
    patch: &'b mut [T],
    planes: &'b mut [T],
}

impl<T: Real> Job<T> for Upstreams<'_, '_, T> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Vector<Element = T>>(self) {
        let (panel, group, plane) =
            (self.slab.layout.panel, self.slab.layout.group(), self.slab.layout.upstream);
        assert!(self.patch.len() >= OUT * OUT * group && self.planes.len() >= POINTS * plane);
        for tile in 0..self.slab.tiles {
            let (image, row, column) = self.slab.place(tile);
            let (channel, channels) = (self.channel, self.channels);
            let window =
                Window { image, row, column, rows: OUT, columns: OUT, channel, channels, pitch: group };
            self.images.copy(&window, self.patch);
            for c in (0..group).step_by(V::LANES) {
                let place = (c / panel * TILES + tile) * panel + c % panel;
                // SAFETY: within the patch and the planes, see the assertion.
                unsafe {
                    let zero = V::splat(T::ZERO);
                    let mut pixels = [[zero; OUT]; OUT];
                    for (pixel, value) in pixels.as_flattened_mut().iter_mut().enumerate() {
                        *value = V::load(self.patch.as_ptr().add(pixel * group + c));
                    }
                    let points = transform::both(transform::OutputTransposed, pixels, zero);
                    for (point, value) in points.as_flattened().iter().enumerate() {
                        value.store(self.planes.as_mut_ptr().add(point * plane + place));
                    }
                }
            }
        }
    }
}
