//! Runs from the command line: what a run folder holds, that a killed or interrupted run ends in the same
//! bits as an undisturbed one, and what wrong input gives.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

fn tessera(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tessera"));
    command.args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn run(arguments: &[&str]) -> Output {
    tessera(arguments).output().unwrap()
}

/// Runs and returns the objects on standard output.
fn good(arguments: &[&str]) -> Vec<Value> {
    let output = run(&[arguments, &["--json"]].concat());
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    text.lines().map(|l| serde_json::from_str(l).unwrap()).collect()
}

/// Exit code and standard error of a run that fails, which must be one line for people.
fn bad(arguments: &[&str]) -> (i32, String) {
    let output = run(arguments);
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!text.contains("panicked"), "{arguments:?}: {text}");
    (output.status.code().unwrap(), text)
}

struct Bench {
    folder: tempfile::TempDir,
}

impl Bench {
    /// A drawn data set of few, small images.
    fn new() -> Self {
        let bench = Bench { folder: tempfile::tempdir().unwrap() };
        good(&["data", "synth", "-o", &bench.data(), "--train", "300", "--test", "60", "--size", "12"]);
        bench
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    fn data(&self) -> String {
        self.text("data.safetensors")
    }

    /// Arguments of a training run.
    fn train<'a>(&self, run: &'a str, more: &[&'a str]) -> Vec<String> {
        let fixed = ["--labels", "100", "--validation", "50", "--batch", "20", "--evaluate-every", "10"];
        let mut all = vec!["train".to_string(), self.data(), "--run".into(), self.text(run)];
        all.extend(fixed.iter().chain(more).map(|s| s.to_string()));
        all
    }

    fn start(&self, arguments: &[String]) -> Child {
        tessera(&arguments.iter().map(String::as_str).collect::<Vec<_>>()).spawn().unwrap()
    }

    fn train_good(&self, run: &str, more: &[&str]) -> Value {
        let arguments = self.train(run, more);
        good(&arguments.iter().map(String::as_str).collect::<Vec<_>>()).remove(0)
    }
}

/// Lines of a run's log without what depends on the clock.
fn log(run: &Path) -> Vec<Value> {
    let text = fs::read_to_string(run.join("metrics.jsonl")).unwrap();
    let line = |l: &str| {
        let mut value: Value = serde_json::from_str(l).unwrap();
        let object = value.as_object_mut().unwrap();
        object.remove("seconds");
        object.remove("images_per_s");
        value
    };
    text.lines().map(line).collect()
}

const META: &[&str] =
    &["--method", "meta-mtl", "--tasks", "random:3:5", "--alpha", "0.05", "--beta", "0.05", "--steps", "60"];

fn same_results(one: &Path, other: &Path) {
    for file in ["weights.safetensors", "predictions.safetensors"] {
        assert!(fs::read(one.join(file)).unwrap() == fs::read(other.join(file)).unwrap(), "{file} differs");
    }
    assert_eq!(log(one), log(other));
}

#[test]
fn a_run_folder_is_complete_and_says_what_was_done() {
    let bench = Bench::new();
    let result = bench.train_good("run", META);
    let folder = bench.path("run");
    for file in ["config.toml", "environment.json", "metrics.jsonl", "checkpoint.safetensors", "report.html"]
    {
        assert!(folder.join(file).exists(), "{file}");
    }
    assert_eq!(result["steps"], 60);
    let lines = log(&folder);
    let of = |event: &str| lines.iter().filter(|l| l["event"] == event).cloned().collect::<Vec<_>>();
    // 100 labelled images in batches of 20: an epoch is five steps.
    assert_eq!((of("epoch").len(), of("validation").len(), of("test").len()), (12, 6, 1));
    for epoch in of("epoch") {
        assert_eq!(epoch["rule"], "paper");
        assert!(epoch["hessian_ratio"].as_f64().unwrap() > 0.0, "{epoch}");
        assert!((0.0..=1.0 + 1e-6).contains(&epoch["hessian_cosine"].as_f64().unwrap()), "{epoch}");
        let tasks: u64 = epoch["tasks"].as_array().unwrap().iter().map(|t| t.as_u64().unwrap()).sum();
        assert_eq!(tasks, 5);
    }
    // What eval says of the weights is what the run said of itself.
    let eval = good(&["eval", &bench.text("run"), &bench.data()]).remove(0);
    assert_eq!(eval["accuracy"], result["test_accuracy"]);
    // The stored configuration repeats the run to the bit.
    let config = bench.text("run/config.toml");
    good(&["train", "--config", &config, "--run", &bench.text("again")]);
    same_results(&folder, &bench.path("again"));
}

#[test]
fn threads_do_not_change_a_bit() {
    let bench = Bench::new();
    for method in [&["--method", "stl"][..], &["--method", "mtl", "--tasks", "random:2:4", "--unlabelled"]] {
        let name = |threads: &str| format!("{}{threads}", method[1]);
        for threads in ["1", "2"] {
            bench.train_good(&name(threads), &[method, &["--steps", "25", "--threads", threads]].concat());
        }
        same_results(&bench.path(&name("1")), &bench.path(&name("2")));
    }
}

#[test]
fn a_killed_run_ends_in_the_same_bits() {
    let bench = Bench::new();
    let many = [META, &["--steps", "150"]].concat();
    let many: Vec<&str> =
        many.iter().enumerate().filter(|(i, _)| ![8, 9].contains(i)).map(|(_, s)| *s).collect();
    bench.train_good("whole", &many);
    let arguments = bench.train("killed", &[&many[..], &["--checkpoint-every", "0"]].concat());
    let mut child = bench.start(&arguments);
    let mut kills = 0;
    let begin = Instant::now();
    let mut pause = 60;
    while begin.elapsed() < Duration::from_secs(120) {
        std::thread::sleep(Duration::from_millis(pause));
        // Ever later, so that every stage of a run is hit and some attempt gets through.
        pause += 45;
        if child.try_wait().unwrap().is_some() {
            break;
        }
        child.kill().unwrap();
        child.wait().unwrap();
        kills += 1;
        let run = bench.text("killed");
        child = if bench.path("killed/config.toml").exists() {
            tessera(&["train", "--run", &run, "--resume", "--checkpoint-every", "0"]).spawn().unwrap()
        } else {
            bench.start(&arguments)
        };
    }
    assert!(child.wait().unwrap().success() && kills > 3, "{kills} kills");
    same_results(&bench.path("whole"), &bench.path("killed"));
    let leftovers: Vec<_> = fs::read_dir(bench.path("killed"))
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .filter(|n| n.ends_with(".safetensors"))
        .collect();
    assert!(leftovers.len() == 3, "{leftovers:?}");
}

#[test]
#[cfg(unix)]
fn ctrl_c_saves_and_the_run_goes_on() {
    let bench = Bench::new();
    let many: Vec<&str> = META.iter().copied().take(8).chain(["--steps", "400"]).collect();
    bench.train_good("whole", &many);
    let child = bench.start(&bench.train("stopped", &many));
    while !bench.path("stopped/metrics.jsonl").exists()
        || fs::read_to_string(bench.path("stopped/metrics.jsonl")).unwrap().lines().count() < 3
    {
        std::thread::sleep(Duration::from_millis(5));
    }
    Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    let output = child.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(130), "{text}");
    assert!(text.contains("--resume"), "{text}");
    good(&["train", "--run", &bench.text("stopped"), "--resume"]);
    same_results(&bench.path("whole"), &bench.path("stopped"));
}

