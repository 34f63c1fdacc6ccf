"""The importance matrix that moerge measures, against transformers. Run by hand; see README.md.

    imatrix.py MOERGE_BINARY MODEL TEXT

Runs MODEL, a folder, over TEXT in the same windows in f32 with hooks on its matrices, and compares sums of squared inputs
and numbers of tokens with those that `moerge export --imatrix-text TEXT --imatrix-out` writes: every matrix, and every
expert. Needs torch, transformers and gguf. The exit code is 1 if counts differ, or a sum by more than TOLERANCE of it.
"""

import pathlib
import subprocess
import sys
import tempfile

import numpy
import torch
import transformers
from gguf import GGUFReader

WINDOW = 512
TOLERANCE = 1e-3
NAMES = {
    "q_proj": "attn_q", "k_proj": "attn_k", "v_proj": "attn_v", "o_proj": "attn_output", "qkv_proj": "attn_qkv",
    "gate_proj": "ffn_gate", "up_proj": "ffn_up", "down_proj": "ffn_down", "gate_up_proj": "ffn_up",
}


class Sums:
    """Sums of squared inputs and numbers of tokens, by the names of llama.cpp's tensors."""

    def __init__(self):
        self.squares, self.tokens = {}, {}

    def add(self, name, x, expert=0, experts=1):
        x = x.reshape(-1, x.shape[-1]).double()
        squares = self.squares.setdefault(name, torch.zeros(experts, x.shape[-1], dtype=torch.float64))
        squares[expert] += (x * x).sum(0)
        self.tokens.setdefault(name, torch.zeros(experts))[expert] += x.shape[0]


def hook(model, sums):
    for path, module in model.named_modules():
        parts = path.split(".")
        if "layers" not in parts[:-1]:
            continue
        prefix = f"blk.{parts[parts.index('layers') + 1]}."
        if hasattr(module, "gate_up_proj") and getattr(module.gate_up_proj, "ndim", 0) == 3:
            module.register_forward_pre_hook(experts(prefix, sums))
        elif isinstance(module, torch.nn.Linear) and parts[-1] in NAMES:
            name = prefix + NAMES[parts[-1]] + ".weight"
            module.register_forward_pre_hook(lambda _, inputs, name=name: sums.add(name, inputs[0]))
        elif parts[-1] == "gate":  # A router.
            name = prefix + "ffn_gate_inp.weight"
            module.register_forward_pre_hook(lambda _, inputs, name=name: sums.add(name, inputs[0]))


def experts(prefix, sums):
    """What experts in one module multiply: the rows that are routed to each, and their inner activations."""

    def pre(module, inputs):
        x, chosen, _ = inputs
        x = x.reshape(-1, x.shape[-1])
        count = module.gate_up_proj.shape[0]
        for expert in range(count):
            own = x[(chosen == expert).any(-1)]
            gate, up = torch.nn.functional.linear(own, module.gate_up_proj[expert]).chunk(2, -1)
            for name in ("ffn_gate_exps", "ffn_up_exps"):
                sums.add(f"{prefix}{name}.weight", own, expert, count)
            sums.add(f"{prefix}ffn_down_exps.weight", module.act_fn(gate) * up, expert, count)

    return pre


def windows(tokenizer, text):
    bos = [] if tokenizer.bos_token_id is None or not tokenizer("a").input_ids[0] == tokenizer.bos_token_id else [tokenizer.bos_token_id]
    ids = tokenizer(text, add_special_tokens=False).input_ids
    room = WINDOW - len(bos)
    return [bos + ids[at : at + room] for at in range(0, len(ids), room)]


def main(moerge, folder, text):
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    sums = Sums()
    hook(model, sums)
    with torch.no_grad():
        for ids in windows(tokenizer, pathlib.Path(text).read_text()):
            model(torch.tensor([ids]))
    with tempfile.TemporaryDirectory() as place:
        out, ours = pathlib.Path(place) / "model.gguf", pathlib.Path(place) / "imatrix.gguf"
        measure = ["--quant", "q8_0", "--imatrix-text", text, "--imatrix-out", str(ours)]
        subprocess.run([moerge, "export", folder, str(out), "--quiet", *measure], check=True)
        ours = {tensor.name: numpy.array(tensor.data, dtype=numpy.float64) for tensor in GGUFReader(ours).tensors}
    compared, failed, worst, all_worst = 0, False, (0.0, ""), (0.0, "")
    for name, squares in sums.squares.items():
        if f"{name}.in_sum2" not in ours:
            print(f"{name}: moerge has none")
            failed |= "gate_inp" not in name
            continue
        counts = ours[f"{name}.counts"].reshape(-1)
        if counts.tolist() != sums.tokens[name].tolist():
            print(f"{name}: {counts.tolist()} tokens, transformers {sums.tokens[name].tolist()}")
            failed = True
        mine = ours[f"{name}.in_sum2"].reshape(squares.shape)
        theirs = squares.numpy()
        # Of a tensor as a whole, and the worst column.
        relative = numpy.linalg.norm(mine - theirs) / numpy.linalg.norm(theirs)
        column = (numpy.abs(mine - theirs) / numpy.maximum(theirs, 1e-30)).max()
        worst, all_worst = max(worst, (relative, name)), max(all_worst, (column, name))
        compared += squares.numel()
    others = {name.removesuffix(".in_sum2") for name in ours if name.endswith(".in_sum2")} - set(sums.squares)
    print(f"{len(sums.squares)} tensors, {compared} columns; only moerge has {sorted(others)}")
    print(f"largest relative difference of a tensor {worst[0]:.1e} ({worst[1]}), of a column {all_worst[0]:.1e} ({all_worst[1]})")
    return bool(failed or worst[0] > TOLERANCE)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]) if len(sys.argv) == 4 else __doc__)
