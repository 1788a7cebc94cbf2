//! Omniglot: ink, alphabets, and a split of each character that depends on nothing else.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use proptest::prelude::*;
use tessera::data::dataset::Contents;
use tessera::data::import::Omniglot;
use tessera::data::{Dataset, LabelBudget, Part, split};

use crate::pack::{Entry, Kind, zip};
use crate::{Case, put, refused, run_import_with, shared};

const PIXELS: usize = 105 * 105;

/// A drawing whose only ink is a pixel that tells character and drawer.
fn png(character: u32, drawer: u32) -> Vec<u8> {
    let mut image = image::GrayImage::from_pixel(105, 105, image::Luma([255]));
    image.put_pixel(drawer, character % 105, image::Luma([0]));
    let mut bytes = std::io::Cursor::new(Vec::new());
    image.write_to(&mut bytes, image::ImageFormat::Png).unwrap();
    bytes.into_inner()
}

/// Greek with 3 characters and Latin with 2 in the background set, Angelic with 2 in the evaluation set.
const ALPHABETS: [(&str, &str, u32, u32); 3] = [
    ("images_background", "Greek", 1, 3),
    ("images_background", "Latin", 4, 2),
    ("images_evaluation", "Angelic", 6, 2),
];

fn entries(set: &str) -> Vec<Entry> {
    let mut entries = Vec::new();
    for (_, alphabet, first, count) in ALPHABETS.iter().filter(|a| a.0 == set) {
        for character in 0..*count {
            for drawer in 1..=20 {
                let number = first + character;
                let name =
                    format!("{set}/{alphabet}/character{:02}/{number:04}_{drawer:02}.png", character + 1);
                entries.push(Entry::new(&name, &png(number, drawer)));
            }
        }
    }
    entries
}

/// The background set as a zip, the evaluation set unpacked, and what a file manager leaves behind.
fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let mut background = entries("images_background");
    background.push(Entry::new("__MACOSX/images_background/Greek/._character01.png", b"resource fork"));
    put(&folder.path().join("images_background.zip"), &zip(&background));
    for entry in entries("images_evaluation") {
        let path = folder.path().join(&entry.name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        put(&path, &entry.bytes);
    }
    put(&folder.path().join("images_evaluation/Angelic/.hidden.png"), b"");
    folder
}

/// Character number and drawer of each image, read from its ink.
fn drawn(images: &[u8]) -> Vec<(u32, u32)> {
    let place = |image: &[u8]| {
        assert_eq!(image.iter().filter(|&&b| b == 255).count(), 1, "one pixel of ink");
        assert_eq!(image.iter().filter(|&&b| b == 0).count(), PIXELS - 1, "the rest is paper");
        let at = image.iter().position(|&b| b == 255).unwrap() as u32;
        (at / 105, at % 105)
    };
    images.chunks_exact(PIXELS).map(place).collect()
}

fn values<'a>(contents: &'a Contents, test: bool, name: &str) -> &'a [u32] {
    let part = if test { &contents.test } else { &contents.train };
    part.attributes.iter().find(|a| a.0 == name).map_or(&[], |a| &a.1)
}

#[test]
fn every_character_is_split_ten_four_six() {
    let folder = folder();
    let omniglot = Omniglot::open(folder.path(), 1).unwrap();
    assert_eq!(omniglot.alphabets(), ["Greek", "Latin", "Angelic"]);
    let all = omniglot.contents(None).unwrap();
    assert_eq!(all.classes.len(), 7);
    assert_eq!((&all.classes[0][..], &all.classes[6][..]), ("Greek/character01", "Angelic/character02"));
    assert_eq!(all.image_shape, [105, 105, 1]);
    let (train, test) = (drawn(&all.train.images), drawn(&all.test.images));
    let mut seen = [train.clone(), test.clone()].concat();
    seen.sort_unstable();
    let every: Vec<(u32, u32)> = (1..=7).flat_map(|c| (1..=20).map(move |d| (c, d))).collect();
    assert_eq!(seen, every, "every drawing once");
    for (test, drawn) in [(false, &train), (true, &test)] {
        let labels = if test { &all.test.labels } else { &all.train.labels };
        let (alphabets, drawers) = (values(&all, test, "alphabet"), values(&all, test, "drawer"));
        for (i, &(character, drawer)) in drawn.iter().enumerate() {
            assert_eq!((labels[i] + 1, drawers[i]), (character, drawer));
            assert_eq!(alphabets[i], [0, 0, 0, 1, 1, 2, 2][labels[i] as usize]);
        }
    }
    let marks = values(&all, false, "validation");
    for class in 0..7 {
        let mine = |i: &usize| all.train.labels[*i] == class;
        let held_out = (0..marks.len()).filter(mine).filter(|&i| marks[i] == 1).count();
        let count = (0..marks.len()).filter(mine).count();
        let test = all.test.labels.iter().filter(|&&l| l == class).count();
        assert_eq!((count - held_out, held_out, test), (10, 4, 6), "class {class}");
    }
}

