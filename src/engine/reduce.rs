//! Fitting a mapping of profile vectors to fewer dimensions.
//!
//! Principal components are those of the second moment about the origin. Vectors are compared by inner products and cosines
//! from the origin, so a mean that is taken off would be missing in every item's score; and it is not the same for each item.
//! (Of the items a mean could be taken off: it adds the same to all of an entity's scores.)
//!
//! Discriminants are of the classes' scatter within, shrunk towards its own diagonal (Schäfer & Strimmer 2005), because
//! vectors can have more dimensions than there are examples.

use crate::error::Result;
use crate::intake::Gathered;
use crate::parameters::floats;
use crate::report::Reporter;
use crate::score::Scoring;
use crate::version::Version;
use persona_core::features::Encoded;
use persona_core::labels::{Example, Examples, Truth};
use persona_core::protocol::{self, ARTIFACT_CHUNK, Outcome, cut};
use persona_core::reduction::{Reduce, Reduction};
use persona_core::spec::Split;
use persona_core::{Error, ErrorKind};
use std::ops::Range;
use tch::{Kind, Tensor};

/// Entities that components are fitted to at most.
const SAMPLE: usize = 20_000;

/// Draws them.
const SEED: u64 = 0x0070_6361;

/// The share of the diagonal in the scatter within.
const SHRINKAGE: f64 = 0.1;

/// What every dimension varies at least, as a share of the mean.
const FLOOR: f64 = 1e-6;

/// The mapping that a profile has, or one that is fitted to the version's vectors and sent to be kept. `labelled`: the
/// examples that train, of the label that it asks for.
pub fn mapping(
    reduce: &Reduce,
    stored: Option<&[u8]>,
    scoring: &Scoring,
    labelled: &[Example],
    outcome: &mut Outcome,
    reporter: &mut Reporter,
) -> Result<Reduction> {
    if let Some(bytes) = stored {
        return Ok(Reduction::from_bytes(bytes)?);
    }
    let (encoded, from) = (scoring.encoded(), scoring.dim());
    let reduction = match reduce {
        Reduce::Pca(pca) => {
            let histories: Vec<Range<usize>> =
                drawn(encoded).into_iter().map(|entity| encoded.offsets[entity]..encoded.offsets[entity + 1]).collect();
            principal_components(reduce, pca.dim, &scoring.vectors(&histories)?, from, outcome)?
        }
        Reduce::Lda(lda) => {
            let history = |example: &Example| encoded.offsets[example.entity]..example.end;
            let vectors = scoring.vectors(&labelled.iter().map(history).collect::<Vec<_>>())?;
            let class = |example: &Example| if let Truth::Class(class) = example.truth { class } else { 0 };
            let classes: Vec<u32> = labelled.iter().map(class).collect();
            let distinct = classes.iter().max().map_or(1, |&most| most as usize + 1);
            let dim = lda.dim.unwrap_or(distinct.saturating_sub(1)).min(from);
            discriminants(reduce, dim, &vectors, &classes, from, outcome)?
        }
    };
    for frame in cut(protocol::Kind::Artifact, reduction.to_bytes()?, ARTIFACT_CHUNK) {
        reporter.frame(frame)?;
    }
    Ok(reduction)
}

/// The examples that train, of the label that a reduction asks for; none where it asks for none.
pub fn labelled(reduce: &Reduce, gathered: &Gathered, version: &Version) -> Result<Vec<Example>> {
    let Some(name) = reduce.label() else { return Ok(Vec::new()) };
    let label = gathered.source.label(name).ok_or_else(|| Error::invalid(format!("there is no label \"{name}\"")))?;
    let examples = Examples::new(label, &gathered.source, &gathered.events, gathered.label(name), 2)?;
    if examples.classes.is_none() {
        return Err(Error::new(ErrorKind::Unsupported, format!("label \"{name}\" has no classes to tell apart")).into());
    }
    let training = &version.spec.training;
    let cutoffs = examples.cutoffs(training).map(|own| version.fitted.cutoffs.unwrap_or(own));
    let train = match training.split {
        Split::KFold => (0..examples.rows.len()).collect(),
        _ => examples.parts(&gathered.events.keys, training, cutoffs).train,
    };
    Ok(train.into_iter().map(|i| examples.rows[i]).collect())
}

