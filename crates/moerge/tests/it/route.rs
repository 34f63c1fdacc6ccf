//! The routing of the tiny example's MoE, as the command tells it.

use std::fs;

use serde_json::Value;

#[test]
fn the_tiny_example_is_told_by_prompts_by_texts_and_as_a_page() {
    let dir = tempfile::tempdir().unwrap();
    let recipe = crate::common::example("tiny/moe.yml");
    crate::common::moerge_ok(dir.path(), &["merge", recipe.to_str().unwrap(), "out", "-q"]);
    let report = |arguments: &[&str]| -> Value {
        let output = crate::common::moerge_ok(dir.path(), &[&["route", "out", "--json"], arguments].concat());
        serde_json::from_slice(&output.stdout).unwrap()
    };

    let prompts = report(&["--html", "page.html"]);
    assert_eq!(prompts["experts"], serde_json::json!(["base", "code", "math", "story"]));
    for (expert, text) in prompts["texts"].as_array().unwrap().iter().enumerate() {
        assert_eq!(text["expert"], expert);
        for layer in text["layers"].as_array().unwrap() {
            let sum = |key: &str| layer[key].as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).sum::<f64>();
            let sums = [sum("first_choice"), sum("weighted"), sum("chosen")];
            assert!(sums.iter().zip([1.0, 1.0, 2.0]).all(|(a, b)| (a - b).abs() < 1e-9), "{sums:?}");
        }
        let words: String = text["sample"].as_array().unwrap().iter().map(|t| t["text"].as_str().unwrap()).collect();
        assert!(words.split_whitespace().count() > 20, "{words}");
    }
    let page = fs::read_to_string(dir.path().join("page.html")).unwrap();
    assert!(page.contains("data-e=") && page.contains("<svg") && !page.contains("://"));

    fs::write(dir.path().join("code.txt"), "import os\n\n\ndef main(self):\n    return self.name\n").unwrap();
    fs::write(dir.path().join("other.txt"), "And it came to pass").unwrap();
    let texts = report(&["--text", "code.txt", "story=other.txt", "2=other.txt", "other.txt"]);
    let experts: Vec<&Value> = texts["texts"].as_array().unwrap().iter().map(|text| &text["expert"]).collect();
    assert_eq!(experts, [&Value::from(1), &Value::from(3), &Value::from(2), &Value::Null]);

    let wrong = crate::common::moerge(dir.path(), &["route", "out", "--text", "poetry=other.txt"]);
    let told = String::from_utf8(wrong.stderr).unwrap();
    assert!(told.contains("no expert is called `poetry`") && told.contains("base, code, math, story"), "{told}");
}
