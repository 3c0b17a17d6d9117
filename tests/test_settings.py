"""Settings: defaults, values from the environment, and one message that names all bad values."""

import re
from importlib.metadata import version
from pathlib import Path

import pytest

from app.config.allowed import settings_table
from app.config.environ import NEVER_EMPTY, SECRETS
from app.config.settings import Settings, SettingsError

DEFAULTS = {
    "api_host": "0.0.0.0",
    "api_port": 8000,
    "api_workers": 1,
    "api_debug": False,
    "api_version": version("madrone"),
    "model_name": "california-housing-model",
    "model_names": None,
    "model_stage": "Production",
    "model_fallback_stage": "Staging",
    "model_fallback_any": False,
    "model_alias": None,
    "model_cache_ttl": 3600,
    "model_lookup_timeout": 10.0,
    "model_fetch_timeout": 300.0,
    "model_min_r2": None,
    "model_max_rmse": None,
    "model_unseen_categories": "missing",
    "model_store_versions": 3,
    "model_canary_alias": None,
    "model_canary_header": "X-Request-ID",
    "model_shadow_alias": None,
    "model_pin_alias": None,
    "api_unix_socket": None,
    "api_unix_socket_mode": "660",
    "api_tls_cert": None,
    "mlflow_tracking_uri": None,
    "mlflow_registry_uri": None,
    "enable_prometheus": True,
    "prometheus_port": 8001,
    "metrics_prefix": None,
    "traces": False,
    "grpc_port": None,
    "log_level": "INFO",
    "max_batch_size": 100,
    "max_bulk_rows": 1_000_000,
    "request_timeout": 30.0,
    "database_url": None,
    "prediction_log": "best_effort",
    "prediction_log_format": "sql",
    "prediction_log_spool_bytes": 2**30,
    "prediction_log_rows": 1_000_000,
    "drift": True,
    "drift_window": 3600,
    "drift_baseline_rows": 5000,
    "outcome_window_rows": 10_000,
    "prediction_log_days": 0.0,
    "console": True,
    "cors_origins": (),
    "api_key": None,
    "api_key_second": None,
    "admin_api_key": None,
}


@pytest.mark.parametrize(("name", "value"), DEFAULTS.items())
def test_defaults(name: str, value: object) -> None:
    assert getattr(Settings.from_environ({}), name) == value


def test_by_default_the_service_ends_before_kubernetes_kills_it() -> None:
    termination_grace_period, left_for_the_rest = 30, 3
    settings = Settings()
    assert settings.shutdown_delay + settings.shutdown_grace <= termination_grace_period - left_for_the_rest


