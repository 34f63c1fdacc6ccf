"""Makes data/ and tasks.json: small data sets with the columns of the Hub's, and what the lm-evaluation-harness finds on
them for examples/tiny, for tests/it/tasks.rs.

    python -m venv VENV && VENV/bin/pip install torch transformers==5.23.* lm-eval==0.4.13 pyarrow
    VENV/bin/python crates/moerge/tests/evaluate/tasks.py

The harness runs its own task files; only `datasets.load_dataset` reads the folder here instead of the Hub. The questions
are ours, so that the files may be kept: sums, opposites and invented people, with what is odd in real data sets (labels
that are numbers, five choices, spaces at the end, rows that occur twice, several correct choices, characters of
several bytes).
"""

import json
import os
import random
import tempfile
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

HERE = Path(__file__).parent
TINY = HERE.parents[3] / "examples/tiny"
MODEL = "base"

PEOPLE = ["Ana", "Bob", "Chloé", "Dan", "Eve", "Finn", "Gül", "Hana", "Ivo", "Jun", "Kim", "Léo"]
THINGS = ["apples", "books", "coins", "drums", "eggs", "flags", "goats", "hats", "inks", "jars", "keys", "lamps"]
OPPOSITES = [("hot", "cold"), ("big", "small"), ("day", "night"), ("up", "down"), ("wet", "dry"), ("old", "new"),
             ("fast", "slow"), ("left", "right"), ("open", "shut"), ("full", "empty"), ("hard", "soft"), ("rich", "poor")]


def rows(count, make, seed):
    """`count` rows; the last repeats the first."""
    r = random.Random(seed)
    made = [make(i, r) for i in range(count - 1)]
    return made + made[:1]


def options(i, r, count=4):
    """A word's opposite among other words, and its place."""
    word, right = OPPOSITES[i % 12]
    choices = [right] + r.sample([b for a, b in OPPOSITES if b != right], count - 1)
    r.shuffle(choices)
    return word, choices, choices.index(right)


def arc(i, r):
    word, choices, place = options(i, r, 5 if i == 3 else 4)
    labels = list("12345" if i % 4 == 1 else "ABCDE")[: len(choices)]
    return dict(id=f"q{i}", question=f"What is the opposite of “{word}”?", choices=dict(text=choices, label=labels),
                answerKey=labels[place])


def openbookqa(i, r):
    row = arc(i, r)
    return dict(id=row["id"], question_stem=f"The opposite of {OPPOSITES[i % 12][0]} is", choices=row["choices"],
                answerKey=" " + row["answerKey"] if i == 2 else row["answerKey"])


def hellaswag(i, r):
    who, what = PEOPLE[i % 12], THINGS[i * 5 % 12]
    endings = [f"{verb} the {what} [substeps] one by one." for verb in ("counts", "paints", "eats", "sells")]
    return dict(ind=i, activity_label="Counting  things", ctx_a=f"[header] How to count {what} [title] {who} sits down.",
                ctx_b=f"then {who}", ctx=f"{who} sits down. then {who}", endings=endings, source_id=f"s{i}", split="val",
                split_type="indomain", label=str(r.randrange(4)))


def winogrande(i, r):
    a, b = PEOPLE[i % 12], PEOPLE[(i + 3) % 12]
    return dict(sentence=f"{a} gave {b} all the {THINGS[i % 12]} because _ wanted them.  ", option1=a, option2=b,
                answer=r.choice("12"))


def boolq(i, r):
    a, b = r.randrange(9), r.randrange(9)
    return dict(question=f"is {a} more than {b}", passage=f"Of {a} and {b}, the larger is {max(a, b)}.", idx=i,
                label=int(a > b))


def piqa(i, r):
    word, choices, place = options(i, r, 2)
    return dict(goal=f"Find the opposite of {word}.", sol1=choices[0], sol2=choices[1], label=place)


def truthfulqa(i, r):
    word, choices, place = options(i, r, 4)
    first = [choices[place]] + [c for j, c in enumerate(choices) if j != place]
    say = [f"The opposite is {c}." for c in first]
    return dict(question=f"What is the opposite of {word}?", mc1_targets=dict(choices=say, labels=[1, 0, 0, 0]),
                mc2_targets=dict(choices=say + [f"It is {first[0]}."], labels=[1, 0, 0, 0, 1]))


def mmlu(i, r):
    a, b = r.randrange(2, 9), r.randrange(2, 9)
    choices = [str(a * b + d) for d in r.sample([0, 1, 2, 3], 4)]
    return dict(question=f" What is {a} times {b}? ", subject="elementary_mathematics", choices=choices,
                answer=choices.index(str(a * b)))


