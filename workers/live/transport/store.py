"""Where the two ranks of a pair find each other: a small store in the receiver's process.

Not a TCPStore: it looks up the name of every peer's address, on both sides and
in its server's only thread. Where one DNS answer in forty got lost, one
connection in forty took 5 s (measured, torch 2.13, libuv and not). Here the
receiver's own rank uses a HashStore in memory; the other reaches it over one
socket, with a line of JSON per question and per answer.
"""

import contextlib
import json
import socket
import socketserver
import threading
from datetime import timedelta
from typing import Any

from torch.distributed import HashStore, PrefixStore, Store  # type: ignore[attr-defined]

# gloo's addresses take about 200 bytes, an NCCL id 128; in hex twice that.
LINE_BYTES_MAX = 1 << 16


class HostedStore:
    """The receiver's own: served on a free `port` until closed. Raises OSError."""

    def __init__(self, host: str, timeout_s: float) -> None:
        self._store = HashStore()
        self._store.set_timeout(timedelta(seconds=timeout_s))
        self._server = _Server(host, self._store, timeout_s)
        self.port: int = self._server.server_address[1]
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.05,), name="kv-store", daemon=True
        )
        self._thread.start()

    def pair_store(self, prefix: str) -> "LocalPairStore":
        """The target's end of one pair's keys."""
        return LocalPairStore(self._store, prefix)

    def close(self) -> None:
        """Stop serving. Connections end by themselves within a few timeouts."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class LocalPairStore:
    """One pair's keys, seen from the process that holds them."""

    def __init__(self, store: HashStore, prefix: str) -> None:
        self.torch_store: Store = PrefixStore(prefix, store)
        self._store = store
        self._prefix = prefix

    def met(self) -> None:
        """Nothing: the peer may still read the keys."""

    def forget(self) -> None:
        """Delete the keys, or the store grows with every pairing. Only once the pair is done
        with: a rank that is connected cannot tell whether the other has read them.
        """
        for key in self._store.list_keys():
            if key.startswith(self._prefix):
                self._store.delete_key(key)


class RemotePairStore:
    """One pair's keys, seen from the source. Raises OSError if the store is out of reach."""

    def __init__(self, host: str, port: int, prefix: str, timeout_s: float) -> None:
        self._remote = _RemoteStore(host, port, timeout_s)
        # The C++ side does not keep a Python store alive: this object does.
        self.torch_store: Store = PrefixStore(prefix, self._remote)

    def met(self) -> None:
        """Hang up: a pair that lives for hours would keep a socket that its server has closed."""
        self._remote.hang_up()

    def forget(self) -> None:
        """Hang up, if that has not been."""
        self._remote.hang_up()


class _RemoteStore(Store):
    """The three questions that process groups ask. Called from C++, one at a time."""

    def __init__(self, host: str, port: int, timeout_s: float) -> None:
        super().__init__()
        self._timeout_s = timeout_s
        self._socket = socket.create_connection((host, port), timeout_s)
        self._lines = self._socket.makefile("rb")

    def set(self, key: str, value: str | bytes) -> None:
        data = value.encode() if isinstance(value, str) else bytes(value)
        self._ask(op="set", key=key, value=data.hex())

    def get(self, key: str) -> bytes:
        self.wait([key])
        return bytes.fromhex(self._ask(op="get", key=key)["value"])

    def wait(self, keys: list[str], timeout: timedelta | None = None) -> None:
        seconds = self._timeout_s if timeout is None else timeout.total_seconds()
        self._ask(op="wait", keys=keys, timeout_s=seconds, answer_s=seconds + self._timeout_s)

    def hang_up(self) -> None:
        self._lines.close()
        self._socket.close()

    def _ask(self, *, answer_s: float | None = None, **question: Any) -> dict[str, Any]:
        """Raises RuntimeError (the store says no) or OSError (it says nothing)."""
        self._socket.settimeout(answer_s or self._timeout_s)
        self._socket.sendall(json.dumps(question).encode() + b"\n")
        line = self._lines.readline(LINE_BYTES_MAX)
        if not line:
            raise ConnectionError("the pair's store hung up")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise RuntimeError(answer["error"])
        return answer


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True

    def __init__(self, host: str, store: HashStore, timeout_s: float) -> None:
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self.store = store
        self.timeout_s = timeout_s
        super().__init__(("", 0), _Handler)


class _Handler(socketserver.StreamRequestHandler):
    """One source's connection; ended when it asks nothing for a few timeouts."""

    server: _Server

    def handle(self) -> None:
        self.connection.settimeout(4 * self.server.timeout_s)
        with contextlib.suppress(OSError):
            while line := self.rfile.readline(LINE_BYTES_MAX):
                self.wfile.write(json.dumps(self._answer(line)).encode() + b"\n")

    def _answer(self, line: bytes) -> dict[str, str]:
        try:
            return _answer(self.server.store, json.loads(line), self.server.timeout_s)
        except (RuntimeError, ValueError, TypeError, KeyError) as error:
            return {"error": str(error).split("\n", 1)[0]}


def _answer(store: HashStore, question: dict[str, Any], timeout_s: float) -> dict[str, str]:
    match question["op"]:
        case "set":
            # torch's stub says str; bytes are taken as they are.
            store.set(question["key"], bytes.fromhex(question["value"]))  # type: ignore[arg-type]
            return {}
        case "wait":
            store.wait(question["keys"], timedelta(seconds=min(timeout_s, question["timeout_s"])))
            return {}
        case "get":
            return {"value": store.get(question["key"]).hex()}
        case unknown:
            raise ValueError(f"unknown op {unknown!r}")
