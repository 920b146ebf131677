//! Distinct vectors, one after the other in one allocation.

use foldhash::fast::RandomState;
use hashbrown::HashTable;
use hashbrown::hash_table::Entry;
use std::hash::{BuildHasher, Hasher};

/// Rows of one width.
#[derive(Clone, Debug, PartialEq)]
pub struct Vectors {
    dim: usize,
    numbers: Vec<f32>,
}

impl Vectors {
    /// No rows yet, of so many dimensions, at least one.
    pub fn new(dim: usize) -> Self {
        Vectors { dim: dim.max(1), numbers: Vec::new() }
    }

    pub fn dim(&self) -> usize {
        self.dim
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        self.numbers.len() / self.dim
    }

    pub fn is_empty(&self) -> bool {
        self.numbers.is_empty()
    }

    pub fn get(&self, row: usize) -> &[f32] {
        &self.numbers[row * self.dim..][..self.dim]
    }

    pub fn push(&mut self, row: &[f32]) {
        debug_assert_eq!(row.len(), self.dim);
        self.numbers.extend_from_slice(row);
    }

    pub fn rows(&self) -> impl Iterator<Item = &[f32]> {
        self.numbers.chunks_exact(self.dim)
    }

    pub fn rows_mut(&mut self) -> impl Iterator<Item = &mut [f32]> {
        self.numbers.chunks_exact_mut(self.dim)
    }

    /// Bytes in memory.
    pub fn bytes(&self) -> usize {
        size_of_val(self.numbers.as_slice())
    }
}

/// A code for each distinct vector, in order of first arrival: a vector that many events share is there once.
pub(super) struct VectorDictionary {
    pub rows: Vectors,
    codes: HashTable<u32>,
    hasher: RandomState,
    /// The vector that is looked for, as numbers.
    wanted: Vec<f32>,
}

impl VectorDictionary {
    pub fn new(dim: usize) -> Self {
        VectorDictionary {
            rows: Vectors::new(dim),
            codes: HashTable::new(),
            hasher: RandomState::default(),
            wanted: Vec::new(),
        }
    }

    /// `bytes`: little-endian numbers, as many as the dictionary's dimensions.
    pub fn code(&mut self, bytes: &[u8]) -> u32 {
        let VectorDictionary { rows, codes, hasher, wanted } = self;
        wanted.clear();
        wanted.extend(bytes.as_chunks().0.iter().map(|&number| f32::from_le_bytes(number)));
        let hash = |row: &[f32]| {
            let mut hash = hasher.build_hasher();
            row.iter().for_each(|x| hash.write_u32(x.to_bits()));
            hash.finish()
        };
        let same = |row: &[f32]| row.iter().zip(wanted.iter()).all(|(a, b)| a.to_bits() == b.to_bits());
        match codes.entry(hash(wanted), |&code| same(rows.get(code as usize)), |&code| hash(rows.get(code as usize))) {
            Entry::Occupied(entry) => *entry.get(),
            Entry::Vacant(entry) => {
                let code = rows.len() as u32;
                entry.insert(code);
                rows.push(wanted);
                code
            }
        }
    }

    pub fn bytes(&self) -> usize {
        self.codes.allocation_size() + self.rows.bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_vectors_share_a_row() {
        let mut dictionary = VectorDictionary::new(3);
        let vectors: [[f32; 3]; 3] = [[1.0, 2.0, 3.0], [1.0, 2.0, -3.0], [0.0; 3]];
        let bytes = |row: &[f32; 3]| row.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<_>>();
        let codes: Vec<u32> = [0, 1, 0, 2, 1].map(|i: usize| dictionary.code(&bytes(&vectors[i]))).to_vec();
        assert_eq!(codes, [0, 1, 0, 2, 1]);
        assert_eq!(dictionary.rows.rows().collect::<Vec<_>>(), vectors);
        assert_eq!((dictionary.rows.len(), dictionary.rows.bytes()), (3, 36));
    }
}
