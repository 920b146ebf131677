//! How strongly two things go together, from their sums.

/// Mutual information in bits of a table of counts [rows, columns], each entropy corrected for its bias by
/// `(occupied cells - 1) / 2n` nats (Miller 1955). About 0 where the two are independent, and then as often below.
pub fn mutual_information(table: &[f64], columns: usize) -> f64 {
    let n: f64 = table.iter().sum();
    let rows: Vec<f64> = table.chunks_exact(columns).map(|row| row.iter().sum()).collect();
    let sums: Vec<f64> = (0..columns).map(|column| table.iter().skip(column).step_by(columns).sum()).collect();
    let entropy = |counts: &[f64]| {
        let occupied = counts.iter().filter(|&&count| count > 0.0);
        let bias = (occupied.clone().count() as f64 - 1.0) / (2.0 * n);
        bias - occupied.map(|count| count / n * (count / n).ln()).sum::<f64>()
    };
    (entropy(&rows) + entropy(&sums) - entropy(table)) / std::f64::consts::LN_2
}

/// The same as it is, without correction.
pub fn plain_information(table: &[f64], columns: usize) -> f64 {
    let n: f64 = table.iter().sum();
    let sums: Vec<f64> = (0..columns).map(|column| table.iter().skip(column).step_by(columns).sum()).collect();
    let mut bits = 0.0;
    for row in table.chunks_exact(columns) {
        let of_row: f64 = row.iter().sum();
        let cells = row.iter().zip(&sums).filter(|(cell, _)| **cell > 0.0);
        bits += cells.map(|(&cell, sum)| cell / n * (cell * n / (of_row * sum)).log2()).sum::<f64>();
    }
    bits
}

/// `chi^2 / n / (min(rows, columns) - 1)` of a table [rows, columns]: the square of Cramér's V (Cramér 1946).
pub fn squared_v(table: &[f64], columns: usize) -> f64 {
    let sums: Vec<f64> = (0..columns).map(|column| table.iter().skip(column).step_by(columns).sum()).collect();
    let (mut rows, mut squared) = (0usize, 0.0);
    for row in table.chunks_exact(columns) {
        let of_row: f64 = row.iter().sum();
        if of_row > 0.0 {
            rows += 1;
            let cells = row.iter().zip(&sums).filter(|(_, sum)| **sum > 0.0);
            squared += cells.map(|(cell, sum)| cell * cell / (of_row * sum)).sum::<f64>();
        }
    }
    let least = rows.min(sums.iter().filter(|&&sum| sum > 0.0).count());
    (squared - 1.0) / (least as f64 - 1.0)
}

/// Pearson's correlation of the sums `n, x, y, xx, yy, xy`.
pub fn pearson(sums: &[f64]) -> f64 {
    let &[n, x, y, xx, yy, xy] = sums else { return f64::NAN };
    let (of_x, of_y) = (xx - x * x / n, yy - y * y / n);
    match of_x > 1e-12 * xx && of_y > 1e-12 * yy {
        true => (xy - x * y / n) / (of_x * of_y).sqrt(),
        false => f64::NAN,
    }
}

/// The correlation ratio of a number and classes, corrected for the number of classes (Kelley 1935, "epsilon"), from `n, x,
/// xx` of each class.
pub fn correlation_ratio(sums: &[f64]) -> f64 {
    let of = |place: usize| sums.iter().skip(place).step_by(3);
    let (n, x, xx): (f64, f64, f64) = (of(0).sum(), of(1).sum(), of(2).sum());
    let classes = of(0).filter(|&&n| n > 0.0).count() as f64;
    let total = xx - x * x / n;
    let within: f64 = sums.chunks_exact(3).filter(|class| class[0] > 0.0).map(|c| c[2] - c[1] * c[1] / c[0]).sum();
    match total > 1e-12 * xx && n > classes {
        true => (1.0 - within / (n - classes) * (n - 1.0) / total).max(0.0).sqrt(),
        false => f64::NAN,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_by_hand() {
        // Equal halves that agree always: one bit; without correction exactly.
        assert!((plain_information(&[4.0, 0.0, 0.0, 4.0], 2) - 1.0).abs() < 1e-12);
        assert!(plain_information(&[2.0, 4.0, 1.0, 2.0], 2).abs() < 1e-12);
        // Miller: (1 + 1 - 1) / 2n nats more for two occupied cells, (1 + 1 - 3) / 2n less for four.
        let nats = 1.0 / (2.0 * 8.0 * std::f64::consts::LN_2);
        assert!((mutual_information(&[4.0, 0.0, 0.0, 4.0], 2) - (1.0 + nats)).abs() < 1e-12);
        let n = 2.0 * 9.0 * std::f64::consts::LN_2;
        assert!((mutual_information(&[2.0, 4.0, 1.0, 2.0], 2) + 1.0 / n).abs() < 1e-12);
    }

    #[test]
    fn correlations_by_hand() {
        let sums = |pairs: &[(f64, f64)]| {
            pairs
                .iter()
                .fold([0.0; 6], |s, (x, y)| [s[0] + 1.0, s[1] + x, s[2] + y, s[3] + x * x, s[4] + y * y, s[5] + x * y])
        };
        assert!((pearson(&sums(&[(1.0, 2.0), (2.0, 4.0), (3.0, 6.0)])) - 1.0).abs() < 1e-12);
        // Deviations -1, 0, 1 and -1, 2, -1: products 1 + 0 - 1.
        assert!(pearson(&sums(&[(1.0, 1.0), (2.0, 4.0), (3.0, 1.0)])).abs() < 1e-12);
        assert!(pearson(&sums(&[(1.0, 1.0), (1.0, 4.0)])).is_nan());
        // Classes of 1, 3 and of 5, 7: total 20, within 2 + 2 of two degrees of freedom.
        let ratio = correlation_ratio(&[2.0, 4.0, 10.0, 2.0, 12.0, 74.0]);
        assert!((ratio - (1.0f64 - 4.0 / 2.0 * 3.0 / 20.0).sqrt()).abs() < 1e-12);
    }

    #[test]
    fn v_by_hand() {
        assert!((squared_v(&[3.0, 0.0, 0.0, 5.0], 2) - 1.0).abs() < 1e-12);
        // chi^2 of 3 1 | 1 3: every cell is 1 from its expectation of 2, so 4 / 2 = 2 of 8 cases.
        assert!((squared_v(&[3.0, 1.0, 1.0, 3.0], 2) - 0.25).abs() < 1e-12);
        assert!((squared_v(&[3.0, 1.0, 1.0, 3.0, 0.0, 0.0], 2) - 0.25).abs() < 1e-12);
    }
}