/// Entities drawn by their keys alone, in order.
fn drawn(encoded: &Encoded) -> Vec<usize> {
    let mut entities: Vec<usize> = (0..encoded.entities()).collect();
    if entities.len() > SAMPLE {
        entities.sort_by(|&a, &b| encoded.keys.share(a, SEED).total_cmp(&encoded.keys.share(b, SEED)));
        entities.truncate(SAMPLE);
        entities.sort_unstable();
    }
    entities
}

/// To vectors [n, from], row-major. What it keeps is noted.
pub fn principal_components(
    reduce: &Reduce,
    dim: usize,
    vectors: &[f32],
    from: usize,
    outcome: &mut Outcome,
) -> Result<Reduction> {
    let _guard = tch::no_grad_guard();
    let x = matrix(vectors, from)?;
    let n = x.size()[0] as f64;
    let moment = x.f_tr()?.f_mm(&x)?.f_div_scalar(n)?;
    let (values, basis) = largest(&moment, dim)?;
    let centered = x.f_sub(&x.f_mean_dim(0i64, true, Kind::Double)?)?;
    let kept = |x: &Tensor| -> Result<f64> {
        let squares = |x: &Tensor| x.f_square()?.f_sum(Kind::Double)?.f_double_value(&[]);
        Ok(squares(&x.f_mm(&basis.f_tr()?)?)? / squares(x)?.max(f64::MIN_POSITIVE))
    };
    let first = values.f_get(0)?.f_double_value(&[])? / trace(&moment)?.max(f64::MIN_POSITIVE);
    outcome.notes.push(format!(
        "{dim} of {from} dimensions explain {:.1} % of the vectors' variance and keep {:.1} % of their squared lengths, \
         the first of them {:.1} %.",
        100.0 * kept(&centered)?,
        100.0 * kept(&x)?,
        100.0 * first
    ));
    Ok(Reduction::new(reduce.clone(), floats(&basis)?, vec![0.0; from]))
}

/// To vectors [n, from], row-major, of which each has a class.
pub fn discriminants(
    reduce: &Reduce,
    dim: usize,
    vectors: &[f32],
    classes: &[u32],
    from: usize,
    outcome: &mut Outcome,
) -> Result<Reduction> {
    let _guard = tch::no_grad_guard();
    let present = (0..=classes.iter().copied().max().unwrap_or(0)).filter(|class| classes.contains(class));
    let present: Vec<u32> = present.collect();
    if dim >= present.len() {
        return Err(Error::new(
            ErrorKind::InsufficientData,
            format!("{} classes give at most {} dimensions, not {dim}", present.len(), present.len().saturating_sub(1)),
        )
        .hint("Create the profile with a smaller reduce.dim, or label more entities.")
        .into());
    }
    let x = matrix(vectors, from)?;
    let mean = x.f_mean_dim(0i64, true, Kind::Double)?;
    let mut within = Tensor::f_zeros([from as i64, from as i64], (Kind::Double, x.device()))?;
    let mut between = within.f_zeros_like()?;
    for class in present {
        let rows = (0..).zip(classes).filter(|(_, of)| **of == class).map(|(row, _)| row).collect::<Vec<i64>>();
        let of = x.f_index_select(0, &Tensor::f_from_slice(&rows)?)?;
        let center = of.f_mean_dim(0i64, true, Kind::Double)?;
        let (inside, outside) = (of.f_sub(&center)?, center.f_sub(&mean)?);
        within = within.f_add(&inside.f_tr()?.f_mm(&inside)?)?;
        between = between.f_add(&outside.f_tr()?.f_mm(&outside)?.f_mul_scalar(rows.len() as f64)?)?;
    }
    let n = x.size()[0] as f64;
    let floor = (FLOOR * trace(&within)? / from as f64).max(f64::MIN_POSITIVE);
    let diagonal = within.f_diag(0)?.f_add_scalar(floor)?.f_diag(0)?;
    let within = within.f_mul_scalar((1.0 - SHRINKAGE) / n)?.f_add(&diagonal.f_mul_scalar(SHRINKAGE / n)?)?;
    let between = between.f_div_scalar(n)?;
    let (values, axes) = within.f_linalg_eigh("L")?;
    let whiten = axes.f_mul(&values.f_rsqrt()?)?.f_mm(&axes.f_tr()?)?;
    let (ratios, turned) = largest(&whiten.f_mm(&between)?.f_mm(&whiten)?, dim)?;
    let told: Vec<String> = floats(&ratios)?.iter().map(|ratio| format!("{ratio:.2}")).collect();
    outcome.notes.push(format!(
        "Between the classes the vectors vary {} times as much as within, dimension by dimension; {} examples said so.",
        told.join(", "),
        classes.len()
    ));
    Ok(Reduction::new(reduce.clone(), floats(&turned.f_mm(&whiten)?)?, floats(&mean)?))
}

