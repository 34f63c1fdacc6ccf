"""Tokens per second, of the prompt and of the answer: moerge, llama.cpp and transformers on the same model, in turns.

    generate.py MOERGE_BINARY MODEL_DIR LLAMA_CPP [--work DIR] [--quant TYPE ...] [--rounds N]

LLAMA_CPP is a folder of llama.cpp's sources, for its converter; the program itself is xllamacpp from PyPI. Everybody
computes on as many threads as there are cores, reads the same tokens and writes as many. One of the competitors runs
after the other, round after round, and medians are compared.

On a machine that is not quiet, llama.cpp's threads wait for each other most of the time: `--cpu-time` compares what one
thread of each needs in seconds of the processor instead.

llama.cpp's q4_k is Q4_K_S. Where a matrix's rows are no multiple of 256 (SmolLM2's hidden size is 576), it takes q5_0 for
it, moerge q8_0.
"""

import argparse
import ctypes
import os
import pathlib
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import time

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import gguf
import numpy
import torch
import transformers
import xllamacpp
from tokenizers import Tokenizer

TEXT = """The river came down from the hills in spring, brown and loud, and carried with it whole trees and the doors of
barns. The people of the village knew its ways: they moved the cattle up before the first rain and tied the boats to the
church wall. In summer it was a thread of clear water between white stones, and the children walked across it to school.
Nobody thought of building a bridge. """
QUANTISATIONS = ["f32", "bf16", "q8_0", "q4_k"]


def gguf_of(args, quantisation):
    """A GGUF of the model, made once."""
    path = args.work / f"{args.model.resolve().name}-{quantisation}.gguf"
    if path.exists():
        return path
    if quantisation == "q4_k":
        quantise(gguf_of(args, "f32"), path)
    else:
        command = [sys.executable, args.llama_cpp / "convert_hf_to_gguf.py", "--outtype", quantisation, "--outfile", path]
        subprocess.run([*command, args.model], check=True, capture_output=True)
    return path


