//! Whether a version's figures are worse than they were.

use super::Shift;
use crate::metrics::less_is_better;
use crate::protocol::Metric;

/// How much worse a figure is now than it was, with the cases of both. By chance it is so by as much as the half widths of
/// the two 95 % intervals come to, which are of different cases: the root of the sum of their squares.
pub fn decay(then: &Metric, now: &Metric, cases: [u64; 2], bound: f64) -> Shift {
    let worse = if less_is_better(&now.metric) { now.value - then.value } else { then.value - now.value };
    let half = |metric: &Metric| Some((metric.high? - metric.low?) / 2.0);
    let by_chance = half(then).zip(half(now)).map(|(then, now)| then.hypot(now));
    let [reference, current] = cases;
    Shift {
        what: "metric".into(),
        name: now.metric.clone(),
        measure: "decay".into(),
        value: worse,
        threshold: by_chance.map(|by_chance| by_chance.max(bound)),
        reference,
        current,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figure(name: &str, value: f64, half: f64) -> Metric {
        Metric { low: Some(value - half), high: Some(value + half), ..Metric::plain("test", name, value) }
    }

    /// By hand: half widths of 0.03 and 0.04 are 0.05 together.
    #[test]
    fn a_figure_has_decayed_where_it_is_worse_than_chance_makes_it() {
        let then = figure("ndcg@10", 0.5, 0.03);
        let at = |value: f64, bound: f64| decay(&then, &figure("ndcg@10", value, 0.04), [9, 7], bound);
        let shift = at(0.44, 0.0);
        assert!((shift.value - 0.06).abs() < 1e-12 && (shift.threshold.unwrap() - 0.05).abs() < 1e-12, "{shift:?}");
        assert!(shift.has_drifted() && (shift.reference, shift.current) == (9, 7));
        assert!(!at(0.46, 0.0).has_drifted() && !at(0.44, 0.1).has_drifted() && !at(0.9, 0.0).has_drifted());
    }

    #[test]
    fn an_error_is_worse_where_it_is_larger() {
        let then = figure("rmse", 1.0, 0.03);
        assert!(decay(&then, &figure("rmse", 1.2, 0.04), [9, 9], 0.0).has_drifted());
        assert!(!decay(&then, &figure("rmse", 0.2, 0.04), [9, 9], 0.0).has_drifted());
        let unknown = Metric::plain("test", "rmse", 9.0);
        assert_eq!(decay(&then, &unknown, [9, 1], 0.0).threshold, None);
    }
}
