//! The meta-gradient of given parameters on given batches, from file to file: to check this program
//! against any framework, or any framework against this program.

use std::path::Path;

use crate::device::{self, Choice, Cpu, Device, HostSlice, Session, Target};
use crate::error::{Error, Result};
use crate::meta::{Gradient, Hessian, Inner, Order, Problem, Rule, meta_gradient};
use crate::nn::{Architecture, Net, Parameter, net};
use crate::tape::{Kind, Tape, Var};
use crate::tensor::{DType, Entry, Shape, TensorFile, write_tensors};

/// What is asked for.
#[derive(Clone, Debug)]
pub struct Request<'a> {
    pub net: &'a str,
    pub rule: Rule,
    pub hessian: Hessian,
    /// Also differentiate the main decoder's own inner steps, if the inner task is the main task.
    pub through: bool,
    /// Compute in f64 instead of f32.
    pub double: bool,
    /// Where to compute; double precision is for the CPU.
    pub device: Choice,
}

/// What the file says besides the gradients.
#[derive(Clone, Copy, Debug, serde::Serialize)]
pub struct Losses {
    pub inner_loss: f64,
    pub outer_loss: f64,
    pub task: usize,
    pub inner_steps: usize,
    pub alpha: f64,
}

/// Images `[N, C, H, W]` and labels `[N]` of a batch.
struct Batch {
    count: usize,
    shape: [usize; 3],
    pixels: Vec<f64>,
    labels: Vec<u32>,
}

impl Batch {
    fn read(file: &TensorFile, which: &str) -> Result<Self> {
        let [images, labels] = ["images", "labels"].map(|what| format!("{which}_{what}"));
        let shape = file.shape(&images)?;
        let &[count, c, h, w] = shape.dims() else {
            return Err(file.wrong(&images, "shape [N, C, H, W]", shape.to_string()));
        };
        let (stored, names) = (file.to_f64(&images)?, file.to_u32(&labels)?);
        if names.len() != count || count == 0 {
            let expected = format!("{count} labels, one for each image, at least one");
            return Err(file.wrong(&labels, expected, names.len().to_string()));
        }
        if let Some(i) = stored.iter().position(|v| !v.is_finite()) {
            return Err(file.wrong(&images, "finite numbers", format!("{} at element {i}", stored[i])));
        }
        let mut pixels = vec![0.0; stored.len()];
        for (i, &value) in stored.iter().enumerate() {
            let (n, channel, place) = (i / (c * h * w), i / (h * w) % c, i % (h * w));
            pixels[(n * h * w + place) * c + channel] = value;
        }
        Ok(Batch { count, shape: [h, w, c], pixels, labels: names })
    }

    fn check_labels(&self, file: &TensorFile, which: &str, classes: usize) -> Result<()> {
        match self.labels.iter().position(|&l| l as usize >= classes) {
            None => Ok(()),
            Some(i) => {
                let expected = format!("labels below {classes}, the rows of the decoder");
                let found = format!("{} at image {i}", self.labels[i]);
                Err(file.wrong(&format!("{which}_labels"), expected, found))
            }
        }
    }
}

/// Classes of the decoder of a task.
fn classes(parameters: &TensorFile, task: usize) -> Result<usize> {
    let name = format!("decoder.{task}.weight");
    let shape = parameters.shape(&name)?;
    match shape.dims() {
        &[classes, _] if classes > 0 => Ok(classes),
        _ => Err(parameters.wrong(&name, "shape [L, d]", shape.to_string())),
    }
}

struct Leaves {
    session: Session,
    tape: Tape,
    values: Vec<(String, Vec<f64>)>,
    labels: Vec<(String, Vec<u32>)>,
}

impl Leaves {
    fn real(&mut self, name: &str, shape: Shape, values: Vec<f64>) -> Var {
        self.values.push((name.to_string(), values));
        self.tape.input(name, shape)
    }

    fn parameters(&mut self, file: &TensorFile, all: &[Parameter]) -> Result<Vec<Var>> {
        let mut vars = Vec::new();
        for p in all {
            let (found, expected) = (file.shape(&p.name)?, p.file_shape());
            if found != expected {
                return Err(file.wrong(&p.name, format!("shape {expected}"), found.to_string()));
            }
            let values = p.from_file(&file.to_f64(&p.name)?);
            vars.push(self.real(&p.name, p.shape, values));
        }
        Ok(vars)
    }

