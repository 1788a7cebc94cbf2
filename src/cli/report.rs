//! `tessera report`: a page about a run, a study, or several runs side by side.

use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use super::Output;
use crate::error::Result;
use crate::report;

#[derive(Args)]
pub struct Report {
    /// Run folders, or the folder of a study.
    #[arg(required = true, value_name = "RUN")]
    runs: Vec<PathBuf>,
    /// File to write [default: report.html in the folder of the one run or study, else here].
    #[arg(short, long, value_name = "FILE")]
    out: Option<PathBuf>,
}

pub fn run(r: Report, output: &Output) -> Result<()> {
    let path = report::write_for(&r.runs, r.out.as_deref())?;
    output.result(&json!({"report": path.display().to_string()}), format!("report: {}", path.display()));
    Ok(())
}
