//! Perplexities against transformers, and a model that is asked in two ways.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use moerge_checkpoint::{LocalStorage, ReadStorage};
use moerge_core::{
    model::locate::HubCache,
    progress::{Progress, Silent, Stage},
};
use moerge_infer::{
    decoder::Quantisation,
    model::Model,
    runner::{Placement, Runner, Scored},
};
use moerge_lib::{
    evaluate::{Choices, KnownExperts, MixedScore, Mixing, ModelScore, Question, Questions, Tests, Text},
    following::FollowedTokens,
};
use serde_json::Value;

pub(crate) const IN_MEMORY: Placement = Placement { quantisation: Quantisation::F32, memory: u64::MAX, stream: false };
pub(crate) const STREAMED: Placement = Placement { stream: true, ..IN_MEMORY };

pub(crate) fn tiny(name: &str) -> Model {
    open(&crate::common::example("tiny").join(name))
}

fn open(dir: &Path) -> Model {
    let storage: Arc<dyn ReadStorage> = Arc::new(LocalStorage);
    let cache = HubCache::from_vars(|_| None);
    Model::open(&storage, &dir.display().to_string(), Path::new("."), &cache).unwrap()
}

pub(crate) fn run(model: &Model, placement: Placement, tests: &Tests) -> ModelScore {
    tests.run(model, placement, None, &Silent).unwrap()
}

/// `evaluate/perplexity.py` says how these numbers were made.
#[test]
fn perplexity_is_that_of_transformers() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/evaluate/perplexity.json");
    let cases: Vec<Value> = serde_json::from_slice(&std::fs::read(here).unwrap()).unwrap();
    for case in cases {
        let number = |key: &str| case[key].as_u64().unwrap() as usize;
        let name = |key: &str| case[key].as_str().unwrap();
        let mut text = Text::load(&crate::common::example("tiny/valid").join(format!("{}.txt", name("text")))).unwrap();
        text.documents[0] = text.documents[0].chars().take(number("characters")).collect();
        let context = (Some(number("context")), Some(number("stride")));
        let tests = Tests { texts: vec![text], context: context.0, stride: context.1, ..Tests::default() };
        let model = tiny(name("model"));
        // Streamed once: the layers are the same.
        let placements = if number("stride") == 256 { &[IN_MEMORY, STREAMED][..] } else { &[IN_MEMORY] };
        for placement in placements {
            let found = run(&model, *placement, &tests).texts.remove(0);
            assert_eq!((found.tokens, found.scored), (number("tokens"), number("scored")), "{case}");
            let expected = case["perplexity"].as_f64().unwrap();
            let difference = (found.perplexity.value - expected).abs();
            println!("{} {}: {difference:e} from transformers", name("model"), name("text"));
            assert!(difference < 1e-3, "{case}: {found:?}");
        }
    }
}

/// Counts the tokens that are announced and those that are scored.
#[derive(Default)]
struct Counted {
    announced: AtomicU64,
    scored: AtomicU64,
}

impl Progress for Counted {
    fn start(&self, stage: Stage, total: u64, _: u64) {
        self.announced.fetch_add(if stage == Stage::Score { total } else { 0 }, Ordering::Relaxed);
    }
    fn advance(&self, stage: Stage, amount: u64) {
        self.scored.fetch_add(if stage == Stage::Score { amount } else { 0 }, Ordering::Relaxed);
    }
    fn finish(&self, _: Stage, _: &str) {}
}

