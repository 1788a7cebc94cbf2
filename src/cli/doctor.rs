//! `tessera doctor`: what this machine offers, what of it is used, and what is missing.

use serde_json::json;

use super::Output;
use crate::device::cpu::simd;
use crate::device::{Cpu, Device};
use crate::error::Result;
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
    findings.push(Finding {
        what: "cuda",
        found: "this version has the CPU device only".into(),
        advice: None,
    });
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
