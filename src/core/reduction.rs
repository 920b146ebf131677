//! Fewer dimensions for profile vectors: what is asked for, and the mapping that was fitted.

use crate::artifact::{Artifact, damaged};
use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};

const KEY: &str = "reduction";
const BASIS: &str = "reduction.basis";
const CENTER: &str = "reduction.center";

/// How vectors are reduced.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "method", rename_all = "snake_case")]
pub enum Reduce {
    Pca(Pca),
    Lda(Lda),
}

/// Principal components about the origin (Jolliffe 2002, 14.2.3): no projection to so few dimensions loses less of the
/// vectors' squared lengths, and so of their inner products.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pca {
    pub dim: usize,
}

/// Linear discriminants (Fisher 1936, Rao 1948): the directions in which a label's classes lie farthest apart.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lda {
    /// A label of kind class.
    pub label: String,
    /// At most one less than there are classes, which is the default.
    #[serde(default)]
    pub dim: Option<usize>,
}

impl Reduce {
    pub fn method(&self) -> &'static str {
        match self {
            Reduce::Pca(_) => "pca",
            Reduce::Lda(_) => "lda",
        }
    }

    /// Dimensions that are left; `None` where the classes say.
    pub fn dim(&self) -> Option<usize> {
        match self {
            Reduce::Pca(pca) => Some(pca.dim),
            Reduce::Lda(lda) => lda.dim,
        }
    }

    /// The label that it is fitted by.
    pub fn label(&self) -> Option<&str> {
        match self {
            Reduce::Pca(_) => None,
            Reduce::Lda(lda) => Some(&lda.label),
        }
    }

    /// Whether items can be projected too.
    pub fn keeps_products(&self) -> bool {
        matches!(self, Reduce::Pca(_))
    }

    /// An error where vectors of so many dimensions cannot be reduced so.
    pub fn check(&self, from: usize) -> Result<()> {
        match self.dim() {
            Some(dim) if dim == 0 || dim > from => {
                Err(Error::invalid(format!("reduce.dim must be between 1 and {from}, not {dim}"))
                    .detail(format!("The model's vectors have {from} dimensions.")))
            }
            _ => Ok(()),
        }
    }
}

/// A fitted mapping.
#[derive(Clone, Debug, PartialEq)]
pub struct Reduction {
    /// How it was asked for.
    pub reduce: Reduce,
    /// Dimensions of the vectors that it takes.
    from: usize,
    /// [dim, from], row-major
    basis: Vec<f32>,
    /// What is taken off before: all zeros where inner products are to stay. [from]
    center: Vec<f32>,
}

impl Reduction {
    /// `basis`: [dim, from], row-major; `center`: [from]
    pub fn new(reduce: Reduce, basis: Vec<f32>, center: Vec<f32>) -> Self {
        Reduction { reduce, from: center.len(), basis, center }
    }

    /// Dimensions that are left.
    pub fn dim(&self) -> usize {
        self.basis.len() / self.from.max(1)
    }

    pub fn from(&self) -> usize {
        self.from
    }

    /// [n, from] -> [n, dim], row-major: `(x - center) basis^T`
    pub fn apply(&self, vectors: &[f32]) -> Vec<f32> {
        let mut centered = vec![0.0; self.from];
        let mut reduced = Vec::with_capacity(vectors.len() / self.from.max(1) * self.dim());
        for vector in vectors.chunks_exact(self.from) {
            centered.iter_mut().zip(vector).zip(&self.center).for_each(|((c, x), center)| *c = x - center);
            let axes = self.basis.chunks_exact(self.from);
            reduced.extend(axes.map(|axis| axis.iter().zip(&centered).map(|(a, x)| a * x).sum::<f32>()));
        }
        reduced
    }

    /// One safetensors file.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        let mut artifact = Artifact::new();
        artifact.put_json(KEY, &self.reduce)?;
        artifact.put_f32(BASIS, &[self.dim(), self.from], &self.basis);
        artifact.put_f32(CENTER, &[self.from], &self.center);
        artifact.to_bytes()
    }

    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        let artifact = Artifact::from_bytes(bytes)?;
        let (basis, center) = (artifact.get_f32(BASIS)?, artifact.get_f32(CENTER)?);
        if center.is_empty() || basis.is_empty() || !basis.len().is_multiple_of(center.len()) {
            return Err(damaged("The mapping of its profile's vectors has no shape."));
        }
        Ok(Reduction::new(artifact.get_json(KEY)?, basis, center))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_mapping_by_hand_and_as_bytes() {
        let reduce = Reduce::Pca(Pca { dim: 2 });
        let reduction = Reduction::new(reduce, vec![1.0, 0.0, 0.0, 0.0, 0.6, 0.8], vec![1.0, 0.0, 2.0]);
        assert_eq!((reduction.dim(), reduction.from()), (2, 3));
        assert_eq!(reduction.apply(&[1.0, 0.0, 2.0, 3.0, 5.0, 12.0]), [0.0, 0.0, 2.0, 11.0]);
        assert_eq!(Reduction::from_bytes(&reduction.to_bytes().unwrap()).unwrap(), reduction);
    }

    #[test]
    fn options_are_read_and_checked() {
        let read = |value| serde_json::from_value::<Reduce>(value);
        assert_eq!(read(json!({"method": "pca", "dim": 3})).unwrap().dim(), Some(3));
        let lda = read(json!({"method": "lda", "label": "tier"})).unwrap();
        assert_eq!((lda.label(), lda.dim(), lda.keeps_products()), (Some("tier"), None, false));
        assert!(read(json!({"method": "pca", "dim": 3, "label": "tier"})).is_err());
        assert!(read(json!({"method": "tsne"})).is_err());
        let error = Reduce::Pca(Pca { dim: 9 }).check(8).unwrap_err();
        assert_eq!(error.message, "reduce.dim must be between 1 and 8, not 9");
    }
}
