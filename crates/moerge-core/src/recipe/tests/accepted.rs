//! Recipes that are fine, and what is read from them.

use insta::assert_snapshot;

use super::*;

/// The recipe of the article that made frankenMoEs known.
const ARTICLE: &str = "\
base_model: mlabonne/AlphaMonarch-7B
experts:
  - source_model: mlabonne/AlphaMonarch-7B
    positive_prompts:
    - \"chat\"
    - \"assistant\"
    - \"tell me\"
    - \"explain\"
    - \"I want\"
  - source_model: beowolx/CodeNinja-1.0-OpenChat-7B
    positive_prompts:
    - \"code\"
    - \"python\"
    - \"javascript\"
    - \"programming\"
    - \"algorithm\"
  - source_model: SanjiWatsuki/Kunoichi-DPO-v2-7B
    positive_prompts: [storywriting, write, scene, story, character]
  - source_model: mlabonne/NeuralDaredevil-7B
    positive_prompts:
    - \"reason\"
    - \"math\"
    - \"mathematics\"
    - \"solve\"
    - \"count\"
";

#[test]
fn the_article_parses() {
    let recipe = recipe(ARTICLE);
    assert_eq!(recipe.base_model.to_string(), "mlabonne/AlphaMonarch-7B");
    assert_eq!(recipe.text[recipe.base_model.span.clone()], *"mlabonne/AlphaMonarch-7B");
    assert_eq!(recipe.experts.len(), 4);
    assert_eq!(recipe.experts[2].positive_prompts, ["storywriting", "write", "scene", "story", "character"]);
    assert_eq!((recipe.gate_mode, recipe.experts_per_token.value), (GateMode::Hidden, 2));
    assert!(recipe.dtype.is_none() && recipe.architecture.is_none() && recipe.shared_experts.is_empty());
}

