//! How a product `[rows, columns]`, a sum over terms, is cut into blocks of a launch: tiles of the result,
//! parts of the sum. Shared by convolutions and matrix products; `kernels/tile.cuh` names the same things.
//!
//! The choice is made for a GPU of about a hundred multiprocessors, never for the one at hand: plans, and with
//! them the last bits of results, are the same on every GPU.

use super::launch::{Argument, Function, Launch, Precision, Source};
use super::rates::GPUS;

/// Tile of the result that a block computes, and the block's warps along both sides.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Tile {
    pub rows: usize,
    pub columns: usize,
    warps: [usize; 2],
    /// Share of the arithmetic peak that the main loop can reach, in percent: large tiles use an operand
    /// more often once it is in shared memory and in registers. An estimate that orders the tiles.
    worth: usize,
}

const fn tile(rows: usize, columns: usize, warps: [usize; 2], worth: usize) -> Tile {
    Tile { rows, columns, warps, worth }
}

/// A thread has at most 64 sums; whole pooling windows, so at least 4 rows.
const TILES: [Tile; 7] = [
    tile(128, 128, [2, 4], 100),
    tile(128, 64, [2, 2], 90),
    tile(64, 64, [2, 2], 75),
    tile(128, 32, [4, 1], 70),
    tile(64, 32, [2, 2], 60),
    tile(32, 64, [1, 4], 60),
    tile(128, 16, [4, 1], 50),
];

/// Blocks that fill the GPU: two for each of a hundred multiprocessors, so that one computes while the
/// other waits.
const FILLING: usize = 200;

/// Terms that a part of a sum has at least; below, writing and adding the parts costs more than waiting.
const PART: usize = 128;

/// How an operand lies in memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Along {
    Terms,
    Lines,
}

/// An operand of a product.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Operand {
    pub along: Along,
    /// Elements that can be copied at once, 4 or 1.
    pub width: usize,
    /// Registers that a thread keeps for every element or run of elements that it copies.
    pub registers: usize,
}

impl Operand {
    /// An operand whose rows in memory have `row` elements.
    pub fn new(along: Along, row: usize) -> Self {
        Operand { along, width: if row.is_multiple_of(4) { 4 } else { 1 }, registers: 0 }
    }

    /// Elements of a tile of `lines`, as `AlongTerms::SIZE` and `AlongLines::SIZE` have it.
    fn size(&self, lines: usize, depth: usize) -> usize {
        match self.along {
            Along::Terms => lines * depth,
            Along::Lines => (lines + 8) * depth,
        }
    }
}

/// A product before it is cut.
#[derive(Clone, Copy, Debug)]
pub(super) struct Product {
    pub rows: usize,
    pub columns: usize,
    /// Of one source; sources are cut into steps each for itself.
    pub terms: usize,
    pub sources: usize,
    pub a: Operand,
    pub b: Operand,
    pub precision: Precision,
}

/// A product cut into blocks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cut {
    product: Product,
    tile: Tile,
    /// Terms of a step, steps in flight.
    depth: usize,
    stages: usize,
    /// Steps of one source.
    pub steps: usize,
    /// Parts of the sum; with more than one they go to the workspace, and a second launch adds them.
    pub parts: usize,
}

impl Product {
    /// Terms that a step adds. Tensor cores are fast enough for barriers to count, so they get longer
    /// steps, but not where every element is a copy of its own with an address of its own.
    fn depth(&self) -> usize {
        let narrow = self.a.width == 1 || self.b.width == 1;
        if self.precision == Precision::F32 || narrow { 16 } else { 32 }
    }

    fn steps(&self) -> usize {
        self.terms.div_ceil(self.depth())
    }

    fn blocks(&self, tile: &Tile) -> usize {
        self.rows.div_ceil(tile.rows) * self.columns.div_ceil(tile.columns)
    }

    /// Does a thread of a block have registers enough, beside those for its sums?
    fn fits(&self, tile: &Tile) -> bool {
        let threads = 32 * tile.warps[0] * tile.warps[1];
        let sums = tile.rows * tile.columns / threads;
        let items = tile.rows * self.depth() / self.a.width / threads;
        // The largest tile leaves too few where every element is a copy of its own.
        let narrow = self.a.width == 1 || self.b.width == 1;
        let largest = tile.columns == 128 && (self.precision == Precision::F32 || narrow);
        !largest && items * self.a.registers <= if sums == 64 { 16 } else { 32 }
    }

    fn parts(&self, tile: &Tile) -> usize {
        let blocks = self.blocks(tile);
        let most = (self.steps() * self.sources * self.depth() / PART).max(1);
        if 2 * blocks >= FILLING { 1 } else { (FILLING / blocks.max(1)).min(most) }
    }

