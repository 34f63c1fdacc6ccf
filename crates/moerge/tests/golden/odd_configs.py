"""Asks transformers about the golden models under configs that are easy to misread: sliding windows in some layers, and
a head beside tied embeddings.

    VENV/bin/python crates/moerge/tests/golden/odd_configs.py       # the environment of make.py

Each case is a golden model with some keys of its config.json replaced (null removes one). `head: true` stores a head
beside the tied embeddings: their rows in reverse order. The logits of the last four of make.py's tokens go to
odd_configs.safetensors, the cases to odd_configs.json, so that the test reads both.
"""

import json
import pathlib
import shutil
import tempfile

import torch
import transformers
from safetensors.torch import load_file, save_file

HERE = pathlib.Path(__file__).resolve().parent
WINDOW = dict(use_sliding_window=True, sliding_window=8, layer_types=None)

CASES = {
    "qwen2_windows_everywhere": ("qwen2", {**WINDOW, "max_window_layers": 0}, False),
    "qwen2_window_in_the_last_layer": ("qwen2", {**WINDOW, "max_window_layers": 2}, False),
    "qwen2_window_by_layer_types": ("qwen2", {
        "use_sliding_window": True, "sliding_window": 8,
        "layer_types": ["sliding_attention", "full_attention", "sliding_attention"]}, False),
    "qwen2_window_not_used": ("qwen2", {**WINDOW, "use_sliding_window": False, "max_window_layers": 0}, False),
    "qwen2_window_with_the_default_of_layers": ("qwen2", {**WINDOW, "max_window_layers": None}, False),
    "qwen3_window_in_the_last_two_layers": ("qwen3", {**WINDOW, "max_window_layers": 1}, False),
    "qwen2_moe_windows_below": ("qwen2_moe", {**WINDOW, "sliding_window": 4, "max_window_layers": 3}, False),
    "qwen2_moe_window_in_some_layers": ("qwen2_moe", {**WINDOW, "sliding_window": 4, "max_window_layers": 1}, False),
    "qwen2_moe_window_named_only": ("qwen2_moe", {"sliding_window": 4, "max_window_layers": 3, "layer_types": None,
                                                 "use_sliding_window": None}, False),
    "qwen3_moe_window": ("qwen3_moe", {**WINDOW, "sliding_window": 4, "max_window_layers": 1}, False),
    "mistral_without_window": ("mistral", {"sliding_window": None}, False),
    "mistral_window_by_layer_types": ("mistral", {
        "layer_types": ["full_attention", "sliding_attention", "full_attention"]}, False),
    "mistral_full_by_layer_types": ("mistral", {"layer_types": ["full_attention"] * 3}, False),
    "mixtral_without_window": ("mixtral", {"sliding_window": None}, False),
    "tied_with_a_head_of_its_own": ("llama3_rope", {}, True),
    "tied_with_a_head_of_its_own_qwen2": ("qwen2", {}, True),
    "tied_moe_with_a_head_of_its_own": ("mixtral", {"tie_word_embeddings": True}, True),
}


def logits(model, changes, head):
    with tempfile.TemporaryDirectory() as tmp:
        tmp = pathlib.Path(tmp)
        config = json.loads((HERE / model / "config.json").read_text())
        for key, value in changes.items():
            config.pop(key, None)
            if value is not None:
                config[key] = value
        (tmp / "config.json").write_text(json.dumps(config))
        if head:
            tensors = load_file(HERE / model / "model.safetensors")
            tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"].flip(0).contiguous()
            save_file(tensors, tmp / "model.safetensors", metadata={"format": "pt"})
        else:
            shutil.copy(HERE / model / "model.safetensors", tmp)
        loaded = transformers.AutoModelForCausalLM.from_pretrained(
            tmp, dtype=torch.float32, attn_implementation="eager").eval()
        ids = load_file(HERE / model / "expected.safetensors")["input_ids"]
        with torch.no_grad():
            return loaded(input_ids=ids[None], use_cache=False).logits[0, -4:].contiguous()


def main():
    transformers.logging.set_verbosity_error()
    torch.set_num_threads(1)
    saved = {}
    for name, (model, changes, head) in CASES.items():
        saved[name] = logits(model, changes, head)
        plain = load_file(HERE / model / "expected.safetensors")["logits"][-4:]
        print(f"{name}: differs from {model} by {(saved[name] - plain).abs().max():.2f}")
    save_file(saved, HERE / "odd_configs.safetensors", metadata={"transformers": transformers.__version__})
    (HERE / "odd_configs.safetensors").chmod(0o644)
    cases = {name: {"model": model, "config": changes, "head": head} for name, (model, changes, head) in CASES.items()}
    (HERE / "odd_configs.json").write_text(json.dumps(cases, indent=1) + "\n")


if __name__ == "__main__":
    main()
