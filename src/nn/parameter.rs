//! One trainable tensor: its name, its shape here and in files, and how it starts.

use crate::random::{normal_at, uniform_at};
use crate::tensor::Shape;

/// Philox stream of initial values.
const STREAM_INIT: u32 = 1;

/// How a tensor is stored in files, which follow PyTorch, compared with its layout here.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Layout {
    /// Files `[K, C, R, S]`, here `[K, R, S, C]`.
    Filter,
    /// Matrix `[L, C·H·W]` over features flattened in the order C, H, W; here H, W, C.
    Features { height: usize, width: usize, channels: usize },
    /// Matrix `[C·H·W, L]`, or vector, whose rows are features flattened so; if `square`, its columns too.
    FeatureRows { height: usize, width: usize, channels: usize, square: bool },
    /// The same in both.
    Plain,
}

/// The distribution of initial values.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Initial {
    /// Uniform in ± the bound.
    Uniform(f64),
    /// Normal with this standard deviation.
    Normal(f64),
    Zero,
}

#[derive(Clone, PartialEq, Debug)]
pub struct Parameter {
    pub name: String,
    pub shape: Shape,
    pub layout: Layout,
    pub initial: Initial,
}

impl Parameter {
    pub fn new(name: impl Into<String>, shape: impl Into<Shape>, layout: Layout, initial: Initial) -> Self {
        Parameter { name: name.into(), shape: shape.into(), layout, initial }
    }

    pub fn len(&self) -> usize {
        self.shape.len()
    }

    pub fn is_empty(&self) -> bool {
        self.shape.is_empty()
    }

    /// Initial values. They depend on the seed and the parameter's name only, so adding a decoder does
    /// not change how the others start.
    pub fn initial_values(&self, seed: u64) -> Vec<f32> {
        let key = [seed as u32, (seed >> 32) as u32, name_hash(&self.name), 0];
        let value = |i: u64| match self.initial {
            Initial::Uniform(bound) => (2.0 * uniform_at(key, STREAM_INIT, i) - 1.0) * bound,
            Initial::Normal(sd) => normal_at(key, STREAM_INIT, i) * sd,
            Initial::Zero => 0.0,
        };
        (0..self.len() as u64).map(|i| value(i) as f32).collect()
    }

    /// Shape in files.
    pub fn file_shape(&self) -> Shape {
        match (self.layout, self.shape.dims()) {
            (Layout::Filter, &[k, r, s, c]) => Shape::new(&[k, c, r, s]),
            _ => self.shape,
        }
    }

    /// For each element in file order, its position here.
    fn positions(&self) -> Box<dyn Iterator<Item = usize> + '_> {
        let (rows, a, b) = match (self.layout, self.shape.dims()) {
            (Layout::Filter, &[k, r, s, c]) => (k, r * s, c),
            (Layout::Features { height, width, channels }, &[l, _]) => (l, height * width, channels),
            (Layout::FeatureRows { height, width, channels, square }, _) => {
                let (places, rows) = (height * width, height * width * channels);
                let columns = self.len() / rows;
                let here = move |i: usize| i % places * channels + i / places;
                return Box::new((0..rows).flat_map(move |row| {
                    (0..columns).map(move |c| here(row) * columns + if square { here(c) } else { c })
                }));
            }
            _ => return Box::new(0..self.len()),
        };
        // File order [row, channel, place], here [row, place, channel].
        Box::new((0..rows).flat_map(move |row| {
            (0..b).flat_map(move |channel| (0..a).map(move |place| (row * a + place) * b + channel))
        }))
    }

    pub fn to_file<T: Copy>(&self, values: &[T]) -> Vec<T> {
        self.positions().map(|i| values[i]).collect()
    }

    pub fn from_file<T: Copy + Default>(&self, stored: &[T]) -> Vec<T> {
        let mut values = vec![T::default(); self.len()];
        self.positions().zip(stored).for_each(|(i, &v)| values[i] = v);
        values
    }
}

/// FNV-1a, 32 bits.
fn name_hash(name: &str) -> u32 {
    name.bytes().fold(0x811c_9dc5, |h, b| (h ^ u32::from(b)).wrapping_mul(0x0100_0193))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_layout_is_pytorch_and_comes_back() {
        let filter = Parameter::new("f", [2, 1, 2, 3], Layout::Filter, Initial::Zero);
        // Here [K, R, S, C] = value 100 k + 10 s + c.
        let here: Vec<f32> = (0..12).map(|i| (100 * (i / 6) + 10 * (i / 3 % 2) + i % 3) as f32).collect();
        let stored = filter.to_file(&here);
        assert_eq!(filter.file_shape().dims(), [2, 3, 1, 2]);
        assert_eq!(stored, [0., 10., 1., 11., 2., 12., 100., 110., 101., 111., 102., 112.]);
        assert_eq!(filter.from_file(&stored), here);

        let layout = Layout::Features { height: 1, width: 2, channels: 3 };
        let decoder = Parameter::new("d", [1, 6], layout, Initial::Zero);
        let stored = decoder.to_file(&[0., 1., 2., 10., 11., 12.]);
        assert_eq!(stored, [0., 10., 1., 11., 2., 12.]);
        assert_eq!(decoder.from_file(&stored), [0., 1., 2., 10., 11., 12.]);

        // Value 10 times the row plus the column, both as place, then channel.
        let rows = |square| Layout::FeatureRows { height: 1, width: 2, channels: 2, square };
        let matrix = Parameter::new("m", [4, 4], rows(true), Initial::Zero);
        let here: Vec<f32> = (0..16).map(|i| (i / 4 * 10 + i % 4) as f32).collect();
        let stored = matrix.to_file(&here);
        assert_eq!(stored[..8], [0., 2., 1., 3., 20., 22., 21., 23.]);
        assert_eq!(matrix.from_file(&stored), here);
        let bias = Parameter::new("b", [4], rows(false), Initial::Zero);
        assert_eq!(bias.to_file(&[0., 1., 2., 3.]), [0., 2., 1., 3.]);
    }

    #[test]
    fn initial_values_follow_seed_and_name() {
        let p = Parameter::new("layers.0.weight", [4, 3, 3, 2], Layout::Filter, Initial::Uniform(0.1));
        let q = Parameter { name: "layers.1.weight".into(), ..p.clone() };
        assert_eq!(p.initial_values(3), p.initial_values(3));
        assert_ne!(p.initial_values(3), p.initial_values(4));
        assert_ne!(p.initial_values(3), q.initial_values(3));
        assert!(p.initial_values(3).iter().all(|v| v.abs() <= 0.1));
    }
}
