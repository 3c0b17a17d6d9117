"""Log lines: one JSON object each, with the id of the request, and nothing that a caller sent."""

import json
import logging
import subprocess
import sys
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest

from app.config.settings import Settings
from app.main import create_app
from app.telemetry.logging import JsonFormatter, request_id
from tests.support import ROOT, Client, in_process, loaded

EMITTER = """
import logging.config
import sys
from app.telemetry.logging import logging_config

logging.config.dictConfig(logging_config(sys.argv[1]))
for name in ("app.some", "mlflow.tracking", "_granian"):
    for level in ("debug", "info", "warning", "error"):
        getattr(logging.getLogger(name), level)("said %s", level)
"""


def line_of(record: logging.LogRecord) -> dict[str, Any]:
    text = JsonFormatter().format(record)
    assert "\n" not in text
    line: dict[str, Any] = json.loads(text)
    return line


def record_of(message: str, *arguments: Any, error: BaseException | None = None, **extra: Any) -> logging.LogRecord:
    exc_info = (type(error), error, error.__traceback__) if error else None
    return logging.getLogger("app.some").makeRecord(
        "app.some", logging.WARNING, "some.py", 1, message, arguments, exc_info, "function", extra
    )


def test_a_record_is_one_json_object() -> None:
    line = line_of(record_of("took %d ms", 5, model_version="3", reason=None))
    time = datetime.fromisoformat(line.pop("time"))
    assert time.tzinfo is not None
    assert line == {
        "level": "WARNING",
        "logger": "app.some",
        "message": "took 5 ms",
        "model_version": "3",
        "reason": None,
    }


def test_line_breaks_in_a_message_stay_inside_their_line() -> None:
    forged = 'harmless\n{"level": "ERROR", "message": "forged"}'
    assert line_of(record_of("%s", forged))["message"] == forged


def test_an_exception_is_text_in_its_line() -> None:
    try:
        raise ValueError("first\nsecond")
    except ValueError as error:
        line = line_of(record_of("failed", error=error))
    assert line["message"] == "failed"
    assert "Traceback" in line["exc_info"]
    assert line["exc_info"].endswith("ValueError: first\nsecond")


def test_values_that_json_lacks_are_still_logged() -> None:
    line = line_of(record_of("odd", path=Path("/tmp"), kinds={1}, nothing=float("nan")))
    assert line["message"] == "odd"
    assert {"path", "kinds", "nothing"} <= line.keys()


def test_the_requests_id_is_in_its_lines_and_in_no_others() -> None:
    assert "request_id" not in line_of(record_of("before"))
    token = request_id.set("abc")
    assert line_of(record_of("within"))["request_id"] == "abc"
    request_id.reset(token)
    assert "request_id" not in line_of(record_of("after"))


@pytest.mark.parametrize(
    ("level", "own", "libraries"),
    [
        ("DEBUG", ["debug", "info", "warning", "error"], ["warning", "error"]),
        ("INFO", ["info", "warning", "error"], ["warning", "error"]),
        ("ERROR", ["error"], ["error"]),
    ],
)
def test_the_level_is_the_settings_and_libraries_log_only_warnings(
    level: str, own: list[str], libraries: list[str]
) -> None:
    root = ROOT
    done = subprocess.run([sys.executable, "-c", EMITTER, level], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout == ""
    said: dict[str, list[str]] = {}
    for text in done.stderr.splitlines():
        line = json.loads(text)
        said.setdefault(line["logger"], []).append(line["message"].removeprefix("said "))
    assert said == {"app.some": own, "mlflow.tracking": libraries, "_granian": own}


def test_debug_mode_logs_at_debug() -> None:
    assert Settings(api_debug=True, log_level="ERROR").effective_log_level == "DEBUG"
    assert Settings(log_level="ERROR").effective_log_level == "ERROR"


async def test_neither_values_nor_keys_of_a_request_are_logged(
    settings: Settings, example: dict[str, float], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    key, value, text = "key-do-not-log", 31.41592653, "marker-do-not-log"
    headers = {"X-API-Key": key}
    settings = msgspec.structs.replace(settings, api_key=key)
    async with Client(create_app(settings, **in_process(settings))) as client:
        await loaded(client)
        valid = example | {"HouseAge": value}
        assert (await client.post("/predict", json=valid, headers=headers)).status_code == 200
        batch = {"predictions": [valid, {"HouseAge": text}], "batch_id": text}
        assert (await client.post("/predict/batch", json=batch, headers=headers)).status_code == 200
        bad = example | {"HouseAge": text, text: 1}
        assert (await client.post("/predict", json=bad, headers=headers)).status_code == 422
        broken = (b'{"HouseAge": "' + text.encode(), {"Content-Type": "application/json"} | headers)
        assert (await client.post("/predict", content=broken[0], headers=broken[1])).status_code == 400
        wrong = {"Authorization": f"Bearer {text}"}
        assert (await client.post("/predict", json=valid, headers=wrong)).status_code == 401
        client.app.services.prediction_log.flush()
        client.app.services.request_log.flush()
    records = [record for record in caplog.records if record.name != "httpx"]
    lines = [line for record in records for line in JsonFormatter().format(record).split("\n")]
    assert len([line for line in lines if '"endpoint":"/predict' in line]) == 5
    logged = "\n".join([*lines, caplog.text])
    for secret in (key, str(value), text):
        assert secret not in logged
