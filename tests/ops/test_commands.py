"""The commands of `madrone ops` that print and write manifests: their options, and what is bad usage."""

from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner, Result

from app.cli import main
from app.config.settings import Settings
from app.ops.manifests.chart import chart
from app.ops.manifests.cluster import kubernetes
from app.ops.manifests.serving_runtime import kserve
from tests.ops.deployments import by_kind, encrypted, plan

Ops = Callable[..., Result]
MANIFESTS = ("kubernetes", "helm", "kserve", "compose")


@pytest.fixture
def ops(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Ops:
    """Runs `madrone ops` in an empty directory, with only the given settings."""
    monkeypatch.chdir(tmp_path)
    for name in Settings.__struct_fields__:
        monkeypatch.delenv(name.upper(), raising=False)

    def run(*arguments: str, **environ: str) -> Result:
        return CliRunner().invoke(main, ["ops", *arguments], env=environ)

    return run


def test_help_names_the_manifests(ops: Ops) -> None:
    done = ops("--help")
    assert done.exit_code == 0
    assert {*MANIFESTS} <= set(done.stdout.split())
    assert "..." not in done.stdout.partition("Commands:")[2]
    for command in MANIFESTS:
        assert "secrets" in ops(command, "--help").stdout.lower(), command


def test_manifests_are_printed_with_the_options_and_the_settings(ops: Ops) -> None:
    environ = {"API_KEY": "sesame", "MODEL_ALIAS": "champion"}
    options = ("--name", "scores", "--namespace", "ml", "--image", "ours.example/madrone:2", "--replicas", "3")
    described = plan(
        environ, name="scores", namespace="ml", image="ours.example/madrone:2", replicas=3, max_replicas=12
    )
    for command, made in (("kubernetes", kubernetes), ("kserve", kserve)):
        done = ops(command, *options, **environ)
        assert (done.exit_code, done.stderr, done.stdout) == (0, "", made(described))
    done = ops("kubernetes", "--replicas", "9", "--max-replicas", "9")
    scaler = by_kind(done.stdout)["HorizontalPodAutoscaler"]
    assert (scaler["spec"]["minReplicas"], scaler["spec"]["maxReplicas"]) == (9, 9)


def test_a_chart_is_written_once(ops: Ops, tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("MODEL_ALIAS=champion\n")
    assert ops("helm", "--output", "deploy").exit_code == 0
    files = {
        path.relative_to(tmp_path / "deploy").as_posix(): path.read_text()
        for path in (tmp_path / "deploy").rglob("*")
        if path.is_file()
    }
    assert files == chart(plan({"MODEL_ALIAS": "champion"}))
    done = ops("helm", "--output", "deploy")
    assert (done.exit_code, done.stdout, done.stderr) == (1, "", "Cannot write deploy: File exists.\n")
    done = ops("helm", "--output", "missing/chart.tgz")
    assert (done.exit_code, done.stderr) == (1, "Cannot write missing/chart.tgz: No such file or directory.\n")


def test_a_folder_for_compose_says_which_files_are_missing(ops: Ops) -> None:
    done = ops("compose", "--output", "stack", API_KEY="sesame", DATABASE_URL="postgresql://a:sesame@b/c")
    assert done.exit_code == 0
    assert done.stderr == "Before a start, make the file stack/secrets/API_KEY, readable for all.\n"
    assert ops("compose", "--output", "stack.tgz").exit_code == 2


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--name", "Scores"), "begin with a letter"),
        (("--name", "1st"), "begin with a letter"),
        (("--name", "a-"), "not end with -"),
        (("--name", "a" * 54), "at most 53"),
        (("--name", ""), "at most 53"),
        (("--name", "a\nb: c"), "at most 53"),
        (("--namespace", "ml_prod"), "at most 63"),
        (("--namespace", "a" * 64), "at most 63"),
        (("--image", "madrone 1"), "such as madrone:1.0.0"),
        (("--image", 'a"\nprivileged: true'), "such as madrone:1.0.0"),
        (("--image", "a" * 513), "such as madrone:1.0.0"),
        (("--replicas", "0"), "1<=x<=1000"),
        (("--replicas", "1001"), "1<=x<=1000"),
        (("--replicas", "3", "--max-replicas", "2"), "at least --replicas, which is 3"),
        (("--max-replicas", "1"), "at least --replicas, which is 2"),
    ],
    ids=str,
)
def test_what_kubernetes_would_refuse_is_bad_usage(ops: Ops, options: tuple[str, ...], words: str) -> None:
    done = ops("kubernetes", *options)
    assert (done.exit_code, done.stdout) == (2, "")
    assert words in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("options", [("--name", "a" * 53), ("--namespace", "1" * 63), ("--replicas", "1000")])
def test_the_longest_names_and_most_replicas_are_taken(ops: Ops, options: tuple[str, ...]) -> None:
    assert ops("kubernetes", *options).exit_code == 0


def test_bad_settings_end_the_command(ops: Ops) -> None:
    done = ops("kubernetes", API_PORT="none", API_KEY="two words sesame")
    assert (done.exit_code, done.stdout) == (2, "")
    assert "API_PORT: must be" in done.stderr
    assert "sesame" not in done.stderr


def test_what_has_no_way_to_its_probes_or_callers_ends_the_command(ops: Ops, monkeypatch: pytest.MonkeyPatch) -> None:
    tls = encrypted().settings
    unseen = msgspec.structs.replace(encrypted(client_ca="/ca.pem").settings, enable_prometheus=False)
    for command, settings, words in (
        ("kserve", tls, "API_TLS_CERT is set, but KServe sends requests without TLS."),
        ("kubernetes", unseen, "API_TLS_CLIENT_CA needs ENABLE_PROMETHEUS"),
    ):
        monkeypatch.setattr("app.commands.ops.settings_of_environment", lambda settings=settings: settings)
        done = ops(command)
        assert (done.exit_code, done.stdout) == (1, "")
        assert words in done.stderr
