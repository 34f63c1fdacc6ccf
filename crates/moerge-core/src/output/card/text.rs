//! Quoting for the two languages of a model card, YAML and Markdown, and its numbers.

/// A YAML scalar in double quotes: JSON's escapes are YAML's, and what JSON lets stand but YAML does not is escaped too.
pub fn quoted(text: &str) -> String {
    let json = serde_json::Value::from(text).to_string();
    let mut yaml = String::with_capacity(json.len());
    for c in json.chars() {
        match c {
            '\u{7f}'..='\u{9f}' | '\u{2028}' | '\u{2029}' | '\u{feff}' => {
                yaml.push_str(&format!("\\u{:04x}", c as u32))
            }
            c => yaml.push(c),
        }
    }
    yaml
}

/// Text inside a table cell, a heading or a link: one line of at most 120 characters, with Markdown's and HTML's signs
/// escaped.
pub(super) fn cell(text: &str) -> String {
    const LONGEST: usize = 120;
    let words: Vec<&str> =
        text.split(|c: char| c.is_whitespace() || c.is_control()).filter(|w| !w.is_empty()).collect();
    let line = words.join(" ");
    let mut out = String::new();
    for (i, c) in line.chars().enumerate() {
        if i == LONGEST {
            out.push('…');
            break;
        }
        if "\\|`*_[]<>&#~$".contains(c) {
            out.push('\\');
        }
        out.push(c);
    }
    out
}

/// A Markdown table of one-line cells, the first row its header; numbers, in all columns but the first, to the right.
/// Cells with `true` are bold.
pub fn markdown_table(rows: &[Vec<(String, bool)>]) -> String {
    let line = |row: &Vec<(String, bool)>| {
        let cells = row.iter().map(|(text, bold)| if *bold { format!("**{}**", cell(text)) } else { cell(text) });
        format!("| {} |\n", cells.collect::<Vec<_>>().join(" | "))
    };
    let Some((header, body)) = rows.split_first() else { return String::new() };
    let rule = format!("|---|{}\n", "---:|".repeat(header.len().saturating_sub(1)));
    std::iter::once(line(header)).chain([rule]).chain(body.iter().map(line)).collect()
}

/// A code block whose fence is longer than any run of backticks inside.
pub(super) fn fence(language: &str, text: &str) -> String {
    let longest = text.split(|c| c != '`').map(str::len).max().unwrap_or(0);
    let fence = "`".repeat(longest.max(2) + 1);
    let end = if text.ends_with('\n') || text.is_empty() { "" } else { "\n" };
    format!("{fence}{language}\n{text}{end}{fence}\n")
}

/// A number of parameters as people say it: `24.15 B`, `134.5 M`.
pub(super) fn billions(parameters: u64) -> String {
    match parameters as f64 {
        n if n >= 1e9 => format!("{:.2} B", n / 1e9),
        n if n >= 1e6 => format!("{:.1} M", n / 1e6),
        _ => parameters.to_string(),
    }
}
