"""Bodies of scoring requests in JSON: MLflow's four formats, each in one typed pass if nothing is to be converted.

Any other body is read again without types, by MLflow's own rules: see `frames.py`. As in MLflow, other fields and other
columns are ignored, and of a name that appears more than once the last value counts.
"""

import json
import struct
from functools import lru_cache
from operator import itemgetter
from typing import Any

import msgspec
import numpy as np
from msgspec import UNSET, UnsetType
from msgspec.structs import astuple

from app.codecs.coding import Coding
from app.codecs.filled import check_filled, check_objects
from app.codecs.json.duplicates import ABSENT
from app.codecs.json.objects import REFUSED, to_array
from app.codecs.json.types import feature_struct
from app.codecs.rules import FloatArray, check_rows
from app.errors import BadRequest, InvalidInput, MalformedBody
from app.feature import Feature
from app.models.signature import Layout
from app.protocols.mlflow.casts import convert
from app.protocols.mlflow.frames import INPUTS, INSTANCES, RECORDS, SPLIT, frame_of
from app.protocols.mlflow.schema import Places, check_required, check_some, places_of, type_in_mlflow

MOST_OTHERS = 100
"""Most columns of a frame, beside the model's features, of which a decoder is made and kept."""


class Doubtful(Exception):
    """The body may be valid, but not for the typed pass."""


class _Columns(msgspec.Struct):
    columns: list[str] | UnsetType = UNSET


class _Named(msgspec.Struct):
    """Names of the columns of a frame, whose rows cannot be typed before these are known."""

    dataframe_split: _Columns | UnsetType = UNSET


_NAMES = msgspec.json.Decoder(_Named)


