//! Kernels by row, GPUs by column.

use std::fmt;

use serde_json::{Value, json};
use tessera::device::cuda::cost::Cost;
use tessera::device::cuda::rates::{GPUS, Limit};

use super::watched::Traffic;

/// Launches of one function.
pub struct Row {
    name: String,
    launches: usize,
    cost: Cost,
    /// Seconds by GPU, and how many of them arithmetic needs.
    bounds: [(f64, f64); GPUS.len()],
    pub traffic: Option<Traffic>,
    /// Seconds on a real GPU.
    pub measured: Option<f64>,
}

impl Row {
    /// One launch.
    pub fn new(name: String, cost: Cost) -> Self {
        let bounds = GPUS.map(|gpu| {
            let bound = gpu.bound(&cost);
            (bound.seconds, if bound.by == Limit::Arithmetic { bound.seconds } else { 0.0 })
        });
        Row { name, launches: 1, cost, bounds, traffic: None, measured: None }
    }

    /// The bound of launches is the sum of theirs: they run one after the other.
    fn add(&mut self, other: &Row) {
        self.launches += other.launches;
        self.cost += other.cost;
        for (sum, term) in self.bounds.iter_mut().zip(other.bounds) {
            *sum = (sum.0 + term.0, sum.1 + term.1);
        }
        if let (Some(sum), Some(term)) = (&mut self.traffic, other.traffic) {
            sum.read += term.read;
            sum.written += term.written;
            sum.requested += term.requested;
        }
        if let (Some(sum), Some(term)) = (&mut self.measured, other.measured) {
            *sum += term;
        }
    }

    /// Does it take a five-hundredth of the time, or a hundredth of the bytes?
    fn matters_in(&self, total: &Row) -> bool {
        let distinct = |row: &Row| row.traffic.map_or(0, |t| t.distinct());
        500.0 * self.bounds[0].0 > total.bounds[0].0
            || self.measured.zip(total.measured).is_some_and(|(own, all)| 500.0 * own > all)
            || 100 * distinct(self) > distinct(total)
    }

    /// What most of a bound is due to.
    fn limit((all, arithmetic): (f64, f64)) -> &'static str {
        if 2.0 * arithmetic > all { "arithmetic" } else { "bandwidth" }
    }

    fn json(&self, at_hand: Option<usize>) -> Value {
        let bounds: serde_json::Map<String, Value> = GPUS
            .iter()
            .zip(self.bounds)
            .map(|(gpu, b)| (gpu.name.into(), json!({"us_at_least": b.0 * 1e6, "by": Row::limit(b)})))
            .collect();
        let mut row = json!({
            "kernel": self.name, "launches": self.launches, "flop": self.cost.flops,
            "bytes_at_least": self.cost.bytes(), "flop_per_byte": self.cost.intensity(), "bounds": bounds,
        });
        if let Some(t) = self.traffic {
            row["bytes_distinct"] = json!(t.distinct());
            row["bytes_requested"] = json!(t.requested);
        }
        if let Some(seconds) = self.measured {
            row["us_measured"] = json!(seconds * 1e6);
            if let Some(gpu) = at_hand {
                row["measured_over_bound"] = json!(seconds / self.bounds[gpu].0);
            }
        }
        row
    }
}

pub struct Table {
    title: String,
    machine: String,
    rows: Vec<Row>,
}

impl Table {
    pub fn new(title: String, machine: String) -> Self {
        Table { title, machine, rows: Vec::new() }
    }

    pub fn add(&mut self, row: Row) {
        match self.rows.iter_mut().find(|r| r.name == row.name) {
            Some(known) => known.add(&row),
            None => self.rows.push(row),
        }
    }

    /// The most expensive first, by what was measured, or by the bound on the first GPU; then all together.
    fn sorted(&self) -> (Vec<&Row>, Option<Row>) {
        let mut rows: Vec<&Row> = self.rows.iter().collect();
        let seconds = |row: &Row| row.measured.unwrap_or(row.bounds[0].0);
        rows.sort_by(|a, b| seconds(b).total_cmp(&seconds(a)));
        let total = rows.split_first().map(|(first, rest)| {
            let mut total = Row { name: "total".into(), ..**first };
            rest.iter().for_each(|row| total.add(row));
            total
        });
        (rows, total)
    }

    /// The column of the GPU that was measured on.
    fn at_hand(&self) -> Option<usize> {
        GPUS.iter().position(|gpu| self.machine.starts_with("measured") && self.machine.contains(gpu.name))
    }

    pub fn json(&self) -> Value {
        let (rows, total) = self.sorted();
        let at_hand = self.at_hand();
        json!({
            "work": self.title, "machine": self.machine,
            "bounds": "least times by rated peaks, not measured times",
            "rates": GPUS.map(|g| json!({"gpu": g.name, "source": g.source})),
            "rows": rows.iter().map(|r| r.json(at_hand)).collect::<Vec<_>>(),
            "total": total.map(|t| t.json(at_hand)),
        })
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (rows, total) = self.sorted();
        let counted = rows.iter().any(|r| r.traffic.is_some());
        let measured = rows.iter().any(|r| r.measured.is_some());
        let at_hand = self.at_hand();
        writeln!(f, "{}", self.title)?;
        writeln!(f, "{}", self.machine)?;
        writeln!(
            f,
            "Columns of GPUs are lower BOUNDS in µs from rated peaks (A: arithmetic, B: bandwidth), no times."
        )?;
        write!(f, "{:42} {:>8} {:>9} {:>9}", "kernel", "launches", "GFLOP", "MB least")?;
        if counted {
            write!(f, " {:>11} {:>12}", "MB distinct", "MB requested")?;
        }
        write!(f, " {:>7}", "FLOP/B")?;
        GPUS.iter().try_for_each(|gpu| write!(f, " {:>10}", format!("≥ {}", gpu.name)))?;
        if measured {
            write!(f, " {:>11} {:>6}", "measured µs", "ratio")?;
        }
        writeln!(f)?;
        let (rows, small): (Vec<&Row>, Vec<&Row>) =
            rows.into_iter().partition(|r| total.as_ref().is_some_and(|t| r.matters_in(t)));
        let rest = small.split_first().map(|(first, rest)| {
            let mut all =
                Row { name: format!("{} smaller kernels (--json lists them)", small.len()), ..**first };
            rest.iter().for_each(|row| all.add(row));
            all
        });
        for row in rows.into_iter().chain(&rest).chain(&total) {
            let (gflop, mb) = (row.cost.flops as f64 * 1e-9, |bytes: u64| bytes as f64 * 1e-6);
            write!(f, "{:42} {:>8} {gflop:>9.3} {:>9.2}", row.name, row.launches, mb(row.cost.bytes()))?;
            match row.traffic {
                Some(t) => write!(f, " {:>11.2} {:>12.2}", mb(t.distinct()), mb(t.requested))?,
                None if counted => write!(f, " {:>11} {:>12}", "", "")?,
                None => {}
            }
            write!(f, " {:>7.1}", row.cost.intensity())?;
            for bound in row.bounds {
                let by = if Row::limit(bound) == "arithmetic" { 'A' } else { 'B' };
                write!(f, " {:>8.2} {by}", bound.0 * 1e6)?;
            }
            if let Some(seconds) = row.measured {
                write!(f, " {:>11.2}", seconds * 1e6)?;
                if let Some(gpu) = at_hand {
                    write!(f, " {:>6.1}", seconds / row.bounds[gpu].0)?;
                }
            }
            writeln!(f)?;
        }
        writeln!(f, "Rates: {}.", GPUS.map(|gpu| gpu.source).join("; "))
    }
}
