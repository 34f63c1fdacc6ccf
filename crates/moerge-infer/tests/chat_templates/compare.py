"""Renders every template of a folder with transformers and with moerge, and prints what differs.

    cargo build -p moerge --example render_chat_templates
    python compare.py FOLDER_OF_JINJA_FILES ../../../../target/debug/examples/render_chat_templates

The llama-cpp-python sdist has some 70 templates of well-known models in vendor/llama.cpp/models/templates.
"""

import itertools
import json
import pathlib
import subprocess
import sys

from transformers.utils.chat_template_utils import (
    _normalize_chat_messages,
    render_jinja_template,
)

TOKENS = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "weather",
            "description": "The weather at a place, < 3 days & 'exact'",
            "parameters": {
                "type": "object",
                "properties": {
                    "place": {"type": "string", "description": "City, e.g. Zürich", "enum": ["a", "b"]},
                    "days": {"type": "integer", "default": 1, "minimum": 0.5, "items": {"type": ["string", "null"]}},
                },
                "required": ["place"],
            },
        },
    }
]
U, A, S = "user", "assistant", "system"
CALL = {"type": "function", "id": "abc123def", "function": {"name": "weather", "arguments": {"place": "Zürich", "days": 2}}}
PLAIN = [
    [(U, "Hello & <you>, it's 5 > 3")],
    [(S, "You answer in one sentence."), (U, "Hi")],
    [(U, "Hi"), (A, "Hello!"), (U, "  What is\n\na monad?  ")],
    [(S, "Be\nbrief."), (U, "Hi"), (A, "<think>\nhm\n</think>\n\nHello!"), (U, "Why? \"quoted\" 'single' \\ 日本"), (A, "Because."), (U, "Bye")],
    [(U, "Hi"), (U, "again")],
    [(U, "Hi"), (A, "Ho")],
    [(S, ""), (U, "")],
]


def conversations():
    for turns in PLAIN:
        yield [{"role": role, "content": content} for role, content in turns], None, None
    yield [{"role": U, "content": "Weather?"}], TOOLS, None
    yield [{"role": S, "content": "Use tools."}, {"role": U, "content": "Weather?"}], TOOLS, None
    called = [{"role": U, "content": "Weather?"}, {"role": A, "content": "", "tool_calls": [CALL]}]
    answer = {"role": "tool", "content": '{"sun": true}', "name": "weather", "tool_call_id": "abc123def"}
    yield called + [answer], TOOLS, None
    yield called + [answer, {"role": A, "content": "Sun."}, {"role": U, "content": "Thanks"}], TOOLS, None
    yield [{"role": U, "content": "Hi"}, {"role": A, "content": "Ho", "reasoning_content": "hm"}, {"role": U, "content": "?"}], None, None
    yield [{"role": U, "content": [{"type": "text", "text": "Hi"}, {"type": "text", "text": "you"}]}], None, None
    yield [{"role": U, "content": "Hi"}], None, [{"title": "T", "text": "Some text"}]


def reference(case):
    messages = _normalize_chat_messages(case["messages"])
    rendered, _ = render_jinja_template(
        conversations=[messages],
        tools=case["tools"],
        documents=case["documents"],
        chat_template=case["template"],
        add_generation_prompt=case["add_generation_prompt"],
        **case["tokens"],
    )
    return rendered[0]


def cases(template):
    for (messages, tools, documents), prompt in itertools.product(list(conversations()), [True, False]):
        yield {
            "template": template,
            "messages": messages,
            "tools": tools,
            "documents": documents,
            "add_generation_prompt": prompt,
            "tokens": TOKENS,
        }


def main():
    folder, program = sys.argv[1:3]
    named = []
    for path in sorted(pathlib.Path(folder).rglob("*.jinja")):
        named += [(path.name, case) for case in cases(path.read_text())]
    lines = "".join(json.dumps(case) + "\n" for _, case in named)
    out = subprocess.run([program], input=lines, capture_output=True, text=True, check=True).stdout
    found = [json.loads(line) for line in out.splitlines()]
    assert len(found) == len(named)
    same = refused = 0
    different = {}
    for (name, case), result in zip(named, found):
        try:
            expected = reference(case)
        except Exception as error:  # whatever it is, the template does not take the conversation
            expected = {"error": f"{type(error).__name__}: {error}"}
        if isinstance(expected, dict) and isinstance(result, dict):
            refused += 1
        elif expected == result:
            same += 1
        else:
            different.setdefault(name, []).append((expected, result, case))
    print(f"{len(named)} cases: {same} equal, {refused} refused by both, {len(named) - same - refused} different")
    for name, all_of_it in different.items():
        expected, result, case = all_of_it[0]
        print(f"== {name}: {len(all_of_it)}")
        if isinstance(expected, str) and isinstance(result, str):
            at = next((i for i, (a, b) in enumerate(zip(expected, result)) if a != b), min(len(expected), len(result)))
            expected, result = expected[max(0, at - 60) : at + 60], result[max(0, at - 60) : at + 60]
        print("  transformers:", repr(expected)[:400])
        print("  moerge:      ", repr(result)[:400])


main()
