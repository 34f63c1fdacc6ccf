"""Makes the golden models: tiny random models and what transformers computes with them, for the tests of `moerge`.

    python -m venv VENV && VENV/bin/pip install torch==2.15.* transformers==5.23.* mergekit==0.1.5 numpy safetensors
    VENV/bin/python crates/moerge/tests/golden/make.py              # everything, about three minutes
    VENV/bin/python crates/moerge/tests/golden/make.py llama qwen2  # some models only
    VENV/bin/python crates/moerge/tests/golden/make.py --no-mergekit

Nothing here is needed to run the tests: the results are kept in the repository, one folder per model beside this
script. README.md beside it says what each file holds. Weights are keyed by (model, tensor name), so adding a model or
a tensor changes no other one. Every model is checked here to be worth something as a test: taking away any one piece
of its computation (a bias, the window, the rope scaling, the shared expert, ...) must move the logits.
"""

import json
import logging
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import zlib

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import numpy as np
import tokenizers
import torch
import transformers
import yaml
from safetensors.torch import load_file, save_file
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors, trainers

HERE = pathlib.Path(__file__).resolve().parent
SEED = 20261123
TOKENS = 40
VOCAB = 160
COMMON = dict(
    vocab_size=VOCAB, hidden_size=32, intermediate_size=56, num_hidden_layers=3, num_attention_heads=4,
    num_key_value_heads=2, max_position_embeddings=128, bos_token_id=1, eos_token_id=2, pad_token_id=None,
)
DEFAULT_ROPE = {"rope_type": "default", "rope_theta": 1000.0}


def rope(kind, **more):
    return {"rope_type": kind, "rope_theta": 1000.0, **more}


