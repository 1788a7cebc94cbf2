//! Which steps of a plan run together: elementwise ones of the same code that do not depend on each other, such
//! as the updates of all parameters, and those that a row goes through by itself, such as a loss.

use super::rows;
use crate::tape::plan::{Expression, Kernel, Place, Plan, Region, Step};

/// Steps that run together.
pub struct Group {
    pub steps: Vec<usize>,
    /// The number of rows, where rows go through the steps; else the steps are independent.
    pub rows: Option<usize>,
}

/// Cuts a plan into groups. A step joins the earliest group of its code behind everything that it must wait
/// for, or that must not see what it writes; so parameters' updates, which depend on their own momenta only,
/// become one group for momenta and one for values. `expressions` are the plan's, without what depends on sizes.
pub fn groups(plan: &Plan, expressions: &[Option<Expression>]) -> Vec<Group> {
    let spans: Vec<Spans> = plan.steps.iter().map(|s| Spans::of(plan, s)).collect();
    let mut groups: Vec<Group> = Vec::new();
    for (i, expression) in expressions.iter().enumerate() {
        let blocked = |group: &Group| group.steps.iter().any(|&other| spans[i].depend(&spans[other]));
        let last_blocked = groups.iter().rposition(blocked);
        if let Some(at) = row_group(plan, &spans, &groups, last_blocked, i) {
            groups[at].steps.push(i);
            continue;
        }
        let free = last_blocked.map_or(0, |last| last + 1);
        let same = |group: &&mut Group| {
            let first = expressions[group.steps[0]].as_ref();
            group.rows.is_none()
                && expression.is_some()
                && first.map(|e| &e.code) == expression.as_ref().map(|e| &e.code)
        };
        match groups[free..].iter_mut().find(same) {
            Some(group) => group.steps.push(i),
            None => {
                let group = Group { steps: vec![i], rows: rows::anchor(&plan.steps[i].kernel) };
                // Constants come first, so that nothing that waits for one waits for more.
                let constant = expression.is_some() && plan.steps[i].reads.is_empty();
                groups.insert(if constant { 0 } else { groups.len() }, group);
            }
        }
    }
    groups
}

/// The last group of rows that a step can join at its end.
fn row_group(
    plan: &Plan,
    spans: &[Spans],
    groups: &[Group],
    last_blocked: Option<usize>,
    i: usize,
) -> Option<usize> {
    let first = last_blocked.unwrap_or(0);
    let (back, rows) = groups[first..].iter().enumerate().rev().find_map(|(back, g)| {
        let rows = g.rows?;
        rows::local_reads(&plan.steps[i], rows).map(|_| (back, rows))
    })?;
    let at = first + back;
    let step = &plan.steps[i];
    let within_rows = groups[at]
        .steps
        .iter()
        .all(|&m| !spans[i].depend(&spans[m]) || in_rows(plan, step, &plan.steps[m], rows));
    let wanted = !matches!(step.kernel, Kernel::Pointwise(_)) || meets(plan, &groups[at].steps, i, rows);
    (within_rows && wanted).then_some(at)
}

/// Do two steps meet in memory only where a row of one needs the same row of the other?
fn in_rows(plan: &Plan, a: &Step, b: &Step, rows: usize) -> bool {
    let operands = |step: &Step| -> Option<Vec<(Place, bool, bool)>> {
        let local = rows::local_reads(step, rows)?;
        let reads = step.reads.iter().zip(local).map(|(&place, local)| (place, local, false));
        Some(reads.chain(step.writes.iter().map(|&place| (place, true, true))).collect())
    };
    let (Some(of_a), Some(of_b)) = (operands(a), operands(b)) else { return false };
    of_a.iter().all(|&(place, local, written)| {
        let apart = |&(other, other_local, other_written): &(Place, bool, bool)| {
            (!written && !other_written)
                || !overlap(span(plan, &place), span(plan, &other))
                || (place == other && local && other_local)
        };
        of_b.iter().all(apart)
    })
}

