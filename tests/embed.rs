//! The embedding methods: ACAI's step against differences and against PyTorch, runs from data to file,
//! and what is left of a run that was interrupted.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use tessera::cluster::Embedding;
use tessera::data::{Dataset, LabelBudget, Part, split, synth};
use tessera::device::{Cpu, CpuOptions, HostSlice};
use tessera::embed::checkpoint::beside;
use tessera::embed::train::{Files, Phase, Progress, embed};
use tessera::embed::{Engine, Method, Pictures, Pool, Request, Setup, Summary};
use tessera::error::{Error, Result};
use tessera::nn::Parameter;
use tessera::nn::autoencoder::Sizes;
use tessera::tensor::TensorFile;

/// An engine in double precision that watches for writes out of bounds.
fn oracle(method: &str, setup: &Setup, seed: u64) -> Engine {
    let device = Cpu::<f64>::new(CpuOptions { fence: 64, ..CpuOptions::default() });
    Engine::new(Box::new(device), Method::named(method).unwrap(), setup, seed).unwrap()
}

fn tiny(colours: usize, depth: usize, latent: usize, batch: usize) -> Setup {
    Setup { sizes: Sizes { size: 8, colours, depth, latent, latent_size: 4 }, batch }
}

/// Fixed pixels in about ±0.8, exact in single precision.
fn pixels(setup: &Setup) -> Vec<f32> {
    let count = setup.batch * setup.sizes.size * setup.sizes.size * setup.sizes.colours;
    (0..count).map(|i| ((i * 37) % 101) as f32 / 64.0 - 50.0 / 64.0).collect()
}

fn write(engine: &mut Engine, name: &str, values: &[f64]) {
    engine.session_mut().write(name, HostSlice::F64(values)).unwrap();
}

#[test]
fn three_steps_agree_with_pytorch() {
    let setup = tiny(1, 2, 1, 4);
    let mut engine = oracle("acai", &setup, (7 << 32) + 5);
    let file = TensorFile::open("tests/fixtures/acai.safetensors").unwrap();
    let parameters = engine.parameters().to_vec();
    for p in &parameters {
        let name = format!("initial.{}", p.name);
        assert_eq!(file.shape(&name).unwrap(), p.file_shape(), "{name}");
        write(&mut engine, &p.name, &p.from_file(&file.to_f64(&name).unwrap()));
    }
    engine.load(&pixels(&setup)).unwrap();
    let losses = file.to_f64("losses").unwrap();
    for (step, expected) in losses.chunks(3).enumerate() {
        engine.step(step as u64, 0.01).unwrap();
        for ((name, found), expected) in engine.losses().unwrap().iter().zip(expected) {
            assert!(
                (found - expected).abs() < 1e-12,
                "{name} at step {step}: {found}, {expected} in PyTorch"
            );
        }
    }
    for p in &parameters {
        let [_, first, _] = Engine::state_names(p);
        for (name, expected) in
            [(&p.name, format!("final.{}", p.name)), (&first, format!("first.{}", p.name))]
        {
            let found = p.to_file(&engine.session().read_f64(name).unwrap());
            for (i, (a, b)) in found.iter().zip(file.to_f64(&expected).unwrap()).enumerate() {
                assert!((a - b).abs() < 1e-9, "{name} element {i}: {a}, {b} in PyTorch");
            }
        }
    }
}

/// Losses by name at given parameters, nothing changed: a step with rate 0.
fn losses(engine: &mut Engine) -> Vec<(String, f64)> {
    engine.step(0, 0.0).unwrap();
    engine.losses().unwrap().into_iter().map(|(name, v)| (name.to_string(), v)).collect()
}

fn loss(engine: &mut Engine, name: &str) -> f64 {
    losses(engine).into_iter().find(|(n, _)| n == name).unwrap().1
}

/// The gradient that a step applies to a parameter: ten times the first moment after one step from zero.
fn applied(engine: &mut Engine, p: &Parameter) -> Vec<f64> {
    let [_, first, second] = Engine::state_names(p);
    let zeros = vec![0.0; p.len()];
    write(engine, &first, &zeros);
    write(engine, &second, &zeros);
    engine.step(0, 0.0).unwrap();
    engine.session().read_f64(&first).unwrap().iter().map(|m| 10.0 * m).collect()
}

