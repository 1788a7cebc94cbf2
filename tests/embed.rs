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
use tessera::embed::{ALL, Engine, Method, Pictures, Pool, Request, Setup, Summary};
use tessera::error::{Error, Result};
use tessera::nn::Parameter;
use tessera::nn::autoencoder::{Sizes, decoder_parameters};
use tessera::tensor::TensorFile;

/// An engine in double precision that watches for writes out of bounds.
fn oracle(method: &str, setup: &Setup, seed: u64) -> Engine {
    let device = Cpu::<f64>::new(CpuOptions { fence: 64, ..CpuOptions::default() });
    Engine::new(Box::new(device), Method::named(method).unwrap(), setup, seed).unwrap()
}

fn tiny(colours: usize, depth: usize, latent: usize, batch: usize) -> Setup {
    Setup { sizes: Sizes { size: 8, colours, depth, latent, latent_size: 4 }, batch, probe: None }
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

/// Initial values of `tests/fixtures/autoencoders.py`, in the order of files.
fn formula(p: &Parameter) -> Vec<f64> {
    let begin = 40503 * p.name.bytes().map(u64::from).sum::<u64>();
    let bound = if p.shape.rank() == 2 && p.name != "codebook" { 0.125 } else { 0.25 };
    let word = |i: u64| (((i + 1) * 2_654_435_761 + begin) % (1 << 32)) >> 8;
    (0..p.len() as u64).map(|i| (2.0 * word(i) as f64 / f64::from(1 << 24) - 1.0) * bound).collect()
}

#[test]
fn three_steps_of_other_methods_agree_with_pytorch() {
    let setup = tiny(1, 2, 2, 4);
    let file = TensorFile::open("tests/fixtures/autoencoders.safetensors").unwrap();
    for method in ["dropout", "denoising", "vae", "aae", "vqvae"] {
        let mut engine = oracle(method, &setup, (7 << 32) + 5);
        let weights: Vec<Parameter> = engine.weights().into_iter().map(|(p, _)| p.clone()).collect();
        for p in weights.iter().filter(|p| !p.name.starts_with("codebook.")) {
            write(&mut engine, &p.name, &p.from_file(&formula(p)));
        }
        engine.load(&pixels(&setup)).unwrap();
        let losses = file.to_f64(&format!("{method}.losses")).unwrap();
        for (step, expected) in losses.chunks(losses.len() / 3).enumerate() {
            engine.step(step as u64, 0.01).unwrap();
            let found = engine.losses().unwrap();
            assert_eq!(found.len(), expected.len(), "{method}");
            for ((name, found), expected) in found.iter().zip(expected) {
                assert!(
                    (found - expected).abs() < 1e-11 * expected.abs().max(1.0),
                    "{method}: {name} at step {step}: {found}, {expected} in PyTorch"
                );
            }
        }
        for p in engine.parameters() {
            let [_, first, _] = Engine::state_names(p);
            for (name, key) in [(&p.name, p.name.clone()), (&first, format!("{}.first", p.name))] {
                let found = p.to_file(&engine.session().read_f64(name).unwrap());
                let expected = file.to_f64(&format!("{method}.{key}")).unwrap();
                for (i, e) in expected.iter().enumerate() {
                    let f = found[i * found.len() / expected.len()];
                    assert!((f - e).abs() < 1e-9, "{method}: {name} sample {i}: {f}, {e} in PyTorch");
                }
            }
        }
        if method != "vqvae" {
            continue;
        }
        let counts = engine.session().read_f64("codebook.counts").unwrap();
        for name in ["codebook", "codebook.sums", "codebook.counts"] {
            let all = engine.session().read_f64(name).unwrap();
            let rows = all.chunks(all.len() / counts.len()).zip(&counts).filter(|(_, count)| **count > 0.0);
            let found: Vec<f64> = rows.flat_map(|(row, _)| row).copied().collect();
            let expected = file.to_f64(&format!("vqvae.{name}")).unwrap();
            assert_eq!(found.len(), expected.len(), "rows in use");
            assert!(found.iter().zip(&expected).all(|(f, e)| (f - e).abs() < 1e-11), "{name}");
        }
    }
}

/// Step 0 with rate 0: what it carries along beside the parameters, such as a codebook, is put back.
fn still_step(engine: &mut Engine) {
    let trained = engine.parameters().len();
    let carried: Vec<String> = engine.weights().into_iter().skip(trained).map(|(_, name)| name).collect();
    let before: Vec<Vec<f64>> = carried.iter().map(|n| engine.session().read_f64(n).unwrap()).collect();
    engine.step(0, 0.0).unwrap();
    carried.iter().zip(before).for_each(|(name, values)| write(engine, name, &values));
}

fn loss(engine: &mut Engine, name: &str) -> f64 {
    still_step(engine);
    engine.losses().unwrap().into_iter().find(|(n, _)| *n == name).unwrap().1
}

/// The gradient that a step applies to a parameter: ten times the first moment after one step from zero.
fn applied(engine: &mut Engine, p: &Parameter) -> Vec<f64> {
    let [_, first, second] = Engine::state_names(p);
    let zeros = vec![0.0; p.len()];
    write(engine, &first, &zeros);
    write(engine, &second, &zeros);
    still_step(engine);
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

/// The loss whose gradient a network gets.
fn own_loss(p: &Parameter) -> &'static str {
    match p.name.split('.').next() {
        Some("critic") => "critic_loss",
        Some("adversary") => "adversary_loss",
        Some("probe") => "probe_loss",
        _ => "loss",
    }
}

#[test]
fn each_network_gets_the_gradient_of_its_own_loss() {
    for (method, setup, most) in [
        ("acai", tiny(2, 3, 2, 3), usize::MAX),
        ("baseline", tiny(3, 2, 2, 2), usize::MAX),
        ("dropout", tiny(1, 2, 2, 3), 20),
        ("denoising", tiny(2, 2, 1, 2), 20),
        ("vae", tiny(1, 2, 2, 3), 20),
        ("aae", tiny(1, 2, 1, 3), 20),
        ("vqvae", tiny(1, 2, 1, 2), 1),
    ] {
        let setup = Setup { probe: Some(3), ..setup };
        let mut engine = oracle(method, &setup, 3);
        engine.set_probe_rate(0.0);
        engine.load(&pixels(&setup)).unwrap();
        engine.label(&[2, 0, 1][..setup.batch]).unwrap();
        // Biases away from zero, or the codes are too small for some gradients to be seen.
        for p in engine.parameters().to_vec().iter().filter(|p| p.name.ends_with("bias")) {
            let values: Vec<f64> = (0..p.len()).map(|i| 0.3 - 0.2 * (i % 3) as f64).collect();
            write(&mut engine, &p.name, &values);
        }
        // How much another loss would have pushed.
        let mut foreign = std::collections::BTreeMap::<&str, f64>::new();
        for p in engine.parameters().to_vec() {
            // Gradients that pass the codebook are not those of what it does.
            if method == "vqvae" && (p.name.starts_with("encoder") || p.name.starts_with("blocks")) {
                continue;
            }
            let own = own_loss(&p);
            let gradient = applied(&mut engine, &p);
            for i in (0..p.len()).step_by(p.len().div_ceil(most)) {
                let (applied, slope) = (gradient[i], difference(&mut engine, &p, i, own));
                assert!(
                    (applied - slope).abs() < 1e-8 + 1e-6 * slope.abs(),
                    "{method} {} element {i}: applied {applied}, difference of {own} {slope}",
                    p.name
                );
            }
            let others = engine.losses().unwrap().into_iter().map(|(n, _)| n.to_string());
            for other in others.filter(|n| n.ends_with("loss") && n != own).collect::<Vec<_>>() {
                let slope = difference(&mut engine, &p, 0, &other).abs();
                let pushed = foreign.entry(own).or_default();
                *pushed = pushed.max(slope);
            }
        }
        let seen = |own: &str| foreign.get(own).copied().unwrap_or(0.0) > 1e-4;
        let adversarial = ["acai", "aae"].contains(&method);
        assert!(seen("loss"), "{method}: the test would see nothing");
        assert!(!adversarial || seen("critic_loss") || seen("adversary_loss"), "{method}");
    }
}

#[test]
fn codes_do_not_depend_on_chance() {
    let setup = tiny(1, 2, 2, 3);
    for method in ALL.iter().filter(|m| m.is_trained()) {
        let mut engine = oracle(method.name, &setup, 3);
        engine.load(&pixels(&setup)).unwrap();
        let mut codes = || {
            engine.encode().unwrap();
            let codes = engine.codes().unwrap();
            still_step(&mut engine);
            codes
        };
        let first = codes();
        assert_eq!(first, codes(), "{}", method.name);
        assert!(first.iter().any(|&v| v != first[0]), "{}", method.name);
    }
}

#[test]
fn images_of_codes_are_what_the_method_restores() {
    // A decoder that ignores its input: zero filters, one bias.
    let setup = tiny(1, 2, 2, 2);
    for (method, expected) in [("acai", 0.75), ("vqvae", 0.75), ("vae", 0.358_357)] {
        let mut engine = oracle(method, &setup, 1);
        let last = decoder_parameters("decoder", &setup.sizes);
        for p in &last[last.len() - 2..] {
            let value = if p.name.ends_with("bias") { 0.75 } else { 0.0 };
            write(&mut engine, &p.name, &vec![value; p.len()]);
        }
        let images = engine.decode(&vec![0.1; 2 * 32]).unwrap();
        assert_eq!(images.len(), 2 * 64);
        assert!(images.iter().all(|v| (v - expected).abs() < 1e-5), "{method}: {}", images[0]);
    }
}

#[test]
fn decoding_takes_codes_in_the_order_of_encoding() {
    // An encoder and a decoder of the same step: what is decoded from given codes is what a step restores.
    let setup = tiny(1, 2, 2, 2);
    let mut engine = oracle("baseline", &setup, 5);
    let images = pixels(&setup);
    engine.load(&images).unwrap();
    engine.encode().unwrap();
    let codes = engine.codes().unwrap();
    let restored = engine.decode(&codes).unwrap();
    let squares = restored.iter().zip(&images).map(|(a, b)| f64::from(a - b).powi(2));
    let error = squares.sum::<f64>() / images.len() as f64;
    assert!((error - loss(&mut engine, "loss")).abs() < 1e-6, "{error}");
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
    for method in ALL.iter().filter(|m| m.is_trained()).map(|m| m.name) {
        let bench = bench();
        let (request, files) = (small(method, 150), bench.files("emb.safetensors"));
        let mut first = None;
        let summary = bench
            .run_until(&request, &files, &mut |p| {
                first.get_or_insert_with(|| p.losses.to_vec());
                false
            })
            .unwrap();
        let first = first.unwrap();
        // Adversaries' tasks get harder while they learn, and so does the autoencoders' task of deceiving them.
        let goal = if first.len() > 1 { "reconstruction" } else { "loss" };
        for ((name, before), (_, after)) in first.iter().zip(&summary.losses) {
            let most = match name.as_str() {
                name if name == goal => 0.7,
                "critic_loss" => 0.9,
                _ => continue,
            };
            assert!(after < &(most * before), "{method}: {name} went from {before} to {after}");
        }
        let embedding = Embedding::open(&files.embedding).unwrap();
        assert_eq!((embedding.rows(), embedding.columns()), (127, 3 * 16));
        assert_eq!(embedding.fit_rows().unwrap(), (0..90).collect::<Vec<u32>>());
        let rows: Vec<&[f32]> = embedding.values().chunks(48).collect();
        let distinct: std::collections::BTreeSet<Vec<u32>> =
            rows.iter().map(|row| row.iter().map(|v| v.to_bits()).collect()).collect();
        // Rows of a codebook are chosen more than once.
        let least = if method == "vqvae" { 10 } else { 127 };
        assert!(distinct.len() >= least, "{method}: {} codes", distinct.len());
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
fn what_methods_carry_along_is_resumed_too() {
    let bench = bench();
    for method in ["vqvae", "vae"] {
        let request = Request { probe: Some(1e-3), ..small(method, 12) };
        let whole = Files { keep_weights: true, ..bench.files("whole.safetensors") };
        bench.run(&request, &whole).unwrap();
        let mut files = Files { keep_weights: true, ..bench.files("parts.safetensors") };
        bench.run_until(&request, &files, &mut |p| p.done == 70).unwrap_err();
        let other = Request { probe: None, ..request.clone() };
        files.resume = true;
        let error = bench.run(&other, &files).unwrap_err();
        assert!(error.to_string().contains("probe"), "{error}");
        bench.run(&request, &files).unwrap();
        assert_eq!(bytes(&files.embedding), bytes(&whole.embedding), "{method}");
        assert_eq!(bytes(&files.weights()), bytes(&whole.weights()), "{method}");
        for path in [files.embedding.clone(), files.weights()] {
            std::fs::remove_file(path).unwrap();
        }
    }
}

#[test]
fn a_probe_learns_without_being_noticed() {
    let bench = bench();
    let files = bench.files("emb.safetensors");
    for method in ["baseline", "denoising"] {
        let request = small(method, 60);
        let alone = bench.run(&request, &files).unwrap();
        assert_eq!(alone.probe, None);
        let request = Request { probe: Some(0.02), ..request };
        let probed = bench.run(&request, &files).unwrap();
        assert_eq!(alone.fingerprint, probed.fingerprint, "{method}");
        let found = probed.probe.unwrap();
        // Chance is a tenth.
        let test = found.test.unwrap();
        assert!(test > 0.25 && found.pool > test - 0.2, "{method}: {found:?}");
        assert!(probed.losses.iter().any(|(name, value)| name == "probe_loss" && *value < 2.2));
        let again = bench.run(&request, &Files { resume: true, ..files.clone() }).unwrap();
        assert!(again.complete_before && again.probe == Some(found));
    }
    // Told apart by their classes alone, which it must not see.
    let all = Request { pool: Pool::TrainAndTest, probe: Some(1e-4), ..small("baseline", 1) };
    assert_eq!(bench.run(&all, &files).unwrap_err().exit_code(), 2);
}

#[test]
fn threads_do_not_change_the_result() {
    let bench = bench();
    let run = |method: &str, threads: usize| {
        let files = bench.files(&format!("{threads}.safetensors"));
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| bench.run(&small(method, 6), &files)).unwrap();
        bytes(&files.embedding)
    };
    let one = run("acai", 1);
    assert_eq!(one, run("acai", 2));
    assert_eq!(one, run("acai", 3));
    for method in ["vae", "aae", "vqvae"] {
        assert_eq!(run(method, 1), run(method, 3), "{method}");
    }
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
    let unknown = tessera(path, 100, &["--method", "vae2"]).output().unwrap();
    assert_eq!(unknown.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&unknown.stderr).contains("acai, baseline, dropout"));
}

#[test]
fn an_embedding_is_inspected() {
    let bench = bench();
    let path = bench.folder.path();
    let made = tessera(path, 300, &["--keep-weights", "--probe", "--method", "vae"]).output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let inspect = |more: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tessera"));
        command.current_dir(path).args(["inspect", "cli.safetensors", "data.safetensors", "--json"]);
        command.args(["--restarts", "3"]).args(more).output().unwrap()
    };
    let output = inspect(&["--pictures", "out/pictures"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let said: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    // As many clusters as classes: the commonest class of a cluster alone gets more than chance.
    assert!((0.1..=1.0).contains(&said["accuracy"].as_f64().unwrap()), "{said}");
    assert_eq!((said["images"].as_u64(), said["restarts"].as_u64()), (Some(37), Some(3)));
    let names = ["reconstructions", "interpolation-linear", "interpolation-spherical", "samples"];
    let files: Vec<String> =
        names.iter().map(|n| path.join(format!("out/pictures/{n}.png")).display().to_string()).collect();
    let bytes: Vec<Vec<u8>> = files.iter().map(|f| std::fs::read(f).unwrap()).collect();
    assert!(bytes.iter().all(|b| b.starts_with(b"\x89PNG")));
    assert_eq!(said["pictures"].as_array().unwrap().len(), 4);
    // The same each time, and without pictures.
    let again = inspect(&["--pictures", "out/pictures"]);
    assert_eq!(again.stdout, output.stdout);
    assert!(files.iter().zip(bytes).all(|(f, b)| std::fs::read(f).unwrap() == b));
    let plain: serde_json::Value = serde_json::from_slice(&inspect(&[]).stdout).unwrap();
    assert_eq!(plain["accuracy"], said["accuracy"]);

    assert_eq!(inspect(&["--clusters", "1"]).status.code(), Some(2));
    std::fs::remove_file(path.join("cli.weights.safetensors")).unwrap();
    let lost = inspect(&["--pictures", "out"]);
    assert_eq!(lost.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&lost.stderr).contains("--keep-weights"));
}
