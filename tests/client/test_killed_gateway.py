import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest
from both_clients import KINDS
from scripted_front import Script, serving, text_tokens

ANSWER = "héllo wörld, 日本 and on it goes"
TOKENS = text_tokens(ANSWER)
SUPPORT = Path(__file__).parents[1] / "support"

# A gateway in a process of its own, which hangs after six tokens.
GATEWAY = f"""
import asyncio, sys
sys.path.append({str(SUPPORT)!r})
from scripted_front import Script, serving
async def main():
    async with serving(Script({TOKENS!r}, pause_at=6)) as front:
        print(front.address, flush=True)
        await asyncio.Event().wait()
asyncio.run(main())
"""


def environment() -> dict[str, str]:
    package_parent = Path(sys.modules["splitweave"].__file__ or "").parents[1]
    return {**os.environ, "PYTHONPATH": str(package_parent)}


@pytest.mark.parametrize("kind", KINDS)
async def test_a_stream_outlives_the_kill_of_its_gateway(kind: str) -> None:
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-c", GATEWAY, stdout=subprocess.PIPE, env=environment()
    )
    assert child.stdout is not None
    doomed = (await child.stdout.readline()).decode().strip()
    second = Script(TOKENS)
    async with serving(second) as survivor:
        client = KINDS[kind](f"{doomed},{survivor.address}")
        reading = asyncio.ensure_future(client.stream("x"))
        await client.received(6)
        child.kill()
        await child.wait()
        deltas, result = await reading
        await client.close()
    assert "".join(delta.text for delta in deltas) == result.text == ANSWER
    assert [token.index for delta in deltas for token in delta.tokens] == list(range(len(TOKENS)))
    assert result.retries == 1
    assert second.opened[0].emitted == tuple(TOKENS[:6])