/// A character's drawings go the same way in its alphabet's data set as in that of all, whatever else is there;
/// another seed, or another character, goes another way.
#[test]
fn a_characters_split_is_its_own() {
    let folder = folder();
    let of = |omniglot: &Omniglot, alphabet: Option<&str>| {
        let contents = omniglot.contents(alphabet).unwrap();
        let mut uses: BTreeMap<(u32, u32), u32> = BTreeMap::new();
        for (drawing, mark) in
            drawn(&contents.train.images).into_iter().zip(values(&contents, false, "validation"))
        {
            uses.insert(drawing, *mark);
        }
        uses.extend(drawn(&contents.test.images).into_iter().map(|d| (d, 2)));
        uses
    };
    let omniglot = Omniglot::open(folder.path(), 1).unwrap();
    let (all, latin) = (of(&omniglot, None), of(&omniglot, Some("Latin")));
    assert_eq!(latin.len(), 40);
    assert!(latin.iter().all(|(drawing, used)| all[drawing] == *used));
    let alone = Omniglot::open(&folder.path().join("images_background.zip"), 1).unwrap();
    assert_eq!(of(&alone, Some("Latin")), latin);
    assert_eq!(alone.contents(Some("Latin")).unwrap().classes, ["character01", "character02"]);
    assert_ne!(of(&Omniglot::open(folder.path(), 2).unwrap(), Some("Latin")), latin);
    let pattern = |character: u32| (1..=20).map(|d| all[&(character, d)]).collect::<Vec<_>>();
    assert_ne!(pattern(4), pattern(5));
    let error = omniglot.contents(Some("Greak")).err().unwrap();
    assert!(error.exit_code() == 2 && error.to_string().contains("Greek, Latin, Angelic"), "{error}");
}

#[test]
fn the_marked_drawings_are_the_validation_images() {
    let folder = folder();
    let file = folder.path().join("latin.safetensors");
    Omniglot::open(folder.path(), 1).unwrap().contents(Some("Latin")).unwrap().write(&file).unwrap();
    let dataset = Dataset::open(&file).unwrap();
    let marks = dataset.held_out().unwrap().to_vec();
    assert_eq!((marks.len(), dataset.held_out_count()), (28, 8));
    for seed in [1, 2] {
        let own = split::of(&dataset, LabelBudget::All, 8, seed).unwrap();
        assert!(own.validation.iter().all(|&i| marks[i as usize] == 1));
        assert_eq!((own.validation.len(), own.labelled.len()), (8, 20));
    }
    let none = split::of(&dataset, LabelBudget::All, 0, 1).unwrap();
    assert_eq!((none.validation.len(), none.labelled.len()), (0, 28));
    let drawn = split::of(&dataset, LabelBudget::All, 4, 1).unwrap();
    assert_eq!(drawn.validation.len(), 4);
    // `train` takes them without being told.
    let plan = Command::new(env!("CARGO_BIN_EXE_tessera"))
        .args(["train", "--method", "stl", "--dry-run", "--json"])
        .arg(&file)
        .output()
        .unwrap();
    let said = String::from_utf8(plan.stdout).unwrap();
    assert!(said.contains("\"labelled\":20") && said.contains("\"validation\":8"), "{said}");
}

