//! Reads the rows of a data set from its files: Parquet, JSON Lines, JSON or CSV. Cells become JSON values, as the
//! `datasets` library gives them to the harness.

mod parquet_file;

use std::path::Path;

use moerge_core::{
    error::{Error, Result},
    jsonl::{Lines, MAX_LINES},
    recipe::read_text,
};
use serde_json::Value;

use super::task::Row;

/// Maximum bytes of a file; the largest split of the known tasks has 100 MB.
const MAX_FILE: u64 = 1 << 30;

/// The file types that can be read, by extension.
pub const EXTENSIONS: [&str; 4] = ["parquet", "jsonl", "json", "csv"];

/// The rows of `path`, whose extension is one of [`EXTENSIONS`].
///
/// # Errors
/// The file cannot be read, is damaged, or has no rows.
pub fn read_rows(path: &Path) -> Result<Vec<Row>> {
    let extension = path.extension().and_then(|e| e.to_str()).unwrap_or_default();
    let mut rows = match extension {
        "parquet" => parquet_file::read(path, MAX_FILE)?,
        "jsonl" => {
            let text = read_text(path, MAX_FILE)?;
            Lines::new(&path.display().to_string(), &text).read("{\"column\": value, ...}", Ok)?
        }
        "json" => json(path, &read_text(path, MAX_FILE)?)?,
        "csv" => csv(path, &read_text(path, MAX_FILE)?)?,
        _ => return Err(damaged(path, "its name does not end in parquet, jsonl, json or csv")),
    };
    if rows.is_empty() {
        return Err(damaged(path, "it has no rows"));
    }
    // A column that a line does not mention is null there.
    let mut columns: Vec<String> = Vec::new();
    for row in &rows {
        columns.extend(row.keys().filter(|name| !columns.contains(name)).cloned().collect::<Vec<_>>());
    }
    for row in &mut rows {
        for column in &columns {
            row.entry(column.clone()).or_insert(Value::Null);
        }
    }
    Ok(rows)
}

fn damaged(path: &Path, why: &str) -> Error {
    Error::input(format!("{} cannot be used as a data set: {why}", path.display()))
}

/// An array of objects, or objects one after another.
fn json(path: &Path, text: &str) -> Result<Vec<Row>> {
    let wrong = |e: serde_json::Error| damaged(path, &format!("it is not JSON ({e})"));
    if text.trim_start().starts_with('[') {
        return serde_json::from_str(text).map_err(wrong);
    }
    let mut rows = Vec::new();
    for row in serde_json::Deserializer::from_str(text).into_iter::<Row>() {
        if rows.len() == MAX_LINES {
            return Err(damaged(path, &format!("it has more than {MAX_LINES} rows")));
        }
        rows.push(row.map_err(wrong)?);
    }
    Ok(rows)
}

/// Cells are text; an empty one is null.
fn csv(path: &Path, text: &str) -> Result<Vec<Row>> {
    let wrong = |e: csv::Error| damaged(path, &format!("it is not CSV ({e})"));
    let mut reader = csv::Reader::from_reader(text.as_bytes());
    let names = reader.headers().map_err(wrong)?.clone();
    let mut rows = Vec::new();
    for record in reader.records() {
        if rows.len() == MAX_LINES {
            return Err(damaged(path, &format!("it has more than {MAX_LINES} rows")));
        }
        let cell = |text: &str| if text.is_empty() { Value::Null } else { text.into() };
        let record = record.map_err(wrong)?;
        rows.push(names.iter().zip(&record).map(|(name, text)| (name.to_owned(), cell(text))).collect());
    }
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(name: &str, text: &str) -> Result<Vec<Row>> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        read_rows(&path)
    }

    #[test]
    fn text_files_of_all_kinds_give_the_same_rows() {
        let expected = json!([{"q": "a, b", "n": "1"}, {"q": "line\nbreak", "n": null}]);
        for (name, text) in [
            ("a.csv", "q,n\n\"a, b\",1\n\"line\nbreak\",\n"),
            ("a.jsonl", "{\"q\": \"a, b\", \"n\": \"1\"}\n{\"q\": \"line\\nbreak\"}\n"),
            ("a.json", "[{\"q\": \"a, b\", \"n\": \"1\"}, {\"q\": \"line\\nbreak\", \"n\": null}]"),
            ("a.json", "{\"q\": \"a, b\", \"n\": \"1\"}\n{\"q\": \"line\\nbreak\"}"),
        ] {
            assert_eq!(json!(read(name, text).unwrap()), expected, "{name}");
        }
    }

    /// Whatever a byte of it is, a Parquet file is read or refused.
    #[test]
    fn damaged_parquet_never_panics() {
        let file = "../moerge/tests/evaluate/data/allenai/ai2_arc/ARC-Easy/test.parquet";
        let whole = std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.parquet");
        let mut refused = 0;
        for at in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[at] ^= 1 << (at % 8);
            std::fs::write(&path, &bytes).unwrap();
            refused += usize::from(read_rows(&path).is_err());
        }
        assert!(refused > 100, "{refused} of {}", whole.len());
    }

    #[test]
    fn damaged_files_are_named() {
        for (name, text) in [
            ("a.csv", "q,n\n1\n"),
            ("a.csv", "q,n\n"),
            ("a.json", "[1]"),
            ("a.json", "{\"q\": "),
            ("a.json", ""),
            ("a.jsonl", "[]"),
            ("a.txt", "x"),
            ("a.parquet", ""),
            ("a.parquet", "PAR1 this is no footer PAR1"),
        ] {
            let error = read(name, text).unwrap_err();
            assert!(error.to_string().contains(name), "{name} {text:?}: {error}");
        }
    }
}
