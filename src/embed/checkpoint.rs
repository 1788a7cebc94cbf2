//! The state of an embedding run between two steps: every parameter with its Adam moments, under
//! PyTorch's names and in its layout, what else the method carries along, and the number of steps done. With the settings, which the metadata
//! repeat, that is all that the rest of the run depends on.

use std::path::{Path, PathBuf};

use super::Engine;
use crate::device::HostSlice;
use crate::error::{Error, Result};
use crate::nn::Parameter;
use crate::tensor::{DType, Entry, TensorFile, write_tensors};

/// Value of the metadata key `format`.
const FORMAT: &str = "tessera-embedding-checkpoint-1";
const WEIGHTS_FORMAT: &str = "tessera-embedding-weights-1";

/// A file beside the embedding: `emb.safetensors` has `emb.checkpoint.safetensors`.
pub fn beside(embedding: &Path, what: &str) -> PathBuf {
    let stem = match embedding.extension() {
        Some(extension) if extension == "safetensors" => embedding.with_extension(""),
        _ => embedding.to_path_buf(),
    };
    let mut name = stem.into_os_string();
    name.push(format!(".{what}.safetensors"));
    name.into()
}

/// Writes parameters and moments after `step` steps.
pub fn write(path: &Path, engine: &Engine, settings: &[(&str, String)], step: u64) -> Result<()> {
    write_states(path, (engine, engine.states()), settings, step, FORMAT)
}

/// Writes the parameters alone.
pub fn write_weights(path: &Path, engine: &Engine, settings: &[(&str, String)], step: u64) -> Result<()> {
    write_states(path, (engine, engine.weights()), settings, step, WEIGHTS_FORMAT)
}

fn write_states(
    path: &Path,
    (engine, states): (&Engine, Vec<(&Parameter, String)>),
    settings: &[(&str, String)],
    step: u64,
    format: &str,
) -> Result<()> {
    let mut tensors = Vec::new();
    for (p, name) in states {
        let values = engine.session().read_f32(&name)?;
        if let Some(bad) = values.iter().find(|v| !v.is_finite()) {
            return Err(Error::Diverged(format!("after {step} steps {name} holds {bad}")));
        }
        tensors.push((name, p.file_shape(), p.to_file(&values)));
    }
    let entries: Vec<Entry<'_>> =
        tensors.iter().map(|(name, shape, values)| Entry::new(name, DType::F32, *shape, values)).collect();
    let mut metadata = settings.to_vec();
    metadata.push(("format", format.to_string()));
    metadata.push(("step", step.to_string()));
    metadata.push(("version", env!("CARGO_PKG_VERSION").to_string()));
    write_tensors(path, &entries, &metadata)
}

/// Reads the state of a run with the same settings (more samples may be asked for now) and returns the
/// number of steps done.
pub fn read(path: &Path, engine: &mut Engine, settings: &[(&str, String)]) -> Result<u64> {
    let file = TensorFile::open(path)?;
    let wrong = |key: &str, expected: String, found: &str| {
        Error::format(path, format!("metadata key '{key}'"), expected, found)
    };
    let format = file.metadata("format").unwrap_or("no such key");
    if format != FORMAT {
        return Err(wrong("format", FORMAT.to_string(), format));
    }
    for (key, asked) in settings.iter().filter(|(key, _)| *key != "samples") {
        let found = file.metadata(key).unwrap_or("no such key");
        if found != asked {
            return Err(Error::usage(format!(
                "{}: the interrupted run has {key} '{found}', now '{asked}' is asked for; give the same options, or remove the file to begin anew",
                path.display()
            )));
        }
    }
    let step = file.metadata("step").unwrap_or("no such key");
    let step = step.parse().map_err(|_| wrong("step", "a number of steps".to_string(), step))?;
    restore(&file, engine, |engine| engine.states())?;
    Ok(step)
}

/// Reads the parameters that [`write_weights`] wrote.
pub fn read_weights(file: &TensorFile, engine: &mut Engine) -> Result<()> {
    let format = file.metadata("format").unwrap_or("no such key");
    if format != WEIGHTS_FORMAT {
        return Err(Error::format(file.path(), "metadata key 'format'", WEIGHTS_FORMAT, format));
    }
    restore(file, engine, |engine| engine.weights())
}

/// Nothing is written before everything was read.
fn restore(
    file: &TensorFile,
    engine: &mut Engine,
    of: impl Fn(&Engine) -> Vec<(&Parameter, String)>,
) -> Result<()> {
    let states = of(engine).into_iter().map(|(p, name)| Ok((values(file, p, &name)?, name)));
    for (values, name) in states.collect::<Result<Vec<_>>>()? {
        engine.session_mut().write(&name, HostSlice::F32(&values))?;
    }
    Ok(())
}

fn values(file: &TensorFile, parameter: &Parameter, name: &str) -> Result<Vec<f32>> {
    let (expected, found) = (parameter.file_shape(), file.shape(name)?);
    if found != expected {
        return Err(file.wrong(name, format!("shape {expected}"), found.to_string()));
    }
    let stored = file.slice::<f32>(name, DType::F32)?;
    match stored.iter().find(|v| !v.is_finite()) {
        Some(bad) => Err(file.wrong(name, "finite numbers", bad.to_string())),
        None => Ok(parameter.from_file(stored)),
    }
}

/// Removes a file that may not be there.
pub fn remove(path: &Path) -> Result<()> {
    match std::fs::remove_file(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(Error::io(path, "remove", e)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_beside_an_embedding() {
        let beside = |p: &str| beside(Path::new(p), "checkpoint").display().to_string();
        assert_eq!(beside("a/emb.safetensors"), "a/emb.checkpoint.safetensors");
        assert_eq!(beside("emb.v2"), "emb.v2.checkpoint.safetensors");
        assert_eq!(beside("emb"), "emb.checkpoint.safetensors");
    }
}
