//! Matrix products: `kernels/gemm.cu`.

use super::launch::{Argument, Launch, Precision};
use super::tile::{Along, Cut, Finish, Operand, Product};

fn cut(m: usize, n: usize, k: usize, transpose_a: bool, transpose_b: bool, precision: Precision) -> Cut {
    let a = if transpose_a { Operand::new(Along::Lines, m) } else { Operand::new(Along::Terms, k) };
    let b = if transpose_b { Operand::new(Along::Terms, k) } else { Operand::new(Along::Lines, n) };
    Product { rows: m, columns: n, terms: k, sources: 1, a, b, precision }.cut()
}

/// Real elements of scratch memory that [`launches`] use.
pub fn workspace(
    m: usize,
    n: usize,
    k: usize,
    transpose_a: bool,
    transpose_b: bool,
    precision: Precision,
) -> usize {
    cut(m, n, k, transpose_a, transpose_b, precision).workspace()
}

/// `C [m, n] = A · B`. A is `[m, k]`, or `[k, m]` if transposed; B is `[k, n]`, or `[n, k]`. Operands have
/// fewer than 2³¹ elements each.
pub fn launches(
    m: usize,
    n: usize,
    k: usize,
    transpose_a: bool,
    transpose_b: bool,
    precision: Precision,
) -> Vec<Launch> {
    if m * n == 0 {
        return Vec::new();
    }
    let cut = cut(m, n, k, transpose_a, transpose_b, precision);
    let size = |value: usize| Argument::U32(value as u32);
    let arguments = vec![
        size(m),
        size(n),
        size(k),
        Argument::Read(0),
        Argument::Read(1),
        Argument::Write(0),
        cut.parts(),
    ];
    let variant = [("TRANSPOSE_A", usize::from(transpose_a)), ("TRANSPOSE_B", usize::from(transpose_b))];
    let mut all = vec![cut.launch("gemm", "gemm", &variant, arguments)];
    all.extend(cut.finish(&Finish::default()));
    all
}
