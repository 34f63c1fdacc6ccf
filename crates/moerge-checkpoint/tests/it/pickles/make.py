"""Makes the files beside it: what torch.save writes, and what attackers make of it. Needs torch (2.15 here).

Run in this folder: python make.py
"""

import argparse
import collections
import io
import json
import os
import pickle
import zipfile

import torch

torch.manual_seed(0)


def state():
    """One tensor of each kind, two views of one storage, a parameter."""
    base = torch.arange(24, dtype=torch.float32).reshape(4, 6)
    tensors = collections.OrderedDict()
    tensors["embed.weight"] = base
    tensors["lm_head.weight"] = base
    tensors["rows"] = base[1:3]
    tensors["scalar"] = torch.tensor(2.5, dtype=torch.float64)
    tensors["empty"] = torch.zeros(0, 3)
    tensors["half"] = torch.tensor([1.0, -2.0], dtype=torch.float16)
    tensors["bf16"] = torch.tensor([[1.0], [3.0]], dtype=torch.bfloat16)
    tensors["ids"] = torch.tensor([1, -1], dtype=torch.int64)
    tensors["flags"] = torch.tensor([True, False])
    tensors["parameter"] = torch.nn.Parameter(torch.ones(2, 2))
    tensors._metadata = collections.OrderedDict({"": {"version": 1}})
    return tensors


class Runs:
    """What `pickle` does when it meets one: calls `function(*args)`."""

    def __init__(self, function, *args):
        self.call = (function, args)

    def __reduce__(self):
        return self.call


def with_pickle(name, data):
    """A file of torch.save whose data.pkl is `data`."""
    good = io.BytesIO()
    torch.save({"w": torch.ones(2)}, good)
    with zipfile.ZipFile(good) as old, zipfile.ZipFile(name, "w", zipfile.ZIP_STORED) as new:
        for entry in old.namelist():
            new.writestr(entry, data if entry.endswith("data.pkl") else old.read(entry))


torch.save(state(), "state.bin")
torch.save(dict(list(state().items())[:3]), "dict.bin")
torch.save(state(), "legacy.bin", _use_new_zipfile_serialization=False)
torch.save({"w": torch.ones(2), "step": 3}, "number.bin")
torch.save({"state_dict": {"w": torch.ones(2)}}, "nested.bin")
torch.save([torch.ones(2)], "list.bin")
torch.save({"w": torch.arange(6.0).reshape(2, 3).t()}, "transposed.bin")
torch.save(torch.nn.Linear(2, 2), "module.bin")

# What `torch.load(weights_only=True)` accepts.
def tagged(tensor):
    tensor.note = "an attribute"
    return tensor


two = [1.0, 2.0]
torch.save({"w": tagged(torch.tensor(two)), "size": torch.ones(1)}, "attributes.bin")
torch.save({"w": tagged(torch.nn.Parameter(torch.tensor(two)))}, "pickled_parameter.bin")
torch.save({"w": torch.tensor(two)}, "protocol_4.bin", pickle_protocol=4)
for name, value in [("dtype", torch.bfloat16), ("device", torch.device("cpu")), ("set", {1, 2}), ("bytes", b"\xff")]:
    torch.save({"w": torch.tensor(two), "x": value}, f"{name}.bin")
torch.save({"w": torch.tensor(two), "x": argparse.Namespace(a=1)}, "unknown.bin")
STORAGE = b"((X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpuK\x02tQ"
TENSOR = b"ctorch._utils\n_rebuild_tensor_v2\n" + STORAGE + b"K\x00K\x02\x85K\x01\x85\x89ccollections\nOrderedDict\n)RtR"
OUTER = b"ctorch._tensor\n_rebuild_from_type_v2\n("
with_pickle("old_ordered_dict.bin", b"\x80\x02ccollections\nOrderedDict\n](X\x01\x00\x00\x00w" + TENSOR + b"\x86e\x85R.")
with_pickle("attributes_evil.bin", b"\x80\x02" + OUTER + b"cos\nsystem\nctorch\nTensor\nX\x01\x00\x00\x00a\x85}tR.")
with_pickle(
    "attributes_nested.bin",
    b"\x80\x02" + OUTER + b"ctorch._tensor\n_rebuild_from_type_v2\nctorch\nTensor\n)}tR.",
)

# Attacks. Each runs its command in `torch.load(..., weights_only=False)`.
torch.save({"w": Runs(os.system, "touch /tmp/pwned")}, "os_system.bin")
torch.save({"w": torch.ones(2), "x": Runs(eval, "__import__('os').system('touch /tmp/pwned')")}, "eval.bin")
torch.save({"w": Runs(exec, "import os")}, "exec_protocol_4.bin", pickle_protocol=4)
# The tensor is rebuilt by something else.
torch.save({"w": Runs(getattr, torch.ones(2), "numpy")}, "getattr.bin")
# A name that looks like one of torch's.
with_pickle("torch_load.bin", b"\x80\x02ctorch\nload\nX\x04\x00\x00\x00evil\x85R.")
with_pickle("storage_called.bin", b"\x80\x02ctorch\nFloatStorage\nK\x02\x85R.")
# Older instructions that call without GLOBAL or REDUCE.
with_pickle("inst.bin", b"(S'touch /tmp/pwned'\nios\nsystem\n.")
with_pickle("obj.bin", b"\x80\x02(cos\nsystem\nX\x01\x00\x00\x00ao.")
with_pickle("newobj.bin", b"\x80\x02csubprocess\nPopen\n)\x81.")
# BUILD with a state that sets attributes.
with_pickle(
    "build.bin", b"\x80\x02ccollections\nOrderedDict\n)R}X\x09\x00\x00\x00__class__K\x01sb."
)
# The call hides behind STACK_GLOBAL and the memo.
with_pickle(
    "stack_global.bin", b"\x80\x04\x8c\x05posix\x94\x8c\x06system\x94h\x00h\x01\x93\x8c\x01a\x85R."
)
# A list that holds itself, and tuples that would be exponential if they were copied.
with_pickle("cycle.bin", b"\x80\x02]q\x00h\x00a.")
with_pickle("bomb.bin", b"\x80\x02)" + b"q\x00h\x00\x86" * 60 + b".")
with_pickle("deep.bin", b"\x80\x02)" + b"\x85" * 20_000 + b".")

# Two entries of one name: which one is meant?
with zipfile.ZipFile("twice.bin", "w") as twice:
    twice.writestr("a/data.pkl", pickle.dumps({}, 2))
    twice.writestr("a/data.pkl", pickle.dumps({}, 2))
with zipfile.ZipFile("compressed.bin", "w", zipfile.ZIP_DEFLATED) as compressed:
    compressed.writestr("a/data.pkl", pickle.dumps({}, 2) * 50)

# What the good file holds, for the test.
expected = {
    name: {
        "dtype": str(tensor.dtype).removeprefix("torch."),
        "shape": list(tensor.shape),
        "bytes": bytes(tensor.detach().contiguous().flatten().view(torch.uint8).tolist()).hex() if tensor.numel() else "",
    }
    for name, tensor in state().items()
}
with open("state.json", "w") as file:
    json.dump(expected, file, indent=1)
    file.write("\n")

# Types without a storage class of their own: an untyped storage and a dtype.
torch.save({"w": torch.tensor([1, 65535], dtype=torch.uint16), "f8": torch.ones(2, dtype=torch.float8_e4m3fn)}, "typed.bin")
torch.save({"w": tagged(torch.tensor([1, 65535], dtype=torch.uint16))}, "typed_attributes.bin")
torch.save({"w": torch.zeros(2, dtype=torch.complex32)}, "typed_complex.bin")
