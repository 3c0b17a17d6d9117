"""Warnings about values that are none of a feature's categories, over HTTP."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from app.config.settings import Settings
from tests.models.colors import COLORS, trained_on
from tests.routes.support import Client, client_of

ROW: dict[str, Any] = {"color": COLORS[0], "income": 0.5, "size": 10, "flag": True}


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained_on(tmp_path_factory.mktemp("unseen") / "model").directory


@pytest.fixture
async def colors(directory: Path, registry_dir: Path, tmp_path: Path) -> AsyncIterator[Client]:
    async with client_of(Settings(data_dir=tmp_path / "data", model_path=str(directory))) as client:
        yield client


def unseen(field: str, shown: str) -> str:
    return f"{field} has the value {shown}, which is none of the model's categories; it counts as missing"


async def test_a_row_is_answered_with_a_warning_for_each_unseen_value(colors: Client) -> None:
    answer = (await colors.post("/predict", json=ROW | {"color": "no\ncolor", "size": 11})).json()
    assert answer["warnings"] == [unseen("color", "'no\\ncolor'"), unseen("size", "11")]
    missing = (await colors.post("/predict", json=ROW | {"color": None, "size": None})).json()
    assert missing["warnings"] == []
    assert answer["prediction"] == missing["prediction"]


async def test_warnings_of_a_batch_stand_at_their_rows(colors: Client) -> None:
    rows = [ROW, ROW | {"color": "a"}, ROW | {"income": "x"}, ROW | {"size": None}, ROW | {"size": 11, "color": "b"}]
    for without in (None, 2):
        given = [row for index, row in enumerate(rows) if index != without]
        items = (await colors.post("/predict/batch", json={"predictions": given})).json()["predictions"]
        assert [item["status"] for item in items] == [
            "failed" if row["income"] == "x" else "predicted" for row in given
        ]
        found = [item["warnings"] for item in items if item["status"] == "predicted"]
        assert found == [[], [unseen("color", "'a'")], [], [unseen("color", "'b'"), unseen("size", "11")]]


async def test_the_document_lists_the_categories(colors: Client) -> None:
    document = (await colors.get("/openapi.json")).json()
    OpenAPIV31SpecValidator(document).validate()
    schema = document["components"]["schemas"]["Features"]["properties"]["color"]
    assert schema["anyOf"][0]["enum"] == [*COLORS, None]
    assert schema["type"] == ["string", "null"]
