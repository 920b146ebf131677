//! A field of categories as a whole: what one event of a history, drawn at random, says of the label.
//!
//! Each history counts the same, and its events share it out. Such a table's cells are not counts, and fields have many
//! values, so what permuted labels would give is taken off instead of a correction by formula.

use super::Method;
use super::bag::Bag;
use super::figures::{plain_information, squared_v};
use super::grouped::{Figure, GROUPS, jackknife};
use super::target::Target;
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

/// Permutations of the labels.
const PERMUTATIONS: usize = 10;

/// Mutual information in bits; Cramér's V with several classes, the correlation ratio with a number or two classes, of which
/// it is the same. Each without what chance gives.
pub fn figure(bag: &Bag, target: &Target, method: Method) -> Figure {
    let order: Vec<usize> = (0..target.len()).collect();
    let strength = |order: &[usize], without: Option<u8>| match (method, &target.number) {
        (Method::MutualInformation, _) => plain_information(&table(bag, target, order, without), target.classes),
        (Method::Correlation, Some(truth)) => explained(bag, target, truth, order, without),
        (Method::Correlation, None) => squared_v(&table(bag, target, order, without), target.classes),
    };
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let chance = |_| {
        let mut order = order.clone();
        order.shuffle(&mut rng);
        strength(&order, None)
    };
    let chance = (0..PERMUTATIONS).map(chance).sum::<f64>() / PERMUTATIONS as f64;
    let settled = |strength: f64| match method {
        Method::MutualInformation => strength - chance,
        Method::Correlation => ((strength - chance) / (1.0 - chance)).max(0.0).sqrt(),
    };
    let groups = (0..GROUPS as u8).filter(|group| target.group.contains(group));
    let without: Vec<f64> = groups.map(|group| settled(strength(&order, Some(group)))).collect();
    jackknife(settled(strength(&order, None)), &without)
}

/// The examples that count, each with the place of its label.
fn paired<'a>(
    target: &'a Target,
    order: &'a [usize],
    without: Option<u8>,
) -> impl Iterator<Item = (usize, usize)> + use<'a> {
    let pairs = order.iter().copied().enumerate();
    pairs.filter(move |(example, _)| without.is_none_or(|group| target.group[*example] != group))
}

/// What one event of an example counts.
fn share(bag: &Bag, example: usize) -> f64 {
    1.0 / f64::from(bag.get(example).iter().map(|(_, count)| count).sum::<u32>().max(1))
}

/// [codes, classes], example by example one in all
fn table(bag: &Bag, target: &Target, order: &[usize], without: Option<u8>) -> Vec<f64> {
    let mut table = vec![0.0; bag.size * target.classes];
    for (example, label) in paired(target, order, without) {
        let share = share(bag, example);
        for &(code, count) in bag.get(example) {
            table[code as usize * target.classes + target.class[label] as usize] += share * f64::from(count);
        }
    }
    table
}

/// The share of the label's variance that lies between the values: the square of the correlation ratio.
fn explained(bag: &Bag, target: &Target, truth: &[f64], order: &[usize], without: Option<u8>) -> f64 {
    let mut values = vec![(0.0, 0.0); bag.size];
    let (mut n, mut sum, mut squares) = (0.0, 0.0, 0.0);
    for (example, label) in paired(target, order, without).filter(|(example, _)| !bag.get(*example).is_empty()) {
        let (share, y) = (share(bag, example), truth[label]);
        (n, sum, squares) = (n + 1.0, sum + y, squares + y * y);
        for &(code, count) in bag.get(example) {
            let (weight, total) = &mut values[code as usize];
            *weight += share * f64::from(count);
            *total += share * f64::from(count) * y;
        }
    }
    let between: f64 = values.iter().filter(|(weight, _)| *weight > 0.0).map(|(weight, y)| y * y / weight).sum();
    (between - sum * sum / n) / (squares - sum * sum / n)
}
