//! Modifiers that change nothing here: cache operators, eviction priorities, orders and scopes of memory.

use crate::gpu::{gpu, shape};

/// Copies a word with each of the forms in turn, through shared memory where the form says so.
#[test]
fn of_loads_and_stores() {
    let Some(gpu) = gpu() else { return };
    let evictions =
        ["L1::evict_normal", "L1::evict_unchanged", "L1::evict_first", "L1::evict_last", "L1::no_allocate"];
    let orders = ["relaxed.cta", "relaxed.gpu", "relaxed.sys", "weak", "volatile"];
    let loads = ["ca", "cg", "cs", "lu", "cv", "nc", "acquire.gpu", "L2::64B", "L2::128B", "L2::256B"];
    let stores = ["wb", "cg", "cs", "wt", "release.gpu"];
    let (mut body, mut count) = (String::new(), 0);
    let mut add = |text: String| {
        body += &text.replace("OUT", &format!("&out[{count} * 32 + t]"));
        count += 1;
    };
    for hint in evictions.iter().chain(&orders).chain(&loads) {
        let form = if *hint == "volatile" { "volatile.global".into() } else { format!("global.{hint}") };
        let form = match hint.split_once('.') {
            Some((order, scope)) => format!("{order}.{scope}.global"),
            None => form,
        };
        add(format!("asm volatile(\"ld.{form}.u64 %0, [%1];\" : \"=l\"(x) : \"l\"(&in[t])); *(OUT) = x;\n"));
    }
    for hint in evictions.iter().chain(&orders).chain(&stores) {
        let form = match hint.split_once('.') {
            Some((order, scope)) => format!("{order}.{scope}.global"),
            None if *hint == "volatile" => "volatile.global".into(),
            None => format!("global.{hint}"),
        };
        add(format!("asm volatile(\"st.{form}.u64 [%0], %1;\" :: \"l\"(OUT), \"l\"(in[t]));\n"));
    }
    add("asm volatile(\"ld.global.L2::cache_hint.u64 %0, [%1], %2;\" : \"=l\"(x) : \"l\"(&in[t]), \"l\"(0ull)); \
         *(OUT) = x;\n"
        .into());
    add("asm volatile(\"st.global.L2::cache_hint.u64 [%0], %1, %2;\" :: \"l\"(OUT), \"l\"(in[t]), \"l\"(0ull));\n".into());
    add("asm volatile(\"st.shared::cta.u64 [%1], %2; ld.shared::cta.u64 %0, [%1];\" : \"=l\"(x) \
         : \"r\"(shared), \"l\"(in[t])); *(OUT) = x;\n"
        .into());
    let source = format!(
        "extern \"C\" __global__ void k(const unsigned long long *in, unsigned long long *out) {{\n\
         __shared__ unsigned long long s[32]; int t = threadIdx.x; unsigned long long x;\n\
         unsigned shared = (unsigned)__cvta_generic_to_shared(&s[t]);\n\
         asm volatile(\"prefetch.global.L1 [%0]; prefetch.global.L2 [%0];\" :: \"l\"(&in[t]));\n\
         asm volatile(\"fence.sc.cta; fence.acq_rel.gpu; fence.acq_rel.sys; membar.cta; membar.gl; membar.sys;\");\n\
         __nanosleep(10);\n{body}}}\n"
    );
    let input: Vec<u64> = (0..32).map(|t| t << 33 | 5).collect();
    let out = gpu.run(&source, &input, 32 * count, shape(1, 32));
    for (at, found) in out.iter().enumerate() {
        assert_eq!(*found, input[at % 32], "form {}", at / 32);
    }
}

#[test]
fn of_asynchronous_copies() {
    let Some(gpu) = gpu() else { return };
    let forms = [
        "cp.async.ca.shared.global [%0], [%1], 8;",
        "cp.async.ca.shared::cta.global.L2::64B [%0], [%1], 8;",
        "cp.async.ca.shared.global.L2::128B [%0], [%1], 8;",
        "cp.async.ca.shared.global.L2::256B [%0], [%1], 8;",
    ];
    for form in forms {
        let source = format!(
            "extern \"C\" __global__ void k(const unsigned long long *in, unsigned long long *out) {{\n\
             __shared__ unsigned long long s[32]; int t = threadIdx.x;\n\
             unsigned to = (unsigned)__cvta_generic_to_shared(&s[t]);\n\
             asm volatile(\"{form} cp.async.wait_all;\" :: \"r\"(to), \"l\"(&in[t])); out[t] = s[t]; }}\n"
        );
        let input: Vec<u64> = (0..32).map(|t| t << 33 | 5).collect();
        assert_eq!(gpu.run(&source, &input, 32, shape(1, 32)), input, "{form}");
    }
}