fn weights(run: &Path) -> tessera::tensor::TensorFile {
    tessera::tensor::TensorFile::open(run.join("weights.safetensors")).unwrap()
}

/// Operators that act at validations: G copies the best decoder, P and H make the others differ from it, and
/// a run that is cut in two ends in the same bits.
#[test]
fn pseudo_task_decoders_are_varied_at_validations() {
    let bench = Bench::new();
    let pta = |operators: &'static str| ["--method", "pta", "--pseudo-tasks", "3", "--operators", operators];
    let all: fn(&Path) -> Vec<Vec<f64>> =
        |run| (0..3).map(|d| weights(run).to_f64(&format!("decoder.{d}.weight")).unwrap()).collect();
    let run = |name: &str, more: &[&str]| {
        let result = bench.train_good(name, &[more, &["--steps", "20", "--select", "last"]].concat());
        (result, all(&bench.path(name)))
    };
    // The last validation stands at the last step.
    let (result, copied) = run("g", &pta("g"));
    assert!(copied[0] == copied[1] && copied[0] == copied[2]);
    assert_eq!(result["label"], "PTA-G, T = 3");
    let (_, noisy) = run("gp", &[&pta("gp")[..], &["--noise", "0.25"]].concat());
    for other in [1, 2] {
        let squares: f64 = noisy[0].iter().zip(&noisy[other]).map(|(a, b)| (a - b) * (a - b)).sum();
        let sd = (squares / noisy[0].len() as f64).sqrt();
        assert!((sd - 0.25).abs() < 0.02, "noise of {sd} instead of 0.25");
    }
    assert_ne!(noisy[1], noisy[2]);
    let (_, frozen) = run("f", &pta("f"));
    let (_, again) = run("f2", &[&pta("f")[..], &["--rate", "0.02"]].concat());
    assert!(frozen[0] != again[0] && frozen[1..] == again[1..], "frozen decoders moved");

    let varied = [&pta("hgd")[..], &["--dropout-noise", "0.3"]].concat();
    bench.train_good("whole", &[&varied[..], &["--steps", "40"]].concat());
    bench.train_good("cut", &[&varied[..], &["--steps", "20"]].concat());
    good(&["train", "--run", &bench.text("cut"), "--resume", "--steps", "40"]);
    for file in ["weights.safetensors", "predictions.safetensors"] {
        let bytes = |run: &str| fs::read(bench.path(run).join(file)).unwrap();
        assert!(bytes("whole") == bytes("cut"), "{file} differs");
    }
    let checkpoint = tessera::tensor::TensorFile::open(bench.path("whole/checkpoint.safetensors")).unwrap();
    let progress: Value = serde_json::from_str(checkpoint.metadata("progress").unwrap()).unwrap();
    let rates: Vec<f64> =
        progress["dropout"].as_array().unwrap().iter().map(|r| r.as_f64().unwrap()).collect();
    assert!(rates.iter().all(|r| (0.0..=1.0).contains(r)) && rates[1] != rates[2], "{rates:?}");
}

