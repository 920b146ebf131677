//! What a session keeps from one question to the next.

use std::cell::RefCell;
use std::mem::ManuallyDrop;

/// At most so many, last used first. Never dropped: when a process ends, Postgres' memory goes as a whole.
pub struct Kept<T, const MOST: usize>(ManuallyDrop<RefCell<Vec<T>>>);

impl<T, const MOST: usize> Kept<T, MOST> {
    pub const fn new() -> Self {
        Kept(ManuallyDrop::new(RefCell::new(Vec::new())))
    }

    /// Takes out what is asked for. What fails is not put back.
    pub fn take(&self, is: impl Fn(&T) -> bool) -> Option<T> {
        let mut kept = self.0.borrow_mut();
        let place = kept.iter().position(is)?;
        Some(kept.remove(place))
    }

    pub fn put(&self, used: T) {
        let mut kept = self.0.borrow_mut();
        kept.insert(0, used);
        kept.truncate(MOST);
    }
}
