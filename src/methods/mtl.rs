//! Joint multi-task learning (METHODS §7.4, eq. 2): SGD on the mean of the losses of the main task and
//! all auxiliary tasks. With unlabelled images (†) the auxiliary losses are taken on a batch of the
//! whole pool, the main loss on a batch of labelled images.

use super::{Batch, Recorder, Setup, StepProgram};
use crate::nn::net::decode;

pub(super) fn record(setup: &Setup) -> Vec<StepProgram> {
    let mut r = Recorder::new(setup);
    let rate = r.rate("rate");
    let shared = r.shared();
    let theta = r.values(&shared);

    let source = if setup.unlabelled { Batch::Pool } else { Batch::Labelled };
    let main_source = if setup.unlabelled { Batch::Fresh } else { Batch::Labelled };
    let main_images = r.images("images", main_source);
    let main_features = setup.net.record(&mut r.tape, main_images, &theta);
    let features = if setup.unlabelled {
        let images = r.images("images.pool", source);
        setup.net.record(&mut r.tape, images, &theta)
    } else {
        main_features
    };

    let mut decoders = Vec::new();
    let mut losses = Vec::new();
    for (task, &classes) in std::iter::once(&setup.classes).chain(&setup.tasks).enumerate() {
        let (from, of) = if task == 0 { (main_features, main_source) } else { (features, source) };
        let labels = r.labels(&format!("labels.{task}"), of, Some(task));
        let decoder = r.decoder(task, classes);
        let phi = r.values(&decoder);
        let logits = decode(&mut r.tape, from, &phi);
        losses.push(r.tape.cross_entropy(logits, labels));
        decoders.push(decoder);
    }
    let total = losses.iter().skip(1).fold(losses[0], |sum, &l| r.tape.add(sum, l));
    let loss = r.tape.scale(total, 1.0 / losses.len() as f64);

    let groups: Vec<_> = std::iter::once(shared).chain(decoders).collect();
    let wrt: Vec<_> = groups.iter().flat_map(|g| r.values(g)).collect();
    let mut gradients = r.tape.reverse(loss, None, &wrt).into_iter();
    for group in &groups {
        let own: Vec<_> = gradients.by_ref().take(group.values.len()).collect();
        r.sgd(group, &own, rate, false);
    }
    r.tape.output("loss", losses[0]);
    r.tape.output("joint_loss", loss);
    let images = setup.batch * if setup.unlabelled { 2 } else { 1 };
    vec![r.finish(vec![0], images)]
}
