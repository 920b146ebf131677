//! What a refresh had seen of a table that others write to meanwhile, so that the next finds all that is new.

use crate::error::{Error, ErrorKind, Result};
use serde::{Deserialize, Serialize};

/// A snapshot, as Postgres writes it (`xmin:xmax:xip,…`), in which transaction `own` counts as still running: what
/// it writes after the snapshot is news too.
pub fn with_running(snapshot: &str, own: u64) -> Result<String> {
    let unreadable = || Error::new(ErrorKind::InvalidData, format!("could not read the snapshot {snapshot}"));
    let mut parts = snapshot.split(':');
    let mut next = || parts.next().ok_or_else(unreadable);
    let (xmin, xmax, running) = (next()?, next()?, next()?);
    let number = |text: &str| text.parse::<u64>().map_err(|_| unreadable());
    let (xmin, xmax) = (number(xmin)?, number(xmax)?);
    let mut running = running.split(',').filter(|text| !text.is_empty()).map(number).collect::<Result<Vec<u64>>>()?;
    // From xmax on everything is news anyway.
    if own < xmax {
        running.push(own);
        running.sort_unstable();
        running.dedup();
    }
    let running: Vec<String> = running.iter().map(u64::to_string).collect();
    Ok(format!("{}:{xmax}:{}", xmin.min(own), running.join(",")))
}

/// The greatest value of a column that only grows, at a time: microseconds since 1970.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Mark {
    pub at: i64,
    /// As text; none where there were no rows.
    pub value: Option<String>,
}

/// Marks of refreshes, oldest first. A row may become visible after others with greater values, as its transaction took
/// longer. So what a refresh had not seen lies above the mark of an earlier one: of the newest that was made before any
/// of the transactions began that were running beside it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Marks {
    /// At or above its value is all that is news to the last refresh.
    pub floor: Option<Mark>,
    /// Those from which a later floor may be taken.
    recent: Vec<Mark>,
}

impl Marks {
    /// After a refresh that made `mark`. `oldest`: when the oldest transaction began that was running beside it; none
    /// where none was.
    pub fn after(&self, mark: Mark, oldest: Option<i64>) -> Marks {
        let recent: Vec<Mark> = self.recent.iter().cloned().chain([mark]).collect();
        match recent.iter().rposition(|mark| oldest.is_none_or(|oldest| mark.at < oldest)) {
            Some(newest) => Marks { floor: Some(recent[newest].clone()), recent: recent[newest..].to_vec() },
            // Whoever runs now began after the old floor was made, or would have been in its way then.
            None => Marks { floor: self.floor.clone(), recent },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transactions_own_changes_stay_news() {
        assert_eq!(with_running("10:20:12,15", 13).unwrap(), "10:20:12,13,15");
        assert_eq!(with_running("10:20:", 19).unwrap(), "10:20:19");
    }

    #[test]
    fn the_oldest_running_transaction_may_be_the_own_one() {
        assert_eq!(with_running("10:20:10", 8).unwrap(), "8:20:8,10");
    }

    #[test]
    fn what_began_after_the_snapshot_is_news_without_being_named() {
        assert_eq!(with_running("10:20:12", 20).unwrap(), "10:20:12");
        assert_eq!(with_running("10:20:12", 33).unwrap(), "10:20:12");
    }

    #[test]
    fn what_is_no_snapshot_is_an_error() {
        assert!(with_running("10:20", 1).is_err());
        assert!(with_running("a:b:c", 1).is_err());
    }

    fn mark(at: i64) -> Mark {
        Mark { at, value: Some(at.to_string()) }
    }

    #[test]
    fn a_refresh_that_ran_alone_has_seen_all_below_its_own_mark() {
        assert_eq!(Marks::default().after(mark(10), None).floor, Some(mark(10)));
    }

    #[test]
    fn beside_a_running_transaction_the_floor_is_older_than_it() {
        let marks = Marks::default().after(mark(10), None).after(mark(20), Some(15));
        assert_eq!(marks.floor, Some(mark(10)));
        assert_eq!(marks.after(mark(30), Some(25)).floor, Some(mark(20)));
    }

    #[test]
    fn the_floor_stays_where_it_is_until_a_transaction_ends() {
        let marks = Marks::default().after(mark(10), None).after(mark(20), Some(15)).after(mark(30), Some(15));
        assert_eq!(marks.floor, Some(mark(10)));
        assert_eq!(marks.after(mark(40), Some(0)).floor, Some(mark(10)));
        assert_eq!(marks.after(mark(40), None).floor, Some(mark(40)));
    }

    #[test]
    fn without_a_floor_everything_is_news() {
        let marks = Marks::default().after(mark(10), Some(5));
        assert_eq!(marks.floor, None);
        assert_eq!(marks.after(mark(20), Some(15)).floor, Some(mark(10)));
    }
}
