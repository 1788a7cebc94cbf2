//! GFLOP/s of a 512×512×512 f32 product with a register tile, on one thread, in CPU time of that thread.
//!
//!     SIMGPU_THREADS=1 cargo run --release --example gemm

#[path = "../tests/gpu/mod.rs"]
mod gpu;

use cudarc::driver::{LaunchConfig, PushKernelArg};

/// 64×64 of C a block of 256 threads, 4×4 a thread, slices of 16 along k.
const KERNEL: &str = r#"
extern "C" __global__ void gemm(const float *a, const float *b, float *c, int m, int n, int k) {
    __shared__ float as[16][64], bs[16][64];
    int t = threadIdx.x, row = blockIdx.y * 64, col = blockIdx.x * 64, ty = t / 16 * 4, tx = t % 16 * 4;
    float acc[4][4] = {};
    for (int p = 0; p < k; p += 16) {
        #pragma unroll
        for (int i = 0; i < 4; i++) {
            as[t % 16][t / 16 + 16 * i] = a[(row + t / 16 + 16 * i) * k + p + t % 16];
            bs[t / 64 + 4 * i][t % 64] = b[(p + t / 64 + 4 * i) * n + col + t % 64];
        }
        __syncthreads();
        #pragma unroll
        for (int q = 0; q < 16; q++) {
            float4 x = *(float4 *)&as[q][ty], y = *(float4 *)&bs[q][tx];
            float xs[4] = { x.x, x.y, x.z, x.w }, ys[4] = { y.x, y.y, y.z, y.w };
            #pragma unroll
            for (int i = 0; i < 4; i++)
                #pragma unroll
                for (int j = 0; j < 4; j++) acc[i][j] += xs[i] * ys[j];
        }
        __syncthreads();
    }
    for (int i = 0; i < 4; i++)
        *(float4 *)&c[(row + ty + i) * n + col + tx] = make_float4(acc[i][0], acc[i][1], acc[i][2], acc[i][3]);
}
"#;

/// Nanoseconds that this thread has run on a CPU.
fn cpu_time() -> f64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    text.split(' ').next().unwrap().parse::<f64>().unwrap()
}

fn main() {
    let Some(gpu) = gpu::gpu() else { return };
    let (function, n) = (gpu.function(KERNEL, "gemm"), 512usize);
    let mut draw = gpu::Draw(1);
    let real: Vec<f32> = (0..2 * n * n).map(|_| draw.real()).collect();
    let (a, b) =
        (gpu.stream.clone_htod(&real[..n * n]).unwrap(), gpu.stream.clone_htod(&real[n * n..]).unwrap());
    let mut c = gpu.stream.alloc_zeros::<f32>(n * n).unwrap();
    let config = LaunchConfig { grid_dim: (8, 8, 1), block_dim: (256, 1, 1), shared_mem_bytes: 0 };
    for _ in 0..5 {
        let start = cpu_time();
        let size = n as i32;
        let mut launch = gpu.stream.launch_builder(&function);
        launch.arg(&a).arg(&b).arg(&mut c).arg(&size).arg(&size).arg(&size);
        // SAFETY: the kernel's six parameters.
        unsafe { launch.launch(config) }.unwrap();
        gpu.stream.synchronize().unwrap();
        let time = cpu_time() - start;
        println!("{:.1} ms, {:.2} GFLOP/s", time / 1e6, 2.0 * (n * n * n) as f64 / time);
    }
}
