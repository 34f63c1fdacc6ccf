//! Every error a recipe can make, as the user sees it.

use insta::assert_snapshot;

use super::*;
use crate::rendered::rendered;

fn recipe(text: &str) -> Recipe {
    Recipe::parse("moe.yml", text).unwrap_or_else(|e| panic!("{}", rendered(&e)))
}

fn error(text: &str) -> String {
    rendered(&Recipe::parse("moe.yml", text).map(|_| ()).expect_err("the recipe was accepted"))
}

/// A recipe that is fine, followed by `more` top-level lines.
fn with(more: &str) -> String {
    format!("base_model: a\nexperts:\n  - source_model: b\n  - source_model: c\n{more}\n")
}

/// A recipe whose one expert has these lines.
fn expert(lines: &str) -> String {
    format!("base_model: a\nexperts:\n  - source_model: b\n    {}\n", lines.replace('\n', "\n    "))
}

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
    assert_eq!((recipe.gate_mode, recipe.experts_per_token.value), (GateMode::Hidden, 2));
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
    let text = "base_model: a\nexperts:\n  - source_model: b\n    positive_prompts: &p [a, '']\n  - source_model: c\n    positive_prompts: *p\n";
    assert_snapshot!(error(text), @"
    error: prompt 2 of `positive_prompts` is empty
      --> moe.yml:4:30
    4 |     positive_prompts: &p [a, '']
      |                              ^^
      hint: write its text, or delete the line
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
        recipe(&expert("positive_prompts: [\"null\", !!str null, ~, 'yes']")).experts[0].positive_prompts[..2],
        ["null", "null"]
    );
}

