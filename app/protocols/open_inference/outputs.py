"""Tensors that a model takes and gives, whatever carries them."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple, cast

import numpy as np
import pyarrow as pa

from app.codecs.arrays.tensors import BYTES, Tensor
from app.codecs.categories import holds_text
from app.codecs.classes import Labels, class_indices, probabilities
from app.codecs.columns.record_batches import label_array
from app.codecs.rules import MAX_ERRORS, REPEATED, FloatArray, printable
from app.config.settings import Settings
from app.errors import FieldError, InvalidInput
from app.feature import Feature
from app.models.predictions.interval import Intervals
from app.models.served import ServedModel
from app.predict.query import ADDITIONS, Asked
from app.predict.result import table_answer
from app.serving.needs import Needs
from kernels.engine import Evaluation

FEATURES = "features"
"""Name of the tensor of all features, of a model of numbers."""

PREDICTION, LOWER, UPPER, LABEL, PROBABILITIES, RAW_SCORE = (
    "prediction", "lower", "upper", "label", "probabilities", "raw_score",
)  # fmt: skip
OTHER_NAMES = frozenset({"predict", "output-0", "output__0"})
"""Names of the prediction in MLServer, in KServe's server for LightGBM, and in Triton's FIL backend. Requests that ask
for one of these are answered by that name."""

INTERVAL = "interval"

IGNORED = frozenset({"priority", "timeout", "sequence_id", "sequence_start", "sequence_end", "content_type"})
"""Parameters of requests to Triton and MLServer that change no answer here. Their clients may send them."""

FLOAT64 = "FP64"
LABEL_DATATYPES = {pa.bool_(): "BOOL", pa.int64(): "INT64", pa.float64(): FLOAT64, pa.string(): BYTES}


class TensorMetadata(NamedTuple):
    """A tensor that a model takes or gives.

    Attributes:
        name: Name.
        datatype: Datatype.
        shape: Dimensions; -1 is a variable one.
    """

    name: str
    datatype: str
    shape: tuple[int, ...]


class Wanted(NamedTuple):
    """Outputs that a request asks for.

    Attributes:
        names: Their names, in the order of the answer.
        level: Level of the intervals; None where no bound is asked for.
        needs: What is to be computed beside predictions.
    """

    names: tuple[str, ...]
    level: float | None
    needs: Needs


def inputs_of(served: ServedModel) -> tuple[TensorMetadata, ...]:
    """Tensors that a model takes: one of all features if they are numbers, else one for each feature."""
    features = served.artifact.features
    if all(feature.kind == "number" for feature in features):
        return (TensorMetadata(FEATURES, FLOAT64, (-1, len(features))),)
    return tuple(TensorMetadata(feature.name, _datatype(feature), (-1, 1)) for feature in features)


def outputs_of(served: ServedModel) -> tuple[TensorMetadata, ...]:
    """Tensors that a model can give."""
    width = served.artifact.forest.n_outputs
    outputs = [TensorMetadata(PREDICTION, FLOAT64, (-1, width))]
    if served.artifact.intervals is not None:
        outputs += [TensorMetadata(name, FLOAT64, (-1, 1)) for name in (LOWER, UPPER)]
    if served.labels is not None:
        outputs.append(TensorMetadata(LABEL, LABEL_DATATYPES[label_array(served.labels).type], (-1, 1)))
    if PROBABILITIES in served.outputs:
        outputs.append(TensorMetadata(PROBABILITIES, FLOAT64, (-1, 2 if width == 1 else width)))
    outputs.append(TensorMetadata(RAW_SCORE, FLOAT64, (-1, width)))
    return tuple(outputs)


def wanted_of(
    names: Sequence[str], parameters: Mapping[str, object], served: ServedModel, settings: Settings
) -> Wanted:
    """Outputs that a request asks for.

    Args:
        names: Outputs that the request names. If it names none, it gets the prediction, what MODEL_OUTPUT adds to
            tables, and the bounds if it has the parameter `interval`.
        parameters: Parameters of the request, without those of its transport.
        served: Model that answers.
        settings: Settings of the service.

    Raises:
        InvalidInput: The model gives no such output, an output is named twice, the model has no intervals of the level
            `interval`, or there is an unknown parameter.
    """
    level = _level(parameters, served.artifact.intervals)
    if not names:
        names = _by_default(served, settings, bounds=level is not None)
    elif len(names) > 1 or names[0] != PREDICTION:
        _check_names(names, served)
    intervals = served.artifact.intervals
    if intervals is None or (LOWER not in names and UPPER not in names):
        level = None
    elif level is None:
        level = intervals.default_level
    return Wanted(tuple(names), level, Needs(RAW_SCORE in names))


def output_tensors(served: ServedModel, wanted: Wanted, evaluation: Evaluation) -> list[Tensor]:
    """The tensors that were asked for: float64[B, 1] or float64[B, K], and labels [B, 1] of their own kind.

    Raises:
        PredictionNotFinite: The model has no finite answer to some of the rows.
    """
    result = table_answer(served, evaluation, Asked(wanted.level, ()))
    result.check_finite()
    bounds = result.columns(0, result.rows) if wanted.level is not None else {}
    tensors: list[Tensor] = []
    for name in wanted.names:
        if name == LABEL:
            tensors.append(_labels(served.labels or (), result.prediction))
        elif name == PROBABILITIES:
            tensors.append(_numbers(name, probabilities(result.prediction)))
        elif name == RAW_SCORE and evaluation.raw_score is not None:
            tensors.append(_numbers(name, evaluation.raw_score))
        else:
            tensors.append(_numbers(name, bounds[name] if name in (LOWER, UPPER) else result.prediction))
    return tensors


def _by_default(served: ServedModel, settings: Settings, *, bounds: bool) -> list[str]:
    """Names of the outputs of a request that names none."""
    setting = settings.model_output
    added = ADDITIONS[setting] if setting != "auto" and setting in served.outputs else ()
    return [PREDICTION, *((LOWER, UPPER) if bounds else ()), *added]


def _check_names(names: Sequence[str], served: ServedModel) -> None:
    known = [output.name for output in outputs_of(served)]
    errors: list[FieldError] = []
    seen: set[str] = set()
    for name in names:
        if name not in known and name not in OTHER_NAMES:
            errors.append(FieldError(printable(name), f"is no output of the model, which gives {', '.join(known)}"))
        elif name in seen:
            errors.append(FieldError(name, REPEATED))
        seen.add(name)
        if len(errors) == MAX_ERRORS:
            break
    if errors:
        raise InvalidInput("The outputs are not the model's.", tuple(errors))


def _level(parameters: Mapping[str, object], intervals: Intervals | None) -> float | None:
    """The level that the parameters name, None where they name none."""
    unknown = [name for name in parameters if name != INTERVAL and name not in IGNORED]
    if unknown:
        errors = [FieldError(printable(name), "unknown parameter") for name in unknown[:MAX_ERRORS]]
        raise InvalidInput("The parameters are not valid.", tuple(errors))
    if INTERVAL not in parameters:
        return None
    given = parameters[INTERVAL]
    if intervals is None:
        message = "cannot be asked for: the model has no intervals"
    elif isinstance(given, bool) or not isinstance(given, int | float) or given not in intervals.levels:
        message = f"must be one of the model's levels {', '.join(map(str, intervals.levels))}"
    else:
        return float(given)
    raise InvalidInput("The parameters are not valid.", (FieldError(INTERVAL, message),))


def _numbers(name: str, values: FloatArray) -> Tensor:
    width = 1 if values.ndim == 1 else values.shape[1]
    return Tensor(name, FLOAT64, (len(values), width), np.ascontiguousarray(values, np.float64).reshape(-1))


def _labels(labels: Labels, prediction: FloatArray) -> Tensor:
    """Label of each row."""
    array, places = label_array(labels), class_indices(prediction, labels)
    datatype, shape = LABEL_DATATYPES[array.type], (len(prediction), 1)
    if datatype != BYTES:
        return Tensor(LABEL, datatype, shape, array.to_numpy(zero_copy_only=False)[places])
    texts = cast(list[str], array.to_pylist())
    return Tensor(LABEL, datatype, shape, [texts[place] for place in places.tolist()])


def _datatype(feature: Feature) -> str:
    """Datatype that carries the values of a feature."""
    if feature.kind != "category":
        return {"number": FLOAT64, "integer": "INT64", "boolean": "BOOL"}[feature.kind]
    if holds_text(feature):
        return BYTES
    return LABEL_DATATYPES[label_array(feature.categories or ()).type]
