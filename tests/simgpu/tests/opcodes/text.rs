//! printf of a kernel, in a process of its own, whose output can be read.

use crate::gpu::{gpu, shape, toolkit};

const KERNEL: &str = r#"
extern "C" __device__ int printf(const char *, ...);
extern "C" __global__ void k(const unsigned long long *in, unsigned long long *out) {
    int t = threadIdx.x;
    if (t % 2) printf("thread %d of %u: %5.2f|%-4d|%04x|%s|%c|%lld%%\n", t, blockDim.x, t * 0.5, t, t + 250, "text", 'a' + t, in[t]);
}
"#;

#[test]
#[ignore = "run by the test below, in a process of its own"]
fn child() {
    let Some(gpu) = gpu() else { return };
    gpu.run(KERNEL, &[7, 1 << 40, 9, 12], 4, shape(1, 4));
}

#[test]
fn printf_prints() {
    if toolkit().is_none() {
        return;
    }
    let mut child = std::process::Command::new(std::env::current_exe().unwrap());
    let output = child.args(["--exact", "text::child", "--ignored", "--nocapture"]).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    for line in [
        "thread 1 of 4:  0.50|1   |00fb|text|b|1099511627776%\n",
        "thread 3 of 4:  1.50|3   |00fd|text|d|12%\n",
    ] {
        assert!(text.contains(line), "no {line} in {text}");
    }
}
