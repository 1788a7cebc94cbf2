//! What a run ran on and with: `environment.json`.

use serde_json::{Value, json};

use super::settings::Config;
use crate::cluster::Tasks;
use crate::data::dataset::hex;
use crate::data::{Dataset, Part, Split};
use crate::error::Result;
use sha2::{Digest, Sha256};

pub fn host() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let name: String = name.trim().chars().filter(|c| c.is_ascii_alphanumeric() || *c == '-').collect();
    if name.is_empty() { "localhost".into() } else { name }
}

/// Name of the processor.
pub fn processor() -> String {
    let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = text.lines().find_map(|l| l.strip_prefix("model name")?.split_once(':'));
    name.map_or_else(|| std::env::consts::ARCH.to_string(), |(_, name)| name.trim().to_string())
}

/// SHA-256 over all labels.
pub fn tasks_hash(tasks: &Tasks) -> String {
    let mut hash = Sha256::new();
    for (labels, classes) in tasks.labels.iter().zip(&tasks.classes) {
        hash.update((*classes as u64).to_le_bytes());
        hash.update(bytemuck::cast_slice::<u32, u8>(labels));
    }
    hex(&hash.finalize())
}

/// Everything that is worth keeping of where and how a run was started.
pub fn describe(
    config: &Config,
    dataset: &Dataset,
    tasks: Option<&Tasks>,
    split: &Split,
    device: &str,
    parameters: usize,
) -> Result<Value> {
    let rule = config.rule()?;
    let count = |part: Part| dataset.part(part).len();
    let tasks = tasks.map(|tasks| {
        json!({
            "source": config.tasks.as_ref().map(ToString::to_string), "count": tasks.len(), "classes": tasks.classes,
            "hash": tasks_hash(tasks),
        })
    });
    Ok(json!({
        "tessera": env!("CARGO_PKG_VERSION"),
        "command": std::env::args_os().map(|a| a.to_string_lossy().into_owned()).collect::<Vec<_>>(),
        "started": super::metrics::now(),
        "host": host(),
        "cpu": processor(),
        "os": format!("{} {}", std::env::consts::OS, std::env::consts::ARCH),
        "device": device,
        "threads": rayon::current_num_threads(),
        "data": {
            "path": dataset.path().display().to_string(), "name": dataset.name(), "fingerprint": dataset.fingerprint(),
            "classes": dataset.class_names(), "image_shape": dataset.image_shape(),
            "train": count(Part::Train), "test": count(Part::Test),
        },
        "tasks": tasks,
        "split": {
            "labelled": split.labelled.len(), "validation": split.validation.len(), "unlabelled": split.unlabelled.len(),
        },
        "rule": config.rule.as_ref().map(|_| json!({"name": rule.name, "about": rule.about})),
        "parameters": parameters,
    }))
}
