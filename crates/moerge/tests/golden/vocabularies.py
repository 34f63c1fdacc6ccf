"""Merges models with different vocabularies by mergekit-yaml, for the test of merged tokenizers.

    VENV/bin/python crates/moerge/tests/golden/vocabularies.py      # the environment of dense.py

`base` is the golden model `llama`. `a` is `base` times 0.75 with other tokens: those of ids 10 to 20 in reverse order,
`<|im_start|>` and `<|im_end|>` after them, and a row more than tokens (`other_tokens`). vocabularies.json holds for every
case the recipe, and of every token of mergekit's result the sum and the first element of its rows of the embeddings and
of the head, at mergekit's id for it; and those of the padding rows.
"""

import json
import pathlib
import tempfile

import torch
import transformers
import yaml
from mergekit.config import MergeConfiguration
from mergekit.merge import run_merge
from mergekit.options import MergeOptions
from safetensors.torch import load_file, save_file

import dense

HERE = pathlib.Path(__file__).resolve().parent
MODELS = "models:\n- {model: base, parameters: {weight: 0.5}}\n- {model: a, parameters: {weight: 0.5}}\n"
HEAD = "merge_method: linear\nbase_model: base\ndtype: float32\n" + MODELS

CASES = {
    "base": HEAD + "tokenizer_source: base\n",
    "union": HEAD + "tokenizer_source: union\n",
    "of_a_model": HEAD + "tokenizer_source: a\n",
    "union_without_a_base": HEAD.replace("base_model: base\n", "") + "tokenizer: {source: union}\n",
    "tokens": HEAD + """tokenizer:
  source: union
  tokens:
    <|im_start|>: {source: {kind: model_token, model: base, token: <s>}}
    <|im_end|>: {source: {kind: zero}, force: true}
    the: {source: a, force: true}
    new: {source: {kind: model_token, model: a, token_id: 7}}
  pad_to_multiple_of: 64
""",
}


def other_tokens(folder):
    path = folder / "tokenizer.json"
    tok = json.loads(path.read_text())
    vocab = tok["model"]["vocab"]
    for token, id in vocab.items():
        if 10 <= id <= 20:
            vocab[token] = 30 - id
    plain = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    tok["added_tokens"] += [{"id": 160, "content": "<|im_start|>", **plain}, {"id": 161, "content": "<|im_end|>", **plain}]
    path.write_text(json.dumps(tok))
    config = json.loads((folder / "config.json").read_text())
    config["vocab_size"] = 163
    (folder / "config.json").write_text(json.dumps(config))
    tensors = load_file(folder / "model.safetensors")
    for name, x in tensors.items():
        x = x * 0.75
        if name in ("model.embed_tokens.weight", "lm_head.weight"):
            x = torch.cat([x, x[:3] * 2.0])
        tensors[name] = x.contiguous()
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def merge(recipe):
    with tempfile.TemporaryDirectory() as tmp:
        tmp = pathlib.Path(tmp)
        dense.write_models("llama", tmp)
        for name in ("config.json", "model.safetensors"):
            (tmp / "a" / name).write_bytes((tmp / "base" / name).read_bytes())
        other_tokens(tmp / "a")
        text = recipe
        for name in ("base", "a"):
            for key in ("model", "base_model", "tokenizer_source", "source"):
                for end in ("\n", ",", "}"):
                    text = text.replace(f"{key}: {name}{end}", f"{key}: {tmp / name}{end}")
        text = text.replace(f"tokenizer_source: {tmp / 'base'}", "tokenizer_source: base")
        config = MergeConfiguration.model_validate(yaml.safe_load(text))
        run_merge(config, str(tmp / "out"), MergeOptions(write_model_card=False, quiet=True))
        out = load_file(tmp / "out" / "model.safetensors")
        ids = transformers.AutoTokenizer.from_pretrained(tmp / "out").get_vocab()
        vocab_size = json.loads((tmp / "out" / "config.json").read_text())["vocab_size"]
    tensors = [out["model.embed_tokens.weight"].double(), out["lm_head.weight"].double()]

    def numbers(row):
        return [v for x in tensors for v in (x[row].sum().item(), x[row][0].item())]

    padding = numbers(vocab_size - 1) if vocab_size > len(ids) else None
    return {"recipe": recipe, "rows": vocab_size, "tokens": {t: numbers(i) for t, i in sorted(ids.items())}, "padding": padding}


def main():
    torch.set_num_threads(1)
    cases = {name: merge(recipe) for name, recipe in CASES.items()}
    for name, case in cases.items():
        print(name, case["rows"], len(case["tokens"]))
    lines = [f"{json.dumps(name)}: {json.dumps(case)}" for name, case in cases.items()]
    (HERE / "vocabularies.json").write_text("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    main()
