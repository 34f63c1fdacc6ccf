"""ggml's quantiser, from the shared library of the wheel `xllamacpp`, and tensors of a checkpoint as f32."""

import ctypes
import json
import pathlib
import sysconfig

import numpy as np

# name: (number in `enum ggml_type`, weights and bytes of a block)
TYPES = {
    "q4_0": (2, 32, 18),
    "q4_1": (3, 32, 20),
    "q5_0": (6, 32, 22),
    "q5_1": (7, 32, 24),
    "q8_0": (8, 32, 34),
    "q2_K": (10, 256, 84),
    "q3_K": (11, 256, 110),
    "q4_K": (12, 256, 144),
    "q5_K": (13, 256, 176),
    "q6_K": (14, 256, 210),
    "iq4_nl": (20, 32, 18),
    "iq4_xs": (23, 256, 136),
}


class Library:
    def __init__(self, path=None):
        path = path or next(pathlib.Path(sysconfig.get_paths()["purelib"]).glob("xllamacpp/*.so"))
        self.library = ctypes.CDLL(str(path))
        self.quantize = self.library.ggml_quantize_chunk
        self.quantize.restype = ctypes.c_size_t
        pointer, number = ctypes.c_void_p, ctypes.c_int64
        self.quantize.argtypes = [ctypes.c_int, pointer, pointer, number, number, number, pointer]
        for name, (id, _, size) in TYPES.items():
            self.library.ggml_type_size.restype = ctypes.c_size_t
            assert self.library.ggml_type_size(id) == size, name

    def encode(self, block, rows, importance):
        """Bytes of `rows` (f32, two dimensions), row by row; `importance` has a number per column, or is None."""
        id, weights, size = TYPES[block]
        rows = np.ascontiguousarray(rows, dtype=np.float32)
        out = np.empty((rows.shape[0], rows.shape[1] // weights * size), dtype=np.uint8)
        pointer = None if importance is None else np.ascontiguousarray(importance, dtype=np.float32).ctypes.data
        self.quantize(id, rows.ctypes.data, out.ctypes.data, 0, rows.shape[0], rows.shape[1], pointer)
        return out

    def decode(self, block, blocks):
        """Weights of bytes, both in one dimension."""
        _, weights, size = TYPES[block]
        blocks = np.ascontiguousarray(blocks, dtype=np.uint8)
        out = np.empty(len(blocks) // size * weights, dtype=np.float32)
        function = getattr(self.library, f"dequantize_row_{block}")
        function.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64]
        function(blocks.ctypes.data, out.ctypes.data, len(out))
        return out


def header(path):
    with open(path, "rb") as file:
        length = int.from_bytes(file.read(8), "little")
        return json.loads(file.read(length)), 8 + length


def tensor(path, name):
    """A BF16 or F32 tensor of a safetensors file as f32."""
    entries, start = header(path)
    entry = entries[name]
    begin, end = entry["data_offsets"]
    with open(path, "rb") as file:
        file.seek(start + begin)
        raw = file.read(end - begin)
    if entry["dtype"] == "F32":
        return np.frombuffer(raw, dtype=np.float32).reshape(entry["shape"])
    assert entry["dtype"] == "BF16", entry
    return (np.frombuffer(raw, dtype=np.uint16).astype(np.uint32) << 16).view(np.float32).reshape(entry["shape"])
