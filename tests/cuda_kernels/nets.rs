//! The plans of the product's training steps: every net with every method and update rule, every autoencoder.

use tessera::device::cuda::launch::Precision;
use tessera::device::cuda::lower;
use tessera::embed;
use tessera::meta::{Hessian, RULES};
use tessera::methods::{self, Constants};
use tessera::nn::autoencoder::Sizes;
use tessera::nn::{NETS, Net};
use tessera::tape::Tape;
use tessera::tape::plan::Plan;

/// Images of a batch, as the recipes have it.
pub const BATCH: usize = 100;

/// Training steps by name. A step of `batch` images is planned as the device plans it.
pub fn plans(batch: usize, precision: Precision) -> Vec<(String, Plan)> {
    let plan = |(name, tape): (String, Tape)| (name, lower::plan(&tape, precision, true).unwrap());
    tapes(batch).into_iter().map(plan).collect()
}

fn tapes(batch: usize) -> Vec<(String, Tape)> {
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
        ..Constants::default()
    };
    let mut tapes = Vec::new();
    for architecture in NETS {
        let (_, input) =
            inputs.iter().find(|(name, _)| *name == architecture.name).expect("a net without a size here");
        let net = Net::new(*architecture, *input).unwrap();
        for method in methods::ALL {
            for rule in if method.uses_rule { RULES } else { &RULES[..1] } {
                let (tasks, rule) = (vec![10, 10], *rule);
                // Two steps have no Hessian, and no choice of it.
                let hessian = if rule.two_steps { Hessian::ThetaOnly } else { Hessian::Joint };
                let constants = Constants { hessian, ..constants };
                let setup =
                    methods::Setup { net, batch, classes: 10, tasks, rule, constants, unlabelled: false };
                for (number, program) in method.record(&setup).unwrap().into_iter().enumerate() {
                    let rule = if method.uses_rule { format!(" {}", rule.name) } else { String::new() };
                    let name = format!("{} {}{rule} {number}", architecture.name, method.name);
                    tapes.push((name, program.tape));
                }
            }
        }
    }
    for colours in [1, 3] {
        let sizes = Sizes { size: 32, colours, depth: 16, latent: 16, latent_size: 4 };
        for method in embed::ALL.iter().filter(|m| m.is_trained()) {
            let tape =
                method.record(&embed::Setup { sizes, batch: batch.min(64), probe: None }).unwrap().tape;
            tapes.push((format!("{} {colours}", method.name), tape));
        }
    }
    tapes
}
