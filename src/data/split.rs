//! Which training images keep their labels, which are held out for validation, and which are treated
//! as unlabelled.

use std::fmt;
use std::str::FromStr;

use super::dataset::{Dataset, Part};
use crate::error::{Error, Result};
use crate::random::{Purpose, Stream};

/// How many labels to keep.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum LabelBudget {
    All,
    /// A share of the training images, in (0, 1].
    Fraction(f64),
    Count(usize),
    PerClass(usize),
}

impl FromStr for LabelBudget {
    type Err = String;

    /// `all`, `1%`, `600`, `60/class`.
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("'{text}' is not a label budget: write all, 1%, 600 or 60/class");
        let positive = |s: &str| s.trim().parse::<usize>().ok().filter(|&n| n > 0).ok_or_else(wrong);
        if text == "all" {
            Ok(LabelBudget::All)
        } else if let Some(percent) = text.strip_suffix('%') {
            let share: f64 = percent.trim().parse().map_err(|_| wrong())?;
            if share > 0.0 && share <= 100.0 {
                Ok(LabelBudget::Fraction(share / 100.0))
            } else {
                Err(wrong())
            }
        } else if let Some(count) = text.strip_suffix("/class") {
            Ok(LabelBudget::PerClass(positive(count)?))
        } else {
            Ok(LabelBudget::Count(positive(text)?))
        }
    }
}

impl fmt::Display for LabelBudget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LabelBudget::All => write!(f, "all"),
            LabelBudget::Fraction(share) => write!(f, "{}%", share * 100.0),
            LabelBudget::Count(count) => write!(f, "{count}"),
            LabelBudget::PerClass(count) => write!(f, "{count}/class"),
        }
    }
}

/// Image numbers of a training part, each list in ascending order.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Split {
    pub labelled: Vec<u32>,
    pub validation: Vec<u32>,
    pub unlabelled: Vec<u32>,
}

/// The split of a data set's training part. If the data set marks validation images of its own and
/// `validation` is their number, those are held out; any other number is drawn from all training images,
/// so that 0 trains on the marked ones too.
pub fn of(dataset: &Dataset, budget: LabelBudget, validation: usize, seed: u64) -> Result<Split> {
    let (labels, classes) = (dataset.part(Part::Train).labels(), dataset.class_names().len());
    match dataset.held_out() {
        Some(marks) if dataset.held_out_count() == validation => {
            split(labels, classes, budget, HeldOut::Marked(marks), seed)
        }
        _ => stratified(labels, classes, budget, validation, seed),
    }
}

/// A stratified split: `validation` images with the classes in proportion, then `budget` labelled
/// images of the rest, at least one a class. The same seed gives the same split, and a larger budget a
/// superset of the smaller one's labelled images when it adds to every class.
pub fn stratified(
    labels: &[u32],
    classes: usize,
    budget: LabelBudget,
    validation: usize,
    seed: u64,
) -> Result<Split> {
    split(labels, classes, budget, HeldOut::Drawn(validation), seed)
}

/// Which images are held out for validation.
#[derive(Clone, Copy)]
enum HeldOut<'a> {
    /// So many, with the classes in proportion.
    Drawn(usize),
    /// Those whose mark is 1.
    Marked(&'a [u32]),
}

fn split(
    labels: &[u32],
    classes: usize,
    budget: LabelBudget,
    held_out: HeldOut<'_>,
    seed: u64,
) -> Result<Split> {
    let mut members: Vec<Vec<u32>> = vec![Vec::new(); classes];
    for (i, &label) in labels.iter().enumerate() {
        let class = members.get_mut(label as usize);
        class
            .ok_or_else(|| Error::usage(format!("label {label} of image {i} is not below {classes}")))?
            .push(i as u32);
    }
    for (class, members) in members.iter_mut().enumerate() {
        Stream::new(seed, Purpose::Split, class as u64).shuffle(members);
    }
    let validation = match held_out {
        HeldOut::Drawn(count) => count,
        HeldOut::Marked(marks) => {
            // Stable: the order of the others stays as drawn.
            members.iter_mut().for_each(|m| m.sort_by_key(|&i| 1 - marks[i as usize].min(1)));
            marks.iter().filter(|&&m| m == 1).count()
        }
    };
    if validation >= labels.len() {
        let have = labels.len();
        return Err(Error::usage(format!(
            "{validation} validation images asked for, but there are {have} images"
        )));
    }
    let sizes: Vec<usize> = members.iter().map(Vec::len).collect();
    let held = match held_out {
        HeldOut::Drawn(count) => share_out(count, &sizes, 0),
        HeldOut::Marked(marks) => {
            let marked = |m: &Vec<u32>| m.iter().filter(|&&i| marks[i as usize] == 1).count();
            members.iter().map(marked).collect()
        }
    };
    let left: Vec<usize> = sizes.iter().zip(&held).map(|(s, h)| s - h).collect();
    let rest: usize = left.iter().sum();
    let wanted = match budget {
        LabelBudget::All => rest,
        LabelBudget::Fraction(share) => ((labels.len() as f64 * share).round() as usize).max(1),
        LabelBudget::Count(count) => count,
        LabelBudget::PerClass(count) => count * sizes.iter().filter(|&&s| s > 0).count(),
    };
    let present = left.iter().filter(|&&s| s > 0).count();
    if wanted > rest || wanted < present {
        return Err(Error::usage(format!(
            "{budget} means {wanted} labelled images; there are {rest} beside the validation images, in {present} classes"
        )));
    }
    let kept = match budget {
        LabelBudget::PerClass(count) => {
            if let Some(class) = left.iter().position(|&s| s > 0 && s < count) {
                let have = left[class];
                return Err(Error::usage(format!("class {class} has {have} images, {count} were asked for")));
            }
            left.iter().map(|&s| count.min(s)).collect()
        }
        _ => share_out(wanted, &left, 1),
    };
    let mut split = Split { labelled: Vec::new(), validation: Vec::new(), unlabelled: Vec::new() };
    for (members, (held, kept)) in members.iter().zip(held.into_iter().zip(kept)) {
        let (validation, rest) = members.split_at(held);
        let (labelled, unlabelled) = rest.split_at(kept);
        split.validation.extend(validation);
        split.labelled.extend(labelled);
        split.unlabelled.extend(unlabelled);
    }
    for list in [&mut split.labelled, &mut split.validation, &mut split.unlabelled] {
        list.sort_unstable();
    }
    Ok(split)
}

