//! `tessera cluster` on files that are not what they should be: one error that names the place, the exit
//! code of its kind, and no tasks file.

mod npy;

use std::fs;
use std::path::Path;
use std::process::Command;

use proptest::prelude::*;
use tessera::cluster::{Tasks, embedding};
use tessera::tensor::{DType, Entry, write_tensors};

fn values(n: usize) -> Vec<f32> {
    (0..n).map(|i| (i * 37 % 101) as f32 / 10.0).collect()
}

/// Exit code, what it said, and whether anything beside `emb` and `init` lies in the folder.
fn cluster(folder: &Path, emb: &str, arguments: &[&str]) -> (i32, String, bool) {
    let before = fs::read_dir(folder).unwrap().count();
    let done = Command::new(env!("CARGO_BIN_EXE_tessera"))
        .current_dir(folder)
        .args(["cluster", emb, "-o", "tasks.safetensors"])
        .args(arguments)
        .output()
        .unwrap();
    let left = fs::read_dir(folder).unwrap().count() > before;
    (done.status.code().unwrap(), String::from_utf8(done.stderr).unwrap(), left)
}

fn fails(what: &str, folder: &Path, emb: &str, arguments: &[&str], code: i32, words: &[&str]) {
    let (found, said, left) = cluster(folder, emb, arguments);
    assert_eq!(found, code, "{what}: {said}");
    assert!(!left, "{what}: something was left behind");
    assert_eq!(said.trim_end().lines().count(), 1, "{what}: {said}");
    for word in words {
        assert!(said.contains(word), "{what}: '{said}' does not say '{word}'");
    }
}

#[test]
fn malformed_embeddings_give_one_clear_error() {
    let data = bytemuck::cast_slice::<f32, u8>(&values(60)).to_vec();
    let whole = npy::bytes("<f4", false, &[20, 3], &data);
    let mut nan = data.clone();
    nan[7 * 4..8 * 4].copy_from_slice(&f32::NAN.to_le_bytes());
    let files: &[(&str, Vec<u8>, &[&str])] = &[
        ("empty", vec![], &["emb.npy", ".npy"]),
        ("not NumPy", b"hello, this is text".to_vec(), &["emb.npy"]),
        ("cut header", whole[..40].to_vec(), &["emb.npy"]),
        ("cut data", whole[..whole.len() - 1].to_vec(), &["emb.npy", "20 x 3"]),
        (
            "huge counts",
            npy::bytes("<f4", false, &[1 << 40, 1 << 40], &data),
            &["emb.npy", "as many numbers", "end of the file"],
        ),
        ("overflowing counts", npy::bytes("<f4", false, &[1 << 33, 1 << 33, 0], &data), &["emb.npy"]),
        ("columns first", npy::bytes("<f4", true, &[20, 3], &data), &["fortran_order"]),
        ("one axis", npy::bytes("<f4", false, &[60], &data), &["shape", "[60]"]),
        ("no rows", npy::bytes("<f4", false, &[0, 3], &[]), &["shape"]),
        ("integers", npy::bytes("<i4", false, &[20, 3], &data), &["emb.npy", "float"]),
        ("not a number", npy::bytes("<f4", false, &[20, 3], &nan), &["row 2, column 1", "NaN"]),
    ];
    for (what, bytes, words) in files {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("emb.npy"), bytes).unwrap();
        fails(what, folder.path(), "emb.npy", &["--clusters", "2"], 4, words);
    }
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    fails("no such file", folder.path(), "none.npy", &[], 3, &["none.npy", "cannot open"]);
    fails("no such file", folder.path(), "none.safetensors", &[], 3, &["none.safetensors", "cannot open"]);
    fs::create_dir(at("folder")).unwrap();
    fails("a folder", folder.path(), "folder", &[], 4, &["not a regular file"]);
    fs::create_dir(at("folder.npy")).unwrap();
    fails("a folder", folder.path(), "folder.npy", &[], 4, &["not a regular file"]);
    fs::write(at("short.safetensors"), [0; 5]).unwrap();
    fails("five bytes", folder.path(), "short.safetensors", &[], 4, &["short.safetensors", "5 bytes"]);
    let two = [0.0f32; 6];
    let entries = [Entry::new("a", DType::F32, [2, 3], &two), Entry::new("b", DType::F32, [2, 3], &two)];
    write_tensors(at("other.safetensors"), &entries, &[]).unwrap();
    fails("other names", folder.path(), "other.safetensors", &[], 4, &["embedding"]);
    let entries = [Entry::new("embedding", DType::F32, [6], &two)];
    write_tensors(at("line.safetensors"), &entries, &[]).unwrap();
    fails("one axis", folder.path(), "line.safetensors", &[], 4, &["embedding", "[6]"]);
    embedding::write(&at("rows.safetensors"), &values(60), 3, Some(&[3, 20]), &[]).unwrap();
    fails("fit_rows", folder.path(), "rows.safetensors", &[], 4, &["fit_rows", "below 20", "found 20"]);
}

