//! Multi-task learning (METHODS §7.4, eq. 2): SGD on the mean of the losses of the main task and all
//! auxiliary tasks, or on the loss of one uniformly drawn task a step. With unlabelled images (†) the
//! auxiliary losses are taken on a batch of the whole pool, the main loss on a batch of labelled images.

use serde::{Deserialize, Serialize};

use super::{Batch, Recorder, Setup, StepProgram, by_classes};
use crate::nn::net::{decode, loss as task_loss};

/// Which losses a step lowers.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Schedule {
    /// The mean over all tasks.
    #[default]
    Joint,
    /// That of one task, drawn uniformly.
    Alternate,
}

pub(super) fn record(setup: &Setup) -> Vec<StepProgram> {
    match setup.constants.schedule {
        Schedule::Joint => vec![joint(setup)],
        Schedule::Alternate => by_classes(setup, |auxiliary, tasks| one(setup, auxiliary, tasks)),
    }
}

fn joint(setup: &Setup) -> StepProgram {
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
    let loss = r.mean(&losses);
    let groups: Vec<_> = std::iter::once(shared).chain(decoders).collect();
    r.descend(loss, &groups, rate);
    r.tape.output("loss", losses[0]);
    r.tape.output("joint_loss", loss);
    let images = setup.batch * if setup.unlabelled { 2 } else { 1 };
    r.finish(vec![0], images)
}

/// `auxiliary`: classes of the task, or `None` for the main task.
fn one(setup: &Setup, auxiliary: Option<usize>, tasks: Vec<usize>) -> StepProgram {
    let mut r = Recorder::new(setup);
    let source = if setup.unlabelled && auxiliary.is_some() { Batch::Pool } else { Batch::Labelled };
    let batch = (r.images("images", source), r.labels("labels", source, None));
    let rate = r.rate("rate");
    let shared = r.shared();
    let decoder = match auxiliary {
        Some(classes) => r.task_decoder(classes),
        None => r.decoder(0, setup.classes),
    };
    let (theta, phi) = (r.values(&shared), r.values(&decoder));
    let loss = task_loss(&mut r.tape, setup.net, batch, &theta, &phi);
    r.descend(loss, &[shared, decoder], rate);
    r.tape.output(if auxiliary.is_some() { "auxiliary_loss" } else { "loss" }, loss);
    r.finish(tasks, setup.batch)
}