#[test]
fn an_alternating_run_steps_on_every_task() {
    let bench = Bench::new();
    let settings = [
        "--method",
        "mtl",
        "--schedule",
        "alternate",
        "--tasks",
        "random:2:4",
        "--unlabelled",
        "--steps",
        "40",
    ];
    let result = bench.train_good("run", &settings);
    assert_eq!(result["label"], "MTL alternate, random labels †");
    let mut counts = [0; 3];
    for epoch in log(&bench.path("run")).iter().filter(|l| l["event"] == "epoch") {
        assert!(epoch["auxiliary_loss"].is_number(), "{epoch}");
        let tasks = epoch["tasks"].as_array().unwrap();
        tasks.iter().zip(&mut counts).for_each(|(t, c)| *c += t.as_u64().unwrap());
    }
    assert!(counts.iter().sum::<u64>() == 40 && counts.iter().all(|&c| c > 5), "{counts:?}");
    let config = fs::read_to_string(bench.path("run/config.toml")).unwrap();
    assert!(config.contains("schedule = \"alternate\""), "{config}");
}

#[test]
fn weights_have_pytorch_names_and_shapes() {
    let bench = Bench::new();
    bench.train_good("run", META);
    let weights = tessera::tensor::TensorFile::open(bench.path("run/weights.safetensors")).unwrap();
    for (name, shape) in [
        ("layers.0.weight", &[32, 3, 3, 3][..]),
        ("layers.1.weight", &[64, 32, 3, 3]),
        ("layers.1.bias", &[64]),
        ("decoder.0.weight", &[5, 64 * 3 * 3]),
        ("decoder.3.bias", &[5]),
    ] {
        assert_eq!(weights.shape(name).unwrap().dims(), shape, "{name}");
    }
    let checkpoint = tessera::tensor::TensorFile::open(bench.path("run/checkpoint.safetensors")).unwrap();
    for name in ["layers.0.weight.momentum", "decoder.2.weight.momentum", "best.layers.0.weight"] {
        assert!(checkpoint.contains(name), "{name}");
    }
}

