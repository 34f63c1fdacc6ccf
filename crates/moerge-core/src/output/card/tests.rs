//! Model cards as snapshots.

use super::{front_matter::hub_id, *};

fn facts() -> CardFacts {
    CardFacts {
        name: "moe".into(),
        base: "mlabonne/AlphaMonarch-7B".into(),
        experts: vec![
            CardExpert {
                reference: "mlabonne/AlphaMonarch-7B".into(),
                positive_prompts: vec!["chat".into(), "assistant".into()],
                ..Default::default()
            },
            CardExpert {
                reference: "models/my code+org/adapter@v1".into(),
                positive_prompts: vec!["code".into()],
                negative_prompts: vec!["poem".into()],
                layers: Some("0-11, 20".into()),
            },
        ],
        licences: vec![Some("apache-2.0".into()), Some("apache-2.0".into())],
        architecture: "MixtralForCausalLM".into(),
        parameters: 24_153_690_112,
        active_parameters: 12_879_138_816,
        experts_per_layer: 2,
        experts_per_token: 2,
        gate_mode: "hidden".into(),
        dtype: "bfloat16".into(),
        recipe: "base_model: mlabonne/AlphaMonarch-7B\n".into(),
        moerge_version: "0.1.0".into(),
        ..Default::default()
    }
}

#[test]
fn whole_card() {
    insta::assert_snapshot!(model_card(&facts()));
}

#[test]
fn licence_only_where_all_sources_agree() {
    let licensed = |licences: &[Option<&str>]| {
        let licences = licences.iter().map(|l| l.map(str::to_owned)).collect();
        model_card(&CardFacts { licences, ..facts() }).contains("\nlicense:")
    };
    assert!(licensed(&[Some("mit"), Some("mit")]));
    assert!(!licensed(&[Some("mit"), Some("apache-2.0")]));
    assert!(!licensed(&[Some("mit"), None]));
    assert!(!licensed(&[]));
}

#[test]
fn paths_are_not_taken_for_models_of_the_hub() {
    for path in ["./a/b", "../a", "/a/b", "~/a", "a", "a/b/c", "models/my code", "a/", "/b", "C:\\a", "a/b\n- x"] {
        assert_eq!(hub_id(&[], path), None, "{path}");
    }
    assert_eq!(hub_id(&[], "org/na-me_1.0@main"), Some("org/na-me_1.0"));
    assert_eq!(hub_id(&["models/base".to_owned()], "models/base"), None);
}

/// Whatever the names, prompts and recipe hold, the front matter stays YAML and the recipe stays in its block.
#[test]
fn text_from_outside_cannot_break_out() {
    let hostile = "---\n```\n````\n| x | <script> [a](b) \"' : {{ \u{0}\u{1b}[31m\u{7f}\u{85}\u{2028}";
    let mut facts = facts();
    facts.name = hostile.into();
    facts.base = hostile.into();
    facts.recipe = hostile.into();
    facts.licences = vec![Some(hostile.into())];
    facts.experts[0].reference = hostile.into();
    facts.experts[0].positive_prompts = vec![hostile.into()];
    let card = model_card(&facts);
    let front = card.split("---\n").nth(1).unwrap();
    let licence = front.lines().find_map(|l| l.strip_prefix("license: ")).unwrap();
    assert_eq!(serde_json::from_str::<String>(licence).unwrap(), hostile);
    let known = |line: &str| {
        ["license: \"", "base_model", "- ", "library_name: ", "pipeline_tag: ", "tags:"]
            .iter()
            .any(|k| line.starts_with(k))
    };
    assert!(front.lines().all(known), "{front}");
    assert!(card.contains("\n`````yaml\n"), "{card}");
    assert!(card.contains("\n# --- \\`\\`\\`"), "{card}");
    assert!(!card.contains("<script>") || card.contains("\\<script\\>"));
    let row = card.lines().find(|l| l.starts_with("| 0 |")).unwrap();
    assert_eq!(row.replace("\\|", "").matches('|').count(), 4, "{row}");
}
