//! The differences as one self-contained SVG: modules by layers, a stronger colour for a larger relative difference, in a
//! light and a dark scheme.

use std::fmt::Write as _;

use super::{DiffReport, Distance, LayerDiff, module::order};
use crate::markup::escaped;

const STYLE: &str = include_str!("heat_map.css");
/// Width of the labels at the left, and height of a row.
const LABEL: usize = 150;
const ROW: usize = 20;
/// What is above the map.
const TOP: usize = 58;
const LEGEND: usize = 46;

/// The picture.
pub fn heat_map(report: &DiffReport) -> String {
    let rows = rows(report);
    let layers = report.layers.iter().map(|layer| layer.layer + 1).max().unwrap_or(1);
    let cell = if layers <= 16 { 34 } else { (1100 / layers).clamp(6, 24) };
    let max = rows.iter().flat_map(|row| &row.cells).filter_map(|(_, d)| d.relative).fold(0.0, f64::max);
    let (width, height) = ((LABEL + layers * cell + 16).max(480), TOP + rows.len() * ROW + 22 + LEGEND);
    let title = format!("{} compared with {}", shortened(&report.b), shortened(&report.a));
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" \
         height=\"{height}\" role=\"img\" aria-label=\"{0}\">\n<style>{STYLE}</style>\n\
         <rect class=\"page\" width=\"{width}\" height=\"{height}\"/>\n\
         <text class=\"title\" x=\"12\" y=\"22\">{0}</text>\n\
         <text class=\"quiet\" x=\"12\" y=\"42\">relative difference |A - B| / |A| by module and layer</text>\n",
        escaped(&title),
    );
    for (number, row) in rows.iter().enumerate() {
        let y = TOP + number * ROW;
        let _ = writeln!(
            svg,
            "<text class=\"quiet\" x=\"{}\" y=\"{}\" text-anchor=\"end\">{}</text>",
            LABEL - 8,
            y + 14,
            escaped(&row.label)
        );
        for (layer, distance) in &row.cells {
            draw(&mut svg, row, *layer, distance, (LABEL + layer.unwrap_or(0) * cell, y, cell.max(1)), max);
        }
    }
    let bottom = TOP + rows.len() * ROW;
    let step = [1, 2, 4, 5, 10, 20, 50, 100].into_iter().find(|step| step * cell >= 26).unwrap_or(200);
    for layer in (0..layers).step_by(step).filter(|_| !report.layers.is_empty()) {
        let _ = writeln!(
            svg,
            "<text class=\"quiet\" x=\"{}\" y=\"{}\" text-anchor=\"middle\">{layer}</text>",
            LABEL + layer * cell + cell / 2,
            bottom + 14
        );
    }
    legend(&mut svg, bottom + 34, max);
    svg + "</svg>\n"
}

struct Row {
    label: String,
    /// The layer, or `None` outside of layers, with what differs there.
    cells: Vec<(Option<usize>, Distance)>,
}

/// One row for each module, stack by stack; those outside of layers come last.
fn rows(report: &DiffReport) -> Vec<Row> {
    let mut stacks: Vec<&str> = report.layers.iter().map(|layer| layer.stack.as_str()).collect();
    stacks.dedup();
    let mut rows = Vec::new();
    for stack in &stacks {
        let of_stack: Vec<&LayerDiff> = report.layers.iter().filter(|layer| layer.stack == *stack).collect();
        let mut modules: Vec<&String> = of_stack.iter().flat_map(|layer| layer.modules.keys()).collect();
        modules.sort_by(|a, b| order(a).cmp(&order(b)));
        modules.dedup();
        let short = stack.rsplit('.').find(|part| *part != "layers").unwrap_or(stack);
        rows.extend(modules.into_iter().map(|module| {
            let cell = |layer: &&LayerDiff| Some((Some(layer.layer), layer.modules.get(module)?.clone()));
            let label = if stacks.len() > 1 { format!("{short}: {module}") } else { module.clone() };
            Row { label, cells: of_stack.iter().filter_map(cell).collect() }
        }));
    }
    let outside = report.tensors.iter().filter(|tensor| tensor.layer.is_none());
    rows.extend(outside.filter_map(|tensor| {
        let label = if tensor.module == "norms" { "final norm".to_owned() } else { tensor.module.clone() };
        Some(Row { label, cells: vec![(None, tensor.distance.clone()?)] })
    }));
    for row in &mut rows {
        row.label = match row.label.chars().count() {
            0..=22 => std::mem::take(&mut row.label),
            _ => row.label.chars().take(21).chain(['…']).collect(),
        };
    }
    rows
}

fn draw(
    svg: &mut String,
    row: &Row,
    layer: Option<usize>,
    distance: &Distance,
    (x, y, width): (usize, usize, usize),
    max: f64,
) {
    // Whatever has no number, such as a change of what was zero, is marked.
    let (class, shade, text) = match distance.relative {
        Some(relative) => ("heat", if max > 0.0 { relative / max } else { 0.0 }, percent(relative)),
        None => ("odd", 1.0, "changed".to_owned()),
    };
    let place = layer.map(|layer| format!("layer {layer}, ")).unwrap_or_default();
    let cosine = distance.cosine.map(|cosine| format!(", cosine {cosine:.4}")).unwrap_or_default();
    let gap = if width > 8 { 2 } else { 0 };
    let (width, height) = (width - gap, ROW - 2);
    let _ = writeln!(
        svg,
        "<rect class=\"cell\" x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{height}\"/>\
         <rect class=\"{class}\" x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{height}\" fill-opacity=\"{shade:.3}\">\
         <title>{place}{}: {text}{cosine}</title></rect>",
        escaped(&row.label),
    );
}

/// Shades with their numbers.
fn legend(svg: &mut String, y: usize, max: f64) {
    const STEPS: usize = 5;
    for step in 0..STEPS {
        let shade = step as f64 / (STEPS - 1) as f64;
        let x = LABEL + step * 62;
        let _ = writeln!(
            svg,
            "<rect class=\"cell\" x=\"{x}\" y=\"{y}\" width=\"14\" height=\"14\"/>\
             <rect class=\"heat\" x=\"{x}\" y=\"{y}\" width=\"14\" height=\"14\" fill-opacity=\"{shade:.3}\"/>\
             <text class=\"quiet\" x=\"{}\" y=\"{}\">{}</text>",
            x + 19,
            y + 11,
            percent(shade * max),
        );
    }
}

/// `0 %`, `0.012 %`, `3.4 %`, `120 %`.
fn percent(x: f64) -> String {
    match 100.0 * x {
        0.0 => "0 %".to_owned(),
        p if p < 0.01 => format!("{p:.0e} %"),
        p if p < 0.1 => format!("{p:.3} %"),
        p if p < 1.0 => format!("{p:.2} %"),
        p if p < 10.0 => format!("{p:.1} %"),
        p => format!("{p:.0} %"),
    }
}

/// A model's reference, cut to its end: that is what differs.
fn shortened(reference: &str) -> String {
    let count = reference.chars().count();
    if count <= 30 {
        reference.to_owned()
    } else {
        ['…'].into_iter().chain(reference.chars().skip(count - 29)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percents_fit() {
        assert_eq!([0.0, 0.000_05, 0.005, 0.034, 1.2].map(percent), ["0 %", "5e-3 %", "0.50 %", "3.4 %", "120 %"]);
    }
}