#[test]
fn wrong_settings_give_one_error_and_leave_nothing() {
    let bench = Bench::new();
    let data = bench.data();
    let run = bench.text("run");
    let missing = bench.text("none");
    let base = ["train", &data, "--run", &run];
    for (more, code, word) in [
        (&["--method", "stll"][..], 2, "known: stl"),
        (&["--method", "meta-mtl"], 2, "needs auxiliary tasks"),
        (&["--method", "stl", "--rule", "paper"], 2, "--rule"),
        (&["--method", "stl", "--labels", "3"], 2, "5 classes"),
        (&["--method", "stl", "--labels", "500"], 2, "500"),
        (&["--method", "stl", "--validation", "300"], 2, "300"),
        (&["--method", "stl", "--rate", "-1"], 2, "rate"),
        (&["--method", "stl", "--net", "mininet"], 4, "too small"),
        (&["--method", "stl", "--operators", "f"], 2, "--operators is for pta"),
        (&["--method", "pta", "--schedule", "joint"], 2, "--schedule is for mtl"),
        (&["--method", "pta", "--operators", "hg"], 2, "needs d"),
        (&["--method", "pta", "--operators", "gp"], 2, "--validation"),
        (&["--method", "pta", "--pseudo-tasks", "0"], 2, "pseudo-tasks"),
        (&["--method", "pta", "--tasks", "random:2:4"], 2, "no use for auxiliary tasks"),
        (&["--method", "mtl", "--tasks", &missing], 3, "none"),
        (&["--method", "mtl", "--tasks", &data], 4, "labels.1"),
        (&["--method", "stl", "--config", &missing], 3, "none"),
        (&["--method", "stl", "--steps", "5", "--epochs", "2"], 2, "--epochs"),
    ] {
        let (found, text) = bad(&[&base[..], more].concat());
        assert_eq!(found, code, "{more:?}: {text}");
        assert!(text.contains(word), "{more:?}: {text}");
        assert!(!bench.path("run").join("config.toml").exists(), "{more:?}");
    }
    assert_eq!(bad(&["train", &missing, "--run", &run, "--method", "stl"]).0, 3);
    assert_eq!(bad(&["train", "--run", &run, "--resume"]).0, 2);
    // A folder that holds a run is not overwritten.
    bench.train_good("held", &["--method", "stl", "--steps", "2"]);
    let before = fs::read(bench.path("held/weights.safetensors")).unwrap();
    let again = bench.train("held", &["--method", "stl", "--steps", "2"]);
    let (code, text) = bad(&again.iter().map(String::as_str).collect::<Vec<_>>());
    assert!(code == 2 && text.contains("--resume"), "{text}");
    assert_eq!(before, fs::read(bench.path("held/weights.safetensors")).unwrap());
}

#[test]
fn a_damaged_checkpoint_or_model_is_refused_by_name() {
    let bench = Bench::new();
    bench.train_good("run", &["--method", "stl", "--steps", "4"]);
    let path = bench.path("run/checkpoint.safetensors");
    let bytes = fs::read(&path).unwrap();
    for damage in [&bytes[..bytes.len() / 2], &bytes[..20], b""] {
        fs::write(&path, damage).unwrap();
        let (code, text) = bad(&["train", "--run", &bench.text("run"), "--resume", "--steps", "8"]);
        assert!(code == 4 && text.contains("checkpoint.safetensors"), "{text}");
    }
    fs::write(bench.path("run/weights.safetensors"), &bytes[..100]).unwrap();
    let (code, text) = bad(&["eval", &bench.text("run"), &bench.data()]);
    assert!(code == 4 && text.contains("weights.safetensors"), "{text}");
}

