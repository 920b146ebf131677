//! Lists of codes, one after the other in one allocation.

/// What a text or an array of tags becomes: list `i` has the codes `offsets[i]..offsets[i + 1]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lists {
    /// One more than lists.
    offsets: Vec<usize>,
    codes: Vec<u32>,
}

impl Default for Lists {
    fn default() -> Self {
        Lists { offsets: vec![0], codes: Vec::new() }
    }
}

impl Lists {
    pub fn new() -> Self {
        Lists::default()
    }

    /// Number of lists.
    pub fn len(&self) -> usize {
        self.offsets.len() - 1
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The codes of list `i`.
    pub fn get(&self, i: usize) -> &[u32] {
        &self.codes[self.offsets[i]..self.offsets[i + 1]]
    }

    pub fn push(&mut self, list: &[u32]) {
        self.codes.extend_from_slice(list);
        self.offsets.push(self.codes.len());
    }

    pub fn iter(&self) -> impl ExactSizeIterator<Item = &[u32]> {
        (0..self.len()).map(|i| self.get(i))
    }

    /// Bytes in memory.
    pub fn bytes(&self) -> usize {
        size_of_val(self.offsets.as_slice()) + size_of_val(self.codes.as_slice())
    }
}

impl<L: AsRef<[u32]>> FromIterator<L> for Lists {
    fn from_iter<I: IntoIterator<Item = L>>(iter: I) -> Self {
        let mut lists = Lists::new();
        iter.into_iter().for_each(|list| lists.push(list.as_ref()));
        lists
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_keep_their_bounds_also_when_empty() {
        let lists: Lists = [&[3, 1][..], &[], &[7]].iter().collect();
        assert_eq!(lists.iter().collect::<Vec<_>>(), [&[3, 1][..], &[], &[7]]);
        assert_eq!((lists.len(), lists.get(2)), (3, &[7][..]));
        assert_eq!(lists.bytes(), 4 * size_of::<usize>() + 3 * size_of::<u32>());
        assert!(Lists::new().is_empty());
    }
}
