//! Training methods. A method is a set of step programs over named buffers and a rule that says which
//! program runs at a step, on which task, and what data it wants; the trainer does the rest.
//!
//! To add a method: write its file here, with a function that records its programs, and list it in
//! [`ALL`].

mod meta_mtl;
mod mtl;
mod pta;
mod stl;

pub use mtl::Schedule;
pub use pta::{KEEP, Operators};

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::meta::{Hessian, Rule};
use crate::nn::{Net, Parameter};
use crate::optim::State;
use crate::tape::{Kind, Tape, Var};

/// A way to train.
pub struct Method {
    pub name: &'static str,
    pub about: &'static str,
    /// Does it need auxiliary tasks?
    pub needs_tasks: bool,
    /// Does it use an update rule of [`crate::meta::RULES`]?
    pub uses_rule: bool,
    /// Are its tasks the main task again, each with a decoder of its own?
    pub pseudo_tasks: bool,
    record: fn(&Setup) -> Vec<StepProgram>,
}

/// Every method that `--method` knows.
pub const ALL: &[Method] = &[
    Method {
        name: "stl",
        about: "the main task alone, on its labelled images",
        needs_tasks: false,
        uses_rule: false,
        pseudo_tasks: false,
        record: stl::record,
    },
    Method {
        name: "mtl",
        about: "the main task and all auxiliary tasks: the mean of their losses, or one drawn task a step",
        needs_tasks: true,
        uses_rule: false,
        pseudo_tasks: false,
        record: mtl::record,
    },
    Method {
        name: "pta",
        about: "pseudo-task augmentation: several decoders of the main task, all but one of them frozen or varied",
        needs_tasks: false,
        uses_rule: false,
        pseudo_tasks: true,
        record: pta::record,
    },
    Method {
        name: "meta-mtl",
        about: "a step on any task moves the shared layers so that the main task's loss falls",
        needs_tasks: true,
        uses_rule: true,
        pseudo_tasks: false,
        record: meta_mtl::record,
    },
];

impl Method {
    pub fn named(name: &str) -> Result<&'static Method> {
        ALL.iter().find(|m| m.name == name).ok_or_else(|| {
            let known: Vec<&str> = ALL.iter().map(|m| m.name).collect();
            Error::usage(format!("unknown method '{name}'; known: {}", known.join(", ")))
        })
    }

    /// The method's step programs.
    pub fn record(&self, setup: &Setup) -> Result<Vec<StepProgram>> {
        let programs = (self.record)(setup);
        programs.iter().try_for_each(|p| p.tape.check())?;
        Ok(programs)
    }
}

/// Constants of the optimisers and the meta step, and variants of methods. Rates are not here: they are
/// scalars bound at run time, so that programs need not be recorded again when they change.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Constants {
    pub momentum: f64,
    pub weight_decay: f64,
    /// Bound of the global gradient norm; 0 for none.
    pub clip: f64,
    /// S.
    pub inner_steps: usize,
    pub hessian: Hessian,
    /// Also train the main decoder on the meta batch.
    pub train_main_decoder_on_meta: bool,
    /// Of joint training.
    pub schedule: Schedule,
    /// Of pseudo-task augmentation.
    pub operators: Operators,
}

impl Default for Constants {
    fn default() -> Self {
        Constants {
            momentum: 0.9,
            weight_decay: 5e-4,
            clip: 0.0,
            inner_steps: 1,
            hessian: Hessian::ThetaOnly,
            train_main_decoder_on_meta: false,
            schedule: Schedule::default(),
            operators: Operators::default(),
        }
    }
}

/// What the programs are recorded for.
pub struct Setup {
    pub net: Net,
    pub batch: usize,
    /// Classes of the main task.
    pub classes: usize,
    /// Classes of each auxiliary task, in order.
    pub tasks: Vec<usize>,
    pub rule: Rule,
    pub constants: Constants,
    /// Auxiliary batches come from the whole image pool, not only from labelled images (†).
    pub unlabelled: bool,
}