#[test]
fn a_file_for_each_alphabet() {
    let (folder, out) = (folder(), tempfile::tempdir().unwrap());
    let done = Command::new(env!("CARGO_BIN_EXE_tessera"))
        .args(["data", "import", "omniglot", "--each-alphabet", "--json", "-o"])
        .args([out.path().join("alphabets").as_path(), folder.path()])
        .output()
        .unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    assert_eq!(String::from_utf8(done.stdout).unwrap().lines().count(), 3);
    for (alphabet, classes) in [("Greek", 3), ("Latin", 2), ("Angelic", 2)] {
        let dataset = Dataset::open(out.path().join(format!("alphabets/{alphabet}.safetensors"))).unwrap();
        assert_eq!(dataset.name(), format!("omniglot-{alphabet}"));
        assert_eq!((dataset.class_names().len(), dataset.part(Part::Train).len()), (classes, 14 * classes));
    }
    let info = Command::new(env!("CARGO_BIN_EXE_tessera"))
        .args(["data", "info"])
        .arg(out.path().join("alphabets/Greek.safetensors"))
        .output()
        .unwrap();
    let said = String::from_utf8(info.stdout).unwrap();
    for words in [
        "validation: 12 training",
        "attributes: alphabet, drawer",
        "Greek                        42       18",
    ] {
        assert!(said.contains(words), "'{words}' in\n{said}");
    }
}

fn background(folder: &Path) -> std::path::PathBuf {
    folder.join("images_background.zip")
}

