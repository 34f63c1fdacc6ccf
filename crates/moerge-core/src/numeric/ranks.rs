//! Ranks of a row's elements by magnitude.

/// Sorts the elements of rows by magnitude, with reused buffers.
#[derive(Default)]
pub struct Order {
    /// The magnitude's bits, then the column.
    sorted: Vec<u64>,
    other: Vec<u64>,
}

/// Positions of the radix digits of a magnitude, and their lengths in bits.
const DIGITS: [(u32, u32); 3] = [(32, 11), (43, 11), (54, 9)];

/// Shorter rows are sorted by comparison, which is faster than by digits.
const SHORT: usize = 256;

impl Order {
    /// The columns of `row` by ascending magnitude; ties by column. `row` must have less than 2^32 elements.
    pub fn columns(&mut self, row: &[f32]) -> impl Iterator<Item = usize> {
        self.fill(row.iter().zip(0..).map(|(value, column)| magnitude_and_place(*value, column)));
        self.sorted()
    }

    /// The same of a row whose magnitudes are given as bits.
    pub fn columns_of_bits(&mut self, bits: &[u32]) -> impl Iterator<Item = usize> {
        self.fill(bits.iter().zip(0..).map(|(bits, column)| u64::from(*bits) << 32 | column));
        self.sorted()
    }

    fn fill(&mut self, keys: impl Iterator<Item = u64>) {
        self.sorted.clear();
        self.sorted.extend(keys);
    }

    fn sorted(&mut self) -> impl Iterator<Item = usize> {
        if self.sorted.len() < SHORT {
            self.sorted.sort_unstable();
        } else {
            self.sort_by_counting();
        }
        self.sorted.iter().map(|own| (*own & u64::from(u32::MAX)) as usize)
    }

    /// Radix sort from the lowest digit. The columns are already in order.
    fn sort_by_counting(&mut self) {
        let mut counts = [[0u32; 1 << 11]; 3];
        for own in &self.sorted {
            for (counts, (shift, bits)) in counts.iter_mut().zip(DIGITS) {
                counts[(own >> shift) as usize & ((1 << bits) - 1)] += 1;
            }
        }
        self.other.resize(self.sorted.len(), 0);
        for (counts, (shift, bits)) in counts.iter_mut().zip(DIGITS) {
            let mut before = 0;
            for count in counts.iter_mut() {
                before += std::mem::replace(count, before);
            }
            for own in &self.sorted {
                let place = &mut counts[(own >> shift) as usize & ((1 << bits) - 1)];
                self.other[*place as usize] = *own;
                *place += 1;
            }
            std::mem::swap(&mut self.sorted, &mut self.other);
        }
    }
}

/// A key that sorts by magnitude, then by column.
pub fn magnitude_and_place(value: f32, place: u64) -> u64 {
    u64::from(value.to_bits() & (u32::MAX >> 1)) << 32 | (place & u64::from(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::numeric::noise::uniform;

    #[test]
    fn counting_and_comparing_give_the_same_order() {
        let mut order = Order::default();
        for length in [0, 1, SHORT - 1, SHORT, 5000] {
            for coarse in [1.0, 7.0, 1e6] {
                let row: Vec<f32> = uniform(length, 1, "x").iter().map(|x| (x * coarse).round() / coarse).collect();
                let mut expected: Vec<usize> = (0..length).collect();
                expected.sort_by(|a, b| row[*a].abs().total_cmp(&row[*b].abs()).then(a.cmp(b)));
                assert_eq!(order.columns(&row).collect::<Vec<_>>(), expected);
            }
        }
    }
}
