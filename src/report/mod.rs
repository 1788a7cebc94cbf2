//! Reports of runs: one self-contained HTML file with a headline, learning curves, the table of methods, the
//! confusion matrix, images of the clusters, and the settings.
//!
//! Reads run folders and studies; knows nothing of how they were made. What is missing is said in the report,
//! what is malformed is an error.

mod axis;
mod chart;
mod clusters;
mod comparison;
mod confusion;
mod curves;
mod dots;
mod files;
mod groups;
mod headline;
mod load;
mod log;
mod numbers;
mod one;
mod page;
mod picture;
mod statistics;
mod study;
mod tables;
mod verdict;

use std::path::{Path, PathBuf};

use comparison::Comparison;
use load::Run;

use crate::error::{Error, Result};
use crate::tensor::write_atomically;

/// Name of a report in its folder.
pub const FILE: &str = "report.html";

/// (Re)writes the report of a run into its folder.
pub fn run(folder: &Path) -> Result<()> {
    write(&folder.join(FILE), &one::render(&Run::open(folder)?))
}

/// Writes one report that compares runs. A study among them stands for all its runs.
pub fn compare(folders: &[PathBuf], out: &Path) -> Result<()> {
    write(out, &comparison(folders)?.render())
}

/// (Re)writes the report of a study into its folder, finished or not.
pub fn study(folder: &Path) -> Result<()> {
    write(&folder.join(FILE), &of_study(folder)?.render())
}

/// Writes the report that the folders ask for, and says where: of a run or a study in its own folder, of several
/// in `report.html` here, unless `out` says otherwise.
pub fn write_for(folders: &[PathBuf], out: Option<&Path>) -> Result<PathBuf> {
    let (own, page) = match folders {
        [] => return Err(Error::usage("name at least one run folder")),
        [folder] if study::is_study(folder) => (folder.join(FILE), of_study(folder)?.render()),
        [folder] => (folder.join(FILE), one::render(&Run::open(folder)?)),
        _ => (PathBuf::from(FILE), comparison(folders)?.render()),
    };
    let path = out.map_or(own, Path::to_path_buf);
    write(&path, &page)?;
    Ok(path)
}

fn of_study(folder: &Path) -> Result<Comparison> {
    let Some(study) = study::Study::open(folder)? else {
        let groups = groups::by_method(study::runs_below(folder)?);
        let notes =
            vec![format!("There is no {}: the study was interrupted, or is still going on.", study::FILE)];
        return Ok(Comparison { groups, study: None, notes });
    };
    let groups = groups::of_study(folder, &study)?;
    let mut notes = Vec::new();
    let missing: Vec<String> = groups.iter().flat_map(|g| &g.missing).cloned().collect();
    if !missing.is_empty() {
        notes.push(format!("Runs of the study are not there: {}.", missing.join(", ")));
    }
    let found = groups::winner(&groups).map(|w| groups[w].label.clone());
    if let (Some(stated), Some(found)) = (&study.winner, &found)
        && stated != found
    {
        notes.push(format!(
            "The study names {stated} as its winner; by the runs that are there it is {found}."
        ));
    }
    Ok(Comparison { groups, study: Some((study.protocol, study.seconds)), notes })
}

fn comparison(folders: &[PathBuf]) -> Result<Comparison> {
    let mut runs: Vec<Run> = Vec::new();
    for folder in folders {
        if study::is_study(folder) {
            runs.extend(study::runs_below(folder)?);
        } else {
            runs.push(Run::open(folder)?);
        }
    }
    Ok(Comparison { groups: groups::by_method(runs), study: None, notes: Vec::new() })
}

fn write(path: &Path, page: &str) -> Result<()> {
    write_atomically(path, |file| file.write_all(page.as_bytes()))
}
