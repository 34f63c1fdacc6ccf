//! Parsers for sizes and numbers on the command line: `5B`, `500MB`, `2GiB`, or a number of tokens.

use std::{
    num::{IntErrorKind, ParseIntError},
    str::FromStr,
};

/// Units of a size, and their bytes.
const UNITS: [(&str, f64); 12] = [
    ("", 1.0),
    ("K", 1e3),
    ("KB", 1e3),
    ("KIB", 1024.0),
    ("M", 1e6),
    ("MB", 1e6),
    ("MIB", 1_048_576.0),
    ("G", 1e9),
    ("GB", 1e9),
    ("GIB", 1_073_741_824.0),
    ("TB", 1e12),
    ("TIB", 1_099_511_627_776.0),
];

/// Bytes of a size with a unit: `2GiB`, `500MB`, `1.5G`.
pub fn bytes(text: &str) -> Result<u64, String> {
    let (number, unit) = split(text)?;
    let Some((_, factor)) = UNITS.iter().find(|(name, _)| *name == unit) else {
        return Err("a size is a number with a unit: 500MB, 2GB, 2GiB".into());
    };
    let bytes = number * factor;
    if bytes < 1.0 || bytes >= u64::MAX as f64 {
        return Err("too small or too large for a size in bytes".into());
    }
    Ok(bytes as u64)
}

/// Bytes of a shard. mergekit's spelling counts too, where `B` is a billion: `5B`, `1b`, `500M`. 0 means no limit.
pub fn shard(text: &str) -> Result<u64, String> {
    let (number, unit) = split(text)?;
    match unit.as_str() {
        "B" if number > 0.0 => bytes(&format!("{number}G")),
        _ if number == 0.0 => Ok(u64::MAX),
        _ => {
            bytes(text).map_err(|e| e.replace("500MB, 2GB, 2GiB", "5B (5 billion bytes), 500MB, 2GiB; 0 for no limit"))
        }
    }
}

/// A number of tokens, at least 1.
pub fn tokens(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|n| *n > 0).ok_or_else(|| "expected a number of tokens, at least 1".to_owned())
}

/// A memory limit in bytes. The lower bound catches a forgotten unit.
pub fn memory(text: &str) -> Result<u64, String> {
    match bytes(text)? {
        n if n < 1 << 20 => Err("expected at least 1MiB; write a size with its unit: 500MB, 2GiB".to_owned()),
        n => Ok(n),
    }
}

/// The length of a window in tokens: at least 2, so that one token predicts another.
pub fn window(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|n| *n > 1).ok_or_else(|| "expected a number of tokens, at least 2".to_owned())
}

/// A whole number, 0 or above.
pub fn whole<T: FromStr<Err = ParseIntError>>(text: &str) -> Result<T, String> {
    text.parse().map_err(|error: ParseIntError| match error.kind() {
        IntErrorKind::PosOverflow => "the number is too large".to_owned(),
        _ => "expected a whole number, 0 or above".to_owned(),
    })
}

/// A number of threads.
pub fn threads(text: &str) -> Result<u16, String> {
    let number = text.parse().ok().filter(|n| (1..=256).contains(n));
    number.ok_or_else(|| "expected a number of threads, 1 to 256".to_owned())
}

fn split(text: &str) -> Result<(f64, String), String> {
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let number = number.parse().map_err(|_| "a size begins with a number: 500MB, 5B, 2GiB".to_owned())?;
    Ok((number, unit.trim().to_ascii_uppercase()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_with_units() {
        for (text, expected) in [
            ("2GiB", 2 << 30),
            ("2 gib", 2 << 30),
            ("500MB", 500_000_000),
            ("1.5G", 1_500_000_000),
            ("1024", 1024),
            ("64KiB", 65_536),
        ] {
            assert_eq!(bytes(text), Ok(expected), "{text}");
        }
        for bad in ["", "GiB", "2XB", "0", "-1", "2B", "1e9", "99999999TB", "1.2.3G"] {
            assert!(bytes(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn wrong_numbers_name_what_is_expected() {
        assert_eq!(
            (memory("1MiB"), window("2"), whole::<u64>("7"), threads("256")),
            (Ok(1 << 20), Ok(2), Ok(7), Ok(256))
        );
        for bad in [memory("10").err(), window("1").err(), whole::<u64>("-1").err(), threads("0").err()] {
            assert!(bad.is_some_and(|why| why.contains("expected") || why.contains("unit")));
        }
        assert_eq!(whole::<u16>("70000"), Err("the number is too large".to_owned()));
    }

    #[test]
    fn shard_sizes_mean_what_they_mean_in_mergekit() {
        for (text, expected) in
            [("5B", 5_000_000_000), ("1b", 1_000_000_000), ("500MB", 500_000_000), ("2k", 2000), ("0", u64::MAX)]
        {
            assert_eq!(shard(text), Ok(expected), "{text}");
        }
        for bad in ["", "B", "5Q", "-1", "five"] {
            assert!(shard(bad).is_err(), "{bad}");
        }
    }
}
