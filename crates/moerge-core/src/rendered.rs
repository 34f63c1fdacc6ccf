//! How tests see an error: message, place and caret, facts and hints, much as the terminal shows them.

use crate::error::{Error, Snippet};

/// The error as text.
pub fn rendered(error: &Error) -> String {
    let parts = error.parts();
    let mut lines = vec![format!("error: {}", parts.message)];
    if let Some(snippet) = &parts.snippet {
        lines.extend(place(snippet));
    }
    lines.extend(parts.facts.iter().map(|(name, value)| format!("  {name}: {value}")));
    lines.extend(parts.hints.iter().map(|hint| format!("  hint: {hint}")));
    lines.extend(parts.further.iter().map(rendered));
    lines.join("\n")
}

/// The line with carets under the span. The span must lie in the text, on character boundaries.
fn place(snippet: &Snippet) -> [String; 3] {
    let Snippet { name, text, span, label } = snippet;
    let marked = &text[span.clone()];
    assert!(!marked.contains('\n'), "the span goes over several lines: {marked:?}");
    let line_start = text[..span.start].rfind('\n').map_or(0, |at| at + 1);
    let line = text[line_start..].lines().next().unwrap_or_default().replace('\t', "→");
    let (number, column) = (text[..line_start].matches('\n').count() + 1, text[line_start..span.start].chars().count());
    let carets = "^".repeat(marked.chars().count().max(1));
    let gap = " ".repeat(number.to_string().len());
    [
        format!("  --> {name}:{number}:{}", column + 1),
        format!("{number} | {line}"),
        format!("{gap} | {}{carets} {label}", " ".repeat(column)).trim_end().to_owned(),
    ]
}
