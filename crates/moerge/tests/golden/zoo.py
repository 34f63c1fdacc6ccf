"""Merges small random models of many architectures by formulas of our own in torch, for the test of merges by name.

    python crates/moerge/tests/golden/zoo.py        # writes zoo.json and zoo/*.safetensors

One model per architecture is stored, in float32 and tiny; the test makes two others of it as `mixed` does here. zoo.json
holds the model's config and, per method, of every tensor of the merge its sum and sum of squares. The parameter of every
merge is a gradient over the layers; the position of a tensor is its layer's among those of its own stack, so an encoder
and a decoder of different depth each have the whole gradient.
"""

import json
import pathlib
import re

import torch
import transformers as t
from safetensors.torch import load_file

HERE = pathlib.Path(__file__).resolve().parent
SMALL = {"hidden_size": 8, "intermediate_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "vocab_size": 24}

MODELS = {
    "bert": (t.BertForMaskedLM, t.BertConfig(**SMALL, max_position_embeddings=8)),
    "vit": (t.ViTForImageClassification, t.ViTConfig(**{**SMALL, "vocab_size": 2}, image_size=8, patch_size=4, num_labels=3)),
    "clip": (t.CLIPModel, t.CLIPConfig(
        text_config={**SMALL, "projection_dim": 4, "max_position_embeddings": 8},
        vision_config={**SMALL, "num_hidden_layers": 2, "projection_dim": 4, "image_size": 8, "patch_size": 4},
        projection_dim=4,
    )),
    "whisper": (t.WhisperForConditionalGeneration, t.WhisperConfig(
        vocab_size=24, num_mel_bins=4, encoder_layers=2, decoder_layers=3, encoder_attention_heads=2,
        decoder_attention_heads=2, encoder_ffn_dim=16, decoder_ffn_dim=16, d_model=8, max_source_positions=8,
        max_target_positions=8, pad_token_id=0, bos_token_id=1, eos_token_id=2, decoder_start_token_id=1,
    )),
    "mamba": (t.MambaForCausalLM, t.MambaConfig(vocab_size=24, hidden_size=8, state_size=4, num_hidden_layers=3, conv_kernel=2)),
    "gpt2": (t.GPT2LMHeadModel, t.GPT2Config(vocab_size=24, n_positions=8, n_embd=8, n_layer=3, n_head=2)),
    "t5": (t.T5ForConditionalGeneration, t.T5Config(
        vocab_size=24, d_model=8, d_kv=4, d_ff=16, num_layers=2, num_decoder_layers=3, num_heads=2,
    )),
    "mixtral": (t.MixtralForCausalLM, t.MixtralConfig(**SMALL, num_key_value_heads=1, num_local_experts=3, num_experts_per_tok=2)),
    "gpt_neox": (t.GPTNeoXForCausalLM, t.GPTNeoXConfig(**SMALL, max_position_embeddings=8)),
    "resnet": (t.ResNetForImageClassification, t.ResNetConfig(
        num_channels=1, embedding_size=4, hidden_sizes=[4, 8], depths=[1, 2], num_labels=2, layer_type="basic",
    )),
}


def place(name):
    """The stack and the layer of a tensor: the first number between dots."""
    found = re.match(r"(.*?)\.(\d+)\.", name)
    return (found[1], int(found[2])) if found else (None, 0)


def mixed(x, own, other):
    if not x.is_floating_point() or x.dim() == 0:
        return x
    return x * own + torch.roll(x, 1, 0) * other


def slerp(a, b, weight):
    x, y = a.double().flatten(), b.double().flatten()
    nx, ny = x.norm(), y.norm()
    cos = (x @ y / (nx * ny)).item() if nx > 0 and ny > 0 else 1.0
    if abs(cos) > 0.9995:
        return a.double() * (1 - weight) + b.double() * weight
    theta = torch.arccos(torch.tensor(max(-1.0, min(1.0, cos)), dtype=torch.float64))
    c = [torch.sin((1 - weight) * theta) / torch.sin(theta), torch.sin(weight * theta) / torch.sin(theta)]
    return a.double() * c[0] + b.double() * c[1]


def ties(base, a, b, density):
    """Weights 1 and 0.5, normalised."""
    base = base.double()
    kept = []
    for x in (a, b):
        d = (x.double() - base).flatten()
        n = max(1, int(density * d.numel())) if density < 1 else d.numel()
        mask = torch.zeros_like(d)
        mask[torch.argsort(d.abs(), descending=True, stable=True)[:n]] = 1
        kept.append((d * mask).reshape(base.shape))
    weighted = torch.stack([kept[0] * 1.0, kept[1] * 0.5])
    sign = torch.where(weighted.sum(0) >= 0, 1.0, -1.0)
    agree = (torch.sign(weighted) == sign).double()
    divisor = agree[0] * 1.0 + agree[1] * 0.5
    divisor[divisor == 0] = 1
    return base + (weighted * agree).sum(0) / divisor


RECIPES = {
    "linear": "merge_method: linear\nmodels:\n- {model: a, parameters: {weight: [1, 0.25]}}\n"
              "- {model: b, parameters: {weight: [0.5, 2]}}\n",
    "slerp": "merge_method: slerp\nbase_model: a\nmodels: [{model: a}, {model: b}]\nparameters: {t: [0.1, 0.9]}\n",
    "ties": "merge_method: ties\nbase_model: base\nmodels:\n- {model: a, parameters: {weight: 1}}\n"
            "- {model: b, parameters: {weight: 0.5}}\nparameters: {density: [0.25, 0.75]}\n",
}


def merged(method, base, a, b, at):
    between = lambda first, last: first + (last - first) * at
    if method == "linear":
        w = between(1, 0.25), between(0.5, 2)
        return (a.double() * w[0] + b.double() * w[1]) / sum(w)
    if method == "slerp":
        return slerp(a, b, between(0.1, 0.9))
    return ties(base, a, b, between(0.25, 0.75))


def main():
    (HERE / "zoo").mkdir(exist_ok=True)
    cases = {}
    for name, (model_class, config) in MODELS.items():
        torch.manual_seed(len(name))
        model = model_class(config).float()
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, 0.0, 0.5)
        folder = HERE / "zoo" / name
        model.save_pretrained(folder, safe_serialization=True)
        base = load_file(folder / "model.safetensors")
        for file in folder.iterdir():
            if file.name not in ("config.json", "model.safetensors"):
                file.unlink()
        depth = {}
        for tensor in base:
            stack, layer = place(tensor)
            depth[stack] = max(depth.get(stack, 0), layer + 1)
        results = {}
        for method in RECIPES:
            results[method] = {}
            for tensor, x in base.items():
                stack, layer = place(tensor)
                at = 0.0 if stack is None else layer / (depth[stack] - 1) if depth[stack] > 1 else 1.0
                if not x.is_floating_point():
                    y = x
                else:
                    y = merged(method, x, mixed(x, 0.75, 0.25), mixed(x, 1.25, -0.5), at)
                y = y.double()
                results[method][tensor] = [float(f"{n.item():.8g}") for n in (y.sum(), (y * y).sum())]
        cases[name] = results
        print(name, len(base), sum(x.numel() for x in base.values()))
    cases = {"recipes": RECIPES, "models": cases}
    (HERE / "zoo.json").write_text(json.dumps(cases, separators=(",", ":")).replace('"},', '"},\n').replace("]},", "]},\n") + "\n")


if __name__ == "__main__":
    main()
