//! The classifiers: blocks of [3×3 convolution, ReLU, 2×2 max-pool], flattened features, and one
//! affine decoder a task.

use super::{Initial, Layout, Parameter};
use crate::error::{Error, Result};
use crate::tape::{Tape, Var};

/// A family of nets; the input size comes from the data.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Architecture {
    pub name: &'static str,
    /// Output channels of each block.
    pub channels: &'static [usize],
    pub about: &'static str,
}

/// Every net that `--net` knows.
pub const NETS: &[Architecture] = &[
    Architecture {
        name: "mnistnet",
        channels: &[32, 64],
        about: "2 blocks, 32 and 64 channels, for 28x28 grey images",
    },
    Architecture {
        name: "cifarnet",
        channels: &[64, 128],
        about: "2 blocks, 64 and 128 channels, for 32x32 images",
    },
    Architecture {
        name: "mininet",
        channels: &[32, 32, 32, 32],
        about: "4 blocks of 32 channels, for 64x64 images",
    },
    Architecture {
        name: "omninet",
        channels: &[53, 53, 53, 53],
        about: "4 blocks of 53 channels, for 105x105 characters",
    },
];

impl Architecture {
    pub fn named(name: &str) -> Result<Architecture> {
        NETS.iter().copied().find(|a| a.name == name).ok_or_else(|| {
            let known: Vec<&str> = NETS.iter().map(|a| a.name).collect();
            Error::usage(format!("unknown net '{name}'; known: {}", known.join(", ")))
        })
    }
}

/// Filter size and padding of every convolution.
const FILTER: usize = 3;
const PADDING: usize = 1;
/// Pooling window and stride.
const WINDOW: usize = 2;

/// A net for images of one size.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Net {
    pub architecture: Architecture,
    /// Height, width, channels.
    pub input: [usize; 3],
}

impl Net {
    pub fn new(architecture: Architecture, input: [usize; 3]) -> Result<Self> {
        let net = Net { architecture, input };
        let [h, w, c] = net.output();
        if h == 0 || w == 0 || c == 0 || input[2] == 0 {
            let [h, w, c] = input;
            let what = format!("{} has {} pooling steps", architecture.name, architecture.channels.len());
            return Err(Error::shape("net", format!("{what}; {h}x{w}x{c} images are too small for it")));
        }
        Ok(net)
    }

    /// Height, width, channels of the features.
    pub fn output(&self) -> [usize; 3] {
        let shrink = |size: usize| self.architecture.channels.iter().fold(size, |s, _| s / WINDOW);
        let channels = self.architecture.channels.last().copied().unwrap_or(self.input[2]);
        [shrink(self.input[0]), shrink(self.input[1]), channels]
    }

    /// Number of flattened features.
    pub fn features(&self) -> usize {
        self.output().iter().product()
    }

    /// Parameters of the shared layers: `layers.0.weight`, `layers.0.bias`, …, uniform in ±1/√fan_in.
    pub fn parameters(&self) -> Vec<Parameter> {
        let mut inputs = self.input[2];
        let mut all = Vec::new();
        for (i, &channels) in self.architecture.channels.iter().enumerate() {
            let bound = Initial::Uniform(1.0 / ((inputs * FILTER * FILTER) as f64).sqrt());
            let shape = [channels, FILTER, FILTER, inputs];
            all.push(Parameter::new(format!("layers.{i}.weight"), shape, Layout::Filter, bound));
            all.push(Parameter::new(format!("layers.{i}.bias"), [channels], Layout::Plain, bound));
            inputs = channels;
        }
        all
    }

    /// Weight and bias of the decoder of a task: `decoder.T.weight`, `decoder.T.bias`.
    pub fn decoder(&self, task: usize, classes: usize) -> [Parameter; 2] {
        let [height, width, channels] = self.output();
        let bound = Initial::Uniform(1.0 / (self.features() as f64).sqrt());
        let layout = Layout::Features { height, width, channels };
        [
            Parameter::new(format!("decoder.{task}.weight"), [classes, self.features()], layout, bound),
            Parameter::new(format!("decoder.{task}.bias"), [classes], Layout::Plain, bound),
        ]
    }

    /// Features `[N, d]` of images `x [N, H, W, C]`, flattened in the order H, W, C.
    ///
    /// Pooling stands before bias and ReLU. Both are monotone, so the values are those of the usual
    /// order bit for bit, and so are all derivatives; but bias, ReLU and their derivatives then work on
    /// a quarter of the elements.
    pub fn record(&self, t: &mut Tape, x: Var, parameters: &[Var]) -> Var {
        let mut value = x;
        for layer in parameters.chunks_exact(2) {
            let convolved = t.conv2d(value, layer[0], 1, PADDING);
            let pooled = t.max_pool(convolved, WINDOW);
            let shifted = t.add(pooled, layer[1]);
            value = t.relu(shifted);
        }
        let images = t.shape(x).first().copied().unwrap_or(0);
        t.reshape(value, [images, self.features()])
    }
}

/// Logits `[N, L]` of an affine decoder: `features · weightᵀ + bias`.
pub fn decode(t: &mut Tape, features: Var, decoder: &[Var]) -> Var {
    let product = t.matmul(features, decoder[0], false, true);
    t.add(product, decoder[1])
}

/// Cross-entropy of a task on a batch of images and labels: the net's features, the task's decoder.
pub fn loss(t: &mut Tape, net: Net, (x, labels): (Var, Var), theta: &[Var], phi: &[Var]) -> Var {
    let features = net.record(t, x, theta);
    let logits = decode(t, features, phi);
    t.cross_entropy(logits, labels)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_those_of_the_specification() {
        // METHODS §5: features and parameters of the shared layers.
        for (name, input, features, count) in [
            ("cifarnet", [32, 32, 3], 8192, 75_648),
            ("mininet", [64, 64, 3], 512, 28_640),
            ("omninet", [105, 105, 1], 1908, 76_532),
            ("mnistnet", [28, 28, 1], 3136, 18_816),
        ] {
            let net = Net::new(Architecture::named(name).unwrap(), input).unwrap();
            assert_eq!(net.features(), features, "{name}");
            assert_eq!(net.parameters().iter().map(Parameter::len).sum::<usize>(), count, "{name}");
        }
    }

    #[test]
    fn images_that_are_too_small_are_refused() {
        assert!(Net::new(NETS[2], [8, 8, 3]).is_err());
    }
}
