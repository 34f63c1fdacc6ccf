from __future__ import annotations

import json
from pathlib import Path

import pytest

import moerge


def test_perplexity(tiny: Path, tmp_path: Path) -> None:
    text = tmp_path / "code.txt"
    text.write_text((tiny / "valid" / "code.txt").read_text()[:4000])
    scores = moerge.eval(tiny / "base", tiny / "code", text=text, kl=True, context=128)
    base, code = scores.models
    assert (base.model, base.moe, base.context, base.stride) == (str(tiny / "base"), False, 128, 64)
    assert code.texts[0].perplexity.value < base.texts[0].perplexity.value
    assert code.texts[0].divergence is not None and code.texts[0].divergence.kl.value > 0
    assert scores.json["models"][0]["texts"][0]["perplexity"]["value"] == base.texts[0].perplexity.value


def test_choices_and_questions(tiny: Path, tmp_path: Path) -> None:
    choices, questions = tmp_path / "choices.jsonl", tmp_path / "questions.jsonl"
    choices.write_text(json.dumps({"question": "1 + 1 =", "choices": ["2", "story"], "answer": 0}) + "\n")
    questions.write_text(json.dumps({"question": "What is 3 + 4?", "answer": "#### 7"}) + "\n")
    score = moerge.eval(
        tiny / "math", choices=choices, questions=[questions], extra_args=["--answer-tokens", "8"]
    ).models[0]
    assert score.choices[0].name == "choices" and 0 <= score.choices[0].acc.value <= 1
    assert len(score.choices[0].items) == len(score.answers[0].items) == 1


def test_a_question_that_does_not_fit_is_a_warning(tiny: Path, tmp_path: Path) -> None:
    choices = tmp_path / "choices.jsonl"
    question = "many words of a story " * 400
    choices.write_text(json.dumps({"question": question, "choices": ["yes", "no"], "answer": 0}) + "\n")
    scores = moerge.eval(tiny / "story", choices=choices)
    assert scores.models[0].choices[0].cut == 1
    assert "1 question of choices" in scores.warnings[0]


def test_a_missing_text_is_an_error(tiny: Path) -> None:
    with pytest.raises(moerge.MoergeError, match="nope.txt"):
        moerge.eval(tiny / "base", text="nope.txt")
