//! Embeds `kernels/*.cu` with their content hashes. It never calls a CUDA compiler: kernels are
//! compiled at run time by NVRTC, so a build needs nothing of CUDA.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed=kernels");
}
