//! Loads and stores of every width and space, structures as parameters, asynchronous copies.

use crate::gpu::{gpu, shape};
use cudarc::driver::{DeviceRepr, PushKernelArg};

const WIDTHS: &str = r#"
__constant__ int table[4] = { 10, -20, 30, -40 };
__device__ float scale = 1.5f;
__device__ int *pointer_to_table;
extern "C" __global__ void k(const unsigned long long *in, unsigned long long *out) {
    __shared__ __align__(16) unsigned char bytes[512];
    int t = threadIdx.x, n = blockDim.x;
    bytes[4 * t] = in[t]; bytes[4 * t + 1] = in[t] >> 8;
    *(unsigned short *)&bytes[4 * t + 2] = in[t] >> 16;
    __syncthreads();
    out[t] = *(signed char *)&bytes[4 * t];
    out[n + t] = bytes[4 * t + 1];
    out[2 * n + t] = *(short *)&bytes[4 * t + 2];
    out[3 * n + t] = *(unsigned short *)&bytes[4 * t];
    int4 four = *(int4 *)&bytes[16 * (t / 4)];
    out[4 * n + t] = (unsigned)four.x + (unsigned long long)(unsigned)four.w;
    ulonglong2 two = *(const ulonglong2 *)&in[t & ~1];
    *(ulonglong2 *)&out[5 * n + (t & ~1)] = make_ulonglong2(two.y, two.x);
    out[6 * n + t] = table[t % 4] * scale;
    int local[8];
    for (int i = 0; i < 8; i++) local[i] = i * t;
    local[in[t] % 8] += 1000;
    int sum = 0;
    for (int i = 0; i < 8; i++) sum += local[(i + t) % 8];
    out[7 * n + t] = sum + (local[in[t] % 8] >= 1000);
    const unsigned char *generic = t % 2 ? (const unsigned char *)&in[t] : &bytes[4 * t];
    out[8 * n + t] = *generic;
    out[9 * n + t] = __ldg(&in[t]);
    volatile unsigned long long *v = &out[10 * n + t];
    *v = in[t];
    *v = *v + 1;
}
"#;

#[test]
fn every_width_and_space() {
    let Some(gpu) = gpu() else { return };
    const N: usize = 64;
    let input: Vec<u64> = (0..N as u64).map(|t| t.wrapping_mul(0x9e37_79b9_7f4a_7c15)).collect();
    let out = gpu.run(WIDTHS, &input, 11 * N, shape(1, N as u32));
    for t in 0..N {
        let x = input[t];
        let word = |t: usize| input[t] as u32;
        let table = [10, -20, 30, -40][t % 4] as f32 * 1.5;
        let local: i64 = (0..8).map(|i| i * t as i64).sum::<i64>() + 1000 + 1;
        let wanted = [
            x as i8 as i64 as u64,
            x >> 8 & 255,
            (x >> 16) as i16 as i64 as u64,
            x & 0xffff,
            word(t / 4 * 4) as u64 + word(t / 4 * 4 + 3) as u64,
            input[t ^ 1],
            table as i64 as u64,
            local as u64,
            x & 255,
            x,
            x.wrapping_add(1),
        ];
        for (row, wanted) in wanted.into_iter().enumerate() {
            if row == 6 && table < 0.0 {
                continue; // A negative float as an unsigned integer is not defined in C.
            }
            assert_eq!(out[row * N + t], wanted, "row {row}, thread {t}");
        }
    }
}

#[repr(C)]
#[derive(Clone, Copy)]
struct Shape {
    byte: u8,
    wide: u64,
    list: [i32; 5],
}

// SAFETY: plain data, laid out as the kernel's structure.
unsafe impl DeviceRepr for Shape {}

#[test]
fn structures_are_parameters() {
    let Some(gpu) = gpu() else { return };
    let source = r#"
        struct Shape { unsigned char byte; unsigned long long wide; int list[5]; };
        extern "C" __global__ void k(const __grid_constant__ Shape s, short small, int *out) {
            out[threadIdx.x] = s.list[threadIdx.x % 5] + s.byte + (int)(s.wide >> 40) + small;
        }"#;
    let function = gpu.function(source, "k");
    let shape_ = Shape { byte: 7, wide: 9 << 40, list: [1, -2, 3, -4, 5] };
    let mut out = gpu.stream.alloc_zeros::<i32>(32).unwrap();
    // SAFETY: the kernel's three parameters.
    unsafe {
        gpu.stream.launch_builder(&function).arg(&shape_).arg(&-100i16).arg(&mut out).launch(shape(1, 32))
    }
    .unwrap();
    let found = gpu.stream.clone_dtoh(&out).unwrap();
    let wanted: Vec<i32> = (0..32).map(|t| shape_.list[t % 5] + 7 + 9 - 100).collect();
    assert_eq!(found, wanted);
}

