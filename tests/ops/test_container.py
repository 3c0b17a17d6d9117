"""The container of the manifests: whether `madrone serve` runs as they say, and whether the image fits them."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from app.models.registry.embedded import BUNDLED
from app.ops.manifests.cluster import kubernetes
from app.ops.manifests.plan import HOME, Plan
from kernels.cache import kernels_version
from tests.certificates import Authority
from tests.ops.box import Box
from tests.ops.deployments import by_kind, encrypted, plan
from tests.support import HTTP, ROOT, eventually, free_port

CONTAINERFILE = (ROOT / "Containerfile").read_text()
KEY = "sesame"


def pod(deployment: Plan) -> dict[str, Any]:
    return by_kind(kubernetes(deployment))["Deployment"]["spec"]["template"]["spec"]


@pytest.mark.usefixtures("registry_dir")  # which compiles the kernels
def test_madrone_serves_as_the_manifest_says(tmp_path: Path, example: dict[str, float]) -> None:
    """With a read-only root, as a user without rights, and with files nowhere but in the volumes; over TLS."""
    url = f"https://localhost:{(port := free_port())}"
    settings = {"API_PORT": str(port), "PROMETHEUS_PORT": str(free_port()), "MODEL_PATH": str(BUNDLED / "model")}
    spec = pod(encrypted({**settings, "API_KEY": KEY}))
    environ = {"HOME": str(HOME), "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin"}
    box = Box(spec, environ, str(HOME), tmp_path)
    (box.volumes["secrets"] / "API_KEY").write_text(KEY)
    for made, name in zip(Authority(tmp_path).issue("madrone"), ("tls.crt", "tls.key"), strict=True):
        shutil.copy(made, box.volumes["tls"] / name)
    # What an earlier start compiled, since it takes a minute.
    kept = box.volumes["state"] / "data" / "kernels" / kernels_version()
    shutil.copytree(os.environ["NUMBA_CACHE_DIR"], kept)
    for path in (kept.parents[1], *kept.parents[1].rglob("*")):
        os.chown(path, 10001, 10001)
    box.start()
    try:
        (container,) = spec["containers"]
        probe = container["readinessProbe"]["httpGet"]["path"]
        eventually(lambda: status(url + probe, box) == 200)
        assert HTTP.post(f"{url}/predict", json=example, headers={"X-API-Key": KEY}).status_code == 200
        assert HTTP.post(f"{url}/predict", json=example).status_code == 401
        health = yaml.safe_load(instructions("HEALTHCHECK")[0].partition("CMD ")[2])
        assert box.run(health) == 0
        assert box.run(health, API_PORT=str(free_port())) == 1
        for process in (box.process, *box.process.children(recursive=True)):
            assert set(process.uids()) == set(process.gids()) == {10001}
            rights = Path(f"/proc/{process.pid}/status").read_text()
            assert re.findall(r"^(?:Cap(?:Prm|Eff|Bnd)):\s+(.*)$", rights, re.MULTILINE) == ["0" * 16] * 3
            assert re.search(r"^NoNewPrivs:\s+1$", rights, re.MULTILINE)
            mounts = Path(f"/proc/{process.pid}/mounts").read_text().splitlines()
            (root,) = (line.split() for line in mounts if line.split()[1] == "/")
            assert "ro" in root[3].split(",")
        assert box.end() == 0
    finally:
        box.close()
    log = box.log()
    assert "Read-only file system" not in log
    assert "Permission denied" not in log
    assert '"level":"ERROR"' not in log


def status(url: str, box: Box) -> int:
    assert box.popen.poll() is None, box.log()
    try:
        return HTTP.get(url, timeout=5).status_code
    except httpx.TransportError:
        return 0


def instructions(name: str) -> list[str]:
    return re.findall(rf"^{name} (.*)$", CONTAINERFILE.replace("\\\n", " "), re.MULTILINE)


def test_the_image_fits_the_manifest() -> None:
    spec = pod(plan())
    (container,) = spec["containers"]
    security = spec["securityContext"]
    assert instructions("USER") == [f"{security['runAsUser']}:{security['runAsGroup']}"]
    assert instructions("ENTRYPOINT") == []  # so that `args` are the whole command
    assert yaml.safe_load(instructions("CMD")[-1]) == container["args"]
    assert instructions("EXPOSE") == [" ".join(str(one["containerPort"]) for one in container["ports"])]
    state = container["volumeMounts"][0]["mountPath"]
    assert [instructions(name)[-1] for name in ("VOLUME", "WORKDIR")] == [state, state]
    assert f"--home-dir {state} " in CONTAINERFILE
    (data,) = (one["value"] for one in container["env"] if one["name"] == "DATA_DIR")
    assert f"DATA_DIR={data}\n" in CONTAINERFILE


def test_hadolint_finds_nothing_but_what_is_meant() -> None:
    """SC2046: arguments are to be split. DL3008: Debian keeps one version of a package. DL3006: a stage has no tag."""
    hadolint = Path(sys.executable).with_name("hadolint")
    if not hadolint.exists():
        pytest.skip("hadolint is not installed")
    ignored = [argument for rule in ("SC2046", "DL3008", "DL3006") for argument in ("--ignore", rule)]
    done = subprocess.run([str(hadolint), *ignored, "Containerfile"], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "")