#[test]
fn empty_file() {
    assert_snapshot!(error(""), @"
    error: the recipe is empty
      --> moe.yml:1:1
    1 | 
      | ^
      hint: a recipe has a `base_model` and a list of `experts`
    ");
}

#[test]
fn comments_only() {
    assert_snapshot!(error("# nothing\n\n"), @"
    error: the recipe is empty
      --> moe.yml:1:1
    1 | # nothing
      | ^
      hint: a recipe has a `base_model` and a list of `experts`
    ");
}

#[test]
fn null_document() {
    assert_snapshot!(error("---\n~\n"), @"
    error: the recipe is empty
      --> moe.yml:1:1
    1 | ---
      | ^
      hint: a recipe has a `base_model` and a list of `experts`
    ");
}

#[test]
fn not_a_mapping() {
    assert_snapshot!(error("just a text\n"), @"
    error: the recipe is a single value, expected keys with values
      --> moe.yml:1:1
    1 | just a text
      | ^^^^^^^^^^^
      hint: write `key: value` lines; known keys: `base_model`, `experts`, `gate_mode`, `label`, `calibration_tokens`, `self_text`, `dtype`, `experts_per_token`, `shared_experts`, `architecture`, `random_seed`
    ");
}

#[test]
fn a_list_at_the_top() {
    assert_snapshot!(error("- base_model: a\n- experts: []\n"), @"
    error: the recipe is a list, expected keys with values
      --> moe.yml:1:1
    1 | - base_model: a
      | ^^^^^^^^^^^^^^^
      hint: write `key: value` lines; known keys: `base_model`, `experts`, `gate_mode`, `label`, `calibration_tokens`, `self_text`, `dtype`, `experts_per_token`, `shared_experts`, `architecture`, `random_seed`
    ");
}

#[test]
fn unknown_key() {
    assert_snapshot!(error(&expert("positve_prompts: [a]")), @"
    error: unknown key `positve_prompts`
      --> moe.yml:4:5
    4 |     positve_prompts: [a]
      |     ^^^^^^^^^^^^^^^ did you mean `positive_prompts`?
    ");
}

#[test]
fn unknown_key_like_no_other() {
    assert_snapshot!(error(&with("colour: red")), @"
    error: unknown key `colour`
      --> moe.yml:5:1
    5 | colour: red
      | ^^^^^^
      hint: known keys: `base_model`, `experts`, `gate_mode`, `label`, `calibration_tokens`, `self_text`, `dtype`, `experts_per_token`, `shared_experts`, `architecture`, `random_seed`
    ");
}

#[test]
fn unknown_key_in_an_expert_like_no_other() {
    assert_snapshot!(error(&expert("colour: red")), @"
    error: unknown key `colour`
      --> moe.yml:4:5
    4 |     colour: red
      |     ^^^^^^
      hint: known keys: `source_model`, `positive_prompts`, `negative_prompts`, `positive_prompts_file`, `negative_prompts_file`, `noise_scale`, `residual_scale`
    ");
}

#[test]
fn unknown_key_in_a_model() {
    assert_snapshot!(error("base_model: {modle: a}\nexperts: []"), @"
    error: unknown key `modle`
      --> moe.yml:1:14
    1 | base_model: {modle: a}
      |              ^^^^^ did you mean `model`?
    ");
}

#[test]
fn unknown_key_with_control_characters() {
    assert_snapshot!(error(&with("\"\\e[31mred\": 1")), @r#"
    error: unknown key `\u{1b}[31mred`
      --> moe.yml:5:1
    5 | "\e[31mred": 1
      | ^^^^^^^^^^^
      hint: known keys: `base_model`, `experts`, `gate_mode`, `label`, `calibration_tokens`, `self_text`, `dtype`, `experts_per_token`, `shared_experts`, `architecture`, `random_seed`
    "#);
}

#[test]
fn a_key_of_mergekits_other_recipes() {
    assert_snapshot!(error(&with("tokenizer_source: union")), @"
    error: unknown key `tokenizer_source`
      --> moe.yml:5:1
    5 | tokenizer_source: union
      | ^^^^^^^^^^^^^^^^
      hint: mergekit-moe takes no notice of this key either; delete it
    ");
}

#[test]
fn dense_merge() {
    assert_snapshot!(error("merge_method: slerp\nslices:\n  - sources: []\nbase_model: a\n"), @"
    error: this recipe merges dense models, it makes no Mixture of Experts
      --> moe.yml:1:1
    1 | merge_method: slerp
      | ^^^^^^^^^^^^
      hint: a recipe for an MoE has a `base_model` and a list of `experts`
      hint: merge the models with mergekit-yaml first and name the result as an expert's `source_model`
    ");
}

#[test]
fn dense_merge_of_models() {
    assert_snapshot!(error("models:\n  - model: a\nmerge_method: ties\n"), @"
    error: this recipe merges dense models, it makes no Mixture of Experts
      --> moe.yml:1:1
    1 | models:
      | ^^^^^^
      hint: a recipe for an MoE has a `base_model` and a list of `experts`
      hint: merge the models with mergekit-yaml first and name the result as an expert's `source_model`
    ");
}

#[test]
fn doubled_key() {
    assert_snapshot!(error(&with("gate_mode: random\ngate_mode: hidden")), @"
    error: `gate_mode` is given twice
      --> moe.yml:6:1
    6 | gate_mode: hidden
      | ^^^^^^^^^ the first is in line 5
      hint: keep one of the two
    ");
}

#[test]
fn doubled_key_in_an_expert() {
    assert_snapshot!(error(&expert("noise_scale: 1\nnoise_scale: 2")), @"
    error: `noise_scale` is given twice
      --> moe.yml:5:5
    5 |     noise_scale: 2
      |     ^^^^^^^^^^^ the first is in line 4
      hint: keep one of the two
    ");
}

#[test]
fn no_base_model() {
    assert_snapshot!(error("experts:\n  - source_model: a\n"), @"
    error: the recipe has no `base_model`
      --> moe.yml:1:1
    1 | experts:
      | ^^^^^^^ add `base_model: org/name`
    ");
}

#[test]
fn null_base_model() {
    assert_snapshot!(error("base_model:\nexperts:\n  - source_model: a\n"), @"
    error: the recipe has no `base_model`
      --> moe.yml:1:1
    1 | base_model:
      | ^^^^^^^^^^ add `base_model: org/name`
    ");
}

#[test]
fn no_experts() {
    assert_snapshot!(error("base_model: a\n"), @"
    error: the recipe has no `experts`
      --> moe.yml:1:1
    1 | base_model: a
      | ^^^^^^^^^^ add a list of `experts`
    ");
}

#[test]
fn no_source_model() {
    assert_snapshot!(error("base_model: a\nexperts:\n  - source_model: b\n  - positive_prompts: [x]\n    noise_scale: 1\n"), @"
    error: expert 1 has no `source_model`
      --> moe.yml:4:5
    4 |   - positive_prompts: [x]
      |     ^^^^^^^^^^^^^^^^ add `source_model: org/name`
    ");
}

#[test]
fn experts_is_one_expert() {
    assert_snapshot!(error("base_model: a\nexperts:\n  source_model: b\n"), @"
    error: `experts` is a mapping, expected a list
      --> moe.yml:3:3
    3 |   source_model: b
      |   ^^^^^^^^^^^^^^^
      hint: begin each element with `- `
    ");
}

#[test]
fn experts_is_a_text() {
    assert_snapshot!(error("base_model: a\nexperts: b\n"), @r#"
    error: `experts` is "b", expected a list
      --> moe.yml:2:10
    2 | experts: b
      |          ^
      hint: write `- b` on a line of its own
    "#);
}

#[test]
fn an_expert_is_a_text() {
    assert_snapshot!(error("base_model: a\nexperts:\n  - org/b\n"), @"
    error: expert 0 is a single value, expected keys with values
      --> moe.yml:3:5
    3 |   - org/b
      |     ^^^^^
      hint: write `- source_model: org/b`
    ");
}

#[test]
fn an_expert_is_empty() {
    assert_snapshot!(error("base_model: a\nexperts:\n  -\n"), @"
    error: expert 0 is empty, expected keys with values
      --> moe.yml:3:4
    3 |   -
      |    ^
      hint: write `key: value` lines; known keys: `source_model`, `positive_prompts`, `negative_prompts`, `positive_prompts_file`, `negative_prompts_file`, `noise_scale`, `residual_scale`
    ");
}

#[test]
fn a_prompt_alone() {
    assert_snapshot!(error(&expert("positive_prompts: write code")), @r#"
    error: `positive_prompts` is "write code", expected a list
      --> moe.yml:4:23
    4 |     positive_prompts: write code
      |                       ^^^^^^^^^^
      hint: write `- write code` on a line of its own
    "#);
}

#[test]
fn prompts_as_a_mapping() {
    assert_snapshot!(error(&expert("positive_prompts: {a: b}")), @"
    error: `positive_prompts` is a mapping, expected a list
      --> moe.yml:4:23
    4 |     positive_prompts: {a: b}
      |                       ^^^^^^
      hint: begin each element with `- `
    ");
}

#[test]
fn an_empty_prompt() {
    assert_snapshot!(error(&expert("positive_prompts:\n  - a\n  - \" \"")), @r#"
    error: prompt 2 of `positive_prompts` is empty
      --> moe.yml:6:9
    6 |       - " "
      |         ^^^
      hint: write its text, or delete the line
    "#);
}

#[test]
fn a_prompt_without_text() {
    assert_snapshot!(error(&expert("positive_prompts:\n  - a\n  - ~\n  -")), @"
    error: prompt 3 of `positive_prompts` is empty
      --> moe.yml:4:5
    4 |     positive_prompts:
      |     ^^^^^^^^^^^^^^^^
      hint: write its text, or delete the line
    ");
}

#[test]
fn a_prompt_with_a_colon() {
    assert_snapshot!(error(&expert("negative_prompts:\n  - User: hello")), @"
    error: prompt 1 of `negative_prompts` is a mapping, expected a text
      --> moe.yml:5:9
    5 |       - User: hello
      |         ^^^^^^^^^^^
      hint: a text with `: ` in it needs quotes
    ");
}

#[test]
fn a_prompt_in_a_list() {
    assert_snapshot!(error(&expert("negative_prompts:\n  - [a]")), @"
    error: prompt 1 of `negative_prompts` is a list, expected a text
      --> moe.yml:5:9
    5 |       - [a]
      |         ^^^
    ");
}

#[test]
fn unknown_gate_mode() {
    assert_snapshot!(error(&with("gate_mode: hiden")), @r#"
    error: `gate_mode` cannot be "hiden"
      --> moe.yml:5:12
    5 | gate_mode: hiden
      |            ^^^^^ did you mean `hidden`?
      hint: it can be `hidden`, `hidden_avg`, `hidden_last`, `cheap_embed`, `random`, `uniform_random`, `router_input`, `calibrated`, `self_calibrated`
    "#);
}

#[test]
fn gate_mode_like_no_other() {
    assert_snapshot!(error(&with("gate_mode: best")), @r#"
    error: `gate_mode` cannot be "best"
      --> moe.yml:5:12
    5 | gate_mode: best
      |            ^^^^
      hint: it can be `hidden`, `hidden_avg`, `hidden_last`, `cheap_embed`, `random`, `uniform_random`, `router_input`, `calibrated`, `self_calibrated`
    "#);
}

#[test]
fn gate_mode_as_a_list() {
    assert_snapshot!(error(&with("gate_mode: [hidden]")), @"
    error: `gate_mode` is a list, expected a single value
      --> moe.yml:5:12
    5 | gate_mode: [hidden]
      |            ^^^^^^^^
    ");
}

#[test]
fn unknown_dtype() {
    assert_snapshot!(error(&with("dtype: bflat16")), @r#"
    error: `dtype` cannot be "bflat16"
      --> moe.yml:5:8
    5 | dtype: bflat16
      |        ^^^^^^^ did you mean `bfloat16`?
      hint: it can be `bfloat16`, `float16`, `float32`
    "#);
}

#[test]
fn dtype_too_wide() {
    assert_snapshot!(error(&with("dtype: float64")), @r#"
    error: `dtype` is "float64", expected `bfloat16`, `float16` or `float32`
      --> moe.yml:5:8
    5 | dtype: float64
      |        ^^^^^^^
      hint: no model has its weights in a wider type
    "#);
}

#[test]
fn experts_per_token_in_words() {
    assert_snapshot!(error(&with("experts_per_token: two")), @r#"
    error: `experts_per_token` is "two", expected a whole number, 0 or above
      --> moe.yml:5:20
    5 | experts_per_token: two
      |                    ^^^
    "#);
}

#[test]
fn experts_per_token_in_parts() {
    assert_snapshot!(error(&with("experts_per_token: 2.5")), @r#"
    error: `experts_per_token` is "2.5", expected a whole number, 0 or above
      --> moe.yml:5:20
    5 | experts_per_token: 2.5
      |                    ^^^
    "#);
}

#[test]
fn experts_per_token_below_zero() {
    assert_snapshot!(error(&with("experts_per_token: -1")), @r#"
    error: `experts_per_token` is "-1", expected a whole number, 0 or above
      --> moe.yml:5:20
    5 | experts_per_token: -1
      |                    ^^
    "#);
}

#[test]
fn random_seed_beyond_64_bits() {
    assert_snapshot!(error(&with("random_seed: 18446744073709551616")), @r#"
    error: `random_seed` is "18446744073709551616", expected at most 18446744073709551615
      --> moe.yml:5:14
    5 | random_seed: 18446744073709551616
      |              ^^^^^^^^^^^^^^^^^^^^
    "#);
}

#[test]
fn unknown_architecture() {
    assert_snapshot!(error(&with("architecture: mixtrall")), @r#"
    error: no MoE family is called "mixtrall"
      --> moe.yml:5:15
    5 | architecture: mixtrall
      |               ^^^^^^^^ did you mean `mixtral`?
      hint: the families are `mixtral`, `deepseek moe`, `qwen moe`, `qwen3 moe`
    "#);
}

#[test]
fn architecture_like_no_other() {
    assert_snapshot!(error(&with("architecture: llama 4 scout")), @r#"
    error: no MoE family is called "llama 4 scout"
      --> moe.yml:5:15
    5 | architecture: llama 4 scout
      |               ^^^^^^^^^^^^^
      hint: the families are `mixtral`, `deepseek moe`, `qwen moe`, `qwen3 moe`
    "#);
}

#[test]
fn noise_below_zero() {
    assert_snapshot!(error(&expert("noise_scale: -0.1")), @r#"
    error: `noise_scale` is "-0.1", expected a standard deviation, 0 or above
      --> moe.yml:4:18
    4 |     noise_scale: -0.1
      |                  ^^^^
    "#);
}

#[test]
fn noise_not_a_number() {
    assert_snapshot!(error(&expert("noise_scale: .nan")), @r#"
    error: `noise_scale` is ".nan", expected a finite number
      --> moe.yml:4:18
    4 |     noise_scale: .nan
      |                  ^^^^
    "#);
}

#[test]
fn noise_infinite() {
    assert_snapshot!(error(&expert("noise_scale: inf")), @r#"
    error: `noise_scale` is "inf", expected a finite number
      --> moe.yml:4:18
    4 |     noise_scale: inf
      |                  ^^^
    "#);
}

#[test]
fn residual_scale_in_words() {
    assert_snapshot!(error(&expert("residual_scale: half")), @r#"
    error: `residual_scale` is "half", expected a finite number
      --> moe.yml:4:21
    4 |     residual_scale: half
      |                     ^^^^
    "#);
}

#[test]
fn no_model_name() {
    assert_snapshot!(error("base_model: ''\nexperts: []"), @"
    error: the model's name is empty
      --> moe.yml:1:13
    1 | base_model: ''
      |             ^^
    ");
}

#[test]
fn no_model_before_the_plus() {
    assert_snapshot!(error("base_model: +b\nexperts: []"), @"
    error: the model's name is empty
      --> moe.yml:1:13
    1 | base_model: +b
      |             ^^
    ");
}

#[test]
fn no_adapter_after_the_plus() {
    assert_snapshot!(error("base_model: a+\nexperts: []"), @"
    error: the adapter's name, after `+`, is empty
      --> moe.yml:1:13
    1 | base_model: a+
      |             ^^
    ");
}

#[test]
fn no_model_before_the_at() {
    assert_snapshot!(error("base_model: \"@main\"\nexperts: []"), @r#"
    error: the model's name is empty
      --> moe.yml:1:13
    1 | base_model: "@main"
      |             ^^^^^^^
    "#);
}

#[test]
fn no_path_in_a_model() {
    assert_snapshot!(error("base_model: {model: {path: ''}}\nexperts: []"), @"
    error: the name is empty
      --> moe.yml:1:21
    1 | base_model: {model: {path: ''}}
      |                     ^^^^^^^^^^
    ");
}

#[test]
fn a_model_without_model() {
    assert_snapshot!(error("base_model: {lora: a}\nexperts: []"), @"
    error: the model has no `model`
      --> moe.yml:1:14
    1 | base_model: {lora: a}
      |              ^^^^ add `model: org/name`
    ");
}

#[test]
fn a_list_of_models() {
    assert_snapshot!(error("base_model: [a, b]\nexperts: []"), @"
    error: `base_model` is a list, expected a model
      --> moe.yml:1:13
    1 | base_model: [a, b]
      |             ^^^^^^
      hint: a model is a folder or a Hub id, `org/name`
    ");
}

#[test]
fn a_prompt_file_without_name() {
    assert_snapshot!(error(&expert("positive_prompts_file: \"\"")), @r#"
    error: `positive_prompts_file` is "", expected a file
      --> moe.yml:4:28
    4 |     positive_prompts_file: ""
      |                            ^^
    "#);
}

#[test]
fn several_documents() {
    assert_snapshot!(error(&format!("{}---\n{}", with(""), with(""))), @"
    error: the file holds several YAML documents, a recipe is one
      --> moe.yml:6:1
    6 | ---
      | ^^^ the second starts here
      hint: put each recipe into a file of its own
    ");
}

#[test]
fn a_key_that_is_a_list() {
    assert_snapshot!(error("? [a, b]\n: c\n"), @"
    error: a key is a list, expected a name
      --> moe.yml:1:3
    1 | ? [a, b]
      |   ^^^^^^ keys are names like `base_model`
    ");
}

#[test]
fn a_tag() {
    assert_snapshot!(error("base_model: !include other.yml\nexperts: []\n"), @"
    error: the tag `!include` means nothing here
      --> moe.yml:1:13
    1 | base_model: !include other.yml
      |             ^^^^^^^^
      hint: a text that begins with `!` needs quotes
    ");
}

#[test]
fn a_python_tag() {
    assert_snapshot!(error("base_model: !!python/object:os.system {}\n"), @"
    error: the tag `!!python/object:os.system` means nothing here
      --> moe.yml:1:13
    1 | base_model: !!python/object:os.system {}
      |             ^^^^^^^^^^^^^^^^^^^^^^^^^
      hint: a text that begins with `!` needs quotes
    ");
}

#[test]
fn a_tab() {
    assert_snapshot!(error("base_model: a\nexperts:\n\t- source_model: b\n"), @"
    error: a tab in the indentation
      --> moe.yml:3:2
    3 | →- source_model: b
      |  ^
      hint: YAML indents with spaces; put spaces in the tab's place
    ");
}

#[test]
fn an_open_quote() {
    assert_snapshot!(error("base_model: \"a\nexperts: []\n"), @r#"
    error: a quote is opened here and never closed
      --> moe.yml:1:13
    1 | base_model: "a
      |             ^
      hint: a text with a quote in it: 'it''s' or "say \"hi\""
    "#);
}

#[test]
fn an_open_bracket() {
    assert_snapshot!(error("base_model: a\nexperts: [{source_model: b}\ngate_mode: hidden\n"), @"
    error: a `:` where no key can be
      --> moe.yml:3:10
    3 | gate_mode: hidden
      |          ^
      hint: is a `]` or `}` missing in a line above?
    ");
}

#[test]
fn the_wrong_bracket() {
    assert_snapshot!(error("base_model: a\nexperts: [b}\n"), @"
    error: this bracket closes none that is open
      --> moe.yml:2:10
    2 | experts: [b}
      |          ^
      hint: `[` closes with `]`, `{` with `}`
    ");
}

#[test]
fn a_missing_comma() {
    assert_snapshot!(error("base_model: a\nexperts: [\"b\" \"c\"]\n"), @r#"
    error: there is more after the closing quote
      --> moe.yml:2:15
    2 | experts: ["b" "c"]
      |               ^
      hint: is a comma missing? In single quotes a quote is written twice: 'it''s'
    "#);
}

#[test]
fn a_second_colon() {
    assert_snapshot!(error("base_model: a: b\nexperts: []\n"), @"
    error: a `:` where no key can be
      --> moe.yml:1:14
    1 | base_model: a: b
      |              ^
      hint: a text with `: ` in it needs quotes; otherwise compare the indentation with the line above
    ");
}

#[test]
fn a_key_without_colon() {
    assert_snapshot!(error("base_model: a\nexperts\ngate_mode: hidden\n"), @"
    error: a line that is neither `key: value` nor part of the text above
      --> moe.yml:2:1
    2 | experts
      | ^
      hint: is a `:` or a `- ` missing?
    ");
}

#[test]
fn a_key_out_of_line() {
    assert_snapshot!(error("base_model: a\n experts: []\n"), @"
    error: a `:` where no key can be
      --> moe.yml:2:9
    2 |  experts: []
      |         ^
      hint: a text with `: ` in it needs quotes; otherwise compare the indentation with the line above
    ");
}

#[test]
fn an_expert_out_of_line() {
    assert_snapshot!(error("base_model: a\nexperts:\n  - source_model: b\n - source_model: c\n"), @"
    error: the indentation does not fit the lines above
      --> moe.yml:4:2
    4 |  - source_model: c
      |  ^
      hint: keys of one mapping begin in the same column
    ");
}

#[test]
fn an_alias_without_anchor() {
    assert_snapshot!(error("base_model: *a\nexperts: []\n"), @"
    error: no `&name` before this alias
      --> moe.yml:1:13
    1 | base_model: *a
      |             ^
      hint: a text that begins with `*` needs quotes
    ");
}

#[test]
fn an_alias_inside_itself() {
    assert_snapshot!(error("base_model: a\nexperts: &e [*e]\n"), @"
    error: an alias cannot stand inside of what it names
      --> moe.yml:2:14
    2 | experts: &e [*e]
      |              ^^
    ");
}

#[test]
fn a_character_that_begins_nothing() {
    assert_snapshot!(error("base_model: @org/a\nexperts: []\n"), @"
    error: a text cannot begin with this character
      --> moe.yml:1:13
    1 | base_model: @org/a
      |             ^
      hint: put the text in quotes
    ");
}

#[test]
fn text_after_a_quote() {
    assert_snapshot!(error("base_model: 'a'b'\nexperts: []\n"), @"
    error: there is more after the closing quote
      --> moe.yml:1:16
    1 | base_model: 'a'b'
      |                ^
      hint: is a comma missing? In single quotes a quote is written twice: 'it''s'
    ");
}

#[test]
fn a_backslash() {
    assert_snapshot!(error("base_model: \"C:\\models\"\nexperts: []\n"), @r#"
    error: an escape that YAML does not know
      --> moe.yml:1:13
    1 | base_model: "C:\models"
      |             ^
      hint: in double quotes a backslash is written \\; single quotes keep it
    "#);
}

#[test]
fn merging_a_text() {
    assert_snapshot!(error("<<: a\nbase_model: b\n"), @"
    error: `<<` is a single value, expected a mapping
      --> moe.yml:1:5
    1 | <<: a
      |     ^ name a mapping here: `*defaults`
    ");
}

#[test]
fn a_directive() {
    assert_snapshot!(error("%YAML 3.0\n---\na: b\n"), @"
    error: this is not valid YAML
      --> moe.yml:1:1
    1 | %YAML 3.0
      | ^ unsupported YAML major version
    ");
}

#[test]
fn deep_nesting_is_refused() {
    let flow = Recipe::parse("moe.yml", &"[".repeat(100_000)).unwrap_err();
    assert_eq!(flow.parts().message, "brackets or lists within lists, too deep for a recipe");
    let block: String = (0..100).map(|depth| format!("{}- \n", " ".repeat(depth))).collect();
    assert_snapshot!(error(&block), @"
    error: brackets or lists within lists, too deep for a recipe
      --> moe.yml:33:33
    33 |                                 - 
       |                                 ^ recursion limit exceeded
    ");
}

#[test]
fn a_billion_laughs_are_refused_at_once() {
    let mut text = String::from("a: &a0 [lol, lol, lol, lol, lol, lol, lol, lol, lol, lol]\n");
    for level in 1..20 {
        let row = vec![format!("*a{}", level - 1); 10].join(", ");
        text.push_str(&format!("b{level}: &a{level} [{row}]\n"));
    }
    let start = std::time::Instant::now();
    assert_snapshot!(error(&text), @"
    error: the recipe grows too large here
      --> moe.yml:6:40
    6 | b5: &a5 [*a4, *a4, *a4, *a4, *a4, *a4, *a4, *a4, *a4, *a4]
      |                                        ^^^ beyond 1000000 values, 64 MiB, 64 levels
      hint: prompts by the thousand belong into a `positive_prompts_file`; use fewer aliases (`*name`)
    ");
    assert!(start.elapsed().as_secs() < 5);
}

#[test]
fn a_long_text_repeated_by_aliases_is_refused() {
    let text = format!("a: &a {}\nb: [{}]\n", "x".repeat(1 << 20), vec!["*a"; 100].join(", "));
    let error = Recipe::parse("moe.yml", &text).unwrap_err();
    assert_eq!(error.parts().message, "the recipe grows too large here");
}

#[test]
fn aliases_nested_without_end_do_not_overflow_the_stack() {
    let mut text = String::from("- &a0 [x]\n");
    for level in 1..100_000 {
        text.push_str(&format!("- &a{level} [*a{}]\n", level - 1));
    }
    let error = Recipe::parse("moe.yml", &text).unwrap_err();
    assert_eq!(error.parts().message, "the recipe grows too large here");
}

#[test]
fn many_keys_take_no_quadratic_time() {
    let keys: String = (0..100_000).map(|i| format!("  k{i}: v\n")).collect();
    let text = format!("a: &a\n{keys}b:\n  <<: *a\n{keys}");
    let start = std::time::Instant::now();
    assert!(Recipe::parse("moe.yml", &text).is_err());
    assert!(start.elapsed().as_secs() < 20);
}

#[test]
fn a_value_over_several_lines_is_marked_in_its_first() {
    assert_snapshot!(error(&with("gate_mode: best\n  of all")), @r#"
    error: `gate_mode` cannot be "best of all"
      --> moe.yml:5:12
    5 | gate_mode: best
      |            ^^^^
      hint: it can be `hidden`, `hidden_avg`, `hidden_last`, `cheap_embed`, `random`, `uniform_random`, `router_input`, `calibrated`, `self_calibrated`
    "#);
    assert_snapshot!(error("base_model: a\nexperts:\n  - [\n    a,\n    b]\n"), @"
    error: expert 0 is a list, expected keys with values
      --> moe.yml:3:5
    3 |   - [
      |     ^
      hint: write `key: value` lines; known keys: `source_model`, `positive_prompts`, `negative_prompts`, `positive_prompts_file`, `negative_prompts_file`, `noise_scale`, `residual_scale`
    ");
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
    for folder in std::fs::read_dir("tests/golden").unwrap() {
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
