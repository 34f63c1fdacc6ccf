"""Do the tokenizers that moerge makes of GGUF files split text as llama.cpp does?

    cargo build -p moerge --example tokenize_gguf
    python tests/interop/gguf_reading.py VOCABULARIES target/debug/examples/tokenize_gguf

VOCABULARIES is `vendor/llama.cpp/models` of llama-cpp-python's source package (0.3.36): vocabularies in GGUF, with texts
in `.inp` and their ids in `.out`. Prints a line per vocabulary; those that moerge does not read are named with the reason.
"""

import json
import pathlib
import subprocess
import sys

SEPARATOR = "\n__ggml_vocab_test__\n"


def main() -> None:
    vocabularies, tokenize = sys.argv[1:]
    wrong = 0
    for path in sorted(pathlib.Path(vocabularies).glob("ggml-vocab-*.gguf")):
        texts_path = path.with_name(path.name + ".inp")
        if not texts_path.exists():
            continue
        texts = texts_path.read_text(encoding="utf-8").split(SEPARATOR)
        expected = path.with_name(path.name + ".out").read_text().splitlines()
        expected = [[int(token) for token in line.split()] for line in expected]
        # The last line break of the file is none of the text.
        pairs = list(zip(texts, expected, strict=False))
        lines = "".join(json.dumps(text) + "\n" for text, _ in pairs)
        run = subprocess.run([tokenize, str(path)], input=lines, capture_output=True, text=True, check=False)
        name = path.name.removeprefix("ggml-vocab-").removesuffix(".gguf")
        if run.returncode != 0:
            print(f"{name:<16} {(run.stderr.splitlines() or ['failed'])[0].split(': ', 1)[-1][:90]}")
            continue
        found = [json.loads(line) for line in run.stdout.splitlines()]
        different = [(text, own, theirs) for (text, theirs), own in zip(pairs, found, strict=True) if own != theirs]
        print(f"{name:<16} {len(pairs) - len(different)} of {len(pairs)} texts")
        for text, own, theirs in different[:3]:
            print(f"  {text!r}: {own[:12]}, llama.cpp {theirs[:12]}")
        wrong += len(different)
    sys.exit(wrong > 0)


if __name__ == "__main__":
    main()