/// Is elementwise step `i` part of what rows go through: does it read what a member writes, or does a later
/// step that begins such groups read what it writes?
fn meets(plan: &Plan, members: &[usize], i: usize, rows: usize) -> bool {
    let (step, result) = (&plan.steps[i], &plan.steps[i].writes[0]);
    let reads = |place: &Place| members.iter().any(|&m| plan.steps[m].writes.contains(place));
    let later = plan.steps[i + 1..].iter().find(|s| s.reads.contains(result) || s.writes.contains(result));
    step.reads.iter().any(reads)
        || later.is_some_and(|s| rows::anchor(&s.kernel) == Some(rows) && s.reads.contains(result))
}

/// The memory of an operand: region (a leaf's number, or `u32::MAX` for the arena), first byte and the byte
/// behind the last.
type Span = (u32, usize, usize);

fn span(plan: &Plan, place: &Place) -> Span {
    let (region, start) = match place.region {
        Region::Arena(offset) => (u32::MAX, offset),
        Region::Leaf(leaf) => (leaf, 0),
    };
    (region, start, start + place.len * plan.size_of(place.kind))
}

fn overlap(a: Span, b: Span) -> bool {
    a.0 == b.0 && a.1 < b.2 && b.1 < a.2
}

/// The memory that a step touches.
struct Spans {
    reads: Vec<Span>,
    writes: Vec<Span>,
}

impl Spans {
    fn of(plan: &Plan, step: &Step) -> Self {
        let written = step.writes.iter().chain([&step.workspace]).filter(|p| p.len > 0);
        Spans {
            reads: step.reads.iter().map(|p| span(plan, p)).collect(),
            writes: written.map(|p| span(plan, p)).collect(),
        }
    }

    /// Must the two run one after the other?
    fn depend(&self, other: &Spans) -> bool {
        let meet = |a: &[Span], b: &[Span]| a.iter().any(|&x| b.iter().any(|&y| overlap(x, y)));
        meet(&self.writes, &other.writes)
            || meet(&self.writes, &other.reads)
            || meet(&self.reads, &other.writes)
    }
}

#[cfg(test)]
mod tests {
    use crate::device::cuda::{Precision, lower};
    use crate::tape::{Kind, Tape};

    /// Kernels of each task, in order.
    fn tasks(tape: &Tape) -> Vec<Vec<&'static str>> {
        let plan = lower::plan(tape, Precision::F32, true).unwrap();
        let name = |&s: &usize| plan.steps[s].kernel.name();
        let tasks = lower::tasks(&plan, Precision::F32);
        assert!(tasks.iter().all(|t| !t.launches.is_empty()));
        tasks.iter().map(|t| t.steps.iter().map(name).collect()).collect()
    }

    #[test]
    fn a_loss_with_gradient_and_tangents_is_one_launch_and_its_mean() {
        let mut t = Tape::new();
        let logits = t.input("logits", [100, 10]);
        let direction = t.input("direction", [100, 10]);
        let labels = t.leaf("labels", Kind::U32, [100]);
        let loss = t.cross_entropy(logits, labels);
        let gradient = t.reverse(loss, None, &[logits])[0];
        let tangents = t.tangent(&[(logits, direction)], &[gradient]);
        t.output("loss", loss);
        t.output("gradient", gradient);
        t.output("tangent", tangents[0].unwrap());
        let tasks = tasks(&t);
        let rows: Vec<_> = tasks.iter().filter(|t| t.contains(&"log_softmax")).collect();
        assert_eq!(rows.len(), 1, "{tasks:?}");
        // A constant, the rows, their sum, its sign and share.
        assert_eq!(tasks.len(), 4, "{tasks:?}");
    }

    #[test]
    fn what_crosses_rows_stays_apart() {
        let mut t = Tape::new();
        let x = t.input("x", [6, 6]);
        let labels = t.leaf("labels", Kind::U32, [6]);
        let log_p = t.log_softmax(x);
        let picked = t.pick(log_p, labels);
        // Every row reads all that was picked.
        let across = t.broadcast_to(picked, [6, 6]);
        let sum = t.add(log_p, across);
        t.output("sum", sum);
        assert_eq!(tasks(&t), [vec!["log_softmax", "gather"], vec!["pointwise"]]);
    }
}
