//! Errors, warnings and notes on stderr: a message, the place in the user's file, facts, hints.
//!
//! ```text
//! error: unknown key `positve_prompts`
//!  --> moe.yml:9:5
//!   |
//! 9 |     positve_prompts:
//!   |     ^^^^^^^^^^^^^^^ did you mean `positive_prompts`?
//! ```

use std::fmt::Write as _;

use annotate_snippets::{AnnotationKind, Level, Renderer, Snippet as Source};
use moerge_core::error::{ErrorParts, Snippet};
use serde_json::{Map, Value, json};

use crate::{
    console, hints,
    terminal::{ERROR, HINT, LABEL, WARNING, harmless, one_line, styled},
    wrap::wrap,
};

/// Prints an error of the library to stderr, with the flags that help; after it, those found in the same run.
pub fn error(error: &moerge_core::Error) {
    let width = console::stderr_width();
    let all = std::iter::once(error).chain(&error.parts().further);
    let texts: Vec<String> = all.map(|error| rendered(hints::with_flags(error).parts(), width)).collect();
    console::status_text(&texts.join("\n"));
}

/// Prints a warning to stderr.
pub fn warning(message: &str) {
    console::status(&warning_line(message));
}

/// `note: message`
pub fn note_line(message: &str) -> String {
    format!("{} {}", styled(HINT, "note:"), one_line(message))
}

/// An error of the library as a warning: its message, facts and hints.
pub fn as_warning(error: &moerge_core::Error) -> String {
    hints::with_flags(error).to_string()
}

/// An error of the library as a JSON event. `file`, `line`, `column` (from 1, in characters) and `label` are there where the
/// error is about a place in a file.
pub fn as_event(error: &moerge_core::Error) -> Value {
    let error = hints::with_flags(error);
    let parts = error.parts();
    let facts: Map<String, Value> =
        parts.facts.iter().map(|(name, fact)| (name.clone(), fact.as_str().into())).collect();
    let kind = format!("{:?}", parts.kind).to_lowercase();
    let mut event =
        json!({ "event": "error", "kind": kind, "message": parts.message, "facts": facts, "hints": parts.hints });
    if let Some(snippet) = &parts.snippet {
        let before = snippet.text.get(..snippet.span.start).unwrap_or_default();
        let line = before.rsplit_once('\n').map_or(before, |(_, line)| line);
        event["file"] = snippet.name.as_str().into();
        event["line"] = (before.matches('\n').count() + 1).into();
        event["column"] = (line.chars().count() + 1).into();
        event["label"] = snippet.label.as_str().into();
    }
    event
}

/// `warning: message`; lines after the first are indented, as hints are.
pub fn warning_line(message: &str) -> String {
    let message = harmless(message);
    let (first, rest) = message.split_once('\n').unwrap_or((&message, ""));
    let mut text = format!("{} {first}", styled(WARNING, "warning:"));
    for line in rest.lines() {
        let line = line.trim_start();
        let line = match line.strip_prefix("hint: ") {
            Some(hint) => format!("{} {hint}", styled(HINT, "hint:")),
            None => line.to_owned(),
        };
        let _ = write!(text, "\n  {line}");
    }
    text
}

/// The error as lines, wrapped to `columns`.
fn rendered(parts: &ErrorParts, columns: Option<usize>) -> String {
    let message = one_line(&parts.message);
    let mut text = match parts.snippet.as_ref().and_then(|s| with_caret(&message, s, columns)) {
        Some(text) => text,
        None => {
            let line = format!("{} {}", styled(ERROR, "error:"), styled(LABEL, &message));
            format!("{}\n", wrap(&line, columns))
        }
    };
    let width = parts.facts.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
    for (name, value) in &parts.facts {
        let name = harmless(name);
        let indent = format!("\n  {:width$}  ", "");
        let value = harmless(value).replace('\n', &indent);
        let line = format!("  {}  {value}", styled(LABEL, &format!("{name:width$}")));
        let _ = writeln!(text, "{}", wrap(&line, columns));
    }
    for hint in &parts.hints {
        let line = format!("  {} {}", styled(HINT, "hint:"), one_line(hint));
        let _ = writeln!(text, "{}", wrap(&line, columns));
    }
    text
}

/// Columns for lines of the user's file if stderr is not a terminal.
const DEFAULT_COLUMNS: usize = 140;

