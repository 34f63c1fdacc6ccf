//! The differences of two models for people, within 80 columns.

use std::collections::BTreeMap;

use moerge_lib::diff::{DiffReport, Distance, LayerDiff, Lone, TensorDiff};

use crate::{
    numbers::{count, parameters},
    terminal::{DIM, GOOD, LABEL, one_line, styled, table},
};

/// Rows of the table of layers; more layers are shown as ranges.
const LAYER_ROWS: usize = 8;
/// Tensors that are listed, of the most changed and of each kind of difference.
const SHOWN: usize = 8;
/// Columns of a tensor's name.
const NAME: usize = 50;

/// The page.
pub fn lines(report: &DiffReport) -> Vec<String> {
    let title = format!("{} compared with {}", one_line(&report.b), one_line(&report.a));
    let compared = report.tensors.iter().filter(|t| t.distance.is_some()).count();
    let mut lines = vec![styled(LABEL, &title)];
    if report.all_equal() {
        let what = format!("{}, {}", count(compared, "tensor"), parameters(report.total.elements));
        lines.push(format!("  {}: all {what} elements", styled(GOOD, "equal")));
        lines.extend(differences(report));
        return lines;
    }
    lines.push(format!(
        "  {} of the same name, {} elements: {} apart, {} equal",
        count(compared, "tensor"),
        parameters(report.total.elements),
        percent(report.total.relative),
        share(report.total.equal)
    ));
    if report.total.not_finite > 0 {
        lines.push(format!("  {} of them NaN or infinite in one of the two, not in any norm", report.total.not_finite));
    }
    lines.push(String::new());
    lines.extend(modules(report));
    lines.extend(layers(report));
    lines.extend(most_changed(report));
    lines.extend(differences(report));
    lines
}

fn modules(report: &DiffReport) -> Vec<String> {
    let mut rows = vec![head(&["module", "tensors", "|A-B|/|A|", "cosine", "equal"])];
    rows.extend(report.modules.iter().map(|of| {
        let mut row = vec![cut(&of.module, 32), of.tensors.to_string()];
        row.extend(cells(&of.distance));
        row
    }));
    table(&rows, &[1, 2, 3, 4])
}

/// Ranges of layers with the relative difference of groups of modules, a table for each stack.
fn layers(report: &DiffReport) -> Vec<String> {
    let mut stacks: BTreeMap<&str, Vec<&LayerDiff>> = BTreeMap::new();
    for layer in &report.layers {
        stacks.entry(&layer.stack).or_default().push(layer);
    }
    let mut lines = Vec::new();
    let many = stacks.len() > 1;
    for (stack, layers) in stacks {
        let first = if many { cut(stack, 24) } else { "layers".to_owned() };
        let mut rows = vec![head(&[&first, "attention", "FFN", "all"])];
        for range in layers.chunks(layers.len().div_ceil(LAYER_ROWS)) {
            let (Some(from), Some(to)) = (range.first(), range.last()) else { continue };
            let name = if range.len() == 1 { from.layer.to_string() } else { format!("{}-{}", from.layer, to.layer) };
            let of = |wanted: fn(&str) -> bool| {
                let modules = range.iter().flat_map(|layer| &layer.modules);
                together(modules.filter(|(module, _)| wanted(module)).map(|(_, distance)| distance))
            };
            rows.push(vec![
                name,
                of(|module| module.starts_with("attention")),
                of(|module| module.starts_with("FFN") || module.starts_with("experts")),
                of(|_| true),
            ]);
        }
        lines.push(String::new());
        lines.extend(table(&rows, &[1, 2, 3]));
    }
    lines
}

/// The relative difference of several distances as one.
fn together<'a>(distances: impl Iterator<Item = &'a Distance>) -> String {
    let (mut norm, mut difference, mut any) = (0.0, 0.0, false);
    for distance in distances {
        norm += distance.norm.powi(2);
        difference += distance.norm_of_difference.powi(2);
        any = true;
    }
    match (any, difference > 0.0, norm > 0.0) {
        (false, ..) => "-".to_owned(),
        (_, false, _) => percent(Some(0.0)),
        (_, true, false) => percent(None),
        _ => percent(Some((difference / norm).sqrt())),
    }
}

