"""What `--part` costs on one machine: one run, against 2 and 4 parts one after the other and `--finish`.

    python benches/parts.py MODELS MOERGE_BINARY [--rounds 5] [--recipe RECIPE] [--cold]

MODELS is made by make_mistral6.py. The runs take turns, in an order that moves on with every round. Prints for each the
median of the wall and the CPU seconds, and the median and the extremes of the ratios to the single run of the same round.
With --cold the page cache is dropped before each run (needs root).
"""

import argparse
import os
import pathlib
import shutil
import statistics
import subprocess
import tempfile
import time

RECIPE = """base_model: base
gate_mode: random
dtype: bfloat16
experts:
  - source_model: base
  - source_model: e1
  - source_model: e2
  - source_model: e3
"""


def measured(args, recipe, out, parts):
    """(wall, CPU) seconds of all commands together."""
    command = [args.moerge, "merge", recipe, out, "--quiet", "--out-shard-size", "500MB"]
    steps = [[]] if parts == 1 else [["--part", f"{part}/{parts}"] for part in range(1, parts + 1)] + [["--finish"]]
    subprocess.run(["sync"], check=True)
    if args.cold:
        pathlib.Path("/proc/sys/vm/drop_caches").write_text("3")
    wall, before = time.monotonic(), os.times()
    for step in steps:
        subprocess.run([*command, *step], check=True)
    wall, after = time.monotonic() - wall, os.times()
    shutil.rmtree(out)
    return wall, after.children_user + after.children_system - before.children_user - before.children_system


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", type=pathlib.Path)
    parser.add_argument("moerge", type=lambda path: pathlib.Path(path).resolve())
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--recipe", type=pathlib.Path, help="with models by their names in MODELS")
    parser.add_argument("--cold", action="store_true")
    args = parser.parse_args()
    counts, results = [1, 2, 4], {1: [], 2: [], 4: []}
    with tempfile.TemporaryDirectory(dir=args.models) as folder:
        work = pathlib.Path(folder).resolve()
        recipe, out = work / "moe.yml", work / "out"
        text = args.recipe.read_text() if args.recipe else RECIPE
        recipe.write_text(text.replace("_model: ", f"_model: {args.models.resolve()}/"))
        for round_number in range(args.rounds):
            turn = round_number % len(counts)
            for parts in counts[turn:] + counts[:turn]:
                results[parts].append(measured(args, recipe, out, parts))
    for parts, runs in results.items():
        cells = []
        for column, name in enumerate(["wall", "CPU"]):
            ratios = [run[column] / single[column] for run, single in zip(runs, results[1])]
            seconds = statistics.median(run[column] for run in runs)
            cells.append(f"{name} {seconds:6.2f} s, {statistics.median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f})")
        print(f"{parts} part{'s' if parts > 1 else ' '}: {'; '.join(cells)}")


main()