#[test]
fn every_key_is_read() {
    let text = "\
base_model: {model: {path: org/base, revision: v1}, lora: my/lora@main, override_architecture: X}
gate_mode: cheap_embed
dtype: torch.bfloat16
experts_per_token: 3
architecture: DeepSeek
random_seed: 18446744073709551615
experts:
  - source_model: org/a@refs/pr/1+./ad apter
    positive_prompts: [code, 42, no, 1e3, \"quoted: yes\"]
    negative_prompts:
      - |
        two
        lines
    positive_prompts_file: prompts/code.txt
    noise_scale: 1e-3
    residual_scale: -0.5
shared_experts:
- source_model: {model: org/shared@r}
  negative_prompts_file: ~/no.jsonl
  positive_prompts: ~
";
    let recipe = recipe(text);
    assert_eq!(recipe.base_model.to_string(), "org/base@v1+my/lora@main");
    assert_eq!(recipe.gate_mode, GateMode::CheapEmbed);
    assert_eq!(recipe.dtype, Some(Dtype::BF16));
    assert_eq!(recipe.experts_per_token.value, 3);
    assert_eq!(recipe.architecture.as_ref().unwrap().recipe_name, "deepseek moe");
    assert_eq!(recipe.random_seed, Some(u64::MAX));
    let expert = &recipe.experts[0];
    let adapter = Some(Adapter { model: "./ad apter".into(), revision: None });
    let model = ModelRef { model: "org/a".into(), revision: Some("refs/pr/1".into()), adapter };
    assert_eq!(expert.source_model.value, model);
    assert_eq!(expert.source_model.to_string(), "org/a@refs/pr/1+./ad apter");
    assert_eq!(expert.positive_prompts, ["code", "42", "no", "1e3", "quoted: yes"]);
    assert_eq!(expert.negative_prompts, ["two\nlines\n"]);
    assert_eq!(expert.positive_prompts_file.as_ref().unwrap().as_path(), std::path::Path::new("prompts/code.txt"));
    assert_eq!((expert.noise_scale, expert.residual_scale), (Some(0.001), Some(-0.5)));
    assert_eq!(recipe.shared_experts.len(), 1);
    assert_eq!(recipe.shared_experts[0].source_model.to_string(), "org/shared@r");
    assert!(recipe.shared_experts[0].positive_prompts.is_empty());
}

#[test]
fn null_means_the_default() {
    let text = with("gate_mode:\ndtype: null\nexperts_per_token: ~\nshared_experts:\narchitecture:\nrandom_seed: Null");
    let recipe = recipe(&text);
    assert_eq!((recipe.gate_mode, recipe.experts_per_token.value), (GateMode::SelfCalibrated, 2));
    assert!(recipe.shared_experts.is_empty() && recipe.random_seed.is_none());
    assert!(recipe.architecture.is_none() && recipe.dtype.is_none());
}

#[test]
fn an_empty_text_means_no_dtype_and_no_architecture_as_in_mergekit() {
    let recipe = recipe(&with("dtype: ''\narchitecture: \"\""));
    assert!(recipe.architecture.is_none() && recipe.dtype.is_none());
}

#[test]
fn numbers_may_be_quoted_and_whole_floats_as_in_mergekit() {
    assert_eq!(recipe(&with("experts_per_token: '3'")).experts_per_token.value, 3);
    assert_eq!(recipe(&with("experts_per_token: 3.0")).experts_per_token.value, 3);
    assert_eq!(recipe(&expert("noise_scale: \"1e-2\"")).experts[0].noise_scale, Some(0.01));
}

#[test]
fn an_architecture_is_known_by_its_beginning_in_any_case() {
    let named = |text: &str| recipe(&with(&format!("architecture: {text}"))).architecture.unwrap().recipe_name;
    assert_eq!(named("Mixtral"), "mixtral");
    assert_eq!(named("m"), "mixtral");
    assert_eq!(named("qwen3"), "qwen3 moe");
    assert_eq!(named("QWEN MoE"), "qwen moe");
    assert_eq!(named("qwen"), "qwen moe");
}

#[test]
fn qwen_alone_accepts_both_of_qwens_families() {
    let accepted = |text: &str| -> Vec<_> {
        let recipe = recipe(&with(text));
        MoeFamily::ALL.into_iter().filter(|f| recipe.accepts(f)).map(|f| f.recipe_name).collect()
    };
    assert_eq!(accepted("architecture: 'Qwen'"), ["qwen moe", "qwen3 moe"]);
    assert_eq!(accepted("architecture: qwen moe"), ["qwen moe"]);
    assert_eq!(accepted("").len(), 4);
}

#[test]
fn anchors_aliases_and_merge_keys_work() {
    let text = "\
base_model: &base org/base
experts:
  - &first
    source_model: *base
    noise_scale: 0.5
    positive_prompts: &prompts [a, b]
  - <<: *first
    source_model: other
    negative_prompts: *prompts
";
    let recipe = recipe(text);
    assert_eq!(recipe.experts[0].source_model.to_string(), "org/base");
    assert_eq!(recipe.experts[1].source_model.to_string(), "other");
    assert_eq!(recipe.experts[1].noise_scale, Some(0.5));
    assert_eq!(recipe.experts[1].negative_prompts, ["a", "b"]);
}

#[test]
fn an_error_in_an_alias_points_at_what_it_names() {
    let text = "base_model: a\nexperts:\n  - source_model: b\n    positive_prompts: &p [a, ~]\n  - source_model: c\n    positive_prompts: *p\n";
    assert_snapshot!(error(text), @"
    error: prompt 2 of `positive_prompts` is null
      --> moe.yml:4:30
    4 |     positive_prompts: &p [a, ~]
      |                              ^
      hint: write its text, or put quotes around it if this word is meant
    ");
}

#[test]
fn a_byte_order_mark_crlf_and_document_marks_are_fine() {
    let text = format!("\u{feff}%YAML 1.2\n---\n{}...\n", with("gate_mode: random # why not").replace('\n', "\r\n"));
    let recipe = recipe(&text);
    assert_eq!(recipe.gate_mode, GateMode::Random);
    assert_eq!(recipe.text[recipe.experts[1].source_model.span.clone()], *"c");
}

#[test]
fn spans_count_bytes_and_include_quotes() {
    let recipe = recipe("# π\nbase_model: \"μ/base\"\nexperts: [{source_model: 'β'}]\n");
    assert_eq!(recipe.text[recipe.base_model.span.clone()], *"\"μ/base\"");
    assert_eq!(recipe.text[recipe.experts[0].source_model.span.clone()], *"'β'");
}

#[test]
fn a_tagged_or_quoted_null_is_a_text() {
    assert_eq!(
        recipe(&expert("positive_prompts: [\"null\", !!str null, 'yes']")).experts[0].positive_prompts,
        ["null", "null", "yes"]
    );
}

#[test]
fn recipes_with_adapters_parse() {
    let text = "\
base_model: smollm2
gate_mode: hidden
dtype: bfloat16
experts:
  - source_model: smollm2
    positive_prompts: [\"chat\", \"assistant\", \"tell me\", \"explain\", \"I want\"]
  - source_model: smollm2+adapters/code
    positive_prompts: [\"code\", \"python\", \"javascript\", \"programming\", \"algorithm\"]
";
    let recipe = recipe(text);
    let adapter = recipe.experts[1].source_model.adapter.as_ref().unwrap();
    assert_eq!((adapter.model.as_str(), &adapter.revision), ("adapters/code", &None));
}

/// The recipes that mergekit-moe itself ran, for the tests of the routers.
#[test]
fn recipes_of_the_golden_models_parse() {
    let mut read = 0;
    for folder in std::fs::read_dir("../moerge/tests/golden").unwrap() {
        for file in ["moe.yml", "moe_avg.yml"] {
            let path = folder.as_ref().unwrap().path().join(file);
            if path.exists() {
                let recipe = Recipe::load(&path).unwrap_or_else(|e| panic!("{}", rendered(&e)));
                assert!(!recipe.experts.is_empty());
                read += 1;
            }
        }
    }
    assert!(read > 0);
}