def test_every_variable_is_read() -> None:
    given = {
        "API_HOST": "127.0.0.1", "API_PORT": "9000", "API_WORKERS": "2", "API_DEBUG": "true", "API_VERSION": "2.1",
        "MODEL_NAME": "churn",
        "MODEL_STAGE": "Staging", "MODEL_FALLBACK_STAGE": "None", "MODEL_ALIAS": "champion", "MODEL_CACHE_TTL": "60",
        "MODEL_FALLBACK_ANY": "true",
        "MODEL_LOOKUP_TIMEOUT": "2", "MODEL_FETCH_TIMEOUT": "20",
        "MODEL_MAX_BYTES": "4096", "MODEL_BUILD_TIMEOUT": "40", "MODEL_ARTIFACT_ROOT": "/srv/mlflow",
        "MODEL_MIN_R2": "0.5", "MODEL_MAX_RMSE": "0.6",
        "MODEL_UNSEEN_CATEGORIES": "refuse",
        "MODEL_STORE_VERSIONS": "2", "MODEL_CANARY_ALIAS": "next", "MODEL_CANARY_PERCENT": "0.5",
        "MODEL_CANARY_HEADER": "X-User", "MODEL_SHADOW_ALIAS": "rival", "MODEL_SHADOW_PERCENT": "100",
        "MODEL_PIN_ALIAS": "pinned", "MODEL_OUTPUT": "labels",
        "MLFLOW_TRACKING_URI": "http://mlflow:5000", "MLFLOW_REGISTRY_URI": "http://registry:5000",
        "ENABLE_PROMETHEUS": "false", "PROMETHEUS_PORT": "9001", "GRPC_PORT": "9002", "LOG_LEVEL": "debug",
        "METRICS_PREFIX": "madrone_", "TRACES": "true",
        "MAX_BATCH_SIZE": "7",
        "MAX_BULK_ROWS": "8", "MAX_BODY_BYTES": "4096", "MAX_JSON_BYTES": "2048",
        "MAX_REQUESTS_IN_PROGRESS": "3", "LONGEST_WAIT": "0.3", "MAX_ROWS_IN_FLIGHT": "9",
        "REQUEST_TIMEOUT": "1.5", "RATE_LIMIT": "10", "IDLE_TIMEOUT": "4",
        "SHUTDOWN_DELAY": "0.5", "SHUTDOWN_GRACE": "3", "DATABASE_URL": "postgresql://db/predictions",
        "PREDICTION_LOG": "durable", "PREDICTION_LOG_FORMAT": "parquet", "PREDICTION_LOG_SPOOL_BYTES": "2000000",
        "PREDICTION_LOG_ROWS": "5", "PREDICTION_LOG_DAYS": "2.5", "OUTCOME_WINDOW_ROWS": "200",
        "CONSOLE": "false", "CORS_ORIGINS": "https://a.example, https://b.example", "API_KEY": "key",
        "API_TLS_CERT": "a.pem", "API_TLS_KEY": "a.key", "API_TLS_KEY_PASSWORD": "word", "API_TLS_CLIENT_CA": "ca.pem",
        "API_UNIX_SOCKET_MODE": "600",
        "API_KEY_SECOND": "second", "ADMIN_API_KEY": "admin", "MLFLOW_WEBHOOK_SECRET": "hook",
        "DATA_DIR": "/var/lib/madrone", "DRIFT": "false", "DRIFT_WINDOW": "60", "DRIFT_BASELINE_ROWS": "0",
    }  # fmt: skip
    exclusive = ["api_unix_socket", "model_path", "model_names"]  # of others
    assert {name.lower() for name in given} == set(Settings.__struct_fields__) - set(exclusive)
    settings = Settings.from_environ(given)
    unchanged = [name for name in Settings.__struct_fields__ if getattr(settings, name) == getattr(Settings(), name)]
    assert unchanged == exclusive
    assert settings.cors_origins == ("https://a.example", "https://b.example")
    assert settings.data_dir == Path("/var/lib/madrone")
    assert settings.log_level == "DEBUG"


@pytest.mark.parametrize("prefix", ["1st_", "a-b", "a:", "über_", "a b", "x" * 65, "{"])
def test_a_prefix_that_no_metric_may_have_is_a_bad_setting(prefix: str) -> None:
    with pytest.raises(SettingsError, match=r"^METRICS_PREFIX: must be 1 to 64 letters, digits or _, the first"):
        Settings.from_environ({"METRICS_PREFIX": prefix})


def test_empty_variables_count_as_unset() -> None:
    assert Settings.from_environ({"MODEL_ALIAS": "", "API_PORT": " "}) == Settings()


@pytest.mark.parametrize("value", ["", " ", "\n"])
@pytest.mark.parametrize("name", sorted(NEVER_EMPTY))
def test_an_empty_address_key_or_url_is_a_bad_setting(name: str, value: str) -> None:
    with pytest.raises(SettingsError, match=f"^{name.upper()}: must be .*, but is empty: give it a value, or remove"):
        Settings.from_environ({name.upper(): value})


@pytest.mark.parametrize("value", ["''", '""', '"', '"sesame"', "'http://mlflow:5000'"])
@pytest.mark.parametrize("name", sorted(SECRETS))
def test_a_key_or_url_in_quotes_is_a_bad_setting(name: str, value: str) -> None:
    with pytest.raises(SettingsError, match=f"^{name.upper()}: must be .*, without quotes around it$") as caught:
        Settings.from_environ({name.upper(): value})
    assert value not in str(caught.value)


def test_a_second_key_needs_a_first() -> None:
    with pytest.raises(SettingsError, match=r"^API_KEY_SECOND: must be set together with API_KEY$"):
        Settings.from_environ({"API_KEY_SECOND": "poppy"})


GOOD = {"database_url": "sqlite:///rows.db", "mlflow_registry_uri": "http://u:p@registry"}


