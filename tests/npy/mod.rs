//! Writes NumPy files, format 1.0, for tests that read them back.

#![allow(dead_code)] // no test writes every kind

use std::fs;
use std::path::Path;

/// `descr` as NumPy says it, such as `<f4`.
pub fn bytes(descr: &str, fortran: bool, shape: &[usize], data: &[u8]) -> Vec<u8> {
    let fortran = if fortran { "True" } else { "False" };
    let shape: String = shape.iter().map(|n| format!("{n}, ")).collect();
    let mut header = format!("{{'descr': '{descr}', 'fortran_order': {fortran}, 'shape': ({shape}), }}");
    while (header.len() + 11) % 64 != 0 {
        header.push(' ');
    }
    header.push('\n');
    let mut all = b"\x93NUMPY\x01\x00".to_vec();
    all.extend((header.len() as u16).to_le_bytes());
    all.extend(header.bytes());
    all.extend(data);
    all
}

pub fn write_f32(path: &Path, values: &[f32], columns: usize) {
    let shape = [values.len() / columns, columns];
    fs::write(path, bytes("<f4", false, &shape, bytemuck::cast_slice(values))).unwrap();
}

pub fn write_f64(path: &Path, values: &[f64], columns: usize) {
    let shape = [values.len() / columns, columns];
    fs::write(path, bytes("<f8", false, &shape, bytemuck::cast_slice(values))).unwrap();
}
