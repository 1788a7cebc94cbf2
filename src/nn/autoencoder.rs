//! The convolutional encoder, decoder and critic of the autoencoders (METHODS §3.1, after Berthelot
//! et al. 2019): stride 1, "same" padding, leaky ReLU with slope 0.2, no normalisation.

use super::{Initial, Layout, Parameter};
use crate::error::{Error, Result};
use crate::tape::{Tape, Var};

/// Slope of the leaky ReLU.
pub const SLOPE: f64 = 0.2;

/// Sizes of an autoencoder.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sizes {
    /// Height and width of the (square) input.
    pub size: usize,
    /// Colours of the input.
    pub colours: usize,
    /// Channels of the first scale.
    pub depth: usize,
    /// Channels of the code.
    pub latent: usize,
    /// Height and width of the code.
    pub latent_size: usize,
}

impl Sizes {
    pub fn check(&self) -> Result<()> {
        let fits = self.latent_size > 0 && self.size == self.latent_size << self.scales();
        if !fits || self.depth == 0 || self.latent == 0 || self.colours == 0 {
            return Err(Error::shape(
                "autoencoder",
                format!("images must be {} times a power of two wide; {self:?}", self.latent_size),
            ));
        }
        Ok(())
    }

    /// Halvings between the input and the code.
    pub fn scales(&self) -> usize {
        (self.size / self.latent_size.max(1)).max(1).ilog2() as usize
    }

    /// Elements of a code.
    pub fn code(&self) -> usize {
        self.latent * self.latent_size * self.latent_size
    }
}

/// A stack of convolutions: channels in, channels out, filter size of each.
fn convolutions(prefix: &str, sizes: impl IntoIterator<Item = (usize, usize, usize)>) -> Vec<Parameter> {
    let mut all = Vec::new();
    for (i, (from, to, filter)) in sizes.into_iter().enumerate() {
        let sd = 1.0 / ((1.0 + SLOPE * SLOPE) * (filter * filter * from) as f64).sqrt();
        let shape = [to, filter, filter, from];
        all.push(Parameter::new(format!("{prefix}.{i}.weight"), shape, Layout::Filter, Initial::Normal(sd)));
        all.push(Parameter::new(format!("{prefix}.{i}.bias"), [to], Layout::Plain, Initial::Zero));
    }
    all
}

fn conv(t: &mut Tape, x: Var, layer: &[Var]) -> Var {
    let pad = t.shape(layer[0]).get(1).map_or(0, |r| r / 2);
    let y = t.conv2d(x, layer[0], 1, pad);
    t.add(y, layer[1])
}

fn conv_leaky(t: &mut Tape, x: Var, layer: &[Var]) -> Var {
    let y = conv(t, x, layer);
    t.leaky_relu(y, SLOPE)
}

/// Parameters of an encoder (also the shape of ACAI's critic), named `prefix.0.weight`, ….
pub fn encoder_parameters(prefix: &str, s: &Sizes) -> Vec<Parameter> {
    let mut sizes = vec![(s.colours, s.depth, 1)];
    let mut channels = s.depth;
    for k in 0..s.scales() {
        sizes.extend([(channels, s.depth << k, 3), (s.depth << k, s.depth << k, 3)]);
        channels = s.depth << k;
    }
    sizes.extend([(channels, s.depth << s.scales(), 3), (s.depth << s.scales(), s.latent, 3)]);
    convolutions(prefix, sizes)
}

pub fn decoder_parameters(prefix: &str, s: &Sizes) -> Vec<Parameter> {
    let mut sizes = Vec::new();
    let mut channels = s.latent;
    for k in (0..s.scales()).rev() {
        sizes.extend([(channels, s.depth << k, 3), (s.depth << k, s.depth << k, 3)]);
        channels = s.depth << k;
    }
    sizes.extend([(channels, s.depth, 3), (s.depth, s.colours, 3)]);
    convolutions(prefix, sizes)
}

/// Images `[N, H, W, colours]` to codes `[N, h, w, latent]`.
pub fn encode(t: &mut Tape, x: Var, parameters: &[Var]) -> Var {
    let layers: Vec<&[Var]> = parameters.chunks_exact(2).collect();
    let (first, rest) = (layers[0], &layers[1..]);
    let (scales, last) = rest.split_at(rest.len() - 2);
    let mut value = conv(t, x, first);
    for pair in scales.chunks_exact(2) {
        value = conv_leaky(t, value, pair[0]);
        value = conv_leaky(t, value, pair[1]);
        value = t.avg_pool(value, 2);
    }
    value = conv_leaky(t, value, last[0]);
    conv(t, value, last[1])
}

/// Codes `[N, h, w, latent]` to images `[N, H, W, colours]`.
pub fn decode(t: &mut Tape, z: Var, parameters: &[Var]) -> Var {
    let layers: Vec<&[Var]> = parameters.chunks_exact(2).collect();
    let (scales, last) = layers.split_at(layers.len() - 2);
    let mut value = z;
    for pair in scales.chunks_exact(2) {
        value = conv_leaky(t, value, pair[0]);
        value = conv_leaky(t, value, pair[1]);
        value = t.upsample(value, 2);
    }
    value = conv_leaky(t, value, last[0]);
    conv(t, value, last[1])
}

/// ACAI's critic: an encoder whose output is averaged to one number an image, `[N, 1]`.
pub fn criticise(t: &mut Tape, x: Var, parameters: &[Var]) -> Var {
    let map = encode(t, x, parameters);
    let shape = t.shape(map);
    let images = shape.first().copied().unwrap_or(1);
    let flat = t.reshape(map, [images, shape.len() / images.max(1)]);
    let sum = t.sum_to(flat, [images, 1]);
    t.scale(sum, images as f64 / shape.len() as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_decodes_to_an_image_of_the_same_size() {
        let sizes = Sizes { size: 32, colours: 1, depth: 16, latent: 16, latent_size: 4 };
        sizes.check().unwrap();
        assert_eq!((sizes.scales(), sizes.code()), (3, 256));
        let mut t = Tape::new();
        let leaves = |t: &mut Tape, p: Vec<Parameter>| {
            p.iter().map(|p| t.input(p.name.clone(), p.shape)).collect::<Vec<_>>()
        };
        let (enc, dec) = (
            leaves(&mut t, encoder_parameters("encoder", &sizes)),
            leaves(&mut t, decoder_parameters("decoder", &sizes)),
        );
        let x = t.input("x", [2, 32, 32, 1]);
        let z = encode(&mut t, x, &enc);
        let y = decode(&mut t, z, &dec);
        let c = criticise(&mut t, y, &enc);
        t.check().unwrap();
        assert_eq!(t.shape(z).dims(), [2, 4, 4, 16]);
        assert_eq!(t.shape(y), t.shape(x));
        assert_eq!(t.shape(c).dims(), [2, 1]);
    }
}
