//! `benches/compare` knows its own errors and numbers. Runs where there is a `python3`, and skips loudly elsewhere.

use std::process::Command;

#[test]
fn the_comparison_with_peers_passes_its_own_tests() {
    let tests = ["-m", "unittest", "discover", "-s", "benches/compare"];
    let run = Command::new("python3").arg("-B").args(tests).current_dir(env!("CARGO_MANIFEST_DIR")).output();
    let Ok(done) = run else {
        eprintln!("SKIPPED: benches/compare was not tested; there is no python3");
        return;
    };
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
}
