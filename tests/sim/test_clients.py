"""The clients' side: what they are owed, what they say when they come again."""

from typing import Any

import pytest
from sim_worlds import key, request, tokens
from splitweave.proto.effects import DeliverTokens, EndStream, FailStream, StreamAccount
from splitweave.proto.gateway_events import RejectCode
from splitweave.proto.ids import GatewayId, RequestId
from splitweave.proto.requests import FinishReason
from splitweave.sim.clients import TRIES_MAX, Clients, Stream
from splitweave.sim.errors import InvariantBroken
from splitweave.sim.streams import TrueStream

REQUEST = request(max_tokens=5)
RIGHT = [TrueStream(REQUEST).output(n) for n in range(9)]
ACCOUNT = StreamAccount(
    workers=(), moves=(), downtimes_ns=(), prompt_tokens=10, cached_tokens=0, output_tokens=0,
    attempts=1, arrived_ns=0, first_token_ns=None, last_token_ns=None,
)  # fmt: skip


def _asked(*, checked: bool = True, **changes: Any) -> tuple[Clients, Stream]:
    clients = Clients(checked=checked, context_tokens_max=64)
    return clients, clients.ask(request(**{"max_tokens": 5, **changes}), 100)


def _deliver(clients: Clients, first_index: int, *token_ids: int, at_ns: int = 200) -> None:
    effect = DeliverTokens(
        request_id=RequestId("r"), first_index=first_index, tokens=tokens(*token_ids),
        worker=key("w"),
    )  # fmt: skip
    clients.deliver(effect, at_ns)


def _end(clients: Clients, finish: FinishReason = FinishReason.LENGTH) -> None:
    clients.end(EndStream(request_id=RequestId("r"), finish=finish, account=ACCOUNT))


def _fail(clients: Clients) -> None:
    clients.fail(FailStream(request_id=RequestId("r"), code=RejectCode.UNAVAILABLE, message="no"))


def test_a_whole_stream_is_counted_and_closed() -> None:
    clients, stream = _asked()
    assert clients.open == 1
    _deliver(clients, 0, RIGHT[0], at_ns=300)
    _deliver(clients, 1, *RIGHT[1:5], at_ns=700)
    _end(clients)
    assert (stream.tokens, stream.first_ns, stream.last_ns) == (5, 300, 700)
    assert (stream.gaps_ns, stream.together) == ([400], 3)
    assert (stream.ended, clients.open, stream.account) == (True, 0, ACCOUNT)


def test_a_wrong_token_is_named_with_the_right_one_and_its_worker() -> None:
    clients, _ = _asked()
    with pytest.raises(InvariantBroken) as caught:
        _deliver(clients, 0, RIGHT[0], RIGHT[1] + 1)
    assert str(caught.value) == (
        f"r: output token 1 from w#1 is {RIGHT[1] + 1}, the right one is {RIGHT[1]}"
    )


def test_unchecked_clients_take_any_token_but_not_out_of_turn() -> None:
    clients, stream = _asked(checked=False)
    _deliver(clients, 0, 1, 2, 3)
    assert stream.tokens == 3
    with pytest.raises(InvariantBroken, match="token 2 delivered by w#1, token 3 was next"):
        _deliver(clients, 2, 4)


@pytest.mark.parametrize("close", [_end, _fail])
def test_nothing_comes_after_the_end(close: Any) -> None:
    clients, _ = _asked()
    _deliver(clients, 0, *RIGHT[:5])
    close(clients)
    with pytest.raises(InvariantBroken, match="tokens after the end"):
        _deliver(clients, 5, RIGHT[5])
    for again in (_end, _fail):
        with pytest.raises(InvariantBroken, match="ended twice"):
            again(clients)
    assert clients.open == 0


@pytest.mark.parametrize("count", [0, 4])
def test_an_end_before_the_last_token_is_noticed(count: int) -> None:
    clients, _ = _asked()
    _deliver(clients, 0, *RIGHT[:count])
    with pytest.raises(InvariantBroken, match=f"after {count} tokens, expected 5"):
        _end(clients)


def test_a_stop_token_is_the_last_and_none_may_follow_it() -> None:
    stop = frozenset({RIGHT[2]})
    clients, _ = _asked(stop_token_ids=stop)
    _deliver(clients, 0, *RIGHT[:3])
    _end(clients, FinishReason.STOP)
    beyond, _ = _asked(stop_token_ids=stop)
    _deliver(beyond, 0, *RIGHT[:5])
    with pytest.raises(InvariantBroken, match="after 5 tokens, expected 3"):
        _end(beyond)


def test_a_full_context_is_the_whole_output() -> None:
    clients = Clients(checked=True, context_tokens_max=13)
    clients.ask(REQUEST, 0)
    _deliver(clients, 0, *RIGHT[:3])
    _end(clients)


def test_only_a_client_that_went_is_cancelled() -> None:
    clients, _ = _asked()
    with pytest.raises(InvariantBroken, match="cancelled, but its client did not go"):
        _end(clients, FinishReason.CANCELLED)
    gone, stream = _asked()
    assert gone.hang_up(RequestId("r"))
    _deliver(gone, 0, RIGHT[0])  # tokens under way are no harm
    _end(gone, FinishReason.CANCELLED)
    assert stream.finish is FinishReason.CANCELLED


def test_hanging_up_counts_once_and_never_after_the_end() -> None:
    clients, _ = _asked()
    assert clients.hang_up(RequestId("r"))
    assert not clients.hang_up(RequestId("r"))
    assert not clients.hang_up(RequestId("nobody"))
    ended, stream = _asked()
    _fail(ended)
    assert not ended.hang_up(RequestId("r"))
    assert not stream.hung_up


def test_a_retry_goes_to_the_new_gateway_with_every_token_it_has() -> None:
    clients, _ = _asked()
    first = clients.resume(RequestId("r"), GatewayId("g"))
    _deliver(clients, 0, *RIGHT[:3])
    second = clients.resume(RequestId("r"), GatewayId("h"))
    assert first is not None
    assert second is not None
    assert (first.emitted, first.gateway_id) == ((), "g")
    assert (second.emitted, second.gateway_id) == (tuple(RIGHT[:3]), "h")
    assert second.token_ids == first.token_ids
    _deliver(clients, 3, *RIGHT[3:5])  # and the rest is taken from there
    _end(clients)


def test_an_ended_stream_and_a_client_that_went_never_ask_again() -> None:
    clients, _ = _asked()
    _fail(clients)
    assert clients.resume(RequestId("r"), GatewayId("h")) is None
    gone, stream = _asked()
    gone.hang_up(RequestId("r"))
    assert gone.resume(RequestId("r"), GatewayId("h")) is None
    assert (stream.finish, gone.open) == (FinishReason.CANCELLED, 0)


def test_a_client_told_unavailable_asks_again_and_counts_anew_from_each_token() -> None:
    clients, stream = _asked()
    again: list[int] = []
    clients.ask_again = lambda failed: again.append(failed.failures)
    for _ in range(TRIES_MAX - 1):
        _fail(clients)
    _deliver(clients, 0, RIGHT[0])
    assert stream.failures == 0
    for _ in range(TRIES_MAX):
        _fail(clients)
    assert again == [*range(1, TRIES_MAX), *range(1, TRIES_MAX + 1)]
    assert not stream.ended
    _fail(clients)
    assert stream.error is RejectCode.UNAVAILABLE


def test_who_has_hung_up_does_not_ask_again() -> None:
    clients, stream = _asked()
    clients.ask_again = lambda failed: pytest.fail("asked again")
    clients.hang_up(stream.request_id)
    _fail(clients)
    assert stream.ended
