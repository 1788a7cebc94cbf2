//! setp and set with every comparison of every type, joined with predicates; selp, slct, testp.

use crate::forms::Kind::{self, *};
use crate::forms::{Case, case, check};
use crate::gpu::gpu;
use cuda::half::{bf16_to_f32, f16_to_f32};
use std::cmp::Ordering::{self, *};

fn f(x: u64) -> f32 {
    f32::from_bits(x as u32)
}

type Compare = fn(u64, u64) -> Option<Ordering>;

const FLOATS: [(&str, Kind, Compare); 4] = [
    ("f32", F, |x, y| f(x).partial_cmp(&f(y))),
    ("f64", G, |x, y| f64::from_bits(x).partial_cmp(&f64::from_bits(y))),
    ("f16", X, |x, y| f16_to_f32(x as u32).partial_cmp(&f16_to_f32(y as u32))),
    ("bf16", X, |x, y| bf16_to_f32(x as u32).partial_cmp(&bf16_to_f32(y as u32))),
];

const INTEGERS: [(&str, Kind, Compare); 8] = [
    ("s16", H, |x, y| Some((x as i16).cmp(&(y as i16)))),
    ("u16", H, |x, y| Some((x as u16).cmp(&(y as u16)))),
    ("s32", W, |x, y| Some((x as i32).cmp(&(y as i32)))),
    ("u32", W, |x, y| Some((x as u32).cmp(&(y as u32)))),
    ("b32", W, |x, y| Some((x as u32).cmp(&(y as u32)))),
    ("s64", D, |x, y| Some((x as i64).cmp(&(y as i64)))),
    ("u64", D, |x, y| Some(x.cmp(&y))),
    ("b64", D, |x, y| Some(x.cmp(&y))),
];

/// What a comparison says of an order; numbers and NaN have none.
fn holds(name: &str, order: Option<Ordering>) -> bool {
    match name {
        "eq" => order == Some(Equal),
        "ne" => matches!(order, Some(Less | Greater)),
        "lt" | "lo" => order == Some(Less),
        "le" | "ls" => matches!(order, Some(Less | Equal)),
        "gt" | "hi" => order == Some(Greater),
        "ge" | "hs" => matches!(order, Some(Greater | Equal)),
        "equ" => order.is_none_or(|order| order == Equal),
        "neu" => order != Some(Equal),
        "ltu" => order.is_none_or(|order| order == Less),
        "leu" => order.is_none_or(|order| order != Greater),
        "gtu" => order.is_none_or(|order| order == Greater),
        "geu" => order.is_none_or(|order| order != Less),
        "num" => order.is_some(),
        "nan" => order.is_none(),
        _ => unreachable!("{name}"),
    }
}

const OF_ALL: [&str; 6] = ["eq", "ne", "lt", "le", "gt", "ge"];
const OF_FLOATS: [&str; 8] = ["equ", "neu", "ltu", "leu", "gtu", "geu", "num", "nan"];
const OF_UNSIGNED: [&str; 4] = ["lo", "ls", "hi", "hs"];

fn all(mut add: impl FnMut(&'static str, &'static str, Kind, Compare)) {
    for (ty, kind, compare) in FLOATS {
        for name in OF_ALL.into_iter().chain(OF_FLOATS) {
            add(name, ty, kind, compare);
        }
    }
    for (ty, kind, compare) in INTEGERS {
        let names = if ty.starts_with('b') { &OF_ALL[..2] } else { &OF_ALL[..] };
        for &name in names {
            add(name, ty, kind, compare);
        }
        if ty.starts_with('u') {
            for name in OF_UNSIGNED {
                add(name, ty, kind, compare);
            }
        }
    }
}