/// Shares `total` out over groups in proportion to their sizes, by largest remainders (the lower
/// number first among equals), at least `least` to each group that is not empty.
fn share_out(total: usize, sizes: &[usize], least: usize) -> Vec<usize> {
    let all: usize = sizes.iter().sum();
    let exact = |s: usize| total as f64 * s as f64 / all.max(1) as f64;
    let mut shares: Vec<usize> =
        sizes.iter().map(|&s| (exact(s) as usize).max(least.min(s)).min(s)).collect();
    let mut order: Vec<usize> = (0..sizes.len()).collect();
    order.sort_by(|&a, &b| exact(sizes[b]).fract().total_cmp(&exact(sizes[a]).fract()));
    while shares.iter().sum::<usize>() < total {
        let before = shares.iter().sum::<usize>();
        for &i in &order {
            if shares.iter().sum::<usize>() < total && shares[i] < sizes[i] {
                shares[i] += 1;
            }
        }
        if shares.iter().sum::<usize>() == before {
            break;
        }
    }
    // The minimum may have overshot: take back from the largest shares.
    while shares.iter().sum::<usize>() > total {
        match (0..shares.len())
            .filter(|&i| shares[i] > least)
            .max_by_key(|&i| (shares[i], std::cmp::Reverse(i)))
        {
            Some(i) => shares[i] -= 1,
            None => break,
        }
    }
    shares
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn labels(n: usize, classes: u32) -> Vec<u32> {
        (0..n).map(|i| (i as u32 * 7919) % classes).collect()
    }

    proptest! {
        #[test]
        fn a_split_is_a_partition_and_stratified(n in 120usize..400, classes in 2u32..9, seed: u64, percent in 20u32..90) {
            let labels = labels(n, classes);
            let budget = LabelBudget::Fraction(f64::from(percent) / 200.0);
            let split = stratified(&labels, classes as usize, budget, n / 5, seed).unwrap();
            let mut all: Vec<u32> = [&split.labelled[..], &split.validation, &split.unlabelled].concat();
            all.sort_unstable();
            prop_assert_eq!(all, (0..n as u32).collect::<Vec<_>>());
            prop_assert_eq!(split.validation.len(), n / 5);
            let wanted = (n as f64 * (f64::from(percent) / 200.0)).round() as usize;
            prop_assert_eq!(split.labelled.len(), wanted.max(1));
            for class in 0..classes {
                let have = split.labelled.iter().filter(|&&i| labels[i as usize] == class).count();
                prop_assert!(have >= 1);
                prop_assert!((have as f64 - wanted as f64 / f64::from(classes)).abs() <= 2.0);
            }
            prop_assert_eq!(&split, &stratified(&labels, classes as usize, budget, n / 5, seed).unwrap());
        }
    }

    proptest! {
        #[test]
        fn marked_images_are_held_out(n in 60usize..300, classes in 2u32..7, seed: u64, every in 3usize..9) {
            let labels = labels(n, classes);
            let marks: Vec<u32> = (0..n).map(|i| u32::from(i % every == 1)).collect();
            let found =
                split(&labels, classes as usize, LabelBudget::All, HeldOut::Marked(&marks), seed).unwrap();
            let wanted: Vec<u32> = (0..n as u32).filter(|&i| marks[i as usize] == 1).collect();
            prop_assert_eq!(&found.validation, &wanted);
            prop_assert_eq!(found.labelled.len(), n - wanted.len());
            let few = LabelBudget::PerClass(1);
            let few = split(&labels, classes as usize, few, HeldOut::Marked(&marks), seed).unwrap();
            // A class whose images are all marked has none left.
            let left = |class: u32| (0..n).any(|i| labels[i] == class && marks[i] == 0);
            let left = (0..classes).filter(|&class| left(class)).count();
            prop_assert_eq!((few.labelled.len(), &few.validation), (left, &wanted));
            prop_assert!(few.labelled.iter().all(|i| marks[*i as usize] == 0));
        }
    }

    #[test]
    fn budgets_are_read_and_written() {
        for text in ["all", "1%", "600", "60/class", "12.5%"] {
            assert_eq!(text.parse::<LabelBudget>().unwrap().to_string(), text);
        }
        for text in ["", "0", "0%", "101%", "-3", "x/class", "0/class", "1 %x"] {
            assert!(text.parse::<LabelBudget>().is_err(), "{text}");
        }
    }

    #[test]
    fn impossible_budgets_are_refused() {
        let labels = labels(50, 5);
        for budget in [LabelBudget::Count(51), LabelBudget::Count(4), LabelBudget::PerClass(11)] {
            assert!(stratified(&labels, 5, budget, 0, 1).is_err(), "{budget}");
        }
        assert!(stratified(&labels, 5, LabelBudget::All, 50, 1).is_err());
        assert!(stratified(&[7], 5, LabelBudget::All, 0, 1).is_err());
    }
}
