//! A part of a merge that several machines make: which shards it writes.

use std::{fmt, str::FromStr};

use moerge_checkpoint::ShardLayout;

/// Part `number` of `count`, counted from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part {
    number: usize,
    count: usize,
}

impl Part {
    /// `None` unless `1 <= number <= count`.
    pub fn new(number: usize, count: usize) -> Option<Self> {
        (1..=count).contains(&number).then_some(Self { number, count })
    }

    /// Which of `len` things in a row are its own: every `count`-th.
    pub fn has(&self, index: usize) -> bool {
        index % self.count == self.number - 1
    }

    /// Which shards it writes. Each shard goes to the part with the fewest bytes so far, so the bytes of two parts differ by
    /// at most one shard.
    pub fn shards(&self, layout: &ShardLayout) -> Vec<bool> {
        let mut bytes = vec![0_u64; self.count];
        let part_of = |len: u64| {
            let least = (0..bytes.len()).min_by_key(|part| bytes[*part]).unwrap_or(0);
            bytes[least] += len;
            least
        };
        let parts: Vec<usize> = layout.shards.iter().map(|shard| shard.file_len).map(part_of).collect();
        parts.into_iter().map(|part| part + 1 == self.number).collect()
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.number, self.count)
    }
}

impl FromStr for Part {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (number, count) = text.split_once('/').ok_or("expected NUMBER/COUNT, such as 2/8")?;
        let whole = |text: &str| text.parse().map_err(|_| format!("`{text}` is not a whole number"));
        let (number, count) = (whole(number)?, whole(count)?);
        Self::new(number, count)
            .ok_or_else(|| format!("there is no part {number} of {count}; parts are counted from 1"))
    }
}

#[cfg(test)]
mod tests {
    use moerge_checkpoint::{Dtype, TensorSpec};

    use super::*;

    fn layout(sizes: &[usize]) -> ShardLayout {
        let spec = |(i, n): (usize, &usize)| TensorSpec {
            name: format!("t{i:04}"),
            encoding: Dtype::F32.into(),
            shape: vec![*n],
        };
        // Too small for two tensors, so each has a shard.
        ShardLayout::new(sizes.iter().enumerate().map(spec).collect(), 1).unwrap()
    }

    #[test]
    fn every_shard_is_in_one_part_and_parts_differ_by_at_most_one_shard() {
        let sizes: Vec<usize> = (0..97).map(|i| 1000 + (i * 7919) % 5000).collect();
        let layout = layout(&sizes);
        let largest = layout.shards.iter().map(|shard| shard.file_len).max().unwrap();
        for count in [1, 2, 3, 4, 8, 96, 97, 200] {
            let parts: Vec<Vec<bool>> =
                (1..=count).map(|number| Part::new(number, count).unwrap().shards(&layout)).collect();
            let owners = |shard: usize| parts.iter().filter(|part| part[shard]).count();
            assert!((0..layout.shards.len()).all(|shard| owners(shard) == 1), "{count} parts");
            let bytes = |part: &Vec<bool>| -> u64 {
                layout.shards.iter().zip(part).filter(|(_, own)| **own).map(|(shard, _)| shard.file_len).sum()
            };
            let (least, most) = (parts.iter().map(bytes).min().unwrap(), parts.iter().map(bytes).max().unwrap());
            assert!(most - least <= largest, "{count} parts: {least} to {most} bytes");
        }
    }

    #[test]
    fn parts_are_read_as_they_are_written() {
        let part: Part = "2/8".parse().unwrap();
        assert_eq!((part, part.to_string().as_str()), (Part::new(2, 8).unwrap(), "2/8"));
        for bad in ["", "2", "0/8", "9/8", "1/0", "a/8", "1/b", "-1/8", "1/8/2"] {
            assert!(bad.parse::<Part>().is_err(), "{bad}");
        }
    }
}
