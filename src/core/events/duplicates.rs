//! Events that repeat another one of the same entity and time in every field.

use super::{Column, Events};
use std::cmp::Ordering;

impl Events {
    /// The events that repeat one before them, ascending.
    pub fn repeated(&self) -> Vec<usize> {
        let mut repeated = Vec::new();
        for events in self.sequences() {
            let times = &self.time[events.clone()];
            if times.windows(2).all(|two| two[0] != two[1]) {
                continue;
            }
            let mut start = events.start;
            for same in times.chunk_by(|a, b| a == b) {
                let mut run: Vec<usize> = (start..start + same.len()).collect();
                run.sort_by(|&a, &b| compare(&self.columns, a, b));
                let again = run.windows(2).filter(|pair| compare(&self.columns, pair[0], pair[1]).is_eq());
                repeated.extend(again.map(|pair| pair[1]));
                start += same.len();
            }
        }
        repeated.sort_unstable();
        repeated
    }

    /// Leaves one of equal events, and reports how many went.
    pub(super) fn drop_repeated(&mut self) {
        let repeated = self.repeated();
        retain(&mut self.time, &repeated);
        for column in &mut self.columns {
            match column {
                Column::Category { codes, .. } | Column::Vector { codes, .. } => retain(codes, &repeated),
                Column::Number(numbers) => retain(numbers, &repeated),
            }
        }
        self.offsets.iter_mut().for_each(|offset| *offset -= repeated.partition_point(|event| event < offset));
        self.report.duplicates = repeated.len() as u64;
    }
}

/// Leaves out the places `gone`, which ascend.
fn retain<T>(values: &mut Vec<T>, gone: &[usize]) {
    let (mut place, mut gone) = (0, gone.iter().peekable());
    values.retain(|_| {
        let goes = gone.next_if_eq(&&place).is_some();
        place += 1;
        !goes
    });
}

fn compare(columns: &[Column], a: usize, b: usize) -> Ordering {
    let by_column = |column: &Column| match column {
        Column::Category { codes, .. } | Column::Vector { codes, .. } => codes[a].cmp(&codes[b]),
        Column::Number(numbers) => numbers[a].total_cmp(&numbers[b]),
    };
    columns.iter().map(by_column).find(|order| order.is_ne()).unwrap_or(Ordering::Equal)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::{Keys, NULL, Report, Values};

    #[test]
    fn one_of_equal_events_stays() {
        let mut events = Events {
            keys: Keys::Integer(vec![1, 2, 3]),
            offsets: vec![0, 5, 6, 8],
            time: vec![0.0, 1.0, 1.0, 1.0, 2.0, 2.0, 2.0, 2.0],
            columns: vec![
                Column::Category { codes: vec![0, 1, 0, 1, 1, 1, NULL, NULL], values: Values::Integer(vec![7, 9]) },
                Column::Number(vec![1.0, 2.0, 2.0, 2.0, 2.0, 2.0, f32::NAN, f32::NAN]),
            ],
            report: Report::default(),
        };
        assert_eq!(events.repeated(), [3, 7]);
        events.drop_repeated();
        assert_eq!(events.offsets, [0, 4, 5, 6]);
        assert_eq!(events.time, [0.0, 1.0, 1.0, 2.0, 2.0, 2.0]);
        let Column::Category { codes, .. } = &events.columns[0] else { panic!("no category") };
        assert_eq!(codes, &[0, 1, 0, 1, 1, NULL]);
        assert_eq!((events.report.duplicates, events.repeated().len()), (2, 0));
    }
}
