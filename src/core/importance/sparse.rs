//! Every value of a field against the label, by how often it occurs in the histories.

use super::Method;
use super::bag::Bag;
use super::dense::{COUNT_BINS, count_bin};
use super::figures::{correlation_ratio, mutual_information, pearson};
use super::target::Target;

/// By code: how much the value's counts tell; NaN of those that fewer than `least` histories have.
pub fn scores(bag: &Bag, target: &Target, method: Method, least: u32) -> Vec<f64> {
    let frequent: Vec<bool> = bag.histories().into_iter().map(|histories| histories >= least.max(1)).collect();
    let known =
        |scores: Vec<f64>| scores.into_iter().zip(&frequent).map(|(s, &f)| if f { s } else { f64::NAN }).collect();
    known(match (method, &target.number) {
        (Method::MutualInformation, _) => information(bag, target),
        (Method::Correlation, Some(truth)) => correlations(bag, truth),
        (Method::Correlation, None) => ratios(bag, target),
    })
}

fn information(bag: &Bag, target: &Target) -> Vec<f64> {
    let width = COUNT_BINS * target.classes;
    let mut none = vec![0.0; target.classes];
    target.class.iter().for_each(|&class| none[class as usize] += 1.0);
    let mut tables = vec![0.0; bag.size * width];
    tables.chunks_exact_mut(width).for_each(|table| table[..target.classes].copy_from_slice(&none));
    for (i, &class) in target.class.iter().enumerate() {
        for &(code, count) in bag.get(i) {
            let table = &mut tables[code as usize * width..][..width];
            table[class as usize] -= 1.0;
            table[count_bin(count) * target.classes + class as usize] += 1.0;
        }
    }
    tables.chunks_exact(width).map(|table| mutual_information(table, target.classes)).collect()
}

fn correlations(bag: &Bag, truth: &[f64]) -> Vec<f64> {
    let (n, y, yy) = truth.iter().fold((0.0, 0.0, 0.0), |(n, s, ss), y| (n + 1.0, s + y, ss + y * y));
    let mut sums = vec![[n, 0.0, y, 0.0, yy, 0.0]; bag.size];
    for (i, &y) in truth.iter().enumerate() {
        for &(code, count) in bag.get(i) {
            let (x, of) = (f64::from(count), &mut sums[code as usize]);
            of[1] += x;
            of[3] += x * x;
            of[5] += x * y;
        }
    }
    sums.iter().map(|sums| pearson(sums)).collect()
}

fn ratios(bag: &Bag, target: &Target) -> Vec<f64> {
    let width = 3 * target.classes;
    let mut empty = vec![0.0; width];
    target.class.iter().for_each(|&class| empty[3 * class as usize] += 1.0);
    let mut sums = empty.repeat(bag.size);
    for (i, &class) in target.class.iter().enumerate() {
        for &(code, count) in bag.get(i) {
            let (x, place) = (f64::from(count), code as usize * width + 3 * class as usize);
            sums[place + 1] += x;
            sums[place + 2] += x * x;
        }
    }
    sums.chunks_exact(width).map(correlation_ratio).collect()
}
