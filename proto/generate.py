"""Compiles proto/*.proto into the stubs beside them: `make proto`.

The folder is mapped to its import path (`-I splitweave/proto=proto`), so the
generated modules import each other as `splitweave.proto.…`. With --check
nothing is written; the exit status is 1 if a committed stub differs from what
the pinned compiler makes of the .proto files today.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
VIRTUAL = "splitweave/proto"
GENERATED = ("*_pb2.py", "*_pb2.pyi", "*_pb2_grpc.py", "*_pb2_grpc.pyi")


def compile_protos(out: Path) -> dict[str, str]:
    """Every generated file's text, by file name. Raises CalledProcessError."""
    sources = sorted(f"{VIRTUAL}/{path.name}" for path in FOLDER.glob("*.proto"))
    kinds = ("python_out=", "grpc_python_out=", "mypy_out=quiet:", "mypy_grpc_out=quiet:")
    outputs = [f"--{kind}{out}" for kind in kinds]
    # protoc finds its mypy plugins on PATH: those beside this interpreter.
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
    subprocess.run(
        [sys.executable, "-m", "grpc_tools.protoc", f"-I{VIRTUAL}={FOLDER}", *outputs, *sources],
        check=True,
        env={**os.environ, "PATH": path},
    )
    return {path.name: path.read_text() for path in sorted((out / VIRTUAL).iterdir())}


def committed() -> dict[str, str]:
    """The stubs in the folder now, by file name."""
    return {path.name: path.read_text() for kind in GENERATED for path in FOLDER.glob(kind)}


def stale(fresh: dict[str, str]) -> list[str]:
    """Names whose committed text is missing, differs, or has no source any more."""
    now = committed()
    return sorted(name for name in fresh | now if fresh.get(name) != now.get(name))


def main() -> int:
    with tempfile.TemporaryDirectory() as scratch:
        fresh = compile_protos(Path(scratch))
    names = stale(fresh)
    if "--check" in sys.argv[1:]:
        for name in names:
            print(f"proto/{name} is out of date: run `make proto`", file=sys.stderr)
        return 1 if names else 0
    for name in names:
        if name in fresh:
            (FOLDER / name).write_text(fresh[name])
        else:
            (FOLDER / name).unlink()
        print(f"proto/{name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
