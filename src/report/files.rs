//! Files that a run was made from: data set, tasks, embedding. They lie outside the run folder, so they may
//! have moved, changed or gone; then the report says so and goes on.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::load::Run;
use crate::cluster::{Embedding, Tasks};
use crate::data::Dataset;
use crate::run::environment::tasks_hash;
use crate::tensor::TensorFile;

/// A sentence that says why there is no such thing.
pub type Reason = String;

/// Auxiliary tasks of a run.
pub enum TaskSource {
    None,
    /// Configured text, such as `random:4:10`.
    Random(String),
    File(PathBuf),
}

pub fn task_source(run: &Run) -> TaskSource {
    let named = |key: &str| run.about_text(key).map(str::to_string);
    let text =
        run.setting("tasks").or_else(|| named("/tasks/source")).or_else(|| named("/tasks/path")).or_else(
            || match run.about("/tasks") {
                Some(Value::String(text)) => Some(text.clone()),
                _ => None,
            },
        );
    match text {
        None => TaskSource::None,
        Some(text) if text.starts_with("random") => TaskSource::Random(text),
        Some(text) => TaskSource::File(PathBuf::from(text)),
    }
}

/// Where a file that a run names may lie: as written, from the run's folder, or, if the whole study was
/// moved, under its name in a folder above the run.
fn candidates(named: &Path, from: &Path) -> Vec<PathBuf> {
    let mut all = vec![named.to_path_buf()];
    for folder in from.ancestors().take(4) {
        all.push(folder.join(named));
        all.extend(named.file_name().map(|n| folder.join(n)));
    }
    all
}

/// The files of that name that there are, the likeliest first.
fn found(named: &Path, from: &Path) -> impl Iterator<Item = PathBuf> {
    let absolute = std::path::absolute(from).unwrap_or_else(|_| from.to_path_buf());
    candidates(named, &absolute).into_iter().filter(|p| p.is_file())
}

fn gone(what: &str, named: &Path) -> Reason {
    format!("The {what} {} is no longer there.", named.display())
}

/// The data set that the run was trained on, recognised by its fingerprint.
pub fn dataset(run: &Run) -> Result<Dataset, Reason> {
    let named = run.about_text("/data/path").map(str::to_string).or_else(|| run.setting("data"));
    let named = PathBuf::from(named.ok_or("The run does not name its data set.")?);
    let expected = run.about_text("/data/fingerprint");
    let mut first = None;
    for path in found(&named, &run.folder) {
        let problem = match Dataset::open(&path) {
            Ok(dataset) if expected.is_none_or(|e| e == dataset.fingerprint()) => return Ok(dataset),
            Ok(_) => format!("The data set {} has changed since the run.", path.display()),
            Err(e) => format!("The data set cannot be read: {e}."),
        };
        first.get_or_insert(problem);
    }
    Err(first.unwrap_or_else(|| gone("data set", &named)))
}

/// A tasks file, open.
pub struct TasksFile {
    pub tasks: Tasks,
    pub tensors: TensorFile,
    /// The embedding that the partitions are of.
    pub embedding: Result<Embedding, Reason>,
}

pub fn tasks(run: &Run, named: &Path) -> Result<TasksFile, Reason> {
    let path = found(named, &run.folder).next().ok_or_else(|| gone("tasks file", named))?;
    let unreadable = |e: crate::Error| format!("The tasks file cannot be read: {e}.");
    let tasks = Tasks::open(&path).map_err(unreadable)?;
    if run.about_text("/tasks/hash").is_some_and(|hash| hash != tasks_hash(&tasks)) {
        return Err(format!("The tasks file {} has changed since the run.", path.display()));
    }
    let tensors = TensorFile::open(&path).map_err(unreadable)?;
    let embedding = embedding(&path, &tensors, tasks.images());
    Ok(TasksFile { tasks, tensors, embedding })
}

fn embedding(tasks: &Path, tensors: &TensorFile, images: usize) -> Result<Embedding, Reason> {
    let named = Path::new(tensors.metadata("embedding").unwrap_or("embedding.safetensors"));
    let folder = tasks.parent().unwrap_or(Path::new(""));
    let path = found(named, folder).next().ok_or_else(|| gone("embedding", named))?;
    let embedding = Embedding::open(&path).map_err(|e| format!("The embedding cannot be read: {e}."))?;
    if embedding.rows() != images {
        let rows = embedding.rows();
        return Err(format!(
            "The embedding {} has {rows} rows, the tasks have {images} images.",
            path.display()
        ));
    }
    Ok(embedding)
}