# name -> (class, options). Every model but `llama` and `qwen2` has head_dim != hidden / heads, so that nobody can
# confuse the two; rope_theta is small because 40 tokens are few.
DENSE = {
    "llama": ("Llama", dict(tie_word_embeddings=False, rope_parameters=rope("default"), rms_norm_eps=1e-5)),
    "llama3_rope": ("Llama", dict(tie_word_embeddings=True, head_dim=16, rope_parameters=rope(
        "llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=16))),
    "llama_linear": ("Llama", dict(tie_word_embeddings=True, head_dim=16, rope_parameters=rope("linear", factor=4.0))),
    # the dynamic kind takes max_position_embeddings for the trained length: 16 of the 40 tokens
    "llama_dynamic": ("Llama", dict(tie_word_embeddings=True, head_dim=16, max_position_embeddings=16,
                                    rope_parameters=rope("dynamic", factor=2.0))),
    "llama_yarn": ("Llama", dict(tie_word_embeddings=True, head_dim=16, max_position_embeddings=64, rope_parameters=rope(
        "yarn", factor=4.0, beta_fast=4.0, beta_slow=1.0, original_max_position_embeddings=16))),
    "mistral": ("Mistral", dict(tie_word_embeddings=False, head_dim=12, sliding_window=8, rope_parameters=rope("default"))),
    "phi3": ("Phi3", dict(tie_word_embeddings=False, sliding_window=12, rope_parameters=rope("default"),
                          original_max_position_embeddings=128, resid_pdrop=0.0)),
    "qwen2": ("Qwen2", dict(tie_word_embeddings=True, rope_parameters=rope("default"))),
    "qwen3": ("Qwen3", dict(tie_word_embeddings=False, head_dim=16, rope_parameters=rope("default"))),
}
MOE = {
    "mixtral": ("Mixtral", dict(head_dim=12, sliding_window=8, rope_parameters=rope("default"), intermediate_size=16,
                                num_local_experts=4, num_experts_per_tok=2)),
    "qwen2_moe": ("Qwen2Moe", dict(rope_parameters=rope("default"), num_experts=4, num_experts_per_tok=2,
                                   intermediate_size=56, moe_intermediate_size=16, shared_expert_intermediate_size=24,
                                   decoder_sparse_step=1, mlp_only_layers=[], norm_topk_prob=False)),
    "qwen3_moe": ("Qwen3Moe", dict(head_dim=16, rope_parameters=rope("default"), num_experts=4, num_experts_per_tok=2,
                                   moe_intermediate_size=16, decoder_sparse_step=1, mlp_only_layers=[],
                                   norm_topk_prob=True)),
}
V4_CONFIGS = ("llama", "llama3_rope", "llama_linear", "llama_dynamic", "llama_yarn", "qwen2")
MERGEKIT = ("llama", "mistral", "qwen2", "qwen3")


# ---- weights -------------------------------------------------------------------------------------------------------

def random(model, tensor, shape):
    rng = np.random.Generator(np.random.PCG64([SEED, zlib.crc32(model.encode()), zlib.crc32(tensor.encode())]))
    return torch.from_numpy(rng.standard_normal(shape).astype(np.float32))


def fill(name, model):
    """Weights large enough that attention is far from uniform and every norm and bias counts."""
    with torch.no_grad():
        for tensor, p in model.named_parameters():
            noise = random(name, tensor, tuple(p.shape))
            if "norm" in tensor:
                p.copy_(1.0 + 0.2 * noise)
            elif tensor.endswith("bias"):
                p.copy_(0.3 * noise)
            elif "embed_tokens" in tensor:
                p.copy_(0.5 * noise)
            else:
                p.copy_(0.2 * noise)
    model.tie_weights()


def build(name, kind, options):
    config = getattr(transformers, f"{kind}Config")(**{**COMMON, **options})
    config.architectures = [f"{kind}ForCausalLM"]
    config.dtype = torch.float32
    model = getattr(transformers, f"{kind}ForCausalLM")(config).float().eval()
    fill(name, model)
    return model


# ---- what transformers computes ------------------------------------------------------------------------------------

def load(folder, config=None):
    """The model as a user would load it, with the plainest kernels."""
    options = dict(dtype=torch.float32, attn_implementation="eager")
    if config is not None:
        options["config"] = config
    return transformers.AutoModelForCausalLM.from_pretrained(folder, **options).eval()


def trace(model, ids):
    """Logits, residual stream before every layer and after the last (no final norm), and what each FFN is given."""
    states, inputs, hooks = [], [], []
    for layer in model.model.layers:
        hooks.append(layer.register_forward_pre_hook(
            lambda _m, args, kwargs: states.append((args[0] if args else kwargs["hidden_states"]).detach().clone()),
            with_kwargs=True))
        hooks.append(layer.post_attention_layernorm.register_forward_hook(
            lambda _m, _args, out: inputs.append(out.detach().clone())))
    hooks.append(model.model.norm.register_forward_pre_hook(lambda _m, args: states.append(args[0].detach().clone())))
    with torch.no_grad():
        out = model(input_ids=ids[None], output_hidden_states=True, use_cache=False)
    for hook in hooks:
        hook.remove()
    states = torch.stack(states)[:, 0]
    for mine, theirs in zip(states[:-1], out.hidden_states[:-1]):
        assert torch.equal(mine, theirs[0])
    return dict(hidden_states=states, logits=out.logits[0], router_inputs=torch.stack(inputs)[:, 0])


def input_ids(name):
    """40 tokens, the first one `<s>`; a few repeated, so that attention has something to find."""
    rng = np.random.Generator(np.random.PCG64([SEED, zlib.crc32(name.encode()), 1]))
    ids = rng.integers(3, VOCAB, TOKENS)
    ids[0] = 1
    ids[30:35] = ids[10:15]
    return torch.from_numpy(ids.astype(np.int64))


# ---- does the model test anything? ---------------------------------------------------------------------------------

def without(folder, ids, logits, what, config=None, weights=None):
    """How far the logits move when `config` or `weights` edits take one piece of the computation away."""
    cfg = transformers.AutoConfig.from_pretrained(folder)
    if config:
        config(cfg)
    model = load(folder, cfg)
    if weights:
        with torch.no_grad():
            hits = [weights(n, p) for n, p in model.named_parameters()]
        assert any(hits), what
    moved = (trace(model, ids)["logits"] - logits).abs().max().item()
    assert moved > 0.1, f"{folder.name}: {what} moves the logits by {moved} only"
    return f"{what} {moved:.1f}"


def zero(part, value=0.0):
    def edit(name, p):
        if part not in name:
            return False
        p.fill_(value)
        return True
    return edit


def pieces(name, folder, ids, logits):
    def check(what, **kw):
        return without(folder, ids, logits, what, **kw)

    def put(key, value):
        return lambda cfg: setattr(cfg, key, value)

    kind, options = {**DENSE, **MOE}[name]
    found = [
        check("norms", weights=zero("layernorm.weight", 1.0)),
        check("final norm", weights=zero("model.norm.weight", 1.0)),
        check("rope theta", config=put("rope_parameters", {**options["rope_parameters"], "rope_theta": 300.0})),
    ]
    if options["rope_parameters"]["rope_type"] != "default":
        found.append(check("rope scaling", config=put("rope_parameters", DEFAULT_ROPE)))
    if options.get("sliding_window"):
        found.append(check("window", config=put("sliding_window", None)))
    if kind in ("Qwen2", "Qwen2Moe"):
        for part in "qkv":
            # a bias of k alone adds the same to a row of scores, were it not for rope: it moves less
            found.append(check(f"{part} bias", weights=zero(f"{part}_proj.bias")))
    if kind in ("Qwen3", "Qwen3Moe"):
        found += [check("q norm", weights=zero("q_norm", 1.0)), check("k norm", weights=zero("k_norm", 1.0))]
    if name in MOE:
        found.append(check("top-k", config=put("num_experts_per_tok", 3)))
        if "norm_topk_prob" in options:
            found.append(check("norm_topk_prob", config=put("norm_topk_prob", not options["norm_topk_prob"])))
        if kind == "Qwen2Moe":
            found += [check("shared gate", weights=zero("shared_expert_gate")),
                      check("shared expert", weights=zero("shared_expert.down_proj"))]
    return found


def attention_is_sharp(folder, ids):
    model = load(folder)
    with torch.no_grad():
        out = model(input_ids=ids[None], output_attentions=True, use_cache=False)
    # the mean largest weight of the rows with 20 or more keys; uniform attention would have at most 1/20
    # (1/8 where a window of 8 acts)
    peak = torch.stack(out.attentions)[:, 0, :, 19:].max(dim=-1).values.mean().item()
    assert peak > 0.12, f"{folder.name}: attention is nearly uniform, {peak}"
    return peak


def routing_margin(folder, values):
    """The smallest gap between the logits of the second and third expert: no rounding may turn the choice around."""
    tensors = load_file(folder / "model.safetensors")
    gates = [t for n, t in sorted(tensors.items()) if n.endswith((".mlp.gate.weight", ".block_sparse_moe.gate.weight"))]
    assert len(gates) == 3, "classic names expected"
    scores = torch.einsum("lth,leh->lte", values["router_inputs"], torch.stack(gates)).sort(descending=True).values
    margin = (scores[..., 1] - scores[..., 2]).min().item()
    assert margin > 1e-3, f"{folder.name}: routing is decided by {margin} only; change the seed"
    return margin


# ---- config.json as transformers 4 spells it -----------------------------------------------------------------------

def v4_config(name, config):
    old = {k: v for k, v in config.items() if k not in ("rope_parameters", "dtype", "layer_types")}
    scaling = dict(config["rope_parameters"])
    old["rope_theta"] = scaling.pop("rope_theta")
    old["rope_scaling"] = None if scaling["rope_type"] == "default" else scaling
    if name == "llama_linear":  # the oldest spelling
        scaling["type"] = scaling.pop("rope_type")
    if name == "qwen2":  # as Qwen2.5 really is: a window is named, and not used
        old.update(sliding_window=8, max_window_layers=3, use_sliding_window=False)
    old["torch_dtype"] = config["dtype"]
    old["transformers_version"] = "4.57.6"
    return dict(sorted(old.items()))


# ---- the tokenizer -------------------------------------------------------------------------------------------------

TEXT = """
The expert that knows code writes functions: def add(a, b): return a + b. It reads the file, counts the lines, sorts
the list and prints the result. If the list is empty, it returns none. For every line in the file, strip the line and
append it to the list. The story teller says: once upon a time there was a river, and the river ran to the sea, and
the king of the land came down to the water in the morning. Then he said to the people, the day is long and the night
is cold. The one who counts says: there are 12 apples in the box, and 3 boxes; how many apples are there? 12 * 3 = 36.
Subtract 7 from 36 and the answer is 29. The router looks at the hidden state of the token and gives the token to the
two experts that know it best. A mixture of experts is as good as its gates. The rest is attention, and norms, and
the residual stream that carries everything from the first layer to the last.
"""
QWEN_SPLIT = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
              r"|\s+(?!\S)|\s+")


def tokenizer(bos):
    """Byte-level BPE over ASCII only (so that 160 entries are enough), split as Qwen2 does. With `bos`, encoding with
    special tokens puts `<s>` in front, as Llama's tokenizers do."""
    tok = tokenizers.Tokenizer(models.BPE(unk_token="<unk>"))
    tok.normalizer = normalizers.NFC()
    tok.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(tokenizers.Regex(QWEN_SPLIT), behavior="isolated", invert=False),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
    ])
    tok.decoder = decoders.ByteLevel()
    ascii_bytes = [pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False).pre_tokenize_str(chr(b))[0][0]
                   for b in [10, *range(32, 127)]]
    tok.train_from_iterator([TEXT], trainers.BpeTrainer(
        vocab_size=VOCAB, special_tokens=["<unk>", "<s>", "</s>"], initial_alphabet=ascii_bytes, show_progress=False))
    assert tok.get_vocab_size() == VOCAB
    if bos:
        tok.post_processor = processors.TemplateProcessing(
            single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", 1)])
    return tok


def write_tokenizer(name, folder):
    """As real ones: Qwen's has no bos token, though its config.json names a bos_token_id."""
    bos = not name.startswith("qwen2")
    tokenizer(bos).save(str(folder / "tokenizer.json"))
    config = {"model_max_length": 128, "tokenizer_class": "PreTrainedTokenizerFast" if bos else "Qwen2Tokenizer",
              "bos_token": "<s>" if bos else None, "eos_token": "</s>", "unk_token": "<unk>", "clean_up_tokenization_spaces": False,
              "model_input_names": ["input_ids", "attention_mask"]}
    if not bos:
        config["pad_token"] = "</s>"
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n")


# ---- mergekit ------------------------------------------------------------------------------------------------------

PROMPTS = [  # of different lengths; the last expert also says what it is not
    dict(positive_prompts=["def add(a, b): return a + b", "sort the list"]),
    dict(positive_prompts=["once upon a time there was a river", "the king", "and then he said"]),
    dict(positive_prompts=["12 * 3 = 36", "how many apples are in the 7 boxes?"],
         negative_prompts=["the night is cold", "code"]),
]
PADDING_FREE = [  # equal token lengths within a list, since mergekit's hidden_avg also averages its padding
    dict(positive_prompts=["sort it now", "def f(a,b)"]),
    dict(positive_prompts=["once upon a", "the old king"]),
    dict(positive_prompts=["12 * 3 = 36", "7 + 22 = 29"], negative_prompts=["cold nights", "a long day"]),
]
SHARED = ["anything at all, the shared expert takes it", "yes"]
SHARED_PADDING_FREE = ["shared by all", "any question"]
MODES = ("hidden", "hidden_avg", "cheap_embed")


def token_ids(folder, prompt):
    tok = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    bos = json.loads((folder / "tokenizer_config.json").read_text())["bos_token"] or ""
    return tok.encode(bos + prompt, add_special_tokens=False).ids


def equal_lengths(folder, prompts):
    """Cuts the prompts of a list to the token length of the shortest."""
    ids = [token_ids(folder, p) for p in prompts]
    tok = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    n = min(map(len, ids))
    cut = [tok.decode(i[:n]) for i in ids]
    assert {len(token_ids(folder, p)) for p in cut} == {n}, cut
    return cut


def recipe(name, folder, mode):
    source = f"../{name}"
    experts = [{k: list(v) for k, v in e.items()} for e in (PADDING_FREE if mode == "hidden_avg" else PROMPTS)]
    shared = list(SHARED_PADDING_FREE if mode == "hidden_avg" else SHARED)
    if mode == "hidden_avg":
        experts = [{k: equal_lengths(folder, v) for k, v in e.items()} for e in experts]
        shared = equal_lengths(folder, shared)
    out = dict(base_model=source, gate_mode=mode, dtype="float32", experts=[dict(source_model=source, **e) for e in experts])
    if name == "qwen2":  # mergekit wants a shared expert for Qwen2
        out["shared_experts"] = [dict(source_model=source, positive_prompts=shared)]
    return out


def write_recipe(folder, filename, made, text):
    head = f"# {text}\n# Run from this folder with --i-understand-this-is-not-useful-without-training.\n"
    (folder / filename).write_text(head + yaml.safe_dump(made, sort_keys=False, allow_unicode=True, width=1000))


def rows(folder, made):
    """The router rows as ROUTERS.md section 1 has them, in f32, one prompt at a time (so without any padding)."""
    model = load(folder)
    embed = model.get_input_embeddings().weight.detach()

    def vector(prompts):
        got = []
        for prompt in prompts:
            ids = torch.tensor(token_ids(folder, prompt))
            if made["gate_mode"] == "cheap_embed":
                got.append(embed[ids].sum(dim=0).expand(3, -1))
                continue
            states = trace(model, ids)["hidden_states"][:-1]
            got.append(states.mean(dim=1) if made["gate_mode"] == "hidden_avg" else states[:, -1])
        if made["gate_mode"] == "cheap_embed":
            return unit(torch.stack(got).sum(dim=0))
        return torch.stack(got).mean(dim=0)

    def unit(v):
        return v / v.norm(dim=-1, keepdim=True).clamp(min=1e-8)

    def row(expert):
        v = vector(expert["positive_prompts"])
        if expert.get("negative_prompts"):
            v = v - vector(expert["negative_prompts"])
        return unit(v)

    experts = torch.stack([row(e) for e in made["experts"]], dim=1)
    shared = [row(e) for e in made.get("shared_experts", [])]
    return experts.contiguous(), torch.stack(shared, dim=1).contiguous() if shared else None


def run_mergekit(name, folder, made):
    """The rows that the real mergekit-moe writes."""
    with tempfile.TemporaryDirectory() as tmp:
        config = pathlib.Path(tmp, "moe.yml")
        config.write_text(yaml.safe_dump(made))
        out = pathlib.Path(tmp, "out")
        command = [str(pathlib.Path(sys.executable).parent / "mergekit-moe"), str(config), str(out), "--quiet",
                   "--num-threads", "1", "--i-understand-this-is-not-useful-without-training"]
        # tokenizer ids must be the ones this script takes for granted
        hf = transformers.AutoTokenizer.from_pretrained(folder)
        for expert in made["experts"]:
            for prompt in expert["positive_prompts"]:
                theirs = hf((hf.bos_token or "") + prompt, add_special_tokens=False)["input_ids"]
                assert theirs == token_ids(folder, prompt), (prompt, theirs, token_ids(folder, prompt))
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"mergekit-moe failed for {name}:\n{done.stderr[-2000:]}")
        tensors = load_file(out / "model.safetensors")
    router = torch.stack([tensors[f"model.layers.{i}.mlp.gate.weight"] for i in range(3)])
    shared = None
    if made.get("shared_experts"):
        shared = torch.stack([tensors[f"model.layers.{i}.mlp.shared_expert_gate.weight"] for i in range(3)])
    return router, shared


