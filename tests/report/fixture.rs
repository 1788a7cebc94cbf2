//! Run folders and studies as training leaves them, with drawn images and made-up figures.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tessera::cluster::{Diversity, Embedding, Settings, Tasks, embedding, partition, partitions, tasks};
use tessera::data::{Dataset, Part, synth};
use tessera::device::Cpu;
use tessera::random::{Purpose, Stream};
use tessera::run::environment::tasks_hash;
use tessera::tensor::{DType, Entry, write_tensors};

/// How a method does.
#[derive(Clone, Copy)]
pub struct Method {
    pub label: &'static str,
    pub method: &'static str,
    pub rule: Option<&'static str>,
    pub tasks: Option<&'static str>,
    pub unlabelled: bool,
    pub rate: f64,
    /// Final accuracy, about.
    pub accuracy: f64,
}

pub const STL: Method = Method {
    label: "stl",
    method: "stl",
    rule: None,
    tasks: None,
    unlabelled: false,
    rate: 0.1,
    accuracy: 0.80,
};

pub const META: Method = Method {
    label: "meta-mtl paper",
    method: "meta-mtl",
    rule: Some("paper"),
    tasks: Some("tasks.safetensors"),
    accuracy: 0.805,
    ..STL
};

pub const MTL_ALL: Method = Method {
    label: "mtl †",
    method: "mtl",
    tasks: Some("tasks.safetensors"),
    unlabelled: true,
    rate: 0.3,
    accuracy: 0.88,
    ..STL
};

pub const MTL_RANDOM: Method =
    Method { label: "mtl random", method: "mtl", tasks: Some("random:4:10"), accuracy: 0.77, ..STL };

/// Draws a data set, an embedding that knows its attributes, and four partitions of it.
pub fn data(folder: &Path) {
    let options = synth::Options { train: 600, test: 400, size: 16, ..Default::default() };
    let path = folder.join("data.safetensors");
    synth::draw(&options).unwrap().write(&path).unwrap();
    let dataset = Dataset::open(&path).unwrap();
    let names = dataset.attribute_names(Part::Train);
    let mut noise = Stream::new(5, Purpose::Synthetic, 99);
    let mut values = Vec::new();
    for part in [Part::Train, Part::Test] {
        for i in 0..dataset.part(part).len() {
            for name in &names {
                let value = dataset.attribute(part, name).unwrap()[i];
                values.extend((0..5).map(|v| (v == value) as u32 as f32 + 0.3 * noise.normal() as f32));
            }
        }
    }
    let path = folder.join("embedding.safetensors");
    embedding::write(&path, &values, 5 * names.len(), None, &[]).unwrap();
    let found = partition::Request {
        tasks: 4,
        diversity: Diversity::Scale,
        settings: Settings { clusters: 12, max_iterations: 50, tolerance: 1e-4, restarts: 2, seed: 3 },
        replacement: false,
        least_size: 0,
    };
    let embedding = Embedding::open(&path).unwrap();
    let found = partitions(&mut Cpu::<f32>::default(), &embedding, &found, None, |_, _| {}).unwrap();
    let metadata = [("embedding", path.display().to_string())];
    tasks::write(&folder.join("tasks.safetensors"), &found, embedding.columns(), &metadata).unwrap();
}

/// What identifies the tasks of a file; random ones need nothing.
fn hash(tasks: &str) -> Option<String> {
    (!tasks.starts_with("random")).then(|| tasks_hash(&Tasks::open(tasks).unwrap()))
}

