"""What `moerge export` writes, in llama.cpp. Run by hand; see README.md.

    gguf_files.py MOERGE_BINARY [GOLDEN_DIR ...]              f32: log-probabilities equal to transformers'
    gguf_files.py MOERGE_BINARY --converter LLAMA_CPP MODEL   bf16: tensors and metadata equal to the converter's
    gguf_files.py MOERGE_BINARY --types MODEL TEXT            every type loads; mean log-probability of TEXT's tokens

Without a GOLDEN_DIR every golden model is exported. Needs torch, transformers, xllamacpp and gguf. The exit code is 1
if anything differs that is not explained in README.md.
"""

import pathlib
import subprocess
import sys
import tempfile

import torch
import transformers
from gguf import GGUFReader
from llama_cpp import complete, server

GOLDEN = pathlib.Path(__file__).parents[2] / "crates/moerge/tests/golden"
TOLERANCE = 2e-4
# Sliding windows end before this: llama.cpp has none in these architectures, and moerge says so.
TOKENS, WINDOW = 24, 8
# Keys that moerge writes and the converter does not, or writes otherwise.
OWN_KEYS = {"general.name", "moerge.plan_id", "tokenizer.ggml.add_eos_token", "GGUF.kv_count"}
TYPES = "f32 f16 bf16 q8_0 q6_k q5_k_m q5_k_s q5_1 q5_0 q4_k_m q4_k_s q4_1 q4_0 iq4_nl iq4_xs q3_k_l q3_k_m q3_k_s q2_k".split()


def export(moerge, model, out, quant, *more):
    subprocess.run([moerge, "export", str(model), str(out), "--quant", quant, "--force", "--quiet", *more], check=True)


def golden(moerge, models):
    failed = False
    for model in models:
        config = transformers.AutoConfig.from_pretrained(model)
        vocabulary = config.vocab_size
        count = WINDOW if getattr(config, "sliding_window", None) else TOKENS
        count = min(count, config.max_position_embeddings - 1)
        with tempfile.TemporaryDirectory() as folder:
            out = pathlib.Path(folder) / "model.gguf"
            export(moerge, model, out, "f32", "--name", "tiny")
            torch.manual_seed(0)
            ids = [1, *torch.randint(3, vocabulary, (count - 1,)).tolist()]
            reference = transformers.AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32).eval()
            with torch.no_grad():
                expected = torch.log_softmax(reference(torch.tensor([ids])).logits[0].float(), -1)
            theirs = server(out)
            largest = 0.0
            for n in range(1, count + 1):
                for token in complete(theirs, ids[:n], 1, vocabulary)[0]:
                    largest = max(largest, abs(token["logprob"] - expected[n - 1, token["id"]].item()))
        print(f"{model.name:<14} {count} tokens, largest difference {largest:.1e}")
        failed |= largest > TOLERANCE
    return failed


def against_converter(moerge, llama_cpp, model):
    with tempfile.TemporaryDirectory() as folder:
        ours, theirs = pathlib.Path(folder) / "ours.gguf", pathlib.Path(folder) / "theirs.gguf"
        export(moerge, model, ours, "bf16")
        convert = [sys.executable, f"{llama_cpp}/convert_hf_to_gguf.py", "--outtype", "bf16", "--outfile", str(theirs), model]
        subprocess.run(convert, check=True, capture_output=True)
        ours, theirs = GGUFReader(ours), GGUFReader(theirs)
        value = lambda reader: {key: (field.types, field.contents()) for key, field in reader.fields.items()}
        mine, other = value(ours), value(theirs)
        keys = [key for key in {*mine, *other} if mine.get(key) != other.get(key)]
        tensor = lambda t: (t.tensor_type, tuple(t.shape), t.data.tobytes())
        mine, other = ({t.name: tensor(t) for t in reader.tensors} for reader in (ours, theirs))
        tensors = [name for name in {*mine, *other} if mine.get(name) != other.get(name)]
    print(f"{len(mine)} tensors, {len(tensors)} differ: {tensors[:5]}")
    print(f"keys that differ: {sorted(keys)}")
    return bool(tensors) or not set(keys) <= OWN_KEYS


def types(moerge, model, text):
    tokenizer = transformers.AutoTokenizer.from_pretrained(model)
    ids = tokenizer(pathlib.Path(text).read_text()).input_ids[:64]
    for quant in TYPES:
        with tempfile.TemporaryDirectory() as folder:
            out = pathlib.Path(folder) / "model.gguf"
            export(moerge, model, out, quant)
            size, theirs = out.stat().st_size, server(out)
            logprobs = []
            for n in range(1, len(ids)):
                likeliest = complete(theirs, ids[:n], 1, len(tokenizer))[0]
                logprobs.append(next(t["logprob"] for t in likeliest if t["id"] == ids[n]))
            print(f"{quant:<8} {size / 1e6:8.1f} MB, mean log-probability {sum(logprobs) / len(logprobs):.4f}", flush=True)
    return False


def main():
    match sys.argv[1:]:
        case [moerge, "--converter", llama_cpp, model]:
            return against_converter(moerge, llama_cpp, model)
        case [moerge, "--types", model, text]:
            return types(moerge, model, text)
        case [moerge, *models]:
            all_models = sorted(path.parent for path in GOLDEN.glob("*/config.json"))
            return golden(moerge, [pathlib.Path(model) for model in models] or all_models)
        case _:
            sys.exit(__doc__)


if __name__ == "__main__":
    sys.exit(main())
