//! Batches of images that the device makes, bit for bit those of the CPU.

use tessera::device::{Cpu, CudaOptions, Device, HostSliceMut};
use tessera::pixels::{Augment, Look, Pixels, Visit};
use tessera::random::{Purpose, Stream};
use tessera::tape::Kind;

use crate::harness;

struct Case {
    shape: [usize; 3],
    canvas: [usize; 2],
    augment: Augment,
}

/// Batches of some visits, written one after the other without a run between them, read at the end.
fn batches(device: &mut dyn Device, case: &Case, pixels: &Pixels<'_>) -> Vec<f32> {
    let look = Look {
        canvas: case.canvas,
        margin: -1.0,
        table: (0..case.shape[2])
            .map(|c| std::array::from_fn(|byte| (byte as f32 / 255.0 - 0.3 - 0.1 * c as f32) / 0.7))
            .collect(),
    };
    let set = device.upload_images(pixels, &look).unwrap();
    let size = look.shape().iter().product::<usize>();
    let mut all = Vec::new();
    for visits in [0..1, 1..4] {
        let mut buffers = Vec::new();
        for visit in visits {
            let mut draw = Stream::new(visit, Purpose::MetaBatch, 0);
            let rows: Vec<u32> = (0..7).map(|_| draw.below(pixels.len()) as u32).collect();
            let buffer = device.allocate(Kind::Real, rows.len() * size).unwrap();
            let visit = Visit { augment: case.augment, seed: 5, visit };
            device.fill_batch(set, pixels, &rows, &visit, buffer).unwrap();
            buffers.push(buffer);
        }
        for buffer in buffers {
            let mut values = vec![0.0; 7 * size];
            device.read(buffer, HostSliceMut::F32(&mut values)).unwrap();
            all.extend(values);
            device.release(buffer);
        }
    }
    all
}

#[test]
fn batches_are_those_of_the_cpu() {
    if harness::gpu().is_none() {
        return;
    }
    let none = Augment::default();
    let both = Augment { flip: 0.5, grey: 0.5 };
    for case in [
        Case { shape: [5, 7, 1], canvas: [5, 7], augment: none },
        Case { shape: [6, 5, 3], canvas: [6, 5], augment: both },
        Case { shape: [6, 5, 3], canvas: [9, 8], augment: both },
        Case { shape: [4, 4, 1], canvas: [8, 8], augment: Augment { flip: 0.5, grey: 1.0 } },
    ] {
        let size = case.shape.iter().product::<usize>();
        let mut draw = Stream::new(2, Purpose::Synthetic, 0);
        let bytes: Vec<u8> = (0..31 * size).map(|_| draw.below(256) as u8).collect();
        let (first, second) = bytes.split_at(20 * size);
        let pixels = Pixels::new([first, second], case.shape);
        let exact = batches(&mut Cpu::<f32>::default(), &case, &pixels);
        // On the device, and streamed.
        for images in [None, Some(0)] {
            let mut cuda = harness::open(CudaOptions { images, ..CudaOptions::default() });
            let found = batches(&mut cuda, &case, &pixels);
            assert!(found == exact, "{:?} on {:?}, {images:?}", case.shape, case.canvas);
        }
    }
}

#[test]
fn images_that_do_not_exist_are_refused() {
    if harness::gpu().is_none() {
        return;
    }
    let bytes = [0; 8];
    let pixels = Pixels::new([&bytes, &[]], [2, 2, 1]);
    let mut cuda = harness::open(CudaOptions::default());
    let look = Look { canvas: [2, 2], margin: 0.0, table: vec![[0.0; 256]] };
    let set = cuda.upload_images(&pixels, &look).unwrap();
    let buffer = cuda.allocate(Kind::Real, 4).unwrap();
    let wrong = cuda.fill_batch(set, &pixels, &[2], &Visit::default(), buffer).unwrap_err();
    assert!(wrong.to_string().contains("no image 2 of 2"), "{wrong}");
    let wrong = cuda.fill_batch(set, &pixels, &[0, 1], &Visit::default(), buffer).unwrap_err();
    assert!(wrong.to_string().contains("does not fit"), "{wrong}");
}