#[test]
fn requests_that_do_not_fit_give_one_clear_error() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    npy::write_f32(&at("emb.npy"), &values(60), 3);
    npy::write_f32(&at("narrow.npy"), &values(10), 2);
    npy::write_f32(&at("many.npy"), &values(63), 3);
    npy::write_f32(&at("start.npy"), &values(12), 3);
    let fails = |what, arguments: &[&str], code, words| {
        fails(what, folder.path(), "emb.npy", arguments, code, words);
    };
    fails("too many clusters", &["--clusters", "21"], 2, &["21 clusters of 20"]);
    fails("no clusters", &["--clusters", "0"], 2, &["0 clusters"]);
    fails("no tasks", &["--tasks", "0"], 2, &["--tasks"]);
    fails("no iterations", &["--max-iter", "0"], 2, &["--max-iter"]);
    fails("no tolerance", &["--tol", "nan"], 2, &["--tol"]);
    fails("growing", &["--diversity", "grow", "--tasks", "6"], 2, &["25 clusters of 20"]);
    fails("other width", &["--init", "narrow.npy"], 4, &["expected [5, 3], found [5, 2]"]);
    fails("more starts than points", &["--init", "many.npy"], 2, &["21 clusters of 20"]);
    fails("no start", &["--init", "none.npy"], 3, &["none.npy"]);
    fails("half", &["--init", "start.npy", "--diversity", "half"], 4, &["expected [4, 2], found [4, 3]"]);
    fails("grow", &["--init", "start.npy", "--diversity", "grow"], 4, &["expected [2, 3], found [4, 3]"]);
}

#[test]
fn a_place_that_cannot_be_written_is_named() {
    let folder = tempfile::tempdir().unwrap();
    npy::write_f32(&folder.path().join("emb.npy"), &values(60), 3);
    let done = Command::new(env!("CARGO_BIN_EXE_tessera"))
        .current_dir(folder.path())
        .args(["cluster", "emb.npy", "-o", "none/tasks.safetensors", "--clusters", "2"])
        .output()
        .unwrap();
    let said = String::from_utf8(done.stderr).unwrap();
    assert!(done.status.code() == Some(3) && said.contains("none"), "{said}");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn a_good_file_is_clustered_and_said() {
    let folder = tempfile::tempdir().unwrap();
    npy::write_f32(&folder.path().join("emb.npy"), &values(300), 3);
    let done = Command::new(env!("CARGO_BIN_EXE_tessera"))
        .current_dir(folder.path())
        .args(["cluster", "emb.npy", "-o", "tasks.safetensors", "--tasks", "3", "--clusters", "4", "--json"])
        .output()
        .unwrap();
    assert!(done.status.success());
    let lines = String::from_utf8(done.stdout).unwrap();
    let objects: Vec<serde_json::Value> = lines.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    let tasks = Tasks::open(folder.path().join("tasks.safetensors")).unwrap();
    assert_eq!((tasks.len(), tasks.images(), &tasks.classes[..]), (3, 100, &[4, 4, 4][..]));
    for (task, object) in objects[..3].iter().enumerate() {
        let sizes: Vec<usize> =
            object["sizes"].as_array().unwrap().iter().map(|s| s.as_u64().unwrap() as usize).collect();
        assert_eq!(sizes, tessera::cluster::metrics::sizes(&tasks.labels[task], 4));
    }
    assert!(objects[3]["mean_pairwise_ari"].is_number());
}

fn wrecked(mut bytes: Vec<u8>, at: usize, value: u8, cut: usize) -> Vec<u8> {
    let length = bytes.len();
    bytes[at % length] = value;
    bytes.truncate(cut);
    bytes
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

    /// With any byte changed, and cut anywhere, a file opens or gives an error.
    #[test]
    fn no_bytes_make_opening_panic(at in 0usize..400, value: u8, cut in 0usize..600) {
        let folder = tempfile::tempdir().unwrap();
        let numpy = folder.path().join("emb.npy");
        npy::write_f32(&numpy, &values(60), 3);
        fs::write(&numpy, wrecked(fs::read(&numpy).unwrap(), at, value, cut)).unwrap();
        let _ = embedding::Embedding::open(&numpy);
        let tensors = folder.path().join("emb.safetensors");
        embedding::write(&tensors, &values(60), 3, Some(&[1, 2]), &[]).unwrap();
        fs::write(&tensors, wrecked(fs::read(&tensors).unwrap(), at, value, cut)).unwrap();
        if let Ok(embedding) = embedding::Embedding::open(&tensors) {
            prop_assert_eq!(embedding.values().len(), embedding.rows() * embedding.columns());
        }
        let tasks = folder.path().join("tasks.safetensors");
        let labels = [0u32, 1, 2, 1];
        write_tensors(&tasks, &[Entry::new("labels.1", DType::U32, [4], &labels)], &[]).unwrap();
        fs::write(&tasks, wrecked(fs::read(&tasks).unwrap(), at, value, cut)).unwrap();
        if let Ok(tasks) = Tasks::open(&tasks) {
            prop_assert!(tasks.labels[0].iter().all(|&l| (l as usize) < tasks.classes[0]));
        }
    }
}