#[test]
fn malformed_omniglot_gives_one_clear_error() {
    let cases: &[Case] = &[
        (
            "omniglot",
            "an entry that leaves the folder",
            |f| put(&background(f), &zip(&[Entry::new("../../Greek/character01/0001_01.png", &png(1, 1))])),
            4,
            &["images_background.zip", "../../Greek", "leaves it"],
        ),
        (
            "omniglot",
            "an absolute entry that nobody wants",
            |f| put(&background(f), &zip(&[Entry::new("/etc/motd", b"x")])),
            4,
            &["/etc/motd", "absolute"],
        ),
        (
            "omniglot",
            "a link",
            |f| {
                let mut all = entries("images_background");
                all.push(Entry { kind: Kind::Link, ..Entry::new("images_background/x", b"/etc/passwd") });
                put(&background(f), &zip(&all))
            },
            4,
            &["images_background/x", "no links"],
        ),
        (
            "omniglot",
            "no zip",
            |f| put(&background(f), b"PK not at all"),
            4,
            &["images_background.zip", "zip"],
        ),
        ("omniglot", "an empty zip", |f| put(&background(f), &[]), 4, &["images_background.zip"]),
        (
            "omniglot",
            "a cut zip",
            |f| {
                let all = zip(&entries("images_background"));
                put(&background(f), &all[..all.len() / 2])
            },
            4,
            &["images_background.zip", "zip"],
        ),
        (
            "omniglot",
            "a changed byte",
            |f| {
                let mut all = zip(&entries("images_background"));
                let at = all.windows(4).position(|w| w == b"IDAT").unwrap() + 6;
                all[at] ^= 1;
                put(&background(f), &all)
            },
            4,
            &["0001_01.png", "whole zip entry"],
        ),
        (
            "omniglot",
            "a size that is not so",
            |f| {
                let mut all = entries("images_background");
                all[3] = Entry { deflate: true, claimed: Some(4_000_000_000), ..all[3].clone() };
                put(&background(f), &zip(&all))
            },
            4,
            &["0001_04.png", "4000000000"],
        ),
        (
            "omniglot",
            "a bomb",
            |f| {
                let mut all = entries("images_background");
                let zeros = vec![0; 80 << 20];
                all[3] = Entry { deflate: true, bytes: zeros, ..all[3].clone() };
                put(&background(f), &zip(&all))
            },
            4,
            &["0001_04.png", "no data set"],
        ),
        (
            "omniglot",
            "no image",
            |f| put(&f.join("images_evaluation/Angelic/character01/0006_03.png"), b"hello"),
            4,
            &["0006_03.png", "PNG"],
        ),
        (
            "omniglot",
            "another size",
            |f| {
                let path = f.join("images_evaluation/Angelic/character01/0006_03.png");
                image::GrayImage::new(28, 28).save(path).unwrap()
            },
            4,
            &["0006_03.png", "105 x 105", "28 x 28"],
        ),
        (
            "omniglot",
            "another name",
            |f| put(&f.join("images_evaluation/Angelic/character01/one.png"), &png(1, 1)),
            4,
            &["one.png", "NUMBER_DRAWER"],
        ),
        (
            "omniglot",
            "a drawing twice",
            |f| put(&f.join("images_evaluation/Angelic/character01/0006_3.png"), &png(1, 1)),
            4,
            &["0006_3.png", "the same drawing as", "0006_03.png"],
        ),
        (
            "omniglot",
            "two numbers for one character",
            |f| put(&f.join("images_evaluation/Angelic/character01/0007_21.png"), &png(1, 1)),
            4,
            &["0007_21.png", "number 6", "found 7"],
        ),
        (
            "omniglot",
            "too few drawings",
            |f| {
                for drawer in 5..=20 {
                    fs::remove_file(
                        f.join(format!("images_evaluation/Angelic/character02/0007_{drawer:02}.png")),
                    )
                    .unwrap()
                }
            },
            4,
            &["character02", "at least 5", "found 4"],
        ),
        (
            "omniglot",
            "nothing",
            |f| {
                fs::remove_file(background(f)).unwrap();
                fs::remove_dir_all(f.join("images_evaluation")).unwrap()
            },
            4,
            &["Greek/character01", "none"],
        ),
    ];
    refused(cases, folder);
    let folder = folder();
    for (more, code, words) in [
        (&["--alphabet", "Klingon"][..], 2, "no alphabet 'Klingon'"),
        (&["--size", "28x28"], 2, "--size is for"),
    ] {
        let (found, said, left) = run_import_with("omniglot", folder.path(), more);
        assert!(found == code && said.contains(words) && !left, "{said}");
    }
    assert_eq!(run_import_with("omniglot", Path::new("/no/such/folder"), &[]).0, 3);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever happens to the bytes of a zip: drawings or an error.
    #[test]
    fn no_bytes_make_a_zip_panic(at: prop::sample::Index, value: u8, from_end in 0usize..400, cut in 0usize..300) {
        let folder = tempfile::tempdir().unwrap();
        let mut bytes = zip(&entries("images_evaluation")[..7]);
        let length = bytes.len();
        bytes[at.index(length)] = value;
        // The directory at the end is what is believed most.
        bytes[length - 1 - from_end] ^= value;
        if cut < 200 { bytes.truncate(length - cut); }
        put(&folder.path().join("images_evaluation.zip"), &bytes);
        if let Ok(omniglot) = Omniglot::open(folder.path(), 1) {
            let _ = omniglot.contents(None);
        }
    }
}

#[test]
fn real_omniglot_has_fifty_alphabets() {
    let Some(shared) = shared() else { return };
    let omniglot = Omniglot::open(&shared.join("omniglot"), 1).unwrap();
    assert_eq!(omniglot.alphabets().len(), 50);
    assert_eq!(omniglot.alphabets()[0], "Alphabet_of_the_Magi");
    let all = omniglot.contents(None).unwrap();
    assert_eq!(all.classes.len(), 1623);
    assert_eq!((all.train.labels.len(), all.test.labels.len()), (1623 * 14, 1623 * 6));
    assert_eq!(values(&all, false, "validation").iter().sum::<u32>(), 1623 * 4);
    // Ink is the lesser part of a drawing, and images have nothing but ink and paper.
    let ink = all.train.images.iter().filter(|&&b| b == 255).count();
    assert_eq!(ink + all.train.images.iter().filter(|&&b| b == 0).count(), all.train.images.len());
    let share = ink as f64 / all.train.images.len() as f64;
    assert!((0.03..0.10).contains(&share), "{share}");
    let korean = omniglot.contents(Some("Korean")).unwrap();
    assert_eq!((korean.classes.len(), korean.train.labels.len()), (40, 560));
    assert!(values(&korean, true, "drawer").iter().all(|d| (1..=20).contains(d)));
}
