"""A small random MoE of every family, made by moerge, for readers that need a tokenizer they know."""

import pathlib
import shutil
import subprocess

import torch
import transformers
from check import Refused

COMMON = dict(hidden_size=128, intermediate_size=192, num_hidden_layers=3, num_attention_heads=4, num_key_value_heads=2,
              max_position_embeddings=256, tie_word_embeddings=False, pad_token_id=None, rms_norm_eps=1e-5)
# name -> (class, options, experts per token of 3). llama.cpp's qwen2moe graph does not normalise the weights of the
# chosen experts, whatever `norm_topk_prob` says; with all experts chosen they add up to 1, and it is exact.
FAMILIES = {
    "llama": ("Llama", {}, 2),
    "mistral": ("Mistral", dict(head_dim=64, sliding_window=None), 2),
    "phi3": ("Phi3", {}, 2),
    "qwen2": ("Qwen2", {}, 3),
    "qwen3": ("Qwen3", dict(head_dim=64), 2),
}


def random_dense(name, seed, tokenizer, folder):
    """A small random model whose logits are far enough apart to tell a wrong computation from a right one."""
    kind, options, _ = FAMILIES[name]
    vocabulary = len(transformers.AutoTokenizer.from_pretrained(tokenizer))
    config = getattr(transformers, f"{kind}Config")(vocab_size=vocabulary, **COMMON, **options)
    torch.manual_seed(seed)
    model = getattr(transformers, f"{kind}ForCausalLM")(config).float()
    with torch.no_grad():
        for tensor_name, tensor in model.named_parameters():
            if tensor.dim() == 1:
                tensor.copy_((1.0 if "norm" in tensor_name else 0.0) + 0.3 * torch.randn_like(tensor))
            else:
                tensor.normal_(std=1.0 if "embed" in tensor_name else 1.5 * tensor.shape[1] ** -0.5)
    model.save_pretrained(folder)
    for file in pathlib.Path(tokenizer).iterdir():
        if file.name.startswith(("tokenizer", "special_tokens", "added_tokens", "vocab", "merges")):
            shutil.copy(file, folder)


def make_moe(binary, name, tokenizer, work):
    """An MoE of a random base and two further random experts with hidden gates, in a folder of `work`."""
    for seed, expert in enumerate(("base", "a", "b")):
        random_dense(name, seed, tokenizer, work / expert)
    experts = "".join(f"  - source_model: {e}\n    positive_prompts: ['{p}']\n" for e, p in
                      (("base", "hello there"), ("a", "one and two"), ("b", "the end of it")))
    recipe = work / "moe.yml"
    recipe.write_text(f"base_model: base\ngate_mode: hidden\nexperts_per_token: {FAMILIES[name][2]}\nexperts:\n{experts}")
    done = subprocess.run([str(binary.resolve()), "merge", str(recipe), str(work / "out")], capture_output=True, text=True)
    if done.returncode:
        raise Refused(f"moerge failed ({done.returncode}): {done.stderr.strip()}")
    return work / "out"
