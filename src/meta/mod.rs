//! The meta-gradient: inner steps on one task, the outer loss of the main task at the point they
//! reach, and its exact derivative at the point they started from.

pub mod gradient;
pub mod rules;

pub use gradient::{
    Gradient, Hessian, Inner, Order, Problem, Trajectory, inner_steps, meta_gradient, outer_gradient,
};
pub use rules::{RULES, Rule};
