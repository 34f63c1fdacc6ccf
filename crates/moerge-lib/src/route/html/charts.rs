//! The charts as SVG. Their colours come from the style sheet, so they follow the light and the dark scheme.

use std::fmt::Write as _;

use crate::{
    following::{FollowedTokens, Following},
    markup::escaped,
    route::{RouteReport, TextReport},
};

/// The opacities above which text on a colour needs the other ink: in the light and in the dark scheme.
type Turns = (f64, f64);
/// Of `--heat`.
const HEAT: Turns = (0.825, 0.585);
/// Of `--against`.
const AGAINST: Turns = (0.945, 0.565);

/// The style class of the ink for text on a shade: black or white, with a contrast of at least 4.5 to 1.
fn ink(shade: f64, (light, dark): Turns) -> &'static str {
    match (shade > light, shade > dark) {
        (false, false) => "low",
        (false, true) => "mid",
        (true, _) => "high",
    }
}

/// A heat map with one row per expert and one column per layer; a stronger colour means more tokens.
pub(super) fn heat_map(report: &RouteReport, text: &TextReport) -> String {
    map(report, text.expert, |expert, layer| {
        let routed = text.layers.get(layer)?;
        let (share, weight) = (routed.first_choice[expert], 100.0 * routed.weighted[expert]);
        if report.layers.get(layer)?.dead.contains(&expert) {
            return Some(Cell { share, shade: 0.0, dead: true, title: "dead, no token of any text chose it".into() });
        }
        let title = format!("{:.0} % first choice, {weight:.0} % of weight", 100.0 * share);
        Some(Cell { share, shade: share, dead: false, title })
    })
}

/// The same for loads; an even share has half the intensity.
pub(super) fn load_map(report: &RouteReport, load: &[Vec<f64>]) -> String {
    map(report, None, |expert, layer| {
        let share = *load.get(layer)?.get(expert)?;
        let even = 1.0 / (report.experts.len() - report.layers.get(layer)?.absent.len()).max(1) as f64;
        let title = format!("{:.1} % of the choices, {:.2} of an even share", 100.0 * share, share / even);
        Some(Cell { share, shade: (share / even / 2.0).min(1.0), dead: false, title })
    })
}

/// One expert in one layer.
struct Cell {
    /// The fraction that is written in it.
    share: f64,
    /// The intensity of its colour, from 0 to 1.
    shade: f64,
    /// Whether it is marked instead of showing a number.
    dead: bool,
    title: String,
}

/// One row per expert, `own` marked, one column per layer. Experts absent from a layer have no cell there.
fn map(report: &RouteReport, own: Option<usize>, cell: impl Fn(usize, usize) -> Option<Cell>) -> String {
    let (experts, layers) = (report.experts.len(), report.layers.len());
    // With few layers, cells are wide enough for numbers.
    let (width, height, label) = (if layers <= 8 { 40 } else { 14 }, 22, 84);
    let mut svg = open(label + layers * width + 2, experts * height + 18, "heat map of experts by layers");
    for (expert, name) in report.experts.iter().enumerate() {
        let own = own == Some(expert);
        let (y, class) = (expert * height, if own { "own" } else { "name" });
        let mark = if own { "▸ " } else { "" };
        let _ = write!(
            svg,
            "<text class=\"{class}\" x=\"{}\" y=\"{}\" text-anchor=\"end\">{mark}{}</text>",
            label - 6,
            y + 15,
            escaped(&short(name))
        );
        for (layer, facts) in report.layers.iter().enumerate() {
            let Some(Cell { share, shade, dead, title }) =
                cell(expert, layer).filter(|_| !facts.absent.contains(&expert))
            else {
                continue;
            };
            let x = label + layer * width;
            let _ = write!(
                svg,
                "<rect class=\"cell\" x=\"{x}\" y=\"{y}\" width=\"{0}\" height=\"{1}\"/>\
                 <rect class=\"heat\" x=\"{x}\" y=\"{y}\" width=\"{0}\" height=\"{1}\" fill-opacity=\"{shade:.3}\">\
                 <title>layer {layer}, {2}: {title}</title></rect>",
                width - 2,
                height - 2,
                escaped(name),
            );
            if dead || layers <= 8 {
                let written = if dead { "×".to_owned() } else { format!("{:.0}", 100.0 * share) };
                let _ = write!(
                    svg,
                    "<text class=\"{}\" x=\"{}\" y=\"{}\" text-anchor=\"middle\">{written}</text>",
                    ink(shade, HEAT),
                    x + width / 2 - 1,
                    y + 15,
                );
            }
        }
    }
    axis(&mut svg, layers, label, width, experts * height + 13);
    svg + "</svg>"
}

