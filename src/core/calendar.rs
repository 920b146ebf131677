//! The proleptic Gregorian calendar in UTC, from microseconds since 1970.

const HOUR: f64 = 3_600e6;
const DAY: f64 = 24.0 * HOUR;

/// Hour of the day, 0 to 23.
pub fn hour(micros: f64) -> u32 {
    (micros.rem_euclid(DAY) / HOUR) as u32
}

/// Day of the week, Monday 0 to Sunday 6.
pub fn weekday(micros: f64) -> u32 {
    // 1970-01-01 was a Thursday.
    (day(micros) + 3).rem_euclid(7) as u32
}

/// Month of the year, January 0 to December 11.
pub fn month(micros: f64) -> u32 {
    civil(day(micros)).1 - 1
}

/// `2024-02-29T12:34:56Z`.
pub fn iso(micros: f64) -> String {
    let (year, month, day_of_month) = civil(day(micros));
    let second = (micros.rem_euclid(DAY) / 1e6) as u32;
    let (hours, minutes, seconds) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day_of_month:02}T{hours:02}:{minutes:02}:{seconds:02}Z")
}

fn day(micros: f64) -> i64 {
    (micros / DAY).floor() as i64
}

/// Year, month and day of a day since 1970-01-01: Howard Hinnant's `civil_from_days`, which counts
/// eras of 400 years from 1 March of year 0.
fn civil(day: i64) -> (i64, u32, u32) {
    let day = day + 719_468;
    let era = day.div_euclid(146_097);
    let of_era = day.rem_euclid(146_097);
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let march_month = (5 * of_year + 2) / 153;
    let month = (march_month + 2) % 12 + 1;
    let day_of_month = of_year - (153 * march_month + 2) / 5 + 1;
    (era * 400 + year + i64::from(month <= 2), month as u32, day_of_month as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_dates() {
        let dates = [
            (0.0, "1970-01-01T00:00:00Z", 3),
            (951_827_696e6, "2000-02-29T12:34:56Z", 1),
            (951_868_800e6, "2000-03-01T00:00:00Z", 2),
            (4_107_542_399e6, "2100-02-28T23:59:59Z", 6),
            (4_107_542_400e6, "2100-03-01T00:00:00Z", 0),
            (-1e6, "1969-12-31T23:59:59Z", 2),
        ];
        for (micros, text, day_of_week) in dates {
            assert_eq!(iso(micros), text);
            assert_eq!(weekday(micros), day_of_week, "{text}");
        }
    }

    #[test]
    fn hours_and_months() {
        assert_eq!((hour(951_827_696e6), month(951_827_696e6)), (12, 1));
        assert_eq!((hour(-1.0), month(-1.0)), (23, 11));
        assert_eq!((hour(0.0), month(0.0)), (0, 0));
    }

    #[test]
    fn every_day_of_400_years_follows_the_one_before() {
        let mut last = civil(-1);
        for day in 0..146_097 {
            let next = civil(day);
            let same_month = next == (last.0, last.1, last.2 + 1);
            let new_month = next == (last.0, last.1 + 1, 1);
            assert!(same_month || new_month || next == (last.0 + 1, 1, 1));
            last = next;
        }
        assert_eq!(last, (2369, 12, 31));
    }
}
