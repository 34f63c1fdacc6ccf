from __future__ import annotations

from pathlib import Path

import pytest

import moerge


def test_a_mixture_of_experts(tiny: Path) -> None:
    plan = moerge.plan(tiny / "moe.yml", memory="1GiB")
    assert isinstance(plan, moerge.MoePlan)
    assert plan.architecture == "MixtralForCausalLM"
    assert (plan.experts, plan.experts_per_token, plan.gate_mode) == (4, 2, "hidden")
    assert [expert.reference for expert in plan.expert_models] == ["base", "code", "math", "story"]
    assert len(plan.expert_models[1].positive_prompts) == 5
    assert sum(plan.shards) == plan.weight_bytes < plan.max_bytes
    assert plan.memory.budget == 1 << 30
    assert 0 < plan.memory.needed <= plan.memory.budget
    assert plan.json["prompts"] == 20


def test_a_dense_merge(tiny: Path) -> None:
    plan = moerge.plan(tiny / "ties.yml")
    assert isinstance(plan, moerge.DensePlan)
    assert plan.merge_method == "ties"
    assert [model.reference for model in plan.models if model.base] == ["base"]
    assert sum(plan.shards) == plan.weight_bytes


def test_gguf_files(tiny: Path) -> None:
    plan = moerge.plan(tiny / "moe.yml", "out.gguf", quant=["q8_0", "q4_0"])
    assert [file.quant for file in plan.files] == ["q8_0", "q4_0"]
    assert plan.files[0].bytes > plan.files[1].bytes


def test_paths_in_a_dict_are_relative_to_the_working_directory(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = {"base_model": "base", "experts": [{"source_model": "code"}, {"source_model": "math"}]}
    monkeypatch.chdir(tiny)
    plan = moerge.plan(recipe)
    assert isinstance(plan, moerge.MoePlan)
    assert [expert.reference for expert in plan.expert_models] == ["code", "math"]


def test_paths_in_a_dict_may_be_path_objects(tiny: Path) -> None:
    models = [{"model": tiny / name} for name in ("code", "math")]
    plan = moerge.plan({"merge_method": "linear", "models": models, "parameters": {"weight": 0.5}})
    assert isinstance(plan, moerge.DensePlan)
    assert [model.reference for model in plan.models] == [str(tiny / "code"), str(tiny / "math")]
