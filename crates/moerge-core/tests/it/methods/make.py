"""Makes golden values of the merge methods: small tensors, and what mergekit makes of them in float32.

    python -m venv VENV && VENV/bin/pip install torch==2.15.* mergekit==0.1.5 numpy safetensors
    VENV/bin/python crates/moerge-core/tests/it/methods/make.py

Nothing here is needed to run the tests: the results are kept beside this script. `inputs` has sets of
tensors `SET.NUMBER`; `cases.json` says which method merges which set with which parameters, the rest at mergekit's
defaults; `expected` has the result of each case by its name. `masks.json` has statistics of the methods
with random masks, on tensors that both this script and the test make from one formula (`hashed`).
"""

import json
import pathlib

import numpy as np
import torch
from mergekit.merge_methods import registry
from mergekit.merge_methods.base import TensorGroup
from safetensors.torch import save_file

HERE = pathlib.Path(__file__).resolve().parent


def models(seed, shape, count, scale=0.3):
    """A base and models near it, whose differences disagree in sign; a fifth of the differences is 0."""
    rng = np.random.default_rng(seed)
    base = rng.normal(size=shape)
    tensors = [base]
    for number in range(count - 1):
        d = rng.normal(size=shape) * scale * (1 + 0.5 * number)
        tensors.append(base + d * (rng.random(size=shape) > 0.2))
    return [torch.tensor(t, dtype=torch.float32) for t in tensors]


def sets():
    matrix = models(1, (10, 16), 4)
    opposite = [torch.zeros(10, 16), matrix[1], -matrix[1]]
    return {
        "matrix": matrix,
        "vector": models(2, (24,), 4),
        "cube": models(3, (3, 4, 5), 4),
        # far apart, so that the divergences of rows are well above the rounding of f32
        "far": models(4, (10, 16), 2, scale=2.0),
        "far_vector": models(5, (40,), 2, scale=2.0),
        "column": models(6, (10, 1), 3),
        "one": models(7, (1, 1), 3),
        "equal": [matrix[0]] * 3,
        "parallel": [matrix[0], matrix[0] * 2, matrix[0] * 0.5],
        "opposite": opposite,
        # tangent to each other, and one without a direction
        "zeros": [torch.zeros(10, 16), matrix[1], torch.zeros(10, 16), matrix[2]],
        # differences that cancel out
        "cancel": [matrix[0], matrix[0] + 0.25, matrix[0] - 0.25],
    }


CASES = []


def case(method, tensors, first=None, base=None, /, **parameters):
    """`first`: how many tensors of the set are merged. `base`: whether the first of them is the base; by default where
    the method needs one."""
    if base is None:
        base = registry.get(method).spec.contract.base.value == "required"
    # mergekit's name of it is a keyword
    if "lambda_" in parameters:
        parameters["lambda"] = parameters.pop("lambda_")
    CASES.append(dict(method=method, set=tensors, count=first, base=base, parameters=parameters))