/// Central difference of a loss by one element of a parameter.
fn difference(engine: &mut Engine, p: &Parameter, at: usize, of: &str) -> f64 {
    const STEP: f64 = 1e-6;
    let values = engine.session().read_f64(&p.name).unwrap();
    let mut moved = |step: f64| {
        let mut values = values.clone();
        values[at] += step;
        write(engine, &p.name, &values);
        loss(engine, of)
    };
    let slope = (moved(STEP) - moved(-STEP)) / (2.0 * STEP);
    write(engine, &p.name, &values);
    slope
}

#[test]
fn each_network_gets_the_gradient_of_its_own_loss() {
    for (method, setup) in [("acai", tiny(2, 3, 2, 3)), ("baseline", tiny(3, 2, 2, 2))] {
        let mut engine = oracle(method, &setup, 3);
        engine.load(&pixels(&setup)).unwrap();
        // Biases away from zero, or the codes are too small for some gradients to be seen.
        for p in engine.parameters().to_vec().iter().filter(|p| p.name.ends_with("bias")) {
            let values: Vec<f64> = (0..p.len()).map(|i| 0.3 - 0.2 * (i % 3) as f64).collect();
            write(&mut engine, &p.name, &values);
        }
        // How much the other loss would have pushed.
        let (mut foreign_autoencoder, mut foreign_critic) = (0.0f64, 0.0f64);
        for p in engine.parameters().to_vec() {
            let is_critic = p.name.starts_with("critic");
            let own = if is_critic { "critic_loss" } else { "loss" };
            let gradient = applied(&mut engine, &p);
            for (i, applied) in gradient.iter().enumerate() {
                let slope = difference(&mut engine, &p, i, own);
                assert!(
                    (applied - slope).abs() < 1e-8 + 1e-6 * slope.abs(),
                    "{method} {} element {i}: applied {applied}, difference of {own} {slope}",
                    p.name
                );
            }
            if method == "acai" {
                let other = if is_critic { "loss" } else { "critic_loss" };
                let slope = difference(&mut engine, &p, 0, other).abs();
                let most = if is_critic { &mut foreign_critic } else { &mut foreign_autoencoder };
                *most = most.max(slope);
            }
        }
        if method == "acai" {
            assert!(foreign_autoencoder > 1e-4 && foreign_critic > 1e-4, "the test would see nothing");
        }
    }
}

#[test]
fn both_updates_read_the_parameters_from_before_the_step() {
    // With one network's rate as it is and the other's moments from the same losses, updating one
    // network first would change the other's gradient; so gradients at rate 0 are those at any rate.
    let setup = tiny(1, 2, 2, 4);
    let moments = |rate: f64| {
        let mut engine = oracle("acai", &setup, 9);
        engine.load(&pixels(&setup)).unwrap();
        engine.step(0, rate).unwrap();
        let firsts = engine.parameters().iter().map(|p| Engine::state_names(p)[1].clone());
        firsts.flat_map(|n| engine.session().read_f64(&n).unwrap()).collect::<Vec<f64>>()
    };
    assert_eq!(moments(0.0), moments(0.5));
}

#[test]
fn codes_are_flattened_channel_by_channel() {
    let setup = tiny(1, 2, 2, 3);
    let mut engine = oracle("baseline", &setup, 1);
    let last = engine.parameters().iter().filter(|p| p.name.starts_with("encoder")).count() / 2 - 1;
    let weights =
        engine.parameters().iter().find(|p| p.name == format!("encoder.{last}.weight")).unwrap().len();
    write(&mut engine, &format!("encoder.{last}.weight"), &vec![0.0; weights]);
    write(&mut engine, &format!("encoder.{last}.bias"), &[1.0, 2.0]);
    engine.load(&pixels(&setup)).unwrap();
    engine.encode().unwrap();
    let one = [[1.0f32; 16], [2.0; 16]].concat();
    assert_eq!(engine.codes().unwrap(), one.repeat(3));
}

struct Bench {
    folder: tempfile::TempDir,
    dataset: Dataset,
}

