"""The lines of a model text before its trees, read as LightGBM reads them.

The source of the rules is `GBDT::LoadModelFromString` of src/boosting/gbdt_model_text.cpp.
"""

import re
from typing import NamedTuple

from kernels.forest.errors import ForestError
from kernels.forest.fields import integer, integers, read_fields

MAX_FEATURES = 2**17
MAX_OUTPUTS = 10_000
MAX_TREES = 1_000_000

OF_A_NAME = ("feature_names", "monotone_constraints")
"""Lines that may have more than one equals sign."""

NO_OBJECTIVE = ("custom", "none", "null", "na")
"""What LightGBM reads as an objective of the caller's own (src/objective/objective_function.cpp)."""


class Header(NamedTuple):
    """The header of a model text.

    Attributes:
        version: Version of the format; empty before LightGBM 2.0.12.
        names: Names of the F features.
        infos: What the training data was like, one word for each feature.
        outputs: K, the trees of an iteration.
        objective: As LightGBM writes it; empty for one of the caller's own, whose scores are raw.
        average: Whether the sum of the leaf values is divided by the number of iterations.
        sizes: Bytes of each tree; None before LightGBM 2.0.12, which did not count them.
    """

    version: str
    names: tuple[str, ...]
    infos: tuple[str, ...]
    outputs: int
    objective: str
    average: bool
    sizes: list[int] | None


def read_header(head: str) -> Header:
    """Read and check the lines before the first tree.

    Raises:
        ForestError: The header is damaged, or counts more than is read.
    """
    try:
        fields = read_fields(head)
        for key, value in fields.items():
            if "=" in value.strip("=") and key not in OF_A_NAME:
                raise ValueError(f"{key} has more than one equals sign")
        features = bounded("features", integer(fields, "max_feature_idx") + 1, MAX_FEATURES)
        names, infos = (_words(fields, name, features) for name in ("feature_names", "feature_infos"))
        if "monotone_constraints" in fields and len(integers(fields, "monotone_constraints")) != features:
            raise ValueError("monotone_constraints is not one for each feature")
        integer(fields, "label_index")
        classes = bounded("classes", integer(fields, "num_class"), MAX_OUTPUTS)
        # LightGBM 2.0.0 and older had as many trees in an iteration as classes.
        outputs = integer(fields, "num_tree_per_iteration") if "num_tree_per_iteration" in fields else classes
        bounded("outputs", outputs, MAX_OUTPUTS)
        bounded("trees", fields.get("tree_sizes", "").count(" ") + 1, MAX_TREES)
        sizes = integers(fields, "tree_sizes").tolist() if "tree_sizes" in fields else None
    except ForestError:
        raise
    except (KeyError, ValueError) as error:
        raise ForestError(f"the booster's header is damaged: {error}") from error
    objective = fields.get("objective", "")
    if "objective" in fields and not objective.strip():
        raise ForestError("the booster's header is damaged: its objective is blank")
    told = re.search(r" num_class:(\S*)", objective)
    if classes != outputs or (told and told[1] != str(outputs)):
        raise ForestError(f"the booster's header has {classes} classes, {outputs} outputs and objective {objective!r}")
    if outputs < 1:
        raise ForestError(f"the booster's header has {outputs} outputs")
    return Header(
        version=fields.get("version", ""),
        names=names,
        infos=infos,
        outputs=outputs,
        objective="" if objective in NO_OBJECTIVE else objective,
        average="average_output" in head.split("\n"),
        sizes=sizes,
    )


def bounded(what: str, count: int, most: int) -> int:
    """The count; raise ForestError where it is more than a model may have."""
    if count > most:
        raise ForestError(f"the booster has {count} {what}, and at most {most} are read")
    return count


def _words(fields: dict[str, str], name: str, features: int) -> tuple[str, ...]:
    """The words of a line, one for each feature."""
    value = fields[name]
    bounded(name.replace("_", " "), value.count(" ") + 1, MAX_FEATURES)
    if "=" not in value.strip("="):
        # LightGBM parts such a line at its equals signs.
        value = value.strip("=")
    words = tuple(word for word in value.split(" ") if word)
    if len(words) != features:
        says = "names" if name == "feature_names" else f"has {name} of"
        raise ForestError(f"the booster's header {says} {len(words)} features, and counts {features}")
    return words
