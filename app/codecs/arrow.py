"""Arrow IPC streams to batches and predictions back, for bulk scoring by column name.

The format is https://arrow.apache.org/docs/format/Columnar.html#ipc-streaming-format.
"""

import struct
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from app.errors import FieldError, InvalidInput, MalformedBody, TooLarge, UnsupportedMediaType
from app.feature import Feature

MEDIA_TYPE = "application/vnd.apache.arrow.stream"

# Places in the flatbuffers tables of Arrow's format/Message.fbs.
MESSAGE_HEADER = 2
RECORD_BATCH_LENGTH = 0
RECORD_BATCH_COMPRESSION = 3


def decode(body: bytes, features: tuple[Feature, ...], max_rows: int) -> NDArray[np.float64]:
    """Decode a stream whose columns are the features, in any order; those that are not required may be left out.

    Row counts are read before a batch is decoded, and compressed buffers are refused, so that a small body cannot
    unfold into a large one.

    Returns:
        float64[B, F] in the features' order; a null is NaN, and so is all of a column that was left out.

    Raises:
        MalformedBody: It is no Arrow stream.
        TooLarge: It holds more than `max_rows` rows.
        InvalidInput: Columns are missing, unknown or of a wrong type, or hold values that the model does not take.
    """
    reader = pa.ipc.MessageReader.open_stream(pa.py_buffer(body))
    try:
        schema = pa.ipc.read_schema(reader.read_next_message())
        _check_schema(schema, features)
        batches: list[pa.RecordBatch] = []
        rows = 0
        while (message := _next(reader)) is not None:
            rows += _declared_rows(message)
            if rows > max_rows:
                raise TooLarge(f"The body holds more than the {max_rows} rows of MAX_BULK_ROWS.")
            batch = pa.ipc.read_record_batch(message, schema)
            batch.validate(full=True)
            batches.append(batch)
    except (pa.ArrowException, OSError, StopIteration, ValueError, struct.error) as error:
        raise MalformedBody("The body is not a valid Arrow IPC stream.") from error
    table = pa.Table.from_batches(batches, schema)
    matrix = np.empty((table.num_rows, len(features)))
    errors: list[FieldError] = []
    for index, feature in enumerate(features):
        if feature.name not in schema.names:
            matrix[:, index] = np.nan
            continue
        column = table.column(feature.name).cast(pa.float64(), safe=False)
        matrix[:, index] = column.to_numpy() if column.null_count == 0 else column.fill_null(np.nan).to_numpy()
        if message := _fault(feature, matrix[:, index]):
            errors.append(FieldError(feature.name, message))
    if errors:
        raise InvalidInput("Some columns hold values that the model does not take.", tuple(errors))
    return matrix


def encode(
    predictions: NDArray[np.float64], model_version: str, half_widths: NDArray[np.float64] | None = None
) -> bytes:
    """Encode predictions as a stream.

    Args:
        predictions: float64[B], a column `prediction`, or float64[B, K], columns `prediction_0` to `prediction_{K-1}`.
        model_version: Goes into the schema's metadata.
        half_widths: float64[B], of the intervals about float64[B] predictions: two more columns, `lower` and `upper`.
    """
    columns = (
        {"prediction": predictions}
        if predictions.ndim == 1
        else {f"prediction_{k}": np.ascontiguousarray(predictions[:, k]) for k in range(predictions.shape[1])}
    )
    if half_widths is not None:
        columns |= {"lower": predictions - half_widths, "upper": predictions + half_widths}
    table = pa.table(columns).replace_schema_metadata({"model_version": model_version})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue().to_pybytes()


def _next(reader: Any) -> Any:
    try:
        return reader.read_next_message()
    except StopIteration:
        return None


def _check_schema(schema: Any, features: tuple[Feature, ...]) -> None:
    errors: list[FieldError] = []
    names = {feature.name for feature in features}
    for feature in features:
        found = schema.get_all_field_indices(feature.name)
        if not found and not feature.required:
            continue
        if len(found) != 1:
            errors.append(FieldError(feature.name, "is there more than once" if found else "is missing"))
        elif not _takes(feature, kind := schema.field(found[0]).type):
            errors.append(FieldError(feature.name, f"must be a column of {feature.kind} type, not {kind}"))
    errors += [FieldError(name, "unknown column") for name in schema.names if name not in names]
    if errors:
        raise InvalidInput("The columns are not the model's features.", tuple(errors))


def _takes(feature: Feature, kind: Any) -> bool:
    if feature.kind == "boolean":
        return pa.types.is_boolean(kind)
    if feature.kind == "integer":
        return pa.types.is_integer(kind)
    return pa.types.is_floating(kind) or pa.types.is_integer(kind)


def _fault(feature: Feature, values: NDArray[np.float64]) -> str | None:
    bad = np.isinf(values) if not feature.required else ~np.isfinite(values)
    message = "must be finite numbers"
    if not bad.any() and feature.physical_range is not None:
        low, high = feature.physical_range
        bad = (values < low) | (values > high)
        message = f"must be in the range {low:.10g} to {high:.10g}"
    count = int(np.count_nonzero(bad))
    return f"{message}; {count} rows are not, the first is row {int(np.argmax(bad))}" if count else None


def _declared_rows(message: Any) -> int:
    """Rows of a record batch message, from its metadata alone."""
    if message.type != "record batch":
        raise MalformedBody("The Arrow stream may hold a schema and record batches only.")
    metadata = message.metadata.to_pybytes()
    root = struct.unpack_from("<I", metadata, 0)[0]
    header = _field(metadata, root, MESSAGE_HEADER)
    if header is None:
        raise MalformedBody("The Arrow stream has a message without a header.")
    batch = header + struct.unpack_from("<I", metadata, header)[0]
    if _field(metadata, batch, RECORD_BATCH_COMPRESSION) is not None:
        raise UnsupportedMediaType("Arrow streams with compressed buffers are not read.")
    length = _field(metadata, batch, RECORD_BATCH_LENGTH)
    return 0 if length is None else int(struct.unpack_from("<q", metadata, length)[0])


def _field(buffer: bytes, table: int, index: int) -> int | None:
    """Position of a field in a flatbuffers table, None where it is absent (https://flatbuffers.dev/internals)."""
    vtable = table - struct.unpack_from("<i", buffer, table)[0]
    size = struct.unpack_from("<H", buffer, vtable)[0]
    entry = 4 + 2 * index
    offset = struct.unpack_from("<H", buffer, vtable + entry)[0] if entry + 2 <= size else 0
    return table + offset if offset else None