/// Accuracy, balance and entropy over the layers, each from 0 to 1.
pub(super) fn layer_lines(report: &RouteReport) -> String {
    let (layers, left, height) = (report.layers.len(), 30, 140);
    let width = (560 / layers.max(1)).clamp(14, 90);
    let mut svg = open(left + layers * width + 4, height + 34, "accuracy, balance and entropy by layer");
    let y = |value: f64| level(value, height);
    grid(&mut svg, left, layers * width, height);
    let mut line = |class: &str, values: Vec<Option<f64>>| {
        let x = |layer: usize| left + layer * width + width / 2;
        let points: Vec<String> =
            values.iter().enumerate().filter_map(|(l, v)| Some(format!("{},{:.1}", x(l), y((*v)?)))).collect();
        let _ = write!(svg, "<polyline class=\"{class}\" points=\"{}\"/>", points.join(" "));
        for (layer, value) in values.iter().enumerate() {
            let Some(value) = value else { continue };
            let _ = write!(
                svg,
                "<circle class=\"{class}\" cx=\"{}\" cy=\"{:.1}\" r=\"3\"><title>layer {layer}: {class} {value:.2}</title></circle>",
                x(layer),
                y(*value)
            );
        }
    };
    line("accuracy", report.layers.iter().map(|l| l.accuracy).collect());
    line("balance", report.layers.iter().map(|l| Some(l.balance)).collect());
    line("entropy", report.layers.iter().map(|l| Some(l.entropy)).collect());
    axis(&mut svg, layers, left, width, height + 14);
    let accuracy = if report.accuracy().is_some() { "<span class=\"accuracy\">own expert first</span> " } else { "" };
    format!(
        "<figure class=\"lines\">{svg}</svg><figcaption>{accuracy}<span class=\"balance\">balance: 1 loads all experts \
         alike</span> <span class=\"entropy\">entropy: 1 is a router without an opinion</span></figcaption></figure>"
    )
}

/// Accuracy by the distance from the beginning of a text and from a change, from 0 to 1.
pub(super) fn following_lines(following: &Following) -> String {
    let (left, height, width) = (30, 140, 56);
    let series = [
        ("beginning", "after the beginning", &following.from_beginning),
        ("change", "after a change", &following.after_change),
    ];
    let mut distances: Vec<u64> = series.iter().flat_map(|(_, _, tokens)| tokens.iter().map(|t| t.from)).collect();
    distances.sort_unstable();
    distances.dedup();
    let mut svg = open(left + distances.len() * width + 4, height + 34, "accuracy by distance from a change");
    grid(&mut svg, left, distances.len() * width, height);
    for (class, when, tokens) in series {
        let point = |tokens: &FollowedTokens| {
            let column = distances.iter().position(|from| *from == tokens.from).unwrap_or(0);
            (left + column * width + width / 2, level(tokens.accuracy, height))
        };
        let points: Vec<String> = tokens.iter().map(point).map(|(x, y)| format!("{x},{y:.1}")).collect();
        let _ = write!(svg, "<polyline class=\"{class}\" points=\"{}\"/>", points.join(" "));
        for followed in tokens {
            let (x, y) = point(followed);
            let _ = write!(
                svg,
                "<circle class=\"{class}\" cx=\"{x}\" cy=\"{y:.1}\" r=\"3\"><title>{} tokens, {} {when}: {:.0} %</title>\
                 </circle>",
                followed.tokens,
                followed.distances(),
                100.0 * followed.accuracy,
            );
        }
    }
    for (column, from) in distances.iter().enumerate() {
        let label = FollowedTokens { from: *from, ..FollowedTokens::default() }.distances();
        let x = left + column * width + width / 2;
        let _ =
            write!(svg, "<text class=\"name\" x=\"{x}\" y=\"{}\" text-anchor=\"middle\">{label}</text>", height + 14);
    }
    format!(
        "<figure class=\"lines\">{svg}</svg><figcaption><span class=\"beginning\">tokens since the beginning</span> \
         <span class=\"change\">tokens since a change</span></figcaption></figure>"
    )
}

