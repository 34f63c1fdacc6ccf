"""Checks an adapter of `moerge extract-lora` with PEFT: loaded onto the base and merged, it must give the model back.

    python extract_lora.py BASE MODEL ADAPTER

Prints the largest relative error of a weight; the difference of MODEL and BASE must have a rank of at most the adapter's.
"""

import sys

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

base, model, adapter = sys.argv[1:]
load = lambda path: AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32)
merged = PeftModel.from_pretrained(load(base), adapter).merge_and_unload().state_dict()
wanted = load(model).state_dict()
assert merged.keys() == wanted.keys()
worst = max((merged[name] - wanted[name]).norm() / wanted[name].norm() for name in wanted)
changed = max((load(base).state_dict()[name] - wanted[name]).norm() / wanted[name].norm() for name in wanted)
print(f"largest relative error {worst:.2e}, where the models are {changed:.2e} apart")
sys.exit(bool(worst > 1e-5))
