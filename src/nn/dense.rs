//! Affine layers between flattened features, with Glorot & Bengio's initial values (2010): weights uniform in
//! ±√(6 / (inputs + outputs)), biases 0.

use super::autoencoder::Sizes;
use super::{Initial, Layout, Parameter};

pub use super::net::decode as affine;

/// Weight `[outputs, inputs]` and bias of a layer, `prefix.weight` and `prefix.bias`. The layout is that of the
/// weight; if it says how rows are flattened, it holds for the bias too.
pub fn dense(prefix: &str, inputs: usize, outputs: usize, layout: Layout) -> Vec<Parameter> {
    let bound = (6.0 / (inputs + outputs) as f64).sqrt();
    let bias = match layout {
        Layout::FeatureRows { height, width, channels, .. } => {
            Layout::FeatureRows { height, width, channels, square: false }
        }
        _ => Layout::Plain,
    };
    vec![
        Parameter::new(format!("{prefix}.weight"), [outputs, inputs], layout, Initial::Uniform(bound)),
        Parameter::new(format!("{prefix}.bias"), [outputs], bias, Initial::Zero),
    ]
}

/// Of a layer over flattened codes.
pub fn over_code(s: &Sizes) -> Layout {
    Layout::Features { height: s.latent_size, width: s.latent_size, channels: s.latent }
}

/// Of a layer whose results are a flattened code; `square` if its inputs are one too.
pub fn into_code(s: &Sizes, square: bool) -> Layout {
    Layout::FeatureRows { height: s.latent_size, width: s.latent_size, channels: s.latent, square }
}