/// Mixed documents: each expert alone is its dense model, the right experts are better than the best of them, and a text's
/// expert is found. The experts of `examples/tiny` have the base's attention, so the MoE contains the dense models.
#[test]
fn mixed_documents_are_read_by_each_expert_alone_and_by_the_right_ones() {
    let dir = tempfile::tempdir().unwrap();
    let tiny_folder = std::fs::canonicalize(crate::common::example("tiny")).unwrap();
    // In an order of its own, so that texts and experts have different numbers.
    let expert = |name: &str| format!("- source_model: {}/{name}\n", tiny_folder.display());
    let recipe = format!(
        "base_model: {}/base\ngate_mode: random\nexperts_per_token: 1\nexperts:\n{}",
        tiny_folder.display(),
        ["story", "code", "math"].map(expert).concat()
    );
    std::fs::write(dir.path().join("moe.yml"), &recipe).unwrap();
    crate::common::moerge_ok(dir.path(), &["merge", "moe.yml", "out", "--quiet"]);

    let names = ["code", "math", "story"];
    // Little of each: they are scored on their own, too.
    let load = |name: &str| {
        let mut text = Text::load(&tiny_folder.join(format!("valid/{name}.txt"))).unwrap();
        text.documents = vec![text.documents[0].chars().take(1500).collect()];
        text
    };
    let tests = Tests {
        texts: names.map(load).to_vec(),
        mixing: Some(Mixing { documents: 6, segment: 40 }),
        ..Tests::default()
    };
    let mixed = |model: &Model, placement| run(model, placement, &tests).mixed.unwrap();
    let moe = mixed(&open(&dir.path().join("out")), IN_MEMORY);
    assert_eq!((moe.documents, moe.scored), (6, 6 * 3 * 40));
    let experts = moe.experts.as_ref().unwrap();
    assert_eq!(experts.of_texts, [1, 2, 0]);

    let dense = names.map(|name| mixed(&tiny(name), IN_MEMORY));
    let best = |document: usize| dense.iter().map(|score| score.losses[document]).fold(f64::INFINITY, f64::min);
    let best_single = ((0..6).map(best).sum::<f64>() / 6.0).exp();
    assert!((experts.best_single.value / best_single - 1.0).abs() < 1e-3, "{experts:?} {best_single}");
    assert!(experts.forced.value < 0.9 * best_single, "{experts:?}");
    assert!(experts.forced.value < moe.perplexity.value, "random gates: {moe:?}");
    let tokens = |followed: &[FollowedTokens]| followed.iter().map(|f| f.tokens).sum::<u64>();
    let following = (tokens(&experts.following.from_beginning), tokens(&experts.following.after_change));
    assert_eq!(following, (6 * 40, 6 * 80));

    let streamed = mixed(&open(&dir.path().join("out")), STREAMED);
    assert!((streamed.perplexity.value / moe.perplexity.value - 1.0).abs() < 1e-4);
    let forced = streamed.experts.unwrap().forced.value;
    assert!((forced / experts.forced.value - 1.0).abs() < 1e-4);

    // Of an MoE that differs in its routers alone, the experts are known; with another expert, they are not.
    let merge = |recipe: &str, out: &str| {
        std::fs::write(dir.path().join("other.yml"), recipe).unwrap();
        crate::common::moerge_ok(dir.path(), &["merge", "other.yml", out, "--quiet"]);
        open(&dir.path().join(out))
    };
    let score = |model: &Model, known: &KnownExperts| {
        let counted = Counted::default();
        let tests = Tests { known_experts: Some(known.clone()), ..tests.clone() };
        let score = tests.run(model, IN_MEMORY, None, &counted).unwrap().mixed.unwrap();
        assert_eq!(counted.announced.into_inner(), counted.scored.load(Ordering::Relaxed));
        (score, counted.scored.into_inner())
    };
    let of = |score: &MixedScore| score.experts.clone().unwrap();
    let known = KnownExperts::default();
    score(&open(&dir.path().join("out")), &known);
    let model = merge(&format!("random_seed: 1\n{recipe}"), "routed");
    let ((routed, few), (alone, all)) = (score(&model, &known), score(&model, &KnownExperts::default()));
    assert_eq!(routed, alone, "what is known is what would be measured");
    assert_ne!(routed.perplexity, moe.perplexity);
    assert_eq!(all - few, 4 * 6 * 121, "three experts alone, and the right ones");
    let (noisy, all) = score(&merge(&recipe.replace("/math\n", "/math\n  noise_scale: 0.2\n"), "noisy"), &known);
    assert_ne!(of(&noisy).forced, of(&routed).forced);
    assert_eq!(all - few, 4 * 6 * 121);

    for (texts, segment) in [(1, 40), (2, 100_000)] {
        let texts = tests.texts[..texts].to_vec();
        let tests = Tests { texts, mixing: Some(Mixing { documents: 6, segment }), ..Tests::default() };
        let error = tests.run(&tiny("code"), IN_MEMORY, None, &Silent).unwrap_err();
        assert!(error.to_string().contains("mixed documents need several") || error.to_string().contains("no segment"));
    }
}

