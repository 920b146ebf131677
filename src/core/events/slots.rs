//! Where rows wait until all have come, so that few places are written at a time when they go into sequence.
//!
//! A row's place in the sequences is known only at the end. Were rows kept as they arrive, moving them would write to as
//! many places in turn as there are entities: more than a processor has cache and translations of pages for. So rows are
//! parted while they arrive: those of an entity lie in its group, a group in pieces of [`PIECE`] slots, and a column is
//! one vector over all slots. Then groups are moved one after the other. The first rows are not worth that and lie as they came.

use crate::threads::each;
use std::ops::Range;

/// Rows that lie as they came.
const HEAD: usize = 64 * PIECE;

/// Groups of entities, by the last bits of their codes.
const GROUPS: usize = 1 << 7;

/// Slots that a group takes at once: no power of two, or the groups' next slots would all fall on the same few lines of a cache.
const PIECE: usize = 65 << 4;

/// As many slots may stay empty.
pub(super) const UNUSED: usize = GROUPS * PIECE;

/// Who lies where.
#[derive(Default)]
pub(super) struct Slots {
    rows: usize,
    /// Slots handed out; all columns are as long.
    end: usize,
    /// None until there are more rows than [`HEAD`].
    groups: Vec<Group>,
    /// The slots that the last rows took, first slot and number, and which rows they are in this order.
    taken: Vec<(usize, usize)>,
    order: Vec<u32>,
}

#[derive(Clone, Default)]
struct Group {
    /// The first slots of its pieces, in the order of arrival.
    pieces: Vec<u32>,
    /// The next free slot, and the last piece's end.
    next: usize,
    end: usize,
}

impl Group {
    /// Its rows' slots, in the order of arrival.
    fn runs(&self) -> impl Iterator<Item = Range<usize>> {
        let last = self.pieces.last().copied();
        self.pieces.iter().map(move |&piece| {
            let start = piece as usize;
            start..if Some(piece) == last { self.next } else { start + PIECE }
        })
    }
}

impl Slots {
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// How long columns are.
    pub fn end(&self) -> usize {
        self.end
    }

    /// Gives rows of these entities slots of their own.
    pub fn take(&mut self, entities: &[u32]) {
        self.taken.clear();
        self.order.clear();
        let head = entities.len().min(HEAD.saturating_sub(self.rows));
        self.rows += entities.len();
        self.order.extend(0..head as u32);
        self.taken.push((self.end, head));
        self.end += head;
        self.part(&entities[head..]);
    }

    /// Gives the last rows, which are those of these entities, slots in their groups.
    fn part(&mut self, entities: &[u32]) {
        if entities.is_empty() {
            return;
        }
        let mut next = [0; GROUPS];
        entities.iter().for_each(|&entity| next[entity as usize % GROUPS] += 1);
        self.groups.resize(GROUPS, Group::default());
        let before = self.order.len();
        let mut first = before;
        for (group, next) in self.groups.iter_mut().zip(&mut next) {
            let mut rows = std::mem::replace(next, first);
            first += rows;
            while rows > 0 {
                if group.next == group.end {
                    group.pieces.push(self.end as u32);
                    group.next = self.end;
                    self.end += PIECE;
                    group.end = self.end;
                }
                let fit = rows.min(group.end - group.next);
                self.taken.push((group.next, fit));
                group.next += fit;
                rows -= fit;
            }
        }
        self.order.resize(first, 0);
        for (row, &entity) in (before as u32..).zip(entities) {
            let next = &mut next[entity as usize % GROUPS];
            self.order[*next] = row;
            *next += 1;
        }
    }

    /// A column that takes in values of the rows that took slots last.
    pub fn of<'a, T>(&'a self, column: &'a mut Vec<T>) -> Taking<'a, T> {
        Taking { slots: self, column }
    }

    /// Turns each row's entity into the row's place, where entities come in this order; where the entities' events begin.
    pub fn places(&self, mut entity: Vec<u32>, order: &[u32], threads: usize) -> (Vec<u32>, Vec<usize>) {
        let (head, parted) = entity.split_at_mut(self.head().len());
        let mut pieces: Vec<Option<&mut [u32]>> = parted.chunks_mut(PIECE).map(Some).collect();
        let mut take = |run: Range<usize>| Some(&mut pieces[(run.start - HEAD) / PIECE].take()?[..run.len()]);
        let groups = self.groups.iter().map(|group| group.runs().filter_map(&mut take).collect::<Vec<_>>());
        let groups: Vec<_> = groups.enumerate().collect();

        let mut events = vec![0u32; order.len()];
        head.iter().for_each(|&entity| events[entity as usize] += 1);
        let counted = each(groups, threads, |(group, pieces)| {
            let mut events = vec![0u32; (order.len() + GROUPS - 1 - group) / GROUPS];
            for piece in &pieces {
                piece.iter().for_each(|&row| events[row as usize / GROUPS] += 1);
            }
            (group, pieces, events)
        });
        for (group, _, counts) in &counted {
            events.iter_mut().skip(*group).step_by(GROUPS).zip(counts).for_each(|(events, count)| *events += count);
        }

        let mut end = 0;
        let offsets = std::iter::once(0).chain(order.iter().map(|&entity| {
            // From here on the entity's next place.
            let events = std::mem::replace(&mut events[entity as usize], end as u32);
            end += events as usize;
            end
        }));
        let offsets = offsets.collect();
        head.iter_mut().for_each(|row| take_place(row, |entity| &mut events[entity]));
        each(counted, threads, |(group, pieces, mut next)| {
            next.iter_mut().zip(events.iter().skip(group).step_by(GROUPS)).for_each(|(next, &place)| *next = place);
            for piece in pieces {
                piece.iter_mut().for_each(|row| take_place(row, |entity| &mut next[entity / GROUPS]));
            }
        });
        (entity, offsets)
    }

    /// A column in sequence. Takes what lies in the slots, so that only what is being moved is in memory twice.
    pub fn moved<T: Copy + Default>(&self, column: Vec<T>, places: &[u32]) -> Vec<T> {
        let mut moved = vec![T::default(); self.rows];
        let groups = self.groups.iter().flat_map(Group::runs);
        for run in std::iter::once(self.head()).chain(groups) {
            for (&value, &place) in column[run.clone()].iter().zip(&places[run]) {
                moved[place as usize] = value;
            }
        }
        moved
    }

    fn head(&self) -> Range<usize> {
        0..self.rows.min(HEAD)
    }
}

/// Puts values into their rows' slots.
pub(super) struct Taking<'a, T> {
    slots: &'a Slots,
    column: &'a mut Vec<T>,
}

impl<T: Copy + Default> Extend<T> for Taking<'_, T> {
    fn extend<I: IntoIterator<Item = T>>(&mut self, values: I) {
        let Slots { end, groups, taken, order, .. } = self.slots;
        if groups.is_empty() {
            self.column.extend(values);
            return;
        }
        // They come behind all slots first: to read them here and there takes less than to write them here and there.
        self.column.resize(*end, T::default());
        self.column.extend(values);
        let (slots, values) = self.column.split_at_mut(*end);
        let mut order = order.as_slice();
        for &(first, rows) in taken {
            let (from, rest) = order.split_at(rows);
            slots[first..first + rows].iter_mut().zip(from).for_each(|(slot, &row)| *slot = values[row as usize]);
            order = rest;
        }
        self.column.truncate(*end);
    }
}

fn take_place<'a>(row: &mut u32, next: impl FnOnce(usize) -> &'a mut u32) {
    let next = next(*row as usize);
    *row = *next;
    *next += 1;
}
