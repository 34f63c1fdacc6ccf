//! `strftime_now(format)`: the current date and time, in UTC.

use super::Fault;

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const DAYS: [&str; 7] = ["Thursday", "Friday", "Saturday", "Sunday", "Monday", "Tuesday", "Wednesday"];

/// The current time in `format`.
pub fn strftime_now(format: &str) -> Result<String, Fault> {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |d| d.as_secs());
    strftime(now, format)
}

/// Formats a Unix time in the C locale.
fn strftime(seconds: u64, format: &str) -> Result<String, Fault> {
    let days = (seconds / 86_400) as i64;
    let (year, month, day) = civil(days);
    let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    let month_name = MONTHS[(month - 1) as usize % 12];
    let day_name = DAYS[days.rem_euclid(7) as usize];
    let mut text = String::new();
    let mut chars = format.chars();
    while let Some(c) = chars.next() {
        if c != '%' {
            text.push(c);
            continue;
        }
        let mut code = chars.next();
        let unpadded = code == Some('-');
        if unpadded {
            code = chars.next();
        }
        let two = |n: u64| if unpadded { n.to_string() } else { format!("{n:02}") };
        let (month, day) = (month as u64, day as u64);
        let hour12 = if hour % 12 == 0 { 12 } else { hour % 12 };
        text.push_str(&match code {
            Some('Y') => year.to_string(),
            Some('y') => two(year as u64 % 100),
            Some('m') => two(month),
            Some('d') => two(day),
            Some('e') => format!("{day:2}"),
            Some('H') => two(hour),
            Some('I') => two(hour12),
            Some('M') => two(minute),
            Some('S') => two(second),
            Some('p') => if hour < 12 { "AM" } else { "PM" }.into(),
            Some('B') => month_name.into(),
            Some('b' | 'h') => month_name[..3].into(),
            Some('A') => day_name.into(),
            Some('a') => day_name[..3].into(),
            Some('F') => format!("{year}-{month:02}-{day:02}"),
            Some('D') => format!("{month:02}/{day:02}/{:02}", year % 100),
            Some('T') => format!("{hour:02}:{minute:02}:{second:02}"),
            Some('R') => format!("{hour:02}:{minute:02}"),
            Some('j') => {
                let day_of_year = (days - days_before(year)) as u64 + 1;
                if unpadded { day_of_year.to_string() } else { format!("{day_of_year:03}") }
            }
            Some('s') => seconds.to_string(),
            Some('Z' | 'z') => String::new(),
            Some('%') => "%".into(),
            Some('n') => "\n".into(),
            Some('t') => "\t".into(),
            code => {
                let code = code.map(String::from).unwrap_or_default();
                return Err(Fault::template(format!("`strftime_now` does not know `%{}`", code.escape_default())));
            }
        });
    }
    Ok(text)
}

/// Converts days since 1970-01-01 to year, month and day (Howard Hinnant's `civil_from_days`).
fn civil(days: i64) -> (i64, i64, i64) {
    let z = days + 719_468;
    let era = z.div_euclid(146_097);
    let day_of_era = z.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month, day_of_year - (153 * shifted + 2) / 5 + 1)
}

/// Days from 1970-01-01 to the first day of `year`.
fn days_before(year: i64) -> i64 {
    let before = year - 1;
    365 * (year - 1970) + (before / 4 - before / 100 + before / 400) - (1969 / 4 - 1969 / 100 + 1969 / 400)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_have_the_names_and_numbers_of_the_c_locale() {
        assert_eq!(civil(0), (1970, 1, 1));
        assert_eq!(civil(11_016), (2000, 2, 29));
        let at = |format| strftime(951_835_509, format).unwrap();
        assert_eq!(
            at("%d %b %Y, %A %B %-d, %H:%M:%S %I%p day %j %y-%m"),
            "29 Feb 2000, Tuesday February 29, 14:45:09 02PM day 060 00-02"
        );
        assert_eq!(at("%F %T %D %e%%"), "2000-02-29 14:45:09 02/29/00 29%");
        assert_eq!(strftime(0, "%a %j").unwrap(), "Thu 001");
        assert!(strftime(0, "%Q").is_err() && strftime(0, "%").is_err());
    }
}