    /// Multiplications with padding, over what tile and filling of the GPU leave of the peak; to them, as many
    /// as fit into the time that parts take to memory and back.
    fn cost(&self, tile: &Tile) -> f64 {
        let (blocks, parts) = (self.blocks(tile), self.parts(tile));
        let terms = self.steps() * self.sources * self.depth();
        let work = (blocks * tile.rows * tile.columns) as f64 * terms as f64;
        let filled = ((blocks * parts) as f64 / FILLING as f64).min(1.0);
        let moved = if parts > 1 { 2 * parts * self.rows * self.columns * size_of::<f32>() } else { 0 };
        // A GPU of about a hundred multiprocessors; a multiply-add is two FLOP.
        let waited = moved as f64 * GPUS[0].ridge(self.precision.into()) / 2.0;
        work / (tile.worth as f64 / 100.0 * filled) + waited
    }

    pub fn cut(self) -> Cut {
        let tile = TILES
            .iter()
            .filter(|t| self.fits(t))
            .min_by(|a, b| self.cost(a).total_cmp(&self.cost(b)))
            .unwrap_or(&TILES[2]);
        let depth = self.depth();
        // The largest tiles leave room for a second block of theirs on a multiprocessor.
        let stages = if tile.columns * depth == 128 * 32 { 2 } else { 3 };
        Cut { product: self, tile: *tile, depth, stages, steps: self.steps(), parts: self.parts(tile) }
    }
}

impl Cut {
    /// Rows, columns, and terms of one source.
    pub fn sizes(&self) -> (usize, usize, usize) {
        (self.product.rows, self.product.columns, self.product.terms)
    }

    /// Real elements of scratch memory.
    pub fn workspace(&self) -> usize {
        // Up to four planes, each of whole sectors: see `part_plane` of `kernels/epilogue.cuh`.
        let part = (self.product.rows * self.product.columns).next_multiple_of(8) + 3 * 8;
        if self.parts > 1 { self.parts * part } else { 0 }
    }

    /// The launch of a kernel that computes the product.
    pub fn launch(
        &self,
        file: &'static str,
        entry: &'static str,
        variant: &[(&str, usize)],
        arguments: Vec<Argument>,
    ) -> Launch {
        let (tile, product) = (&self.tile, &self.product);
        let precision = match product.precision {
            Precision::F32 => 0,
            Precision::Tf32 => 1,
            Precision::Bf16 => 2,
        };
        let common = [
            ("PRECISION", precision),
            ("TILE_M", tile.rows),
            ("TILE_N", tile.columns),
            ("WARPS_M", tile.warps[0]),
            ("WARPS_N", tile.warps[1]),
            ("DEPTH", self.depth),
            ("STAGES", self.stages),
            ("WIDTH_A", product.a.width),
            ("WIDTH_B", product.b.width),
        ];
        let stage = product.a.size(tile.rows, self.depth) + product.b.size(tile.columns, self.depth);
        Launch {
            function: Function {
                source: Source::File(file),
                defines: common
                    .iter()
                    .chain(variant)
                    .map(|(name, value)| format!("{name}={value}"))
                    .collect(),
                entry: entry.into(),
                dynamic_shared: (self.stages * stage * size_of::<f32>()) as u32,
            },
            grid: [product.blocks(tile) as u32, 1, self.parts as u32],
            block: [(32 * tile.warps[0] * tile.warps[1]) as u32, 1, 1],
            arguments,
        }
    }

    /// The launch that adds the parts, if there are several.
    pub fn finish(&self, finish: &Finish) -> Option<Launch> {
        let Product { rows, columns, .. } = self.product;
        let outputs = if finish.stages.pool == 0 { rows } else { rows / 4 } * columns;
        (self.parts > 1).then(|| Launch {
            function: Function {
                source: Source::File("finish"),
                defines: Vec::new(),
                entry: "finish_parts".into(),
                dynamic_shared: 0,
            },
            grid: [outputs.div_ceil(32) as u32, 1, 1],
            block: [256, 1, 1],
            arguments: vec![
                Argument::U32(rows as u32),
                Argument::U32(columns as u32),
                Argument::U32(self.parts as u32),
                Argument::Bytes(bytemuck::bytes_of(&finish.stages).to_vec()),
                Argument::Workspace(0),
                finish.given.clone(),
                finish.bias.clone(),
                finish.mask.clone(),
                Argument::Write(0),
                finish.found.clone(),
            ],
        })
    }

    /// Where the parts go.
    pub fn parts(&self) -> Argument {
        if self.parts > 1 { Argument::Workspace(0) } else { Argument::Null }
    }
}

/// `Stages` of `kernels/epilogue.cuh`.
#[repr(C)]
#[derive(Clone, Copy, Default, bytemuck::Pod, bytemuck::Zeroable)]
pub(super) struct Stages {
    pub pool: u32,
    pub activation: u32,
    pub slope: f32,
}

/// What follows a sum, and the operands of that.
pub(super) struct Finish {
    pub stages: Stages,
    pub given: Argument,
    pub bias: Argument,
    pub mask: Argument,
    pub found: Argument,
}

impl Default for Finish {
    fn default() -> Self {
        let none = || Argument::Null;
        Finish { stages: Stages::default(), given: none(), bias: none(), mask: none(), found: none() }
    }
}
