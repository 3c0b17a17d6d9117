"""Prediction routes for the OpenAPI document, and the description of the model.

`app.predict` answers the POST requests of these routes in front of Litestar. The handlers here document them, and let
Litestar answer other methods with 405.
"""

from typing import Annotated, Any, get_args

import msgspec
from litestar import Controller, get, post
from litestar.params import FromPath, QueryParameter

from app.auth import KEY_SCHEME
from app.codecs.columns import arrow
from app.config.fields import Output
from app.container import InjectedServices, Services
from app.feature import Feature
from app.models.predictions.output import Meaning, meaning
from app.models.predictions.reliability import Reliability
from app.predict.answers import BatchResponse, Label, PredictionResponse
from app.predict.explain.curve import CurveResponse
from app.problems import PROBLEM_STATUSES, problem_responses
from kernels.explainer import Space

ENDS = ("", "/explain", "/curve", "/batch", "/bulk")
"""What the paths of the prediction routes end in."""

NAMED_PATHS = [f"/{{model:str}}{end}" for end in ENDS]

OPTIONS: dict[str, Any] = {
    "status_code": 200,
    "security": [{KEY_SCHEME: []}],
    "responses": problem_responses(*PROBLEM_STATUSES, 501),
}
"""Common options of the prediction routes."""

BULK_OPTIONS: dict[str, Any] = {**OPTIONS, "responses": problem_responses(*PROBLEM_STATUSES, 406, 501)}
CURVE_OPTIONS: dict[str, Any] = {**OPTIONS, "responses": problem_responses(*PROBLEM_STATUSES)}

AskedInterval = Annotated[
    list[str] | None,
    QueryParameter(
        description="Level of the intervals: one of the model's `interval_levels` (see /predict/model/info).",
        schema_extra={"type": "number", "one_of": None},
    ),
]

AskedOutput = Annotated[
    list[str] | None,
    QueryParameter(
        description=(
            "What the answer has beside the predictions; by default what MODEL_OUTPUT says. auto: label and "
            "probabilities of a classifier that has labels, in answers to /predict and /predict/batch; nothing in "
            "tables. labels: the label. probabilities: the probability of each class. raw: the raw score, which is "
            "the sum of the leaf values."
        ),
        schema_extra={"type": "string", "one_of": None, "enum": [*get_args(Output)]},
    ),
]


AskedExplanation = Annotated[
    list[str] | None,
    QueryParameter(
        description=(
            "Whether the answer explains each prediction, and by how many features: what each adds to the raw score. "
            "A number is that of the features that are listed, and the others are summed up."
        ),
        schema_extra={"type": "string", "one_of": None},
    ),
]

AskedTop = Annotated[
    list[str] | None,
    QueryParameter(
        description="Explain by so many features: as a number in `explain`, and instead of it.",
        schema_extra={"type": "integer", "one_of": None, "minimum": 1},
    ),
]

AskedSpace = Annotated[
    list[str] | None,
    QueryParameter(
        description=(
            "Features of an explanation: raw, those of the request; model, those that the booster takes, which a "
            "feature plan makes."
        ),
        schema_extra={"type": "string", "one_of": None, "enum": [*get_args(Space)], "default": "raw"},
    ),
]

AskedLeaves = Annotated[
    list[str] | None,
    QueryParameter(
        description="Whether the answer has the leaf that each row reaches in each tree, as LightGBM numbers them.",
        schema_extra={"type": "string", "one_of": None, "enum": ["false", "true"]},
    ),
]


class ModelInfo(msgspec.Struct, frozen=True, kw_only=True):
    """Description of the model in use.

    Attributes:
        output: Meaning of `prediction`.
        output_choices: Values that the query parameter `output` may have.
        labels: Labels of the classes, in the order of their probabilities; null for a model that gives no labels.
        reliability: Figures of a binary classifier that `madrone calibrate` has calibrated.
    """

    name: str
    version: str
    stage: str | None
    aliases: tuple[str, ...]
    run_id: str | None
    digest: str
    resolved_by: str
    loaded_at: str
    objective: str
    output: Meaning
    output_choices: tuple[Output, ...]
    labels: tuple[Label, ...] | None
    trees: int
    model_features: int
    features: tuple[Feature, ...]
    metrics: dict[str, float]
    example: dict[str, Any] | None
    interval_levels: tuple[float, ...]
    default_interval_level: float | None
    outside_distance: float | None
    reference_rows: int
    reliability: Reliability | None


