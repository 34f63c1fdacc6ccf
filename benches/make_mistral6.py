"""Makes the 7B-shaped case for the benches: a base and three experts in Mistral's shapes, but only 6 layers.

    pip install numpy tokenizers
    python benches/make_mistral6.py OUT [TEXT_FILE ...]

OUT gets base, e1, e2, e3: 1.57 B parameters each, random bf16 of scale 0.02 (norm weights around 1), 3.1 GB in two
shards near 2 GB with an index; 12.6 GB together, about three minutes. Four of them make a 9.5 GB MoE. The weights are
real random numbers and not zeros: file systems, page caches and hashes must not get an easier case than life. They
are written as they are drawn, so memory stays below 200 MB; the same OUT gives the same bytes. The tokenizer is a
byte-level BPE trained on the TEXT_FILEs (its own source without any), so that its ids stay below 32000.
"""

import json
import pathlib
import struct
import sys
import zlib

import numpy as np
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

HIDDEN, INTERMEDIATE, LAYERS, HEADS, KV_HEADS, HEAD, VOCAB = 4096, 14336, 6, 32, 8, 128, 32000
SHARD_BYTES = 2_000_000_000
CHUNK = 4 << 20  # elements drawn at a time
CONFIG = {
    "architectures": ["MistralForCausalLM"], "attention_dropout": 0.0, "bos_token_id": 1, "eos_token_id": 2,
    "head_dim": HEAD, "hidden_act": "silu", "hidden_size": HIDDEN, "initializer_range": 0.02,
    "intermediate_size": INTERMEDIATE, "max_position_embeddings": 32768, "model_type": "mistral",
    "num_attention_heads": HEADS, "num_hidden_layers": LAYERS, "num_key_value_heads": KV_HEADS, "rms_norm_eps": 1e-05,
    "rope_theta": 10000.0, "sliding_window": 4096, "tie_word_embeddings": False, "torch_dtype": "bfloat16",
    "transformers_version": "4.57.6", "use_cache": True, "vocab_size": VOCAB,
}


def tensors():
    yield "model.embed_tokens.weight", (VOCAB, HIDDEN)
    for n in range(LAYERS):
        layer = f"model.layers.{n}"
        yield f"{layer}.input_layernorm.weight", (HIDDEN,)
        yield f"{layer}.mlp.down_proj.weight", (HIDDEN, INTERMEDIATE)
        yield f"{layer}.mlp.gate_proj.weight", (INTERMEDIATE, HIDDEN)
        yield f"{layer}.mlp.up_proj.weight", (INTERMEDIATE, HIDDEN)
        yield f"{layer}.post_attention_layernorm.weight", (HIDDEN,)
        yield f"{layer}.self_attn.k_proj.weight", (KV_HEADS * HEAD, HIDDEN)
        yield f"{layer}.self_attn.o_proj.weight", (HIDDEN, HEADS * HEAD)
        yield f"{layer}.self_attn.q_proj.weight", (HEADS * HEAD, HIDDEN)
        yield f"{layer}.self_attn.v_proj.weight", (KV_HEADS * HEAD, HIDDEN)
    yield "model.norm.weight", (HIDDEN,)
    yield "lm_head.weight", (VOCAB, HIDDEN)


def size(shape):
    return 2 * int(np.prod(shape))


def shards():
    """Tensors in order, a new shard before the one that would make it too large."""
    found, filled = [[]], 0
    for name, shape in tensors():
        if found[-1] and filled + size(shape) > SHARD_BYTES:
            found.append([])
            filled = 0
        found[-1].append((name, shape))
        filled += size(shape)
    return found


def draw(file, model, name, shape):
    rng = np.random.Generator(np.random.SFC64([zlib.crc32(model.encode()), zlib.crc32(name.encode())]))
    left = int(np.prod(shape))
    while left:
        x = rng.standard_normal(min(CHUNK, left), dtype=np.float32)
        x *= np.float32(0.02)
        if "norm" in name:
            x += np.float32(1.0)
        bits = x.view("<u4")
        bits += 0x7FFF + ((bits >> 16) & 1)  # to bf16, to the nearest even
        file.write((bits >> 16).astype("<u2"))
        left -= x.size


def write_model(out, model):
    out.mkdir(parents=True, exist_ok=True)
    parts, weight_map, total = shards(), {}, 0
    for i, part in enumerate(parts):
        filename = f"model-{i + 1:05}-of-{len(parts):05}.safetensors"
        header, offset = {"__metadata__": {"format": "pt"}}, 0
        for name, shape in part:
            header[name] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [offset, offset + size(shape)]}
            offset += size(shape)
            weight_map[name] = filename
        text = json.dumps(header, separators=(",", ":")).encode()
        text += b" " * (-len(text) % 8)
        with open(out / filename, "wb") as f:
            f.write(struct.pack("<Q", len(text)) + text)
            for name, shape in part:
                draw(f, model, name, shape)
        total += offset
    index = {"metadata": {"total_size": total}, "weight_map": dict(sorted(weight_map.items()))}
    (out / "model.safetensors.index.json").write_text(json.dumps(index, indent=2) + "\n")
    (out / "config.json").write_text(json.dumps(CONFIG, indent=2) + "\n")
    generation = {"_from_model_config": True, "bos_token_id": 1, "eos_token_id": 2}
    (out / "generation_config.json").write_text(json.dumps(generation, indent=2) + "\n")
    print(f"{out}: {len(weight_map)} tensors, {total} bytes in {len(parts)} shards", flush=True)


def make_tokenizer(files):
    tok = Tokenizer(models.BPE(unk_token="<unk>"))
    tok.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tok.decoder = decoders.ByteLevel()
    tok.train(files, trainers.BpeTrainer(
        vocab_size=VOCAB, special_tokens=["<unk>", "<s>", "</s>"], show_progress=False,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet())))
    tok.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", 1)])
    return tok


def main():
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    out = pathlib.Path(sys.argv[1])
    tok = make_tokenizer(sys.argv[2:] or [__file__])
    config = {"model_max_length": 32768, "tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<s>",
              "eos_token": "</s>", "unk_token": "<unk>", "clean_up_tokenization_spaces": False}
    for model in ("base", "e1", "e2", "e3"):
        write_model(out / model, model)
        tok.save(str(out / model / "tokenizer.json"))
        (out / model / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n")


if __name__ == "__main__":
    main()
