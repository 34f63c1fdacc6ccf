//! Every task against the lm-evaluation-harness, on data sets of the same columns. `evaluate/tasks.py` says how these
//! numbers were made.

use std::{
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};

use moerge_core::progress::{Progress, Stage};
use moerge_lib::evaluate::{
    Tests,
    tasks::{TaskScore, catalogue, data_folder::read_split, grade::Answer, questions::Questions},
};
use serde_json::Value;

use crate::evaluate::{IN_MEMORY, STREAMED, run, tiny};

fn here() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/evaluate")
}

fn questions(name: &str, shots: usize, limit: Option<usize>) -> Questions {
    let task = catalogue::task(name).unwrap();
    let read = task.clone();
    Questions::new(task, Some(shots), limit, &mut |split| read_split(&here().join("data"), &read, split)).unwrap()
}

fn cases() -> Vec<Value> {
    serde_json::from_slice(&std::fs::read(here().join("tasks.json")).unwrap()).unwrap()
}

/// The largest difference between the log-likelihoods, or between the metrics.
fn difference(found: &TaskScore, case: &Value) -> f64 {
    let mut largest = 0.0f64;
    let expected = case["answers"].as_array().unwrap();
    assert_eq!(found.items.len(), expected.len(), "{}", found.name);
    for (item, expected) in found.items.iter().zip(expected) {
        match &item.answer {
            Answer::Text(text) => assert_eq!(text.trim(), expected["text"].as_str().unwrap().trim(), "{}", found.name),
            Answer::Scores(scores) => {
                let wanted: Vec<f64> =
                    expected["scores"].as_array().unwrap().iter().map(|s| s.as_f64().unwrap()).collect();
                // The harness gives the windows of a document as one sum.
                let ours: Vec<f64> = scores.iter().map(|score| score.log_likelihood).collect();
                let ours = if wanted.len() == 1 { vec![ours.iter().sum()] } else { ours };
                assert_eq!(ours.len(), wanted.len(), "{}", found.name);
                for (ours, wanted) in ours.iter().zip(&wanted) {
                    let relative = if wanted.abs() > 100.0 { wanted.abs() / 100.0 } else { 1.0 };
                    largest = largest.max((ours - wanted).abs() / relative);
                }
            }
        }
    }
    largest
}

#[test]
fn tasks_are_those_of_the_harness() {
    let cases = cases();
    let asked =
        |case: &Value| questions(case["task"].as_str().unwrap(), case["shots"].as_u64().unwrap() as usize, None);
    let tests = Tests { tasks: cases.iter().map(asked).collect(), ..Tests::default() };
    let found = run(&tiny("base"), IN_MEMORY, &tests).tasks;
    for (found, case) in found.iter().zip(&cases) {
        let largest = difference(found, case);
        println!("{}: {largest:e} from the harness", found.name);
        assert!(largest < 1e-3, "{}: {largest}", found.name);
        for (name, expected) in case["metrics"].as_object().unwrap() {
            let ours = found.metric(name).unwrap_or_else(|| panic!("{} has no {name}", found.name)).value;
            let expected = expected.as_f64().unwrap();
            assert!(
                (ours - expected).abs() < 1e-4 * expected.abs().max(1.0),
                "{} {name}: {ours}, {expected}",
                found.name
            );
        }
    }
}

/// Passes of streamed models are cut differently.
#[test]
fn tasks_of_streamed_models_are_the_same() {
    let tests = Tests { tasks: vec![questions("winogrande", 5, Some(3))], ..Tests::default() };
    let case = cases().into_iter().find(|case| case["task"] == "winogrande").unwrap();
    let found = run(&tiny("base"), STREAMED, &tests).tasks.remove(0);
    for (item, expected) in found.items.iter().zip(case["answers"].as_array().unwrap()) {
        let Answer::Scores(scores) = &item.answer else { panic!("{item:?}") };
        for (score, expected) in scores.iter().zip(expected["scores"].as_array().unwrap()) {
            assert!((score.log_likelihood - expected.as_f64().unwrap()).abs() < 1e-3);
        }
    }
}