/// Bytes are those of the scored tokens, and a document's windows do not reach into the next.
#[test]
fn documents_stand_alone() {
    let model = tiny("base");
    let text = |documents: &[&str]| Text {
        name: "t".into(),
        file: "t".into(),
        documents: documents.iter().map(|d| (*d).to_owned()).collect(),
    };
    let (one, two) = ("And it came to pass — the king said unto him,", "def f(x):\n    return x\n");
    let tests = Tests { texts: vec![text(&[one]), text(&[two]), text(&[one, two])], ..Tests::default() };
    let scores = run(&model, IN_MEMORY, &tests).texts;
    let nats = |i: usize| scores[i].perplexity.value.ln() * scores[i].scored as f64;
    assert!((nats(0) + nats(1) - nats(2)).abs() < 1e-3, "{scores:?}");
    assert_eq!(scores.iter().map(|s| s.bytes).collect::<Vec<_>>(), [one.len(), two.len(), one.len() + two.len()]);
    assert!((scores[0].bits_per_byte - nats(0) / std::f64::consts::LN_2 / one.len() as f64).abs() < 1e-9);
}

/// What sequences share is computed once, and their scores are those of each alone, for dense models and MoEs, in memory
/// and streamed.
#[test]
fn sequences_that_begin_alike_are_scored_as_if_each_were_alone() {
    for model in [tiny("base"), open(&crate::common::golden("mixtral"))] {
        let scored = |tokens: &[u32], last| Scored { tokens: tokens.to_vec(), last };
        let sequences = [
            scored(&[1, 20, 30, 40, 50], 1),
            scored(&[1, 20, 30, 40, 60, 70, 80], 3),
            scored(&[1, 20, 30, 40, 61, 71], 2),
            scored(&[1, 90, 91], 2),
            scored(&[1, 92], 1),
            scored(&[1, 20, 30, 40, 60, 70, 81, 5], 5),
        ];
        let all: Vec<&Scored> = sequences.iter().collect();
        for placement in [IN_MEMORY, STREAMED] {
            let runner = Runner::new(model.weights().unwrap(), placement, &Silent).unwrap();
            let together = runner.score(&all, &mut (), &Silent).unwrap();
            for (sequence, together) in all.iter().zip(together) {
                let alone = runner.score(&[*sequence], &mut (), &Silent).unwrap().remove(0);
                assert_eq!((together.len(), alone.len()), (sequence.last, sequence.last));
                for (a, b) in together.iter().zip(&alone) {
                    assert!((a.log_probability - b.log_probability).abs() < 1e-4, "{together:?} {alone:?}");
                    assert!(a.log_probability < 0.0 && a.greedy == b.greedy);
                }
            }
        }
    }
}

/// The story model knows how a verse goes on; the quiz is scored the same from memory and streamed.
#[test]
fn choices_are_made() {
    let quiz = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/evaluate/quiz.jsonl");
    let tests = Tests { choices: vec![Choices::load(&quiz).unwrap()], shots: 1, ..Tests::default() };
    let model = tiny("story");
    let [here, streamed] = [IN_MEMORY, STREAMED].map(|placement| run(&model, placement, &tests).choices.remove(0));
    assert_eq!(here.acc.value, 1.0, "{here:?}");
    assert_eq!((here.acc, here.acc_norm, here.cut), (streamed.acc, streamed.acc_norm, 0));
}

