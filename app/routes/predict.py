"""Prediction routes for the OpenAPI document, and the description of the model.

`app.predict` answers the POST requests of these routes in front of Litestar. The handlers here document them, and let
Litestar answer other methods with 405.
"""

from typing import Annotated, Any

from litestar import Controller, get, post
from litestar.params import QueryParameter

from app.auth import KEY_SCHEME
from app.codecs import arrow
from app.container import InjectedServices
from app.predict.answers import BatchResponse, ModelInfo, PredictionResponse
from app.problems import PROBLEM_STATUSES, problem_responses

OPTIONS: dict[str, Any] = {
    "status_code": 200,
    "security": [{KEY_SCHEME: []}],
    "responses": problem_responses(*PROBLEM_STATUSES),
}
"""What the prediction routes have in common."""

BULK_OPTIONS: dict[str, Any] = {**OPTIONS, "responses": problem_responses(*PROBLEM_STATUSES, 406)}

AskedInterval = Annotated[
    list[str] | None,
    QueryParameter(
        description="Level of the intervals: one of the model's `interval_levels` (see /predict/model/info).",
        schema_extra={"type": "number", "one_of": None},
    ),
]


class PredictController(Controller):
    """Prediction routes; they ask for API_KEY when it is set. Model information stays open."""

    path = "/predict"
    tags = ("predict",)

    @post("/", **OPTIONS, summary="Predict one row")
    async def predict_one(self, interval: AskedInterval = None) -> PredictionResponse:
        """Predict one object of the model's features by name.

        All numbers of the answer are finite. Where the model has no such answer, it is 500, `prediction-not-finite`.
        """
        raise NotImplementedError

    @post("/batch", **OPTIONS, summary="Predict a batch")
    async def predict_batch(self, interval: AskedInterval = None) -> BatchResponse:
        """Predict up to MAX_BATCH_SIZE rows as one batch; a row that is not valid fails alone.

        So does one to which the model has no finite answer.
        """
        raise NotImplementedError

    @post("/bulk", **BULK_OPTIONS, media_type=arrow.MEDIA_TYPE, summary="Predict in bulk")
    async def predict_bulk(self, interval: AskedInterval = None) -> bytes:
        """Predict up to MAX_BULK_ROWS rows of a table whose columns are the features.

        The table comes in the format that Content-Type names and goes in the one that Accept asks for, by default the
        same. It answers the column `prediction` (or `prediction_0` and so on for several outputs), and, where an
        interval is asked for, `lower` and `upper`. All are finite; a table with a row to which the model has no such
        answer is refused with 500, `prediction-not-finite`.
        """
        raise NotImplementedError

    @get("/model/info", summary="Describe the model", responses=problem_responses(503))
    async def model_info(self, services: InjectedServices) -> ModelInfo:
        """Identity, features, metrics and an example of the model in use."""
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
            trees=artifact.forest.n_trees,
            model_features=artifact.forest.n_features,
            features=artifact.features,
            metrics=served.metrics,
            example=artifact.example,
            interval_levels=intervals.levels if intervals else (),
            default_interval_level=intervals and intervals.default_level,
            outside_distance=served.engine.outside_distance,
            reference_rows=0 if artifact.table is None else len(artifact.table),
        )