/// Drawn images of 16×16 and a folder for results.
fn bench() -> Bench {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data.safetensors");
    synth::draw(&synth::Options { train: 90, test: 37, ..Default::default() }).unwrap().write(&path).unwrap();
    Bench { dataset: Dataset::open(&path).unwrap(), folder }
}

impl Bench {
    fn files(&self, name: &str) -> Files {
        Files { every: Duration::from_secs(3600), ..Files::new(self.folder.path().join(name)) }
    }

    fn run(&self, request: &Request, files: &Files) -> Result<Summary> {
        self.run_until(request, files, &mut |_| false)
    }

    /// Runs until `stop` says so.
    fn run_until(
        &self,
        request: &Request,
        files: &Files,
        stop: &mut dyn FnMut(&Progress<'_>) -> bool,
    ) -> Result<Summary> {
        let mut watch = |p: &Progress<'_>| {
            if stop(p) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        embed(&self.dataset, request, files, Box::new(Cpu::<f32>::default()), &mut watch)
    }
}

fn small(method: &str, steps: u64) -> Request {
    let mut request = Request::new(Method::named(method).unwrap());
    (request.batch, request.depth, request.latent, request.rate) = (10, 4, 3, 1e-3);
    request.samples = steps * 10;
    request
}

fn bytes(path: &Path) -> Vec<u8> {
    std::fs::read(path).unwrap()
}

#[test]
fn losses_fall_and_codes_tell_images_apart() {
    for method in ["acai", "baseline"] {
        let bench = bench();
        let (request, files) = (small(method, 150), bench.files("emb.safetensors"));
        let mut first = None;
        let summary = bench
            .run_until(&request, &files, &mut |p| {
                first.get_or_insert_with(|| p.losses.to_vec());
                false
            })
            .unwrap();
        for ((name, before), (_, after)) in first.unwrap().iter().zip(&summary.losses) {
            // The critic's task gets harder while it learns.
            let most = if name == "critic_loss" { 0.9 } else { 0.7 };
            assert!(after < &(most * before), "{method}: {name} went from {before} to {after}");
        }
        let embedding = Embedding::open(&files.embedding).unwrap();
        assert_eq!((embedding.rows(), embedding.columns()), (127, 3 * 16));
        assert_eq!(embedding.fit_rows().unwrap(), (0..90).collect::<Vec<u32>>());
        let rows: Vec<&[f32]> = embedding.values().chunks(48).collect();
        assert!((1..127).all(|i| rows[i] != rows[0]));
        let file = TensorFile::open(&files.embedding).unwrap();
        for (key, value) in [("method", method), ("depth", "4"), ("samples", "1500"), ("pool", "train")] {
            assert_eq!(file.metadata(key), Some(value));
        }
        assert_eq!(file.metadata("data-fingerprint"), Some(bench.dataset.fingerprint()));
        assert!(!files.checkpoint().exists() && !files.weights().exists());
    }
}

#[test]
fn a_resumed_run_ends_in_the_same_bits() {
    let bench = bench();
    let request = small("acai", 25);
    let whole = Files { keep_weights: true, ..bench.files("whole.safetensors") };
    bench.run(&request, &whole).unwrap();
    // Stopped in the second pass, in the middle of encoding, and both one after the other.
    for (name, stops) in [
        ("a", vec![(Phase::Training, 11)]),
        ("b", vec![(Phase::Encoding, 3)]),
        ("c", vec![(Phase::Training, 4), (Phase::Training, 3), (Phase::Encoding, 1)]),
    ] {
        let mut files = Files { keep_weights: true, ..bench.files(name) };
        for (phase, after) in stops {
            let mut calls = 0;
            let stopped = bench.run_until(&request, &files, &mut |p| {
                calls += u64::from(p.phase == phase);
                calls == after
            });
            let error = stopped.unwrap_err();
            assert!(matches!(error, Error::Interrupted(_)), "{error}");
            assert!(error.to_string().contains("--resume"), "{error}");
            assert!(files.checkpoint().exists() && !files.embedding.exists());
            files.resume = true;
        }
        bench.run(&request, &files).unwrap();
        assert_eq!(bytes(&files.embedding), bytes(&whole.embedding), "{name}");
        assert_eq!(bytes(&files.weights()), bytes(&whole.weights()), "{name}");
        assert!(!files.checkpoint().exists());
        // Once more: there is nothing left to do.
        assert!(bench.run(&request, &files).unwrap().complete_before);
    }
}

#[test]
fn threads_do_not_change_the_result() {
    let bench = bench();
    let run = |threads: usize| {
        let files = bench.files(&format!("{threads}.safetensors"));
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| bench.run(&small("acai", 6), &files)).unwrap();
        bytes(&files.embedding)
    };
    let one = run(1);
    assert_eq!(one, run(2));
    assert_eq!(one, run(3));
    let mut other = small("acai", 6);
    other.seed = 2;
    let files = bench.files("other.safetensors");
    bench.run(&other, &files).unwrap();
    assert_ne!(one, bytes(&files.embedding));
}