class PredictController(Controller):
    """Prediction routes, which require API_KEY if it is set, and the public description of the model."""

    path = "/predict"
    tags = ("predict",)

    @post("/", **OPTIONS, summary="Predict one row")
    async def predict_one(
        self, interval: AskedInterval = None, output: AskedOutput = None, explain: AskedExplanation = None,
        top: AskedTop = None, space: AskedSpace = None, leaves: AskedLeaves = None,
    ) -> PredictionResponse:  # fmt: skip
        """Predict one row: an object with the features of the model by name.

        The answer of a classifier with labels has `label`, that of the most probable class, and `probabilities`, one
        for each of the model's labels. All numbers of the answer are finite. If the model's are not, the answer is 500,
        `prediction-not-finite`. A request for an explanation of a model that has none is answered by 501,
        `not-explainable`.
        """
        raise NotImplementedError

    @post("/explain", **OPTIONS, summary="Predict one row and explain it")
    async def predict_explained(
        self, interval: AskedInterval = None, output: AskedOutput = None, explain: AskedExplanation = None,
        top: AskedTop = None, space: AskedSpace = None, leaves: AskedLeaves = None,
    ) -> PredictionResponse:  # fmt: skip
        """Predict one row as /predict does, where `explain` is true unless it is given."""
        raise NotImplementedError

    @post("/curve", **CURVE_OPTIONS, summary="Predict one row with other values of a feature")
    async def predict_curve(self, interval: AskedInterval = None) -> CurveResponse:
        """Predict what would be predicted for a row if one of its features had other values.

        The values go evenly through the range that the feature had in training, if the model knows it. Of a category
        they are all categories. These predictions are neither logged nor counted.
        """
        raise NotImplementedError

    @post("/batch", **OPTIONS, summary="Predict a batch")
    async def predict_batch(
        self, interval: AskedInterval = None, output: AskedOutput = None, explain: AskedExplanation = None,
        top: AskedTop = None, space: AskedSpace = None, leaves: AskedLeaves = None,
    ) -> BatchResponse:  # fmt: skip
        """Predict up to MAX_BATCH_SIZE rows as one batch.

        A row that is not valid, or whose prediction is not finite, fails alone.
        """
        raise NotImplementedError

    @post("/bulk", **BULK_OPTIONS, media_type=arrow.MEDIA_TYPE, summary="Predict in bulk")
    async def predict_bulk(
        self, interval: AskedInterval = None, output: AskedOutput = None, explain: AskedExplanation = None,
        space: AskedSpace = None, leaves: AskedLeaves = None,
    ) -> bytes:  # fmt: skip
        """Predict up to MAX_BULK_ROWS rows of a table whose columns are the features.

        Content-Type names the format of the table, and Accept the format of the answer, by default the same. The answer
        has the column `prediction` (or `prediction_0` and so on for several outputs) and, if an interval is requested,
        `lower` and `upper`. The query parameter `output` adds the column `label`, columns `probability_0` and so on, or
        the column `raw_score` (or `raw_score_0` and so on). With `explain` it has the columns `raw_score`,
        `base_value` and, for each feature, `contribution:NAME` (or `base_value_0`, `contribution_0:NAME` and so on),
        with `leaves` a column `leaf_0` and so on for each tree. All numbers are finite. If a row has no finite
        prediction, the whole request fails with 500, `prediction-not-finite`.
        """
        raise NotImplementedError

    @get("/model/info", summary="Describe the model", responses=problem_responses(503))
    async def model_info(self, services: InjectedServices) -> ModelInfo:
        """Identity, features, metrics and an example of the model in use."""
        return _model_info(services)

    @get("/{model:str}/model/info", summary="Describe a model", responses=problem_responses(404, 503))
    async def named_model_info(self, services: InjectedServices, model: FromPath[str]) -> ModelInfo:
        """The same of the model of a name."""
        return _model_info(services.of(model))

    @post(NAMED_PATHS, status_code=200, include_in_schema=False)
    async def predict_by_name(self, model: FromPath[str]) -> None:
        """Predict by the model of a name, as the routes without one do; `docs` describes it."""
        raise NotImplementedError


def _model_info(services: Services) -> ModelInfo:
    served = services.slot.require()
    artifact, identity, intervals = served.artifact, served.identity, served.artifact.intervals
    return ModelInfo(
        name=identity.name,
        version=identity.version,
        stage=identity.stage,
        aliases=identity.aliases,
        run_id=identity.run_id,
        digest=artifact.digest,
        resolved_by=served.resolved_by,
        loaded_at=served.loaded_at.isoformat(),
        objective=artifact.forest.objective,
        output=meaning(artifact.forest.objective),
        output_choices=served.outputs,
        labels=served.labels,
        trees=artifact.forest.n_trees,
        model_features=artifact.forest.n_features,
        features=artifact.features,
        metrics=served.metrics,
        example=artifact.example,
        interval_levels=intervals.levels if intervals else (),
        default_interval_level=intervals and intervals.default_level,
        outside_distance=served.engine.outside_distance,
        reference_rows=0 if artifact.table is None else len(artifact.table),
        reliability=artifact.reliability,
    )