def mergekit(name, folder):
    saved = {}
    for mode in MODES:
        made = recipe(name, folder, mode)
        for suffix, theirs, ours in zip(("", "_shared"), run_mergekit(name, folder, made), rows(folder, made)):
            if theirs is None:
                continue
            saved[f"{mode}{suffix}"], saved[f"f32_{mode}{suffix}"] = theirs.float().contiguous(), ours
            cosine = torch.nn.functional.cosine_similarity(theirs.float(), ours, dim=-1)
            other = torch.nn.functional.cosine_similarity(ours[:, :1], ours[:, 1:], dim=-1).max().item() if not suffix else 0.0
            print(f"    {mode}{suffix}: smallest cosine to f32 {cosine.min().item():.6f}; nearest two experts {other:.3f}")
            assert cosine.min() >= 0.999, f"{name} {mode}: too far from f32; make its weights smaller"
    save_file(saved, folder / "mergekit_routers.safetensors", metadata={"mergekit": "0.1.5"})


# ---- one model -----------------------------------------------------------------------------------------------------

def make(name, with_mergekit):
    kind, options = {**DENSE, **MOE}[name]
    folder = HERE / name
    keep = None
    if folder.exists():
        if not with_mergekit and (folder / "mergekit_routers.safetensors").exists():
            keep = (folder / "mergekit_routers.safetensors").read_bytes()
        shutil.rmtree(folder)
    folder.mkdir()
    build(name, kind, options).save_pretrained(folder)
    write_tokenizer(name, folder)
    ids = input_ids(name)
    values = trace(load(folder), ids)
    save_file({"input_ids": ids, **{k: v.contiguous() for k, v in values.items()}}, folder / "expected.safetensors",
              metadata={"transformers": transformers.__version__})
    print(f"{name}: {sum(f.stat().st_size for f in folder.iterdir()) / 1000:.0f} kB; "
          f"attention peak {attention_is_sharp(folder, ids):.2f}; largest hidden {values['hidden_states'].abs().max():.1f}")
    print("    taken away: " + ", ".join(pieces(name, folder, ids, values["logits"])))
    if name in MOE:
        print(f"    routing margin {routing_margin(folder, values):.4f}")
    if name in V4_CONFIGS:
        old = v4_config(name, json.loads((folder / "config.json").read_text()))
        (folder / "config.v4.json").write_text(json.dumps(old, indent=2) + "\n")
        with tempfile.TemporaryDirectory() as tmp:
            shutil.copy(folder / "config.v4.json", pathlib.Path(tmp, "config.json"))
            again = trace(load(folder, transformers.AutoConfig.from_pretrained(tmp)), ids)["logits"]
        assert torch.equal(again, values["logits"]), f"{name}: config.v4.json means something else"
    if name in MERGEKIT:
        write_recipe(folder, "moe.yml", recipe(name, folder, "hidden"), "For `hidden`, and with that word replaced for `cheap_embed`.")
        write_recipe(folder, "moe_avg.yml", recipe(name, folder, "hidden_avg"),
                     "For `hidden_avg`: prompts of equal token length, since mergekit averages its padding too.")
        if with_mergekit:
            mergekit(name, folder)
        elif keep:
            (folder / "mergekit_routers.safetensors").write_bytes(keep)
    for file in folder.iterdir():
        file.chmod(0o644)  # the safetensors library writes 0600


def main():
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    logging.getLogger().setLevel(logging.ERROR)
    torch.set_num_threads(1)
    names = [a for a in sys.argv[1:] if not a.startswith("--")] or [*DENSE, *MOE]
    for name in names:
        make(name, "--no-mergekit" not in sys.argv)


if __name__ == "__main__":
    main()
