//! `tessera gradient` from file to file: against differences of the losses that it reports itself, in f64,
//! and in f32 against f64.

use std::path::Path;
use std::process::Command;

use tessera::random::uniform_at;
use tessera::tensor::{DType, Entry, Shape, TensorFile, write_tensors};

const CLASSES: [usize; 3] = [4, 3, 5];
const IMAGE: [usize; 3] = [2, 9, 7];
const FEATURES: usize = 64 * 2;

fn draw(len: usize, stream: u32, scale: f64) -> Vec<f64> {
    (0..len).map(|i| scale * (2.0 * uniform_at([9, 0, 0, 0], stream, i as u64) - 1.0)).collect()
}

type Tensors = Vec<(String, Vec<usize>, Vec<f64>)>;

/// Parameters of a mnistnet for these images under PyTorch's names.
fn parameters() -> Tensors {
    let mut all: Tensors = vec![
        ("layers.0.weight".into(), vec![32, 2, 3, 3], draw(32 * 18, 1, 0.4)),
        ("layers.0.bias".into(), vec![32], draw(32, 2, 0.2)),
        ("layers.1.weight".into(), vec![64, 32, 3, 3], draw(64 * 288, 3, 0.1)),
        ("layers.1.bias".into(), vec![64], draw(64, 4, 0.2)),
    ];
    for (task, classes) in CLASSES.into_iter().enumerate() {
        let stream = 10 + task as u32;
        all.push((
            format!("decoder.{task}.weight"),
            vec![classes, FEATURES],
            draw(classes * FEATURES, stream, 0.2),
        ));
        all.push((format!("decoder.{task}.bias"), vec![classes], draw(classes, stream + 20, 0.1)));
    }
    all
}

fn write(path: &Path, tensors: &Tensors) {
    let entries: Vec<Entry<'_>> =
        tensors.iter().map(|(n, s, v)| Entry::new(n.clone(), DType::F64, Shape::new(s), v)).collect();
    write_tensors(path, &entries, &[]).unwrap();
}

fn write_batch(path: &Path, task: u32, alpha: f64, steps: u32) {
    let [c, h, w] = IMAGE;
    let n = 3;
    let pixels =
        |stream: u32| draw(n * c * h * w, stream, 1.0).iter().map(|&v| v as f32).collect::<Vec<f32>>();
    let (inner, outer) = (pixels(50), pixels(51));
    let (inner_labels, outer_labels) = ([1u32, 0, 2], [3u32, 1, 0]);
    let alpha = [alpha as f32];
    let entries = [
        Entry::new("inner_images", DType::F32, [n, c, h, w], &inner),
        Entry::new("outer_images", DType::F32, [n, c, h, w], &outer),
        Entry::new("inner_labels", DType::U32, [n], &inner_labels),
        Entry::new("outer_labels", DType::U32, [n], &outer_labels),
        Entry::new("task", DType::U32, Shape::SCALAR, std::slice::from_ref(&task)),
        Entry::new("alpha", DType::F32, Shape::SCALAR, &alpha),
        Entry::new("inner_steps", DType::U32, Shape::SCALAR, std::slice::from_ref(&steps)),
    ];
    write_tensors(path, &entries, &[]).unwrap();
}

fn gradient(folder: &Path, more: &[&str]) -> (i32, String) {
    let file = |name: &str| folder.join(name).display().to_string();
    let output = Command::new(env!("CARGO_BIN_EXE_tessera"))
        .args([
            "gradient",
            "--net",
            "mnistnet",
            "--params",
            &file("p"),
            "--batch",
            &file("b"),
            "-o",
            &file("g"),
        ])
        .args(more)
        .output()
        .unwrap();
    (output.status.code().unwrap(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn the_meta_gradient_is_the_derivative_of_the_outer_loss() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    for (task, steps, more) in [(2, 1, &[][..]), (1, 2, &["--hessian", "joint"]), (0, 1, &["--through"])] {
        let more = [&["--dtype", "f64"], more].concat();
        write_batch(&path.join("b"), task, 0.25, steps);
        let base = parameters();
        write(&path.join("p"), &base);
        assert_eq!(gradient(path, &more), (0, String::new()));
        let exact = TensorFile::open(path.join("g")).unwrap();
        // Along a random direction in the shared layers.
        let mut along = 0.0;
        let mut direction = Vec::new();
        for (i, (name, _, values)) in base.iter().enumerate().take(4) {
            let d = draw(values.len(), 70 + i as u32, 1.0);
            along += d.iter().zip(exact.to_f64(name).unwrap()).map(|(d, g)| d * g).sum::<f64>();
            direction.push(d);
        }
        let loss_at = |step: f64| {
            let mut moved = base.clone();
            for ((_, _, values), d) in moved.iter_mut().zip(&direction) {
                values.iter_mut().zip(d).for_each(|(v, d)| *v += step * d);
            }
            write(&path.join("p"), &moved);
            assert_eq!(gradient(path, &more).0, 0);
            TensorFile::open(path.join("g")).unwrap().to_scalar("outer_loss").unwrap()
        };
        let step = 1e-6;
        let difference = (loss_at(step) - loss_at(-step)) / (2.0 * step);
        let off = (along - difference).abs() / difference.abs();
        assert!(off < 1e-6, "task {task}, {steps} steps: {along} against {difference}");
    }
}

#[test]
fn single_precision_agrees_and_rules_differ() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    write(&path.join("p"), &parameters());
    write_batch(&path.join("b"), 1, 0.3, 1);
    let of = |more: &[&str]| {
        assert_eq!(gradient(path, more).0, 0);
        TensorFile::open(path.join("g")).unwrap().to_f64("layers.0.weight").unwrap()
    };
    let apart = |a: &[f64], b: &[f64]| {
        let norm = |v: &[f64]| v.iter().map(|x| x * x).sum::<f64>().sqrt();
        let difference: Vec<f64> = a.iter().zip(b).map(|(a, b)| a - b).collect();
        norm(&difference) / norm(b)
    };
    let exact = of(&["--dtype", "f64"]);
    assert!(apart(&of(&[]), &exact) < 2e-5);
    assert_eq!(of(&["--dtype", "f64", "--rule", "literal"]), exact);
    let first = of(&["--dtype", "f64", "--rule", "first-order"]);
    assert!(apart(&first, &exact) > 1e-3, "the Hessian term is not there");
    assert!(apart(&of(&["--dtype", "f64", "--rule", "released-intended"]), &exact) > 1e-6);
}

#[test]
fn what_does_not_fit_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    write(&path.join("p"), &parameters());
    write_batch(&path.join("b"), 7, 0.1, 1);
    let (code, text) = gradient(path, &[]);
    assert!(code == 4 && text.contains("decoder.7.weight"), "{text}");
    write_batch(&path.join("b"), 1, 0.1, 0);
    let (code, text) = gradient(path, &[]);
    assert!(code == 4 && text.contains("inner_steps"), "{text}");
    let mut wrong = parameters();
    wrong[2].1 = vec![64, 3, 3, 32];
    write(&path.join("p"), &wrong);
    write_batch(&path.join("b"), 1, 0.1, 1);
    let (code, text) = gradient(path, &[]);
    assert!(code == 4 && text.contains("layers.1.weight") && text.contains("[64, 32, 3, 3]"), "{text}");
    assert!(!path.join("g").exists());
}
