"""Every type that `moerge export` writes, against llama.cpp's own quantiser. Run by hand; see README.md.

    gguf_quantizer.py MOERGE_BINARY LIBRARY MODEL ...

LIBRARY is a shared library with `llama_model_quantize`: libllama, or the extension module of llama-cpp-cffi. Each model is
exported to f32, which the quantiser reads, and to every type. Compared are the types and bytes of all tensors, and the
metadata. Needs gguf. The exit code is 1 if anything differs.
"""

import ctypes
import pathlib
import subprocess
import sys
import tempfile

from gguf import GGUFReader

# llama-quantize's names and numbers (`llama_ftype`); q2_k_s needs an importance matrix.
TYPES = {
    "f16": 1, "bf16": 32, "q8_0": 7, "q6_k": 18, "q5_k_m": 17, "q5_k_s": 16, "q5_1": 9, "q5_0": 8, "q4_k_m": 15,
    "q4_k_s": 14, "q4_1": 3, "q4_0": 2, "iq4_nl": 25, "iq4_xs": 30, "q3_k_l": 13, "q3_k_m": 12, "q3_k_s": 11, "q2_k": 10,
}  # fmt: skip
# moerge's identity of the plan, and the reader's own count of keys.
IGNORED = {"moerge.plan_id", "GGUF.kv_count"}


class Parameters(ctypes.Structure):
    """llama_model_quantize_params: two numbers, then what stays at its default."""

    _fields_ = [("nthread", ctypes.c_int32), ("ftype", ctypes.c_int32), ("rest", ctypes.c_byte * 504)]


def quantizer(library):
    llama = ctypes.CDLL(library)
    llama.llama_model_quantize_default_params.restype = Parameters
    llama.llama_model_quantize.argtypes = [ctypes.c_char_p, ctypes.c_char_p, ctypes.POINTER(Parameters)]
    llama.llama_model_quantize.restype = ctypes.c_uint32
    llama.llama_backend_init()

    def quantize(source, out, number):
        parameters = llama.llama_model_quantize_default_params()
        parameters.nthread, parameters.ftype = 2, number
        return llama.llama_model_quantize(str(source).encode(), str(out).encode(), ctypes.byref(parameters)) == 0

    return quantize


def contents(path):
    reader = GGUFReader(path)
    tensors = {t.name: (t.tensor_type, tuple(t.shape), t.data.tobytes()) for t in reader.tensors}
    return tensors, {key: (field.types, field.contents()) for key, field in reader.fields.items() if key not in IGNORED}


def different(mine, other):
    return sorted(name for name in {*mine, *other} if mine.get(name) != other.get(name))


def main():
    moerge, library, *models = sys.argv[1:]
    quantize, failed = quantizer(library), False
    for model in models:
        with tempfile.TemporaryDirectory() as folder:
            source, ours, theirs = (pathlib.Path(folder) / name for name in ("f32.gguf", "ours.gguf", "theirs.gguf"))

            def export(out, quant):
                subprocess.run([moerge, "export", model, out, "--quant", quant, "--name", "tiny", "--force", "-q"], check=True)

            export(source, "f32")
            for quant, number in TYPES.items():
                export(ours, quant)
                if not quantize(source, theirs, number):
                    print(f"{model}, {quant}: llama.cpp refuses")
                    failed = True
                    continue
                mine, other = contents(ours), contents(theirs)
                tensors, keys = different(mine[0], other[0]), different(mine[1], other[1])
                failed |= bool(tensors or keys)
                print(f"{model}, {quant}: {len(mine[0])} tensors, {len(tensors)} differ {tensors[:3]}, keys {keys}", flush=True)
    return failed


if __name__ == "__main__":
    sys.exit(main())
