"""Runs dense recipes through mergekit-yaml, for the test of whole dense merges.

    python -m venv VENV && VENV/bin/pip install torch==2.15.* mergekit==0.1.5 numpy safetensors
    VENV/bin/python crates/moerge/tests/golden/dense.py

The models of a case are made from a golden model by both this script and the test: `base` is the golden model, `a` and
`b` mix each of its tensors with itself moved down by a row (`mixed`). dense.json holds the recipes, and of every
tensor of mergekit's result its shape, sum, sum of squares and three elements.
"""

import json
import pathlib
import shutil
import tempfile

import torch
import yaml
from mergekit.config import MergeConfiguration
from mergekit.merge import run_merge
from mergekit.options import MergeOptions
from safetensors.torch import load_file, save_file

HERE = pathlib.Path(__file__).resolve().parent

CASES = {
    "linear_with_filters": ("llama", """
        merge_method: linear
        models:
        - model: a
          parameters:
            weight:
            - {filter: mlp, value: [0.2, 0.9, 0.4]}
            - {filter: self_attn.q_proj, value: 0.7}
            - value: 0.5
        - model: b
          parameters: {weight: 0.25}
        dtype: float32
    """),
    "linear_not_normalized": ("qwen2", """
        merge_method: linear
        models:
        - {model: base, parameters: {weight: 1.0}}
        - {model: a, parameters: {weight: 0.5}}
        - {model: b, parameters: {weight: -0.5}}
        parameters: {normalize: false}
        dtype: float32
    """),
    "slerp_with_gradients": ("llama", """
        merge_method: slerp
        base_model: a
        slices:
        - sources:
          - {model: a, layer_range: [0, 3]}
          - {model: b, layer_range: [0, 3]}
        parameters:
          t:
          - {filter: self_attn, value: [0, 0.5, 0.3, 0.7, 1]}
          - {filter: mlp, value: [1, 0.5, 0.7, 0.3, 0]}
          - value: 0.5
        dtype: float32
    """),
    "slerp_of_whole_models_with_the_base_second": ("qwen2", """
        merge_method: slerp
        base_model: b
        models:
        - model: a
        - model: b
        parameters: {t: 0.3}
        dtype: float32
    """),
    "slerp_of_tied_models": ("llama3_rope", """
        merge_method: slerp
        base_model: base
        models:
        - model: base
        - model: a
        parameters: {t: [0.2, 0.8]}
        dtype: float32
    """),
    "ties_with_densities": ("llama", """
        merge_method: ties
        base_model: base
        models:
        - model: a
          parameters: {density: [1, 0.7, 0.1], weight: 1.0}
        - model: b
          parameters:
            density: 0.5
            weight: [0, 0.3, 0.7, 1]
        parameters: {normalize: true, int8_mask: true}
        dtype: float32
    """),
    "parameters_at_every_level": ("llama", """
        merge_method: task_arithmetic
        base_model: base
        slices:
        - sources:
          - {model: base, layer_range: [0, 2]}
          - {model: a, layer_range: [0, 2], parameters: {weight: 0.9}}
          - {model: b, layer_range: [0, 2]}
          parameters: {weight: 0.6, lambda: 0.5}
        - sources:
          - {model: base, layer_range: [2, 3]}
          - {model: a, layer_range: [2, 3]}
          - {model: b, layer_range: [2, 3], parameters: {weight: {filter: mlp, value: 0.1}}}
        parameters: {weight: 0.3}
        dtype: float32
    """),
    "layers_stacked": ("llama", """
        merge_method: passthrough
        slices:
        - sources:
          - {model: base, layer_range: [0, 2]}
        - sources:
          - model: a
            layer_range: [1, 3]
            parameters:
              scale:
              - {filter: o_proj, value: 0.5}
              - {filter: down_proj, value: 0.25}
              - value: 1.0
        - sources:
          - {model: b, layer_range: [0, 1]}
        dtype: float32
    """),
    "model_stock": ("mistral", """
        merge_method: model_stock
        base_model: base
        models: [{model: a}, {model: b}]
        dtype: float32
    """),
    "nuslerp_onto_a_base": ("phi3", """
        merge_method: nuslerp
        base_model: base
        models:
        - {model: a, parameters: {weight: 0.3}}
        - {model: b, parameters: {weight: [0.1, 0.9]}}
        parameters: {nuslerp_flatten: false}
        dtype: float32
    """),
    "breadcrumbs_with_gradients": ("qwen3", """
        merge_method: breadcrumbs_ties
        base_model: base
        models:
        - {model: a, parameters: {weight: 0.6, density: 0.8, gamma: 0.05}}
        - {model: b, parameters: {weight: 0.4, density: [0.5, 0.9], gamma: 0.01}}
        parameters: {lambda: 1.1}
        dtype: float32
    """),
    "written_as_bfloat16": ("llama", """
        merge_method: linear
        models:
        - {model: a, parameters: {weight: 0.4}}
        - {model: b, parameters: {weight: 0.6}}
        dtype: float32
        out_dtype: bfloat16
    """),
    "flags_with_a_gradient": ("llama", """
        merge_method: ties
        base_model: base
        models:
        - {model: a, parameters: {weight: 0.5}}
        - {model: b, parameters: {weight: 0.7, density: 0.4}}
        parameters: {normalize: [true, false], rescale: {filter: mlp, value: true}}
        dtype: float32
    """),
}


