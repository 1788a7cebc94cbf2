//! What launches cost at least: the arithmetic of their operations, and each tensor read and written once.
//! From the plan alone, without a driver.
//!
//! Workspaces, such as the parts of a sum that was cut, are no part of it: the kernel chooses them.

use super::launch::{Argument, Launch, Precision};
use super::lower::Task;
use super::rates::Unit;
use crate::tape::plan::{Kernel, Place, Plan};

/// Of one launch, or of several on the same unit.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Cost {
    /// By the definition of the operations, a multiply-add counting as two: what `--dry-run` prints. A
    /// convolution counts its taps in the padding.
    pub flops: u64,
    /// What does most of it. The rest, such as an activation, is counted as if this unit did it too.
    pub unit: Unit,
    /// Bytes of each tensor that is read, and that is written, once.
    pub read: u64,
    pub written: u64,
}

impl Cost {
    pub fn bytes(&self) -> u64 {
        self.read + self.written
    }

    /// FLOP for each byte.
    pub fn intensity(&self) -> f64 {
        self.flops as f64 / self.bytes().max(1) as f64
    }
}

impl std::ops::AddAssign for Cost {
    fn add_assign(&mut self, other: Cost) {
        self.flops += other.flops;
        self.read += other.read;
        self.written += other.written;
    }
}

/// The launches of a task. Later launches finish what the first one began: the arithmetic is the first one's,
/// and a tensor that several name is the last one's.
pub fn of_task(plan: &Plan, task: &Task, precision: Precision) -> Vec<Cost> {
    let unit = match plan.steps[task.steps[0]].kernel {
        Kernel::Convolution(_) | Kernel::Matmul { .. } => precision.into(),
        _ => Unit::Fma,
    };
    let mut seen: Vec<&Argument> = Vec::new();
    let mut costs: Vec<Cost> = Vec::with_capacity(task.launches.len());
    for launch in task.launches.iter().rev() {
        let own: Vec<&Argument> = operands(launch).filter(|a| !seen.contains(a)).collect();
        seen.extend(&own);
        let mut cost = Cost { flops: 0, unit, read: 0, written: 0 };
        let mut places: Vec<Place> = Vec::new();
        for argument in own {
            match argument {
                Argument::Read(i) if !places.contains(&task.reads[*i]) => {
                    places.push(task.reads[*i]);
                    cost.read += read(plan, task, *i);
                }
                Argument::Write(i) => cost.written += plan.bytes(&task.writes[*i]),
                _ => {}
            }
        }
        costs.push(cost);
    }
    costs.reverse();
    if let Some(first) = costs.first_mut() {
        first.flops = task.steps.iter().map(|&s| plan.steps[s].flops).sum();
    }
    costs
}

/// Bytes that a task reads of its operand number `i`; none of what its own steps wrote before.
fn read(plan: &Plan, task: &Task, mut i: usize) -> u64 {
    let place = task.reads[i];
    for (at, &step) in task.steps.iter().enumerate() {
        let step = &plan.steps[step];
        if i < step.reads.len() {
            let made = task.steps[..at].iter().any(|&s| plan.steps[s].writes.contains(&place));
            return if made { 0 } else { plan.read_bytes(step, i) };
        }
        i -= step.reads.len();
    }
    0
}

/// Bytes that a task's launches write to its workspace and read again.
pub fn workspace(plan: &Plan, task: &Task) -> u64 {
    2 * plan.bytes(&task.workspace)
}

/// Tensors that a launch names.
fn operands(launch: &Launch) -> impl Iterator<Item = &Argument> {
    launch.arguments.iter().flat_map(|argument| match argument {
        Argument::Table(cells) => &cells[..],
        other => std::slice::from_ref(other),
    })
}

#[cfg(test)]
mod tests {
    use super::super::lower;
    use super::*;
    use crate::ops::convolution::Geometry;
    use crate::tape::Tape;

    fn all(tape: &Tape, precision: Precision) -> (Plan, Vec<(Task, Vec<Cost>)>) {
        let plan = lower::plan(tape, precision, true).unwrap();
        let costs = |task: Task| {
            let costs = of_task(&plan, &task, precision);
            (task, costs)
        };
        let tasks = lower::tasks(&plan, precision).into_iter().map(costs).collect();
        (plan, tasks)
    }

    #[test]
    fn a_sum_in_parts_costs_what_the_whole_costs() {
        let geometry = Geometry::new([8, 16, 16, 32].into(), [64, 3, 3, 32].into(), 1, 1).unwrap();
        let mut t = Tape::new();
        let x = t.input("x", geometry.input());
        let dy = t.input("dy", geometry.output());
        let w = t.input("w", geometry.filter());
        let y = t.conv2d(x, w, 1, 1);
        let dw = t.reverse(y, Some(dy), &[w])[0];
        t.output("dw", dw);
        let (plan, tasks) = all(&t, Precision::Bf16);
        let [(task, costs)] = &tasks[..] else { panic!("{} tasks", tasks.len()) };
        let [first, last] = costs[..] else { panic!("{} launches", costs.len()) };
        assert_eq!((first.flops, last.flops), (2 * 8 * 256 * 64 * 9 * 32, 0));
        assert_eq!((first.unit, first.read), (Unit::Bf16, 4 * 8 * 256 * (32 + 64)));
        assert_eq!((first.written, last.read, last.written), (0, 0, 4 * 64 * 9 * 32));
        // Two parts at least, each written and read.
        assert!(workspace(&plan, task) >= 2 * 2 * last.written);
        assert_eq!(first.bytes() + last.bytes(), plan.bytes_moved());
    }

    #[test]
    fn an_operand_that_is_used_twice_is_read_once() {
        let mut t = Tape::new();
        let x = t.input("x", [50, 40]);
        let y = t.matmul(x, x, true, false);
        let z = t.mul(y, y);
        t.output("z", z);
        let (plan, tasks) = all(&t, Precision::F32);
        let costs: Vec<Cost> = tasks.iter().flat_map(|(_, costs)| costs.clone()).collect();
        assert_eq!(costs.iter().map(|c| c.read).sum::<u64>(), 4 * (50 * 40 + 40 * 40));
        assert_eq!(costs.iter().map(Cost::bytes).sum::<u64>(), plan.bytes_moved());
        assert_eq!(costs.iter().map(|c| c.flops).sum::<u64>(), plan.flops());
    }

    #[test]
    fn what_stays_within_a_launch_is_not_read() {
        let mut t = Tape::new();
        let logits = t.input("logits", [100, 10]);
        let labels = t.leaf("labels", crate::tape::Kind::U32, [100]);
        let log_p = t.log_softmax(logits);
        let picked = t.pick(log_p, labels);
        t.output("picked", picked);
        let (plan, tasks) = all(&t, Precision::F32);
        let [(task, costs)] = &tasks[..] else { panic!("{} tasks", tasks.len()) };
        assert_eq!((task.steps.len(), costs.len()), (2, 1));
        assert_eq!((costs[0].read, costs[0].written), (4 * (1000 + 100), 4 * (1000 + 100)));
        assert_eq!(plan.bytes_moved(), costs[0].bytes() + 4 * 100);
    }
}
