"""Makes perplexity.json: what transformers 5.23 finds for examples/tiny, for tests/it/evaluate.rs.

    python -m venv VENV && VENV/bin/pip install torch==2.15.* transformers==5.23.*
    VENV/bin/python crates/moerge/tests/evaluate/perplexity.py

The loop is that of https://huggingface.co/docs/transformers/perplexity. `perplexity` weighs each window's mean loss
with the tokens that it is the mean of, so that every token counts once; `as_documented` weighs it as the page does,
with one token less in every window.
"""

import json
import math
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

HERE = Path(__file__).parent
TINY = HERE.parents[3] / "examples/tiny"
CHARACTERS = 6000
CASES = [("base", "code", 256, 128), ("base", "story", 256, 256), ("story", "story", 512, 100), ("math", "math", 64, 48)]


def perplexity(model, ids, context, stride):
    losses, scored, documented_losses, documented = 0.0, 0, 0.0, 0
    previous_end = 0
    for begin in range(0, ids.size(1), stride):
        end = min(begin + context, ids.size(1))
        inputs = ids[:, begin:end]
        targets = inputs.clone()
        targets[:, : -(end - previous_end)] = -100
        with torch.no_grad():
            loss = model(inputs, labels=targets).loss.item()
        counted = (targets[:, 1:] != -100).sum().item()
        if counted:
            losses, scored = losses + loss * counted, scored + counted
            valid = (targets != -100).sum().item() - 1
            documented_losses, documented = documented_losses + loss * valid, documented + valid
        previous_end = end
        if end == ids.size(1):
            break
    return math.exp(losses / scored), scored, math.exp(documented_losses / documented)


def main():
    torch.manual_seed(0)
    cases = []
    for name, text, context, stride in CASES:
        model = AutoModelForCausalLM.from_pretrained(TINY / name, dtype=torch.float32).eval()
        tokenizer = AutoTokenizer.from_pretrained(TINY / name)
        excerpt = (TINY / f"valid/{text}.txt").read_text()[:CHARACTERS]
        ids = tokenizer(excerpt, return_tensors="pt").input_ids
        value, scored, documented = perplexity(model, ids, context, stride)
        cases.append(
            {
                "model": name,
                "text": text,
                "characters": CHARACTERS,
                "context": context,
                "stride": stride,
                "tokens": ids.size(1),
                "scored": scored,
                "perplexity": value,
                "as_documented": documented,
            }
        )
        print(cases[-1])
    (HERE / "perplexity.json").write_text(json.dumps(cases, indent=1) + "\n")


main()