def agieval(i, r):
    word, choices, place = options(i, r)
    lettered = [f"({letter}){choice}" for letter, choice in zip("ABCD", choices)]
    gold = [place, (place + 1) % 4] if i == 4 else [place]
    return dict(query=f"Q: What is the opposite of {word}? Answer Choices: {' '.join(lettered)}\nA: Among A through D, "
                      f"the answer is", choices=lettered, gold=gold)


def bigbench(i, r):
    word, choices, place = options(i, r, (3, 5, 7)[i % 3])
    listed = "".join(f"\n  choice: {choice}" for choice in choices)
    return dict(idx=i, inputs=f"Q: opposite of {word}?{listed}\nA:", targets=[choices[place]],
                multiple_choice_targets=choices, multiple_choice_scores=[int(j == place) for j in range(len(choices))])


def gsm8k(i, r):
    a, b = r.randrange(2, 30), r.randrange(2, 30)
    return dict(question=f"{PEOPLE[i % 12]} has {a} {THINGS[i % 12]} and buys {b}. How many are there now?",
                answer=f"There are {a} + {b} = <<{a}+{b}={a + b}>>{a + b} {THINGS[i % 12]}.\n#### {a + b}")


def lambada(i, r):
    a, b = PEOPLE[i % 12], PEOPLE[(i + 1) % 12]
    return dict(text=f"{a} looked at {b}. “Where are the {THINGS[i % 12]}?” asked {a}, and nobody knew but {b}")


def wikitext(i, r):
    return dict(page=f" \n = The {THINGS[i % 12]} of {PEOPLE[i % 12]} = \n \n It weighs 3 @.@ {i} kg , or so ( about ) the "
                     f"weight of 1 @,@ {i}00 grains ; \" nobody \" knows {PEOPLE[i % 12]} 's well @-@ known reason . " * 6)


def bbh(i, r):
    return dict(input=f"not ( {r.choice(['True', 'False'])} ) is", target=r.choice(["True", "False"]))


def gpqa(i, r):
    word, choices, place = options(i, r)
    wrong = [c for j, c in enumerate(choices) if j != place]
    return {"Question": f" What is the opposite of {word}?", "Correct Answer": f"{choices[place]} [1]",
            **{f"Incorrect Answer {n}": c for n, c in enumerate(wrong, 1)}}


def musr(i, r):
    word, choices, place = options(i, r, 3)
    choices[0] = f"{choices[0]}'s"
    return dict(narrative=f"{PEOPLE[i % 12]} said “{word}”.", question="Which is the opposite?", choices=str(choices),
                answer_index=place, answer_choice=choices[place])


def mmlu_pro(i, r):
    word, choices, place = options(i, r, 7)
    return dict(question_id=i, question=f"What is the opposite of {word}?", options=choices, answer="ABCDEFG"[place],
                answer_index=place, category="other")


def eq_bench(i, r):
    emotions = ["Remorseful", "Indifferent", "Affectionate", "Annoyed"]
    named = {f"emotion{n}": emotion for n, emotion in enumerate(emotions, 1)}
    scores = {f"emotion{n}_score": r.randrange(11) for n in range(1, 5)}
    return dict(prompt=f"{PEOPLE[i % 12]} lost the {THINGS[i % 12]}. Rate: {', '.join(emotions)}.\n\nScores:\n",
                reference_answer_fullscale=str({**named, **scores}))


# (repository, configuration, {split: rows}, file type)
SETS = [
    ("allenai/ai2_arc", "ARC-Easy", dict(train=30, validation=4, test=8), arc, "parquet"),
    ("allenai/ai2_arc", "ARC-Challenge", dict(train=40, validation=4, test=8), arc, "parquet"),
    ("Rowan/hellaswag", "default", dict(train=90, validation=7), hellaswag, "jsonl"),
    ("allenai/openbookqa", "main", dict(train=12, validation=4, test=7), openbookqa, "json"),
    ("allenai/winogrande", "winogrande_xl", dict(train=30, validation=8), winogrande, "jsonl"),
    ("aps/super_glue", "boolq", dict(train=12, validation=8), boolq, "parquet"),
    ("baber/piqa", "default", dict(train=12, validation=8), piqa, "jsonl"),
    ("truthfulqa/truthful_qa", "multiple_choice", dict(validation=6), truthfulqa, "parquet"),
    ("cais/mmlu", "elementary_mathematics", dict(dev=5, test=8), mmlu, "parquet"),
    ("hails/agieval-aqua-rat", "default", dict(test=7), agieval, "jsonl"),
    ("hails/bigbench", "logical_deduction_zero_shot", dict(default=8), bigbench, "jsonl"),
    ("openai/gsm8k", "main", dict(train=30, test=4), gsm8k, "parquet"),
    ("pbevan11/EQ-Bench", "default", dict(validation=4), eq_bench, "jsonl"),
    ("EleutherAI/lambada_openai", "default", dict(test=6), lambada, "jsonl"),
    ("EleutherAI/wikitext_document_level", "wikitext-2-raw-v1", dict(train=2, validation=2, test=3), wikitext, "parquet"),
    ("SaylorTwift/bbh", "boolean_expressions", dict(test=6), bbh, "jsonl"),
    ("Idavidrein/gpqa", "gpqa_diamond", dict(train=7), gpqa, "csv"),
    ("TAUR-Lab/MuSR", "default", dict(murder_mysteries=6, object_placements=3, team_allocation=3), musr, "csv"),
    ("TIGER-Lab/MMLU-Pro", "default", dict(validation=6, test=6), mmlu_pro, "parquet"),
]