fn most_changed(report: &DiffReport) -> Vec<String> {
    // What was zero before has changed without bound.
    let change = |tensor: &TensorDiff| {
        let distance = tensor.distance.as_ref()?;
        (distance.equal < 1.0).then(|| distance.relative.unwrap_or(f64::INFINITY))
    };
    let mut tensors: Vec<(f64, &TensorDiff)> =
        report.tensors.iter().filter_map(|tensor| Some((change(tensor)?, tensor))).collect();
    tensors.sort_by(|a, b| b.0.total_cmp(&a.0));
    let mut rows = vec![head(&["most changed", "|A-B|/|A|", "cosine", "equal"])];
    for (_, tensor) in tensors.iter().take(SHOWN) {
        let Some(distance) = &tensor.distance else { continue };
        let mut row = vec![cut(&tensor.name, NAME)];
        row.extend(cells(distance));
        rows.push(row);
    }
    let mut lines = vec![String::new()];
    lines.extend(table(&rows, &[1, 2, 3]));
    lines
}

/// Names, shapes and types that differ.
fn differences(report: &DiffReport) -> Vec<String> {
    let lone = |tensors: &[Lone]| -> Vec<String> {
        tensors.iter().map(|t| format!("{} {} {:?}", one_line(&t.name), t.stored.dtype, t.stored.shape)).collect()
    };
    let shape = |t: &TensorDiff| format!("{} A {:?}, B {:?}", one_line(&t.name), t.a.shape, t.b.shape);
    let dtype = |t: &TensorDiff| format!("{} A {}, B {}", one_line(&t.name), t.a.dtype, t.b.dtype);
    let of = |wanted: &dyn Fn(&TensorDiff) -> bool, show: &dyn Fn(&TensorDiff) -> String| {
        report.tensors.iter().filter(|t| wanted(t)).map(show).collect::<Vec<String>>()
    };
    let other_shape = |t: &TensorDiff| t.a.shape != t.b.shape;
    let lists = [
        ("only in A", lone(&report.only_in_a)),
        ("only in B", lone(&report.only_in_b)),
        ("other shape, not compared", of(&other_shape, &shape)),
        ("other type, not comparable", of(&|t| !other_shape(t) && t.distance.is_none(), &dtype)),
    ];
    let mut lines = Vec::new();
    for (title, items) in lists.into_iter().filter(|(_, items)| !items.is_empty()) {
        lines.push(String::new());
        lines.push(format!("{} {}", styled(LABEL, title), count(items.len(), "tensor")));
        lines.extend(items.iter().take(SHOWN).map(|item| format!("  {item}")));
        if items.len() > SHOWN {
            lines.push(styled(DIM, &format!("  and {} more (use --json to see all)", items.len() - SHOWN)));
        }
    }
    let mut types: BTreeMap<(String, String), usize> = BTreeMap::new();
    for t in report.tensors.iter().filter(|t| t.a.dtype != t.b.dtype && t.distance.is_some()) {
        *types.entry((t.a.dtype.to_string(), t.b.dtype.to_string())).or_default() += 1;
    }
    if !types.is_empty() {
        lines.push(String::new());
    }
    lines.extend(
        types
            .into_iter()
            .map(|((a, b), n)| format!("{} {}: A {a}, B {b}", styled(LABEL, "other type"), count(n, "tensor"))),
    );
    lines
}

fn head(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| styled(DIM, name)).collect()
}

fn cells(distance: &Distance) -> [String; 3] {
    let cosine = distance.cosine.map_or("-".to_owned(), |cosine| format!("{cosine:.5}"));
    [percent(distance.relative), cosine, share(distance.equal)]
}

/// A relative difference.
fn percent(relative: Option<f64>) -> String {
    match relative.map(|x| 100.0 * x) {
        None => "from zero".to_owned(),
        Some(0.0) => "0 %".to_owned(),
        Some(p) if p < 0.001 => format!("{p:.0e} %"),
        Some(p) if p < 10.0 => format!("{p:.3} %"),
        Some(p) => format!("{p:.1} %"),
    }
}

/// A fraction of elements; all and none are only said where they are.
fn share(fraction: f64) -> String {
    match 100.0 * fraction {
        100.0 => "100 %".to_owned(),
        0.0 => "0 %".to_owned(),
        p => format!("{:.1} %", p.clamp(0.1, 99.9)),
    }
}

/// A name, cut at its start, where tensors of a model are alike.
fn cut(name: &str, columns: usize) -> String {
    let name = one_line(name);
    let length = name.chars().count();
    if length <= columns { name } else { ['…'].into_iter().chain(name.chars().skip(length - columns + 1)).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_differences_are_never_shown_as_none() {
        let shown = [None, Some(0.0), Some(1e-9), Some(0.0123), Some(1.5)].map(percent);
        assert_eq!(shown, ["from zero", "0 %", "1e-7 %", "1.230 %", "150.0 %"]);
        assert_eq!([0.0, 1e-9, 0.5, 1.0 - 1e-9, 1.0].map(share), ["0 %", "0.1 %", "50.0 %", "99.9 %", "100 %"]);
        assert_eq!(cut("model.layers.0.x", 9), "…yers.0.x");
    }
}