/// A finished run of a method in `folder`, whose data set lies in `home`.
pub fn run(home: &Path, folder: &Path, m: Method, seed: u64) -> PathBuf {
    fs::create_dir_all(folder).unwrap();
    let data = home.join("data.safetensors");
    let dataset = Dataset::open(&data).unwrap();
    let tasks =
        m.tasks.map(|t| if t.starts_with("random") { t.into() } else { home.join(t).display().to_string() });
    let mut config = toml::Table::new();
    let mut set = |key: &str, value: toml::Value| _ = config.insert(key.into(), value);
    set("data", data.display().to_string().into());
    set("method", m.method.into());
    if let Some(rule) = m.rule {
        set("rule", rule.into());
    }
    if let Some(tasks) = &tasks {
        set("tasks", tasks.clone().into());
    }
    for (key, text) in [("net", "mnistnet"), ("labels", "10%"), ("select", "validation"), ("recipe", "tuned")]
    {
        set(key, text.into());
    }
    for (key, n) in
        [("validation", 200), ("batch", 20), ("steps", 600), ("seed", seed as i64), ("patience", 0)]
    {
        set(key, n.into());
    }
    set("unlabelled", m.unlabelled.into());
    for (key, x) in
        [("rate", m.rate), ("alpha", 0.1), ("beta", 0.03), ("momentum", 0.9), ("weight-decay", 5e-4)]
    {
        set(key, x.into());
    }
    fs::write(folder.join("config.toml"), config.to_string()).unwrap();

    let about =
        m.rule.map(|r| json!({"name": r, "about": "exact second-order gradient through one inner step"}));
    let aux = tasks
        .as_ref()
        .map(|t| json!({"source": t, "count": 4, "classes": [12, 12, 12, 12], "hash": hash(t)}));
    let environment = json!({
        "tessera": "0.1.0", "command": ["tessera", "train", data.display().to_string(), "--method", m.method,
            "--labels", "10%", "--run", folder.display().to_string(), "--seed", seed.to_string()],
        "started": 1_732_528_000.5, "host": "workstation", "cpu": "A processor with 2 cores", "threads": 2,
        "device": "cpu, AVX-512", "os": "linux x86_64",
        "data": {"path": data.display().to_string(), "name": dataset.name(), "fingerprint": dataset.fingerprint(),
            "classes": dataset.class_names(), "image_shape": dataset.image_shape(), "train": 600, "test": 400},
        "tasks": aux, "split": {"labelled": 60, "validation": 200, "unlabelled": 340}, "rule": about,
        "parameters": 115_274,
    });
    fs::write(folder.join("environment.json"), format!("{environment:#}\n")).unwrap();

    let mut draw = Stream::new(seed, Purpose::Synthetic, m.accuracy.to_bits());
    let accuracy = m.accuracy + 0.012 * draw.normal();
    let mut log = String::new();
    for epoch in 1..=100u64 {
        let (step, t) = (epoch * 6, epoch as f64 / 100.0);
        let loss = 1.6 * (-6.0 * t).exp() + 0.004 * (1.0 + 0.3 * draw.normal()).abs();
        let mut line = json!({"event": "epoch", "step": step, "epoch": epoch, "loss": loss, "tasks": [3, 3],
            "images_per_s": 14_000.0 + 300.0 * draw.normal(), "seconds": 0.05 * epoch as f64});
        if m.method == "meta-mtl" {
            line["inner_loss"] = json!(2.0 * (-2.0 * t).exp() + 0.05 * draw.normal());
            line["hessian_ratio"] = json!(0.1 + 0.35 * t + 0.04 * draw.normal());
            line["hessian_cosine"] = json!((0.99 - 0.06 * t + 0.01 * draw.normal()).min(1.0));
            line["alignment"] = json!(0.35 * (-3.0 * t).exp() + 0.04 * draw.normal());
        }
        log += &format!("{line}\n");
        if epoch % 4 == 0 {
            let at = accuracy - (accuracy - 0.2) * (-7.0 * t).exp() + 0.008 * draw.normal();
            let line = json!({"event": "validation", "step": step, "epoch": epoch, "accuracy": at.min(1.0), "loss": 0.7, "best": false});
            log += &format!("{line}\n");
        }
    }
    fs::write(folder.join("metrics.jsonl"), log).unwrap();

    let labels = dataset.part(Part::Test).labels();
    let classes = dataset.class_names();
    let mut probabilities = Vec::new();
    let mut predicted = Vec::new();
    for (i, &label) in labels.iter().enumerate() {
        // Half of an image's luck is its own, so that runs agree on hard images.
        let own = Stream::new(0, Purpose::Synthetic, 1000 + i as u64).next_f64();
        let right = 0.5 * own + 0.5 * draw.next_f64() < 0.5 + (accuracy - 0.5) * 0.75;
        let guess = if right { label } else { (label + 1 + draw.below(2) as u32) % classes.len() as u32 };
        let sure = 0.4 + 0.6 * draw.next_f32();
        let rest = (1.0 - sure) / (classes.len() - 1) as f32;
        probabilities.extend((0..classes.len()).map(|c| if c as u32 == guess { sure } else { rest }));
        predicted.push(guess);
    }
    let correct = predicted.iter().zip(labels).filter(|(p, l)| p == l).count();
    predictions(folder, &probabilities, labels, &predicted, classes);

    let result = json!({"method": m.method, "rule": m.rule, "label": m.label, "seed": seed, "steps": 600, "epochs": 100,
        "selected_step": 480, "validation_accuracy": accuracy, "test_accuracy": correct as f64 / labels.len() as f64,
        "test_loss": 0.61, "seconds": 5.0 + m.accuracy, "images_per_s": 13_950.0, "parameters": 115_274,
        "protocol": "tuned", "stopped": "budget"});
    fs::write(folder.join("result.json"), format!("{result:#}\n")).unwrap();
    folder.to_path_buf()
}

pub fn predictions(
    folder: &Path,
    probabilities: &[f32],
    labels: &[u32],
    predicted: &[u32],
    classes: &[String],
) {
    let n = labels.len();
    let entries = [
        Entry::new("probabilities", DType::F32, [n, probabilities.len() / n], probabilities),
        Entry::new("labels", DType::U32, [n], labels),
        Entry::new("predicted", DType::U32, [n], predicted),
    ];
    let metadata = [("classes", serde_json::to_string(classes).unwrap())];
    write_tensors(folder.join("predictions.safetensors"), &entries, &metadata).unwrap();
}

/// A finished study of four methods and the given seeds.
pub fn study(folder: &Path, seeds: &[u64]) {
    fs::create_dir_all(folder).unwrap();
    data(folder);
    let mut methods: Vec<Value> = Vec::new();
    for m in [STL, MTL_RANDOM, META, MTL_ALL] {
        let mut runs = Vec::new();
        for seed in seeds {
            let name = format!("runs/{}-{seed}", m.label.replace(' ', "-").replace('†', "all"));
            run(folder, &folder.join(&name), m, *seed);
            runs.push(name);
        }
        let trial = |rate: f64, off: f64| json!({"settings": {"rate": rate, "steps": 600}, "validation_accuracy": m.accuracy - off});
        methods.push(json!({"label": m.label, "method": m.method, "rule": m.rule, "unlabelled": m.unlabelled,
            "trials": [trial(0.03, 0.04), trial(0.1, if m.rate == 0.1 { 0.0 } else { 0.01 }), trial(0.3, 0.005)],
            "chosen": {"rate": m.rate, "steps": 600}, "runs": runs, "validation_mean": m.accuracy,
            "validation_sd": 0.01, "test_mean": m.accuracy, "test_sd": 0.01}));
    }
    let study = json!({"protocol": "tuned", "methods": methods, "winner": "mtl †", "seconds": 141.5});
    fs::write(folder.join("study.json"), format!("{study:#}\n")).unwrap();
}
