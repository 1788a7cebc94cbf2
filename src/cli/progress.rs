//! Progress of long work on standard error: a bar on a terminal, a plain line now and then elsewhere.

use std::cell::Cell;
use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

/// Time between plain lines.
const PAUSE: Duration = Duration::from_secs(10);

pub struct Bar {
    name: String,
    total: u64,
    /// Pieces that were done before the bar began.
    first: u64,
    /// What the pieces are, if their rate is of interest.
    unit: Option<&'static str>,
    bar: Option<ProgressBar>,
    start: Instant,
    last: Cell<Instant>,
}

impl Bar {
    /// Work of `total` pieces.
    pub fn new(name: impl Into<String>, total: u64) -> Self {
        Self::from(name.into(), total, 0, None)
    }

    /// Work of `total` pieces of which `first` are done already; the bar shows their rate as `unit`/s.
    pub fn with_rate(name: impl Into<String>, total: u64, first: u64, unit: &'static str) -> Self {
        Self::from(name.into(), total, first, Some(unit))
    }

    fn from(name: String, total: u64, first: u64, unit: Option<&'static str>) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let template = "{prefix:>9} {wide_bar:.cyan/dim} {pos}/{len} {msg} {elapsed}<{eta}";
            let style =
                ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
            let bar =
                ProgressBar::new(total).with_style(style).with_prefix(name.clone()).with_position(first);
            // Time left is estimated from what is done from now on.
            bar.reset_eta();
            bar
        });
        let now = Instant::now();
        Bar { name, total, first, unit, bar, start: now, last: Cell::new(now) }
    }

    /// `message` says what else is of interest, such as the loss.
    pub fn say(&self, done: u64, message: &str) {
        let (elapsed, fresh) = (self.start.elapsed().as_secs_f64(), done.saturating_sub(self.first));
        let message = match self.unit {
            Some(unit) if elapsed > 0.0 => {
                let rate = format!("{:.0} {unit}/s", fresh as f64 / elapsed);
                if message.is_empty() { rate } else { format!("{rate}, {message}") }
            }
            _ => message.to_string(),
        };
        if let Some(bar) = &self.bar {
            bar.set_position(done);
            bar.set_message(message);
        } else if self.last.get().elapsed() >= PAUSE {
            self.last.set(Instant::now());
            let left = elapsed / fresh.max(1) as f64 * self.total.saturating_sub(done) as f64;
            eprintln!(
                "{}: {done}/{} {message}, {elapsed:.0} s, about {left:.0} s left",
                self.name, self.total
            );
        }
    }

    pub fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
