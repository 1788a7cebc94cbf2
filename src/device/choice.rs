//! Which device the user wants, and how it comes to be.

use std::fmt;
use std::str::FromStr;

use super::{Cpu, Cuda, CudaOptions, Device, Precision};
use crate::error::Result;

/// Where to compute.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Target {
    /// On the first CUDA device if one can be had, else on the CPU.
    #[default]
    Auto,
    Cpu,
    /// On the CUDA device of this number.
    Cuda(usize),
}

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Target::Auto),
            "cpu" => Ok(Target::Cpu),
            "cuda" => Ok(Target::Cuda(0)),
            _ => {
                let number = text.strip_prefix("cuda:").and_then(|n| n.parse().ok());
                number.map(Target::Cuda).ok_or_else(|| format!("'{text}' is not auto, cpu, cuda or cuda:N"))
            }
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Target::Auto => write!(f, "auto"),
            Target::Cpu => write!(f, "cpu"),
            Target::Cuda(n) => write!(f, "cuda:{n}"),
        }
    }
}

/// Where and how to compute.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Choice {
    pub target: Target,
    /// Of products on CUDA devices; the CPU computes in single precision.
    pub precision: Precision,
}

impl Choice {
    /// The CPU, whatever else there is.
    pub const CPU: Choice = Choice { target: Target::Cpu, precision: Precision::F32 };
}

/// Makes the chosen device; it computes in single precision.
pub fn open(choice: &Choice) -> Result<Box<dyn Device>> {
    let cuda =
        |ordinal| Cuda::open(CudaOptions { ordinal, precision: choice.precision, ..CudaOptions::default() });
    match choice.target {
        Target::Cpu => Ok(Box::new(Cpu::<f32>::default())),
        Target::Cuda(ordinal) => Ok(Box::new(cuda(ordinal)?)),
        Target::Auto => match cuda(0) {
            Ok(device) => Ok(Box::new(device)),
            Err(_) => Ok(Box::new(Cpu::<f32>::default())),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_read_as_they_are_written() {
        for place in [Target::Auto, Target::Cpu, Target::Cuda(0), Target::Cuda(3)] {
            assert_eq!(place.to_string().parse(), Ok(place));
        }
        assert_eq!("cuda".parse(), Ok(Target::Cuda(0)));
        for wrong in ["gpu", "cuda:", "cuda:-1", "cuda:x", ""] {
            assert!(wrong.parse::<Target>().unwrap_err().contains("cuda:N"), "{wrong}");
        }
    }
}
