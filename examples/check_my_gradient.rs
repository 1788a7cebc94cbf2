//! Derivatives of a function of your own, checked as the tests of this crate check every operation.
//!
//! `cargo run --example check_my_gradient`

use tessera::Result;
use tessera::device::Cpu;
use tessera::ops::example::real;
use tessera::tape::gradcheck::{Point, second_order, transpose, vjp_against_differences};
use tessera::tape::{Tape, Var};

/// A small attention-like layer: softmax(q kᵀ) v.
fn layer(t: &mut Tape, operands: &[Var]) -> Var {
    let scores = t.matmul(operands[0], operands[1], false, true);
    let logarithm = t.log_softmax(scores);
    let weights = t.exp(logarithm);
    t.matmul(weights, operands[2], false, false)
}

fn main() -> Result<()> {
    let point = Point::draw(&[real([4, 3]), real([5, 3]), real([5, 2])], 1);
    let mut device = Cpu::<f64>::default();
    println!("adjoint against differences: {:.1e}", vjp_against_differences(&mut device, &layer, &point)?);
    println!("tangent against adjoint:     {:.1e}", transpose(&mut device, &layer, &point)?);
    let [reverse, forward, each_other] = second_order(&mut device, &layer, &point)?;
    println!("second order, reverse over reverse against differences: {reverse:.1e}");
    println!("second order, forward over reverse against differences: {forward:.1e}");
    println!("the two against each other:                             {each_other:.1e}");
    Ok(())
}