/// The height of a value from 0 to 1 in a chart of this height.
fn level(value: f64, height: usize) -> f64 {
    8.0 + (1.0 - value.clamp(0.0, 1.0)) * (height - 8) as f64
}

/// The lines and labels of 0, 1/2 and 1.
fn grid(svg: &mut String, left: usize, width: usize, height: usize) {
    for (value, name) in [(0.0, "0"), (0.5, "½"), (1.0, "1")] {
        let _ = write!(
            svg,
            "<line class=\"grid\" x1=\"{left}\" x2=\"{0}\" y1=\"{1:.1}\" y2=\"{1:.1}\"/>\
             <text class=\"name\" x=\"{2}\" y=\"{3:.1}\" text-anchor=\"end\">{name}</text>",
            left + width,
            level(value, height),
            left - 5,
            level(value, height) + 4.0,
        );
    }
}

/// A matrix of experts by experts with names and numbers; positive and negative cosines have different colours.
pub(super) fn cosines(report: &RouteReport, layer: usize) -> String {
    let cosines = &report.layers[layer].gate_cosines;
    let (label, top, width, height) = (84, 18, 42, 22);
    let mut svg =
        open(label + cosines.len() * width, top + cosines.len() * height, &format!("cosines of gates, layer {layer}"));
    // Columns are narrow: names that do not fit are replaced by the experts' numbers, in the rows too.
    let named = report.experts.iter().all(|name| name.chars().count() <= 6);
    for (i, name) in report.experts.iter().enumerate() {
        let column = if named { name.clone() } else { i.to_string() };
        let row = if named || *name == format!("expert {i}") { short(name) } else { short(&format!("{i} {name}")) };
        let _ = write!(
            svg,
            "<text class=\"name\" x=\"{}\" y=\"12\" text-anchor=\"middle\">{}</text>\
             <text class=\"name\" x=\"{}\" y=\"{}\" text-anchor=\"end\">{}</text>",
            label + i * width + width / 2 - 1,
            escaped(&column),
            label - 6,
            top + i * height + 15,
            escaped(&row),
        );
    }
    for (i, j, cosine) in pairs(report, layer) {
        let (x, y) = (label + j * width, top + i * height);
        let (class, turns) = if cosine < 0.0 { ("against", AGAINST) } else { ("heat", HEAT) };
        let shade = cosine.abs().min(1.0);
        let _ = write!(
            svg,
            "<rect class=\"cell\" x=\"{x}\" y=\"{y}\" width=\"{0}\" height=\"{1}\"/>\
             <rect class=\"{class}\" x=\"{x}\" y=\"{y}\" width=\"{0}\" height=\"{1}\" fill-opacity=\"{shade:.3}\">\
             <title>{2} and {3}: {cosine:.3}</title></rect>\
             <text class=\"{4}\" x=\"{5}\" y=\"{6}\" text-anchor=\"middle\">{7}</text>",
            width - 2,
            height - 2,
            escaped(&report.experts[i]),
            escaped(&report.experts[j]),
            ink(shade, turns),
            x + width / 2 - 1,
            y + 15,
            signed(cosine),
        );
    }
    svg + "</svg>"
}

/// The same in small, without text, for models of many layers.
pub(super) fn small_cosines(report: &RouteReport, layer: usize) -> String {
    let (experts, size) = (report.experts.len(), 16);
    let mut svg = open(experts * size, experts * size, &format!("cosines of gates, layer {layer}"));
    for (i, j, cosine) in pairs(report, layer) {
        let class = if cosine < 0.0 { "against" } else { "heat" };
        let _ = write!(
            svg,
            "<rect class=\"{class}\" x=\"{0}\" y=\"{1}\" width=\"{2}\" height=\"{2}\" fill-opacity=\"{3:.3}\">\
             <title>layer {layer}, {4} and {5}: {cosine:.3}</title></rect>",
            j * size,
            i * size,
            size - 1,
            cosine.abs().min(1.0),
            escaped(&report.experts[i]),
            escaped(&report.experts[j]),
        );
    }
    svg + "</svg>"
}

