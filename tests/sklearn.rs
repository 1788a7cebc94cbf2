//! `tessera cluster --init` beside scikit-learn's Lloyd on the same files. Runs where TESSERA_PYTHON names a
//! Python that has scikit-learn (the peers' one: `$PEERS_WORK/venv/bin/python`), and skips loudly elsewhere.

mod npy;

use std::path::{Path, PathBuf};
use std::process::Command;

use tessera::cluster::{Tasks, embedding};
use tessera::data::import;
use tessera::random::{Purpose, Stream};
use tessera::tensor::{DType, Entry, TensorFile, write_tensors};

fn python() -> Option<PathBuf> {
    let python = std::env::var_os("TESSERA_PYTHON").map(PathBuf::from);
    if python.is_none() {
        eprintln!("SKIPPED: scikit-learn was not compared; set TESSERA_PYTHON to a Python that has it");
    }
    python
}

/// Double precision, so that its labels are those of exact arithmetic too.
const FIT: &str = "
import sys, json, warnings, numpy as np
from sklearn.cluster import KMeans
warnings.filterwarnings('ignore')
points, start, tol = np.load(sys.argv[1]).astype(np.float64), np.load(sys.argv[2]).astype(np.float64), float(sys.argv[3])
m = KMeans(len(start), init=start, n_init=1, algorithm='lloyd', tol=tol, max_iter=400).fit(points)
print(json.dumps(dict(labels=m.labels_.tolist(), iterations=int(m.n_iter_), inertia=float(m.inertia_))))
";

struct Found {
    labels: Vec<u32>,
    iterations: u64,
    inertia: f64,
}

fn scikit_learn(python: &Path, points: &Path, start: &Path, tol: &str) -> Found {
    let done = Command::new(python).args(["-c", FIT]).args([points, start]).arg(tol).output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let found: serde_json::Value = serde_json::from_slice(&done.stdout).unwrap();
    let labels = found["labels"].as_array().unwrap().iter().map(|l| l.as_u64().unwrap() as u32).collect();
    let (iterations, inertia) = (found["iterations"].as_u64().unwrap(), found["inertia"].as_f64().unwrap());
    Found { labels, iterations, inertia }
}

fn tessera(points: &Path, start: &Path, tol: &str, out: &Path) -> Found {
    let done = Command::new(env!("CARGO_BIN_EXE_tessera"))
        .arg("cluster")
        .arg(points)
        .arg("--init")
        .arg(start)
        .args(["--tasks", "1", "--diversity", "none", "--tol", tol, "-o"])
        .arg(out)
        .output()
        .unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let file = TensorFile::open(out).unwrap();
    Found {
        labels: Tasks::open(out).unwrap().labels.remove(0),
        iterations: file.to_u32("iterations.1").unwrap()[0].into(),
        inertia: file.slice::<f64>("inertia.1", DType::F64).unwrap()[0],
    }
}

fn agree(ours: &Found, theirs: &Found, what: &str) {
    let different = ours.labels.iter().zip(&theirs.labels).filter(|(a, b)| a != b).count();
    assert_eq!((ours.labels.len(), different), (theirs.labels.len(), 0), "{what}: labels differ");
    assert_eq!(ours.iterations, theirs.iterations, "{what}: iterations");
    assert!((ours.inertia - theirs.inertia).abs() <= 1e-6 * theirs.inertia, "{what}: {}", ours.inertia);
}

#[test]
fn files_of_any_kind_give_scikit_learns_labels() {
    let Some(python) = python() else { return };
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    for (case, (n, d, k, tol)) in [
        (3000, 16, 10, "1e-4"),
        (2000, 256, 15, "0"),
        (5000, 3, 40, "1e-4"),
        (900, 1, 8, "1e-3"),
        (64, 7, 1, "1e-4"),
    ]
    .into_iter()
    .enumerate()
    {
        let mut draw = Stream::new(case as u64, Purpose::Synthetic, 0);
        let blobs: Vec<f64> = (0..12 * d).map(|_| 2.0 * draw.normal()).collect();
        let mut values = Vec::new();
        for _ in 0..n {
            let blob = draw.below(12);
            values.extend(blobs[blob * d..][..d].iter().map(|b| (b + draw.normal()) as f32));
        }
        let start: Vec<f32> = draw
            .sample_without_replacement(n, k)
            .into_iter()
            .flat_map(|i| values[i * d..][..d].to_vec())
            .collect();
        let wide = |v: &[f32]| v.iter().map(|&v| f64::from(v)).collect::<Vec<_>>();
        npy::write_f32(&at("points.npy"), &values, d);
        npy::write_f32(&at("start.npy"), &start, d);
        npy::write_f64(&at("wide.npy"), &wide(&values), d);
        npy::write_f64(&at("wide-start.npy"), &wide(&start), d);
        embedding::write(&at("points.safetensors"), &values, d, None, &[]).unwrap();
        let centres = [Entry::new("centers", DType::F32, [k, d], &start)];
        write_tensors(at("start.safetensors"), &centres, &[]).unwrap();
        let theirs = scikit_learn(&python, &at("points.npy"), &at("start.npy"), tol);
        for (points, start) in [
            ("points.npy", "start.npy"),
            ("wide.npy", "wide-start.npy"),
            ("points.safetensors", "start.safetensors"),
        ] {
            let ours = tessera(&at(points), &at(start), tol, &at("tasks.safetensors"));
            agree(&ours, &theirs, &format!("{n} x {d}, {k} clusters, {points}"));
        }
    }
}

#[test]
fn mnist_pixels_give_scikit_learns_labels() {
    let Some(python) = python() else { return };
    let shared = std::env::var_os("TESSERA_SHARED").map(PathBuf::from);
    let shared = shared.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared"));
    let Ok(mnist) = import::idx(&shared.join("data/mnist")) else {
        eprintln!("SKIPPED: no MNIST in {}; set TESSERA_SHARED", shared.display());
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let values: Vec<f32> = mnist.train.images.iter().map(|&v| v.into()).collect();
    npy::write_f32(&at("points.npy"), &values, 784);
    let rows = Stream::new(1, Purpose::Synthetic, 0).sample_without_replacement(60_000, 10);
    let start: Vec<f32> = rows.into_iter().flat_map(|i| values[i * 784..][..784].to_vec()).collect();
    npy::write_f32(&at("start.npy"), &start, 784);
    let theirs = scikit_learn(&python, &at("points.npy"), &at("start.npy"), "1e-4");
    let ours = tessera(&at("points.npy"), &at("start.npy"), "1e-4", &at("tasks.safetensors"));
    agree(&ours, &theirs, "MNIST pixels");
}
