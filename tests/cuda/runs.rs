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
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().display().to_string();
    let mut command = gpu.tessera(&["demo", "--device", "cuda", "--preset", "smoke", "--out", &out]);
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}");
    assert!(folder.path().join("report.html").exists());
    let runs: Vec<_> = std::fs::read_dir(folder.path().join("runs"))
        .unwrap()
        .filter_map(|entry| std::fs::read_to_string(entry.unwrap().path().join("environment.json")).ok())
        .collect();
    assert!(runs.len() >= 6, "{} runs", runs.len());
    assert!(runs.iter().all(|r| r.contains("\"device\": \"cuda:0, ")), "{}", runs[0]);
}

#[test]
fn clusters_are_those_of_the_cpu() {
    let Some(gpu) = harness::gpu() else { return };
    let folder = tempfile::tempdir().unwrap();
    // Blobs that lie close to each other.
    let values: Vec<f32> =
        (0..600_u32).map(|i| ((i * 7919) % 211) as f32 / 40.0 + (i / 3 % 5) as f32).collect();
    let embedding = folder.path().join("emb.safetensors");
    tessera::cluster::embedding::write(&embedding, &values, 3, None, &[]).unwrap();
    let cluster = |device: &str| {
        let [from, to] = [embedding.clone(), folder.path().join(device)].map(|p| p.display().to_string());
        let mut command =
            gpu.tessera(&["cluster", &from, "--device", device, "--tasks", "3", "--clusters", "5"]);
        let output = command.args(["--restarts", "4", "-o", &to]).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        (std::fs::read(to).unwrap(), output.stdout)
    };
    let (cpu, cuda) = (cluster("cpu"), cluster("cuda"));
    assert!(cpu.0 == cuda.0, "the files differ");
    assert_eq!(String::from_utf8_lossy(&cpu.1).replace("/cpu", "/cuda"), String::from_utf8_lossy(&cuda.1));
}
