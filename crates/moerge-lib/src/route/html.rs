//! The report as one self-contained HTML page: SVG heat maps, charts and coloured text, in a light and a dark scheme.
//!
//! The drawings are made here; the few lines of script on the page only move the layer slider.

use std::fmt::Write as _;

use super::{BalancedLoad, RouteReport, TextReport};
use crate::{markup::escaped, splice::SEGMENTS};

mod charts;

const STYLE: &str = include_str!("html/style.css");
const SCRIPT: &str = include_str!("html/script.js");

/// Number of expert colours (Okabe and Ito, distinguishable with most forms of colour blindness); more experts reuse
/// them.
const COLOURS: usize = 8;

/// The page.
pub fn page(report: &RouteReport) -> String {
    let mut page = String::new();
    let (experts, layers) = (report.experts.len(), report.layers.len());
    let tokens: usize = report.texts.iter().map(|text| text.tokens).sum();
    let title = format!("Routing of {}", escaped(&report.model));
    let _ = write!(
        page,
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; \
         script-src 'unsafe-inline'\">\n<title>{title}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n<main>\n\
         <h1>{title}</h1>\n<p class=\"facts\">{experts} experts, {} per token, {layers} layers · {tokens} tokens of {}</p>\n",
        report.experts_per_token,
        if report.texts.len() == 1 { "1 text".to_owned() } else { format!("{} texts", report.texts.len()) },
    );
    legend(&mut page, report);
    summary(&mut page, report);
    page.push_str(
        "<h2>Where each text goes</h2>\n<p>Percent of the tokens whose first choice is the expert, layer by layer. The \
         text's own expert is marked.",
    );
    if report.layers.iter().any(|layer| !layer.dead.is_empty()) {
        page.push_str(" ×: dead, no token of any text chose the expert there, even as second.");
    }
    page.push_str("</p>\n<div class=\"maps\">\n");
    for text in &report.texts {
        let _ = writeln!(
            page,
            "<figure><figcaption>{}</figcaption>{}</figure>",
            caption(text, &format!("{} tokens", text.tokens)),
            charts::heat_map(report, text)
        );
    }
    page.push_str("</div>\n<h2>Token by token</h2>\n");
    tokens_of(&mut page, report);
    follow(&mut page, report);
    let _ = writeln!(page, "<h2>Layer by layer</h2>\n{}", charts::layer_lines(report));
    dead(&mut page, report);
    gates(&mut page, report);
    balanced(&mut page, report);
    let _ = write!(page, "</main>\n<script>\n{SCRIPT}</script>\n</body>\n</html>\n");
    page
}

/// One line per expert that is dead in some layer.
fn dead(page: &mut String, report: &RouteReport) {
    for (expert, name) in report.experts.iter().enumerate() {
        let count = report.layers.iter().filter(|layer| layer.dead.contains(&expert)).count();
        if count > 0 {
            let _ = writeln!(
                page,
                "<p><strong>Dead:</strong> no token chose {} in {count} of {} layers; the maps above mark them with ×.</p>",
                escaped(name),
                report.layers.len()
            );
        }
    }
}

/// How fast the routers follow a text.
fn follow(page: &mut String, report: &RouteReport) {
    let Some(following) = &report.following else { return };
    let _ = writeln!(
        page,
        "<h2>Following a text</h2>\n<p>How often a token's own expert is the first choice, by the number of tokens since the \
         text began or changed its subject: measured on the texts in alternating segments of {} to {} tokens, mean of all \
         layers.</p>\n{}",
        SEGMENTS.min,
        SEGMENTS.max,
        charts::following_lines(following)
    );
}

/// Up to this many layers, all cosines are written out; otherwise those of the first, middle and last layer.
const WRITTEN: usize = 8;

/// The cosines between the rows of each layer's gate.
fn gates(page: &mut String, report: &RouteReport) {
    let layers = report.layers.len();
    page.push_str(
        "<h2>Gates</h2>\n<p>Cosine of each pair of gate rows: 1 where two rows point the same way and their experts are \
         chosen together or not at all; negative ones have a colour of their own.</p>\n<div class=\"gates\">\n",
    );
    let written: Vec<usize> = if layers <= WRITTEN { (0..layers).collect() } else { vec![0, layers / 2, layers - 1] };
    for layer in written {
        let _ =
            writeln!(page, "<figure><figcaption>layer {layer}</figcaption>{}</figure>", charts::cosines(report, layer));
    }
    page.push_str("</div>\n");
    if layers > WRITTEN {
        page.push_str("<p>All layers; rows and columns are the experts as above.</p>\n<div class=\"gates\">\n");
        for layer in 0..layers {
            let map = charts::small_cosines(report, layer);
            let _ = writeln!(page, "<figure>{map}<figcaption>{layer}</figcaption></figure>");
        }
        page.push_str("</div>\n");
    }
}

/// Loads before and after `moerge merge --balance`.
fn balanced(page: &mut String, report: &RouteReport) {
    let Some(BalancedLoad { balance, load_after }) = &report.balance else { return };
    let _ = writeln!(
        page,
        "<h2>Balanced</h2>\n<p>Part of all choices that each expert gets on the text that the routers were fitted to. \
         {}.</p>\n<div class=\"maps\">",
        escaped(&balance.summary())
    );
    for (when, load) in [("before", &balance.load_before), ("after", load_after)] {
        let map = charts::load_map(report, load);
        let _ = writeln!(page, "<figure class=\"load\"><figcaption>{when}</figcaption>{map}</figure>");
    }
    page.push_str("</div>\n");
}

