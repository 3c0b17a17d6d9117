"""A container without Docker: a process with the root, the user and the mounts that a manifest says."""

import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.support import ROOT

SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib64", "/etc")

MAKE = """
set -eu
mount -t tmpfs -o mode=755 tmpfs {new}
mkdir -p {new}/proc {new}/dev
{mounts}
for folder in {folders}; do
    mkdir -p {new}$folder
    mount --bind $folder {new}$folder
    mount -o remount,ro,bind {new}$folder
done
mount -t proc proc {new}/proc
mount --rbind /dev {new}/dev
mount -o remount,ro {new}
exec chroot {new} setpriv --reuid {user} --regid {group} --groups {groups} --no-new-privs --bounding-set=-all \\
    --inh-caps=-all env --chdir={home} --ignore-environment {environ} {command}
"""
"""The volumes come first, so that a checkout below /tmp is seen in a /tmp that is a volume."""


class Box:
    """The container of a pod, whose root has what the tests' interpreter needs, read-only.

    Args:
        pod: Specification of the pod, with one container. Its volumes are the folders of `volumes`.
        environ: Variables of the image.
        home: Working directory of the image.
        directory: A folder for the root, the volumes and the log.

    Attributes:
        volumes: Folders of the volumes by name; those of secrets get files first.
    """

    def __init__(self, pod: dict[str, Any], environ: dict[str, str], home: str, directory: Path) -> None:
        (self._container,) = pod["containers"]
        self._security, self._environ, self._home = pod["securityContext"], environ, home
        self._root, self._log = directory / "root", directory / "log"
        self._root.mkdir()
        self.volumes = {volume["name"]: directory / volume["name"] for volume in pod["volumes"]}
        self._modes = {one["name"]: one["secret"]["defaultMode"] for one in pod["volumes"] if "secret" in one}
        for folder in self.volumes.values():
            folder.mkdir()
            folder.chmod(0o777)  # as the kubelet makes them

    def start(self) -> None:
        """Start the command of the container."""
        check_unshare()
        group = self._security["fsGroup"]
        for name, mode in self._modes.items():
            for file in self.volumes[name].iterdir():
                shutil.chown(file, 0, group)
                file.chmod(mode)
        script = MAKE.format(
            new=self._root,
            folders=" ".join([*SYSTEM, sys.base_prefix, sys.prefix, str(ROOT)]),
            mounts="\n".join(self._mount(one) for one in self._container["volumeMounts"]),
            user=self._security["runAsUser"],
            group=self._security["runAsGroup"],
            groups=group,
            home=self._home,
            environ=" ".join(shlex.quote(f"{name}={value}") for name, value in self._variables().items()),
            command=shlex.join(self._container["args"]),
        )
        with self._log.open("wb") as log:
            self.popen = subprocess.Popen(
                ["unshare", "--mount", "--propagation", "private", "sh", "-c", script], stdout=log, stderr=log
            )

    def run(self, command: list[str], **environ: str) -> int:
        """Run a command in the container, and give its exit status."""
        inside = ["nsenter", "--target", str(self.popen.pid), "--mount", "--root", "env", "--ignore-environment"]
        variables = [f"{name}={value}" for name, value in (self._variables() | environ).items()]
        return subprocess.run(
            [*inside, *variables, *command], timeout=60, check=False, stderr=subprocess.PIPE
        ).returncode

    def _variables(self) -> dict[str, str]:
        return self._environ | {one["name"]: one["value"] for one in self._container["env"]}

    def _mount(self, mounted: dict[str, Any]) -> str:
        place = f"{self._root}{mounted['mountPath']}"
        lines = [f"mkdir -p {place}", f"mount --bind {self.volumes[mounted['name']]} {place}"]
        if mounted.get("readOnly"):
            lines.append(f"mount -o remount,ro,bind {place}")
        return "\n".join(lines)

    @property
    def process(self) -> psutil.Process:
        """The first process of the container."""
        return psutil.Process(self.popen.pid)

    def log(self) -> str:
        return self._log.read_text()

    def end(self) -> int:
        """Send SIGTERM and give the exit status."""
        self.popen.send_signal(signal.SIGTERM)
        return self.popen.wait(60)

    def close(self) -> None:
        """End what still runs."""
        if self.popen.poll() is None:
            children = self.process.children(recursive=True)
            for one in (self.process, *children):
                one.kill()
            self.popen.wait()


def check_unshare() -> None:
    """Skip where no file system can be mounted, as is needed for a root of its own."""
    try:
        subprocess.run(["unshare", "--mount", "mount", "-t", "tmpfs", "tmpfs", "/mnt"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"a process cannot get a root of its own here: {error}")