#[test]
fn the_pool_decides_what_is_learned_from_and_fitted_on() {
    let bench = bench();
    let labels = bench.dataset.part(Part::Train).labels();
    let budget = LabelBudget::PerClass(4);
    let split = split::stratified(labels, 5, budget, 10, 6).unwrap();
    let labelled = Pool::Labelled { labels: budget, validation: 10, seed: 6 };
    let mut fingerprints = Vec::new();
    for (pool, rows) in
        [(Pool::Train, Some((0..90).collect())), (Pool::TrainAndTest, None), (labelled, Some(split.labelled))]
    {
        for method in ["acai", "pixels"] {
            let request = Request { pool, ..small(method, 3) };
            let files = bench.files("pool.safetensors");
            let summary = bench.run(&request, &files).unwrap();
            let embedding = Embedding::open(&files.embedding).unwrap();
            assert_eq!(embedding.fit_rows().map(<[u32]>::to_vec), rows, "{pool}");
            assert_eq!(embedding.rows(), 127);
            if method == "acai" {
                fingerprints.push(summary.fingerprint);
            }
        }
    }
    fingerprints.dedup();
    assert_eq!(fingerprints.len(), 3, "each pool trains on other images");
    // Only images of the pool are seen: another split gives another embedding.
    let too_many = Pool::Labelled { labels: LabelBudget::Count(91), validation: 0, seed: 1 };
    let refused = bench.run(&Request { pool: too_many, ..small("acai", 1) }, &bench.files("x"));
    assert_eq!(refused.unwrap_err().exit_code(), 2);
}

#[test]
fn pixels_are_the_pixels() {
    let bench = bench();
    let files = bench.files("pixels.safetensors");
    bench.run(&small("pixels", 1), &files).unwrap();
    let embedding = Embedding::open(&files.embedding).unwrap();
    let pictures = Pictures::plain(&bench.dataset, 32);
    assert_eq!((embedding.rows(), embedding.columns()), (pictures.len(), 16 * 16 * 3));
    let image = bench.dataset.part(Part::Test).image(5);
    for (value, &byte) in embedding.values()[95 * 768..].iter().zip(image) {
        assert!((f32::from(byte) - (value + 1.0) * 127.5).abs() < 1e-4);
    }
}

#[test]
fn failures_leave_earlier_results_alone() {
    let bench = bench();
    let files = bench.files("emb.safetensors");
    bench.run(&small("baseline", 2), &files).unwrap();
    let before = bytes(&files.embedding);

    let wild = Request { rate: 1e30, ..small("baseline", 20) };
    let error = bench.run(&wild, &files).unwrap_err();
    assert_eq!(error.exit_code(), 6, "{error}");
    assert_eq!(bytes(&files.embedding), before);

    let request = small("acai", 20);
    bench.run_until(&request, &files, &mut |p| p.done == 50).unwrap_err();
    assert_eq!(bytes(&files.embedding), before);
    // An interrupted run is not thrown away without being asked.
    let error = bench.run(&request, &files).unwrap_err();
    assert!(error.exit_code() == 2 && error.to_string().contains("--resume"), "{error}");

    let resume = Files { resume: true, ..files.clone() };
    let state = bytes(&files.checkpoint());
    for (other, named) in [
        (Request { depth: 5, ..request.clone() }, "depth"),
        (Request { seed: 2, ..request.clone() }, "seed"),
        (Request { pool: Pool::TrainAndTest, ..request.clone() }, "pool"),
        (Request { rate: 2e-3, ..request.clone() }, "rate"),
        (small("baseline", 20), "method"),
        (Request { samples: 40, ..request.clone() }, "samples"),
    ] {
        let error = bench.run(&other, &resume).unwrap_err();
        assert!(error.exit_code() == 2 && error.to_string().contains(named), "{error}");
        assert_eq!(bytes(&files.checkpoint()), state);
    }
    for (content, named) in
        [(&state[..state.len() / 2], "header"), (&b"junk"[..], "header"), (&before[..], "format")]
    {
        std::fs::write(files.checkpoint(), content).unwrap();
        let error = bench.run(&request, &resume).unwrap_err();
        assert!(error.exit_code() == 4 && error.to_string().contains(named), "{error}");
    }
    assert_eq!(bytes(&files.embedding), before);
}