@pytest.mark.parametrize("name", sorted(SECRETS))
def test_a_secret_may_be_in_a_file(name: str, tmp_path: Path) -> None:
    needed = {
        "mlflow_registry_uri": {"MLFLOW_TRACKING_URI": "http://mlflow"}, "api_key_second": {"API_KEY": "key"},
        "api_tls_key_password": {"API_TLS_CERT": "a.pem", "API_TLS_KEY": "a.key"},
    }  # fmt: skip
    file, others = tmp_path / "secret", needed.get(name, {})
    file.write_text(f"{GOOD.get(name, 'http://u:p@mlflow')}\n")
    settings = Settings.from_environ({f"{name.upper()}_FILE": str(file)} | others)
    assert getattr(settings, name) == file.read_text().strip()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "must name a file that can be read: No such file or directory"),
        (b"", "must name a file that is not empty"),
        (b" \n", "must name a file that is not empty"),
        (b"\xff\xfe", "must name a file of text in UTF-8"),
        (b"s" * 65_537, "must name a file of at most 65536 bytes"),
    ],
)
def test_a_file_without_a_secret_stops_the_start(content: bytes | None, said: str, tmp_path: Path) -> None:
    file = tmp_path / "hunter2"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(SettingsError, match=f"^API_KEY_FILE: {said}$"):
        Settings.from_environ({"API_KEY_FILE": str(file)})
    with pytest.raises(SettingsError, match=r"^API_KEY_FILE: must name a file that can be read: Is a directory$"):
        Settings.from_environ({"API_KEY_FILE": ""})


