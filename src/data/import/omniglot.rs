//! Omniglot: 1,623 characters of 50 alphabets, each drawn by 20 people, as 105×105 PNG images of one bit.
//!
//! The files have ink 0 on paper 1; networks see ink 1 on paper 0 (METHODS §8), so images are inverted here
//! and `x / 255` is all that is left to do.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use rayon::prelude::*;
use serde_json::{Value, json};

use super::archive::{self, Member};
use super::checked;
use super::picture::Picture;
use crate::data::dataset::{Contents, HELD_OUT, Normalisation, PartContents};
use crate::error::{Error, Result};
use crate::random::{Purpose, Stream};

const SIZE: usize = 105;

/// The official sets, each a folder or a zip file of that name.
const SETS: [&str; 2] = ["images_background", "images_evaluation"];

/// Fewest drawings of a character that make a split with something in each of its three parts.
const FEWEST: usize = 5;

/// What is known of a drawing from its path, `ALPHABET/characterNN/IIII_DD.png`.
struct Drawing {
    set: usize,
    alphabet: String,
    character: String,
    /// Number of the character among all, which names its permutation.
    number: u64,
    drawer: u32,
    path: PathBuf,
    file: Vec<u8>,
}

/// Where a drawing goes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Use {
    Train,
    Validation,
    Test,
}

/// All drawings, from which data sets of one alphabet or of all are made.
pub struct Omniglot {
    from: PathBuf,
    seed: u64,
    sources: Vec<Value>,
    alphabets: Vec<String>,
    /// Drawings of a character follow each other, characters of an alphabet too.
    drawings: Vec<(Drawing, Use)>,
}

impl Omniglot {
    /// A folder with any of `images_background`, `images_evaluation`, unpacked or as `.zip`; or one zip file, or a
    /// folder of alphabets.
    ///
    /// Of each character half of the drawings train, a fifth validates and the rest tests: 10, 4 and 6 of the
    /// official 20. Which is which follows from the seed and the character's number alone.
    pub fn open(from: &Path, seed: u64) -> Result<Omniglot> {
        let (mut drawings, mut sources) = (Vec::new(), Vec::new());
        for (set, place) in places(from)?.into_iter().enumerate() {
            let mut read = archive::read(&place, &is_drawing)?;
            sources.push(read.provenance.take());
            for member in std::mem::take(&mut read.members) {
                let path = read.place(&member);
                drawings.push(drawing(set, path, member)?);
            }
        }
        let key = |d: &Drawing| (d.set, d.alphabet.clone(), d.character.clone(), d.drawer);
        drawings.sort_by_cached_key(key);
        if let Some(twice) = drawings.windows(2).find(|pair| key(&pair[0]) == key(&pair[1])) {
            let found = format!("the same drawing as {}", twice[0].path.display());
            return Err(Error::format(&twice[1].path, "name", "a drawing of its own", found));
        }
        if drawings.is_empty() {
            let expected = "images such as images_background/Greek/character01/0394_01.png";
            return Err(Error::format(from, "content", expected, "none"));
        }
        let mut alphabets: Vec<String> = Vec::new();
        for drawing in &drawings {
            if !alphabets.contains(&drawing.alphabet) {
                alphabets.push(drawing.alphabet.clone());
            }
        }
        let uses = uses(&drawings, seed)?;
        let drawings = drawings.into_iter().zip(uses).collect();
        Ok(Omniglot { from: from.to_path_buf(), seed, sources, alphabets, drawings })
    }

    /// Names, those of `images_background` first.
    pub fn alphabets(&self) -> &[String] {
        &self.alphabets
    }

    /// The data set of an alphabet, or of all of them; its classes are characters.
    pub fn contents(&self, alphabet: Option<&str>) -> Result<Contents> {
        if let Some(name) = alphabet
            && !self.alphabets.iter().any(|a| a == name)
        {
            let known = self.alphabets.join(", ");
            return Err(Error::usage(format!("there is no alphabet '{name}'; there are: {known}")));
        }
        let chosen = |d: &&(Drawing, Use)| alphabet.is_none_or(|name| d.0.alphabet == name);
        let drawings: Vec<&(Drawing, Use)> = self.drawings.iter().filter(chosen).collect();
        let name_of = |d: &Drawing| match alphabet {
            Some(_) => d.character.clone(),
            None => format!("{}/{}", d.alphabet, d.character),
        };
        let mut classes: Vec<String> = drawings.iter().map(|d| name_of(&d.0)).collect();
        classes.dedup();
        let of = |test: bool| drawings.iter().filter(move |d| (d.1 == Use::Test) == test).copied();
        let label = |d: &Drawing, from: usize| {
            let name = name_of(d);
            classes[from..].iter().position(|c| *c == name).map_or(0, |at| from + at)
        };
        let part = |test: bool| -> Result<PartContents> {
            let drawings: Vec<&(Drawing, Use)> = of(test).collect();
            let mut images = vec![0; drawings.len() * SIZE * SIZE];
            let done: Vec<Result<()>> = images
                .par_chunks_exact_mut(SIZE * SIZE)
                .zip(&drawings)
                .map(|(image, (drawing, _))| ink(drawing, image))
                .collect();
            done.into_iter().collect::<Result<()>>()?;
            // Classes are in the order of the drawings, so the search for one starts at the last one.
            let mut last = 0;
            let mut labels = Vec::with_capacity(drawings.len());
            for (drawing, _) in &drawings {
                last = label(drawing, last);
                labels.push(last as u32);
            }
            let values = |of: &dyn Fn(&(Drawing, Use)) -> usize| -> Vec<u32> {
                drawings.iter().map(|d| of(d) as u32).collect()
            };
            let alphabet = |d: &(Drawing, Use)| {
                self.alphabets.iter().position(|a| *a == d.0.alphabet).unwrap_or_default()
            };
            let mut attributes = vec![
                ("alphabet".to_string(), values(&alphabet)),
                ("drawer".to_string(), values(&|d| d.0.drawer as usize)),
            ];
            if !test {
                let held_out = values(&|d| usize::from(d.1 == Use::Validation));
                attributes.push((HELD_OUT.to_string(), held_out));
            }
            Ok(PartContents { images, labels, attributes })
        };
        let (train, test) = (part(false)?, part(true)?);
        let name = alphabet.map_or("omniglot".into(), |a| format!("omniglot-{a}"));
        checked(
            Contents {
                name,
                classes,
                value_names: BTreeMap::from([("alphabet".to_string(), self.alphabets.clone())]),
                normalise: Normalisation::none(1),
                source: json!({
                    "format": "omniglot", "files": self.sources, "seed": self.seed, "alphabet": alphabet,
                }),
                image_shape: [SIZE, SIZE, 1],
                train,
                test,
            },
            &self.from,
        )
    }
}