fn legend(page: &mut String, report: &RouteReport) {
    page.push_str("<p class=\"legend\">");
    for (expert, name) in report.experts.iter().enumerate() {
        let _ = write!(page, "<span class=\"t e{}\">{}</span> ", expert % COLOURS, escaped(name));
    }
    page.push_str("</p>\n");
}

/// One row per text: shares of weight over all layers, and how often its own expert is the first choice.
fn summary(page: &mut String, report: &RouteReport) {
    page.push_str("<div class=\"wide\"><table>\n<thead><tr><th>share of weight</th>");
    for name in &report.experts {
        let _ = write!(page, "<th>{}</th>", escaped(name));
    }
    let known = report.texts.iter().any(|text| text.expert.is_some());
    page.push_str(if known { "<th>own expert first</th></tr></thead>\n<tbody>\n" } else { "</tr></thead>\n<tbody>\n" });
    for text in &report.texts {
        let _ = write!(page, "<tr><th>{}</th>", escaped(&text.name));
        for expert in 0..report.experts.len() {
            let own = if text.expert == Some(expert) { " class=\"own\"" } else { "" };
            let _ = write!(page, "<td{own}>{:.0} %</td>", 100.0 * text.weighted(expert));
        }
        match report.accuracy_of(text) {
            Some(accuracy) => drop(write!(page, "<td>{:.0} %</td>", 100.0 * accuracy)),
            None if known => page.push_str("<td>–</td>"),
            None => {}
        }
        page.push_str("</tr>\n");
    }
    page.push_str("</tbody></table></div>\n");
}

fn tokens_of(page: &mut String, report: &RouteReport) {
    let _ = writeln!(
        page,
        "<p>Each token has the colour of the expert that comes first: in the layer that the slider chooses, or in most \
         layers.</p>\n<p class=\"slider\"><label>Colours show <output id=\"shown\">all layers</output> <input type=\"range\" \
         id=\"layer\" min=\"0\" max=\"{}\" value=\"0\"></label></p>",
        report.layers.len()
    );
    for text in &report.texts {
        let kept = text.sample.len();
        let tokens = text.tokens;
        let count =
            if kept < tokens { format!("the first {kept} of {tokens} tokens") } else { format!("{tokens} tokens") };
        let _ = write!(page, "<h3>{}</h3>\n<p class=\"text\">", caption(text, &count));
        for token in text.sample.iter().filter(|token| !token.text.is_empty()) {
            let layers: Vec<String> = token.experts.iter().map(usize::to_string).collect();
            let main = most_often(&token.experts);
            let _ = write!(
                page,
                "<span class=\"t e{}\" data-e=\"{}\">{}</span>",
                main % COLOURS,
                layers.join(","),
                escaped(&token.text)
            );
        }
        page.push_str("</p>\n");
    }
}

fn caption(text: &TextReport, tokens: &str) -> String {
    format!("{} <small>{tokens}</small>", escaped(&text.name))
}

/// The most frequent entry; the smallest of several.
fn most_often(experts: &[usize]) -> usize {
    let count = |expert: usize| experts.iter().filter(|e| **e == expert).count();
    let most = experts.iter().copied().max_by_key(|expert| (count(*expert), std::cmp::Reverse(*expert)));
    most.unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::following::{FollowedTokens, Following};
    use crate::route::{LayerReport, SampleToken, TextLayer};

    #[test]
    fn a_page_holds_all_and_asks_for_nothing() {
        let layer = || LayerReport {
            gate_cosines: vec![vec![1.0, -0.5], vec![-0.5, 1.0]],
            balance: 0.9,
            entropy: 0.8,
            accuracy: Some(0.75),
            dead: vec![1],
            absent: vec![],
        };
        let routed = || TextLayer {
            first_choice: vec![0.75, 0.25],
            chosen: vec![1.0, 0.25],
            weighted: vec![0.6, 0.4],
            entropy: 0.8,
        };
        let report = RouteReport {
            model: "out</title><script>alert(1)</script>".into(),
            experts: vec!["a&b".into(), "code".into()],
            experts_per_token: 1,
            layers: vec![layer(), layer(), layer()],
            texts: vec![TextReport {
                name: "x<y".into(),
                expert: Some(0),
                tokens: 2000,
                layers: vec![routed(), routed(), routed()],
                sample: vec![
                    SampleToken { text: "if a < b".into(), experts: vec![0, 1, 1] },
                    SampleToken { text: "\u{1b}\n".into(), experts: vec![0, 0, 1] },
                ],
            }],
            following: Some(Following {
                from_beginning: vec![FollowedTokens { from: 0, tokens: 3, accuracy: 0.5 }],
                after_change: vec![FollowedTokens { from: 4, tokens: 30, accuracy: 0.925 }],
            }),
            balance: None,
        };
        let page = page(&report);
        assert!(page.contains("if a &lt; b") && page.contains("data-e=\"0,1,1\"") && page.contains("a&amp;b"));
        assert!(page.contains("class=\"t e1\" data-e=\"0,1,1\"") && page.contains("class=\"t e0\" data-e=\"0,0,1\""));
        assert!(page.contains("the first 2 of 2000 tokens") && page.contains(">−.50</text>"));
        assert!(page.contains("no token chose code in 3 of 3 layers") && page.matches(">×</text>").count() == 3);
        assert!(!page.contains("alert(1)</script>") && !page.contains('\u{1b}'));
        assert!(!page.contains("http://") && !page.contains("https://") && !page.contains("url("));
        assert!(page.contains("30 tokens, 4 to 7 after a change: 92 %"), "{page}");
        assert_eq!(page.matches("<svg").count(), 1 + 1 + 1 + 3, "a map per text, two charts, gates per layer");
        assert_eq!(page.matches("<figure").count(), page.matches("</figure>").count());
    }
}
