//! What is said when CUDA, or memory on the device, cannot be had.

use std::path::Path;
use std::process::Command;

use tessera::device::{CudaOptions, Device};
use tessera::tape::Tape;

use crate::harness::{self, Gpu};

/// Exit code, standard output and standard error.
fn run(mut command: Command) -> (Option<i32>, String, String) {
    let output = command.output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

/// The one line of a refusal.
fn refusal(command: Command) -> String {
    let (code, _, errors) = run(command);
    assert_eq!(code, Some(5), "{errors}");
    assert!(!errors.contains("panicked"), "{errors}");
    let line = errors.trim_end();
    assert_eq!(line.lines().count(), 1, "{errors}");
    line.to_string()
}

fn step(device: &'static str) -> Vec<&'static str> {
    vec![
        "bench",
        "--device",
        device,
        "step",
        "--net",
        "mnistnet",
        "--rule",
        "forward",
        "--batch",
        "2",
        "--repeats",
        "1",
    ]
}

/// A simulated GPU; messages about missing libraries need libraries that can be taken away.
fn simulated() -> Option<&'static Gpu> {
    harness::gpu().filter(|gpu| gpu.is_simulated())
}

#[test]
fn what_is_missing_is_named() {
    let Some(gpu) = simulated() else { return };
    let neither: [&Path; 0] = [];
    let line = refusal(gpu.tessera_with(&neither, &step("cuda")));
    assert!(line.contains("no NVIDIA driver (libcuda.so)"), "{line}");
    let line = refusal(gpu.tessera_with(&[&gpu.driver], &step("cuda")));
    assert!(line.contains("no NVRTC (libnvrtc.so)"), "{line}");
    let line = refusal(gpu.tessera_with(&[&gpu.nvrtc, &gpu.driver], &step("cuda:7")));
    assert!(line.contains("no device number 7"), "{line}");
    // A library of the name that is something else.
    let folder = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink(gpu.nvrtc.join("libnvrtc.so.12"), folder.path().join("libcuda.so.1")).unwrap();
    let line = refusal(gpu.tessera_with(&[folder.path()], &step("cuda")));
    assert!(line.contains("too old") && line.contains("cuInit"), "{line}");
}

#[test]
fn an_old_driver_is_refused() {
    let Some(gpu) = simulated() else { return };
    let mut command = gpu.tessera(&step("cuda"));
    command.env("SIMGPU_DRIVER_VERSION", "11040");
    let line = refusal(command);
    assert!(line.contains("too old") && line.contains("11.4"), "{line}");
}

#[test]
fn auto_takes_what_is_there() {
    let Some(gpu) = simulated() else { return };
    let device = |folders: &[&Path]| {
        let mut command = gpu.tessera_with(folders, &step("auto"));
        command.arg("--json");
        let (code, out, errors) = run(command);
        assert_eq!(code, Some(0), "{errors}");
        assert_eq!(errors, "");
        serde_json::from_str::<serde_json::Value>(&out).unwrap()["device"].as_str().unwrap().to_string()
    };
    assert!(device(&[]).starts_with("cpu"));
    assert!(device(&[&gpu.nvrtc, &gpu.driver]).starts_with("cuda:0"));
}

#[test]
fn the_device_says_what_it_is() {
    if harness::gpu().is_none() {
        return;
    }
    let device = harness::open(CudaOptions::default());
    assert_eq!(device.real(), tessera::tensor::DType::F32);
    assert!(device.describe().starts_with("cuda:0, ") && device.describe().ends_with(", f32"));
}

#[test]
fn a_plan_that_does_not_fit_says_what_it_needs() {
    if harness::gpu().is_none() {
        return;
    }
    let mut device = harness::open(CudaOptions::default());
    // 400 values of 800 MB each that are needed at the same time.
    let mut t = Tape::new();
    for i in 0..400 {
        let x = t.input(format!("x{i}"), [1]);
        let y = t.broadcast_to(x, [200_000_000]);
        t.output(format!("y{i}"), y);
    }
    let error = device.prepare(&t).unwrap_err().to_string();
    assert!(error.contains("out of memory on cuda:0: the arena of the plan needs 320"), "{error}");
    assert!(error.contains("MiB are free"), "{error}");
}

#[test]
fn doctor_tells_what_is_there_and_what_to_do() {
    let Some(gpu) = simulated() else { return };
    let (code, out, errors) = run(gpu.tessera(&["doctor"]));
    assert_eq!(code, Some(0), "{errors}");
    for part in
        ["cuda driver", "supports CUDA 12.", "nvrtc", "12.9", "cuda device", "GiB free", "cuda self-test"]
    {
        assert!(out.contains(part), "no '{part}' in:\n{out}");
    }
    assert!(out.contains("agrees with the CPU"), "{out}");
    let neither: [&Path; 0] = [];
    let (code, out, _) = run(gpu.tessera_with(&neither, &["doctor"]));
    assert_eq!(code, Some(0));
    for part in ["no NVIDIA driver", "install its driver", "no NVRTC", "nvidia-cuda-nvrtc-cu12"] {
        assert!(out.contains(part), "no '{part}' in:\n{out}");
    }
}

/// What a step says if a launch of a kernel goes wrong on the device.
fn failed(gpu: &Gpu, kernel: &str, launch: usize, sync: bool) -> String {
    let mut command = gpu.tessera(&step("cuda"));
    command
        .env("SIMGPU_FAIL", format!("{kernel}:{launch}"))
        .env("TESSERA_CUDA_SYNC", if sync { "1" } else { "0" });
    let (code, _, errors) = run(command);
    assert_eq!(code, Some(5), "{errors}");
    let lines: Vec<_> = errors.lines().filter(|l| !l.starts_with("simgpu:")).collect();
    assert_eq!(lines.len(), 1, "{errors}");
    lines[0].to_string()
}

#[test]
fn errors_of_the_device_name_their_operation() {
    let Some(gpu) = simulated() else { return };
    // The second convolution of the first run: the first run is waited for kernel by kernel.
    let line = failed(gpu, "convolution", 1, false);
    assert!(line.contains("of the plan, conv2d (node"), "{line}");
    assert!(!line.contains("TESSERA_CUDA_SYNC"), "{line}");
    // A later one: the error comes out behind the graph, and says how to find the operation.
    let line = failed(gpu, "convolution", 5, false);
    assert!(line.contains("TESSERA_CUDA_SYNC=1 names the operation"), "{line}");
    // Which it does.
    let line = failed(gpu, "convolution", 5, true);
    assert!(line.contains("of the plan, conv2d (node"), "{line}");
}