const ASYNC: &str = r#"
extern "C" __global__ void k(const unsigned long long *in, unsigned long long *out) {
    __shared__ __align__(16) unsigned long long s[128];
    int t = threadIdx.x;
    unsigned to = (unsigned)__cvta_generic_to_shared(&s[2 * t]);
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" :: "r"(to), "l"(&in[2 * t]));
    asm volatile("cp.async.commit_group;");
    if (t % 2) asm volatile("cp.async.ca.shared.global [%0], [%1], 8, 4;" :: "r"(to), "l"(&in[0]));
    asm volatile("cp.async.commit_group;");
    asm volatile("cp.async.wait_group 0;");
    __syncthreads();
    out[t] = s[t];
    out[64 + t] = s[64 + t];
}
"#;

#[test]
fn asynchronous_copies_arrive_when_waited_for() {
    let Some(gpu) = gpu() else { return };
    let input: Vec<u64> = (0..128u64).map(|t| (t + 1) << 32 | (t + 3)).collect();
    let out = gpu.run(ASYNC, &input, 128, shape(1, 64));
    for (at, &found) in out.iter().enumerate() {
        // Odd threads have overwritten their first element with 4 bytes, filled up with zeros.
        let wanted = if at % 4 == 2 { input[0] & 0xffff_ffff } else { input[at] };
        assert_eq!(found, wanted, "element {at}");
    }
}

const SPACES: &str = r#"
struct Big { int list[8]; };
__constant__ int fixed[4] = { 5, 6, 7, 8 };
__device__ __noinline__ int through(const int *p) { return *(volatile const int *)p; }
extern "C" __global__ void k(const __grid_constant__ Big big, const unsigned long long *in, unsigned long long *out) {
    __shared__ int s[32];
    int t = threadIdx.x, n = blockDim.x, own[4] = { t, t + 1, t + 2, t + 3 };
    s[t] = 100 + t;
    const int *of = t % 5 == 0 ? (const int *)&in[t] : t % 5 == 1 ? &s[t] : t % 5 == 2 ? &own[in[t] & 3]
                    : t % 5 == 3 ? &fixed[t & 3] : &big.list[t & 7];
    out[t] = through(of);
    unsigned is_block, is_global;
    asm("{ .reg .pred p; isspacep.global p, %1; selp.u32 %0, 1, 0, p; }" : "=r"(is_global) : "l"(of));
    out[n + t] = is_global + 2 * __isShared(of) + 4 * __isLocal(of);
    asm("{ .reg .pred p; isspacep.shared::cta p, %1; selp.u32 %0, 1, 0, p; }" : "=r"(is_block) : "l"(of));
    unsigned long long a, b;
    asm("cvta.shared::cta.u64 %0, %1;" : "=l"(a) : "l"((unsigned long long)__cvta_generic_to_shared(&s[t])));
    asm("cvta.to.shared::cta.u64 %0, %1;" : "=l"(b) : "l"(&s[t]));
    asm volatile("st.shared.u32 [%0], 9;" :: "r"((unsigned)b));
    out[2 * n + t] = is_block + 10 * *(int *)a;
}
"#;

#[test]
fn generic_addresses_of_every_space() {
    let Some(gpu) = gpu() else { return };
    #[repr(C)]
    #[derive(Clone, Copy)]
    struct Big([i32; 8]);
    // SAFETY: plain data, laid out as the kernel's structure.
    unsafe impl DeviceRepr for Big {}
    let function = gpu.function(SPACES, "k");
    let input: Vec<u64> = (0..32).map(|t| 1000 + t).collect();
    let big = Big([50, 51, 52, 53, 54, 55, 56, 57]);
    let given = gpu.stream.clone_htod(&input).unwrap();
    let mut out = gpu.stream.alloc_zeros::<u64>(96).unwrap();
    // SAFETY: the kernel's three parameters.
    unsafe { gpu.stream.launch_builder(&function).arg(&big).arg(&given).arg(&mut out).launch(shape(1, 32)) }
        .unwrap();
    let out = gpu.stream.clone_dtoh(&out).unwrap();
    for t in 0..32u64 {
        let (value, kind) = match t % 5 {
            0 => (1000 + t, 1),
            1 => (100 + t, 2),
            2 => (t + ((1000 + t) & 3), 4),
            3 => (5 + (t & 3), 1),
            _ => (50 + (t & 7), 1),
        };
        assert_eq!(out[t as usize], value, "thread {t}");
        assert_eq!(out[32 + t as usize], kind, "thread {t}");
        assert_eq!(out[64 + t as usize], (t % 5 == 1) as u64 + 90, "thread {t}");
    }
}