    fn batch(&mut self, which: &str, batch: &Batch) -> (Var, Var) {
        let [h, w, c] = batch.shape;
        let shape = Shape::new(&[batch.count, h, w, c]);
        let images = self.real(&format!("{which}_images"), shape, batch.pixels.clone());
        let name = format!("{which}_labels");
        let labels = self.tape.leaf(&name, Kind::U32, [batch.count]);
        self.labels.push((name, batch.labels.clone()));
        (images, labels)
    }
}

/// Reads parameters and batches, writes gradients: the meta-gradient of the shared layers and the gradient
/// of the outer loss in the main decoder under their own names; under `inner.NAME` the gradient of the
/// inner loss in the shared layers at the start, and the sum over the inner steps of that in the decoder of
/// the inner task; `inner_loss` and `outer_loss`.
pub fn compute(request: &Request<'_>, parameters: &Path, batch: &Path, out: &Path) -> Result<Losses> {
    let (parameters, batches) = (TensorFile::open(parameters)?, TensorFile::open(batch)?);
    let whole = |name: &str, least: f64| {
        let value = batches.to_scalar(name)?;
        let fits = value.fract() == 0.0 && (least..=1e6).contains(&value);
        let expected = || format!("a whole number from {least} to 1000000");
        if fits { Ok(value as usize) } else { Err(batches.wrong(name, expected(), value.to_string())) }
    };
    let (task, steps) = (whole("task", 0.0)?, whole("inner_steps", 1.0)?);
    let alpha = batches.to_scalar("alpha")?;
    if !alpha.is_finite() || alpha < 0.0 {
        return Err(batches.wrong("alpha", "a number of at least 0", alpha.to_string()));
    }
    let (inner, outer) = (Batch::read(&batches, "inner")?, Batch::read(&batches, "outer")?);
    if inner.shape != outer.shape {
        let found = format!("height, width, channels {:?}", outer.shape);
        return Err(batches.wrong(
            "outer_images",
            format!("the sizes of inner_images {:?}", inner.shape),
            found,
        ));
    }
    let net = Net::new(Architecture::named(request.net)?, inner.shape)?;
    let main_classes = classes(&parameters, 0)?;
    let task_classes = classes(&parameters, task)?;
    inner.check_labels(&batches, "inner", task_classes)?;
    outer.check_labels(&batches, "outer", main_classes)?;

    let device: Box<dyn Device> = match (request.double, request.device.target) {
        (false, _) => device::open(&request.device)?,
        (true, Target::Auto | Target::Cpu) => Box::new(Cpu::<f64>::default()),
        (true, Target::Cuda(_)) => {
            return Err(Error::Device(
                "CUDA devices compute in single precision; double precision needs --device cpu".into(),
            ));
        }
    };
    let mut l =
        Leaves { session: Session::new(device), tape: Tape::new(), values: Vec::new(), labels: Vec::new() };
    let shared = net.parameters();
    let (main, auxiliary) = (net.decoder(0, main_classes), net.decoder(task, task_classes));
    let theta = l.parameters(&parameters, &shared)?;
    let main_leaves = l.parameters(&parameters, &main)?;
    let phi = if task == 0 { main_leaves.clone() } else { l.parameters(&parameters, &auxiliary)? };
    let rate = l.real("alpha", Shape::SCALAR, vec![alpha]);
    let (inner_batch, outer_batch) = (l.batch("inner", &inner), l.batch("outer", &outer));
    let inner_loss =
        move |t: &mut Tape, theta: &[Var], phi: &[Var]| net::loss(t, net, inner_batch, theta, phi);
    let outer_loss =
        move |t: &mut Tape, theta: &[Var], phi: &[Var]| net::loss(t, net, outer_batch, theta, phi);
    let problem = Problem {
        theta: &theta,
        phi: &phi,
        main: (task != 0).then_some(&main_leaves[..]),
        inner_loss: &inner_loss,
        outer_loss: &outer_loss,
    };
    // The released program's inner steps; all other rules take plain ones.
    let (momentum, weight_decay, clip) =
        if request.rule.two_steps { (0.9, 5e-4, 5.0) } else { (0.0, 0.0, 0.0) };
    let steps_of = Inner { steps, alpha: rate, momentum, weight_decay, clip };
    let order = if request.rule.two_steps { Order::First } else { request.rule.order };
    let g = meta_gradient(&mut l.tape, &problem, steps_of, order, request.hessian, request.through);
    let outputs = named(&g, &shared, &main, &auxiliary);
    for (name, _, var) in &outputs {
        l.tape.output(name.clone(), *var);
    }
    l.tape.output("inner_loss", g.inner_loss);
    l.tape.output("outer_loss", g.outer_loss);
    let (results, [inner_loss, outer_loss]) = run(&mut l, &outputs)?;
    write(out, request, &outputs, &results, [inner_loss, outer_loss])?;
    Ok(Losses { inner_loss, outer_loss, task, inner_steps: steps, alpha })
}

