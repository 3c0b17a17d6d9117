"""What a pipeline takes of a GPU, and whether it can be computed there."""

from kernels.backend import Pipeline
from kernels.forest.forest import Forest


def forests_of(pipeline: Pipeline) -> tuple[Forest, ...]:
    """The pipeline's forests, checked so that the kernels stay within their arrays."""
    forests: list[Forest] = []
    for forest in pipeline.forests:
        if not isinstance(forest, Forest):
            raise TypeError(f"only LightGBM evaluates such a forest: {forest.status.reason}")
        forests.append(forest)
    if pipeline.program is None and not forests:
        raise ValueError("a pipeline must have a program or a forest")
    n_features = forests[0].n_features if pipeline.program is None else pipeline.program.n_outputs
    if any(forest.n_features != n_features for forest in forests):
        raise ValueError(f"all forests must take the {n_features} features that there are")
    if pipeline.distance is not None and not 0 <= pipeline.distance < n_features:
        raise ValueError(f"the distance must be one of {n_features} features, got {pipeline.distance}")
    return tuple(forests)


def width(pipeline: Pipeline) -> int:
    """Number of a row's scores, the distance included; at least one."""
    return max(1, sum(forest.n_outputs for forest in pipeline.forests) + (pipeline.distance is not None))


def row_bytes(pipeline: Pipeline) -> int:
    """Bytes of device memory that a row takes; at least one."""
    program, forests = pipeline.program, pipeline.forests
    raw = forests[0].n_features if program is None else program.n_inputs
    taken = max(1, 8 * raw)
    if program is not None:
        taken += 8 * max(1, len(program.points)) + 4 * program.n_outputs
    if forests:
        columns = sum(len(forest.predicates.columns) for forest in forests if isinstance(forest, Forest))
        taken += 2 * columns + 8 * width(pipeline)
    return taken
