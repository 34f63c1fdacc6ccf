#!/usr/bin/env python3
"""Adapters and what PEFT's `merge_and_unload` makes of them: `adapters/<kind>/`.

    python adapters.py

Made with peft 0.21.2 and transformers 5.23. The base is the golden model that `base.txt` names. `expected.safetensors`
holds, for every matrix of the merged layers, its product with the vector `sin(0), sin(1), ...`: enough to notice a
change of any element, and small. Each kind is saved, loaded again and merged by PEFT, with A and B that are not 0."""
import json
import pathlib
import shutil
import tempfile

import torch
import transformers
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import save_file

HERE = pathlib.Path(__file__).parent
FFN = ["gate_proj", "up_proj", "down_proj"]
PATTERNS = dict(
    rank_pattern={"up_proj": 3, "layers.0.mlp.up_proj": 1, "down_proj": 1},
    alpha_pattern={"up_proj": 5, "layers.0.mlp.up_proj": 7, ".*\\.2\\.mlp\\.gate_proj": 11},
)
# Kind -> the base, settings of LoraConfig, and changes to the saved config (how it says it was initialised).
KINDS = {
    "plain": ("llama", dict(target_modules=FFN + ["q_proj", "v_proj"]), {}),
    "gaussian": ("llama", dict(init_lora_weights="gaussian"), {}),
    "orthogonal": ("llama", dict(init_lora_weights="orthogonal"), {}),
    "mica": ("llama", dict(init_lora_weights="mica"), {}),
    "eva": ("llama", {}, {"init_lora_weights": "eva"}),
    "lora_ga": ("llama", {}, {"init_lora_weights": "lora_ga"}),
    "not_initialised": ("llama", dict(init_lora_weights=False), {}),
    "rslora": ("llama", dict(use_rslora=True, lora_alpha=3), {}),
    "fan_in_fan_out": ("llama", dict(fan_in_fan_out=True), {"fan_in_fan_out": True}),
    # Two patterns fit some modules; the first in the file decides.
    "patterns": ("llama", dict(layers_to_transform=[0, 2], **PATTERNS), PATTERNS),
    "all_layers": ("llama", dict(layers_to_transform=None, target_modules=["down_proj"], bias="all"), {}),
    "converted_pissa": ("llama", dict(init_lora_weights="pissa"), {}),
    "converted_olora": ("llama", dict(init_lora_weights="olora"), {}),
    "fused": ("phi3", dict(target_modules=["qkv_proj", "gate_up_proj", "down_proj"]), {}),
}


def base_of(name):
    return transformers.AutoModelForCausalLM.from_pretrained(HERE / name, dtype=torch.float32)


def perturb(model):
    """Moves A and B away from where they began, as training does."""
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "lora_" in name:
                weight.add_(0.05 * torch.sin(torch.arange(weight.numel(), dtype=torch.float64) + len(name)).float().view_as(weight))


def make(kind):
    name, settings, saved = KINDS[kind]
    folder = HERE / "adapters" / kind
    shutil.rmtree(folder, ignore_errors=True)
    torch.manual_seed(7)
    settings = dict(r=2, lora_alpha=6, target_modules=FFN, layers_to_transform=[1]) | settings
    model = get_peft_model(base_of(name), LoraConfig(**settings))
    with tempfile.TemporaryDirectory() as initial:
        if kind.startswith("converted"):
            # What the base is changed by is only known from the adapter before training.
            model.peft_config["default"].init_lora_weights = True
            model.save_pretrained(initial)
            model.peft_config["default"].init_lora_weights = settings["init_lora_weights"]
        perturb(model)
        options = dict(path_initial_model_for_weight_conversion=initial) if kind.startswith("converted") else {}
        model.save_pretrained(folder, **options)
    (folder / "README.md").unlink()
    (folder / "base.txt").write_text(name)
    config = json.loads((folder / "adapter_config.json").read_text()) | saved
    config["base_model_name_or_path"] = name
    (folder / "adapter_config.json").write_text(json.dumps(config, indent=2) + "\n")

    loaded = PeftModel.from_pretrained(base_of(name), folder).merge_and_unload()
    base = base_of(name).state_dict()
    expected = {}
    for tensor, weight in loaded.state_dict().items():
        if weight.ndim == 2 and ".layers." in tensor:
            probe = torch.sin(torch.arange(weight.shape[1], dtype=torch.float64))
            expected[tensor] = (weight.double() @ probe).float()
            changed = (weight - base[tensor]).abs().max().item()
            if changed:
                print(f"{kind:16} {tensor:42} changed by {changed:.3g}")
    if kind.startswith("converted"):
        merged = model.merge_and_unload().state_dict()
        worst = max((merged[t] - w).abs().max().item() for t, w in loaded.state_dict().items())
        print(f"{kind}: the converted adapter differs from the trained model by {worst:.3g}")
        assert worst < 1e-5
    save_file(expected, folder / "expected.safetensors")


for kind in KINDS:
    make(kind)
