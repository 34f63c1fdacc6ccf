//! Every error a recipe can make, as the user sees it.

use insta::assert_snapshot;
use proptest::prelude::*;

use super::*;
use crate::rendered::rendered;

fn recipe(text: &str) -> Recipe {
    Recipe::parse("moe.yml", text).unwrap_or_else(|e| panic!("{}", rendered(&e)))
}

fn error(text: &str) -> String {
    rendered(&Recipe::parse("moe.yml", text).map(|_| ()).expect_err("the recipe was accepted"))
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