/// The sets below a folder, or the place itself.
fn places(from: &Path) -> Result<Vec<PathBuf>> {
    std::fs::metadata(from).map_err(|e| Error::io(from, "open", e))?;
    let of = |set: &str| {
        let (folder, zip) = (from.join(set), from.join(format!("{set}.zip")));
        if folder.is_dir() { Some(folder) } else { zip.is_file().then_some(zip) }
    };
    let sets: Vec<PathBuf> = SETS.iter().filter_map(|set| of(set)).collect();
    Ok(if sets.is_empty() { vec![from.to_path_buf()] } else { sets })
}

/// Image files, but for those that some systems put beside them.
fn is_drawing(name: &str) -> bool {
    name.ends_with(".png") && !name.split('/').any(|part| part.starts_with('.') || part == "__MACOSX")
}

fn drawing(set: usize, path: PathBuf, member: Member) -> Result<Drawing> {
    let parts: Vec<&str> = member.name.rsplit('/').take(3).collect();
    let numbers = |file: &str| -> Option<(u64, u32)> {
        let (number, drawer) = file.strip_suffix(".png")?.split_once('_')?;
        Some((number.parse().ok()?, drawer.parse().ok().filter(|&d| d > 0)?))
    };
    match parts[..] {
        [file, character, alphabet] if numbers(file).is_some() => {
            let (number, drawer) = numbers(file).unwrap_or_default();
            let (alphabet, character) = (alphabet.to_string(), character.to_string());
            Ok(Drawing { set, alphabet, character, number, drawer, path, file: member.bytes })
        }
        _ => Err(Error::format(
            &path,
            "name",
            "ALPHABET/CHARACTER/NUMBER_DRAWER.png, such as Greek/character01/0394_01.png",
            "another name",
        )),
    }
}

/// Uses of sorted drawings.
fn uses(drawings: &[Drawing], seed: u64) -> Result<Vec<Use>> {
    let mut uses = Vec::with_capacity(drawings.len());
    for character in
        drawings.chunk_by(|a, b| (a.set, &a.alphabet, &a.character) == (b.set, &b.alphabet, &b.character))
    {
        let (first, count) = (&character[0], character.len());
        if count < FEWEST {
            let folder = first.path.parent().unwrap_or(&first.path);
            let expected = format!("at least {FEWEST} drawings of a character");
            return Err(Error::format(folder, "the folder", expected, count.to_string()));
        }
        if let Some(other) = character.iter().find(|d| d.number != first.number) {
            let expected = format!("number {} as in the other drawings of this character", first.number);
            return Err(Error::format(&other.path, "name", expected, other.number.to_string()));
        }
        let mut order: Vec<Use> = [(Use::Train, count / 2), (Use::Validation, count / 5)]
            .into_iter()
            .flat_map(|(what, many)| std::iter::repeat_n(what, many))
            .collect();
        order.resize(count, Use::Test);
        Stream::new(seed, Purpose::Drawings, first.number).shuffle(&mut order);
        uses.extend(order);
    }
    Ok(uses)
}

/// The drawing as bytes: ink 255, paper 0.
fn ink(drawing: &Drawing, out: &mut [u8]) -> Result<()> {
    let picture = Picture::decode(&drawing.path, &drawing.file, None)?;
    if (picture.rows, picture.columns) != (SIZE, SIZE) {
        let found = format!("{} x {}", picture.rows, picture.columns);
        return Err(Error::format(&drawing.path, "image size", "105 x 105 pixels", found));
    }
    let grey = picture.into_grey();
    out.iter_mut().zip(grey).for_each(|(ink, light)| *ink = 255 - light);
    Ok(())
}