/// The message with the line it is about. `None` if the span is not one of the text's, which would be a bug of ours.
fn with_caret(message: &str, snippet: &Snippet, columns: Option<usize>) -> Option<String> {
    let text: &str = &snippet.text;
    let span = snippet.span.start..snippet.span.end.max(snippet.span.start);
    text.get(span.clone())?;
    // Control characters must not reach the terminal. Their replacement may have another length, so the span is counted
    // again.
    let (before, marked, after) = (&text[..span.start], &text[span.clone()], &text[span.end..]);
    // Line ends of Windows are line ends, not control characters.
    let shown = |text: &str| harmless(&text.replace("\r\n", "\n"));
    let (before, marked, after) = (shown(before), shown(marked), shown(after));
    let first_line = marked.lines().next().unwrap_or_default().trim_end();
    let span = before.len()..before.len() + first_line.len();
    let source = format!("{before}{marked}{after}");
    let label = harmless(&snippet.label);
    let annotation = AnnotationKind::Primary.span(span);
    let annotation = if label.is_empty() { annotation } else { annotation.label(label) };
    let source = Source::source(source).path(harmless(&snippet.name)).annotation(annotation);
    let group = Level::ERROR.primary_title(message).element(source);
    let renderer = Renderer::styled().error(ERROR).emphasis(LABEL).term_width(columns.unwrap_or(DEFAULT_COLUMNS));
    Some(format!("{}\n", renderer.render(&[group])))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(error: &moerge_core::Error) -> String {
        anstream::adapter::strip_str(&rendered(error.parts(), None)).to_string()
    }

    #[test]
    fn a_place_in_a_file_has_a_caret() {
        let text = "base_model: a\nexperts:\n  - source_model: b\n    positve_prompts: [x]\n";
        let start = text.find("positve").unwrap();
        let snippet = Snippet {
            name: "moe.yml".into(),
            text: text.into(),
            span: start..start + "positve_prompts".len(),
            label: "did you mean `positive_prompts`?".into(),
        };
        insta::assert_snapshot!(plain(&moerge_core::Error::input("unknown key `positve_prompts`").at(snippet)), @r"
        error: unknown key `positve_prompts`
         --> moe.yml:4:5
          |
        4 |     positve_prompts: [x]
          |     ^^^^^^^^^^^^^^^ did you mean `positive_prompts`?
        ");
    }

    #[test]
    fn lines_that_end_as_in_windows_have_no_odd_character() {
        let snippet =
            Snippet { name: "moe.yml".into(), text: "a: 1\r\nb: x\r\n".into(), span: 9..10, label: String::new() };
        let text = plain(&moerge_core::Error::input("wrong").at(snippet));
        assert!(text.contains("2 | b: x\n") && !text.contains('\u{fffd}'), "{text}");
    }

    #[test]
    fn facts_line_up_and_hints_follow() {
        let error = moerge_core::Error::input(
            "expert 2 cannot join this MoE: it is [13824, 5120], the base's is [14336, 4096]",
        )
        .fact("base", "mistral-7b")
        .fact("expert", "llama-13b (moe.yml:14)")
        .hint("experts must have the base's hidden size");
        insta::assert_snapshot!(plain(&error), @r"
        error: expert 2 cannot join this MoE: it is [13824, 5120], the base's is [14336, 4096]
          base    mistral-7b
          expert  llama-13b (moe.yml:14)
          hint: experts must have the base's hidden size
        ");
    }

    #[test]
    fn control_characters_and_spans_off_the_text_do_no_harm() {
        for span in [0..0, 0..1, 2..7, 3..4, 7..9, 50..60, 9..9] {
            let snippet =
                Snippet { name: "a\u{1b}".into(), text: "ä\u{1b}[2J\u{7}b\r\n".into(), span, label: "\u{1b}".into() };
            let text = plain(&moerge_core::Error::input("\u{1b}[31mred").at(snippet));
            assert!(!text.contains(['\u{1b}', '\u{7}']), "{text:?}");
        }
    }

    #[test]
    fn hints_of_warnings_are_indented() {
        let text = warning_line("experts 1 and 3 are alike\nhint: other prompts");
        assert_eq!(
            anstream::adapter::strip_str(&text).to_string(),
            "warning: experts 1 and 3 are alike\n  hint: other prompts"
        );
    }
}
