//! A pass over a part of the points with a bound for each group of centres: what the bounds leave open is scored
//! group by group, for all points of a block that need it.

use super::bounds;
use super::groups::{BATCH, Found, Groups, WIDTH};
use super::pass::Outcome;
use super::sums::{How, Sums};
use super::sweep::Shared;
use crate::device::cpu::simd::{Job, Vector};

/// Bytes of the points of a block, which stay in the cache from group to group.
const BLOCK: usize = 1 << 17;

/// No place of a centre.
const NOWHERE: usize = usize::MAX;

pub struct Grouped<'a> {
    pub shared: &'a Shared<'a>,
    pub groups: &'a Groups,
    pub first: usize,
    pub labels: &'a mut [u32],
    /// Bounds on the distances to the own centres.
    pub own: &'a mut [f32],
    /// What [`bounds::Drift`] stores of the bounds on the distances to all other centres, by groups.
    pub stored: &'a mut [f32],
    pub sums: &'a mut Sums,
    /// Points that changed their label in the last pass.
    pub changed: usize,
    pub scratch: &'a mut Scratch,
}

#[derive(Default)]
pub struct Scratch {
    open: Vec<Open>,
    /// Of each group, which of the open points need its scores.
    lists: Vec<Vec<u32>>,
}

/// A point that needs scores.
#[derive(Clone, Copy)]
struct Open {
    point: usize,
    slack: f32,
    best: f32,
    second: f32,
    /// Place of the best score's centre; [`NOWHERE`] where that is the own centre, in a group that is not scored.
    place: usize,
    /// Second best score in the group of the best.
    rival: f32,
    /// Score of the own centre, if it is known.
    own: f32,
}

impl Job<f32> for Grouped<'_> {
    type Output = Outcome;

    #[inline(always)]
    unsafe fn run<V: Vector<Element = f32>>(mut self) -> Outcome {
        let (d, n) = (self.shared.points.d, self.labels.len());
        let how = self.sums.begin(self.shared.points, self.shared.sum, self.changed);
        self.scratch.lists.resize(self.groups.len(), Vec::new());
        let block = (BLOCK / (4 * d)).clamp(64, 4096);
        let (mut found, mut outcome) = (Found::new(), Outcome { kept: n, ..Outcome::default() });
        for begin in (0..n).step_by(block) {
            let end = n.min(begin + block);
            self.scratch.open.clear();
            self.scratch.lists.iter_mut().for_each(Vec::clear);
            // SAFETY: the instructions are there.
            unsafe {
                match self.shared.moved.is_empty() {
                    true => self.open_all(begin, end),
                    false => self.open::<V>(begin, end),
                }
                for group in 0..self.groups.len() {
                    self.score::<V>(group, &mut found);
                }
            }
            outcome.kept -= self.scratch.open.len();
            for at in 0..self.scratch.open.len() {
                // SAFETY: as above.
                let (label, exact) = unsafe { self.resolve::<V>(at) };
                let i = self.scratch.open[at].point;
                outcome.rechecked += usize::from(exact);
                if self.labels[i] != label {
                    outcome.changed += 1;
                    if how == How::Moved {
                        self.sums.change(self.shared.points.row(self.first + i), self.labels[i], label);
                    }
                }
                self.labels[i] = label;
            }
            if how == How::Anew {
                for (i, &label) in (begin..end).zip(&self.labels[begin..end]) {
                    self.sums.add(self.shared.points.row(self.first + i), label);
                }
            }
        }
        self.sums.end(d, self.labels);
        outcome
    }
}

