"""Loads what moerge wrote in transformers (4 or 5) and compares it with the dense model. Run by hand; see README.md.

    check.py DENSE_DIR MOE_DIR [--text TEXT | --text-file FILE]    the MoE is of copies of DENSE: equal logits, in f32
    check.py DENSE_DIR MOE_DIR --loads-only                        no missing, unexpected or misshapen tensors
    check.py DENSE_DIR MOE_DIR --generate TEXT                     what both continue it with, greedily
    check.py --all MOERGE_BINARY [--keep DIR] [NAME ...]           four copies of every golden dense model

Exit code 0: everything agrees; 1: something doesn't; 2: wrong usage.
"""

import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import torch
import transformers
from safetensors.torch import load_file
from tokenizers import Tokenizer

GOLDEN = pathlib.Path(__file__).resolve().parents[2] / "crates" / "moerge" / "tests" / "golden"
TEXT = "The router looks at the hidden state of every token, and gives the token to the two experts that know it best."
FLAG = "--i-understand-this-is-not-useful-without-training"
MAJOR = int(transformers.__version__.split(".")[0])


class Refused(Exception):
    """The model does not load as it should."""


def old_spelling(config):
    """transformers 4 overlooks `rope_parameters`. A dense model saved by transformers 5 gets the old keys for the
    comparison; an MoE gets no such help, since moerge has to write both spellings."""
    rope = dict(getattr(config, "rope_parameters", None) or {})
    if MAJOR < 5 and rope:
        config.rope_theta = rope.pop("rope_theta")
        config.rope_scaling = None if rope.get("rope_type", "default") == "default" else rope
    return config


def load(folder, dense=False):
    options = dict(dtype=torch.float32, attn_implementation="eager", output_loading_info=True)
    if dense:
        options["config"] = old_spelling(transformers.AutoConfig.from_pretrained(folder))
    try:
        model, info = transformers.AutoModelForCausalLM.from_pretrained(folder, **options)
    except (RuntimeError, ValueError, KeyError, OSError) as error:
        raise Refused(f"{folder} does not load: {error}") from error
    wrong = {k: sorted(map(str, v)) for k, v in info.items() if v and k != "error_msgs"}
    if model.config.tie_word_embeddings:  # a tied head is missing from the file, and that is right
        wrong = {k: [t for t in v if not (k == "missing_keys" and t == "lm_head.weight")] for k, v in wrong.items()}
    wrong = {k: v for k, v in wrong.items() if v}
    if wrong:
        lines = [f"  {kind}: {len(names)}: {', '.join(names[:5])}{' ...' if len(names) > 5 else ''}" for kind, names in wrong.items()]
        raise Refused(f"{folder} does not load cleanly\n" + "\n".join(lines))
    return model.eval()


def encode(folder, text):
    """The ids of `text`, with the special tokens that the tokenizer adds by itself."""
    ids = Tokenizer.from_file(str(pathlib.Path(folder, "tokenizer.json"))).encode(text).ids
    return torch.tensor(ids)[None]


def logits(model, ids):
    with torch.no_grad():
        return model(input_ids=ids, use_cache=False).logits[0].float()


def compare(dense, moe, ids):
    """(largest difference of the logits, largest logit, tokens whose favourite differs)"""
    a, b = logits(dense, ids), logits(moe, ids)
    if a.shape != b.shape:
        raise Refused(f"logits of shape {list(b.shape)}, the dense model's are {list(a.shape)}")
    if not torch.isfinite(b).all():
        raise Refused("the MoE's logits are not all finite")
    return (a - b).abs().max().item(), a.abs().max().item(), int((a.argmax(-1) != b.argmax(-1)).sum())


def continuation(model, folder, ids, tokens):
    with torch.no_grad():
        out = model.generate(ids, max_new_tokens=tokens, do_sample=False, attention_mask=torch.ones_like(ids),
                             pad_token_id=model.config.pad_token_id or 0)
    tokenizer = Tokenizer.from_file(str(pathlib.Path(folder, "tokenizer.json")))
    return tokenizer.decode(out[0, ids.shape[1]:].tolist())