#[test]
fn results_that_could_not_be_written_are_refused_at_once() {
    let bench = bench();
    let mut steps = 0;
    for (name, code) in [("missing/emb.safetensors", 3), ("emb.npy", 2), (".", 4)] {
        let error = bench.run_until(&small("acai", 1), &bench.files(name), &mut |_| {
            steps += 1;
            false
        });
        assert_eq!(error.unwrap_err().exit_code(), code, "{name}");
    }
    assert_eq!(steps, 0);
    // A code wider than the images may be.
    let wide = Request { latent_width: 64, ..small("acai", 1) };
    assert_eq!(bench.run(&wide, &bench.files("w")).unwrap_err().exit_code(), 2);
}

/// The binary on drawn images.
fn tessera(folder: &Path, samples: u64, more: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tessera"));
    command.current_dir(folder).args(["embed", "data.safetensors", "-o", "cli.safetensors"]);
    command.args(["--batch", "10", "--depth", "4", "--latent", "3", "--rate", "0.001"]);
    command.args(["--samples", &samples.to_string()]).args(more);
    command
}

#[test]
#[cfg(unix)]
fn ctrl_c_saves_and_resume_goes_on() {
    let bench = bench();
    let path = bench.folder.path();
    let mut child = tessera(path, 10_000_000, &["--checkpoint-every", "0"])
        .stderr(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let checkpoint: PathBuf = beside(&path.join("cli.safetensors"), "checkpoint");
    let begun = Instant::now();
    while !checkpoint.exists() {
        assert!(begun.elapsed() < Duration::from_secs(60), "no checkpoint");
        std::thread::sleep(Duration::from_millis(10));
    }
    // SAFETY: a signal to a child that has not been waited for.
    assert_eq!(unsafe { libc::kill(child.id() as i32, libc::SIGINT) }, 0);
    let out = {
        use std::io::Read;
        let mut text = String::new();
        child.stderr.take().unwrap().read_to_string(&mut text).unwrap();
        text
    };
    assert_eq!(child.wait().unwrap().code(), Some(130), "{out}");
    assert!(out.contains("--resume"), "{out}");
    let step: u64 = TensorFile::open(&checkpoint).unwrap().metadata("step").unwrap().parse().unwrap();
    let samples = (step + 3) * 10;
    let done = tessera(path, samples, &["--resume", "--json"]).output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let said: serde_json::Value = serde_json::from_slice(&done.stdout).unwrap();
    assert_eq!((said["rows"].as_u64(), said["d"].as_u64()), (Some(127), Some(48)));

    let files = bench.files("whole.safetensors");
    let summary = bench.run(&small("acai", step + 3), &files).unwrap();
    assert_eq!(said["fingerprint"], summary.fingerprint);
    assert_eq!(bytes(&path.join("cli.safetensors")), bytes(&files.embedding));

    let plan = tessera(path, 100, &["--dry-run", "--json"]).output().unwrap();
    let said: serde_json::Value = serde_json::from_slice(&plan.stdout).unwrap();
    assert_eq!((said["steps"].as_u64(), said["pool"].as_u64()), (Some(10), Some(90)));
    let unknown = tessera(path, 100, &["--method", "vae"]).output().unwrap();
    assert_eq!(unknown.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&unknown.stderr).contains("acai, baseline, pixels"));
}
