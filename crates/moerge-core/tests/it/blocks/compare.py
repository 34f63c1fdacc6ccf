"""Compares moerge's block types with ggml's: every matrix of a model byte for byte, or the speed.

    cargo build --release -p moerge-core --example blocks && cargo bench --no-run -p moerge-core --bench blocks
    VENV/bin/python crates/moerge-core/tests/it/blocks/compare.py bytes SMOLLM2.safetensors [EVERY [LIBRARY]]
    VENV/bin/python crates/moerge-core/tests/it/blocks/compare.py speed [LIBRARY]

VENV is that of make.py, with `gguf` for `bytes`. `bytes` prints per type: blocks, those that differ
without and with importance, decoded weights that differ from ggml's and from gguf's. Rows that are
not whole superblocks are taken as rows of 256. EVERY 8 compares an eighth of the rows. `speed` prints
millions of weights per CPU second on one thread.
"""

import pathlib
import subprocess
import sys
import tempfile
import time

import ggml
import numpy as np

ROOT = pathlib.Path(__file__).resolve().parents[5]


def ours(what, block, columns, data, importance=None):
    command = [ROOT / "target/release/examples/blocks", what, block, str(columns)]
    with tempfile.NamedTemporaryFile() as file:
        if importance is not None:
            file.write(importance.tobytes())
            file.flush()
            command.append(file.name)
        return np.frombuffer(subprocess.run(command, input=data.tobytes(), stdout=subprocess.PIPE, check=True).stdout, dtype=np.uint8)


def compare(model, every, library):
    import gguf

    entries, _ = ggml.header(model)
    names = [name for name, entry in entries.items() if len(entry.get("shape", [])) == 2]
    rng = np.random.default_rng(1)
    print(f"{'type':<8} {'blocks':>9} {'differ':>7} {'by importance':>14} {'decoded: ggml':>14} {'gguf':>6}")
    for block, (id, weights, size) in ggml.TYPES.items():
        blocks, differ, by_importance, decoded, python = 0, 0, 0, 0, 0
        for name in names:
            rows = ggml.tensor(model, name)
            if rows.shape[1] % weights:
                rows = rows.reshape(-1, weights)
            rows, columns = rows[::every], rows.shape[1]
            importance = np.exp(rng.normal(size=columns) * 2).astype(np.float32)
            theirs = library.encode(block, rows, None).reshape(-1)
            count = lambda a, b, n: int(np.any(a.reshape(-1, n) != b.reshape(-1, n), axis=1).sum())
            blocks += len(theirs) // size
            differ += count(ours("encode", block, columns, rows), theirs, size)
            important = library.encode(block, rows, importance).reshape(-1)
            by_importance += count(ours("encode", block, columns, rows, importance), important, size)
            wide = ours("decode", block, columns, theirs).view(np.uint32)
            decoded += int((wide != library.decode(block, theirs).view(np.uint32)).sum())
            values = gguf.quants.dequantize(theirs.reshape(-1, size), gguf.GGMLQuantizationType(id))
            python += int((wide.view(np.float32) != values.reshape(-1)).sum())
        print(f"{block:<8} {blocks:>9} {differ:>7} {by_importance:>14} {decoded:>14} {python:>6}", flush=True)


def rate(count, work):
    """Millions of weights per CPU second."""
    start, runs = time.thread_time(), 0
    while runs == 0 or time.thread_time() - start < 0.5:
        work()
        runs += 1
    return runs * count / (time.thread_time() - start) / 1e6


def speed(library):
    bench = max((ROOT / "target/release/deps").glob("blocks-????????????????"), key=lambda path: path.stat().st_mtime)
    lines = subprocess.run([bench], stdout=subprocess.PIPE, check=True, text=True).stdout.splitlines()
    rng = np.random.default_rng(1)
    rows = (rng.normal(size=(256, 4096)) * 0.02).astype(np.float32)
    importance = (rng.random(4096) + 0.01).astype(np.float32)
    print(f"{'type':<8} {'encode':>7} {'ggml':>6} {'ratio':>6}   {'by importance':>14} {'ggml':>6} {'ratio':>6}   {'decode':>7} {'ggml':>6} {'ratio':>6}")
    for line in lines[1:]:
        block, *mine = line.split()
        blocks = library.encode(block, rows, None).reshape(-1)
        work = [lambda: library.encode(block, rows, None), lambda: library.encode(block, rows, importance), lambda: library.decode(block, blocks)]
        pairs = [(float(a), rate(rows.size, b)) for a, b in zip(mine, work)]
        columns = zip(pairs, (7, 14, 7))
        print(f"{block:<8} " + "   ".join(f"{a:>{width}.1f} {b:>6.1f} {a / b:>6.1f}" for (a, b), width in columns), flush=True)


if sys.argv[1] == "bytes":
    compare(sys.argv[2], int((sys.argv[3:] or [1])[0]), ggml.Library(*sys.argv[4:]))
else:
    speed(ggml.Library(*sys.argv[2:]))
