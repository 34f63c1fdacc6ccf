"""Makes golden values of the block types: rows of weights, and the bytes that ggml makes of them.

    python -m venv VENV && VENV/bin/pip install numpy safetensors xllamacpp==2026.10.11549
    VENV/bin/python crates/moerge-core/tests/it/blocks/make.py SMOLLM2.safetensors [LIBRARY]

Nothing here is needed to run the tests: the results are kept beside this script. `rows` has rows of
weights by name, and `importance.LENGTH` for rows of that length; `expected` has `ROW.TYPE` and
`ROW.TYPE.importance`, the bytes of `ggml_quantize_chunk`; `decoded` has `TYPE.bytes`, random blocks, and
`TYPE.weights`, what `dequantize_row_TYPE` makes of them.
"""

import pathlib
import sys

import ggml
import numpy as np
from safetensors.numpy import save_file

HERE = pathlib.Path(__file__).resolve().parent
NAN, INF = np.float32(np.nan), np.float32(np.inf)


def real(model):
    """A row of each kind of matrix of a real model, two as far as they are short."""
    rows = {}
    for name, start in [
        ("model.layers.7.mlp.down_proj.weight", 1536 * 5),
        ("model.embed_tokens.weight", 576 * 1000),
        ("model.layers.20.self_attn.k_proj.weight", 576 * 8),
    ]:
        weights = ggml.tensor(model, name).reshape(-1)
        rows[name.split(".")[-2]] = weights[start : start + 768].copy()
    return rows


def odd():
    """Rows of 256 that are no model's."""
    rng = np.random.default_rng(5)
    normal = rng.normal(size=256).astype(np.float32)
    signs = np.where(rng.random(256) < 0.5, -1, 1).astype(np.float32)

    def with_values(start, *values):
        row = start.copy()
        row[3 : 3 + 37 * len(values) : 37] = values
        return row

    return {
        "zeros": np.zeros(256),
        "zeros_of_both_signs": signs * 0,
        "negative_zero_first": np.where(np.arange(256) % 5 == 0, -0.0, np.abs(normal) * (np.arange(256) % 3)),
        "positive": np.abs(normal) + 0.1,
        "negative": -np.abs(normal) - 0.1,
        "constant": np.full(256, 0.7),
        "negative_constant": np.full(256, -0.7),
        "signs": signs,
        "ramp": np.arange(256) - 100.0,
        "halves": (np.arange(256) % 32 - 16) / 2,
        "one_weight": with_values(np.zeros(256), 0.3),
        "groups_of_zeros": normal * (np.arange(256) // 16 % 3 == 0),
        "groups_of_all_sizes": normal * 10.0 ** (np.arange(256) // 16 - 8),
        "groups_of_tiny_sizes": normal * 10.0 ** (-(np.arange(256) // 16) * 3.0),
        "outlier": with_values(normal * 0.01, 50.0, -40.0),
        "small": normal * 1e-6,
        "near_the_bound_of_zero": normal * 1e-15,
        "tiny": normal * 1e-30,
        "denormal": normal * 1e-40,
        "smallest": signs * 1e-45,
        "large": normal * 1e4,
        "beyond_f16": normal * 1e7,
        "huge": normal * 1e30,
        "largest": signs * 3.4e38,
        "infinite": with_values(normal, INF, -INF),
        "all_infinite": np.full(256, INF),
        "one_nan": with_values(normal, NAN),
        "nan_first": np.concatenate([[NAN], normal[1:]]),
        "nan_last": np.concatenate([normal[:255], [NAN]]),
    }


def random_blocks(block):
    """512 weights of random bytes. No f16 scale or minimum is NaN or infinite: one bit of their exponents is off."""
    _, weights, size = ggml.TYPES[block]
    blocks = np.random.default_rng(7).integers(0, 256, size=(512 // weights, size), dtype=np.uint8)
    numbers = {"q2_K": (80, 82), "q3_K": (108,), "q6_K": (208,), "q4_K": (0, 2), "q5_K": (0, 2), "q4_1": (0, 2), "q5_1": (0, 2)}
    for start in numbers.get(block, (0,)):
        blocks[:, start + 1] &= 0xBF
    return blocks.reshape(-1)


def main():
    library = ggml.Library(*sys.argv[2:])
    rows = real(sys.argv[1]) | {name: row.astype(np.float32) for name, row in odd().items()}
    rng = np.random.default_rng(6)
    importance = {n: np.exp(rng.normal(size=n) * 2).astype(np.float32) for n in (256, 768)}
    importance[256][40:60] = 0
    expected = {}
    for name, row in rows.items():
        for block in ggml.TYPES:
            expected[f"{name}.{block}"] = library.encode(block, row[None], None)[0]
            expected[f"{name}.{block}.importance"] = library.encode(block, row[None], importance[len(row)])[0]
    for n, values in importance.items():
        rows[f"importance.{n}"] = values
    decoded = {f"{block}.bytes": random_blocks(block) for block in ggml.TYPES}
    decoded |= {f"{block}.weights": library.decode(block, decoded[f"{block}.bytes"]) for block in ggml.TYPES}
    save_file(decoded, HERE / "decoded.safetensors")
    save_file(rows, HERE / "rows.safetensors")
    save_file(expected, HERE / "expected.safetensors")


main()