/// Where the images of a batch come from.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Batch {
    /// The epoch's shuffle of the labelled images.
    Labelled,
    /// The epoch's shuffle of the whole pool.
    Pool,
    /// A fresh uniform draw of labelled images, without replacement.
    Fresh,
}

/// What a data leaf wants.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Feed {
    /// Images of a batch.
    Images(Batch),
    /// Labels of a batch's images in the task number; `None`: the task drawn for the step.
    Labels(Batch, Option<usize>),
    /// The key of a step's random tensors, u32 `[4]`: seed and step number, two words each.
    Key,
}

/// One program of a method.
pub struct StepProgram {
    pub tape: Tape,
    /// Data leaves, by name.
    pub feeds: Vec<(String, Feed)>,
    /// The tasks whose turn the program can be; one program that trains all tasks has the main task only.
    /// Leaves named `task.…` stand for `decoder.T.…`.
    pub tasks: Vec<usize>,
    /// Images that one step looks at.
    pub images: usize,
}

/// Prefix of the leaves that stand for the decoder of the step's task.
pub const TASK_PREFIX: &str = "task.";

/// The buffer that a leaf is bound to when the step is on `task`.
pub fn leaf_for_task(leaf: &str, task: usize) -> String {
    match leaf.strip_prefix(TASK_PREFIX) {
        Some(rest) => format!("decoder.{task}.{rest}"),
        None => leaf.to_string(),
    }
}

/// A program for the main task, and one for each number of auxiliary classes with the tasks that have it:
/// `record` gets that number, or `None` for the main task.
fn by_classes(setup: &Setup, record: impl Fn(Option<usize>, Vec<usize>) -> StepProgram) -> Vec<StepProgram> {
    let mut sizes = setup.tasks.clone();
    sizes.sort_unstable();
    sizes.dedup();
    let auxiliary = sizes.into_iter().map(|size| {
        let tasks = (1..=setup.tasks.len()).filter(|&t| setup.tasks[t - 1] == size).collect();
        record(Some(size), tasks)
    });
    let main = record(None, vec![0]);
    std::iter::once(main).chain(auxiliary).collect()
}

/// A program being recorded: its feeds, its parameters and their momentum.
struct Recorder<'a> {
    setup: &'a Setup,
    tape: Tape,
    feeds: Vec<(String, Feed)>,
    states: Vec<State>,
}

/// Parameters of a group and their momentum buffers.
#[derive(Clone)]
struct Group {
    /// Indices into the recorder's states.
    values: Vec<usize>,
    buffers: Vec<usize>,
}

impl<'a> Recorder<'a> {
    fn new(setup: &'a Setup) -> Self {
        Recorder { setup, tape: Tape::new(), feeds: Vec::new(), states: Vec::new() }
    }

    fn images(&mut self, name: &str, batch: Batch) -> Var {
        let [h, w, c] = self.setup.net.input;
        self.feeds.push((name.to_string(), Feed::Images(batch)));
        self.tape.input(name, [self.setup.batch, h, w, c])
    }

    fn labels(&mut self, name: &str, batch: Batch, task: Option<usize>) -> Var {
        self.feeds.push((name.to_string(), Feed::Labels(batch, task)));
        self.tape.leaf(name, Kind::U32, [self.setup.batch])
    }

    fn key(&mut self) -> Var {
        self.feeds.push(("key".to_string(), Feed::Key));
        self.tape.leaf("key", Kind::U32, [4])
    }

    fn rate(&mut self, name: &str) -> Var {
        self.tape.input(name, [])
    }

    fn state(&mut self, name: String, parameter: &Parameter) -> usize {
        let state = State::new(&mut self.tape, name, parameter.shape);
        self.states.push(state);
        self.states.len() - 1
    }

