"""How Madrone is installed: what the lock holds, and the rules that the image keeps."""

import os
import re
import subprocess
import sys
import tomllib
import zipfile
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.support import ROOT

LOCK = (ROOT / "requirements.lock").read_text()
CONTAINERFILE = (ROOT / "Containerfile").read_text()
VERSION = version("madrone")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def locked() -> set[str]:
    """Names of the packages that the lock pins."""
    return set(re.findall(r"^([a-z0-9.-]+)==", LOCK, re.MULTILINE))


def wanted_by_every_extra() -> set[str]:
    """Names of all packages that an install on this machine brings, as far as what asks for them is installed here."""
    extras = PROJECT["optional-dependencies"]
    todo = [Requirement(text) for texts in (PROJECT["dependencies"], *extras.values()) for text in texts]
    done: set[tuple[str, frozenset[str]]] = set()
    while todo:
        requirement = todo.pop()
        key = canonicalize_name(requirement.name), frozenset(requirement.extras)
        if key in done or not (requirement.marker is None or requirement.marker.evaluate()):
            continue
        done.add(key)
        try:
            texts = requires(requirement.name) or []
        except PackageNotFoundError:
            continue
        for asked in map(Requirement, texts):
            marker = asked.marker
            if marker is None or any(marker.evaluate({"extra": extra}) for extra in (*requirement.extras, "")):
                asked.marker = None
                todo.append(asked)
    return {name for name, _ in done}


def test_the_lock_pins_whatever_any_extra_brings() -> None:
    own = {"madrone"}  # extras may bring each other
    assert wanted_by_every_extra() - locked() - own == set()


def test_the_lock_has_a_hash_for_each_package_and_names_no_index() -> None:
    pins = re.split(r"^(?=\S)", LOCK, flags=re.MULTILINE)[1:]
    assert [pin.split(maxsplit=1)[0] for pin in pins if "--hash=sha256:" not in pin] == []
    assert re.findall(r"://|^\s*-[-if]", LOCK.replace("--hash=", ""), re.MULTILINE) == []


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    directory = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(directory)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (path,) = directory.glob("*.whl")
    return zipfile.ZipFile(path)


def test_the_wheel_holds_the_migrations_and_the_console(wheel: zipfile.ZipFile) -> None:
    for folder, files in (("app/prediction_log/migrations", "*.py"), ("app/console/static", "*.*")):
        held = {name for name in wheel.namelist() if name.startswith(folder)}
        assert held == {str(path.relative_to(ROOT)) for path in (ROOT / folder).rglob(files)}


def test_the_wheel_holds_the_client_once_by_the_name_that_users_import(wheel: zipfile.ZipFile, tmp_path: Path) -> None:
    names = wheel.namelist()
    assert {name.partition("/")[0] for name in names} == {"app", "kernels", "madrone", f"madrone-{VERSION}.dist-info"}
    sources = {path.relative_to(ROOT / "app").as_posix() for path in (ROOT / "app" / "madrone").rglob("*.py")}
    assert {name for name in names if name.startswith("madrone/")} >= {*sources, "madrone/py.typed"}
    assert [name for name in names if name.startswith("app/madrone")] == []
    wheel.extractall(tmp_path)
    code = "import madrone.client, sys; print(madrone.client.Client('http://x'), madrone.__file__)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd="/", env=os.environ | {"PYTHONPATH": str(tmp_path)}, capture_output=True,
        text=True, check=True,
    )  # fmt: skip
    assert done.stdout == f"Client('http://x') {tmp_path / 'madrone' / '__init__.py'}\n"


def test_an_install_of_the_checkout_has_the_names_of_the_wheel(tmp_path: Path) -> None:
    code = "import app, kernels, madrone; print(*(module.__file__ for module in (app, kernels, madrone)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.split() == [str(ROOT / name / "__init__.py") for name in ("app", "kernels", "app/madrone")]


def stages() -> dict[str, list[str]]:
    """The image's instructions by stage, `FROM` first; the last stage has no name."""
    text = re.sub(r"^#.*\n", "", CONTAINERFILE, flags=re.MULTILINE).replace("\\\n", " ")
    found: dict[str, list[str]] = {}
    for line in filter(None, (" ".join(line.split()) for line in text.splitlines())):
        if line.startswith("FROM "):
            found[line.partition(" AS ")[2]] = instructions = []
        elif not found:
            continue  # arguments of the whole file
        instructions.append(line)
    return found


def test_the_image_pins_what_it_builds_on() -> None:
    bases = [stage[0].split()[1] for stage in stages().values()]
    foreign = [base for base in bases if base not in stages() and not base.startswith("runtime-$")]
    assert [base for base in foreign if not re.fullmatch(r"python:3\.\d+\.\d+-slim-[a-z]+", base)] == []
    installed = [line for line in stages()["build"] if "pip install" in line]
    assert re.fullmatch(r"RUN pip install --no-cache-dir uv==\d+\.\d+\.\d+", installed[0])
    assert all("--compile-bytecode" in line for line in installed[1:])
    assert all("--build-constraint requirements.lock" in line for line in installed[1:])


def test_the_image_s_dependencies_are_a_layer_before_the_code() -> None:
    build = stages()["build"]
    (dependencies,) = (line for line in build if "--requirements pyproject.toml" in line)
    (code,) = (line for line in build if line.endswith("--build-constraint requirements.lock ."))
    assert "--constraint requirements.lock" in dependencies
    assert "--no-deps" in code
    before = [line for line in build[: build.index(dependencies)] if line.startswith("COPY")]
    assert before == ["COPY pyproject.toml requirements.lock ./"]


def test_the_image_takes_the_extras_of_both_arguments(tmp_path: Path) -> None:
    (dependencies,) = (line for line in stages()["build"] if "--requirements pyproject.toml" in line)
    (tmp_path / "uv").write_text('#!/bin/sh\necho "$@"\n')
    (tmp_path / "uv").chmod(0o755)
    given = {"PATH": f"{tmp_path}:/bin:/usr/bin", "EXTRA": "cuda", "CLIENTS": "s3 mysql"}
    for environment, extras in ((given, ["cuda", "s3", "mysql"]), ({**given, "EXTRA": "", "CLIENTS": ""}, [])):
        command = ["sh", "-c", dependencies.removeprefix("RUN ")]
        ran = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
        assert re.findall(r"--extra=(\S+)", ran) == extras
        assert {*extras} <= {*PROJECT["optional-dependencies"]}
    assert all(f"ARG {name}" in stages()["build"] for name in ("EXTRA", "CLIENTS"))


def test_the_image_s_user_is_a_number_that_exists() -> None:
    runtime = stages()["runtime-cpu"]
    (user,) = (line.removeprefix("USER ") for line in runtime if line.startswith("USER"))
    uid, gid = map(int, user.split(":"))
    (made,) = (line for line in runtime if "useradd" in line)
    assert f"groupadd --gid {gid} madrone" in made
    assert f"useradd --uid {uid} --gid {gid} " in made
    assert not any(line.startswith("USER") for name in ("runtime-cuda", "") for line in stages()[name])


def test_only_the_image_with_the_cuda_extra_asks_for_a_gpu() -> None:
    assert [name for name, lines in stages().items() if any("NVIDIA" in line for line in lines)] == ["runtime-cuda"]
    assert stages()["runtime-cuda"][0] == "FROM runtime-cpu AS runtime-cuda"
    assert stages()[""] == ["FROM runtime-${EXTRA:-cpu}"]
    assert "cuda" in PROJECT["optional-dependencies"]
