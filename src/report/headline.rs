//! What was trained, on what, with how many labels and which rule, and how well it does, in words.

use super::files::{TaskSource, task_source};
use super::load::Run;
use super::numbers::{count, duration, of, percent};
use super::page::Tile;
use super::statistics::wilson;
use crate::methods::Method;

/// Title of a run's report.
pub fn title(run: &Run) -> String {
    match data_name(run) {
        Some(data) => format!("{} on {data}", run.label()),
        None => run.label(),
    }
}

pub fn data_name(run: &Run) -> Option<String> {
    let file = || {
        let path = run.setting("data")?;
        Some(std::path::Path::new(&path).file_stem()?.to_string_lossy().into_owned())
    };
    run.about_text("/data/name").map(str::to_string).or_else(file)
}

/// The paragraph about how the run was trained.
pub fn training(run: &Run) -> String {
    let mut text = match run.method() {
        Some(name) => match Method::named(&name) {
            Ok(method) => format!("Method {name}: {}. ", method.about),
            Err(_) => format!("Method {name}. "),
        },
        None => String::new(),
    };
    if let Some(rule) = run.rule() {
        match run.about_text("/rule/about") {
            Some(about) => text += &format!("Rule {rule}: {about}. "),
            None => text += &format!("Rule {rule}. "),
        }
    }
    text += &data(run);
    text += &tasks(run);
    text.trim_end().to_string()
}

/// The sentence about images, labels and the net.
pub fn data(run: &Run) -> String {
    let net = run.setting("net").unwrap_or_else(|| "The net".into());
    let parameters = run.outcome.as_ref().and_then(|o| o.parameters).or(run.about_number("/parameters"));
    let parameters = parameters.map_or(String::new(), |n| format!(" ({} parameters)", count(n)));
    let labels = match (run.about_number("/split/labelled"), run.about_number("/data/train")) {
        (Some(labelled), Some(all)) => {
            format!("{} of {} training images with their labels", count(labelled), count(all))
        }
        (Some(labelled), None) => format!("{} training images with their labels", count(labelled)),
        _ => match run.setting("labels") {
            Some(budget) => format!("the label budget {budget}"),
            None => "an unknown number of labels".into(),
        },
    };
    let held = run.about_number("/split/validation").filter(|&n| n > 0);
    let held = held.map_or(String::new(), |n| format!("; {} more were held out for validation", count(n)));
    format!("{net}{parameters} was trained on {labels}{held}. ")
}

fn tasks(run: &Run) -> String {
    let number = run.about_number("/tasks/count").map(|n| n as usize);
    let mut text = match task_source(run) {
        TaskSource::None => return String::new(),
        TaskSource::Random(text) => match number {
            Some(n) => format!("{} of random labels. ", of(n, "auxiliary task")),
            None => format!("Auxiliary tasks: {text}. "),
        },
        TaskSource::File(path) => match number {
            Some(n) => format!("{} from {}. ", of(n, "auxiliary task"), path.display()),
            None => format!("Auxiliary tasks from {}. ", path.display()),
        },
    };
    if run.unlabelled() {
        text += "Auxiliary batches come from all training images, also those without labels (†). ";
    }
    text
}

/// The paragraph about how well it does.
pub fn outcome(run: &Run) -> String {
    let Some(outcome) = &run.outcome else {
        let at = match (run.log.last_step(), run.setting("steps")) {
            (Some(step), Some(steps)) => {
                format!(" The last logged step is {} of {steps}.", count(step))
            }
            (Some(step), None) => format!(" The last logged step is {}.", count(step)),
            _ => " Nothing was logged.".into(),
        };
        return format!("This run has no result: it was interrupted, or is still going on.{at}");
    };
    let validated = run.about_number("/split/validation").filter(|&n| n > 0);
    let by_validation = run
        .setting("select")
        .or_else(|| run.setting("selection"))
        .map_or(outcome.validation_accuracy.is_some(), |s| s == "validation");
    let kept = match (outcome.selected_step, by_validation) {
        (Some(step), true) => format!(
            "The parameters of step {} were kept, chosen by validation accuracy{}{}.",
            count(step),
            outcome.validation_accuracy.map_or(String::new(), |a| format!(" ({}", percent(a))),
            match (outcome.validation_accuracy, validated) {
                (Some(_), Some(n)) => format!(" of {} images)", count(n)),
                (Some(_), None) => ")".into(),
                _ => String::new(),
            }
        ),
        (Some(step), false) => format!("The parameters of the last step, {}, were kept.", count(step)),
        (None, _) => "The result does not say which parameters were kept.".into(),
    };
    let test = match run.test() {
        Some((accuracy, Some(n))) => {
            let (low, high) = wilson(accuracy * n, n);
            format!(
                "They classify {} of {} test images correctly (95\u{a0}% interval {} to {}).",
                percent(accuracy),
                count(n as u64),
                percent(low),
                percent(high)
            )
        }
        Some((accuracy, None)) => {
            format!("They classify {} of the test images correctly.", percent(accuracy))
        }
        None => "There is no test result; the data set may have no test part.".into(),
    };
    let stopped = match outcome.stopped.as_deref() {
        Some("patience") => " Training ended early, as validation no longer improved.",
        _ => "",
    };
    format!("{kept} {test}{stopped}")
}

/// Headline figures.
pub fn tiles(run: &Run) -> Vec<Tile> {
    let mut tiles = Vec::new();
    if let Some((accuracy, n)) = run.test() {
        let detail = n.map_or(String::new(), |n| {
            let (low, high) = wilson(accuracy * n, n);
            format!("{} to {}", percent(low), percent(high))
        });
        tiles.push(Tile { name: "test accuracy", value: percent(accuracy), detail });
    }
    if let Some(accuracy) = run.validation() {
        let detail =
            run.about_number("/split/validation").map_or(String::new(), |n| format!("{} images", count(n)));
        tiles.push(Tile { name: "validation accuracy", value: percent(accuracy), detail });
    }
    if let Some(labelled) = run.about_number("/split/labelled") {
        let detail =
            run.about_number("/data/train").map_or(String::new(), |n| format!("of {} images", count(n)));
        tiles.push(Tile { name: "labels", value: count(labelled), detail });
    }
    if let Some(seconds) = run.outcome.as_ref().and_then(|o| o.seconds) {
        let speed = run.outcome.as_ref().and_then(|o| o.images_per_s);
        let detail = speed.map_or(String::new(), |s| format!("{} images/s", count(s.round() as u64)));
        tiles.push(Tile { name: "training time", value: duration(seconds), detail });
    }
    tiles
}
