"""Answers to `/invocations` beside those of MLflow's own scoring app, for the same models and bodies.

Status, predictions to the last bit, and error code are equal, but for what `differences.py` lists.
"""

import ast
import asyncio
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import mlflow.pyfunc
import pytest
from mlflow.pyfunc import scoring_server

from app.config.settings import Settings
from tests.models.support import mlflows_own_warnings_silenced, serve
from tests.protocols.mlflow.bodies import Body, bodies_of
from tests.protocols.mlflow.differences import DIFFERENCES, Difference, table
from tests.protocols.mlflow.models import MODELS
from tests.routes.support import Client, client_of, put
from tests.support import ROOT, free_port

URL = "/invocations"

SHORT = ("doubles", "classifier", "binary", "categories", "tensor")
"""Models that `just test` compares; `just test-all` compares each."""


class Answer(NamedTuple):
    """What a server answers: its status, and the code or the text of the predictions."""

    status: int
    code: str | None = None
    predictions: str | None = None


class Pair(NamedTuple):
    """MLflow's answer to a body, and ours."""

    body: Body
    mlflow: Answer
    here: Answer

    @property
    def outcome(self) -> str:
        """Empty where they are equal; else as in `differences.py`."""
        theirs, ours = self.mlflow, self.here
        if theirs.status == ours.status == 415 or theirs == ours:
            return ""
        if theirs.status != ours.status:
            names = {200: "answered", 400: "refused", 500: "failed"}
            return f"{names.get(theirs.status)}, {names.get(ours.status)}"
        return "other prediction" if ours.status == 200 else "other code"


def read(response: httpx.Response) -> Answer:
    if response.status_code not in (200, 400):
        return Answer(response.status_code)
    content = response.json()
    if response.status_code == 400:
        return Answer(400, content["error_code"])
    # repr tells floats apart to the last bit, and a whole number from a float
    return Answer(200, None, repr(content["predictions"]))


async def compare(client: Client, name: str, directory: Path) -> list[Pair]:
    MODELS[name](directory)
    put(client, serve(directory))
    app = scoring_server.init(mlflow.pyfunc.load_model(str(directory)))
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    pairs: list[Pair] = []
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as judge:
        for body in bodies_of(name):
            headers = {"content-type": body.media_type}
            theirs = read(await judge.post(URL, content=body.content, headers=headers))
            response = await client.post(URL, content=body.content, headers=headers)
            pairs.append(Pair(body, theirs, read(response)))
            check_error(response)
    return pairs


def check_error(response: httpx.Response) -> None:
    """An error has MLflow's form, and says neither values nor where in the code it arose."""
    if response.status_code == 200:
        return
    content = response.json()
    assert {"error_code", "message"} <= content.keys() <= {"error_code", "message", "sqlstate", "error_class"}
    assert "Traceback" not in content["message"]
    assert ".py" not in content["message"]
    assert len(content["message"]) < 2000


class Answers:
    """Pairs of answers by model, which are asked for once."""

    def __init__(self, settings: Settings, directory: Path) -> None:
        self._settings = settings
        self._directory = directory
        self._found: dict[str, list[Pair]] = {}

    def __getitem__(self, model: str) -> list[Pair]:
        if model not in self._found:
            with mlflows_own_warnings_silenced():
                self._found[model] = asyncio.run(self._compare(model))
        return self._found[model]

    async def _compare(self, model: str) -> list[Pair]:
        async with client_of(self._settings) as client:
            return await compare(client, model, self._directory / model.replace(" ", "-"))


@pytest.fixture(scope="module")
def answers(registry_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Answers:
    directory = tmp_path_factory.mktemp("scoring")
    settings = Settings(
        data_dir=registry_dir, database_url=f"sqlite:///{directory / 'log.db'}", prometheus_port=free_port()
    )
    return Answers(settings, directory)


def reasons(model: str, pair: Pair) -> list[Difference]:
    return [difference for difference in DIFFERENCES if difference.covers(model, pair.body.name, pair.outcome)]


@pytest.mark.parametrize(
    "model", [pytest.param(model, marks=[] if model in SHORT else pytest.mark.slow) for model in MODELS]
)
def test_answers_are_mlflows(answers: Answers, model: str) -> None:
    differ = [pair for pair in answers[model] if pair.outcome]
    assert [pair for pair in differ if len(reasons(model, pair)) != 1] == []


@pytest.mark.slow
def test_many_bodies_are_sent_and_answered(answers: Answers) -> None:
    pairs = [pair for model in MODELS for pair in answers[model]]
    equal = [pair for pair in pairs if not pair.outcome]
    assert len(pairs) >= 1000
    assert len([pair for pair in equal if pair.here.status == 200]) >= 400
    assert len([pair for pair in equal if pair.here.status == 400]) >= 300
    assert {pair.here.code for pair in equal} == {None, "BAD_REQUEST", "INVALID_PARAMETER_VALUE"}
    for model in MODELS:
        assert len({pair.here.predictions for pair in answers[model]}) > 2, model


@pytest.mark.slow
def test_every_difference_is_met(answers: Answers) -> None:
    met = {difference for model in MODELS for pair in answers[model] for difference in reasons(model, pair)}
    assert [difference.what for difference in DIFFERENCES if difference not in met] == []


def test_the_readme_lists_the_differences() -> None:
    page = (ROOT / "app" / "protocols" / "README.md").read_text(encoding="utf-8")
    assert page.split("<!-- differences -->\n")[1].split("\n<!-- /differences -->")[0] == table()


def first(answers: Answers, model: str) -> list[Any]:
    """Our predictions for the first body."""
    return ast.literal_eval(answers[model][0].here.predictions or "[]")


def test_classifiers_answer_labels(answers: Answers) -> None:
    assert set(first(answers, "classifier")) <= {"low", "middle", "hïgh"}
    assert set(first(answers, "binary")) <= {True, False}


@pytest.mark.slow
def test_probabilities_are_answered_in_rows(answers: Answers) -> None:
    assert [len(row) for row in first(answers, "probabilities")] == [2, 2]
    assert [len(row) for row in first(answers, "multiclass")] == [3, 3]


def test_an_absent_content_type_is_refused(settings: Settings) -> None:
    async def ask() -> Any:
        async with client_of(settings) as client:
            return await client.post(URL, content=b"{}")

    response = asyncio.run(ask())
    assert response.status_code == 415
    assert response.json()["error_code"] == "BAD_REQUEST"
