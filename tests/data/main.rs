//! Data sets: importers, archives and downloads. What is read is what was written; every malformed input gives
//! one error that names its place, with nothing left behind.

mod import;
mod omniglot;
mod pack;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

fn gzip(bytes: &[u8]) -> Vec<u8> {
    use std::io::Write;
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// Runs the binary; the exit code, what it said, and whether the output appeared.
fn run_import(format: &str, src: &Path) -> (i32, String, bool) {
    run_import_with(format, src, &[])
}

fn run_import_with(format: &str, src: &Path, more: &[&str]) -> (i32, String, bool) {
    let out = tempfile::tempdir().unwrap();
    let file = out.path().join("out.safetensors");
    let done = Command::new(env!("CARGO_BIN_EXE_tessera"))
        .args(["data", "import", format])
        .arg(src)
        .arg("-o")
        .arg(&file)
        .args(more)
        .output()
        .unwrap();
    let left = fs::read_dir(out.path()).unwrap().count() > 0;
    (done.status.code().unwrap(), String::from_utf8(done.stderr).unwrap(), left)
}

/// A damaged input: format, what is wrong, damage to a good folder, exit code, words of the message.
type Case = (&'static str, &'static str, fn(&Path), i32, &'static [&'static str]);

/// Each damage to a folder of its own gives one line with all words, and no file.
fn refused(cases: &[Case], good: impl Fn() -> tempfile::TempDir) {
    for (format, what, damage, code, words) in cases {
        let folder = good();
        damage(folder.path());
        let (found, said, left) = run_import(format, folder.path());
        assert_eq!(found, *code, "{format}, {what}: {said}");
        assert!(!left, "{format}, {what}: something was left behind");
        assert_eq!(said.trim_end().lines().count(), 1, "{format}, {what}: {said}");
        for word in *words {
            assert!(said.contains(word), "{format}, {what}: '{said}' does not say '{word}'");
        }
    }
}

fn put(path: &Path, bytes: &[u8]) {
    fs::write(path, bytes).unwrap();
}

fn shared() -> Option<PathBuf> {
    let place = std::env::var_os("TESSERA_SHARED").map(PathBuf::from);
    let place = place.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared")).join("data");
    if place.is_dir() {
        return Some(place);
    }
    eprintln!("SKIPPED: no real data at {}; set TESSERA_SHARED", place.display());
    None
}
