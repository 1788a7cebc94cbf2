//! The report of one run.

use maud::html;

use super::load::Run;
use super::page::{Section, page};
use super::{clusters, confusion, curves, files, headline, tables};

pub fn render(run: &Run) -> String {
    let data = files::dataset(run);
    let head = html! {
        p.lead { (headline::outcome(run)) }
        p { (headline::training(run)) }
        @if run.log.cut { p.note { "The last line of metrics.jsonl is half-written and was left out." } }
    };
    let reproduce = html! {
        @match tables::command(run) {
            Some(command) => {
                p { "This command repeats the run, on the same kind of device to the same bits:" }
                pre { code { (command) } }
            }
            None => p.note { "The command line was not stored." }
        }
        div.columns { (tables::configuration(run)) (tables::environment(run)) }
    };
    let sections = [
        Section::new("curves", "Learning curves", curves::of_run(run)),
        Section::new("confusion", "What it confuses", confusion::section(run, &data)),
        Section::new("clusters", "Auxiliary tasks", clusters::section(run, &data)),
        Section::new("settings", "Configuration and environment", reproduce),
    ];
    page(&headline::title(run), head, &headline::tiles(run), &sections)
}
