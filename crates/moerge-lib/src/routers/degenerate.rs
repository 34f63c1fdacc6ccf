//! Detects layers whose gates cannot distinguish experts.
//!
//! If two rows nearly coincide, the same tokens choose both or neither. mergekit measures this by the condition number
//! of the gate matrix and warns above 5. So does this module, except that opposite rows, which distinguish best, count
//! as orthogonal, and that the warning names the two most similar experts. Zero rows are reported separately.

use std::collections::BTreeMap;

use super::Routers;
use moerge_core::{plan::Slots, suggest::ranges};

/// Condition number above which a layer is degenerate.
const LARGEST_CONDITION: f64 = 5.0;

/// The warnings about `routers`: a sentence for each pair of experts that are too similar, with the layers. `names` are
/// the experts' names in order, and `slots` their slots.
pub fn warnings(routers: &Routers, slots: &Slots, names: &[String]) -> Vec<String> {
    // By pair of experts: layers and the largest cosine.
    let mut alike: BTreeMap<(usize, usize), (Vec<usize>, f64)> = BTreeMap::new();
    let mut zeros: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for (layer, gate) in routers.gates.iter().enumerate() {
        let members = slots.members(layer);
        let first_slots = members.iter().filter_map(|expert| slots.slot(layer, *expert));
        let rows: Vec<f32> = first_slots
            .filter_map(|slot| gate.get(slot * routers.hidden..(slot + 1) * routers.hidden))
            .flatten()
            .copied()
            .collect();
        let mut products = products(&rows, members.len(), routers.hidden);
        if let Some(zero) = (0..members.len()).find(|row| products[*row][*row] == 0.0) {
            zeros.entry(members[zero]).or_default().push(layer);
            continue;
        }
        products.iter_mut().flatten().for_each(|product| *product = product.max(0.0));
        if condition_number(products.clone(), routers.hidden) <= LARGEST_CONDITION {
            continue;
        }
        if let Some(((a, b), cosine)) = most_alike(&products) {
            let (layers, largest) = alike.entry((members[a], members[b])).or_insert((Vec::new(), cosine));
            layers.push(layer);
            *largest = largest.max(cosine);
        }
    }
    let name = |expert: usize| match names.get(expert) {
        Some(name) => format!("expert {expert} ({name})"),
        None => format!("expert {expert}"),
    };
    let sentence = |((a, b), (layers, cosine)): ((usize, usize), (Vec<usize>, f64))| {
        format!(
            "the router hardly distinguishes {} from {} in {} of {} layers ({}): their gates have a cosine of up to {cosine:.3}; \
             give them prompts that differ more, or take `gate_mode: self_calibrated`, which needs none",
            name(a),
            name(b),
            layers.len(),
            routers.gates.len(),
            ranges(&layers)
        )
    };
    let zero = |(expert, layers): (usize, Vec<usize>)| {
        format!(
            "the gates of {} are zero in layers {}: its prompts do not distinguish it from the others",
            name(expert),
            ranges(&layers)
        )
    };
    let zeros: Vec<String> = zeros.into_iter().map(zero).collect();
    alike.into_iter().map(sentence).chain(zeros).collect()
}

/// `G G^T`, `[experts][experts]`.
fn products(gate: &[f32], experts: usize, hidden: usize) -> Vec<Vec<f64>> {
    let row = |i: usize| &gate[i * hidden..(i + 1) * hidden];
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum();
    (0..experts).map(|i| (0..experts).map(|j| dot(row(i), row(j))).collect()).collect()
}

/// The two rows with the largest cosine, and that cosine.
fn most_alike(products: &[Vec<f64>]) -> Option<((usize, usize), f64)> {
    let pairs = (0..products.len()).flat_map(|i| (i + 1..products.len()).map(move |j| (i, j)));
    let cosine = |(i, j): (usize, usize)| products[i][j] / (products[i][i] * products[j][j]).sqrt().max(1e-30);
    pairs.map(|pair| (pair, cosine(pair))).max_by(|a, b| a.1.total_cmp(&b.1))
}

/// The ratio of the largest to the smallest singular value, as in `numpy.linalg.cond`: square roots of the eigenvalues
/// of `G G^T`.
fn condition_number(products: Vec<Vec<f64>>, hidden: usize) -> f64 {
    let rank = products.len().min(hidden);
    let mut eigenvalues = eigenvalues(products);
    eigenvalues.sort_by(|a, b| b.total_cmp(a));
    match (eigenvalues.first(), eigenvalues.get(rank.saturating_sub(1))) {
        (Some(largest), Some(smallest)) if *smallest > 0.0 => (largest / smallest).sqrt(),
        (Some(_), _) => f64::INFINITY,
        _ => 1.0,
    }
}

