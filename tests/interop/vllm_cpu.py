"""Loads what moerge wrote in vLLM, and compares it with transformers. Run by hand; see README.md.

    vllm_cpu.py MOE_DIR [--text TEXT]                       one MoE
    vllm_cpu.py --all MOERGE_BINARY --tokenizer DIR         a small random MoE of every family, a process each

Compared are the log-probabilities of the likeliest tokens at every place of the text, f32 against f32, and what vLLM
continues it with is printed. Exit code 0: everything agrees; 1: something doesn't; 2: wrong usage.
"""

import argparse
import os
import pathlib
import subprocess
import sys
import tempfile

os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")
os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")

from check import TEXT, Refused, encode, load

LIKELIEST = 20


def compare(folder, text, tokens):
    """(largest difference of log-probabilities, places, continuation)"""
    from vllm import LLM, SamplingParams

    expected = load(folder)
    ids = encode(folder, text)
    expected = expected(input_ids=ids, use_cache=False).logits[0].detach().float().log_softmax(-1)
    model = LLM(model=str(folder), dtype="float32", enforce_eager=True, max_model_len=256, max_num_seqs=2,
                enable_prefix_caching=False)
    sampling = SamplingParams(temperature=0, max_tokens=tokens, prompt_logprobs=LIKELIEST)
    [answer] = model.generate([{"prompt_token_ids": ids[0].tolist()}], sampling, use_tqdm=False)
    apart = 0.0
    for place, likeliest in enumerate(answer.prompt_logprobs[1:]):
        if len(likeliest) < LIKELIEST:
            raise Refused(f"vLLM gave {len(likeliest)} probabilities instead of {LIKELIEST}")
        for token, theirs in likeliest.items():
            apart = max(apart, abs(theirs.logprob - expected[place, token].item()))
    return apart, ids.shape[1] - 1, answer.outputs[0].text


def one(args):
    try:
        apart, places, continuation = compare(args.moe, args.text, args.tokens)
    except Refused as error:
        print(f"{args.name:<10}{error}")
        return False
    good = apart <= args.tolerance
    print(f"{args.name:<10}{LIKELIEST} likeliest tokens at {places} places: log-probabilities differ by {apart:.1e} at most"
          f"{'' if good else '   DIFFERENT'}; goes on with {continuation!r}", flush=True)
    return good


def all_families(args):
    from families import FAMILIES, make_moe

    good = True
    for name in FAMILIES:
        with tempfile.TemporaryDirectory() as tmp:
            try:
                moe = make_moe(args.all, name, args.tokenizer, pathlib.Path(tmp))
            except Refused as error:
                print(f"{name:<10}{error}")
                good = False
                continue
            command = [sys.executable, __file__, str(moe), "--name", name, "--tolerance", str(args.tolerance)]
            good &= subprocess.run(command).returncode == 0
    return good


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("moe", nargs="?", type=pathlib.Path, metavar="MOE_DIR")
    parser.add_argument("--all", type=pathlib.Path, metavar="MOERGE_BINARY", help="make and check an MoE of every family")
    parser.add_argument("--tokenizer", metavar="DIR", help="with --all: a folder with a tokenizer")
    parser.add_argument("--name", help="what to call the MoE in the output")
    parser.add_argument("--text", default=TEXT)
    parser.add_argument("--tokens", type=int, default=12, help="length of the greedy continuation (12)")
    parser.add_argument("--tolerance", type=float, default=2e-3, help="of log-probabilities (2e-3)")
    args = parser.parse_args()
    if (args.all is None) == (args.moe is None) or (args.all and not args.tokenizer):
        parser.error("give MOE_DIR, or --all MOERGE_BINARY --tokenizer DIR")
    if args.all:
        good = all_families(args)
        print("all equal" if good else "NOT all equal")
    else:
        args.name = args.name or args.moe.name
        good = one(args)
    sys.exit(0 if good else 1)


# vLLM may start processes of its own, which read this file again
if __name__ == "__main__":
    main()