impl Grouped<'_> {
    /// Opens all groups for all points of a block.
    #[inline(always)]
    fn open_all(&mut self, begin: usize, end: usize) {
        let Scratch { open, lists } = &mut *self.scratch;
        for point in begin..end {
            let slack = self.shared.rounding.slack(self.shared.squares[self.first + point]);
            let none = f32::NEG_INFINITY;
            open.push(Open {
                point,
                slack,
                best: none,
                second: none,
                place: NOWHERE,
                rival: none,
                own: none,
            });
        }
        lists.iter_mut().for_each(|list| list.extend(0..open.len() as u32));
    }

    /// Opens the groups that the bounds do not rule out.
    #[inline(always)]
    unsafe fn open<V: Vector<Element = f32>>(&mut self, begin: usize, end: usize) {
        let Scratch { open, lists } = &mut *self.scratch;
        let pitch = self.groups.pitch();
        let mut now = vec![0.0; pitch];
        for i in begin..end {
            let label = self.labels[i];
            let point = self.first + i;
            let own = &mut self.own[i];
            *own = bounds::farther(*own, self.shared.moved[label as usize]);
            let least = self.groups.drift.carry(&self.stored[i * pitch..][..pitch], &mut now);
            if *own < least {
                continue;
            }
            // SAFETY: the caller's.
            let score = unsafe { self.shared.score::<V>(point, label as usize) };
            let square = self.shared.squares[point];
            let slack = self.shared.rounding.slack(square);
            let distance = bounds::farthest(square, score, slack);
            // Not a number where it overflowed.
            if distance < *own {
                *own = distance;
            }
            if *own < least {
                continue;
            }
            let at = open.len() as u32;
            let mut inside = false;
            for (g, (list, &bound)) in lists.iter_mut().zip(&now).enumerate() {
                let ruled_out = *own < bound;
                if !ruled_out {
                    list.push(at);
                    inside |= g == self.groups.of(label);
                }
            }
            let (none, place) = (f32::NEG_INFINITY, NOWHERE);
            let best = if inside { none } else { score };
            open.push(Open { point: i, slack, best, second: none, place, rival: none, own: score });
        }
    }

    /// Scores a group for the points of its list.
    #[inline(always)]
    unsafe fn score<V: Vector<Element = f32>>(&mut self, group: usize, found: &mut Found) {
        let Scratch { open, lists } = &mut *self.scratch;
        let (points, pitch) = (self.shared.points, self.groups.pitch());
        for list in lists[group].chunks(BATCH) {
            let mut rows = [std::ptr::null(); BATCH];
            for (row, &at) in rows.iter_mut().zip(list) {
                *row = points.row(self.first + open[at as usize].point).as_ptr();
            }
            // SAFETY: the caller's instructions; rows have `d` elements.
            unsafe { self.groups.best_two::<V>(group, &rows[..list.len()], found) };
            for (i, &at) in list.iter().enumerate() {
                let of = &mut open[at as usize];
                let (best, second) = (found.best[i], found.second[i]);
                let square = self.shared.squares[self.first + of.point];
                let bound = bounds::nearest(square, best, of.slack);
                self.stored[of.point * pitch + group] = self.groups.drift.stored(bound, group);
                if best > of.best {
                    of.second = if of.best > second { of.best } else { second };
                    of.best = best;
                    of.place = group * WIDTH + found.lane[i] as usize;
                    of.rival = second;
                } else if best > of.second {
                    of.second = best;
                }
            }
        }
    }

    /// The label of an open point, and whether that took double precision.
    #[inline(always)]
    unsafe fn resolve<V: Vector<Element = f32>>(&mut self, at: usize) -> (u32, bool) {
        let Open { point: i, slack, best, second, place, rival, own } = self.scratch.open[at];
        let (groups, point, before) = (self.groups, self.first + i, self.labels[i]);
        let square = self.shared.squares[point];
        self.own[i] = bounds::farthest(square, best, slack);
        let stored = &mut self.stored[i * groups.pitch()..][..groups.len()];
        let bound =
            |score: f32, group: usize| groups.drift.stored(bounds::nearest(square, score, slack), group);
        // What is not a number is no clear win.
        let clear = best - second > slack;
        let exact = !clear;
        let label = if exact {
            // SAFETY: the caller's.
            unsafe { self.shared.exactly::<V>(point, best - slack) }
        } else if place == NOWHERE {
            return (before, false);
        } else {
            let (label, group) = (groups.centre(place), place / WIDTH);
            // All others of its group are no better than the second.
            stored[group] = bound(rival, group);
            label
        };
        if label != before && before != u32::MAX {
            // The old centre is one of the others now, even where its group was not scored.
            let group = groups.of(before);
            let bound = bound(own, group);
            let lower = stored[group] <= bound;
            if !lower {
                stored[group] = bound;
            }
        }
        (label, exact)
    }
}