def add_cases():
    w2, w3, w4 = [0.7, 0.5], [0.6, 0.3, 0.8], [1.0, 0.5, 0.25, 2.0]

    for s in ["matrix", "vector", "cube"]:
        case("linear", s, 4, weight=w4)
    case("linear", "matrix", 3, weight=[1.0, -0.25, 0.5], normalize=False)
    case("linear", "matrix", 1, weight=[3.0])

    for t in [0.0, 0.35, 1.0, 1.5]:
        case("slerp", "matrix", 2, t=t)
    for s in ["vector", "cube", "parallel", "equal", "zeros"]:
        case("slerp", s, 2, t=0.35)

    for s in ["matrix", "vector", "cube"]:
        for flatten, rows in [(True, False), (False, False), (False, True)]:
            more = dict(nuslerp_flatten=flatten, nuslerp_row_wise=rows)
            case("nuslerp", s, 2, False, weight=[1.0, 3.0], **more)
            case("nuslerp", s, 3, True, weight=[1.0, 3.0], **more)
    case("nuslerp", "matrix", 2, False, weight=[0.5, -0.5])
    case("nuslerp", "parallel", 2, False, weight=[1.0, 3.0])
    case("nuslerp", "opposite", 3, True, weight=[1.0, 3.0])
    case("nuslerp", "equal", 3, True, weight=[1.0, 3.0], nuslerp_flatten=False)
    case("nuslerp", "zeros", 2, False, weight=[1.0, 3.0], nuslerp_flatten=False)
    case("nuslerp", "column", 2, False, weight=[1.0, 3.0], nuslerp_flatten=False)

    for s in ["matrix", "vector", "cube"]:
        case("multislerp", s, 4, False, weight=w4)
        case("multislerp", s, 4, True, weight=w3)
    case("multislerp", "matrix", 3, False, weight=w3, normalize_weights=False)
    case("multislerp", "matrix", 3, False, weight=[1.0, -0.25, 0.5], eps=1e-3)
    case("multislerp", "matrix", 1, False, weight=[0.5])
    case("multislerp", "matrix", 2, True, weight=[0.5])
    case("multislerp", "opposite", 3, True, weight=[1.0, 1.0])
    case("multislerp", "equal", 3, True, weight=[1.0, 3.0])
    case("multislerp", "zeros", 4, False, weight=w4)

    for s in ["matrix", "vector", "cube", "far", "parallel", "equal", "zeros"]:
        case("karcher", s)
    case("karcher", "matrix", 1)
    case("karcher", "zeros", 1)
    case("karcher", "far", 2, max_iter=1, tol=1e-3)
    case("karcher", "far", 2, max_iter=0)

    for s in ["matrix", "vector", "cube", "cancel"]:
        n = 2 if s == "cancel" else 3
        w = [0.5, 0.5] if s == "cancel" else w3
        # Equal magnitudes: which of them a cut keeps is not defined.
        d = 1.0 if s == "cancel" else 0.6
        case("task_arithmetic", s, n + 1, weight=w, lambda_=0.7)
        case("ties", s, n + 1, weight=w, density=[d] * n)
        case("ties", s, n + 1, weight=w, density=[d / 2 if d < 1 else 1.0] * n, rescale=True, lambda_=0.7)
        case("dare_linear", s, n + 1, weight=w, density=[1.0] * n, lambda_=0.7)
        case("dare_ties", s, n + 1, weight=w)
        case("breadcrumbs", s, n + 1, weight=w, density=[d] * n, gamma=[0.1] * n)
        case("breadcrumbs_ties", s, n + 1, weight=w, density=[d] * n, gamma=[0.1] * n, rescale=True)
        case("della", s, n + 1, weight=w, density=[1.0] * n)
        case("della_linear", s, n + 1, weight=w)
    case("task_arithmetic", "matrix", 3, weight=[0.5, -0.5], normalize=True)
    case("task_arithmetic", "matrix", 3, weight=[0.5, -0.25], normalize=True)
    case("task_arithmetic", "matrix", 1, weight=[])
    case("ties", "matrix", 4, weight=[0.6, -0.3, 0.8], density=[0.2, 0.5, 0.9])
    case("ties", "matrix", 4, weight=w3, density=[0.001, 0.0, 1.0])
    case("ties", "matrix", 4, weight=w3, density=[0.4] * 3, normalize=False)
    case("ties", "matrix", 3, weight=[0.5, -0.5], density=[0.4] * 2)
    case("ties", "matrix", 2, weight=[0.5], density=[0.4])
    case("ties", "matrix", 1, weight=[])
    case("ties", "one", 3, weight=w2, density=[0.4] * 2)
    case("ties", "column", 3, weight=w2, density=[0.4] * 2)
    case("ties", "equal", 3, weight=w2, density=[0.4] * 2, rescale=True)
    case("dare_ties", "matrix", 4, weight=w3, density=[1.0] * 3, normalize=True)
    case("dare_linear", "matrix", 4, weight=w3, density=[1.0, 0.0, 1.0])
    case("breadcrumbs", "matrix", 4, weight=w3)
    case("breadcrumbs", "matrix", 4, weight=w3, density=[0.9, 0.2, 0.0], gamma=[0.3, 0.01, 0.2])
    case("breadcrumbs", "matrix", 4, weight=w3, density=[0.6] * 3, normalize=True, rescale=True)
    case("breadcrumbs_ties", "matrix", 4, weight=w3, density=[0.5] * 3, normalize=True)
    case("breadcrumbs_ties", "one", 3, weight=w2, density=[0.5] * 2)
    case("della", "matrix", 4, weight=w3, density=[0.0, 1.0, 1.0])
    case("della_linear", "matrix", 4, weight=w3, density=[0.0, 1.0, 1.0], normalize=True)

    for s in ["matrix", "vector", "cube"]:
        case("sce", s, 4)
        case("sce", s, 4, select_topk=0.3)
    for topk in [0.0, 0.001, 0.9, 1.0]:
        case("sce", "matrix", 3, select_topk=topk)
    case("sce", "matrix", 2)
    case("sce", "matrix", 2, select_topk=0.5)
    case("sce", "equal", 3, select_topk=0.5)
    case("sce", "equal", 3)
    case("sce", "cancel", 3)
    case("sce", "matrix", 1)

    for method in ["ram", "ramplus_tl"]:
        for s in ["matrix", "vector", "cube"]:
            case(method, s, 4)
            case(method, s, 3, epsilon=0.1)
        case(method, "matrix", 2)
        case(method, "matrix", 1)
        case(method, "equal", 3)
    case("ramplus_tl", "matrix", 4, r=0.5, alpha=2.0, epsilon=0.2)
    case("ramplus_tl", "cancel", 3, r=0.5, alpha=2.0)

    for s in ["matrix", "vector", "cube"]:
        for filter_wise in [False, True]:
            case("model_stock", s, 4, filter_wise=filter_wise)
    for s in ["opposite", "equal", "parallel", "zeros", "column"]:
        for filter_wise in [False, True]:
            case("model_stock", s, 3, filter_wise=filter_wise)

    for t in [0.0, 0.05, 0.5, -1.0]:
        case("nearswap", "matrix", 2, t=t)
    case("nearswap", "vector", 2, t=0.2)
    case("nearswap", "equal", 2, t=1e-7)

    for s in ["far", "far_vector", "equal", "column", "one"]:
        case("arcee_fusion", s, 2)
    case("passthrough", "matrix", 1)
    case("passthrough", "vector", 1, scale=[0.5])
    case("passthrough", "matrix", 1, scale=[-2.0])

    for method in ["dare_ties", "della", "della_linear"]:
        case(method, "matrix", 4, weight=w3, density=[1.0] * 3, lambda_=0.7)
    for method in ["breadcrumbs", "breadcrumbs_ties"]:
        case(method, "matrix", 4, weight=w3, density=[0.6] * 3, gamma=[0.1] * 3, lambda_=0.7)
    case("dare_linear", "matrix", 4, weight=w3, density=[1.0] * 3, normalize=True)
    case("della", "matrix", 4, weight=w3, density=[1.0] * 3, normalize=False)


