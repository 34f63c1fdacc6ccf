"""Merges pretrained language models, into a Mixture of Experts or a dense model.

The functions run the `moerge` binary of this package and turn its JSON into dataclasses:

    import moerge

    plan = moerge.plan("recipe.yml")
    result = moerge.merge("recipe.yml", "out", on_progress=print)
    scores = moerge.eval("base", result.out, text="valid.txt")
"""

from ._binary import find_binary
from ._check import Finding, Inspection, MoeSizes, Sizes, Verification, inspect, verify
from ._errors import Diagnostic, MoergeError
from ._evaluate import (
    AnswersScore,
    ChoicesScore,
    Divergence,
    Estimate,
    Evaluation,
    GroupScore,
    Metric,
    MixedScore,
    ModelScore,
    SuitePart,
    SuiteScore,
    TaskScore,
    TextScore,
    eval,
)
from ._events import Event, Message, StageAdvanced, StageFinished, StageStarted
from ._merge import MergedFile, MergeResult, Upload, merge
from ._plan import DensePlan, Memory, MergedModel, MoePlan, Plan, PlannedExpert, PlannedFile, PlannedModel, Unused, plan
from ._process import Recipe

__all__ = [
    "AnswersScore",
    "ChoicesScore",
    "DensePlan",
    "Diagnostic",
    "Divergence",
    "Estimate",
    "Evaluation",
    "Event",
    "Finding",
    "GroupScore",
    "Inspection",
    "Memory",
    "MergeResult",
    "MergedFile",
    "MergedModel",
    "Message",
    "Metric",
    "MixedScore",
    "ModelScore",
    "MoePlan",
    "MoeSizes",
    "MoergeError",
    "Plan",
    "PlannedExpert",
    "PlannedFile",
    "PlannedModel",
    "Recipe",
    "Sizes",
    "StageAdvanced",
    "StageFinished",
    "StageStarted",
    "SuitePart",
    "SuiteScore",
    "TaskScore",
    "TextScore",
    "Unused",
    "Upload",
    "Verification",
    "eval",
    "find_binary",
    "inspect",
    "merge",
    "plan",
    "verify",
]