/// A question longer than the context loses its beginning, not its end.
#[test]
fn a_question_longer_than_the_context_is_cut() {
    let quiz = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/evaluate/quiz.jsonl");
    let mut choices = Choices::load(&quiz).unwrap();
    choices.items.truncate(1);
    choices.items[0].prompt =
        format!("{}{}", "And it came to pass, that the king went forth. ".repeat(60), choices.items[0].prompt);
    let tests = Tests { choices: vec![choices], ..Tests::default() };
    let found = run(&tiny("story"), IN_MEMORY, &tests).choices.remove(0);
    assert_eq!((found.cut, found.items[0].chosen), (1, found.items[0].answer));
}

/// What the model writes is compared with the answer; a streamed model cannot write.
#[test]
fn written_answers_are_compared_after_the_regular_expression() {
    let model = tiny("math");
    let question = |answer: &str| Question { question: "What is 7 * 6?".into(), answer: answer.into() };
    let tests = |answer: &str| Tests {
        questions: vec![Questions { name: "q".into(), file: "q".into(), items: vec![question(answer)] }],
        answer_tokens: 24,
        ..Tests::default()
    };
    let first = run(&model, IN_MEMORY, &tests("-1")).answers.remove(0);
    assert_eq!((first.exact_match.value, first.items[0].right), (0.0, false), "{first:?}");
    let said = first.items[0].answer.clone().expect("the math model writes numbers");
    let again = run(&model, IN_MEMORY, &tests(&format!("so #### {said}."))).answers.remove(0);
    assert_eq!((again.exact_match.value, &again.items[0].text), (1.0, &first.items[0].text));
    let error = tests("1").run(&model, STREAMED, None, &Silent).unwrap_err();
    assert!(error.to_string().contains("cannot generate answers"), "{error}");
}

/// `--card` writes into the output's card, and only there; without an output of moerge it says so before it computes.
#[test]
fn results_go_into_the_model_card() {
    let dir = tempfile::tempdir().unwrap();
    let text = std::fs::read_to_string(crate::common::example("tiny/valid/code.txt")).unwrap();
    std::fs::write(dir.path().join("code.txt"), text.chars().take(1500).collect::<String>()).unwrap();
    let recipe = crate::common::example("tiny/moe.yml");
    crate::common::moerge_ok(dir.path(), &["merge", "--quiet", recipe.to_str().unwrap(), "out"]);
    let base = crate::common::example("tiny/base");
    let base = base.to_str().unwrap();
    let ask = |models: &[&str]| {
        let arguments = [&["eval"], models, &["--text", "code.txt", "--context", "128", "--card"]].concat();
        crate::common::moerge(dir.path(), &arguments)
    };
    let refused = ask(&[base]);
    assert!(!refused.status.success());
    assert!(String::from_utf8_lossy(&refused.stderr).contains("--card: none of the models"), "{refused:?}");

    let read = || std::fs::read_to_string(dir.path().join("out/README.md")).unwrap();
    let before = read();
    let done = ask(&[base, "out"]);
    assert!(done.status.success(), "{done:?}");
    let card = read();
    let number = String::from_utf8_lossy(&done.stdout)
        .lines()
        .find_map(|line| Some(line.strip_prefix("MoE out")?.trim().split(' ').next()?.to_owned()))
        .unwrap();
    assert!(card.contains("model-index:\n- name: \"out\"") && card.contains(&format!("value: {number}")), "{card}");
    assert!(card.contains("| base | ") && card.contains(&format!("{number} ±")), "{card}");
    assert!(before.lines().all(|line| card.contains(line)), "nothing else changed");
    assert!(ask(&["out"]).status.success());
    assert_eq!((read().matches("model-index").count(), read().matches("## Evaluation").count()), (1, 1));
    crate::common::moerge_ok(dir.path(), &["verify", "out"]);
}
