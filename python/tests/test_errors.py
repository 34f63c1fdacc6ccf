from __future__ import annotations

import pickle
from pathlib import Path

import pytest

import moerge


def test_faults_of_a_recipe_have_their_places(tiny: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "moe.yml"
    recipe.write_text(f"base_model: {tiny}/base\nexperts:\n- source_model: {tiny}/code\n  positve_prompts: [x]\n")
    with pytest.raises(moerge.MoergeError) as caught:
        moerge.merge(recipe, tmp_path / "out")
    error = caught.value
    first = error.diagnostics[0]
    assert error.message == first.message == "unknown key `positve_prompts`"
    assert (first.kind, first.file, first.line, first.column) == ("input", str(recipe), 4, 3)
    assert first.label == "did you mean `positive_prompts`?"
    # Everything that is wrong, not only the first.
    assert "experts_per_token" in error.diagnostics[1].message and error.diagnostics[1].hints
    assert f"{recipe}:4:3: did you mean `positive_prompts`?" in str(error)


def test_plan_and_merge_fail_alike(tiny: Path, tmp_path: Path) -> None:
    recipe = {"base_model": str(tiny / "base"), "experts": [{"source_model": str(tiny / name)} for name in ("code", "nope")]}
    for job in (lambda: moerge.plan(recipe), lambda: moerge.merge(recipe, tmp_path / "out")):
        with pytest.raises(moerge.MoergeError, match="nope") as caught:
            job()
        assert caught.value.exit_code == 1
        assert caught.value.diagnostics[0].file in (None, "stdin")


def test_hints_name_files(tiny: Path) -> None:
    with pytest.raises(moerge.MoergeError) as caught:
        moerge.plan(tiny / "meo.yml")
    assert caught.value.hints == (f"did you mean `{tiny / 'moe.yml'}`?",)
    assert caught.value.diagnostics[0].kind == "io"


def test_a_model_that_is_not_downloaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    with pytest.raises(moerge.MoergeError, match="org/a"):
        moerge.plan({"base_model": "org/a", "experts": [{"source_model": "org/a"}, {"source_model": "org/a+org/b"}]})


def test_wrong_usage(tiny: Path, tmp_path: Path) -> None:
    with pytest.raises(moerge.MoergeError, match="--nonsense") as caught:
        moerge.merge(tiny / "moe.yml", tmp_path / "out", extra_args=["--nonsense"])
    assert caught.value.exit_code == 2


def test_parts_of_an_output_are_for_the_command(tiny: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="--part"):
        moerge.merge(tiny / "moe.yml", tmp_path / "out", extra_args=["--part=1/2"])


def test_errors_can_be_pickled() -> None:
    error = moerge.MoergeError([moerge.Diagnostic("no", facts={"file": "a"}, hints=("b",))], 1)
    again = pickle.loads(pickle.dumps(error))
    assert (str(again), again.hints, again.exit_code) == ("no\n  file: a\n  hint: b", ("b",), 1)
