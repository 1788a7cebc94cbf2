//! The convolutions and matrix products that the product's nets ask for, from their plans.

use tessera::device::cuda::launch::{Function, Launch, Precision};
use tessera::device::cuda::{conv, gemm, lower};
use tessera::embed;
use tessera::meta::{Hessian, RULES};
use tessera::methods::{self, Constants};
use tessera::nn::autoencoder::Sizes;
use tessera::nn::{NETS, Net};
use tessera::tape::Tape;
use tessera::tape::plan::{ConvolutionCall, Kernel};

use crate::values::PRECISIONS;

/// Images of a batch.
const BATCH: usize = 100;

/// Training steps of every net with every method, and of the autoencoders.
fn steps() -> Vec<Tape> {
    let inputs = [
        ("mnistnet", [28, 28, 1]),
        ("cifarnet", [32, 32, 3]),
        ("mininet", [64, 64, 3]),
        ("omninet", [105, 105, 1]),
    ];
    let constants = Constants {
        momentum: 0.9,
        weight_decay: 5e-4,
        clip: 10.0,
        inner_steps: 1,
        hessian: Hessian::Joint,
        train_main_decoder_on_meta: false,
    };
    let mut tapes = Vec::new();
    for architecture in NETS {
        let (_, input) =
            inputs.iter().find(|(name, _)| *name == architecture.name).expect("a net without a size here");
        let net = Net::new(*architecture, *input).unwrap();
        let (tasks, rule) = (vec![10, 10], RULES[0]);
        let setup =
            methods::Setup { net, batch: BATCH, classes: 10, tasks, rule, constants, unlabelled: false };
        for method in methods::ALL {
            tapes.extend(method.record(&setup).unwrap().into_iter().map(|p| p.tape));
        }
    }
    for colours in [1, 3] {
        let sizes = Sizes { size: 32, colours, depth: 16, latent: 16, latent_size: 4 };
        for method in embed::ALL.iter().filter(|m| m.is_trained()) {
            tapes.push(method.record(&embed::Setup { sizes, batch: 64 }).unwrap().tape);
        }
    }
    tapes
}

/// Convolutions and matrix products of all steps, each once.
pub fn kernels() -> Vec<Kernel> {
    let mut kernels: Vec<Kernel> = Vec::new();
    for tape in steps() {
        for step in lower::plan(&tape, Precision::F32, true).unwrap().steps {
            let new = match (&step.kernel, kernels.iter()) {
                (Kernel::Convolution(call), mut all) => {
                    !all.any(|k| matches!(k, Kernel::Convolution(other) if other == call))
                }
                (&Kernel::Matmul { m, n, k, transpose_a, transpose_b }, mut all) => {
                    let this = (m, n, k, transpose_a, transpose_b);
                    !all.any(|other| matches!(*other, Kernel::Matmul { m, n, k, transpose_a, transpose_b } if (m, n, k, transpose_a, transpose_b) == this))
                }
                _ => false,
            };
            if new {
                kernels.push(step.kernel);
            }
        }
    }
    kernels
}

/// A kernel for one image instead of a batch.
fn single(kernel: &Kernel) -> Kernel {
    match kernel {
        Kernel::Convolution(call) => {
            let geometry = tessera::ops::convolution::Geometry { n: 1, ..call.geometry };
            Kernel::Convolution(ConvolutionCall { geometry, ..*call })
        }
        other => other.clone(),
    }
}

pub fn launches(kernel: &Kernel, precision: Precision) -> Vec<Launch> {
    match kernel {
        Kernel::Convolution(call) => conv::launches(call, precision),
        &Kernel::Matmul { m, n, k, transpose_a, transpose_b } => {
            gemm::launches(m, n, k, transpose_a, transpose_b, precision)
        }
        _ => Vec::new(),
    }
}

/// Every variant that the nets ask for in batches and for single images, with its threads a block; in the
/// order of its name.
pub fn variants() -> Vec<(Function, u32)> {
    let mut all: Vec<(Function, u32)> = Vec::new();
    for kernel in kernels() {
        for (precision, kernel) in
            PRECISIONS.into_iter().flat_map(|p| [(p, kernel.clone()), (p, single(&kernel))])
        {
            for launch in launches(&kernel, precision) {
                let variant = (launch.function, launch.block[0]);
                if !all.contains(&variant) {
                    all.push(variant);
                }
            }
        }
    }
    all.sort_by_key(|(function, _)| name(function));
    all
}

/// A short name of a variant: its file, and the values of its definitions.
pub fn name(function: &Function) -> String {
    let tessera::device::cuda::launch::Source::File(file) = function.source else { return String::new() };
    let value = |d: &String| d.replace('=', "");
    [file.to_string()].into_iter().chain(function.defines.iter().map(value)).collect::<Vec<_>>().join(" ")
}