def check_pair(args):
    moe = load(args.moe)
    experts = getattr(moe.config, "num_local_experts", None) or getattr(moe.config, "num_experts", None)
    print(f"{args.moe}: {type(moe).__name__}, {experts} experts, {moe.config.num_experts_per_tok} per token; loads cleanly")
    if args.loads_only:
        return True
    dense = load(args.dense, dense=True)
    if args.generate:
        ids = encode(args.dense, args.generate)
        for name, model in (("dense", dense), ("MoE", moe)):
            print(f"--- {name}\n{args.generate}{continuation(model, args.dense, ids, args.tokens)}")
        return True
    text = pathlib.Path(args.text_file).read_text() if args.text_file else args.text
    ids = encode(args.dense, text)[:, : args.tokens]
    if not torch.equal(ids, encode(args.moe, text)[:, : args.tokens]):
        raise Refused("the MoE's tokenizer gives other ids than the dense model's")
    apart, largest, other = compare(dense, moe, ids)
    good = apart <= args.tolerance
    print(f"{ids.shape[1]} tokens: logits differ by {apart:.2e} at most (largest logit {largest:.1f}), "
          f"{other} favourites differ: {'equal' if good else 'DIFFERENT'} at tolerance {args.tolerance:g}")
    return good


def is_dense(folder):
    config = json.loads((folder / "config.json").read_text())
    return not any(k in config for k in ("num_local_experts", "num_experts"))


def copies(binary, dense, work):
    """An MoE of four copies of `dense`, made by moerge."""
    recipe, out = work / f"{dense.name}.yml", work / dense.name
    source = json.dumps(str(dense))
    recipe.write_text(f"base_model: {source}\ngate_mode: random\nexperts:\n" + f"  - source_model: {source}\n" * 4)
    done = subprocess.run([str(binary), "merge", str(recipe), str(out), FLAG], capture_output=True, text=True)
    if done.returncode:
        raise Refused(f"moerge failed ({done.returncode}): {done.stderr.strip() or done.stdout.strip()}")
    return out


def check_all(args):
    folders = sorted(f for f in GOLDEN.iterdir() if (f / "expected.safetensors").exists() and is_dense(f))
    if args.names:
        folders = [f for f in folders if f.name in args.names]
    if not folders:
        sys.exit(f"no golden dense models in {GOLDEN}")
    print(f"transformers {transformers.__version__}, f32, tolerance {args.tolerance:g}")
    print(f"{'dense model':<16}{'becomes':<24}{'greatest difference':>20}{'largest logit':>15}")
    good = True
    with tempfile.TemporaryDirectory() as tmp:
        work = pathlib.Path(args.keep or tmp).resolve()
        work.mkdir(parents=True, exist_ok=True)
        for folder in folders:
            try:
                out = copies(pathlib.Path(args.all).resolve(), folder, work)
                moe, dense = load(out), load(folder, dense=True)
                ids = load_file(folder / "expected.safetensors")["input_ids"][None]
                apart, largest, _ = compare(dense, moe, ids)
                fine = apart <= args.tolerance
                print(f"{folder.name:<16}{type(moe).__name__:<24}{apart:>20.2e}{largest:>15.1f}{'' if fine else '   DIFFERENT'}")
            except Exception as error:  # one family's failure must not hide the others' results
                fine = False
                name = "" if isinstance(error, Refused) else f"{type(error).__name__}: "
                print(f"{folder.name:<16}{name}{error}")
            good &= fine
    print("all equal" if good else "NOT all equal")
    return good


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="DENSE_DIR MOE_DIR | NAME", help="two folders; with --all, golden models")
    parser.add_argument("--all", metavar="MOERGE_BINARY", help="make and check an MoE of copies for every golden dense model")
    parser.add_argument("--keep", metavar="DIR", help="with --all: leave the MoEs here (DIR must hold none of their names)")
    parser.add_argument("--text", default=TEXT, help="what to compare on")
    parser.add_argument("--text-file", metavar="FILE")
    parser.add_argument("--tokens", type=int, default=256, help="compare or generate at most this many (256)")
    parser.add_argument("--tolerance", type=float, default=2e-5, help="greatest difference of logits that counts as equal (2e-5)")
    parser.add_argument("--loads-only", action="store_true", help="only look whether the MoE loads cleanly")
    parser.add_argument("--generate", metavar="TEXT", help="print greedy continuations instead of comparing")
    args = parser.parse_args()
    # warnings stay on: transformers 5 explains a failed load in one
    if hasattr(transformers.logging, "disable_progress_bar"):
        transformers.logging.disable_progress_bar()
    if args.all:
        good = check_all(args)
    else:
        if len(args.names) != 2:
            parser.error("give DENSE_DIR and MOE_DIR, or --all MOERGE_BINARY")
        args.dense, args.moe = args.names
        try:
            good = check_pair(args)
        except Refused as error:
            print(f"error: {error}", file=sys.stderr)
            good = False
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
