"""The base install runs the client, the simulator and the command line: no Ray, no torch."""

import subprocess
import sys

import pytest

HEAVY = ("numba", "ray", "torch", "transformers", "triton")

# A finder that comes first and refuses: as if the packages were not installed.
WITHOUT_HEAVY = f"""
import importlib.abc, sys
class Absent(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {HEAVY!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Absent())
"""


def run_without_heavy(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", WITHOUT_HEAVY + code],
        capture_output=True,
        text=True,
        timeout=300,
    )


def test_the_finder_refuses_what_it_should() -> None:
    for name in HEAVY:
        assert "ModuleNotFoundError" in run_without_heavy(f"import {name}").stderr


@pytest.mark.parametrize(
    "code",
    [
        "import splitweave; splitweave.Client; splitweave.AsyncClient",
        "import splitweave.client",
        "import splitweave.sim",
        "import splitweave.cluster.core, splitweave.cluster.policy, splitweave.workers.core",
        "import splitweave.proto.inference_pb2_grpc, splitweave.proto.admin_pb2_grpc",
        "import splitweave.cluster.live.cli.app",
    ],
)
def test_imports_with_neither_ray_nor_torch(code: str) -> None:
    done = run_without_heavy(code)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("command", ["simulate", "generate", "status"])
def test_the_light_commands_explain_themselves_with_neither_ray_nor_torch(command: str) -> None:
    done = run_without_heavy(
        "from splitweave.cluster.live.cli.app import main\n"
        f"sys.argv = ['splitweave', {command!r}, '--help']\n"
        "main()"
    )
    assert done.returncode == 0, done.stderr
    assert "Usage" in done.stdout


def test_importing_the_package_loads_none_of_its_parts() -> None:
    done = run_without_heavy(
        "import splitweave\n"
        "print(sorted(name for name in sys.modules if name.startswith('splitweave.')))"
    )
    assert done.stdout.strip() == "[]", done.stderr
