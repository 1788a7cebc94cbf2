//! `tessera doctor`: what this machine offers, what of it is used, and what is missing.

use serde_json::json;

use super::Output;
use crate::device::cpu::simd;
use crate::device::cuda::{OLDEST, compile, driver};
use crate::device::{self, Choice, Cpu, Device, Target};
use crate::error::{Error, Result};
use crate::run::environment;

/// One line of the examination.
struct Finding {
    what: &'static str,
    found: String,
    /// What to do about it, if something is missing.
    advice: Option<String>,
}

pub fn run(output: &Output) -> Result<()> {
    let mut findings = vec![
        fine("version", env!("CARGO_PKG_VERSION").to_string()),
        fine("processor", environment::processor()),
        threads(),
        instructions(),
        memory(),
    ];
    findings.push(self_test());
    findings.extend(cuda());
    let width = findings.iter().map(|f| f.what.len()).max().unwrap_or(0);
    let text: Vec<String> = findings
        .iter()
        .map(|f| {
            let advice = f.advice.as_ref().map_or(String::new(), |a| format!("\n{:width$}  -> {a}", ""));
            format!("{:width$}  {}{advice}", f.what, f.found)
        })
        .collect();
    let list: Vec<_> =
        findings.iter().map(|f| json!({"what": f.what, "found": f.found, "advice": f.advice})).collect();
    output.result(&json!({ "findings": list }), text.join("\n"));
    Ok(())
}

fn fine(what: &'static str, found: String) -> Finding {
    Finding { what, found, advice: None }
}

fn threads() -> Finding {
    let (used, all) =
        (rayon::current_num_threads(), std::thread::available_parallelism().map_or(1, usize::from));
    let advice = (used < all).then(|| format!("{all} cores are there: --threads {all} uses them all"));
    Finding { what: "threads", found: format!("{used} of {all} cores"), advice }
}

fn instructions() -> Finding {
    let level = simd::level();
    let asked = std::env::var_os("TESSERA_SIMD").is_some();
    let advice = match level {
        _ if asked => Some("TESSERA_SIMD is set; without it the best set is taken".to_string()),
        simd::Level::Portable => Some("without AVX2 and FMA, training is several times slower".to_string()),
        _ => None,
    };
    Finding { what: "instructions", found: level.to_string(), advice }
}

fn memory() -> Finding {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let field = |name: &str| {
        let line = text.lines().find(|l| l.starts_with(name))?;
        line.split_whitespace().nth(1)?.parse::<f64>().ok().map(|kib| kib / (1 << 20) as f64)
    };
    let found = match (field("MemAvailable"), field("MemTotal")) {
        (Some(free), Some(all)) => format!("{free:.1} GiB of {all:.1} GiB free"),
        _ => "unknown".to_string(),
    };
    fine("memory", found)
}

/// What of CUDA is there, and what to do about what is not.
fn cuda() -> Vec<Finding> {
    let missing = |what, error: &Error, advice: &str| {
        let reason = error.to_string();
        let reason = reason.strip_prefix("CUDA cannot be had: ").unwrap_or(&reason).to_string();
        Finding { what, found: reason, advice: Some(advice.to_string()) }
    };
    let mut all = Vec::new();
    let driver = driver::version();
    all.push(match &driver {
        Ok(version) => fine("cuda driver", format!("supports CUDA {}", driver::version_text(*version))),
        Err(error) => missing(
            "cuda driver",
            error,
            "to use an NVIDIA GPU, install its driver, version 525 or newer (without one, --device cpu does everything)",
        ),
    });
    let compiler = compile::version();
    all.push(match &compiler {
        Ok((major, minor)) => fine("nvrtc", format!("{major}.{minor}")),
        Err(error) => missing(
            "nvrtc",
            error,
            "`pip install nvidia-cuda-nvrtc-cu12`, and put the folder of its libnvrtc.so.12 into LD_LIBRARY_PATH; \
             or install the CUDA toolkit",
        ),
    });
    if driver.is_err() {
        return all;
    }
    match driver::count() {
        Ok(0) => all.push(Finding {
            what: "cuda device",
            found: "none".into(),
            advice: Some("`nvidia-smi` should list it; CUDA_VISIBLE_DEVICES may hide it".into()),
        }),
        Err(error) => all.push(missing("cuda device", &error, "`nvidia-smi` may tell more")),
        Ok(count) => {
            for ordinal in 0..count {
                all.push(match driver::Context::open(ordinal) {
                    Ok(context) => cuda_device(&context),
                    Err(error) => missing("cuda device", &error, "`nvidia-smi` may tell more"),
                });
            }
        }
    }
    if all.iter().all(|f| f.advice.is_none()) {
        all.push(cuda_self_test());
    }
    all
}

fn cuda_device(context: &driver::Context) -> Finding {
    let p = &context.properties;
    let free = context.memory().map_or_else(
        |e| e.to_string(),
        |(free, all)| {
            let gib = |bytes: usize| driver::mib(bytes) / 1024.0;
            format!("{:.1} GiB of {:.1} GiB free", gib(free), gib(all))
        },
    );
    let found = format!(
        "{}: {}, sm_{}, {} multiprocessors, {free}",
        p.ordinal, p.name, p.architecture, p.multiprocessors
    );
    let old = (p.architecture < OLDEST).then(|| {
        format!("kernels need compute capability {}.{} or newer: use --device cpu", OLDEST / 10, OLDEST % 10)
    });
    Finding { what: "cuda device", found, advice: old }
}

/// The self-test of the first CUDA device, which compiles kernels and runs them.
fn cuda_self_test() -> Finding {
    let what = "cuda self-test";
    let choice = Choice { target: Target::Cuda(0), ..Choice::default() };
    let advice =
        "TESSERA_CUDA_SYNC=1 names the operation that fails; TESSERA_CACHE=DIR starts with a fresh cache";
    match device::open(&choice).and_then(crate::bench::step::precision_of) {
        Ok(worst) if worst < 1e-4 => {
            fine(what, format!("second-order step agrees with the CPU in f64 to {worst:.0e}"))
        }
        Ok(worst) => Finding {
            what,
            found: format!("second-order step is off by {worst:.1e}"),
            advice: Some("results of this device cannot be trusted; --device cpu".into()),
        },
        Err(error) => Finding { what, found: error.to_string(), advice: Some(advice.into()) },
    }
}

/// The exact second-order step of a small net, in single against double precision.
fn self_test() -> Finding {
    let worst = crate::bench::step::precision();
    let device = Cpu::<f32>::default().describe();
    match worst {
        Ok(worst) if worst < 1e-4 => {
            fine("self-test", format!("{device}: second-order step agrees with f64 to {worst:.0e}"))
        }
        Ok(worst) => Finding {
            what: "self-test",
            found: format!("{device}: second-order step is off by {worst:.1e}"),
            advice: Some("results of this machine cannot be trusted; TESSERA_SIMD=portable may help".into()),
        },
        Err(e) => Finding { what: "self-test", found: e.to_string(), advice: None },
    }
}