def mixed(x, own, other):
    """`own` and `other` are exact in f32, so every language rounds in the same places."""
    return x * own + x.roll(1, 0) * other


def write_models(golden, folder):
    shutil.copytree(HERE / golden, folder / "base", ignore=shutil.ignore_patterns("expected*", "mergekit*", "phat*", "moe*"))
    tensors = load_file(HERE / golden / "model.safetensors")
    for name, own, other in (("a", 0.75, 0.25), ("b", 1.25, -0.5)):
        shutil.copytree(folder / "base", folder / name)
        made = {k: mixed(x, own, other).contiguous() for k, x in tensors.items()}
        save_file(made, folder / name / "model.safetensors", metadata={"format": "pt"})


def summary(x):
    x = x.to(torch.float64).flatten()
    return [x.sum().item(), (x * x).sum().item(), x[0].item(), x[len(x) // 3].item(), x[-1].item()]


def merge(golden, recipe):
    with tempfile.TemporaryDirectory() as tmp:
        tmp = pathlib.Path(tmp)
        write_models(golden, tmp)
        text = recipe
        for name in ("base", "a", "b"):
            text = text.replace(f"model: {name}\n", f"model: {tmp / name}\n").replace(
                f"model: {name},", f"model: {tmp / name},").replace(f"model: {name}}}", f"model: {tmp / name}}}")
        config = MergeConfiguration.model_validate(yaml.safe_load(text))
        run_merge(config, str(tmp / "out"), MergeOptions(write_model_card=False, copy_tokenizer=False, quiet=True))
        out = load_file(tmp / "out" / "model.safetensors")
        layers = json.loads((tmp / "out" / "config.json").read_text())["num_hidden_layers"]
    tensors = {name: {"shape": list(x.shape), "values": summary(x)} for name, x in sorted(out.items())}
    return {"golden": golden, "recipe": recipe, "layers": layers, "tensors": tensors}


def main():
    torch.set_num_threads(1)
    cases = {}
    for name, (golden, recipe) in CASES.items():
        recipe = "\n".join(line[8:] for line in recipe.strip("\n").splitlines()).rstrip() + "\n"
        cases[name] = merge(golden, recipe)
        print(f"{name}: {len(cases[name]['tensors'])} tensors")
    lines = [f"{json.dumps(name)}: {json.dumps(case)}" for name, case in cases.items()]
    (HERE / "dense.json").write_text("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    main()