/// The cosines of a layer's gates, without the experts absent from it.
fn pairs(report: &RouteReport, layer: usize) -> impl Iterator<Item = (usize, usize, f64)> {
    let facts = &report.layers[layer];
    let here = move |expert: &usize| !facts.absent.contains(expert);
    let row =
        move |i: usize| (0..facts.gate_cosines[i].len()).filter(here).map(move |j| (i, j, facts.gate_cosines[i][j]));
    (0..facts.gate_cosines.len()).filter(here).flat_map(row)
}

/// `.47`, `−.47`, `1`: short enough for a cell.
fn signed(cosine: f64) -> String {
    let text = format!("{:.2}", cosine.abs());
    let text = text.strip_prefix('0').map_or("1", |rest| rest);
    if cosine < 0.0 && text != ".00" { format!("−{text}") } else { text.to_owned() }
}

fn open(width: usize, height: usize, label: &str) -> String {
    format!(
        "<svg viewBox=\"0 0 {width} {height}\" width=\"{width}\" height=\"{height}\" role=\"img\" aria-label=\"{label}\">"
    )
}

/// Labels of layers: all if there are few, else every fourth.
fn axis(svg: &mut String, layers: usize, left: usize, width: usize, y: usize) {
    for layer in (0..layers).step_by(if layers <= 12 { 1 } else { 4 }) {
        let _ = write!(
            svg,
            "<text class=\"name\" x=\"{}\" y=\"{y}\" text-anchor=\"middle\">{layer}</text>",
            left + layer * width + width / 2 - 1
        );
    }
}

/// A name, cut to fit beside a map.
fn short(name: &str) -> String {
    if name.chars().count() <= 11 { name.to_owned() } else { name.chars().take(10).chain(['…']).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STYLE: &str = include_str!("style.css");

    /// Red, green and blue of `--name` in the `scheme`th block of colours.
    fn colour(name: &str, scheme: usize) -> [f64; 3] {
        let at = STYLE.match_indices(&format!("--{name}: #")).nth(scheme).unwrap().0 + name.len() + 5;
        [0, 2, 4].map(|i| f64::from(u8::from_str_radix(&STYLE[at + i..at + i + 2], 16).unwrap()) / 255.0)
    }

    /// Relative luminance, as WCAG has it.
    fn luminance(colour: [f64; 3]) -> f64 {
        let linear = colour.map(|v| if v <= 0.04045 { v / 12.92 } else { ((v + 0.055) / 1.055).powf(2.4) });
        linear.iter().zip([0.2126, 0.7152, 0.0722]).map(|(v, part)| v * part).sum()
    }

    #[test]
    fn what_is_written_on_a_shade_can_be_read_in_light_and_dark() {
        for (scheme, (name, turns)) in
            [0, 1].into_iter().flat_map(|s| [("heat", HEAT), ("against", AGAINST)].map(|c| (s, c)))
        {
            let (cell, full) = (colour("cell", scheme), colour(name, scheme));
            for shade in (0..=1000).map(|shade| f64::from(shade) / 1000.0) {
                let blended = std::array::from_fn(|i| shade * full[i] + (1.0 - shade) * cell[i]);
                let (on, ink) = (luminance(blended), luminance(colour(ink(shade, turns), scheme)));
                let contrast = (on.max(ink) + 0.05) / (on.min(ink) + 0.05);
                assert!(contrast >= 4.5, "{name} {scheme} {shade}: {contrast:.2}");
            }
        }
    }

    #[test]
    fn cosines_fit_their_cells() {
        assert_eq!(
            [1.0, 0.999, 0.474, 0.001, -0.001, -0.3, -1.0].map(signed),
            ["1", "1", ".47", ".00", ".00", "−.30", "−1"]
        );
    }
}
