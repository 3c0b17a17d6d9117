"""What the service tells of its model and its limits."""

from typing import Annotated, Any

import msgspec

from madrone.client.answers import Label, Value


class Feature(msgspec.Struct, frozen=True, kw_only=True, rename={"kind": "type"}):
    """A feature that a row has.

    Attributes:
        name: Name in a row, and of the column of a table.
        kind: `number`, `integer`, `boolean` or `category`.
        required: Whether every row must name it.
        categories: Values of a category; None for other kinds.
        description: Meaning.
        unit: Unit of measurement.
        physical_range: Least and greatest value possible; a value outside is refused.
        training_range: Least and greatest value seen in training; a value outside is answered with a warning.
    """

    name: str
    kind: str = "number"
    required: bool = True
    categories: list[Value] | None = None
    description: str = ""
    unit: str = ""
    physical_range: tuple[float, float] | None = None
    training_range: tuple[float, float] | None = None


class Model(msgspec.Struct, frozen=True, kw_only=True):
    """The model in use.

    Attributes:
        name: Name in the registry.
        version: Version that answers.
        stage: Its stage.
        aliases: Its aliases.
        run_id: Run of MLflow that it comes from.
        digest: Digest of its files.
        objective: Objective of LightGBM.
        output: Meaning of a prediction: `value`, `score`, `probability`, `probabilities` or `raw_score`.
        output_choices: Values that `output=` may have.
        labels: Labels of the classes, in the order of their probabilities.
        trees: Number of trees.
        features: What a row has, in the order of the columns of a matrix.
        metrics: Metrics of its run.
        example: An example row.
        interval_levels: Levels that `interval=` may have.
        default_interval_level: Level of the intervals of a call that names none.
    """

    name: str
    version: str
    stage: str | None = None
    aliases: list[str] = []
    run_id: str | None = None
    digest: str = ""
    objective: str = ""
    output: str = ""
    output_choices: list[str] = []
    labels: list[Label] | None = None
    trees: int = 0
    features: list[Feature] = []
    metrics: dict[str, float] = {}
    example: dict[str, Any] | None = None
    interval_levels: list[float] = []
    default_interval_level: float | None = None

    @property
    def feature_names(self) -> list[str]:
        """Names of the features, such as for `table[model.feature_names]`."""
        return [feature.name for feature in self.features]


Count = Annotated[int, msgspec.Meta(ge=1)]


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """Limits of a request, as `GET /info` tells them."""

    max_batch_size: Count
    max_bulk_rows: Count
    max_body_bytes: Count