/// A data set that is not there is an error that says where it was looked for.
#[test]
fn what_is_missing_is_named() {
    let task = catalogue::task("piqa").unwrap();
    let read = task.clone();
    let nowhere = here().join("nowhere");
    let error = Questions::new(task, None, None, &mut |split| read_split(&nowhere, &read, split)).unwrap_err();
    let text = error.to_string();
    assert!(text.contains("piqa needs the split validation of baber/piqa"), "{text}");
}

/// The tokens that a run announces.
#[derive(Default)]
struct Announced(AtomicU64);

impl Progress for Announced {
    fn start(&self, stage: Stage, total: u64, _: u64) {
        if stage == Stage::Score {
            self.0.store(total, Ordering::Relaxed);
        }
    }
    fn advance(&self, _: Stage, _: u64) {}
    fn finish(&self, _: Stage, _: &str) {}
}

/// Answers are kept as they come: a run that was stopped in the middle of a line goes on, and gives what one run gives.
#[test]
fn a_stopped_run_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let tasks = || vec![questions("arc_easy", 0, None), questions("eq_bench", 0, Some(2))];
    let tests = Tests { tasks: tasks(), answers: Some(dir.path().to_owned()), ..Tests::default() };
    let ask = |model: &str| {
        let announced = Announced::default();
        let found = tests.run(&tiny(model), IN_MEMORY, None, &announced).unwrap().tasks;
        (found, announced.0.into_inner())
    };
    let (first, all) = ask("base");
    let (again, none) = ask("base");
    assert_eq!((&again, none), (&first, 0));
    let file = std::fs::read_dir(dir.path()).unwrap().next().unwrap().unwrap().path();
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, &text[..text.len() / 2]).unwrap();
    let (resumed, some) = ask("base");
    assert!(some > 0 && some < all, "{some} of {all}");
    assert_close(&resumed, &first);
    // Another model has answers of its own.
    assert_eq!(ask("story").1, all);
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 2);
}

/// What is asked in another run is packed differently, so the last bits differ.
#[track_caller]
fn assert_close(found: &[TaskScore], expected: &[TaskScore]) {
    let numbers = |scores: &[TaskScore]| -> Vec<f64> {
        let answers = scores.iter().flat_map(|score| &score.items).map(|item| item.answer.clone());
        answers
            .flat_map(|answer| match answer {
                Answer::Scores(scores) => scores.iter().map(|score| score.log_likelihood).collect(),
                Answer::Text(text) => text.bytes().map(f64::from).collect::<Vec<_>>(),
            })
            .collect()
    };
    let (found, expected) = (numbers(found), numbers(expected));
    assert_eq!(found.len(), expected.len());
    assert!(found.iter().zip(&expected).all(|(a, b)| (a - b).abs() < 1e-4), "{found:?} {expected:?}");
}

/// Several machines answer a part each, and then nothing is left to ask.
#[test]
fn answers_of_several_machines_are_joined() {
    let dir = tempfile::tempdir().unwrap();
    let tests = |answers: Option<&Path>, part: Option<&str>| Tests {
        tasks: vec![questions("arc_easy", 0, None), questions("eq_bench", 0, Some(2))],
        answers: answers.map(Path::to_owned),
        part: part.map(|part| part.parse().unwrap()),
        ..Tests::default()
    };
    let ask = |tests: Tests| {
        let announced = Announced::default();
        let found = tests.run(&tiny("base"), IN_MEMORY, None, &announced).unwrap().tasks;
        (found, announced.0.into_inner())
    };
    let (whole, all) = ask(tests(None, None));
    let parts: Vec<_> = ["1/3", "2/3", "3/3"].map(|part| ask(tests(Some(dir.path()), Some(part)))).into();
    assert!(parts.iter().all(|(scores, work)| scores.is_empty() && *work > 0 && *work < all));
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 3);
    let (joined, left) = ask(tests(Some(dir.path()), None));
    assert_eq!(left, 0);
    assert_close(&joined, &whole);
}
