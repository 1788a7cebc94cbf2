//! IDX, CIFAR and folders of images: what is read is what was written, and every malformed input gives one error that names its
//! place, with nothing left behind.

use std::fs;
use std::path::Path;

use proptest::prelude::*;
use tessera::data::{Dataset, Part, import};

use crate::{gzip, put, run_import, shared};

fn be(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|w| w.to_be_bytes()).collect()
}

fn images(count: u32, rows: u32, columns: u32) -> Vec<u8> {
    let mut bytes = be(&[0x803, count, rows, columns]);
    bytes.extend((0..count * rows * columns).map(|i| (i * 31 % 251) as u8));
    bytes
}

fn labels(count: u32) -> Vec<u8> {
    let mut bytes = be(&[0x801, count]);
    bytes.extend((0..count).map(|i| (i % 3) as u8));
    bytes
}

fn idx_folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("train-images-idx3-ubyte"), images(12, 4, 5)).unwrap();
    fs::write(folder.path().join("train-labels-idx1-ubyte"), labels(12)).unwrap();
    fs::write(folder.path().join("t10k-images-idx3-ubyte"), images(6, 4, 5)).unwrap();
    fs::write(folder.path().join("t10k-labels-idx1-ubyte"), labels(6)).unwrap();
    folder
}

fn cifar_record(labels: &[u8], start: u8) -> Vec<u8> {
    labels.iter().copied().chain((0..3072).map(|i| start.wrapping_add((i % 256) as u8))).collect()
}

#[test]
fn idx_comes_back_as_it_was() {
    let folder = idx_folder();
    fs::remove_file(folder.path().join("train-images-idx3-ubyte")).unwrap();
    fs::write(folder.path().join("train-images-idx3-ubyte.gz"), gzip(&images(12, 4, 5))).unwrap();
    let out = folder.path().join("out.safetensors");
    import::idx(folder.path()).unwrap().write(&out).unwrap();
    let dataset = Dataset::open(&out).unwrap();
    assert_eq!(dataset.image_shape(), [4, 5, 1]);
    let train = dataset.part(Part::Train);
    assert_eq!((train.len(), dataset.part(Part::Test).len()), (12, 6));
    assert_eq!(train.labels()[..4], [0, 1, 2, 0]);
    let all = images(12, 4, 5);
    for i in 0..12 {
        assert_eq!(train.image(i), &all[16 + 20 * i..][..20]);
    }
}

#[test]
fn cifar_planes_become_pixels() {
    let folder = tempfile::tempdir().unwrap();
    let record = cifar_record(&[7], 3);
    fs::write(folder.path().join("data_batch_2.bin"), [&record[..], &cifar_record(&[1], 9)].concat())
        .unwrap();
    let contents = import::cifar10(folder.path()).unwrap();
    assert_eq!(contents.train.labels, [7, 1]);
    for pixel in [0, 1, 500, 1023] {
        for channel in 0..3 {
            assert_eq!(contents.train.images[pixel * 3 + channel], record[1 + channel * 1024 + pixel]);
        }
    }
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("train.bin"), cifar_record(&[4, 77], 0)).unwrap();
    let coarse = import::cifar100(folder.path(), import::Labels::Coarse).unwrap();
    let fine = import::cifar100(folder.path(), import::Labels::Fine).unwrap();
    assert_eq!((coarse.train.labels[0], fine.train.labels[0]), (4, 77));
    assert_eq!(coarse.train.attributes, [("fine".to_string(), vec![77])]);
}

#[test]
fn folders_are_read_in_order() {
    let folder = tempfile::tempdir().unwrap();
    for (class, values) in [("b", [10u8, 20]), ("a", [30, 40])] {
        let class = folder.path().join("train").join(class);
        fs::create_dir_all(&class).unwrap();
        for (i, value) in values.into_iter().enumerate() {
            image::GrayImage::from_pixel(6, 4, image::Luma([value]))
                .save(class.join(format!("{i}.png")))
                .unwrap();
        }
    }
    let contents = import::folder(folder.path(), None).unwrap();
    assert_eq!(contents.classes, ["a", "b"]);
    assert_eq!(contents.image_shape, [4, 6, 1]);
    assert_eq!(contents.train.labels, [0, 0, 1, 1]);
    assert_eq!(contents.train.images.iter().step_by(24).copied().collect::<Vec<_>>(), [30, 40, 10, 20]);
    assert_eq!(import::folder(folder.path(), Some((2, 3))).unwrap().image_shape, [2, 3, 1]);
    let colour = image::RgbImage::from_pixel(6, 4, image::Rgb([1, 2, 3]));
    colour.save(folder.path().join("train/b/2.png")).unwrap();
    assert_eq!(import::folder(folder.path(), None).unwrap().image_shape, [4, 6, 3]);
}

