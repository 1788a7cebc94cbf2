//! A method's programs on a device, with the parameters they share: what training, benchmarks and tests
//! drive step by step.

use std::collections::BTreeSet;

use crate::device::{Bound, Device, HostSlice, Session};
use crate::error::{Error, Result};
use crate::methods::{self, Feed, Method, Setup};
use crate::nn::Parameter;
use crate::tape::plan::Plan;

/// The program of one task.
struct Turn {
    program: usize,
    bound: Bound,
}

pub struct Engine {
    session: Session,
    /// Data leaves of each program.
    feeds: Vec<Vec<(String, Feed)>>,
    images: Vec<usize>,
    flops: Vec<u64>,
    /// By task; a method that trains all tasks in one program has the main task only.
    turns: Vec<Turn>,
    parameters: Vec<Parameter>,
    /// Buffers that live from step to step: parameters and what optimisers remember of them.
    states: Vec<(String, Parameter)>,
}

impl Engine {
    /// Records and prepares the method's programs, and sets every parameter to its initial value.
    pub fn new(device: Box<dyn Device>, method: &Method, setup: &Setup, seed: u64) -> Result<Self> {
        let mut session = Session::new(device);
        let mut turns: Vec<(usize, Turn)> = Vec::new();
        let (mut feeds, mut images, mut flops) = (Vec::new(), Vec::new(), Vec::new());
        let mut stored = BTreeSet::new();
        for (number, program) in method.record(setup)?.into_iter().enumerate() {
            let prepared = session.prepare(&program.tape)?;
            for &task in &program.tasks {
                let bound = session.bind(prepared, |leaf| methods::leaf_for_task(leaf, task))?;
                turns.push((task, Turn { program: number, bound }));
                let leaf = |var| program.tape.leaves().iter().find(|l| l.var == var);
                let states = program.tape.assignments().iter().filter_map(|(state, _)| leaf(*state));
                stored.extend(states.map(|l| methods::leaf_for_task(&l.name, task)));
            }
            feeds.push(program.feeds);
            images.push(program.images);
            flops.push(program.tape.flops());
        }
        turns.sort_by_key(|(task, _)| *task);
        let mut parameters = setup.net.parameters();
        for (task, &classes) in std::iter::once(&setup.classes).chain(&setup.tasks).enumerate() {
            parameters.extend(setup.net.decoder(task, classes));
        }
        parameters.retain(|p| session.contains(&p.name));
        for parameter in &parameters {
            session.write(&parameter.name, HostSlice::F32(&parameter.initial_values(seed)))?;
        }
        let turns = turns.into_iter().map(|(_, turn)| turn).collect();
        stored.extend(parameters.iter().map(|p| p.name.clone()));
        let of = |name: &str| {
            let owner = |p: &&Parameter| {
                name.strip_prefix(&p.name).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
            };
            parameters.iter().find(owner).cloned()
        };
        let states = stored.into_iter().filter_map(|name| of(&name).map(|p| (name, p))).collect();
        Ok(Engine { session, feeds, images, flops, turns, parameters, states })
    }

    /// Tasks that a step can be on, counted from 0, the main task.
    pub fn tasks(&self) -> usize {
        self.turns.len()
    }

    pub fn parameters(&self) -> &[Parameter] {
        &self.parameters
    }

    /// Everything that must be kept to go on later, by name, each with the parameter whose shape and
    /// layout it has.
    pub fn states(&self) -> &[(String, Parameter)] {
        &self.states
    }

    pub fn session(&self) -> &Session {
        &self.session
    }

    pub fn session_mut(&mut self) -> &mut Session {
        &mut self.session
    }

    /// Data leaves of a step on `task`.
    pub fn feeds(&self, task: usize) -> &[(String, Feed)] {
        &self.feeds[self.turns[task].program]
    }

    /// Each program's number and the tasks that it serves.
    pub fn programs(&self) -> Vec<(usize, Vec<usize>)> {
        let of =
            |program: usize| (0..self.turns.len()).filter(|&t| self.turns[t].program == program).collect();
        (0..self.feeds.len()).map(|program| (program, of(program))).collect()
    }

    /// Images that a step on `task` looks at.
    pub fn images(&self, task: usize) -> usize {
        self.images[self.turns[task].program]
    }

    /// Floating-point operations of a step on `task`.
    pub fn flops(&self, task: usize) -> u64 {
        self.flops[self.turns[task].program]
    }

    pub fn plan(&self, task: usize) -> &Plan {
        self.session.plan(&self.turns[task].bound)
    }

    /// Sets a rate, if a program has it.
    pub fn set_rate(&mut self, name: &str, value: f64) -> Result<()> {
        if self.session.contains(name) { self.session.write_scalar(name, value) } else { Ok(()) }
    }

    /// Runs one step on `task`.
    pub fn step(&mut self, task: usize) -> Result<()> {
        let turn =
            self.turns.get(task).ok_or_else(|| Error::Device(format!("no program for task {task}")))?;
        self.session.run(&turn.bound)
    }

    /// Scalar outputs of the last step on `task`, by name.
    pub fn scalars(&self, task: usize) -> Result<Vec<(&str, f64)>> {
        self.session.scalars(&self.turns[task].bound)
    }
}