#[test]
fn setp() {
    let Some(gpu) = gpu() else { return };
    let mut cases: Vec<Case> = Vec::new();
    all(|name, ty, kind, compare| {
        let text = format!("{{ .reg .pred p; setp.{name}.{ty} p, %1, %2; selp.u32 %0, 1, 0, p; }}");
        cases.push(case(text, W, &[kind, kind], move |x, y, _| holds(name, compare(x, y)) as u64));
    });
    for (join, joined) in
        [("and", (|a, b| a & b) as fn(bool, bool) -> bool), ("or", |a, b| a | b), ("xor", |a, b| a ^ b)]
    {
        for sign in ["", "!"] {
            let text = format!(
                "{{ .reg .pred p, q, r; setp.gt.u32 r, %3, 100; setp.lt.{join}.ftz.f32 p|q, %1, %2, {sign}r; \
                 selp.u32 %0, 1, 0, p; @q add.u32 %0, %0, 2; }}"
            );
            cases.push(case(text, W, &[F, F, W], move |x, y, z| {
                let (is_less, other) = (f(x) < f(y), (z > 100) != (sign == "!"));
                joined(is_less, other) as u64 + 2 * joined(!is_less, other) as u64
            }));
        }
    }
    check(&gpu, &cases);
}

#[test]
fn set() {
    let Some(gpu) = gpu() else { return };
    let mut cases: Vec<Case> = Vec::new();
    all(|name, ty, kind, compare| {
        let whole = format!("set.{name}.u32.{ty} %0, %1, %2;");
        let truth = move |x, y| holds(name, compare(x, y));
        cases.push(case(whole, W, &[kind, kind], move |x, y, _| if truth(x, y) { 0xffff_ffff } else { 0 }));
        let one = format!("set.{name}.f32.{ty} %0, %1, %2;");
        cases.push(case(one, F, &[kind, kind], move |x, y, _| (truth(x, y) as u8 as f32).to_bits() as u64));
    });
    for (join, joined) in
        [("and", (|a, b| a & b) as fn(bool, bool) -> bool), ("or", |a, b| a | b), ("xor", |a, b| a ^ b)]
    {
        let text =
            format!("{{ .reg .pred r; setp.gt.u32 r, %3, 100; set.lt.{join}.ftz.s32.f32 %0, %1, %2, r; }}");
        cases.push(case(
            text,
            W,
            &[F, F, W],
            move |x, y, z| {
                if joined(f(x) < f(y), z > 100) { 0xffff_ffff } else { 0 }
            },
        ));
    }
    check(&gpu, &cases);
}

#[test]
fn choices() {
    let Some(gpu) = gpu() else { return };
    let pick = |first: bool, x, y| if first { x } else { y };
    let mut cases = vec![
        case("slct.u32.s32 %0, %1, %2, %3;", W, &[W, W, W], move |x, y, z| pick(z as i32 >= 0, x, y)),
        case("slct.f32.s32 %0, %1, %2, %3;", F, &[F, F, W], move |x, y, z| pick(z as i32 >= 0, x, y)),
        case("slct.b64.s32 %0, %1, %2, %3;", D, &[D, D, W], move |x, y, z| pick(z as i32 >= 0, x, y)),
        case("slct.u32.f32 %0, %1, %2, %3;", W, &[W, W, F], move |x, y, z| pick(f(z) >= 0.0, x, y)),
        case("slct.ftz.f64.f32 %0, %1, %2, %3;", G, &[G, G, F], move |x, y, z| pick(f(z) >= 0.0, x, y)),
    ];
    for (ty, kind) in [("b16", H), ("u32", W), ("f32", F), ("b64", D), ("f64", G)] {
        let text = format!("{{ .reg .pred p; setp.gt.u32 p, %3, 100; selp.{ty} %0, %1, %2, p; }}");
        cases.push(case(text, kind, &[kind, kind, W], move |x, y, z| pick(z > 100, x, y)));
    }
    type Test = (&'static str, fn(f64) -> bool, fn(f32) -> bool);
    let tests: [Test; 6] = [
        ("finite", f64::is_finite, f32::is_finite),
        ("infinite", f64::is_infinite, f32::is_infinite),
        ("number", |x| !x.is_nan(), |x| !x.is_nan()),
        ("notanumber", f64::is_nan, f32::is_nan),
        ("normal", f64::is_normal, f32::is_normal),
        ("subnormal", f64::is_subnormal, f32::is_subnormal),
    ];
    for (name, of_double, of_single) in tests {
        let text = |ty| format!("{{ .reg .pred p; testp.{name}.{ty} p, %1; selp.u32 %0, 1, 0, p; }}");
        cases.push(case(text("f32"), W, &[F], move |x, _, _| of_single(f(x)) as u64));
        cases.push(case(text("f64"), W, &[G], move |x, _, _| of_double(f64::from_bits(x)) as u64));
    }
    check(&gpu, &cases);
}
