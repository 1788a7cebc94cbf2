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
    bar: Option<ProgressBar>,
    start: Instant,
    last: Cell<Instant>,
}

impl Bar {
    /// Work of `total` pieces.
    pub fn new(name: impl Into<String>, total: u64) -> Self {
        let name = name.into();
        let bar = std::io::stderr().is_terminal().then(|| {
            let template = "{prefix:>9} {wide_bar:.cyan/dim} {pos}/{len} {msg} {elapsed}<{eta}";
            let style =
                ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
            ProgressBar::new(total).with_style(style).with_prefix(name.clone())
        });
        let now = Instant::now();
        Bar { name, total, bar, start: now, last: Cell::new(now) }
    }

    pub fn set(&self, done: u64) {
        self.say(done, "");
    }

    /// `message` says what else is of interest, such as the loss.
    pub fn say(&self, done: u64, message: &str) {
        if let Some(bar) = &self.bar {
            bar.set_position(done);
            bar.set_message(message.to_string());
        } else if self.last.get().elapsed() >= PAUSE {
            self.last.set(Instant::now());
            let (elapsed, done_before) = (self.start.elapsed().as_secs_f64(), done.max(1));
            let left = elapsed / done_before as f64 * self.total.saturating_sub(done) as f64;
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
