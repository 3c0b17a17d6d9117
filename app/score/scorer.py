"""Record batches in, record batches with predictions out."""

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from msgspec.structs import replace
from numpy.typing import NDArray

from app.codecs import categories
from app.codecs.batch_builder import BatchBuilder
from app.codecs.columns import cells
from app.codecs.columns.record_batches import Filler, needs_kinds, record_batch, schema_of, validate
from app.codecs.result import Result
from app.codecs.rules import FloatArray, match_columns
from app.errors import InvalidInput
from app.feature import Feature
from app.models.served import ServedModel
from app.predict.query import Asked
from app.predict.result import table_answer
from app.score.bad_rows import BadRows, RowFaults
from app.score.json_lines import NOTHING, Unread
from app.score.options import ScoreOptions, ScoreRefused
from kernels.engine import Evaluation

NOT_FINITE = "is not finite"


class Scored(NamedTuple):
    """A scored record batch.

    Attributes:
        batch: Kept columns, then predictions and the rest.
        bad: Rows that the model does not answer.
    """

    batch: Any
    bad: BadRows


class _Columns(NamedTuple):
    """What is read of a record batch.

    Attributes:
        places: Position of each feature's column; None where an optional one has none.
        names: The input's name of each feature.
        kept: Names of the columns that go to the output.
    """

    places: list[int | None]
    names: dict[str, str]
    kept: list[str]


