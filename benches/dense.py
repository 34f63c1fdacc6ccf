"""Dense merges: every method against the time it takes to read its inputs and write its output, and against mergekit.

    python benches/dense.py MODELS MOERGE [--rounds N] [--methods A,B] [--warm] [--mergekit COMMAND]

MODELS is what benches/make_mistral6.py made. The floor of a method is `cat` of its inputs, once or as often as its
statistics need, and `cp` of one model with `sync`. Each round runs the floor, then moerge, then mergekit-yaml (first
round only). The page cache is dropped before every run (needs root), or filled with --warm. Prints wall seconds, CPU
seconds, peak memory and ratios.
"""

import argparse
import os
import pathlib
import shlex
import shutil
import subprocess
import time

# method: (experts, base among the inputs, reads of the inputs, recipe's parameters, each model's parameters)
METHODS = {
    "linear": (3, False, 1, {}, {"weight": 0.3}),
    "slerp": (1, True, 2, {"t": 0.4}, {}),
    "nuslerp": (2, False, 2, {}, {"weight": 0.5}),
    "multislerp": (3, False, 2, {}, {"weight": 0.3}),
    "karcher": (3, False, 2, {}, {}),
    "task_arithmetic": (3, True, 1, {}, {"weight": 0.3}),
    "ties": (3, True, 2, {}, {"weight": 0.3, "density": 0.5}),
    "dare_linear": (3, True, 2, {}, {"weight": 0.3, "density": 0.5}),
    "dare_ties": (3, True, 2, {}, {"weight": 0.3, "density": 0.5}),
    "breadcrumbs": (3, True, 2, {}, {"weight": 0.3, "density": 0.5, "gamma": 0.01}),
    "breadcrumbs_ties": (3, True, 2, {}, {"weight": 0.3, "density": 0.5, "gamma": 0.01}),
    "della": (3, True, 2, {}, {"weight": 0.3, "density": 0.5, "epsilon": 0.15}),
    "della_linear": (3, True, 2, {}, {"weight": 0.3, "density": 0.5, "epsilon": 0.15}),
    "sce": (3, True, 2, {"select_topk": 0.5}, {}),
    "ram": (3, True, 1, {}, {}),
    "ramplus_tl": (3, True, 2, {}, {}),
    "model_stock": (3, True, 2, {}, {}),
    "nearswap": (1, True, 1, {"t": 0.01}, {}),
    "arcee_fusion": (1, True, 2, {}, {}),
    "passthrough": (1, False, 1, {"scale": 0.9}, {}),
}


def recipe(models: pathlib.Path, method: str) -> tuple[str, list[pathlib.Path], int]:
    """The recipe, its inputs, and how often they are read."""
    count, with_base, reads, of_all, of_each = METHODS[method]
    experts = [models / f"e{n + 1}" for n in range(count)]
    lines = [f"merge_method: {method}", "dtype: bfloat16"]
    lines += [f"base_model: {models / 'base'}"] * with_base
    lines += ["parameters:", *(f"  {key}: {value}" for key, value in of_all.items())] if of_all else []
    lines += ["models:"]
    for expert in experts:
        lines += [f"  - model: {expert}"]
        lines += ["    parameters:", *(f"      {key}: {value}" for key, value in of_each.items())] if of_each else []
    return "\n".join(lines) + "\n", experts + [models / "base"] * with_base, reads


def timed(command: str | list[str]) -> tuple[float, float, int]:
    """Wall seconds, CPU seconds, and peak MiB."""
    begin = time.monotonic()
    shell = isinstance(command, str)
    child = subprocess.Popen(command, shell=shell, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = status
    assert status == 0, f"{command} failed"
    return time.monotonic() - begin, usage.ru_utime + usage.ru_stime, usage.ru_maxrss // 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", type=lambda path: pathlib.Path(path).resolve())
    parser.add_argument("moerge")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--methods", default=",".join(METHODS))
    parser.add_argument("--warm", action="store_true")
    parser.add_argument("--mergekit", type=shlex.split)
    options = parser.parse_args()
    work = options.models / "bench"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir()

    def prepare(inputs: list[pathlib.Path]) -> None:
        os.sync()
        if options.warm:
            for path in inputs:
                subprocess.run(f"cat {path}/*.safetensors > /dev/null", shell=True, check=True)
        else:
            pathlib.Path("/proc/sys/vm/drop_caches").write_text("3")

    def run(command: str | list[str], inputs: list[pathlib.Path]) -> tuple[float, float, int]:
        prepare(inputs)
        result = timed(command)
        shutil.rmtree(work / "out", ignore_errors=True)
        return result

    print(f"{'method':<17} {'reads':>5} {'floor s':>8} {'moerge s':>9} {'CPU s':>6} {'MiB':>5} {'to floor':>9}", flush=True)
    for method in options.methods.split(","):
        text, inputs, reads = recipe(options.models, method)
        (work / "recipe.yml").write_text(text)
        others = " ".join(f"{path}/*.safetensors" for path in inputs[1:] + inputs * (reads - 1))
        floor_command = f"cat {others} /dev/null > /dev/null; cp -r {inputs[0]} {work}/out && sync {work}/out/*"
        for round in range(options.rounds):
            floor, _, _ = run(floor_command, inputs)
            wall, cpu, peak = run([options.moerge, "merge", "-q", str(work / "recipe.yml"), str(work / "out")], inputs)
            print(f"{method:<17} {reads:>5} {floor:>8.1f} {wall:>9.1f} {cpu:>6.1f} {peak:>5} {wall / floor:>9.2f}", flush=True)
            if options.mergekit and round == 0:
                theirs, cpu, peak = run(options.mergekit + [str(work / "recipe.yml"), str(work / "out")], inputs)
                print(f"  mergekit-yaml: {theirs:.1f} s, {cpu:.1f} s of CPU, {peak} MiB, {theirs / wall:.1f} times moerge's", flush=True)
    shutil.rmtree(work)


if __name__ == "__main__":
    main()