/// Eigenvalues of a symmetric matrix by cyclic Jacobi rotations (Golub and Van Loan, section 8.5).
fn eigenvalues(mut a: Vec<Vec<f64>>) -> Vec<f64> {
    const SWEEPS: usize = 50;
    let n = a.len();
    for _ in 0..SWEEPS {
        let off_diagonal = |(i, row): (usize, &Vec<f64>)| row.iter().map(|x| x * x).sum::<f64>() - row[i] * row[i];
        let diagonal: f64 = a.iter().enumerate().map(|(i, row)| row[i] * row[i]).sum();
        if a.iter().enumerate().map(off_diagonal).sum::<f64>() <= diagonal * 1e-28 {
            break;
        }
        for p in 0..n {
            for q in p + 1..n {
                if a[p][q] != 0.0 {
                    rotate(&mut a, p, q);
                }
            }
        }
    }
    a.iter().enumerate().map(|(i, row)| row[i]).collect()
}

/// Rotates so that `a[p][q]` becomes zero.
fn rotate(a: &mut [Vec<f64>], p: usize, q: usize) {
    let theta = (a[q][q] - a[p][p]) / (2.0 * a[p][q]);
    let tangent = theta.signum() / (theta.abs() + (theta * theta + 1.0).sqrt());
    let cos = 1.0 / (tangent * tangent + 1.0).sqrt();
    let sin = tangent * cos;
    let turn = |x: f64, y: f64| (cos * x - sin * y, sin * x + cos * y);
    for row in a.iter_mut() {
        (row[p], row[q]) = turn(row[p], row[q]);
    }
    if let Ok([p, q]) = a.get_disjoint_mut([p, q]) {
        p.iter_mut().zip(q).for_each(|(x, y)| (*x, *y) = turn(*x, *y));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn condition(gate: &[f32], experts: usize) -> f64 {
        let hidden = gate.len() / experts;
        condition_number(products(gate, experts, hidden), hidden)
    }

    #[test]
    fn condition_numbers_are_numpys() {
        assert!((condition(&[3.0, 0.0, 0.0, 0.0, 1.0, 0.0], 2) - 3.0).abs() < 1e-12);
        // numpy.linalg.cond([[1, 2, 3], [4, 5, 6], [7, 8, 10]])
        let matrix = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 10.0];
        assert!((condition(&matrix, 3) - 88.448_280).abs() < 1e-5, "{}", condition(&matrix, 3));
        // With more experts than dimensions, only as many singular values as dimensions count.
        assert!((condition(&[1.0, 0.0, 0.0, 1.0, 0.0, 0.0], 3) - 1.0).abs() < 1e-9);
        assert!(condition(&[1.0, 2.0, 1.0, 2.0], 2) > 1e7);
        assert_eq!(condition(&[0.0; 8], 2), f64::INFINITY);
        assert_eq!(condition(&[5.0, 5.0], 1), 1.0);
    }

    #[test]
    fn the_two_most_alike_are_named_with_their_layers() {
        let apart = vec![1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0];
        let alike = vec![1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 1.0, 0.01];
        let gates = vec![alike.clone(), alike.clone(), apart, alike];
        let routers = Routers { experts: 3, hidden: 3, gates, shared_gates: Vec::new() };
        let names = ["chat", "code", "math"].map(String::from);
        assert_eq!(
            warnings(&routers, &Slots::all(3, 4), &names),
            [
                "the router hardly distinguishes expert 1 (code) from expert 2 (math) in 3 of 4 layers (0-1, 3): their gates have a \
              cosine of up to 1.000; give them prompts that differ more, or take `gate_mode: self_calibrated`, which needs none"
            ]
        );
    }

    /// Fault 14: gates in opposite directions were reported as similar.
    #[test]
    fn fault_14_opposite_gates_are_told_apart_and_zeros_are_not() {
        let warned = |gate: Vec<f32>| {
            let experts = gate.len() / 2;
            let routers = Routers { experts, hidden: 2, gates: vec![gate], shared_gates: Vec::new() };
            warnings(&routers, &Slots::all(experts, 1), &[])
        };
        assert_eq!(warned(vec![1.0, 0.0, -1.0, 0.0]), [""; 0]);
        assert_eq!(warned(vec![1.0, 0.1, -1.0, -0.1]), [""; 0]);
        assert!(warned(vec![1.0, 0.0, 1.0, 0.01])[0].contains("expert 0 from expert 1"));
        assert_eq!(
            warned(vec![1.0, 0.0, 0.0, 0.0]),
            ["the gates of expert 1 are zero in layers 0: its prompts do not distinguish it from the others"]
        );
    }
}
