//! What some tasks do to their rows before a template sees them: the harness's `process_docs`.

use moerge_core::error::{Error, Result};
use regex_lite::Regex;
use serde_json::{Value, json};

use super::{python_random::PythonRandom, task::Row};
use crate::evaluate::requests::is_python_space;

/// HellaSwag: the activity and both parts of the context as `query`, and the endings, without WikiHow's marks.
pub(super) fn hellaswag(mut rows: Vec<Row>) -> Result<Vec<Row>> {
    let brackets = Regex::new(r"\[.*?\]").map_err(|e| Error::input(e.to_string()))?;
    let cleaned = |text: &str| {
        let text = text.trim_matches(is_python_space).replace(" [title]", ". ");
        brackets.replace_all(&text, "").replace("  ", " ")
    };
    for row in &mut rows {
        let context = format!("{} {}", string(row, "ctx_a")?, capitalized(string(row, "ctx_b")?));
        let query = cleaned(&format!("{}: {context}", string(row, "activity_label")?));
        let endings = row.get("endings").and_then(Value::as_array).ok_or_else(|| no_column("endings"))?;
        let choices: Vec<String> = endings.iter().filter_map(Value::as_str).map(cleaned).collect();
        row.insert("query".into(), query.into());
        row.insert("choices".into(), json!(choices));
    }
    Ok(rows)
}

/// GPQA: the four answers in a random order, and the letter of the correct one. The harness shuffles with Python's global
/// generator, which it seeds with 0; the order is that of a run of one task whose rows are not in the cache of `datasets`.
pub(super) fn gpqa(mut rows: Vec<Row>) -> Result<Vec<Row>> {
    let brackets = Regex::new(r"\[.*?\]").map_err(|e| Error::input(e.to_string()))?;
    let mut random = PythonRandom::new(0);
    for row in &mut rows {
        let answer = |column: &str| match row.get(column).and_then(Value::as_str) {
            None => String::from(" "),
            Some(text) => {
                let text = text.trim_matches(is_python_space).replace(" [title]", ". ");
                brackets.replace_all(&text, "").replace("  ", " ")
            }
        };
        let correct = answer("Correct Answer");
        let wrong = ["Incorrect Answer 1", "Incorrect Answer 2", "Incorrect Answer 3"].map(answer);
        let mut choices: Vec<String> = wrong.into_iter().chain([correct.clone()]).collect();
        random.shuffle(&mut choices);
        let place = choices.iter().position(|choice| *choice == correct).unwrap_or(0);
        row.insert("answer".into(), ["(A)", "(B)", "(C)", "(D)"][place].into());
        for (number, choice) in (1..).zip(choices) {
            row.insert(format!("choice{number}"), choice.into());
        }
    }
    Ok(rows)
}

/// MuSR: the choices, which are a Python list in text, as `choice_list`.
pub(super) fn musr(mut rows: Vec<Row>) -> Result<Vec<Row>> {
    for row in &mut rows {
        let text = string(row, "choices")?;
        let choices = python_strings(text)
            .ok_or_else(|| Error::input(format!("the column `choices` is not a list of strings: {text}")))?;
        row.insert("choice_list".into(), json!(choices));
    }
    Ok(rows)
}

/// The strings of a Python list such as `['a', "b's"]`.
fn python_strings(list: &str) -> Option<Vec<String>> {
    let mut strings = Vec::new();
    let mut rest = list.trim().strip_prefix('[')?.strip_suffix(']')?.trim_start();
    while let Some(quote) = rest.chars().next() {
        let mut text = String::new();
        let mut characters = rest.strip_prefix(['\'', '"'])?.chars();
        loop {
            match characters.next()? {
                c if c == quote => break,
                '\\' => text.push(match characters.next()? {
                    'n' => '\n',
                    't' => '\t',
                    c @ ('\\' | '\'' | '"') => c,
                    _ => return None,
                }),
                c => text.push(c),
            }
        }
        strings.push(text);
        rest = characters.as_str().trim_start();
        rest = rest.strip_prefix(',').or(rest.is_empty().then_some(""))?.trim_start();
    }
    Some(strings)
}

/// WikiText: the page as running text, in `text`.
pub(super) fn wikitext(mut rows: Vec<Row>) -> Result<Vec<Row>> {
    let detokenizer = Detokenizer::new()?;
    for row in &mut rows {
        let text = detokenizer.running_text(string(row, "page")?);
        row.insert("text".into(), text.into());
    }
    Ok(rows)
}

/// BIG-bench: only the rows with choices.
pub(super) fn with_choices(mut rows: Vec<Row>) -> Result<Vec<Row>> {
    rows.retain(|row| choices(row) > 0);
    Ok(rows)
}

/// BIG-bench: only the rows with this many choices.
pub(super) fn with_exactly<const N: usize>(mut rows: Vec<Row>) -> Result<Vec<Row>> {
    rows.retain(|row| choices(row) == N);
    Ok(rows)
}

