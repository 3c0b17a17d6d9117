"""A model's reference: how the values of its features and its predictions were spread, as a JSON file."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from math import isfinite
from typing import Annotated, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from app.codecs.categories import codes_of, values_of
from app.drift.histogram import Histogram, quantile_histogram
from app.feature import Category, Feature

Array = NDArray[np.float64]
Source = Literal["training", "profile", "served"]
Share = Annotated[float, msgspec.Meta(ge=0, le=1)]

MAX_FEATURES = 50
"""Features that are watched, so that the series of a wide model stay few."""

MAX_OUTPUTS = 20
"""Outputs of a model that are watched."""

MAX_BINS = 21
"""Bins of a feature: twenty, and one for a greatest value that is a bin by itself."""

MAX_CATEGORIES = 20
"""Categories that are counted one by one; all others are counted together."""

MAX_PROFILE_BYTES = 1024 * 1024
"""Largest file of a profile. One of 50 features takes some 60 kB; names and categories may be long."""


class ProfileError(ValueError):
    """A profile cannot be used; the message names what is wrong."""


class Categories(msgspec.Struct, frozen=True, kw_only=True):
    """Shares of a feature's categories.

    Attributes:
        values: The categories, the most frequent first; at most `MAX_CATEGORIES`.
        shares: Share of the present values in each.
        other: Share of the present values in all other categories.
        missing: Share of all values that are missing, or none of the model's categories.
    """

    values: tuple[Category, ...]
    shares: tuple[Share, ...]
    other: Share
    missing: Share


class Profile(msgspec.Struct, frozen=True, kw_only=True):
    """How the features and predictions of some rows are spread.

    Attributes:
        source: The rows: those that the model was fitted on, those of a file, or the first that were served.
        rows: Number of rows behind the features.
        prediction_rows: Number of rows behind the predictions. Of a trained model these are others: it has seen the
            targets of the rows that it was fitted on, so its predictions for them are not spread like those for new
            rows.
        numbers: Histograms of features that are numbers, by name.
        categories: Shares of features that are categories, by name.
        prediction: Histogram of each output, at most `MAX_OUTPUTS`.
    """

    source: Source
    rows: Annotated[int, msgspec.Meta(ge=1, lt=2**53)]
    prediction_rows: Annotated[int, msgspec.Meta(ge=1, lt=2**53)]
    numbers: dict[str, Histogram]
    categories: dict[str, Categories] = {}
    prediction: tuple[Histogram, ...]

    def to_json(self) -> bytes:
        """The profile as JSON on several lines."""
        return msgspec.json.format(msgspec.json.encode(self), indent=1) + b"\n"

    @classmethod
    def from_json(cls, content: bytes) -> "Profile":
        """Read a profile.

        Raises:
            ProfileError: The content is no profile.
        """
        try:
            profile = msgspec.json.decode(content, type=cls)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise ProfileError(f"is not valid: {error}"[:300]) from error
        for name, histogram in profile.numbers.items():
            _check_histogram(f"the feature {name[:100]!r}", histogram)
        for place, histogram in enumerate(profile.prediction):
            _check_histogram(f"output {place}", histogram)
        for name, shares in profile.categories.items():
            _check_categories(f"the feature {name[:100]!r}", shares)
        if len(profile.numbers) + len(profile.categories) > MAX_FEATURES:
            raise ProfileError(f"has more than {MAX_FEATURES} features")
        return profile

    def check(self, features: Sequence[Feature], outputs: int) -> None:
        """Raise ProfileError unless the profile is one of a model of these features and outputs."""
        kinds = {feature.name: feature.kind == "category" for feature in features}
        codes = {feature.name: codes_of(feature) for feature in features}
        for name in (*self.numbers, *self.categories):
            if name not in kinds:
                raise ProfileError(f"has the feature {name[:100]!r}, which the model does not have")
            if kinds[name] != (name in self.categories):
                is_one = "a category" if kinds[name] else "no category"
                raise ProfileError(f"does not fit the feature {name[:100]!r}, which is {is_one} of the model")
        for name, shares in self.categories.items():
            for value in shares.values:
                if value not in codes[name]:
                    raise ProfileError(
                        f"has the category {value!r:.100} of the feature {name[:100]!r}, which the model does not have"
                    )
        if len(self.prediction) != min(outputs, MAX_OUTPUTS):
            raise ProfileError(f"has {len(self.prediction)} outputs, and the model has {outputs}")


def make_profile(
    features: Sequence[Feature],
    rows: Array,
    prediction: Array,
    source: Source,
    watched: Sequence[str] | None = None,
) -> Profile:
    """Profile of rows and of predictions, which may be those of other rows.

    Args:
        features: The F features of the rows.
        rows: float64[N, F], N > 0, with codes for categories.
        prediction: float64[M] or float64[M, K], M > 0.
        source: What the rows are.
        watched: Names of the features to describe; by default the first `MAX_FEATURES`.
    """
    names = set([feature.name for feature in features][:MAX_FEATURES] if watched is None else watched)
    columns = {feature.name: (feature, rows[:, place]) for place, feature in enumerate(features)}
    chosen = {name: column for name, column in columns.items() if name in names}
    outputs = prediction.reshape(len(prediction), -1)[:, :MAX_OUTPUTS]
    return Profile(
        source=source,
        rows=len(rows),
        prediction_rows=len(prediction),
        numbers={
            name: quantile_histogram(values) for name, (feature, values) in chosen.items() if feature.kind != "category"
        },
        categories={
            name: _shares_of(values, values_of(feature))
            for name, (feature, values) in chosen.items()
            if feature.kind == "category"
        },
        prediction=tuple(quantile_histogram(values) for values in outputs.T),
    )


def _shares_of(codes: Array, values: Mapping[int, Category]) -> Categories:
    present = codes[np.isfinite(codes)].astype(np.int64)
    found, counts = np.unique(present, return_counts=True)
    order = np.argsort(-counts, kind="stable")[:MAX_CATEGORIES]
    shares = counts[order] / max(1, len(present))
    return Categories(
        values=tuple(values[code] for code in found[order].tolist()),
        shares=tuple(shares.tolist()),
        other=max(0.0, 1.0 - float(shares.sum())) if len(found) > len(order) else 0.0,
        missing=1 - len(present) / len(codes),
    )


def _check_histogram(what: str, histogram: Histogram) -> None:
    """Refuse edges that do not ascend, and shares that are not those of as many bins."""
    edges, shares = histogram.edges, histogram.shares
    if len(shares) > MAX_BINS:
        raise ProfileError(f"has {len(shares)} bins for {what}, and at most {MAX_BINS} are read")
    if len(edges) != (len(shares) + 1 if shares else 0):
        raise ProfileError(f"has {len(edges)} edges and {len(shares)} bins for {what}")
    inner = edges[:-1]
    if not all(map(isfinite, edges)) or any(low >= high for low, high in pairwise(inner)) or edges[-1:] < inner[-1:]:
        raise ProfileError(f"has edges that do not ascend for {what}")
    _check_shares(what, shares, histogram.missing)


def _check_categories(what: str, categories: Categories) -> None:
    if len(categories.values) != len(categories.shares) or len(categories.values) > MAX_CATEGORIES:
        raise ProfileError(
            f"has {len(categories.values)} categories and {len(categories.shares)} shares for {what}, and at most "
            f"{MAX_CATEGORIES} are read"
        )
    if len(set(categories.values)) < len(categories.values):
        raise ProfileError(f"has a category twice for {what}")
    _check_shares(what, (*categories.shares, categories.other) if categories.values else (), categories.missing)


def _check_shares(what: str, shares: Sequence[float], missing: float) -> None:
    if not 0 <= missing <= 1 or any(not 0 <= share <= 1 for share in shares):
        raise ProfileError(f"has a share that is not from 0 to 1 for {what}")
    if shares and abs(sum(shares) - 1) > 1e-6:
        raise ProfileError(f"has shares that do not sum to 1 for {what}")
