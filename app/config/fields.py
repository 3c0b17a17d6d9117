"""The fields of the settings: defaults, allowed ranges and help texts.

A field's name in capitals is the variable's name; its annotation holds the allowed range and the help text, so the
struct is also the source of the table that `madrone settings` prints and app/README.md holds.
"""

from pathlib import Path
from typing import Annotated, Literal, get_args

import msgspec
from msgspec import Meta

from app import __version__
from app.config.allowed import R2, HeaderName, Key, MetricPrefix, Mode, Models, Name, Place, Port, Rmse, Rows, Uri
from app.prediction_log.messages import LogFormat

Stage = Literal["Production", "Staging", "None", "Archived"]
STAGES: tuple[Stage, ...] = get_args(Stage)
Output = Literal["auto", "labels", "probabilities", "raw"]
Unseen = Literal["missing", "refuse"]
LogMode = Literal["off", "best_effort", "durable"]
LogLevel = Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"]


def _help(text: str) -> Meta:
    return Meta(description=text)


class Fields(msgspec.Struct, frozen=True, kw_only=True):
    """All settings of the service, as `Settings` inherits them."""

    api_host: Annotated[Name, _help("Address that the service listens on")] = "0.0.0.0"
    api_port: Annotated[Port, _help("Port of the API")] = 8000
    api_workers: Annotated[
        int,
        Meta(ge=1, le=64),
        _help("Processes that answer requests, of which one asks the registry and writes the log"),
    ] = 1
    api_unix_socket: Annotated[
        Path | None, _help("Unix socket that the API listens on, in place of API_HOST and API_PORT")
    ] = None
    api_unix_socket_mode: Annotated[Mode, _help("Permissions of that socket")] = "660"
    api_tls_cert: Annotated[
        Path | None,
        _help("PEM file of the certificate for TLS, and of those up to its authority. Unset: no TLS"),
    ] = None
    api_tls_key: Annotated[Path | None, _help("PEM file of its private key")] = None
    api_tls_key_password: Annotated[Key | None, _help("Password of that key, if it has one")] = None
    api_tls_client_ca: Annotated[
        Path | None, _help("PEM file of the authorities whose certificates clients must have. Unset: none is needed")
    ] = None
    api_debug: Annotated[bool, _help("Serve /docs and /redoc, and log at level DEBUG")] = False
    api_version: Annotated[Name, _help("Version number shown by /info and in the OpenAPI document")] = __version__
    model_path: Annotated[
        Place | None,
        _help("Model to serve without a registry: a file, a directory, or an address such as s3://… or runs:/…"),
    ] = None
    model_name: Annotated[Name, _help("Name of the registered model to serve")] = "california-housing-model"
    model_names: Annotated[
        Models | None,
        _help("Several registered models, separated by commas, each with its own selection: `a,b?alias=next`"),
    ] = None
    model_stage: Annotated[Stage, _help("Stage whose newest version is served")] = "Production"
    model_fallback_stage: Annotated[Stage, _help("Stage to fall back on when MODEL_STAGE holds no version")] = "Staging"
    model_fallback_any: Annotated[
        bool, _help("Fall back on any other stage (Staging, Production, None) when both hold no version")
    ] = False
    model_alias: Annotated[Name | None, _help("Alias of the version to serve; when set, stages are ignored")] = None
    model_cache_ttl: Annotated[
        float, Meta(ge=1, le=604800), _help("Seconds between checks of the registry for a new version")
    ] = 3600
    model_lookup_timeout: Annotated[
        float, Meta(gt=0, le=600), _help("Time limit in seconds of one registry look-up")
    ] = 10.0
    model_fetch_timeout: Annotated[
        float, Meta(gt=0, le=86400), _help("Time limit in seconds of one model download")
    ] = 300.0
    model_max_bytes: Annotated[
        int,
        Meta(ge=1024, le=2**40),
        _help("Most bytes of a model's files; a larger download is stopped"),
    ] = 2 * 1024**3
    model_artifact_root: Annotated[
        Path | None,
        _help("Directory shared with the MLflow server, which may then name paths below it"),
    ] = None
    model_build_timeout: Annotated[
        float, Meta(gt=0, le=86400), _help("Time limit in seconds of reading one model and preparing it for prediction")
    ] = 300.0
    model_min_r2: Annotated[R2 | None, _help("Lowest R² of a model's run; a model below it is refused")] = None
    model_max_rmse: Annotated[
        Rmse | None, _help("Highest RMSE of a model's run, in the target's unit; a model above it is refused")
    ] = None
    model_unseen_categories: Annotated[
        Unseen,
        _help("What becomes of a value that is none of a feature's categories: it counts as missing, or is refused"),
    ] = "missing"
    model_store_versions: Annotated[
        int, Meta(ge=1, le=100), _help("Number of good versions kept in DATA_DIR for starts without the registry")
    ] = 3
    model_canary_alias: Annotated[Name | None, _help("Alias of the version that answers as canary")] = None
    model_canary_percent: Annotated[float, Meta(ge=0, le=100), _help("Percentage of requests for the canary")] = 5.0
    model_canary_header: Annotated[
        HeaderName, _help("Request header by whose value the canary's requests are chosen")
    ] = "X-Request-ID"
    model_shadow_alias: Annotated[Name | None, _help("Alias of the version that predicts as shadow")] = None
    model_shadow_percent: Annotated[float, Meta(ge=0, le=100), _help("Percentage of requests for the shadow")] = 10.0
    model_pin_alias: Annotated[
        Name | None, _help("Alias that holds the pinned version for all services, which move it. Unset: pins are local")
    ] = None
    model_output: Annotated[Output, _help("Output beside the prediction, unless a request has ?output=")] = "auto"
    mlflow_tracking_uri: Annotated[Uri | None, _help("MLflow server. Unset: a registry in DATA_DIR")] = None
    mlflow_registry_uri: Annotated[Uri | None, _help("Model registry, if it is another server")] = None
    mlflow_webhook_secret: Annotated[
        Key | None, _help("Secret of MLflow's webhooks. Unset: /hooks/mlflow does not exist")
    ] = None
    enable_prometheus: Annotated[bool, _help("Serve metrics at /metrics, and on PROMETHEUS_PORT as well")] = True
    prometheus_port: Annotated[Port, _help("Port that serves metrics only")] = 8001
    metrics_prefix: Annotated[MetricPrefix | None, _help("Beginning of the names of all metrics of its own")] = None
    traces: Annotated[
        bool, _help("Export traces to the collector that OTEL_… variables name; needs the otel extra")
    ] = False
    grpc_port: Annotated[
        Port | None, _help("Port of the Open Inference Protocol over gRPC, which needs the grpc extra. Unset: none")
    ] = None
    log_level: Annotated[LogLevel, _help("Lowest level that is logged")] = "INFO"
    max_batch_size: Annotated[int, Meta(ge=1, le=100_000), _help("Most rows of a /predict/batch request")] = 100
    max_bulk_rows: Annotated[int, Meta(ge=1, le=100_000_000), _help("Most rows of a /predict/bulk request")] = 1_000_000
    max_body_bytes: Annotated[int, Meta(ge=1024, le=2**34), _help("Largest request body in bytes")] = 128 * 1024 * 1024
    max_json_bytes: Annotated[
        int, Meta(ge=1024, le=64 * 1024 * 1024), _help("Largest JSON body in bytes; JSON is parsed in one piece")
    ] = 1024 * 1024
    max_requests_in_progress: Annotated[
        int,
        Meta(ge=1, le=1_000_000),
        _help("Most prediction requests in progress, without those that are for a second; others get 503"),
    ] = 4_000
    longest_wait: Annotated[
        float, Meta(ge=0.01, le=3600), _help("Seconds that a prediction request may wait; others get 503 at once")
    ] = 0.5
    max_rows_in_flight: Annotated[
        Rows | None, _help("Most rows of all requests in progress. Unset: as many as fit into a quarter of the memory")
    ] = None
    request_timeout: Annotated[
        float,
        Meta(gt=0, le=3600),
        _help(
            "Time limit in seconds of a prediction request: 408 if its body is incomplete by then, else 504; and of a "
            "client that reads nothing of its answer"
        ),
    ] = 30.0
    rate_limit: Annotated[
        int, Meta(ge=0, le=10_000_000), _help("Prediction requests a minute and client; 0 means no limit")
    ] = 0
    idle_timeout: Annotated[
        int, Meta(ge=1, le=3600), _help("Time limit in seconds of waiting for a connection's next request head")
    ] = 30
    shutdown_delay: Annotated[
        float,
        Meta(ge=0, le=600),
        _help("Seconds after SIGTERM in which requests are still answered; readiness is 503"),
    ] = 1.0
    shutdown_grace: Annotated[
        int, Meta(ge=1, le=3600), _help("Time limit in seconds for requests in flight to finish after SHUTDOWN_DELAY")
    ] = 25
    database_url: Annotated[
        Uri | None, _help("Database of the prediction log, sqlite or postgresql. Unset: SQLite in DATA_DIR")
    ] = None
    prediction_log: Annotated[
        LogMode,
        _help("Log of predictions: none, one that no answer waits for, or one that loses no row of an answer"),
    ] = "best_effort"
    prediction_log_format: Annotated[
        LogFormat, _help("Rows of a table in DATABASE_URL, or Parquet files in DATA_DIR")
    ] = "sql"
    prediction_log_spool_bytes: Annotated[
        int,
        Meta(ge=2**20, le=2**40),
        _help("Most bytes of a durable log in DATA_DIR that wait to be written; at the limit predictions get 503"),
    ] = 2**30
    prediction_log_rows: Annotated[
        int, Meta(ge=0, le=10**9), _help("Number of newest rows kept in the prediction log; 0 switches it off")
    ] = 1_000_000
    prediction_log_days: Annotated[
        float, Meta(ge=0, le=36500), _help("Days for which rows are kept in the prediction log; 0 for any number")
    ] = 0.0
    drift: Annotated[
        bool, _help("Compare the rows that are served with the model's reference: /drift, and metrics")
    ] = True
    drift_window: Annotated[float, Meta(ge=60, le=604800), _help("Seconds of rows that /drift looks at")] = 3600
    drift_baseline_rows: Annotated[
        int,
        Meta(ge=0, le=100_000),
        _help("First rows served that become the reference of a model without one; 0 for never"),
    ] = 5000
    outcome_window_rows: Annotated[
        int,
        Meta(ge=100, le=1_000_000),
        _help("Newest rows with a known outcome from which the error of a version is computed"),
    ] = 10_000
    console: Annotated[bool, _help("Serve the console, a page for people, at / to browsers")] = True
    cors_origins: Annotated[tuple[Name, ...], _help("Web origins that may call the API; * for all")] = ()
    api_key: Annotated[Key | None, _help("Key for the prediction routes. Unset: no key is needed")] = None
    api_key_second: Annotated[
        Key | None, _help("Key that is taken as well as API_KEY, for as long as clients change from one to the other")
    ] = None
    admin_api_key: Annotated[Key | None, _help("Key for the admin routes. Unset: they are closed")] = None
    data_dir: Annotated[Path, _help("Directory for registry, models, logs and compiled kernels")] = Path(".madrone")
