//! Reports say what is in the run folders, say what is missing, and name what is malformed.

mod fixture;
mod html;

use std::fs;
use std::path::{Path, PathBuf};

use fixture::{META, MTL_ALL, MTL_RANDOM, Method, STL};
use html::Page;
use tessera::data::Dataset;
use tessera::report;
use tessera::tensor::{DType, Entry, write_tensors};

fn page(path: &Path) -> Page {
    let text = fs::read_to_string(path).unwrap();
    let page = Page::read(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    page.check();
    page
}

/// A folder with a data set and one finished run.
fn one(m: Method) -> (tempfile::TempDir, PathBuf) {
    let home = tempfile::tempdir().unwrap();
    fixture::data(home.path());
    let run = fixture::run(home.path(), &home.path().join("run"), m, 1);
    (home, run)
}

fn report_of(run: &Path) -> Page {
    report::run(run).unwrap();
    page(&run.join("report.html"))
}

#[track_caller]
fn says(page: &Page, what: &str) {
    let plain = |t: &str| t.replace('\u{a0}', " ").replace('\n', "");
    assert!(plain(&page.text).contains(what), "'{what}' is not in:\n{}", page.text);
}

#[test]
fn a_run_with_everything() {
    let (_home, run) = one(META);
    let page = report_of(&run);
    says(&page, "meta-mtl paper on synth-shape");
    says(&page, "60 of 600 training images with their labels; 200 more were held out");
    says(&page, "Rule paper: exact second-order gradient");
    says(&page, "The parameters of step 480 were kept, chosen by validation accuracy");
    says(&page, "of 400 test images correctly (95 % interval");
    for figure in ["Training loss.", "Validation accuracy.", "Size of the second-order term.", "Alignment"] {
        says(&page, figure);
    }
    says(&page, "4 partitions of the 600 training images");
    says(&page, "nearest to its centre, the nearest first");
    says(&page, "task1234true classescoloursh");
    says(&page, "Of each partition the 10 largest clusters are shown.");
    assert_eq!(page.attributes("img", "alt").filter(|a| a.contains("of cluster")).count(), 40);
    assert_eq!(page.attributes("img", "alt").filter(|a| a.contains("taken for")).count(), 18);
    says(&page, "--method meta-mtl --labels 10% --run");
    says(&page, "2024-11-25 09:46:40 UTC");
    says(&page, "weight-decay0.0005");
    let lines = page.attributes("path", "class").filter(|c| c.starts_with("line c")).count();
    assert_eq!(lines, 2 + 6, "two in the legend, two losses, four other figures");
}

#[test]
fn the_matrix_counts_what_was_predicted() {
    let (_home, run) = one(STL);
    let names: Vec<String> = ["disc", "square", "triangle", "cross", "ring"].map(String::from).to_vec();
    let (labels, predicted) = ([0, 0, 0, 1, 2, 3], [0, 0, 1, 1, 2, 2]);
    let probabilities: Vec<f32> =
        predicted.iter().flat_map(|&p| (0..5).map(move |c| if c == p { 0.6 } else { 0.1 })).collect();
    fixture::predictions(&run, &probabilities, &labels, &predicted, &names);
    let page = report_of(&run);
    says(&page, "They classify 66.7 % of 6 test images correctly (95 % interval 30.0 % to 90.3 %)");
    says(&page, "4 of 6 test images are classified correctly");
    says(&page, "disc2100066.7 %");
    says(&page, "ring00000–");
    says(&page, "The data set's test images are not those of the predictions.");
    says(&page, "crosstaken for triangle60.0 % sure");
}

#[test]
fn many_classes_get_a_picture_and_the_commonest_confusions() {
    let (_home, run) = one(STL);
    let names: Vec<String> = (0..40).map(|i| format!("kind {i}")).collect();
    let labels: Vec<u32> = (0..400).map(|i| i / 10).collect();
    let predicted: Vec<u32> = labels.iter().map(|&l| if l == 7 { 9 } else { l }).collect();
    fixture::predictions(&run, &vec![0.025; 400 * 40], &labels, &predicted, &names);
    let page = report_of(&run);
    says(&page, "kind 7kind 910");
    says(&page, "kind 7 taken for kind 9: 10");
    says(&page, "kind 70.0 %");
    assert_eq!(page.attributes("rect", "class").filter(|c| *c == "cell").count(), 40);
}

#[test]
fn pieces_that_are_missing_are_said_to_be_missing() {
    let home = tempfile::tempdir().unwrap();
    fixture::data(home.path());
    let made = |name: &str, m: Method| fixture::run(home.path(), &home.path().join(name), m, 1);

    let run = made("no-test", STL);
    fs::remove_file(run.join("predictions.safetensors")).unwrap();
    let text = fs::read_to_string(run.join("result.json")).unwrap();
    let mut result: serde_json::Value = serde_json::from_str(&text).unwrap();
    result["test_accuracy"] = serde_json::Value::Null;
    fs::write(run.join("result.json"), result.to_string()).unwrap();
    let page = report_of(&run);
    says(&page, "There is no test result");
    says(&page, "The run has no predictions for test images");
    says(&page, "The run has no auxiliary tasks.");

    let run = made("interrupted", META);
    for file in ["result.json", "predictions.safetensors"] {
        fs::remove_file(run.join(file)).unwrap();
    }
    let log = fs::read(run.join("metrics.jsonl")).unwrap();
    fs::write(run.join("metrics.jsonl"), &log[..log.len() - 30]).unwrap();
    let page = report_of(&run);
    says(
        &page,
        "This run has no result: it was interrupted, or is still going on. The last logged step is 600 of 600.",
    );
    says(&page, "half-written and was left out");
    says(&page, "meta-mtl paper on synth-shape");

    let run = made("no-validation", STL);
    let log = fs::read_to_string(run.join("metrics.jsonl")).unwrap();
    let log: Vec<&str> = log.lines().filter(|l| !l.contains("\"validation\"")).collect();
    fs::write(run.join("metrics.jsonl"), log.join("\n")).unwrap();
    let config = fs::read_to_string(run.join("config.toml")).unwrap();
    fs::write(run.join("config.toml"), config.replace("select = \"validation\"", "select = \"last\""))
        .unwrap();
    says(&report_of(&run), "The log holds no validation accuracy.");
    let text = fs::read_to_string(run.join("environment.json")).unwrap();
    fs::write(run.join("environment.json"), text.replace("\"validation\": 200", "\"validation\": 0"))
        .unwrap();
    let page = report_of(&run);
    says(&page, "No images were held out for validation");
    says(&page, "The parameters of the last step, 480, were kept.");

    says(&report_of(&made("random", MTL_RANDOM)), "The 4 auxiliary tasks are random: 10 labels each");

    let run = made("only-config", META);
    for file in ["result.json", "predictions.safetensors", "metrics.jsonl", "environment.json"] {
        fs::remove_file(run.join(file)).unwrap();
    }
    let page = report_of(&run);
    says(&page, "The log holds no figures to draw.");
    says(&page, "There is no environment.json.");
}

#[test]
fn data_that_moved_is_found_and_data_that_changed_is_not_shown() {
    let (home, run) = one(META);
    let moved = tempfile::tempdir().unwrap();
    let target = moved.path().join("study");
    fs::create_dir(&target).unwrap();
    for name in ["data.safetensors", "tasks.safetensors", "embedding.safetensors"] {
        fs::rename(home.path().join(name), target.join(name)).unwrap();
    }
    fs::rename(&run, target.join("run")).unwrap();
    let page = report_of(&target.join("run"));
    assert_eq!(page.count("img"), 58);

    let tasks = fs::read(target.join("tasks.safetensors")).unwrap();
    let other = vec![0u32; 1000];
    let other = [Entry::new("labels.1", DType::U32, [1000], &other)];
    write_tensors(target.join("tasks.safetensors"), &other, &[]).unwrap();
    says(&report_of(&target.join("run")), "has changed since the run. So the clusters cannot be shown.");
    fs::write(target.join("tasks.safetensors"), tasks).unwrap();

    fs::remove_file(target.join("embedding.safetensors")).unwrap();
    let page = report_of(&target.join("run"));
    says(&page, "is no longer there. So nearness to the centres is unknown.");
    says(&page, "The images of a cluster are its first ones in the data set.");
    assert_eq!(page.count("img"), 58);

    let other = tessera::data::synth::Options { train: 600, test: 400, seed: 9, ..Default::default() };
    tessera::data::synth::draw(&other).unwrap().write(target.join("data.safetensors")).unwrap();
    let page = report_of(&target.join("run"));
    says(&page, "has changed since the run. So the images cannot be shown.");
    fs::write(target.join("data.safetensors"), "nonsense").unwrap();
    says(&report_of(&target.join("run")), "The data set cannot be read:");
    fs::remove_file(target.join("data.safetensors")).unwrap();
    let page = report_of(&target.join("run"));
    says(&page, "is no longer there. So the images of the clusters cannot be shown.");
    assert_eq!(page.count("img"), 0);
}

#[test]
fn a_malformed_file_is_one_error_and_leaves_the_old_report() {
    let (_home, run) = one(META);
    report::run(&run).unwrap();
    let before = fs::read(run.join("report.html")).unwrap();
    let log = fs::read_to_string(run.join("metrics.jsonl")).unwrap();
    let mut lines: Vec<String> = log.lines().map(str::to_string).collect();
    lines[4] = "{\"event\":\"epoch\",\"step\":-1}".into();
    let cases: [(&str, Vec<u8>, &str); 8] = [
        (
            "metrics.jsonl",
            lines.join("\n").into(),
            "metrics.jsonl: line 5, key 'step': expected a whole number, found -1",
        ),
        ("metrics.jsonl", b"{}\n{\"event\":\n{}\n".to_vec(), "metrics.jsonl: line 2, column"),
        ("config.toml", b"seed = 1\nmethod = \n".to_vec(), "config.toml: line 2: expected TOML"),
        ("config.toml", b"seed = 1 \xff".to_vec(), "config.toml: byte 9: expected text in UTF-8"),
        (
            "environment.json",
            b"{\n\"data\": ]\n}".to_vec(),
            "environment.json: line 2, column 9: expected JSON",
        ),
        ("result.json", b"{\"seed\": \"one\"}".to_vec(), "result.json: line 1, column 14"),
        ("predictions.safetensors", b"12345678".to_vec(), "predictions.safetensors: header"),
        ("predictions.safetensors", b"1".to_vec(), "predictions.safetensors: byte 0"),
    ];
    for (name, content, expected) in cases {
        let path = run.join(name);
        let good = fs::read(&path).unwrap();
        fs::write(&path, content).unwrap();
        let error = report::run(&run).unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
        assert_eq!(error.exit_code(), 4);
        fs::write(&path, good).unwrap();
        assert_eq!(fs::read(run.join("report.html")).unwrap(), before);
    }
    let names = [String::from("a"), String::from("b")];
    fixture::predictions(&run, &[0.5; 4], &[0, 7], &[0, 1], &names);
    let message = report::run(&run).unwrap_err().to_string();
    assert!(message.contains("tensor 'labels': expected classes below 2, found 7"), "{message}");
    let empty = tempfile::tempdir().unwrap();
    assert!(report::run(empty.path()).unwrap_err().to_string().contains("expected a run (config.toml"));
    assert_eq!(report::run(&empty.path().join("none")).unwrap_err().exit_code(), 3);
    assert!(!empty.path().join("report.html").exists());
}

#[test]
fn a_study_with_everything() {
    let home = tempfile::tempdir().unwrap();
    fixture::study(home.path(), &[1, 2, 3, 4, 5]);
    report::study(home.path()).unwrap();
    let page = page(&home.path().join("report.html"));
    says(&page, "4 methods on synth-shape");
    says(&page, "mtl † does best on validation images (");
    says(&page, "mtl † best on validation");
    says(&page, "Beyond the noise of the seeds, mtl † (+");
    says(&page, "beats single-task training.");
    says(&page, "meta-mtl paper (");
    says(&page, "adjusted for 3 methods (Holm)");
    says(&page, "Protocol tuned: the rates of each method were chosen by accuracy on the validation images");
    says(&page, "Every method had 3 trials.");
    says(&page, "Shown for mtl †, seed 1.");
    assert_eq!(page.text.matches("chosen\n").count(), 4, "one chosen trial a method");
    let thin = page.attributes("path", "class").filter(|c| c.ends_with("thin")).count();
    assert_eq!(thin, 2 * 4 * 5 + 3 * 5, "a thin line a seed: two figures of four methods, three of meta-mtl");
    says(&page, "The 4 auxiliary tasks are random");
    says(&page, "Test images on which a method and stl of the same seed disagree");
}

#[test]
fn few_seeds_allow_no_verdict() {
    let home = tempfile::tempdir().unwrap();
    fixture::data(home.path());
    let mut runs = Vec::new();
    for (m, seeds) in [(STL, [1, 2]), (MTL_ALL, [1, 2])] {
        runs.extend(
            seeds.map(|s| fixture::run(home.path(), &home.path().join(format!("{}-{s}", m.method)), m, s)),
        );
    }
    let out = home.path().join("comparison.html");
    report::compare(&runs, &out).unwrap();
    let found = page(&out);
    says(&found, "There are too few seeds to tell");
    says(&found, "2 methods on synth-shape");
    report::compare(&runs[2..], &out).unwrap();
    says(&page(&out), "No run of single-task training (stl) is here");
    report::compare(&runs[..2], &out).unwrap();
    says(&page(&out), "All runs here are single-task training");
}

#[test]
fn runs_of_one_label_and_other_settings_are_other_methods() {
    let home = tempfile::tempdir().unwrap();
    fixture::data(home.path());
    let fast = Method { rate: 0.3, ..STL };
    let runs: Vec<PathBuf> = [(STL, 1), (STL, 2), (fast, 1)]
        .iter()
        .map(|&(m, s)| fixture::run(home.path(), &home.path().join(format!("{}-{s}", m.rate)), m, s))
        .collect();
    let out = home.path().join("comparison.html");
    report::compare(&runs, &out).unwrap();
    let page = page(&out);
    says(&page, "stl (rate 0.1)");
    says(&page, "stl (rate 0.3)");
    says(&page, "2 methods on");
}

#[test]
fn an_unfinished_study_is_reported_as_such() {
    let home = tempfile::tempdir().unwrap();
    fixture::study(home.path(), &[1]);
    fs::remove_dir_all(home.path().join("runs/stl-1")).unwrap();
    report::study(home.path()).unwrap();
    says(&page(&home.path().join("report.html")), "Runs of the study are not there: runs/stl-1.");
    fs::remove_file(home.path().join("study.json")).unwrap();
    fs::remove_file(home.path().join("runs/mtl-all-1/result.json")).unwrap();
    report::study(home.path()).unwrap();
    let found = page(&home.path().join("report.html"));
    says(&found, "There is no study.json: the study was interrupted");
    says(&found, "(1 run without a result)");
    fs::write(home.path().join("study.json"), "{\"methods\": 3}").unwrap();
    let message = report::study(home.path()).unwrap_err().to_string();
    assert!(message.contains("study.json: line 1, column"), "{message}");
}

#[test]
fn hostile_names_are_text() {
    const HOSTILE: &str = "</title><script>alert('x')</script>&amp;\"<img src=x onerror=alert(1)>";
    let (home, run) = one(META);
    let path = home.path().join("data.safetensors");
    let dataset = Dataset::open(&path).unwrap();
    let mut names = dataset.class_names().to_vec();
    names[2] = HOSTILE.into();
    let n = 40;
    let labels: Vec<u32> = (0..n).map(|i| i % 5).collect();
    let predicted: Vec<u32> = (0..n).map(|i| (i * 3) % 5).collect();
    let probabilities = vec![0.2; 5 * n as usize];
    fixture::predictions(&run, &probabilities, &labels, &predicted, &names);
    for (file, from) in
        [("result.json", "meta-mtl paper"), ("environment.json", "synth-shape"), ("config.toml", "mnistnet")]
    {
        let text = fs::read_to_string(run.join(file)).unwrap();
        let quoted = serde_json::to_string(HOSTILE).unwrap();
        let inside = &quoted[1..quoted.len() - 1];
        assert!(text.contains(from), "{file}");
        fs::write(run.join(file), text.replace(from, inside)).unwrap();
    }
    let found = report_of(&run);
    assert!(found.text.matches(HOSTILE).count() >= 6);
    let out = home.path().join("comparison.html");
    report::compare(&[run.clone(), run], &out).unwrap();
    assert!(page(&out).text.matches(HOSTILE).count() >= 6);
}

#[test]
fn the_verb_writes_where_it_is_told() {
    let home = tempfile::tempdir().unwrap();
    fixture::study(home.path(), &[1]);
    let verb = |arguments: &[&str]| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_tessera"));
        command.current_dir(home.path()).arg("report").args(arguments).output().unwrap()
    };
    let done = verb(&["runs/stl-1"]);
    assert!(done.status.success() && home.path().join("runs/stl-1/report.html").is_file());
    assert_eq!(String::from_utf8_lossy(&done.stdout).trim(), "report: runs/stl-1/report.html");
    assert!(verb(&["."]).status.success() && home.path().join("report.html").is_file());
    assert!(verb(&["runs/stl-1", "runs/mtl-all-1", "-o", "both.html"]).status.success());
    says(&page(&home.path().join("both.html")), "2 methods on synth-shape");
    let done = verb(&["nowhere", "--json"]);
    assert_eq!(done.status.code(), Some(3));
    assert!(String::from_utf8_lossy(&done.stdout).contains("\"exit_code\":3"));
}
