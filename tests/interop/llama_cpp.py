"""Converts what moerge wrote with llama.cpp's own converter, runs it there, and compares it with transformers. Run by
hand; see README.md.

    llama_cpp.py LLAMA_CPP MOE_DIR [--text TEXT]                     one MoE
    llama_cpp.py LLAMA_CPP --all MOERGE_BINARY --tokenizer DIR       a small random MoE of every family

LLAMA_CPP is a folder of llama.cpp's sources with `convert_hf_to_gguf.py`. The converter knows tokenizers by name and
refuses all others, so the random models borrow the one in DIR, which must be one it knows (SmolLM2's, for instance).

Compared are the log-probabilities of the likeliest next tokens after several prefixes of the text, f32 against f32, and
what both continue it with, greedily.
Exit code 0: everything agrees; 1: something doesn't; 2: wrong usage.
"""

import argparse
import pathlib
import subprocess
import sys
import tempfile

import torch
import transformers
import xllamacpp
from check import TEXT, Refused, encode, load
from families import FAMILIES, make_moe

TOLERANCE = 2e-3
LIKELIEST = 20

def convert(llama_cpp, folder, gguf):
    """Writes `gguf` with llama.cpp's converter."""
    command = [sys.executable, str(llama_cpp / "convert_hf_to_gguf.py"), "--outtype", "f32", "--outfile", str(gguf), str(folder)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise Refused(f"convert_hf_to_gguf.py refuses {folder}: {done.stderr.strip().splitlines()[-1]}")


def server(gguf):
    """llama.cpp with this model, in f32 throughout."""
    params = xllamacpp.CommonParams()
    params.model.path = str(gguf)
    params.n_ctx, params.n_parallel, params.n_gpu_layers = 256, 1, 0
    params.cache_type_k = params.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
    params.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
    params.cache_prompt, params.fit_params, params.verbosity = False, False, 0
    return xllamacpp.Server(params)


def complete(model, ids, tokens, likeliest=1):
    """For each of `tokens` tokens after `ids`, chosen greedily, the likeliest ones: {"id", "logprob"}."""
    request = dict(prompt=ids, n_predict=tokens, temperature=0, n_probs=likeliest, cache_prompt=False)
    answer = model.handle_completions(request)
    if "error" in answer:
        raise Refused(f"llama.cpp: {answer['error']}")
    return [chosen["top_logprobs"] for chosen in answer["choices"][0]["logprobs"]["content"]]


def compare(folder, gguf, text, tokens):
    """(largest difference of log-probabilities, prefixes, both greedy continuations)"""
    theirs = server(gguf)
    ours = load(folder)
    ids = encode(folder, text)[0].tolist()
    with torch.no_grad():
        expected = ours(input_ids=torch.tensor([ids]), use_cache=False).logits[0].float().log_softmax(-1)
    apart, prefixes = 0.0, range(1, len(ids) + 1, max(1, len(ids) // 8))
    for length in prefixes:
        [likeliest] = complete(theirs, ids[:length], 1, LIKELIEST)
        if len(likeliest) != LIKELIEST:
            raise Refused(f"llama.cpp gave {len(likeliest)} probabilities instead of {LIKELIEST}")
        for token in likeliest:
            apart = max(apart, abs(token["logprob"] - expected[length - 1, token["id"]].item()))
    with torch.no_grad():
        prompt = torch.tensor([ids])
        out = ours.generate(prompt, max_new_tokens=tokens, do_sample=False, attention_mask=torch.ones_like(prompt),
                            pad_token_id=0)[0, len(ids):].tolist()
    return apart, len(prefixes), out, [best[0]["id"] for best in complete(theirs, ids, tokens)], type(ours).__name__


def check(args, name, folder, gguf):
    convert(args.llama_cpp, folder, gguf)
    apart, prefixes, ours, theirs, kind = compare(folder, gguf, args.text, args.tokens)
    good = apart <= args.tolerance
    rest = iter(ours)  # the server tells no token that ends within a character, and none that ends the text
    same = "the same" if all(token in rest for token in theirs) else "ANOTHER"
    print(f"{name:<10}{kind:<22} {LIKELIEST} likeliest tokens after {prefixes} prefixes: log-probabilities differ by "
          f"{apart:.1e} at most; {same} greedy continuation{'' if good else '   DIFFERENT'}")
    if args.show:
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
        print(f"--- transformers\n{args.text}{tokenizer.decode(ours)}\n--- llama.cpp\n{args.text}{tokenizer.decode(theirs)}")
    return good


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("llama_cpp", type=pathlib.Path, metavar="LLAMA_CPP", help="llama.cpp's sources")
    parser.add_argument("moe", nargs="?", type=pathlib.Path, metavar="MOE_DIR")
    parser.add_argument("--all", type=pathlib.Path, metavar="MOERGE_BINARY", help="make and check an MoE of every family")
    parser.add_argument("--tokenizer", metavar="DIR", help="with --all: a folder with a tokenizer that the converter knows")
    parser.add_argument("--text", default=TEXT)
    parser.add_argument("--tokens", type=int, default=24, help="length of the greedy continuation (24)")
    parser.add_argument("--show", action="store_true", help="print both continuations")
    parser.add_argument("--tolerance", type=float, default=TOLERANCE, help=f"of log-probabilities ({TOLERANCE:g})")
    args = parser.parse_args()
    if (args.all is None) == (args.moe is None) or (args.all and not args.tokenizer):
        parser.error("give MOE_DIR, or --all MOERGE_BINARY --tokenizer DIR")
    good = True
    for name in [args.moe.name] if args.moe else FAMILIES:
        with tempfile.TemporaryDirectory() as tmp:
            work = pathlib.Path(tmp)
            try:
                if args.moe:
                    good &= check(args, name, args.moe, work / "out.gguf")
                else:
                    good &= check(args, name, make_moe(args.all, name, args.tokenizer, work), work / "out.gguf")
            except Refused as error:  # one family's failure must not hide the others' results
                print(f"{name:<10}{error}")
                good = False
    print("all equal" if good else "NOT all equal")
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
