//! The simulated driver's own tests, so that one `cargo test` runs them too.

#[path = "cuda/harness.rs"]
mod harness;

use std::path::Path;
use std::process::Command;

/// They are built in the folder of the driver that `tests/cuda` builds, whose parts they share.
#[test]
fn its_own_tests_pass() {
    if harness::gpu().is_none_or(|gpu| !gpu.is_simulated()) {
        return;
    }
    let target = harness::target();
    let toolkit = harness::toolkit(&target).unwrap();
    // Nobody else may build there meanwhile.
    let lock = harness::lock(&target).unwrap();
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["test", "--release", "--tests", "--no-fail-fast", "--manifest-path"]);
    cargo.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/simgpu/Cargo.toml"));
    cargo.arg("--target-dir").arg(target.join("simgpu"));
    cargo.env_remove("CARGO_TARGET_DIR").env_remove("RUSTFLAGS").env_remove("SIMGPU_CHECK");
    cargo.env("TESSERA_CUDA_TOOLKIT", toolkit).env("TESSERA_REQUIRE_CUDA", "1");
    let output = cargo.output().unwrap();
    drop(lock);
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "the simulator's own tests fail:\n{out}\n{err}");
}