def quantise(source, target):
    """What llama-quantize does for Q4_K_S, its finer choices aside: xllamacpp holds the functions, but not the program."""
    ggml = ctypes.CDLL(xllamacpp.xllamacpp.__file__)
    ggml.ggml_quantize_chunk.restype = ctypes.c_size_t
    ggml.ggml_quantize_chunk.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, *[ctypes.c_int64] * 3, ctypes.c_void_p]
    reader = gguf.GGUFReader(source)
    writer = gguf.GGUFWriter(target, reader.fields["general.architecture"].contents())
    for name, field in reader.fields.items():
        if name != "general.architecture" and not name.startswith("GGUF."):
            inner = field.types[-1] if field.types[0] == gguf.GGUFValueType.ARRAY else None
            writer.add_key_value(name, field.contents(), field.types[0], sub_type=inner)
    kinds = gguf.GGMLQuantizationType
    for tensor in reader.tensors:
        values = numpy.ascontiguousarray(tensor.data, dtype=numpy.float32)
        columns = values.shape[-1]
        if values.ndim < 2 or "ffn_gate_inp" in tensor.name:
            writer.add_tensor(tensor.name, values)
            continue
        if tensor.name in ("token_embd.weight", "output.weight"):
            kind = kinds.Q6_K if columns % 256 == 0 else kinds.Q8_0
        else:
            kind = kinds.Q4_K if columns % 256 == 0 else kinds.Q5_0
        block, size = gguf.GGML_QUANT_SIZES[kind]
        out = numpy.empty((*values.shape[:-1], columns // block * size), dtype=numpy.uint8)
        ggml.ggml_quantize_chunk(kind, values.ctypes.data, out.ctypes.data, 0, values.size // columns, columns, None)
        writer.add_tensor(tensor.name, out, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def children():
    """Seconds of the processor that finished children took."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def moerge(args, ids, text, quantisation):
    command = [args.moerge, "generate", args.model, "-p", text, "--quant", quantisation, "-j", args.threads, "--temperature", 0]

    def written(tokens, text=text):
        command[4] = text
        before = children()
        done = subprocess.run([*map(str, command), "-n", str(tokens)], capture_output=True, text=True, check=True)
        found = re.search(r"(\d+) tokens read at ([\d.]+) tokens/s, (\d+) written at ([\d.]+) tokens/s", done.stderr)
        assert int(found[3]) == tokens, done.stderr
        return float(found[2]), float(found[4]), children() - before

    def run():
        read, write, whole = written(args.tokens)
        if not args.cpu_time:
            return read, write
        first = written(1)[2]
        loading = written(1, "The")[2]
        return len(ids) / (first - loading), (args.tokens - 1) / (whole - first)

    return run


def llama_cpp(args, ids, _, quantisation):
    params = xllamacpp.CommonParams()
    params.model.path = str(gguf_of(args, quantisation))
    params.n_ctx, params.n_parallel, params.n_gpu_layers = len(ids) + args.tokens + 8, 1, 0
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = args.threads
    params.cache_prompt, params.fit_params, params.verbosity = False, False, 0
    server = xllamacpp.Server(params)
    request = dict(prompt=ids, temperature=0, cache_prompt=False, ignore_eos=True, timings_per_token=True)

    def written(tokens):
        before = time.process_time()
        timings = server.handle_completions(dict(request, n_predict=tokens))["timings"]
        assert (timings["prompt_n"], timings["predicted_n"]) == (len(ids), tokens), timings
        return timings["prompt_per_second"], timings["predicted_per_second"], time.process_time() - before

    def run():
        read, write, whole = written(args.tokens)
        if not args.cpu_time:
            return read, write
        first = written(1)[2]
        return len(ids) / first, (args.tokens - 1) / (whole - first)

    return run


def with_transformers(args, ids, _, quantisation):
    dtype = {"f32": torch.float32, "bf16": torch.bfloat16}.get(quantisation)
    if dtype is None:
        return None
    model = transformers.AutoModelForCausalLM.from_pretrained(args.model, dtype=dtype).eval()
    prompt = torch.tensor([ids])
    clock = time.process_time if args.cpu_time else time.perf_counter

    def timed(tokens):
        start = clock()
        with torch.no_grad():
            model.generate(prompt, max_new_tokens=tokens, min_new_tokens=tokens, do_sample=False, pad_token_id=0,
                           attention_mask=torch.ones_like(prompt))
        return clock() - start

    def run():
        first = timed(1)
        return len(ids) / first, (args.tokens - 1) / (timed(args.tokens) - first)

    return run


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("moerge", metavar="MOERGE_BINARY", type=pathlib.Path)
    parser.add_argument("model", metavar="MODEL_DIR", type=pathlib.Path)
    parser.add_argument("llama_cpp", metavar="LLAMA_CPP", type=pathlib.Path)
    parser.add_argument("--work", type=pathlib.Path, help="where GGUFs are kept from run to run")
    parser.add_argument("--quant", nargs="+", choices=QUANTISATIONS, default=QUANTISATIONS)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--prompt-tokens", type=int, default=256)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--without", nargs="+", choices=["transformers", "llama.cpp"], default=[])
    parser.add_argument("--cpu-time", action="store_true", help="seconds of one thread on the processor, for a busy machine")
    args = parser.parse_args()
    args.threads = 1 if args.cpu_time else os.cpu_count()
    torch.set_num_threads(args.threads)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    temporary = tempfile.TemporaryDirectory()
    args.work = args.work or pathlib.Path(temporary.name)

    # As many whole words as fit, so that the text becomes these tokens again.
    tokenizer = Tokenizer.from_file(str(args.model / "tokenizer.json"))
    words = (TEXT * 50).split()
    count = next(n for n in range(args.prompt_tokens, 0, -1) if len(tokenizer.encode(" ".join(words[:n])).ids) <= args.prompt_tokens)
    text = " ".join(words[:count])
    ids = tokenizer.encode(text).ids

    makers = {"moerge": moerge, "llama.cpp": llama_cpp, "transformers": with_transformers}
    print(f"{args.model}: {len(ids)} tokens read, {args.tokens} written, {args.threads} threads, {args.rounds} rounds")
    for quantisation in args.quant:
        runs = {name: make(args, ids, text, quantisation) for name, make in makers.items() if name not in args.without}
        runs = {name: run for name, run in runs.items() if run}
        rates = {name: [] for name in runs}
        for round in range(args.rounds + 1):
            for name, run in runs.items():
                rate = run()
                if round:  # the first one warms up
                    rates[name].append(rate)
        medians = {name: [statistics.median(rate) for rate in zip(*found)] for name, found in rates.items()}
        for name, (read, written) in medians.items():
            beside = [rate / ours for rate, ours in zip((read, written), medians["moerge"])]
            print(f"{quantisation:<6}{name:<14} read {read:8.1f}/s  written {written:7.1f}/s"
                  f"   of moerge's {beside[0]:.2f} {beside[1]:.2f}   load {os.getloadavg()[0]:.1f}", flush=True)


if __name__ == "__main__":
    main()