/// The eigenvectors of the largest eigenvalues of a symmetric matrix, as rows, the largest first. Which way each points is
/// arbitrary, so its largest number is made positive.
fn largest(symmetric: &Tensor, dim: usize) -> Result<(Tensor, Tensor)> {
    let (values, vectors) = symmetric.f_linalg_eigh("L")?;
    let (from, dim) = (values.size()[0], dim as i64);
    let values = values.f_narrow(0, from - dim, dim)?.f_flip([0i64])?;
    let axes = vectors.f_tr()?.f_narrow(0, from - dim, dim)?.f_flip([0i64])?;
    let largest = axes.f_abs()?.f_argmax(1i64, true)?;
    let signs = axes.f_gather(1, &largest, false)?.f_sign()?;
    Ok((values, axes.f_mul(&signs)?))
}

fn matrix(vectors: &[f32], from: usize) -> Result<Tensor> {
    Ok(Tensor::f_from_slice(vectors)?.f_view([-1, from as i64])?.f_to_kind(Kind::Double)?)
}

fn trace(matrix: &Tensor) -> Result<f64> {
    Ok(matrix.f_trace()?.f_double_value(&[])?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use persona_core::reduction::{Lda, Pca};

    #[test]
    fn components_keep_products_of_vectors_in_few_dimensions() {
        // Points on a plane in three dimensions, away from the origin.
        let plane = [[0.6f32, 0.8, 0.0], [0.0, 0.0, 1.0]];
        let points: Vec<f32> = (0..40)
            .flat_map(|i| {
                let (a, b) = (3.0 + (i % 7) as f32, (i % 5) as f32 - 1.0);
                (0..3).map(move |j| a * plane[0][j] + b * plane[1][j])
            })
            .collect();
        let mut outcome = Outcome::default();
        let reduce = Reduce::Pca(Pca { dim: 2 });
        let reduction = principal_components(&reduce, 2, &points, 3, &mut outcome).unwrap();
        let reduced = reduction.apply(&points);
        let product =
            |x: &[f32], n: usize, i: usize, j: usize| -> f32 { (0..n).map(|k| x[i * n + k] * x[j * n + k]).sum() };
        for (i, j) in [(0, 1), (3, 17), (5, 5)] {
            assert!((product(&points, 3, i, j) - product(&reduced, 2, i, j)).abs() < 1e-3);
        }
        assert!(outcome.notes[0].starts_with("2 of 3 dimensions explain 100.0 % of the vectors' variance"));
        // The first axis carries the mean, so it points along the plane's first.
        let again = principal_components(&reduce, 2, &points, 3, &mut outcome).unwrap();
        assert_eq!(again, reduction);
    }

    #[test]
    fn the_discriminant_of_two_classes_is_fishers() {
        // Classes differ along the second axis alone; the first varies a hundred times as much.
        let mut vectors = Vec::new();
        let mut classes = Vec::new();
        for i in 0..60 {
            let class = i % 2;
            vectors.extend([10.0 * ((i * 7 % 13) as f32 - 6.0), class as f32 + 0.1 * ((i * 5 % 11) as f32 - 5.0)]);
            classes.push(class as u32);
        }
        let mut outcome = Outcome::default();
        let reduce = Reduce::Lda(Lda { label: "x".into(), dim: Some(1) });
        let reduction = discriminants(&reduce, 1, &vectors, &classes, 2, &mut outcome).unwrap();
        let said = reduction.apply(&vectors);
        let side = |class: u32| said.iter().zip(&classes).filter(move |(_, of)| **of == class).map(|(x, _)| *x);
        let means = [0, 1].map(|class| side(class).sum::<f32>() / 30.0);
        let spread = (side(0).map(|x| (x - means[0]).powi(2)).sum::<f32>() / 30.0).sqrt();
        // Along the second axis the classes are 1 apart, and deviate by a tenth of what eleven equal steps do.
        let apart = (means[1] - means[0]).abs() / spread;
        assert!((apart - 1.0 / 0.316).abs() < 0.4, "{apart}");
        assert!((means[0] + means[1]).abs() < 1e-4, "{means:?}");
        let error = discriminants(&reduce, 2, &vectors, &classes, 2, &mut outcome).unwrap_err();
        assert!(error.0.message.contains("2 classes give at most 1 dimensions, not 2"));
    }
}