/// Each gradient's name, the parameter whose layout it has, and its value.
fn named<'p>(
    g: &Gradient,
    shared: &'p [Parameter],
    main: &'p [Parameter],
    auxiliary: &'p [Parameter],
) -> Vec<(String, &'p Parameter, Var)> {
    let own = shared.iter().chain(main).zip(g.meta.iter().chain(&g.outer_decoder));
    let inner = shared.iter().chain(auxiliary).zip(g.inner_theta.iter().chain(&g.inner_decoder));
    let own = own.map(|(p, &v)| (p.name.clone(), p, v));
    own.chain(inner.map(|(p, &v)| (format!("inner.{}", p.name), p, v))).collect()
}

type Results = Vec<Vec<f64>>;

fn run(l: &mut Leaves, outputs: &[(String, &Parameter, Var)]) -> Result<(Results, [f64; 2])> {
    let program = l.session.prepare(&l.tape)?;
    let bound = l.session.bind(program, str::to_string)?;
    for (name, values) in &l.values {
        l.session.write(name, HostSlice::F64(values))?;
    }
    for (name, labels) in &l.labels {
        l.session.write(name, HostSlice::U32(labels))?;
    }
    l.session.run(&bound)?;
    let read = |(name, p, _): &(String, &Parameter, Var)| l.session.output_f64(&bound, name, p.len());
    let results = outputs.iter().map(read).collect::<Result<Results>>()?;
    let loss = |name: &str| Ok(l.session.output_f64(&bound, name, 1)?[0]);
    let losses = [loss("inner_loss")?, loss("outer_loss")?];
    if losses.iter().chain(results.iter().flatten()).any(|v| !v.is_finite()) {
        return Err(Error::Diverged("the gradient has values that are not finite".into()));
    }
    Ok((results, losses))
}

fn write(
    out: &Path,
    request: &Request<'_>,
    outputs: &[(String, &Parameter, Var)],
    results: &Results,
    losses: [f64; 2],
) -> Result<()> {
    let metadata = [
        ("format", "tessera-gradient-1".to_string()),
        ("net", request.net.to_string()),
        ("rule", request.rule.name.to_string()),
        ("version", env!("CARGO_PKG_VERSION").to_string()),
    ];
    let pairs = outputs.iter().zip(results);
    let stored: Vec<(String, Shape, Vec<f64>)> =
        pairs.map(|((name, p, _), values)| (name.clone(), p.file_shape(), p.to_file(values))).collect();
    let scalars = [("inner_loss", [losses[0]]), ("outer_loss", [losses[1]])];
    if request.double {
        let mut entries: Vec<Entry<'_>> =
            stored.iter().map(|(n, s, v)| Entry::new(n.clone(), DType::F64, *s, v)).collect();
        entries.extend(scalars.iter().map(|(n, v)| Entry::new(*n, DType::F64, Shape::SCALAR, v)));
        return write_tensors(out, &entries, &metadata);
    }
    let single = |values: &[f64]| values.iter().map(|&v| v as f32).collect::<Vec<f32>>();
    let narrow: Vec<Vec<f32>> = stored.iter().map(|(_, _, v)| single(v)).collect();
    let narrow_scalars = scalars.map(|(n, v)| (n, single(&v)));
    let pairs = stored.iter().zip(&narrow);
    let mut entries: Vec<Entry<'_>> =
        pairs.map(|((n, s, _), v)| Entry::new(n.clone(), DType::F32, *s, v)).collect();
    entries.extend(narrow_scalars.iter().map(|(n, v)| Entry::new(*n, DType::F32, Shape::SCALAR, v)));
    write_tensors(out, &entries, &metadata)
}