#[test]
fn malformed_input_gives_one_clear_error() {
    type Damage = fn(&Path);
    let replace: &[(&str, &str, Damage, i32, &[&str])] = &[
        (
            "idx",
            "truncated images",
            |f| cut(&f.join("train-images-idx3-ubyte"), 5),
            4,
            &["train-images", "240 bytes", "235 bytes", "cut off"],
        ),
        (
            "idx",
            "trailing bytes",
            |f| grow(&f.join("train-labels-idx1-ubyte")),
            4,
            &["train-labels", "12 bytes", "13 bytes"],
        ),
        (
            "idx",
            "wrong magic",
            |f| put(&f.join("train-images-idx3-ubyte"), &labels(3)),
            4,
            &["byte 0", "0x00000803", "0x00000801"],
        ),
        (
            "idx",
            "counts that disagree",
            |f| put(&f.join("train-labels-idx1-ubyte"), &labels(11)),
            4,
            &["12 labels", "found 11"],
        ),
        (
            "idx",
            "sizes that disagree",
            |f| put(&f.join("t10k-images-idx3-ubyte"), &images(6, 5, 4)),
            4,
            &["t10k-images", "[4, 5]", "[5, 4]"],
        ),
        (
            "idx",
            "a header only",
            |f| put(&f.join("train-images-idx3-ubyte"), &[0, 0, 8, 3]),
            4,
            &["byte 4", "end of the file"],
        ),
        (
            "idx",
            "huge counts",
            |f| put(&f.join("train-images-idx3-ubyte"), &be(&[0x803, u32::MAX, 9999, 9999])),
            4,
            &["cut off"],
        ),
        ("idx", "an empty file", |f| put(&f.join("train-images-idx3-ubyte"), &[]), 4, &["empty file"]),
        (
            "idx",
            "a missing file",
            |f| fs::remove_file(f.join("train-labels-idx1-ubyte")).unwrap(),
            4,
            &["train-labels-idx1-ubyte", "no such file"],
        ),
        (
            "idx",
            "half of the test part",
            |f| fs::remove_file(f.join("t10k-labels-idx1-ubyte")).unwrap(),
            4,
            &["t10k-labels", "both files"],
        ),
        (
            "idx",
            "a folder for a file",
            |f| {
                fs::remove_file(f.join("train-images-idx3-ubyte")).unwrap();
                fs::create_dir(f.join("train-images-idx3-ubyte")).unwrap()
            },
            4,
            &["not a regular file"],
        ),
        (
            "idx",
            "a broken gzip stream",
            |f| {
                fs::remove_file(f.join("train-images-idx3-ubyte")).unwrap();
                let z = gzip(&images(12, 4, 5));
                put(&f.join("train-images-idx3-ubyte.gz"), &z[..z.len() - 9])
            },
            4,
            &[".gz stream"],
        ),
        (
            "idx",
            "xz that is not",
            |f| {
                fs::remove_file(f.join("train-images-idx3-ubyte")).unwrap();
                put(&f.join("train-images-idx3-ubyte.xz"), b"not xz at all")
            },
            4,
            &[".xz stream"],
        ),
        ("cifar10", "no batches", |_| {}, 4, &["data_batch_1.bin", "none"]),
        (
            "cifar10",
            "half a record",
            |f| put(&f.join("data_batch_1.bin"), &cifar_record(&[1], 0)[..3000]),
            4,
            &["byte 0", "3073", "3000 bytes"],
        ),
        (
            "cifar10",
            "a label out of range",
            |f| put(&f.join("data_batch_3.bin"), &cifar_record(&[10], 0)),
            4,
            &["byte 0 (record 0)", "below 10", "found 10"],
        ),
        (
            "cifar10",
            "too few names",
            |f| {
                put(&f.join("data_batch_1.bin"), &cifar_record(&[1], 0));
                put(&f.join("batches.meta.txt"), b"cat\ndog\n")
            },
            4,
            &["10 class names", "2 lines"],
        ),
        (
            "cifar100",
            "a coarse label out of range",
            |f| put(&f.join("train.bin"), &cifar_record(&[20, 3], 0)),
            4,
            &["below 20"],
        ),
        (
            "folder",
            "no classes",
            |f| fs::read_dir(f).unwrap().for_each(|e| fs::remove_file(e.unwrap().path()).unwrap()),
            4,
            &["a folder for each class"],
        ),
        (
            "folder",
            "no images",
            |f| fs::create_dir(f.join("class")).unwrap(),
            4,
            &["PNG or JPEG images", "none"],
        ),
        (
            "folder",
            "not an image",
            |f| {
                fs::create_dir(f.join("class")).unwrap();
                put(&f.join("class/a.png"), b"hello")
            },
            4,
            &["a.png", "PNG or JPEG"],
        ),
        (
            "folder",
            "mixed sizes",
            |f| {
                fs::create_dir(f.join("class")).unwrap();
                for (n, w) in [("a", 3), ("b", 4)] {
                    image::GrayImage::new(w, 3).save(f.join(format!("class/{n}.png"))).unwrap()
                }
            },
            4,
            &["b.png", "3 x 3", "3 x 4"],
        ),
    ];
    for (format, what, damage, code, words) in replace {
        let folder = idx_folder();
        damage(folder.path());
        let (found, said, left) = run_import(format, folder.path());
        assert_eq!(found, *code, "{what}: {said}");
        assert!(!left, "{what}: something was left behind");
        assert_eq!(said.trim_end().lines().count(), 1, "{what}: {said}");
        for word in *words {
            assert!(said.contains(word), "{what}: '{said}' does not say '{word}'");
        }
    }
    let (code, said, _) = run_import("idx", Path::new("/no/such/folder"));
    assert_eq!(code, 3, "{said}");
}