def test_a_secret_of_a_file_has_the_rules_of_others_and_is_not_quoted(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text("hunter2 and more")
    with pytest.raises(SettingsError, match=r"^API_KEY: must be 1 to 256 visible ASCII characters$"):
        Settings.from_environ({"API_KEY_FILE": str(file)})


@pytest.mark.parametrize("value", ["sesame", ""])
def test_a_secret_is_given_in_one_way(value: str, tmp_path: Path) -> None:
    (tmp_path / "key").write_text("sesame")
    with pytest.raises(SettingsError, match="API_KEY_FILE: must not be set together with API_KEY"):
        Settings.from_environ({"API_KEY": value, "API_KEY_FILE": str(tmp_path / "key")})


@pytest.mark.parametrize("name", sorted(SECRETS))
def test_a_key_or_url_of_two_lines_is_a_bad_setting(name: str) -> None:
    with pytest.raises(SettingsError, match=f"^{name.upper()}: must be ") as caught:
        Settings.from_environ({name.upper(): "http://first\nsecond"})
    assert "second" not in str(caught.value)


@pytest.mark.parametrize("name", ["MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI", "DATABASE_URL", "MODEL_PATH"])
@pytest.mark.parametrize("host", ["user:sec[ret@host", "user:secret@h\N{ACCOUNT OF}.com"])
def test_a_uri_that_cannot_be_read_is_a_bad_setting(name: str, host: str) -> None:
    given = {"MLFLOW_TRACKING_URI": "http://mlflow"} | {
        name: f"{'s3' if name == 'MODEL_PATH' else 'postgresql'}://{host}/d"
    }
    with pytest.raises(SettingsError, match=f"^{name}: .*valid URI") as caught:
        Settings.from_environ(given)
    assert "ret@" not in str(caught.value)


def test_a_key_does_not_include_the_line_end_of_its_file() -> None:
    assert Settings.from_environ({"API_KEY": "sesame\n"}).api_key == "sesame"


def test_a_models_name_may_end_with_a_blank() -> None:
    assert Settings.from_environ({"MODEL_NAME": " houses "}).model_name == " houses "
    assert Settings.from_environ({"MODEL_NAME": "  "}) == Settings()


def test_a_path_names_the_model_and_needs_no_registry() -> None:
    settings = Settings.from_environ({"MODEL_PATH": "models/churn.txt"})
    assert (settings.model_name, settings.embedded_registry) == ("churn", False)
    assert settings.source_uri == (Path.cwd() / "models" / "churn.txt").as_uri()
    assert Settings.from_environ({"MODEL_PATH": "churn.txt", "MODEL_NAME": "leaving"}).model_name == "leaving"
    server = {"MLFLOW_TRACKING_URI": "http://mlflow:5000"}
    run = Settings.from_environ(server | {"MODEL_PATH": "runs:/0123456789abcdef/model", "MODEL_MIN_R2": "0.5"})
    assert run.place is not None


def test_the_path_of_a_registered_model_stands_for_settings_of_the_registry() -> None:
    server = {"MLFLOW_TRACKING_URI": "http://mlflow:5000"}
    by_alias = Settings.from_environ(server | {"MODEL_PATH": "models:/churn@champion", "MODEL_CANARY_ALIAS": "next"})
    assert (by_alias.place, by_alias.model_name, by_alias.model_alias) == (None, "churn", "champion")
    by_stage = Settings.from_environ(server | {"MODEL_PATH": "models:/churn/staging"})
    assert (by_stage.model_stage, by_stage.model_fallback_stage, by_stage.model_alias) == ("Staging", "Staging", None)
    by_number = Settings.from_environ(server | {"MODEL_PATH": "models:/churn/3"})
    assert (by_number.model_version, by_number.source_uri) == ("3", "http://mlflow:5000")


@pytest.mark.parametrize(
    ("given", "problems"),
    [
        ({"MODEL_PATH": "ftp://host/m"}, ["MODEL_PATH: must be a path, or runs:/, .* and ftp: is none of them"]),
        ({"MODEL_PATH": "runs:/1/m"}, ["MLFLOW_TRACKING_URI: must be set, because MODEL_PATH is a runs: address"]),
        (
            {"MODEL_PATH": "gs://bucket/m"},
            [r"MODEL_PATH: .* not installed: install the gcs extra, in a checkout by uv pip install -e '\.\[gcs\]'"],
        ),
        (
            {"MODEL_PATH": "m.txt", "MODEL_ALIAS": "a", "MODEL_SHADOW_ALIAS": "b", "MODEL_MIN_R2": "0"},
            [f"{name}: must not be set together with MODEL_PATH, .*"
             for name in ("MODEL_ALIAS", "MODEL_SHADOW_ALIAS", "MODEL_MIN_R2")],
        ),
        ({"MODEL_PATH": "m.txt", "MODEL_PIN_ALIAS": "p"}, ["MODEL_PIN_ALIAS: must not be set together with MODEL_P.*"]),
        ({"MODEL_PIN_ALIAS": "a", "MODEL_ALIAS": "a"}, ["MODEL_PIN_ALIAS: must differ from MODEL_ALIAS, both are a"]),
        *(
            ({"MODEL_PIN_ALIAS": alias}, ["MODEL_PIN_ALIAS: must be an alias that MLflow takes: letters, digits, .*"])
            for alias in ("latest", "V12", "a b", "a.b", "x" * 256)
        ),
        (
            {"PREDICTION_LOG": "durable", "PREDICTION_LOG_ROWS": "0"},
            ["PREDICTION_LOG: must not be durable with PREDICTION_LOG_ROWS=0, which keeps no row"],
        ),
        (
            {"DRIFT_BASELINE_ROWS": "1999"},
            ["DRIFT_BASELINE_ROWS: must be 0 or at least 2000, since a reference of fewer rows alarms by chance"],
        ),
        (
            {"MODEL_PATH": "models:/a/1", "MODEL_STAGE": "None", "MODEL_NAME": "a", "MLFLOW_TRACKING_URI": "http://m"},
            [f"{name}: must not be set together with MODEL_PATH, .*" for name in ("MODEL_NAME", "MODEL_STAGE")],
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_beside_a_path_is_named(given: dict[str, str], problems: list[str]) -> None:
    with pytest.raises(SettingsError) as caught:
        Settings.from_environ(given)
    lines = str(caught.value).splitlines()
    assert len(lines) == len(problems)
    for line, expected in zip(lines, problems, strict=True):
        assert re.fullmatch(expected, line), line


@pytest.mark.parametrize(
    ("uri", "problem"),
    [
        ("databricks", "Databricks is not supported: .*"),
        ("databricks://profile", "Databricks is not supported: .*"),
        ("databricks-uc", "Databricks is not supported: .*"),
        ("uc:http://host/", "Unity Catalog is not supported: .*"),
        ("arn:aws:sagemaker:eu-west-1:1:mlflow-tracking-server/x", "SageMaker is not supported: .*"),
        ("ftp://host/mlflow", "must be a URI whose scheme is one of http, https, .*"),
        ("oracle://host/mlflow", "must be a URI whose scheme is one of http, https, .*"),
        ("postgresql://host/mlflow", "needs the driver psycopg2, .*: write postgresql.psycopg://.*"),
        ("mysql://host/mlflow", "needs the driver MySQLdb, .*: install the mysql extra, .*"),
        ("mysql+pymysql://host/mlflow", "needs the driver pymysql, .*: install the mysql extra, .*"),
        ("mssql+pyodbc://host/mlflow", "needs the driver pyodbc, .*: install pymssql, .*"),
        ("mysql+asyncmy://host/mlflow", "must name one of the drivers mysqldb, pymysql"),
    ],
)
def test_a_registry_that_cannot_be_asked_is_refused_by_name(
    uri: str, problem: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.config.contradictions.find_spec", lambda _: None)
    with pytest.raises(SettingsError) as caught:
        Settings.from_environ({"MLFLOW_TRACKING_URI": uri})
    assert re.fullmatch(f"MLFLOW_TRACKING_URI: {problem}", str(caught.value))
    assert "host" not in str(caught.value)


def test_a_registry_whose_driver_is_installed_can_be_asked() -> None:
    for uri in ("sqlite:///mlflow.db", "postgresql+psycopg://host/mlflow", "https://host", "file:///mlruns", "mlruns"):
        assert Settings.from_environ({"MLFLOW_TRACKING_URI": uri}).tracking_uri == uri
    assert Settings.from_environ({"DATABASE_URL": "postgresql://host/log"}).database_url == "postgresql://host/log"


def test_one_message_names_every_bad_setting_with_its_range() -> None:
    with pytest.raises(SettingsError) as caught:
        Settings.from_environ(
            {"API_PORT": "99999", "MODEL_STAGE": "prod", "REQUEST_TIMEOUT": "0", "API_DEBUG": "maybe"}
        )
    lines = str(caught.value).splitlines()
    assert lines == [
        "API_PORT: must be a whole number from 1 to 65535, got '99999'",
        "API_DEBUG: must be true or false, got 'maybe'",
        "MODEL_STAGE: must be one of Archived, None, Production, Staging, got 'prod'",
        "REQUEST_TIMEOUT: must be a number above 0 and up to 3600, got '0'",
    ]


@pytest.mark.parametrize("value", ["nan", "inf", "-1", "ten"])
def test_a_ttl_is_a_positive_finite_number(value: str) -> None:
    with pytest.raises(SettingsError, match="MODEL_CACHE_TTL: must be a number from 1 up to 604800"):
        Settings.from_environ({"MODEL_CACHE_TTL": value})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("API_KEY", "my secret"),
        ("ADMIN_API_KEY", "geheimnis-\xe9"),
        ("DATABASE_URL", "mysql://user:hunter2@db/x"),
        ("MLFLOW_TRACKING_URI", "ftp://user:hunter2@host"),
    ],
)
def test_a_secret_is_never_quoted(name: str, value: str) -> None:
    with pytest.raises(SettingsError) as caught:
        Settings.from_environ({name: value})
    assert name in str(caught.value)
    assert value not in str(caught.value)
    assert "hunter2" not in str(caught.value)


def test_the_two_ports_must_differ() -> None:
    with pytest.raises(SettingsError, match="PROMETHEUS_PORT: must differ from API_PORT"):
        Settings.from_environ({"API_PORT": "8001"})
    Settings.from_environ({"API_PORT": "8001", "ENABLE_PROMETHEUS": "false"})


def test_a_registry_without_a_tracking_server_is_refused() -> None:
    with pytest.raises(SettingsError, match="MLFLOW_REGISTRY_URI: must be set together with MLFLOW_TRACKING_URI"):
        Settings.from_environ({"MLFLOW_REGISTRY_URI": "http://registry:5000"})


def test_uris_follow_from_the_data_dir_unless_set(tmp_path: Path) -> None:
    embedded = Settings(data_dir=tmp_path)
    assert embedded.embedded_registry
    assert embedded.tracking_uri == embedded.registry_uri == f"sqlite:///{tmp_path}/mlflow.db"
    assert embedded.prediction_database_url == f"sqlite:///{tmp_path}/predictions.db"
    remote = Settings(mlflow_tracking_uri="http://mlflow", database_url="postgresql://u:p@db/x")
    assert not remote.embedded_registry
    assert remote.registry_uri == "http://mlflow"
    assert remote.prediction_database_url == "postgresql+psycopg://u:p@db/x"


def test_every_setting_is_in_the_table_with_a_meaning() -> None:
    rows = [line.split("|")[1:-1] for line in settings_table(Settings).splitlines()[2:]]
    assert [row[0].strip(" `").lower() for row in rows] == list(Settings.__struct_fields__)
    assert all(cell.strip() for row in rows for cell in row)
