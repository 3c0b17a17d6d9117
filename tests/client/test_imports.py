"""The name `madrone`: what it holds, and how little it imports."""

import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

import madrone
from madrone.client import Client

SERVICE = ("app", "kernels", "litestar", "granian", "numba", "numpy", "lightgbm", "mlflow", "pandas", "pyarrow", "ray")


@pytest.mark.parametrize(
    ("code", "also"),
    [("import madrone", ("httpx", "msgspec")), ("import madrone.client; madrone.Client('http://x')", ())],
)
def test_the_client_imports_nothing_of_the_service(tmp_path: Path, code: str, also: tuple[str, ...]) -> None:
    """From any directory, where a folder of the user's is named `app` as well."""
    (tmp_path / "app.py").write_text("raise RuntimeError('the user\\'s own')")
    show = f"import sys; {code}; print(*sorted(set(sys.modules) & {set(SERVICE + also)!r}))"
    done = subprocess.run([sys.executable, "-c", show], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("\n", "")


def test_the_names_of_the_package() -> None:
    assert madrone.Client is Client
    assert madrone.__version__ == version("madrone")
    assert {"AsyncClient", "Client", "__version__"} <= set(dir(madrone))
    with pytest.raises(AttributeError, match="no attribute 'Server'"):
        madrone.Server  # noqa: B018
