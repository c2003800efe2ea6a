"""Words of proto as JSON and back, and recordings."""

import json
from pathlib import Path
from typing import Any

import pytest
from splitweave.proto import record
from splitweave.proto.cluster_events import RequestArrived
from splitweave.proto.codec import CodecError, decode, encode
from splitweave.proto.effects import SetTimer, ToController, ToWorker
from splitweave.proto.gateway_events import TokenChunk, TokensEmitted
from splitweave.proto.ids import Epoch, GatewayId, Incarnation, RequestId, WorkerId, WorkerKey
from splitweave.proto.requests import (
    FinishReason,
    Request,
    SampledToken,
    SamplingParams,
    TokenLogprobs,
)
from splitweave.proto.timers import TimerFired, TimerKey
from splitweave.proto.worker_events import HandoverOffered, RequestAssigned

KEY = WorkerKey(WorkerId("w"), Incarnation(3))
REQUEST = Request(
    request_id=RequestId("r"),
    gateway_id=GatewayId("g"),
    token_ids=(1, 2, 3),
    max_tokens=9,
    sampling=SamplingParams(seed=2**63, logprobs=2, temperature=0.5),
    stop_token_ids=frozenset({9, 3}),
    epoch=Epoch(1, 2),
)
TOKEN = SampledToken(token_id=5, logprobs=TokenLogprobs(token=-0.5, top=((5, -0.5), (6, -1.25))))
CHUNK = TokenChunk(
    request_id=RequestId("r"),
    epoch=Epoch(1),
    first_index=4,
    tokens=(TOKEN,),
    finish=FinishReason.STOP,
)
WORDS = [
    ToController(RequestArrived(request=REQUEST)),
    ToWorker(KEY, RequestAssigned(request=REQUEST)),
    TokensEmitted(worker=KEY, chunks=(CHUNK,)),
    SetTimer(TimerKey("view", "w"), 10**18),
    HandoverOffered(
        move_id="m", lease=1, source=KEY, emitted=(TOKEN,), computed=7, copies=("a", "b")
    ),
]


@pytest.mark.parametrize("word", WORDS, ids=lambda word: type(word).__name__)
def test_a_word_survives_json(word: Any) -> None:
    assert decode(_json(word)) == word


def _json(word: Any) -> Any:
    return json.loads(json.dumps(encode(word)))


def _changed(**changes: Any) -> Any:
    data = _json(TimerFired(TimerKey("k")))
    data["key"].update(changes)
    return data


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ([], "expected an object with '@'"),
        ({"@": "Nonsense"}, "unknown class 'Nonsense'"),
        ({"@": "TimerFired"}, "TimerFired: missing field 'key'"),
        (_changed(extra=1), "TimerFired.key: TimerKey: unknown field 'extra'"),
        (_changed(kind=1), "TimerFired.key: TimerKey.kind: expected str, got '1'"),
        ({"@": "TimerFired", "key": {"@": "Epoch"}}, "expected TimerKey, got"),
        (_json(CHUNK) | {"finish": "tired"}, "'tired' is no FinishReason"),
        (_json(CHUNK) | {"tokens": 3}, "TokenChunk.tokens: expected an array, got 3"),
    ],
)
def test_anything_else_is_refused_by_name(data: Any, message: str) -> None:
    with pytest.raises(CodecError) as caught:
        decode(data)
    assert message in str(caught.value)


class _Echo:
    """A core that answers every event with a timer named after how often it was asked."""

    def __init__(self, offset: Any = 0) -> None:
        self._count = offset

    def step(self, event: Any, now_ns: Any) -> Any:
        self._count += 1
        return [SetTimer(TimerKey(str(self._count)), now_ns)]


def _record(path: Path) -> Any:
    recorder, core, digest = record.FileRecorder(path), _Echo(), record.Digest()
    for now_ns in range(5):
        event = TimerFired(TimerKey("k", str(now_ns)))
        effects = core.step(event, now_ns)
        recorder.record(now_ns, event, effects)
        digest.record(now_ns, event, effects)
    recorder.close()
    return digest.hexdigest()


def test_a_replay_has_the_digest_of_the_recording(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "core.jsonl"
    digest = _record(path)
    assert record.replay(path, _Echo()) == digest


def test_a_replay_names_the_step_that_differs(tmp_path: Path) -> None:
    path = tmp_path / "core.jsonl"
    _record(path)
    with pytest.raises(record.ReplayDiffers, match=r"core.jsonl:1: other effects"):
        record.replay(path, _Echo(offset=1))


def test_a_line_cut_short_by_a_crash_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "core.jsonl"
    _record(path)
    path.write_text(path.read_text()[:-10])
    assert len(list(record.read_steps(path))) == 4


def test_a_broken_line_is_refused_by_number(tmp_path: Path) -> None:
    path = tmp_path / "core.jsonl"
    _record(path)
    path.write_text(path.read_text() + '{"now_ns": 1, "event": {"@": "What"}, "effects": ""}\n')
    with pytest.raises(record.RecordingError, match=r"core.jsonl:6: unknown class 'What'"):
        list(record.read_steps(path))