def merge(method, tensors, base, parameters):
    group = TensorGroup.from_tensors(tensors, base_index=0 if base else None, name="w")
    return registry.get(method)([group], parameters=parameters, dtype=torch.float32)[0]


def hashed(count, model):
    """Whole numbers that look random, as f32 in [-1, 1)."""
    x = np.arange(count, dtype=np.uint64) + np.uint64(model * 1_000_003)
    x = (x * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(40)
    return torch.tensor(x.astype(np.float64) / 2**23 - 1.0, dtype=torch.float32)


def masks():
    """What is left of differences from a base of zeros: the share that is not 0, and the L1 norm."""
    shape = (400, 250)
    cases = []
    for method in ["dare_linear", "della_linear", "dare_ties", "della"]:
        for density, epsilon in [(0.2, 0.15), (0.5, 0.1), (0.8, 0.19)]:
            for rescale in [False, True]:
                torch.manual_seed(0)
                tensors = [torch.zeros(shape), hashed(100_000, 1).reshape(shape)]
                parameters = dict(weight=[1.0], density=[density], rescale=rescale)
                if method.startswith("della"):
                    parameters["epsilon"] = [epsilon]
                out = merge(method, tensors, True, parameters)
                cases.append(dict(
                    method=method, density=density, epsilon=epsilon, rescale=rescale,
                    share=(out != 0).float().mean().item(), l1=out.double().abs().sum().item(),
                    square=out.double().square().sum().item(),
                ))
    return cases


def main():
    add_cases()
    inputs, expected, used = sets(), {}, {}
    for number, c in enumerate(CASES):
        tensors = inputs[c["set"]][: c["count"]]
        c["count"] = len(tensors)
        c["name"] = f"{number:03}"
        result = merge(c["method"], [t.clone() for t in tensors], c["base"], c["parameters"])
        assert result.isfinite().all(), c
        expected[c["name"]] = result.contiguous()
        for index, tensor in enumerate(tensors):
            used[f"{c['set']}.{index}"] = tensor.clone().contiguous()
    for folder, tensors in [("inputs", used), ("expected", expected)]:
        (HERE / folder).mkdir(exist_ok=True)
        save_file(tensors, HERE / folder / "model.safetensors")
    lines = ",\n".join(json.dumps(c) for c in CASES)
    (HERE / "cases.json").write_text(f"[\n{lines}\n]\n")
    lines = ",\n".join(json.dumps(c) for c in masks())
    (HERE / "masks.json").write_text(f"[\n{lines}\n]\n")
    print(len(CASES), "cases")


if __name__ == "__main__":
    main()
