//! Single-task learning (METHODS §7.1): SGD on the main task's loss.

use super::{Batch, Recorder, Setup, StepProgram};
use crate::nn::net::loss as task_loss;

pub(super) fn record(setup: &Setup) -> Vec<StepProgram> {
    let mut r = Recorder::new(setup);
    let batch = (r.images("images", Batch::Labelled), r.labels("labels.0", Batch::Labelled, Some(0)));
    let rate = r.rate("rate");
    let (shared, decoder) = (r.shared(), r.decoder(0, setup.classes));
    let (theta, phi) = (r.values(&shared), r.values(&decoder));
    let loss = task_loss(&mut r.tape, setup.net, batch, &theta, &phi);
    r.descend(loss, &[shared, decoder], rate);
    r.tape.output("loss", loss);
    vec![r.finish(vec![0], setup.batch)]
}
