//! Runs of k-means on the CPU: one at a time, with all threads.

use rayon::prelude::*;

use super::{Pass, Points, SLAB, seeding};
use crate::device::kmeans::{Draws, Loaded, Runs, STRANDS, Step};
use crate::error::Result;

/// Points where they are.
pub struct OnHost<'a> {
    values: &'a [f32],
    d: usize,
}

impl<'a> OnHost<'a> {
    pub fn new(values: &'a [f32], d: usize) -> Self {
        OnHost { values, d }
    }
}

impl Loaded for OnHost<'_> {
    fn moments(&self) -> Result<Vec<[f64; 2]>> {
        let d = self.d;
        let slabs: Vec<Vec<[f64; 2]>> = self
            .values
            .par_chunks(d * SLAB)
            .map(|rows| {
                let mut sums = vec![[0.0; 2]; d];
                for row in rows.chunks_exact(d) {
                    for (sum, &x) in sums.iter_mut().zip(row) {
                        let x = f64::from(x);
                        *sum = [sum[0] + x, sum[1] + x * x];
                    }
                }
                sums
            })
            .collect();
        let column = |j: usize| slabs.iter().fold([0.0; 2], |a, s| [a[0] + s[j][0], a[1] + s[j][1]]);
        Ok((0..d).map(column).collect())
    }

    fn most_runs(&self, _k: usize) -> usize {
        1
    }

    fn runs<'a>(
        &'a self,
        weights: &[Option<&'a [f32]>],
        spaces: &[usize],
        k: usize,
    ) -> Result<Box<dyn Runs + 'a>> {
        assert!(spaces.len() == 1, "the CPU takes one run at a time");
        let points = Points { values: self.values, d: self.d, weights: weights[spaces[0]] };
        Ok(Box::new(Run {
            points,
            pass: Pass::new(points, k),
            centres: vec![0.0; k * self.d],
            sums: vec![0.0; k * self.d],
            counts: vec![0; k],
        }))
    }
}

struct Run<'a> {
    points: Points<'a>,
    pass: Pass<'a>,
    centres: Vec<f64>,
    sums: Vec<f64>,
    counts: Vec<u64>,
}

impl Runs for Run<'_> {
    fn start(&mut self, centres: &[&[f64]]) -> Result<()> {
        self.pass.restart();
        self.centres.copy_from_slice(centres[0]);
        Ok(())
    }

    fn seed(&mut self, draws: &[Draws]) -> Result<Vec<Vec<u32>>> {
        self.pass.restart();
        let d = self.points.d;
        let chosen = seeding::choose(&self.points, self.counts.len(), &draws[0]);
        for (centre, &point) in self.centres.chunks_mut(d).zip(&chosen) {
            let row = self.points.row(point as usize);
            centre.iter_mut().enumerate().for_each(|(j, c)| *c = f64::from(row[j]) * self.points.weight(j));
        }
        Ok(vec![chosen])
    }

    fn step(&mut self, _runs: &[usize]) -> Result<Vec<Step>> {
        let changed = self.pass.assign(&self.centres, true).changed;
        self.pass.totals(&mut self.sums, &mut self.counts);
        let moved = if self.counts.contains(&0) { 0.0 } else { self.average(0)? };
        Ok(vec![Step { changed, counts: self.counts.clone(), moved }])
    }

    fn distances(&mut self, _run: usize) -> Result<Vec<f64>> {
        Ok(self.points.distances(&self.centres, self.pass.labels()))
    }

    fn relocate(&mut self, _run: usize, empty: &[usize], points: &[usize]) -> Result<()> {
        let d = self.points.d;
        for (&cluster, &point) in empty.iter().zip(points) {
            let from = self.pass.labels()[point] as usize;
            for (j, &x) in self.points.row(point).iter().enumerate() {
                self.sums[from * d + j] -= f64::from(x);
                self.sums[cluster * d + j] = f64::from(x);
            }
            self.counts[from] -= 1;
            self.counts[cluster] = 1;
        }
        Ok(())
    }

    fn average(&mut self, _run: usize) -> Result<f64> {
        let (d, sums, counts) = (self.points.d, &self.sums, &self.counts);
        let largest = (0..counts.len()).rev().max_by_key(|&k| counts[k]).unwrap_or(0);
        let total = counts.iter().sum::<u64>() as f64;
        let mut moved = 0.0;
        for (k, centre) in self.centres.chunks_mut(d).enumerate() {
            let mut strands = [0.0; STRANDS];
            for (j, c) in centre.iter_mut().enumerate() {
                let mean = |k: usize| sums[k * d + j] / counts[k] as f64;
                let new = match counts[k] {
                    // Where scikit-learn puts a cluster that stays empty, so that the next labels are the
                    // same: at the largest one or, before that, at its sum as seen from the mean of all
                    // points.
                    0 if k > largest => mean(largest),
                    0 => {
                        let all = (0..counts.len()).map(|k| sums[k * d + j]).sum::<f64>() / total;
                        all + (mean(largest) - all) * counts[largest] as f64
                    }
                    _ => mean(k),
                } * self.points.weight(j);
                strands[j % STRANDS] += (new - *c) * (new - *c);
                *c = new;
            }
            moved += strands.iter().sum::<f64>();
        }
        Ok(moved)
    }

    fn assign(&mut self, _runs: &[usize]) -> Result<()> {
        self.pass.assign(&self.centres, false);
        Ok(())
    }

    fn inertia(&mut self, _runs: &[usize]) -> Result<Vec<f64>> {
        Ok(vec![self.points.inertia(&self.centres, self.pass.labels())])
    }

    fn centres(&self, _run: usize) -> Result<Vec<f64>> {
        Ok(self.centres.clone())
    }

    fn labels(&self, _run: usize) -> Result<Vec<u32>> {
        Ok(self.pass.labels().to_vec())
    }
}