class ScoringReader:
    """Reads the bodies of requests for one model.

    Args:
        features: The model's features, in the engine's order.
        layout: How its signature tells columns apart.
        arrays: Whether nested lists in the order of the features are taken although these have names.
    """

    def __init__(self, features: tuple[Feature, ...], layout: Layout, arrays: bool) -> None:
        self._features = features
        self._layout: Layout = layout
        self._arrays = arrays
        self._names = [feature.name for feature in features]
        self._types = tuple(map(type_in_mlflow, features))
        self._coding = Coding(features, rounds=False)
        self._single = [index for index, feature in enumerate(features) if feature.single]
        named = layout == "named"
        row: Any = feature_struct("Features", features, self._types, ABSENT, others=named)
        lists = [list[kind] if feature.required else list[kind] | UnsetType
                 for kind, feature in zip(self._types, features, strict=True)]  # fmt: skip
        columns: Any = feature_struct("Columns", features, lists, UNSET, others=True)
        self._rows: Any = list[row]
        self._inputs: Any = list[row] | columns if named else None
        self._nested = self._nested_decoder() if layout == "tensor" or (arrays and layout != "unsigned") else None
        self._pack = struct.Struct(f"{len(features)}d").pack
        self._decoder = self._decoder_of(self._types)
        self._decoders = lru_cache(maxsize=16)(self._decoder_in_order)

    def decode(self, body: bytes | bytearray, max_rows: int) -> FloatArray:
        """Decode a body.

        Returns:
            float64[B, F] in the features' order.

        Raises:
            MalformedBody: The body is not JSON.
            TooLarge: The body holds more than `max_rows` rows, or far more missing values than bytes.
            BadRequest: The body is in none of the formats, or values are not of their columns' types.
            InvalidInput: The columns are not those of the signature.
        """
        check_objects(body, self._features)
        try:
            if not body.isascii():
                body.decode()  # msgspec does not look at what is ignored
            return self._read(body, max_rows)
        except (*REFUSED, Doubtful):
            return self._read_again(body, max_rows)

    def _read(self, body: bytes | bytearray, max_rows: int) -> FloatArray:
        """Read a body whose values have the right types and places; for any other, an error that names no fault."""
        if self._nested is not None and (rows := _nested_rows(self._nested, body)):
            self._check(len(rows), max_rows, body)
            return self._array(rows, len(rows), None)
        places = None
        try:
            request = self._decoder.decode(body)
            split = request.dataframe_split
            if split is not UNSET:
                places = self._places(split.columns)
                if places is not None:
                    request = self._in_order(body, places, len(split.columns))
        except msgspec.ValidationError:
            named = _NAMES.decode(body).dataframe_split
            names = UNSET if named is UNSET else named.columns
            places = None if names is UNSET else self._places(names)
            if places is None or names is UNSET:
                raise
            request = self._in_order(body, places, len(names))
        given = [part for part in astuple(request) if part is not UNSET]
        if len(given) != 1 or isinstance(given[0], msgspec.Raw):
            raise Doubtful
        (part,) = given
        if request.dataframe_split is not UNSET:
            if part.index is not None and len(part.index) != len(part.data):
                raise Doubtful
            rows = part.data
        elif isinstance(part, list):
            self._check(len(part), max_rows, body)
            return self._array(map(astuple, part), len(part), None)
        else:
            return self._of_columns(part, max_rows, body)
        self._check(len(rows), max_rows, body)
        return self._array(rows, len(rows), places)

    def _read_again(self, body: bytes | bytearray, max_rows: int) -> FloatArray:
        """Read a body without types, to convert its values or to name its faults."""
        try:
            value = json.loads(body)
        except (ValueError, RecursionError):
            raise MalformedBody("The body is not valid JSON.") from None

        def check(rows: int) -> None:
            self._check_filled(rows, max_rows, body)

        frame = frame_of(value, self._features, self._layout, check, arrays=self._arrays)
        places = places_of(frame.names, self._features, self._layout)
        check(frame.rows)
        rows = convert(frame.column, places, frame.rows, self._features, texts=self._layout != "unsigned")
        check_some(frame.rows)
        return rows

    def _check(self, rows: int, max_rows: int, body: bytes | bytearray) -> None:
        if not rows:
            raise Doubtful
        self._check_filled(rows, max_rows, body)

    def _check_filled(self, rows: int, max_rows: int, body: bytes | bytearray) -> None:
        check_rows(rows, max_rows)
        check_filled(rows, len(self._features), len(body))

    def _places(self, names: list[str] | UnsetType) -> Places | None:
        """Position of each feature's value in a row; None for rows in the features' order."""
        if names is UNSET:
            if self._layout == "named":
                raise Doubtful
            return None
        if names == self._names:
            return None
        try:
            places = places_of(names, self._features, self._layout)
            check_required(places, self._features)
        except (InvalidInput, BadRequest):
            raise Doubtful from None
        return None if places == list(range(len(names))) else places

    def _in_order(self, body: bytes | bytearray, places: Places, width: int) -> Any:
        """The body, its rows being typed by the position of each feature's value."""
        if width > len(self._features) + MOST_OTHERS:
            raise Doubtful
        return self._decoders(tuple(places), width).decode(body)

    def _decoder_in_order(self, places: tuple[int | None, ...], width: int) -> msgspec.json.Decoder[Any]:
        types: list[Any] = [Any] * width
        for place, kind in zip(places, self._types, strict=True):
            if place is not None:
                types[place] = kind
        return self._decoder_of(tuple(types))

    def _of_columns(self, part: msgspec.Struct, max_rows: int, body: bytes | bytearray) -> FloatArray:
        columns = astuple(part)
        lengths = {len(column) for column in columns if column is not UNSET}
        if len(lengths) != 1 or lengths == {0}:
            raise Doubtful
        (count,) = lengths
        self._check_filled(count, max_rows, body)
        return self._by_column([None if column is UNSET else column for column in columns], count)

    def _array(self, rows: Any, count: int, places: Places | None) -> FloatArray:
        """float64[B, F] of rows of decoded values."""
        if places is not None and None not in places and len(places) > 1:
            rows, places = map(itemgetter(*places), rows), None
        if places is not None:
            columns = list(zip(*rows, strict=True))
            return self._by_column([None if place is None else columns[place] for place in places], count)
        coding = self._coding
        if count == 1 and coding.plain and not self._single:
            (values,) = rows
            try:  # the fastest way to a small array
                return np.ndarray((1, len(values)), np.float64, self._pack(*values))
            except struct.error:  # a value is None
                rows = (values,)
        return self._rounded(to_array(rows if coding.plain else map(coding.numbers, rows), count, len(self._names)))

    def _by_column(self, columns: list[Any], count: int) -> FloatArray:
        matrix = np.empty((count, len(columns)))
        for index, column in enumerate(columns):
            matrix[:, index] = np.nan if column is None else self._coding.column(index, column, count)
        return self._rounded(matrix)

    def _rounded(self, rows: FloatArray) -> FloatArray:
        if self._single:
            with np.errstate(over="ignore"):
                rows[:, self._single] = rows[:, self._single].astype(np.float32)
        return rows

    def _decoder_of(self, types: tuple[Any, ...]) -> msgspec.json.Decoder[Any]:
        """Decodes a body whose lists of values are of these types."""
        lists: Any = list[tuple[types]]  # pyright: ignore[reportInvalidTypeArguments]
        fields: list[Any] = [("data", lists), ("columns", list[str] | UnsetType, UNSET),
                             ("index", list[msgspec.Raw] | None, None)]  # fmt: skip
        split: Any = msgspec.defstruct("Split", fields, forbid_unknown_fields=True)
        return _request_decoder(split, self._rows, self._inputs)

    def _nested_decoder(self) -> msgspec.json.Decoder[Any]:
        """Decodes a body whose rows are nested lists, which no type tells from lists of objects."""
        return _request_decoder(None, None, list[tuple[self._types]])  # pyright: ignore[reportInvalidTypeArguments]


def _nested_rows(decoder: msgspec.json.Decoder[Any], body: bytes | bytearray) -> list[tuple[Any, ...]] | None:
    """Rows that are nested lists; None for any other body."""
    try:
        given = [part for part in astuple(decoder.decode(body)) if part is not UNSET]
    except msgspec.ValidationError:
        return None
    return given[0] if len(given) == 1 and isinstance(given[0], list) else None


def _request_decoder(split: Any, records: Any, inputs: Any) -> msgspec.json.Decoder[Any]:
    """Decodes a body with formats of these types; one of None is left as it is."""
    parts: list[tuple[str, Any]] = [(SPLIT, split), (RECORDS, records), (INSTANCES, inputs), (INPUTS, inputs)]
    fields = [(name, msgspec.Raw if part is None else part | UnsetType, UNSET) for name, part in parts]
    return msgspec.json.Decoder(msgspec.defstruct("Request", fields))


@lru_cache(maxsize=4)
def scoring_reader(features: tuple[Feature, ...], layout: Layout, arrays: bool = False) -> ScoringReader:
    """The reader of a model's requests; kept, since to make one takes a millisecond."""
    return ScoringReader(features, layout, arrays)
