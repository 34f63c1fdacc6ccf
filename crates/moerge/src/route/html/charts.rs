//! The drawings, as SVG. Colours are the style sheet's, so that they follow light and dark.

use std::fmt::Write as _;

use super::escaped;
use crate::route::{RouteReport, TextReport};

/// A row an expert, a column a layer; the darker, the more tokens.
pub(super) fn heat_map(report: &RouteReport, text: &TextReport) -> String {
    map(report, text.expert, |expert, layer| {
        let routed = text.layers.get(layer)?;
        let (share, weight) = (routed.first_choice[expert], 100.0 * routed.weighted[expert]);
        let title = format!("{:.0} % first choice, {weight:.0} % of weight", 100.0 * share);
        Some(Cell { share, shade: share, title })
    })
}

/// The same of loads; an even share is half dark.
pub(super) fn load_map(report: &RouteReport, load: &[Vec<f64>]) -> String {
    map(report, None, |expert, layer| {
        let share = *load.get(layer)?.get(expert)?;
        let even = 1.0 / (report.experts.len() - report.layers.get(layer)?.absent.len()).max(1) as f64;
        let title = format!("{:.1} % of the choices, {:.2} of an even share", 100.0 * share, share / even);
        Some(Cell { share, shade: (share / even / 2.0).min(1.0), title })
    })
}

/// An expert in a layer.
struct Cell {
    /// Part of 1, the number that is written.
    share: f64,
    /// How dark it is.
    shade: f64,
    title: String,
}

/// A row an expert, `own` marked, a column a layer. Experts that are not in a layer have no cell there.
fn map(report: &RouteReport, own: Option<usize>, cell: impl Fn(usize, usize) -> Option<Cell>) -> String {
    let (experts, layers) = (report.experts.len(), report.layers.len());
    // Few layers get wide cells with numbers in them.
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
            let Some(Cell { share, shade, title }) = cell(expert, layer).filter(|_| !facts.absent.contains(&expert))
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
            if layers <= 8 {
                let class = if shade > 0.55 { "on" } else { "off" };
                let _ = write!(
                    svg,
                    "<text class=\"{class}\" x=\"{}\" y=\"{}\" text-anchor=\"middle\">{:.0}</text>",
                    x + width / 2 - 1,
                    y + 15,
                    100.0 * share
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
    let y = |value: f64| 8.0 + (1.0 - value.clamp(0.0, 1.0)) * (height - 8) as f64;
    for (value, name) in [(0.0, "0"), (0.5, "½"), (1.0, "1")] {
        let _ = write!(
            svg,
            "<line class=\"grid\" x1=\"{left}\" x2=\"{0}\" y1=\"{1:.1}\" y2=\"{1:.1}\"/>\
             <text class=\"name\" x=\"{2}\" y=\"{3:.1}\" text-anchor=\"end\">{name}</text>",
            left + layers * width,
            y(value),
            left - 5,
            y(value) + 4.0,
        );
    }
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

/// Experts by experts; positive and negative cosines have colours of their own.
pub(super) fn cosines(report: &RouteReport, cosines: &[Vec<f64>]) -> String {
    let (experts, size) = (cosines.len(), 16);
    let mut svg = open(experts * size, experts * size, "cosines of gates");
    for (i, row) in cosines.iter().enumerate() {
        for (j, cosine) in row.iter().enumerate() {
            let class = if *cosine < 0.0 { "against" } else { "heat" };
            let _ = write!(
                svg,
                "<rect class=\"{class}\" x=\"{0}\" y=\"{1}\" width=\"{2}\" height=\"{2}\" fill-opacity=\"{3:.3}\">\
                 <title>{4} and {5}: {cosine:.3}</title></rect>",
                j * size,
                i * size,
                size - 1,
                cosine.abs().min(1.0),
                escaped(&report.experts[i]),
                escaped(&report.experts[j]),
            );
        }
    }
    svg + "</svg>"
}

fn open(width: usize, height: usize, label: &str) -> String {
    format!(
        "<svg viewBox=\"0 0 {width} {height}\" width=\"{width}\" height=\"{height}\" role=\"img\" aria-label=\"{label}\">"
    )
}

/// Numbers of layers: all of a few, every fourth of many.
fn axis(svg: &mut String, layers: usize, left: usize, width: usize, y: usize) {
    for layer in (0..layers).step_by(if layers <= 12 { 1 } else { 4 }) {
        let _ = write!(
            svg,
            "<text class=\"name\" x=\"{}\" y=\"{y}\" text-anchor=\"middle\">{layer}</text>",
            left + layer * width + width / 2 - 1
        );
    }
}

/// A name that fits beside a map.
fn short(name: &str) -> String {
    if name.chars().count() <= 11 { name.to_owned() } else { name.chars().take(10).chain(['…']).collect() }
}
