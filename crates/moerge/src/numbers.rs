//! Numbers with units, for people.

use std::time::Duration;

/// Bytes in decimal units, as is usual for disks and downloads: `48.3 GB`.
pub fn bytes(n: u64) -> String {
    scaled(n, 1000.0, &["bytes", "kB", "MB", "GB", "TB", "PB"])
}

/// `done` of `total` bytes, in the unit of the total: `0.5/48.3 GB`.
pub fn bytes_of(done: u64, total: u64) -> String {
    let text = bytes(total);
    let Some((number, unit)) = text.split_once(' ') else { return text };
    let decimals = number.split_once('.').map_or(0, |(_, decimals)| decimals.len());
    let scale = number.parse::<f64>().unwrap_or(1.0) / total.max(1) as f64;
    format!("{:.decimals$}/{number} {unit}", done as f64 * scale)
}

/// Bytes in binary units, as is usual for memory: `1.50 GiB`.
pub fn memory(n: u64) -> String {
    scaled(n, 1024.0, &["bytes", "KiB", "MiB", "GiB", "TiB", "PiB"])
}

fn scaled(n: u64, base: f64, units: &[&str]) -> String {
    let (mut value, mut unit) = (n as f64, 0);
    // 999.95 would round to 1000.0, so it takes the next unit.
    while value >= base - 0.05 && unit + 1 < units.len() {
        value /= base;
        unit += 1;
    }
    match unit {
        0 => format!("{n} {}", if n == 1 { "byte" } else { units[0] }),
        _ if base > 1000.0 && value.fract() == 0.0 => format!("{value} {}", units[unit]),
        _ if value < 9.995 => format!("{value:.2} {}", units[unit]),
        _ => format!("{value:.1} {}", units[unit]),
    }
}

/// A number of parameters: `24.15 B`, `134.5 M`, `35.8 k`.
pub fn parameters(n: u64) -> String {
    match n as f64 {
        v if v >= 999.95e6 => format!("{:.2} B", v / 1e9),
        v if v >= 999.95e3 => format!("{:.1} M", v / 1e6),
        v if v >= 1e3 => format!("{:.1} k", v / 1e3),
        _ => n.to_string(),
    }
}

/// A duration: `0.4 s`, `41 s`, `1 min 24 s`, `2 h 05 min`.
pub fn duration(d: Duration) -> String {
    if d.as_secs_f64() < 9.95 { format!("{:.1} s", d.as_secs_f64()) } else { whole_seconds(d) }
}

/// A duration in whole seconds.
pub fn whole_seconds(d: Duration) -> String {
    let seconds = d.as_secs_f64().round() as u64;
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min {:02} s", seconds / 60, seconds % 60),
        _ => format!("{} h {:02} min", seconds / 3600, seconds % 3600 / 60),
    }
}

/// A count with its noun: `1 shard`, `10 shards`.
pub fn count(n: usize, noun: &str) -> String {
    if n == 1 { format!("1 {noun}") } else { format!("{n} {noun}s") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_for_people() {
        assert_eq!([0, 1, 999].map(bytes), ["0 bytes", "1 byte", "999 bytes"]);
        assert_eq!([1_310_000_000, 48_300_000_000, 999_999].map(bytes), ["1.31 GB", "48.3 GB", "1.00 MB"]);
        assert_eq!(bytes_of(549_000_000, 48_300_000_000), "0.5/48.3 GB");
        assert_eq!([bytes_of(0, 0), bytes_of(7, 7), bytes_of(1, 1000)], ["0/0 bytes", "7/7 bytes", "0.00/1.00 kB"]);
        assert_eq!([2 << 30, 3 << 29].map(memory), ["2 GiB", "1.50 GiB"]);
        assert_eq!([24_153_690_112, 134_515_008, 12_345, 99].map(parameters), ["24.15 B", "134.5 M", "12.3 k", "99"]);
        let seconds = |s: f64| duration(Duration::from_secs_f64(s));
        assert_eq!(
            [0.42, 9.7, 41.0, 84.4, 7500.0].map(seconds),
            ["0.4 s", "9.7 s", "41 s", "1 min 24 s", "2 h 05 min"]
        );
    }
}
