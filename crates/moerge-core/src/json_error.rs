//! Messages of serde_json in terms of JSON rather than Rust: objects, lists and strings instead of maps, sequences and
//! structs.

use serde_json::Error;

/// `line 3, column 5: expected a whole number, found the text "x"`.
pub fn json_problem(error: &Error) -> String {
    if error.line() == 0 {
        return json_error(error);
    }
    if error.is_eof() && (error.line(), error.column()) == (1, 0) {
        return "it is empty".to_owned();
    }
    format!("line {}, column {}: {}", error.line(), error.column(), json_error(error))
}

/// The same without the position.
pub fn json_error(error: &Error) -> String {
    let text = error.to_string();
    in_words(text.rsplit_once(" at line ").map_or(text.as_str(), |(words, _)| words))
}

fn in_words(text: &str) -> String {
    if let Some(what) = text.strip_prefix("EOF while parsing ") {
        return format!("it ends in the middle of {what}");
    }
    if let Some(field) = text.strip_prefix("missing field ") {
        return format!("{field} is missing");
    }
    for prefix in ["invalid type: ", "invalid value: ", "invalid length "] {
        if let Some((found, expected)) = text.strip_prefix(prefix).and_then(|rest| rest.rsplit_once(", expected ")) {
            // serde reports a wrong length only for lists.
            let found = if prefix == "invalid length " { "a list".to_owned() } else { found_words(found) };
            return format!("expected {}, found {found}", expected_words(expected));
        }
    }
    text.to_owned()
}

fn found_words(found: &str) -> String {
    let (kind, value) = found.split_once(' ').unwrap_or((found, ""));
    let value = value.trim_matches('`');
    match kind {
        "map" => "an object".into(),
        "sequence" => "a list".into(),
        "string" => format!("the text {value}"),
        "integer" | "number" => format!("the number {value}"),
        "floating" => format!("the number {}", value.trim_start_matches("point `")),
        "boolean" => value.into(),
        _ => found.into(),
    }
}

fn expected_words(expected: &str) -> &str {
    match expected {
        "a map" => "an object",
        "a sequence" => "a list",
        "a string" | "a borrowed string" => "a string",
        "a boolean" => "true or false",
        "u8" | "u16" | "u32" | "u64" | "usize" => "a whole number, 0 or above",
        "i8" | "i16" | "i32" | "i64" | "isize" => "a whole number",
        "f32" | "f64" => "a number",
        _ if expected.starts_with("struct ") => "an object",
        _ if expected.starts_with("tuple ") || expected.starts_with("a tuple ") => "a list",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[allow(dead_code)]
    struct Line {
        text: String,
        number: u32,
    }

    #[test]
    fn no_word_of_rust_is_left() {
        for (text, expected) in [
            ("[]", "expected an object, found a list"),
            ("[\"x\"]", "expected an object, found a list"),
            ("\"x\"", "expected an object, found the text \"x\""),
            ("{\"text\": 1}", "line 1, column 10: expected a string, found the number 1"),
            ("{\"text\": 1.5}", "expected a string, found the number 1.5"),
            ("{\"text\": {}}", "expected a string, found an object"),
            ("{\"text\": true}", "expected a string, found true"),
            ("{\"text\": null}", "expected a string, found null"),
            ("{\"number\": \"x\"}", "expected a whole number, 0 or above, found the text \"x\""),
            ("{\"number\": -4}", "expected a whole number, 0 or above, found the number -4"),
            ("{\"number\": 4}", "`text` is missing"),
            ("{\"number\": 4", "it ends in the middle of an object"),
            ("", "it is empty"),
            ("{\n \"number\" 4", "line 2, column 11: expected `:`"),
        ] {
            let words = json_problem(&serde_json::from_str::<Line>(text).unwrap_err());
            assert!(words.ends_with(expected), "{text}: {words}");
        }
        let map = serde_json::from_str::<BTreeMap<String, String>>("7").unwrap_err();
        assert_eq!(json_problem(&map), "line 1, column 1: expected an object, found the number 7");
    }
}
