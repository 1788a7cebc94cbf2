//! Kernels of the CPU device: plain functions over slices, parallel over fixed slabs with rayon, so
//! that results do not depend on the number of threads.
