"""Bodies compressed by deflate, as tritonclient compresses them: in the format of zlib."""

import zlib

import msgspec
import numpy as np

from app.models.served import ServedModel
from tests.protocols.open_inference.support import HEAD_LENGTH, App, body, error

DEFLATE = {"content-encoding": "deflate"}


def test_bodies_may_be_deflate(app: App, referring: ServedModel, rows: np.ndarray) -> None:
    head = msgspec.json.encode(body(None, [5, 3]) | {"parameters": {"binary_data_output": True}})
    head = head.replace(b'"data":null', b'"parameters":{"binary_data_size":120}')
    response = app.post(content=zlib.compress(head + rows.tobytes()), headers=DEFLATE | {HEAD_LENGTH: str(len(head))})
    assert response.status_code == 200, response.text
    tail = response.content[int(response.headers[HEAD_LENGTH]) :]
    assert np.frombuffer(tail).tolist() == referring.engine.predict(rows).tolist()
    in_json = app.post(content=zlib.compress(msgspec.json.encode(body(rows.tolist(), [5, 3]))), headers=DEFLATE)
    assert in_json.json()["outputs"][0]["data"] == referring.engine.predict(rows).tolist()


def test_a_damaged_body_is_refused(app: App) -> None:
    error(app.post(content=zlib.compress(b"{}" * 100)[:-5], headers=DEFLATE))
