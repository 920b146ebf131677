//! Weights by row, only those that are not zero.

use crate::artifact::{Artifact, damaged};
use crate::error::Result;

/// A matrix of items by items, or of entities by items.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Sparse {
    /// Row `i` has the entries `starts[i]..starts[i + 1]`; one more than rows.
    starts: Vec<usize>,
    /// Column of each entry, rising within a row.
    columns: Vec<u32>,
    weights: Vec<f32>,
}

impl Sparse {
    /// Each row's columns, rising, with their weights.
    pub fn from_rows(rows: impl IntoIterator<Item = Vec<(u32, f32)>>) -> Self {
        let mut sparse = Sparse { starts: vec![0], columns: Vec::new(), weights: Vec::new() };
        for row in rows {
            sparse.columns.extend(row.iter().map(|entry| entry.0));
            sparse.weights.extend(row.iter().map(|entry| entry.1));
            sparse.starts.push(sparse.columns.len());
        }
        sparse
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        self.starts.len() - 1
    }

    /// Number of entries.
    pub fn entries(&self) -> usize {
        self.columns.len()
    }

    /// Number of entries of a row.
    pub fn count(&self, row: usize) -> usize {
        self.starts[row + 1] - self.starts[row]
    }

    /// Columns and weights of a row.
    pub fn row(&self, row: usize) -> impl Iterator<Item = (usize, f32)> {
        let entries = self.starts[row]..self.starts[row + 1];
        self.columns[entries.clone()]
            .iter()
            .zip(&self.weights[entries])
            .map(|(&column, &weight)| (column as usize, weight))
    }

    /// The `width` columns become rows.
    pub fn transposed(&self, width: usize) -> Self {
        let mut starts = vec![0; width + 1];
        self.columns.iter().for_each(|&column| starts[column as usize + 1] += 1);
        (0..width).for_each(|column| starts[column + 1] += starts[column]);
        let mut next = starts.clone();
        let mut sparse = Sparse { starts, columns: vec![0; self.entries()], weights: vec![0.0; self.entries()] };
        for row in 0..self.len() {
            for (column, weight) in self.row(row) {
                let place = next[column];
                (sparse.columns[place], sparse.weights[place]) = (row as u32, weight);
                next[column] += 1;
            }
        }
        sparse
    }

    /// As the tensors `name.starts`, `name.columns` and `name.weights`.
    pub fn write(&self, artifact: &mut Artifact, name: &str) {
        let starts: Vec<i64> = self.starts.iter().map(|&start| start as i64).collect();
        artifact.put_i64(&format!("{name}.starts"), &starts);
        artifact.put_u32(&format!("{name}.columns"), &self.columns);
        artifact.put_f32(&format!("{name}.weights"), &[self.weights.len()], &self.weights);
    }

    /// What [`Sparse::write`] wrote, with `width` columns or as many as rows; an error where the parts do not
    /// fit together.
    pub fn read(artifact: &Artifact, name: &str, width: Option<usize>) -> Result<Self> {
        let starts = artifact.get_i64(&format!("{name}.starts"))?;
        let columns = artifact.get_u32(&format!("{name}.columns"))?;
        let weights = artifact.get_f32(&format!("{name}.weights"))?;
        let rows = starts.len().saturating_sub(1);
        let fits = starts.first() == Some(&0)
            && starts.is_sorted()
            && starts.last() == Some(&(columns.len() as i64))
            && columns.len() == weights.len()
            && columns.iter().all(|&column| (column as usize) < width.unwrap_or(rows));
        match fits {
            true => Ok(Sparse { starts: starts.into_iter().map(|start| start as usize).collect(), columns, weights }),
            false => Err(damaged(format!("Its {name} do not fit together."))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sparse() -> Sparse {
        Sparse::from_rows([vec![(1, 0.5), (2, 2.0)], vec![], vec![(1, 3.0)]])
    }

    #[test]
    fn rows_become_columns() {
        let transposed = Sparse::from_rows([vec![], vec![(0, 0.5), (2, 3.0)], vec![(0, 2.0)]]);
        assert_eq!(sparse().transposed(3), transposed);
        assert_eq!((sparse().len(), sparse().entries()), (3, 3));
        assert_eq!(sparse().row(0).collect::<Vec<_>>(), [(1, 0.5), (2, 2.0)]);
    }

    #[test]
    fn parts_that_do_not_fit_are_damage() {
        let mut artifact = Artifact::new();
        sparse().write(&mut artifact, "pairs");
        assert_eq!(Sparse::read(&artifact, "pairs", None).unwrap(), sparse());
        for (starts, columns) in [(vec![0, 9], vec![0]), (vec![], vec![]), (vec![0, 1], vec![7]), (vec![0, -1], vec![])]
        {
            artifact.put_i64("pairs.starts", &starts);
            artifact.put_u32("pairs.columns", &columns);
            artifact.put_f32("pairs.weights", &[columns.len()], &vec![1.0; columns.len()]);
            assert_eq!(
                Sparse::read(&artifact, "pairs", None).unwrap_err().detail.unwrap(),
                "Its pairs do not fit together."
            );
        }
    }
}