#[cfg(unix)]
#[test]
fn files_that_may_not_be_read_say_so() {
    use std::os::unix::fs::PermissionsExt;
    let folder = idx_folder();
    let file = folder.path().join("train-images-idx3-ubyte");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o000)).unwrap();
    if fs::File::open(&file).is_ok() {
        eprintln!("SKIPPED: this user may read everything");
        return;
    }
    let (code, said, left) = run_import("idx", folder.path());
    assert!(code == 3 && said.contains("train-images") && !left, "{said}");
}

fn cut(path: &Path, by: usize) {
    let bytes = fs::read(path).unwrap();
    put(path, &bytes[..bytes.len() - by]);
}

fn grow(path: &Path) {
    let mut bytes = fs::read(path).unwrap();
    bytes.push(0);
    put(path, &bytes);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever bytes the files hold: a data set or an error.
    #[test]
    fn no_bytes_make_an_importer_panic(cut in 0usize..260, at in 0usize..256, value: u8, gz: bool) {
        let folder = idx_folder();
        for name in ["train-images-idx3-ubyte", "train-labels-idx1-ubyte"] {
            let mut bytes = images(12, 4, 5);
            if name.contains("labels") { bytes = labels(12); }
            let length = bytes.len();
            bytes[at % length] = value;
            bytes.truncate(cut);
            if gz {
                let mut packed = gzip(&bytes);
                let length = packed.len();
                packed[(at * 7) % length] ^= value;
                fs::remove_file(folder.path().join(name)).unwrap();
                put(&folder.path().join(format!("{name}.gz")), &packed);
            } else {
                put(&folder.path().join(name), &bytes);
            }
        }
        let _ = import::idx(folder.path());
        put(&folder.path().join("data_batch_1.bin"), &cifar_record(&[value], 1)[..cut]);
        let _ = import::cifar10(folder.path());
    }

    /// A data-set file with any byte changed, or cut anywhere, opens or does not, but never panics.
    #[test]
    fn no_bytes_make_a_data_set_panic(at in 0usize..1200, value: u8, cut in 0usize..1400) {
        let folder = idx_folder();
        let file = folder.path().join("out.safetensors");
        import::idx(folder.path()).unwrap().write(&file).unwrap();
        let mut bytes = fs::read(&file).unwrap();
        let length = bytes.len();
        bytes[at % length] = value;
        bytes.truncate(cut);
        put(&file, &bytes);
        if let Ok(dataset) = Dataset::open(&file) {
            let part = dataset.part(Part::Train);
            for i in 0..part.len() {
                prop_assert_eq!(part.image(i).len(), 20);
            }
        }
    }
}

#[test]
fn real_mnist_is_mnist() {
    let Some(shared) = shared() else { return };
    let contents = import::idx(&shared.join("mnist")).unwrap();
    assert_eq!((contents.train.labels.len(), contents.test.labels.len()), (60_000, 10_000));
    assert_eq!(contents.train.labels[..10], [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]);
    let measured = import::measure_normalisation(&contents.train.images, 1);
    assert!((measured.mean[0] - 0.1307).abs() < 1e-4 && (measured.sd[0] - 0.3081).abs() < 1e-4);
}

#[test]
fn real_cifar_100_is_read_through_xz_and_delta() {
    let Some(shared) = shared() else { return };
    let contents = import::cifar100(&shared.join("cifar100-subset"), import::Labels::Fine).unwrap();
    assert_eq!((contents.train.labels.len(), contents.test.labels.len()), (10_000, 3_000));
    assert_eq!(contents.classes[0], "apple");
    let mut counts = [0; 100];
    contents.train.labels.iter().for_each(|&l| counts[l as usize] += 1);
    assert!(counts.iter().all(|&c| c == 100));
}
