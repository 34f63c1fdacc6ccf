"""LoRA adapters from the difference of two models, by torch's SVD and by PEFT, for the test of `moerge extract-lora`.

    python crates/moerge/tests/golden/extract_lora.py                       # writes extract_lora.json
    python crates/moerge/tests/golden/extract_lora.py BASE MODEL ADAPTER    # checks an adapter of moerge

The base is the golden model `llama`; `tuned` mixes each of its tensors with itself moved down by a row, so differences
have full rank (`tuned` here and in the test). extract_lora.json holds for every matrix, embeddings and head included, the
8 largest singular values of the difference in float64, and the part of its energy that they keep; and of every tensor
that PEFT makes of the base and that adapter (`merge_and_unload`) its sum, sum of squares, and three elements.

With three arguments PEFT loads the adapter onto the base and merges it, which must give the model back: prints the largest
relative error of a weight. The difference of MODEL and BASE must have a rank of at most the adapter's.
"""

import json
import pathlib
import sys
import tempfile

import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

HERE = pathlib.Path(__file__).resolve().parent
RANK = 8


def load(path):
    return AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32)


def tuned(x):
    return x * 0.75 + torch.roll(x, 1, 0) * 0.25


def factors(difference):
    u, s, v = torch.linalg.svd(difference.double(), full_matrices=False)
    root = s[:RANK].sqrt()
    return s, u[:, :RANK] * root, root[:, None] * v[:RANK]


def make():
    base = load_file(HERE / "llama/model.safetensors")
    matrices, adapter = {}, {}
    for name, x in base.items():
        if x.dim() != 2:
            continue
        module = name.removesuffix(".weight")
        s, b, a = factors(tuned(x) - x)
        energy = (s[:RANK] ** 2).sum() / (s**2).sum()
        matrices[module] = {"singular_values": s[:RANK].tolist(), "energy": energy.item()}
        prefix = f"base_model.model.{module}"
        if "embed_tokens" in name:
            adapter[f"{prefix}.lora_embedding_A"], adapter[f"{prefix}.lora_embedding_B"] = b.T, a.T
        else:
            adapter[f"{prefix}.lora_A.weight"], adapter[f"{prefix}.lora_B.weight"] = a, b
    with tempfile.TemporaryDirectory() as tmp:
        tmp = pathlib.Path(tmp)
        save_file({k: v.float().contiguous() for k, v in adapter.items()}, tmp / "adapter_model.safetensors")
        modules = sorted({module.rsplit(".", 1)[-1] for module in matrices})
        config = {"peft_type": "LORA", "r": RANK, "lora_alpha": RANK, "target_modules": modules, "task_type": "CAUSAL_LM"}
        (tmp / "adapter_config.json").write_text(json.dumps(config))
        merged = PeftModel.from_pretrained(load(HERE / "llama"), tmp).merge_and_unload().state_dict()
    tensors = {}
    for name in base:
        x = merged[name].double().flatten()
        numbers = [x.sum(), (x * x).sum(), x[0], x[len(x) // 3], x[-1]]
        tensors[name] = [n.item() for n in numbers]
    lines = [f"{json.dumps(k)}: {json.dumps(v)}" for k, v in matrices.items()]
    more = [f"{json.dumps(k)}: {json.dumps(v)}" for k, v in tensors.items()]
    text = '{"matrices": {\n' + ",\n".join(lines) + '\n}, "tensors": {\n' + ",\n".join(more) + "\n}}\n"
    (HERE / "extract_lora.json").write_text(text)


def check(base, model, adapter):
    peft = PeftModel.from_pretrained(load(base), adapter)
    merged = peft.merge_and_unload().state_dict()
    wanted, before = load(model).state_dict(), load(base).state_dict()
    assert merged.keys() == wanted.keys()
    worst = max((merged[name] - wanted[name]).norm() / wanted[name].norm() for name in wanted)
    changed = max((before[name] - wanted[name]).norm() / wanted[name].norm() for name in wanted)
    print(f"largest relative error {worst:.2e}, where the models are {changed:.2e} apart")
    return worst <= 1e-5


if __name__ == "__main__":
    if len(sys.argv) == 1:
        make()
    elif not check(*sys.argv[1:]):
        sys.exit(1)