fn choices(row: &Row) -> usize {
    row.get("multiple_choice_targets").and_then(Value::as_array).map_or(0, Vec::len)
}

struct Detokenizer {
    /// The first before the punctuation is joined, the others after: pairs of marks around text, without the spaces
    /// inside.
    patterns: Vec<(Regex, &'static str)>,
}

impl Detokenizer {
    fn new() -> Result<Self> {
        let pairs = [
            // The harness's pattern has these slashes.
            ("/' [0-9]/", "/'[0-9]/"),
            (r"\(\s*([^\)]*?)\s*\)", "($1)"),
            (r"\[\s*([^\]]*?)\s*\]", "[$1]"),
            (r"\{\s*([^}]*?)\s*\}", "{$1}"),
            ("\"\\s*([^\"]*?)\\s*\"", "\"$1\""),
            (r"'\s*([^']*?)\s*'", "'$1'"),
        ];
        let compiled = pairs.map(|(pattern, with)| Ok((Regex::new(&unicode_spaces(pattern))?, with)));
        let compiled = compiled.into_iter().collect::<Result<_, regex_lite::Error>>();
        Ok(Self { patterns: compiled.map_err(|e| Error::input(e.to_string()))? })
    }

    fn running_text(&self, page: &str) -> String {
        let mut text = page.replace("s '", "s'");
        if let Some((pattern, with)) = self.patterns.first() {
            text = pattern.replace_all(&text, *with).into_owned();
        }
        for (from, to) in [
            (" @-@ ", "-"),
            (" @,@ ", ","),
            (" @.@ ", "."),
            (" : ", ": "),
            (" ; ", "; "),
            (" . ", ". "),
            (" ! ", "! "),
            (" ? ", "? "),
            (" , ", ", "),
        ] {
            text = text.replace(from, to);
        }
        for (pattern, with) in self.patterns.iter().skip(1) {
            text = pattern.replace_all(&text, *with).into_owned();
        }
        for (from, to) in [
            ("= = = =", "===="),
            ("= = =", "==="),
            ("= =", "=="),
            (" \u{b0} ", "\u{b0}"),
            (" \n", "\n"),
            ("\n ", "\n"),
            (" N ", " 1 "),
            (" 's", "'s"),
        ] {
            text = text.replace(from, to);
        }
        text
    }
}

/// `\s` of this regex library is ASCII; Python's is not.
pub(super) fn unicode_spaces(pattern: &str) -> String {
    let spaces = r"[\s\x1c-\x1f\u{85}\u{a0}\u{1680}\u{2000}-\u{200a}\u{2028}\u{2029}\u{202f}\u{205f}\u{3000}]";
    pattern.replace(r"\s", spaces)
}

/// Python's `str.capitalize`.
fn capitalized(text: &str) -> String {
    let mut characters = text.chars();
    let first = characters.next().map(|c| c.to_uppercase().collect::<String>()).unwrap_or_default();
    first + &characters.as_str().to_lowercase()
}

/// A column with a string.
pub(super) fn string<'a>(row: &'a Row, column: &str) -> Result<&'a str> {
    row.get(column).and_then(Value::as_str).ok_or_else(|| no_column(column))
}

fn no_column(column: &str) -> Error {
    Error::input(format!("a row of the data set has no text in the column `{column}`"))
        .hint("is it the data set that the task names, in its current version?")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hellaswag_loses_wikihow_s_marks() {
        let row = json!({
            "activity_label": "Baking",
            "ctx_a": "[header] How to bake [title] Mix. [step] Stir  well.",
            "ctx_b": "the BAKER",
            "endings": [" waits [substeps] long ", "goes."],
        });
        let rows = hellaswag(vec![row.as_object().cloned().unwrap()]).unwrap();
        assert_eq!(rows[0]["query"], "Baking: How to bake. Mix. Stir well. The baker");
        assert_eq!(rows[0]["choices"], json!(["waits long", "goes."]));
        assert!(hellaswag(vec![Row::new()]).unwrap_err().to_string().contains("`ctx_a`"));
    }

    #[test]
    fn lists_of_python_are_read() {
        let read = |text| python_strings(text).map(|strings| strings.join("|"));
        assert_eq!(read(r#"['Mackenzie', "Ana's", 'a\'b', ]"#).as_deref(), Some("Mackenzie|Ana's|a'b"));
        assert_eq!(read("[]").as_deref(), Some(""));
        for bad in ["x", "['a' 'b']", "['a", "[1]", "['\\x41']"] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }

    #[test]
    fn pages_become_running_text() {
        let text = Detokenizer::new().unwrap();
        let page = " = Robert <unk> = \n It was ( about ) 3 @.@ 5 @-@ litre , he said : \" yes \" . Dogs ' N feet \n";
        assert_eq!(
            text.running_text(page),
            " = Robert <unk> =\nIt was (about) 3.5-litre, he said: \"yes\". Dogs' 1 feet\n"
        );
    }
}