# (task, solved examples)
ASKED = [
    ("arc_easy", 0), ("arc_challenge", 25), ("hellaswag", 10), ("openbookqa", 3), ("winogrande", 5), ("boolq", 2),
    ("piqa", 7), ("truthfulqa_mc1", 0), ("truthfulqa_mc2", 0), ("mmlu_elementary_mathematics", 5), ("agieval_aqua_rat", 0),
    ("bigbench_logical_deduction_multiple_choice", 2), ("gsm8k", 5), ("eq_bench", 0), ("lambada_openai", 0), ("wikitext", 0),
    ("leaderboard_bbh_boolean_expressions", 3), ("leaderboard_gpqa_diamond", 0), ("leaderboard_musr_murder_mysteries", 0),
    ("leaderboard_mmlu_pro", 5),
]


def write(path, made, kind):
    import csv

    path.parent.mkdir(parents=True, exist_ok=True)
    if kind == "parquet":
        import pyarrow
        import pyarrow.parquet

        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(made), path)
    elif kind == "json":
        path.write_text(json.dumps(made, ensure_ascii=False, indent=1) + "\n")
    elif kind == "jsonl":
        path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in made))
    else:
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, made[0].keys())
            writer.writeheader()
            writer.writerows(made)


def make_data(folder):
    for repository, config, splits, make, kind in SETS:
        for number, (split, count) in enumerate(splits.items()):
            write(folder / repository / config / f"{split}.{kind}", rows(count, make, 100 * number + count), kind)


def read_from(folder):
    """Makes `datasets.load_dataset` read the folder."""
    import datasets

    kinds = dict(parquet="parquet", jsonl="json", json="json", csv="csv")

    def load_dataset(path, name=None, **_):
        files = sorted((folder / path / (name or "default")).iterdir())
        cache = tempfile.mkdtemp()
        return datasets.DatasetDict({
            file.stem: datasets.Dataset.from_parquet(str(file), cache_dir=cache) if file.suffix == ".parquet"
            else getattr(datasets.Dataset, f"from_{kinds[file.suffix[1:]]}")(str(file), cache_dir=cache)
            for file in files
        })

    datasets.load_dataset = load_dataset


def load(folder, dtype="float32"):
    """A model as the harness runs it, loaded once."""
    from lm_eval.models.huggingface import HFLM

    return HFLM(pretrained=str(folder), dtype=dtype, device="cpu", batch_size=1)


def harness(model, task, shots, limit=None):
    """The harness's metrics and samples of a task."""
    import lm_eval

    found = lm_eval.simple_evaluate(
        model=model, tasks=[task], num_fewshot=shots, limit=limit, log_samples=True, bootstrap_iters=0,
    )
    return found["results"][task], sorted(found["samples"][task], key=lambda sample: sample["doc_id"])


def answers(samples):
    """For each question, its log-likelihoods or its text. A question with several filters is there several times."""
    by_question = {}
    for sample in samples:
        by_question.setdefault(sample["doc_id"], sample["resps"])
    # Those of choices are [[(likelihood, greedy)], ..], of a document [[likelihood]].
    def answer(resps):
        if isinstance(resps[0][0], str):
            return dict(text=resps[0][0])
        pairs = [resp[0] if isinstance(resp[0], (list, tuple)) else (resp[0], False) for resp in resps]
        return dict(scores=[float(likelihood) for likelihood, _ in pairs], greedy=[bool(greedy) for _, greedy in pairs])
    return [answer(by_question[key]) for key in sorted(by_question)]


def metrics(found):
    """`acc` for `acc,none`, `exact_match,strict-match` as it is, without errors."""
    names = {key: key.removesuffix(",none") for key in found if "," in key and "_stderr" not in key}
    return {name: float(found[key]) for key, name in names.items()}


def main():
    data = HERE / "data"
    make_data(data)
    read_from(data)
    cases = []
    model = load(TINY / MODEL)
    for task, shots in ASKED:
        found, samples = harness(model, task, shots)
        cases.append(dict(task=task, shots=shots, metrics=metrics(found), answers=answers(samples)))
        print(task, cases[-1]["metrics"], flush=True)
    (HERE / "tasks.json").write_text(json.dumps(cases, indent=1) + "\n")


if __name__ == "__main__":
    main()
