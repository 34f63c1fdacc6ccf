from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import moerge


def test_a_sound_model(tiny: Path) -> None:
    report = moerge.verify(tiny / "base")
    assert report.sound and report.family == "llama" and report.fingerprints_equal is None


def test_a_broken_model_is_a_result(tiny: Path, tmp_path: Path) -> None:
    model = tmp_path / "model"
    shutil.copytree(tiny / "base", model)
    config = model / "config.json"
    config.write_text(config.read_text().replace('"num_hidden_layers": 5', '"num_hidden_layers": 6'))
    report = moerge.verify(model)
    assert not report.sound
    assert report.findings[0].severity == "error" and report.findings[0].kind == "missing"


def test_nothing_to_verify_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(moerge.MoergeError, match="nope"):
        moerge.verify(tmp_path / "nope")


def test_inspect(tiny: Path) -> None:
    found = moerge.inspect(tiny / "base")
    assert (found.kind, found.model_type, found.architecture) == ("dense", "llama", "LlamaForCausalLM")
    assert found.sizes is not None and (found.sizes.layers, found.sizes.tied_embeddings) == (5, True)
    assert found.moe is None and found.dtypes == {"BF16": found.tensors}
