//! The command line on the device.

use crate::harness;

#[test]
fn a_step_allocates_nothing_after_its_first_run() {
    let Some(gpu) = harness::gpu() else { return };
    for net in ["mnistnet", "acai16"] {
        let mut command = gpu.tessera(&["bench", "step", "--device", "cuda", "--json", "--net", net]);
        command.args(["--rule", "forward", "--batch", "2", "--repeats", "3"]);
        let output = command.output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{text}");
        let figures: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(figures["allocations"], 0, "{net}");
        assert!(figures["device"].as_str().unwrap().starts_with("cuda:0"), "{figures}");
    }
}

/// Every line of a measurement says where it was measured, so that no time of a simulation passes for another.
#[test]
fn measurements_name_their_device() {
    let Some(gpu) = harness::gpu() else { return };
    let step = "step --net mnistnet --rule forward --batch 2 --repeats 1";
    let kmeans = "kmeans --n 300 --d 8 --k 3 --iters 2";
    for what in [step, kmeans, "conv --batch 1 --repeats 1"] {
        for json in [false, true] {
            let mut command = gpu.tessera(&["bench"]);
            command.args(what.split(' ')).args(["--device", "cuda"]).args(json.then_some("--json"));
            let output = command.output().unwrap();
            let text = String::from_utf8_lossy(&output.stdout);
            assert!(output.status.success(), "{what}: {}", String::from_utf8_lossy(&output.stderr));
            let places = text.matches("cuda:0, ").count();
            assert!(places > 0, "{what}: {text}");
            for line in text.lines().filter(|line| line.contains("FLOP/s") && line.contains("@")) {
                assert!(line.contains("cuda:0, "), "{what}: {line}");
            }
            if gpu.is_simulated() {
                assert_eq!(text.matches("(not a GPU)").count(), places, "{what}: {text}");
            }
        }
    }
}

#[test]
fn the_demo_runs_to_its_end() {
    let Some(gpu) = harness::gpu() else { return };
    // The simulated GPU takes minutes for what takes seconds elsewhere.
    let preset = if gpu.is_simulated() { "tiny" } else { "smoke" };
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().display().to_string();
    let mut command = gpu.tessera(&["demo", "--device", "cuda", "--preset", preset, "--out", &out]);
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}");
    assert!(folder.path().join("report.html").exists());
    let runs: Vec<_> = std::fs::read_dir(folder.path().join("runs"))
        .unwrap()
        .filter_map(|entry| std::fs::read_to_string(entry.unwrap().path().join("environment.json")).ok())
        .collect();
    assert!(runs.len() >= 3, "{} runs", runs.len());
    assert!(runs.iter().all(|r| r.contains("\"device\": \"cuda:0, ")), "{}", runs[0]);
}
