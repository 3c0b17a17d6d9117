"""Addresses of models: what each names, and what is refused."""

import re

import pytest
from mlflow.exceptions import MlflowException
from mlflow.store.artifact.utils.models import (
    _parse_model_uri,  # pyright: ignore[reportPrivateUsage]
)

from app.address import AddressError, parse_address

RUN = "0123456789ab" + "0" * 20


@pytest.mark.parametrize(
    ("text", "kind", "name"),
    [
        ("model.txt", "file", "model"),
        ("/srv/models/churn", "file", "churn"),
        ("~/churn.v2.LGB", "file", "churn.v2"),
        ("file:///srv/a%20b.model", "file", "a b"),
        ("file:///srv/a%2520b.txt", "file", "a%20b"),
        ("/srv/a%20b.txt", "file", "a%20b"),
        ("C:", "file", "C:"),
        (f"runs:/{RUN}/model", "run", "model"),
        (f"models:/m-{RUN}", "logged", f"m-{RUN}"),
        ("models:/churn/3", "registered", "churn"),
        ("models:/a@b@champion", "registered", "a@b"),
        ("mlflow-artifacts:/0/abc/artifacts/model", "artifacts", "model"),
        ("s3://bucket/models/churn.txt", "store", "churn"),
        ("gs://bucket/churn", "store", "churn"),
        ("wasbs://box@account.blob.core.windows.net/churn", "store", "churn"),
    ],
)
def test_an_address_names_a_model(text: str, kind: str, name: str) -> None:
    address = parse_address(text)
    assert (address.kind, address.name) == (kind, name)


@pytest.mark.parametrize(
    "text", ["models:/a/3", "models:/a/Production", "models:/a/LATEST", "models:/a@b", "models:/a@b@c", "models:/ü /7"]
)
def test_a_registered_model_is_read_as_mlflow_reads_it(text: str) -> None:
    theirs, ours = _parse_model_uri(text), parse_address(text)
    version = None if ours.version == "latest" else ours.version
    assert (ours.name, version, ours.alias, ours.stage) == (theirs.name, theirs.version, theirs.alias, theirs.stage)
    assert (ours.version == "latest") == (theirs.version is None and theirs.alias is None and theirs.stage is None)


@pytest.mark.parametrize("text", ["models:/", "models:/a/b/3", "models:/a/", "models:/@x", "models:/a@"])
def test_what_mlflow_refuses_of_a_registered_model_is_refused(text: str) -> None:
    if text != "models:/@x":  # an alias of no model
        with pytest.raises(MlflowException):
            _parse_model_uri(text)
    with pytest.raises(AddressError, match=r"^must be models:/NAME/VERSION, "):
        parse_address(text)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("ftp://host/model", "must be a path, or runs:/, models:/, .*, and ftp: is none of them"),
        ("hdfs:/model", "must be .*, and hdfs: is none of them"),
        ("", "must not be empty"),
        (" \t", "must not be empty"),
        ("model\udcff.txt", "must be text in UTF-8"),
        ("s3://[bucket/path", "must be a path or a valid URI"),
        ("file://[/path", "must be a path or a valid URI"),
        ("runs:/abc", "must be runs:/RUN_ID/PATH"),
        ("s3://bucket", "must have a bucket and a path after s3://"),
        ("s3:///path", "must have a bucket and a path after s3://"),
        ("s3://key:hunter2@bucket/path", "must have no user or password in it"),
        ("file://host/path", "must name no host after file:"),
        ("models://profile@databricks/a/1", "must be models:/NAME/VERSION, .*"),
    ],
)
def test_what_is_no_address_is_refused_without_being_quoted(text: str, reason: str) -> None:
    with pytest.raises(AddressError) as caught:
        parse_address(text)
    assert re.fullmatch(reason, str(caught.value))
    assert "hunter2" not in str(caught.value)


def test_only_files_of_a_run_or_a_logged_model_have_a_fixed_version() -> None:
    assert parse_address(f"runs:/{RUN}/model").fixed_version == RUN[:12]
    assert parse_address(f"models:/m-{RUN}").fixed_version == RUN[:12]
    odd = parse_address("runs:/my-run/model").fixed_version
    assert odd is not None
    assert re.fullmatch("[0-9a-f]{12}", odd)
    assert parse_address("runs:/my-run/other").fixed_version != odd
    for text in ("model.txt", f"s3://bucket/{RUN}/model", "mlflow-artifacts:/0/1/model"):
        assert parse_address(text).fixed_version is None