class Scorer:
    """Scores record batches by the service's rules for features. Safe to call from several threads at once.

    The kernels release the GIL, so that threads score side by side.

    Args:
        served: The model.
        options: What the output has.

    Raises:
        ScoreRefused: The model cannot give it.
    """

    def __init__(self, served: ServedModel, options: ScoreOptions = ScoreOptions()) -> None:  # noqa: B008 (frozen)
        intervals, artifact = served.artifact.intervals, served.artifact
        if options.level is not None and (intervals is None or options.level not in intervals.levels):
            others = f"its levels are {', '.join(map(str, intervals.levels))}" if intervals else "nor of any other"
            raise ScoreRefused(f"The model has no intervals of level {options.level}, {others}.")
        if options.labels and served.labels is None:
            raise ScoreRefused("The model has no labels.")
        if options.explain and served.engine.explainable is not None:
            raise ScoreRefused(f"The predictions of the model cannot be explained: {served.engine.explainable}.")
        if options.top is not None and artifact.forest.n_outputs > 1:
            raise ScoreRefused("A model of several outputs can only be explained by all features.")
        unknown = set(options.renamed.values()) - {feature.name for feature in artifact.features}
        if unknown:
            raise ScoreRefused(f"Columns are renamed to what is no feature of the model: {', '.join(sorted(unknown))}.")
        self.served = served
        self.options = options
        self._features = artifact.features

    @property
    def features(self) -> tuple[Feature, ...]:
        """The model's features, by the input's names."""
        mine = {new: old for old, new in self.options.renamed.items()}
        return tuple(replace(one, name=mine.get(one.name, one.name)) for one in self._features)

    def score(self, batch: Any) -> Any:
        """Score a record batch, and give the output's.

        Raises:
            ScoreRefused: Its columns are not the model's, or it has bad rows and these are to fail.
        """
        return next(self.checked([self.scored(batch)]))

    def checked(self, scored: Iterable[Scored]) -> Iterator[Any]:
        """The outputs of record batches that follow each other, whose bad rows are counted from the first one's on.

        Raises:
            ScoreRefused: There are bad rows, and these are to fail.
        """
        bad = BadRows()
        for one in scored:
            bad.merge(one.bad)
            if bad.rows and self.options.on_error == "fail":
                raise ScoreRefused(bad.described())
            yield one.batch

    def scored(self, batch: Any, *, text: bool = False, unread: Unread = NOTHING) -> Scored:
        """Score a record batch, and tell its bad rows, whatever is to happen with them.

        Args:
            batch: The record batch.
            text: Whether all columns are text, as of a CSV file.
            unread: Rows that could not be read, by column and reason.

        Raises:
            ScoreRefused: Its columns are not the model's, or it is damaged.
        """
        columns, found = self._columns(batch.schema, text=text), BadRows(batch.num_rows)
        good = np.ones(batch.num_rows, np.bool_)
        for (column, reason), places in unread.items():
            good[places] = False
            found.add(column, reason, np.array(places))
        try:
            rows = self._rows(batch, columns, found, good, text=text)
            for name in columns.kept:  # of those that are read, the places were looked at
                if pa.types.is_dictionary(batch.schema.field(name).type):
                    batch.column(name).validate(full=True)
        except (pa.ArrowException, ValueError) as error:
            raise ScoreRefused("A record batch is damaged.") from error
        all_good = bool(good.all())
        result = self._result(rows if all_good else rows[good])
        finite = result.finite(0, result.rows)
        if not finite.all():
            found.add("prediction", NOT_FINITE, np.flatnonzero(good)[~finite])
        answers = self._answers(result)
        if not (all_good and finite.all()):
            good[np.flatnonzero(good)[~finite]] = False
            answers = answers.filter(pa.array(finite))
            if self.options.on_error == "skip":
                batch = batch.filter(pa.array(good))
            else:
                answers = _spread(answers, good)
            found.rows = len(good) - int(np.count_nonzero(good))
        kept = [batch.column(name) for name in columns.kept]
        fields = [batch.schema.field(name) for name in columns.kept] + list(answers.schema)
        names = [field.name for field in fields]
        if twice := [name for name, count in Counter(names).items() if count > 1]:
            raise ScoreRefused(f"The output would have two columns {min(twice)}: do not keep that of the input.")
        return Scored(pa.record_batch([*kept, *answers.columns], schema=pa.schema(fields)), found)

    def wanted(self, schema: Any) -> list[str]:
        """Names of the columns of an input that are needed of it, in its order (ScoreRefused: as of `scored`)."""
        columns = self._columns(schema, text=True)
        given = schema.names
        needed = {*columns.kept, *(given[place] for place in columns.places if place is not None)}
        return [name for name in given if name in needed]

    def _columns(self, schema: Any, *, text: bool) -> _Columns:
        """What is read of a record batch (ScoreRefused: its columns are not the model's, or not kept so)."""
        features, renamed = self._features, self.options.renamed
        given = schema.names  # which Arrow makes anew each time
        if lacking := [name for name in renamed if name not in given]:
            raise ScoreRefused(f"The input has no column {', '.join(lacking)}, which is to be renamed.")
        replaced = set(renamed.values())
        names = [renamed.get(name, "" if name in replaced else name) for name in given]
        try:
            places = match_columns(names, features, None if text else schema.types, others=True)
        except InvalidInput as error:
            raise ScoreRefused(error.sentences()) from None
        origin = {feature.name: feature.name for feature in features} | {new: old for old, new in renamed.items()}
        kept = self._kept(given, {given[place] for place in places if place is not None})
        return _Columns(places, origin, kept)

    def _kept(self, names: list[str], read: set[str]) -> list[str]:
        keep = self.options.keep
        kept = [name for name in names if name not in read] if keep is None else list(keep)
        counts = Counter(names)
        if lacking := [name for name in kept if counts[name] != 1]:
            found = "several columns" if counts[lacking[0]] else "no column"
            raise ScoreRefused(f"The input has {found} {lacking[0]}, which is to be kept.")
        return kept

    def _rows(
        self, batch: Any, columns: _Columns, found: BadRows, good: NDArray[np.bool_], *, text: bool
    ) -> FloatArray:
        """Values of the features, float64[B, F]; bad rows are added to the report, and taken out of the good ones."""
        features, places = self._features, columns.places
        faults = RowFaults(features, batch.num_rows)
        validate(batch)
        kinds = text or needs_kinds(features, places, batch.schema.types)
        builder = BatchBuilder(features, batch.num_rows, kinds=kinds, faults=faults, pauses=False)
        if text:
            filler = Filler(builder, places, cells.codes)
            for start in range(0, batch.num_rows, builder.block_rows):
                filler.add(cells.numbers_of(batch.slice(start, builder.block_rows), features, places, builder))
        else:
            Filler(builder, places, categories.codes).add(batch)
        faults.noted_in(found, features, columns.names, good)
        return builder.matrix()

    def _result(self, rows: FloatArray) -> Result:
        """Predictions for float64[b, F], and what stands beside them."""
        engine, options = self.served.engine, self.options
        evaluation = Evaluation(engine.predict(rows)) if options.level is None else engine.evaluate(rows)
        if options.explain:
            evaluation = evaluation._replace(explanation=engine.explain(rows))
        return table_answer(self.served, evaluation, self._asked)

    @property
    def _asked(self) -> Asked:
        options = self.options
        return Asked(options.level, ("label",) if options.labels else (), "raw" if options.explain else None)

    def _answers(self, result: Result) -> Any:
        """The columns of the output beside the kept ones, as a record batch."""
        top = self.options.top
        if top is None:
            return record_batch(result, schema_of(result).remove_metadata(), 0, result.rows)
        base, added = result.further
        plain = Result(result.prediction, result.half_widths, result.model_version, result.labels, further=(base,))
        answers = record_batch(plain, schema_of(plain).remove_metadata(), 0, plain.rows)
        columns, names = list(answers.columns), list(answers.schema.names)
        features = pa.array([name.partition(":")[2] for name in added.places], pa.string())
        order = np.argsort(-np.abs(added.values), axis=1, kind="stable")[:, :top]
        for place in range(order.shape[1]):
            columns.append(features.take(pa.array(order[:, place])))
            columns.append(pa.array(np.take_along_axis(added.values, order[:, place : place + 1], axis=1)[:, 0]))
            names += [f"feature_{place + 1}", f"contribution_{place + 1}"]
        return pa.record_batch(columns, names)


def _spread(answers: Any, good: NDArray[np.bool_]) -> Any:
    """Answers of the good rows as answers of all rows, with nulls for the others."""
    places = np.cumsum(good) - 1
    return answers.take(pa.array(places, mask=~good))