    /// Leaves for parameters, named by `rename`, and for momentum buffers of the given suffixes.
    fn group(&mut self, parameters: &[Parameter], rename: impl Fn(&str) -> String, suffix: &str) -> Group {
        let values = parameters.iter().map(|p| self.state(rename(&p.name), p)).collect();
        let buffers = self.buffers(parameters, rename, suffix);
        Group { values, buffers }
    }

    /// Momentum buffers, if there is momentum.
    fn buffers(
        &mut self,
        parameters: &[Parameter],
        rename: impl Fn(&str) -> String,
        suffix: &str,
    ) -> Vec<usize> {
        if self.setup.constants.momentum == 0.0 {
            return Vec::new();
        }
        parameters.iter().map(|p| self.state(format!("{}.{suffix}", rename(&p.name)), p)).collect()
    }

    fn shared(&mut self) -> Group {
        self.group(&self.setup.net.parameters(), str::to_string, MOMENTUM)
    }

    fn decoder(&mut self, task: usize, classes: usize) -> Group {
        self.group(&self.setup.net.decoder(task, classes), str::to_string, MOMENTUM)
    }

    /// A decoder that the program only reads.
    fn frozen_decoder(&mut self, task: usize, classes: usize) -> Group {
        let parameters = self.setup.net.decoder(task, classes);
        let values = parameters.iter().map(|p| self.state(p.name.clone(), p)).collect();
        Group { values, buffers: Vec::new() }
    }

    /// The decoder of whichever auxiliary task the program is bound to.
    fn task_decoder(&mut self, classes: usize) -> Group {
        let named = |name: &str| name.replacen("decoder.0.", TASK_PREFIX, 1);
        self.group(&self.setup.net.decoder(0, classes), named, MOMENTUM)
    }

    fn values(&self, group: &Group) -> Vec<Var> {
        group.values.iter().map(|&i| self.states[i].value).collect()
    }

    /// One SGD update of a group by its gradients.
    fn sgd(&mut self, group: &Group, gradients: &[Var], rate: Var, plain: bool) {
        let constants = &self.setup.constants;
        let sgd = crate::optim::Sgd {
            rate,
            momentum: if plain { 0.0 } else { constants.momentum },
            weight_decay: if plain { 0.0 } else { constants.weight_decay },
        };
        for (i, &gradient) in gradients.iter().enumerate() {
            let value = group.values[i];
            let mut parameter = self.states[value];
            let buffer = group.buffers.get(i).copied().unwrap_or(value);
            let mut momentum = self.states[buffer];
            sgd.update(&mut self.tape, &mut parameter, &mut momentum, gradient);
            if buffer != value {
                self.states[buffer] = momentum;
            }
            self.states[value] = parameter;
        }
    }

    fn mean(&mut self, losses: &[Var]) -> Var {
        let total = losses.iter().skip(1).fold(losses[0], |sum, &l| self.tape.add(sum, l));
        self.tape.scale(total, 1.0 / losses.len() as f64)
    }

    /// One SGD update of groups along the gradient of a loss.
    fn descend(&mut self, loss: Var, groups: &[Group], rate: Var) {
        let wrt: Vec<Var> = groups.iter().flat_map(|g| self.values(g)).collect();
        let mut gradients = self.tape.reverse(loss, None, &wrt).into_iter();
        for group in groups {
            let own: Vec<Var> = gradients.by_ref().take(group.values.len()).collect();
            self.sgd(group, &own, rate, false);
        }
    }

    /// Clips gradients jointly, if the setup says so.
    fn clip(&mut self, gradients: Vec<Var>) -> Vec<Var> {
        match self.setup.constants.clip {
            0.0 => gradients,
            bound => crate::optim::clip_global_norm(&mut self.tape, &gradients, bound),
        }
    }

    fn finish(mut self, tasks: Vec<usize>, images: usize) -> StepProgram {
        for state in self.states {
            state.store(&mut self.tape);
        }
        StepProgram { tape: self.tape, feeds: self.feeds, tasks, images }
    }
}

/// Suffix of an optimiser's momentum buffer.
const MOMENTUM: &str = "momentum";
