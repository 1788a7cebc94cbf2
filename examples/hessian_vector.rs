//! A function of your own on the tape: its gradient, and a Hessian–vector product in two ways that must
//! agree, forward over reverse and reverse over reverse.
//!
//! `cargo run --example hessian_vector`

use tessera::Result;
use tessera::device::{Cpu, HostSlice, Session};
use tessera::tape::Tape;

fn main() -> Result<()> {
    let mut t = Tape::new();
    let x = t.input("x", [3]);
    let v = t.input("v", [3]);

    // f(x) = Σ tanh(x)² · exp(x / 2)
    let tanh = t.tanh(x);
    let square = t.mul(tanh, tanh);
    let half = t.scale(x, 0.5);
    let exp = t.exp(half);
    let terms = t.mul(square, exp);
    let f = t.sum(terms);

    let gradient = t.reverse(f, None, &[x])[0];
    // d/dε ∇f(x + εv): the tangent of the gradient program.
    let forward = t.tangent(&[(x, v)], &[gradient])[0].unwrap_or(gradient);
    // ∇⟨∇f(x), v⟩: the adjoint of the gradient program.
    let along = t.mul(gradient, v);
    let along = t.sum(along);
    let reverse = t.reverse(along, None, &[x])[0];
    for (name, var) in [("f", f), ("gradient", gradient), ("forward", forward), ("reverse", reverse)] {
        t.output(name, var);
    }

    println!("{t}");
    let mut session = Session::new(Box::new(Cpu::<f64>::default()));
    let program = session.prepare(&t)?;
    let bound = session.bind(program, str::to_string)?;
    session.write("x", HostSlice::F64(&[0.3, -1.2, 2.0]))?;
    session.write("v", HostSlice::F64(&[1.0, 0.5, -0.25]))?;
    session.run(&bound)?;
    println!("{}", session.plan(&bound));
    for (name, len) in [("f", 1), ("gradient", 3), ("forward", 3), ("reverse", 3)] {
        println!("{name:>9}: {:?}", session.output_f64(&bound, name, len)?);
    }
    Ok(())
}