#[test]
fn divergence_is_reported_and_keeps_the_checkpoint() {
    let bench = Bench::new();
    let arguments =
        bench.train("run", &["--method", "stl", "--rate", "1e6", "--steps", "50", "--checkpoint-every", "0"]);
    let (code, text) = bad(&arguments.iter().map(String::as_str).collect::<Vec<_>>());
    assert!(code == 6 && text.contains("learning rate"), "{text}");
}

#[test]
fn dry_run_prints_the_plan_and_writes_nothing() {
    let bench = Bench::new();
    let arguments = bench.train("run", &[META, &["--dry-run"]].concat());
    let plan = good(&arguments.iter().map(String::as_str).collect::<Vec<_>>()).remove(0);
    assert_eq!(plan["programs"].as_array().unwrap().len(), 2);
    assert_eq!(plan["labelled"], 100);
    assert!(!bench.path("run").exists());
}

#[test]
fn images_are_classified_one_by_one() {
    let bench = Bench::new();
    bench.train_good("run", &["--method", "stl", "--steps", "10"]);
    let picture = bench.path("a.png");
    image::RgbImage::from_pixel(30, 40, image::Rgb([200, 30, 30])).save(&picture).unwrap();
    let found = good(&["predict", &bench.text("run"), &bench.text("a.png"), "--top", "5"]).remove(0);
    let total: f64 =
        found["top"].as_array().unwrap().iter().map(|t| t["probability"].as_f64().unwrap()).sum();
    assert!((total - 1.0).abs() < 1e-5);
    fs::write(bench.path("b.png"), b"no image").unwrap();
    let (code, text) = bad(&["predict", &bench.text("run"), &bench.text("b.png")]);
    assert!(code == 4 && text.contains("b.png"), "{text}");
}

#[test]
fn a_study_tries_equally_often_and_goes_on_where_it_stopped() {
    let bench = Bench::new();
    let (data, out) = (bench.data(), bench.text("study"));
    let arguments = [
        "study",
        &data,
        "--out",
        &out,
        "--methods",
        "stl,mtl+=random:2:4",
        "--seeds",
        "2",
        "--labels",
        "100",
        "--validation",
        "50",
        "--batch",
        "20",
        "--steps",
        "8",
        "--evaluate-every",
        "4",
    ];
    let first = good(&arguments).remove(0);
    let methods = first["methods"].as_array().unwrap();
    let trials: Vec<usize> = methods.iter().map(|m| m["trials"].as_array().unwrap().len()).collect();
    assert_eq!(trials, [tessera::run::recipe::TRIALS; 2]);
    for method in methods {
        // The chosen settings are those of the best trial, the first among equals.
        let trials = method["trials"].as_array().unwrap();
        let accuracy = |t: &Value| t["validation_accuracy"].as_f64().unwrap_or(-1.0);
        let best = trials.iter().fold(&trials[0], |b, t| if accuracy(t) > accuracy(b) { t } else { b });
        assert_eq!(method["chosen"], best["settings"]);
        assert!(method["test_mean"].is_number());
    }
    // Trials do not look at the test images.
    let trial = fs::read_to_string(bench.path("study/trials/stl-1-seed1/result.json")).unwrap();
    assert!(serde_json::from_str::<Value>(&trial).unwrap()["test_accuracy"].is_null());
    assert!(bench.path("study/report.html").exists());
    fs::remove_file(bench.path("study/runs/stl-seed2/result.json")).unwrap();
    assert_eq!(good(&arguments).remove(0)["methods"][0]["test_mean"], first["methods"][0]["test_mean"]);
}
