"""Renders the templates in `golden.json` with transformers and writes what it gives back into the file.

    python golden.py            # every template again
    python golden.py t1.jinja   # adds templates

A case is `[template, result]`; the result is a string, or null where transformers refuses the template.
"""

import json
import pathlib
import sys

from transformers.utils.chat_template_utils import _normalize_chat_messages, render_jinja_template

PATH = pathlib.Path(__file__).with_name("golden.json")


def render(context, template):
    try:
        rendered, _ = render_jinja_template(
            conversations=[_normalize_chat_messages(context["messages"])],
            tools=context["tools"],
            documents=context["documents"],
            chat_template=template,
            add_generation_prompt=True,
            **context["tokens"],
        )
        return rendered[0]
    except Exception:  # whatever it is, transformers refuses the template
        return None


def main():
    file = json.loads(PATH.read_text())
    templates = [template for template, _ in file["cases"]]
    templates += [pathlib.Path(name).read_text() for name in sys.argv[1:]]
    cases = [[template, render(file["context"], template)] for template in dict.fromkeys(templates)]
    context = json.dumps(file["context"], ensure_ascii=False)
    lines = ",\n".join(json.dumps(case, ensure_ascii=False) for case in cases)
    PATH.write_text(f'{{"context": {context}, "cases": [\n{lines}\n]}}\n')


main()
