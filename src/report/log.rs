//! The log of a run, `metrics.jsonl`: one JSON object a line.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;

use crate::error::{Error, Result};

/// One line: what happened after which step, and its numbers by name. A number that is `null` in the file
/// was not finite.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    pub kind: String,
    pub step: u64,
    pub figures: BTreeMap<String, f64>,
}

#[derive(Clone, Debug, Default)]
pub struct Log {
    pub events: Vec<Event>,
    /// Is there a half-written last line, which was left out?
    pub cut: bool,
}

/// Figures that the report draws; they must be numbers.
const FIGURES: [&str; 9] = [
    "epoch",
    "loss",
    "inner_loss",
    "joint_loss",
    "accuracy",
    "hessian_ratio",
    "hessian_cosine",
    "alignment",
    "images_per_s",
];

impl Log {
    /// Parses the content of the file at `path`.
    pub fn parse(path: &Path, bytes: &[u8]) -> Result<Self> {
        let mut log = Log::default();
        let mut lines = bytes.split(|&b| b == b'\n').enumerate().peekable();
        while let Some((number, line)) = lines.next() {
            if line.trim_ascii().is_empty() {
                continue;
            }
            let last = lines.peek().is_none();
            match serde_json::from_slice::<Value>(line) {
                Ok(value) => log.events.extend(event(path, number + 1, &value)?),
                // The file did not end with a line feed: its writer was killed.
                Err(_) if last => log.cut = true,
                Err(e) => {
                    let place = format!("line {}, column {}", number + 1, e.column());
                    return Err(Error::format(path, place, "a JSON object", "something else"));
                }
            }
        }
        Ok(log)
    }

    /// Step and value of a figure over all events of a kind that have it.
    pub fn series(&self, kind: &str, figure: &str) -> Vec<(f64, f64)> {
        let of_kind = self.events.iter().filter(|e| e.kind == kind);
        of_kind.filter_map(|e| Some((e.step as f64, *e.figures.get(figure)?))).collect()
    }

    pub fn last_step(&self) -> Option<u64> {
        self.events.iter().map(|e| e.step).max()
    }
}

/// The event of a line; `None` of one without the name of an event.
fn event(path: &Path, line: usize, value: &Value) -> Result<Option<Event>> {
    let wrong = |place: &str, expected: &str, found: &Value| {
        let found: String = found.to_string().chars().take(60).collect();
        Error::format(path, format!("line {line}{place}"), expected, found)
    };
    let object = value.as_object().ok_or_else(|| wrong("", "a JSON object", value))?;
    let Some(kind) = object.get("event") else { return Ok(None) };
    let kind = kind.as_str().ok_or_else(|| wrong(", key 'event'", "a name", kind))?.to_string();
    let step = object.get("step").unwrap_or(&Value::Null);
    let step = step.as_u64().ok_or_else(|| wrong(", key 'step'", "a whole number", step))?;
    let mut figures = BTreeMap::new();
    for (key, value) in object {
        match value.as_f64() {
            Some(number) => _ = figures.insert(key.clone(), number),
            None if value.is_null() => _ = figures.insert(key.clone(), f64::NAN),
            None if FIGURES.contains(&key.as_str()) => {
                return Err(wrong(&format!(", key '{key}'"), "a number", value));
            }
            None => {}
        }
    }
    Ok(Some(Event { kind, step, figures }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Log> {
        Log::parse(Path::new("RUN/metrics.jsonl"), text.as_bytes())
    }

    const LINE: &str = r#"{"event":"epoch","step":6,"loss":0.5,"tasks":[3,3]}"#;

    #[test]
    fn series_in_order_with_what_is_not_finite() {
        let more = r#"{"event":"epoch","step":12,"loss":null}"#;
        let log = parse(&format!("{LINE}\n{more}\n{{\"other\":1}}\n")).unwrap();
        let loss = log.series("epoch", "loss");
        assert_eq!((loss[0], loss[1].0), ((6.0, 0.5), 12.0));
        assert!(loss[1].1.is_nan());
        assert_eq!((log.last_step(), log.cut), (Some(12), false));
        assert!(log.series("validation", "loss").is_empty());
        assert!(parse("").unwrap().events.is_empty());
    }

    #[test]
    fn a_half_written_last_line_is_left_out() {
        let whole = parse(&format!("{LINE}\n{LINE}\n")).unwrap();
        assert_eq!(whole.events.len(), 2);
        for cut in 1..LINE.len() {
            let log = parse(&format!("{LINE}\n{}", &LINE[..cut])).unwrap();
            assert!(log.cut && log.events.len() == 1, "cut at {cut}");
        }
        let unfinished = parse(&format!("{LINE}\n{LINE}")).unwrap();
        assert!(!unfinished.cut && unfinished.events.len() == 2);
    }

    #[test]
    fn a_malformed_line_is_named() {
        let message = |text: &str| parse(text).unwrap_err().to_string();
        let broken = message(&format!("{LINE}\n{{\"event\":\n{LINE}\n"));
        assert!(broken.starts_with("RUN/metrics.jsonl: line 2, column"), "{broken}");
        assert!(message("[]\n").contains("line 1: expected a JSON object, found []"));
        assert!(message("{\"event\":\"epoch\"}\n").contains("line 1, key 'step'"));
        let text = message(&format!("{LINE}\n\n{}", LINE.replace("0.5", "\"low\"")));
        assert!(text.contains("line 3, key 'loss': expected a number, found \"low\""), "{text}");
        assert!(Log::parse(Path::new("m"), b"\xff\n{}\n").unwrap_err().to_string().contains("line 1"));
    }
}
