//! Every kernel that the product launches: variants of files, and generated sources.

use tessera::device::cuda::compile::Unit;
use tessera::device::cuda::launch::{Function, Launch, Precision, Source};
use tessera::device::cuda::lower::{self, Task};
use tessera::device::cuda::{self, kmeans, pointwise};
use tessera::ops::Pool;
use tessera::ops::convolution::{Direction, Geometry};
use tessera::tape::plan::{ConvolutionCall, Expression, Kernel, Plan};

use crate::convolutions::plain;
use crate::nets::{self, BATCH};
use crate::values::PRECISIONS;

/// A short name of a variant: its entry, and the values of its definitions.
pub fn name(function: &Function) -> String {
    let values = function.defines.iter().map(|d| d.replace('=', ""));
    [function.entry.to_string()].into_iter().chain(values).collect::<Vec<_>>().join(" ")
}

/// A kernel for one image instead of a batch.
fn single(kernel: &Kernel) -> Kernel {
    match kernel {
        Kernel::Convolution(call) => {
            Kernel::Convolution(ConvolutionCall { geometry: Geometry { n: 1, ..call.geometry }, ..*call })
        }
        other => other.clone(),
    }
}

/// Convolutions and matrix products that the nets ask for, for batches and for single images, each once.
pub fn products() -> Vec<Kernel> {
    let mut all: Vec<Kernel> = Vec::new();
    for (_, plan) in nets::plans(BATCH, Precision::F32) {
        for step in plan.steps {
            if matches!(step.kernel, Kernel::Convolution(_) | Kernel::Matmul { .. }) {
                all.extend([single(&step.kernel), step.kernel]);
            }
        }
    }
    // A description has all sizes in it.
    all.sort_by_cached_key(|kernel| format!("{kernel:?}"));
    all.dedup_by_key(|kernel| format!("{kernel:?}"));
    all
}

/// Kernels that the nets do not ask for as they are fused, forms for channels that do not come in fours, and input
/// gradients of wide layers of such channels, which need most registers.
fn others() -> Vec<Kernel> {
    let gradient = |[c, k]: [usize; 2]| {
        let geometry = Geometry::new([100, 32, 32, c].into(), [k, 3, 3, c].into(), 1, 1).unwrap();
        Kernel::Convolution(plain(Direction::InputGrad, geometry))
    };
    let pool = |op, channels| Kernel::Pool { op, large: [2, 8, 8, channels] };
    let sum = Pool::Sum { size: 2 };
    let mut all = vec![pool(sum, 4), pool(sum, 3)];
    all.extend([[127, 131], [128, 131], [127, 128]].map(gradient));
    all
}

/// Functions of files with the threads of their blocks, as they are launched. A block of several sizes is
/// there with the largest.
pub fn functions() -> Vec<(Function, u32)> {
    let mut launches: Vec<Launch> = Vec::new();
    let products = products();
    for precision in PRECISIONS {
        launches.extend(products.iter().chain(&others()).flat_map(|k| lower::launches(k, precision)));
        for (_, plan) in nets::plans(BATCH, precision) {
            launches.extend(lower::tasks(&plan, precision).into_iter().flat_map(|t| t.launches));
        }
    }
    launches.extend([lower::random(false, 0, 4), lower::random(true, 0, 4), lower::copy(4)]);
    let mut all: Vec<(Function, u32)> =
        launches.into_iter().map(|l| (l.function, l.block.iter().product())).collect();
    all.extend(cuda::functions());
    // Bounds of their own say how many threads they have, but for `choose`: a warp for each of the six
    // candidates that a hundred clusters get.
    all.extend(kmeans::functions().into_iter().map(|f| {
        let threads = if f.entry == "choose" { 6 * 32 } else { u32::MAX };
        (f, threads)
    }));
    all.retain(|(function, _)| matches!(function.source, Source::File(_)));
    all.sort_by_cached_key(|(function, threads)| (name(function), u32::MAX - threads));
    all.dedup_by(|later, first| later.0 == first.0);
    all
}

/// The elementwise expressions of all plans, each once, in one source.
pub struct Expressions {
    codes: Vec<Expression>,
    pub source: Source,
}

impl Expressions {
    pub fn of<'a>(plans: impl Iterator<Item = &'a Plan>) -> Self {
        let mut codes: Vec<Expression> = Vec::new();
        for step in plans.flat_map(|plan| &plan.steps) {
            if let Kernel::Pointwise(expression) = &step.kernel {
                let new = pointwise::canonical(expression);
                if !codes.iter().any(|known| known.code == new.code) {
                    codes.push(new);
                }
            }
        }
        let source = pointwise::source(&codes.iter().collect::<Vec<_>>());
        Expressions { codes, source }
    }

    /// The launch of a task of a plan, with its function from here; `None` if it is not an elementwise one.
    pub fn launch(&self, plan: &Plan, task: &Task) -> Option<Launch> {
        if !task.launches[0].function.entry.starts_with("expression") {
            return None;
        }
        let Kernel::Pointwise(expression) = &plan.steps[task.steps[0]].kernel else { return None };
        let code = pointwise::canonical(expression).code;
        let number = self.codes.iter().position(|known| known.code == code)?;
        let mut launch = task.launches[0].clone();
        let kind = launch.function.entry.trim_end_matches(|c: char| c.is_ascii_digit()).to_string();
        launch.function.source = self.source.clone();
        launch.function.entry = format!("{kind}{number}").into();
        Some(launch)
    }

    pub fn unit(&self) -> Unit {
        Unit { source: self.source.clone(), defines: Vec::new() }
    }
}
