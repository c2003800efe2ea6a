"""What one stream says to its client, as a function of what the core delivers.

Tokens that a returning client has already (`Request.emitted`, or the first
`skip_tokens`) pass through the text, so that it goes on where it was, and are
not sent again.
"""

from ....proto import inference_pb2 as pb
from ....proto.effects import DeliverTokens, EndStream
from ....proto.requests import FinishReason, SampledToken
from .accounting import accounting
from .seams import Decoder
from .text import TextStream
from .validate import Ask

REASONS = {
    FinishReason.STOP: pb.FINISH_REASON_STOP,
    FinishReason.LENGTH: pb.FINISH_REASON_LENGTH,
    FinishReason.CANCELLED: pb.FINISH_REASON_CANCELLED,
    FinishReason.ERROR: pb.FINISH_REASON_ERROR,
}


class Replies:
    """The replies of one stream, in order: accepted, tokens, finished."""

    def __init__(self, ask: Ask, decoder: Decoder) -> None:
        self._ask = ask
        self._request = ask.request
        self._text = TextStream(decoder, ask.stops, ask.request.stop_token_ids)
        self._stopped = False
        self._next_index = 0  # of the token that comes next
        for token_id in ask.request.emitted:
            self._push(token_id)

    @property
    def output_tokens(self) -> int:
        """Tokens that are part of the answer so far."""
        return self._next_index

    @property
    def stopped(self) -> bool:
        """Whether a stop string was found: nothing is said after it."""
        return self._stopped

    def ended_before(self) -> FinishReason | None:
        """Why a returning client's answer is complete already, if it is."""
        emitted = self._request.emitted
        if self._stopped or (emitted and emitted[-1] in self._request.stop_token_ids):
            return FinishReason.STOP
        full = len(emitted) >= self._request.max_tokens
        return FinishReason.LENGTH if full else None

    def accepted(self) -> pb.GenerateReply:
        """The first reply."""
        accepted = pb.Accepted(
            request_id=self._request.request_id,
            prompt_tokens=self._request.prompt_tokens,
            seed=self._request.sampling.seed,
            rendered_at_s=self._ask.rendered_at_s,
        )
        return pb.GenerateReply(accepted=accepted)

    def tokens(self, item: DeliverTokens) -> list[pb.Token]:
        """The tokens of one delivery that the client has not, up to a stop string."""
        tokens: list[pb.Token] = []
        for index, sampled in enumerate(item.tokens, item.first_index):
            if self._stopped:
                break
            assert index == self._next_index, f"token {index} came, {self._next_index} is next"
            text = self._push(sampled.token_id)
            if index >= self._ask.skip_tokens:
                tokens.append(_token(index, sampled, text))
        return tokens

    def finished(self, item: EndStream) -> pb.GenerateReply:
        """The last reply, with the stream's account."""
        reply = self.ended(item.finish)
        usage = reply.finished.usage
        usage.cached_tokens = item.account.cached_tokens
        usage.cached_host_tokens = item.account.cached_host_tokens
        usage.cached_peer_tokens = item.account.cached_peer_tokens
        reply.finished.accounting.CopyFrom(accounting(item.account, len(self._request.emitted)))
        return reply

    def ended(self, reason: FinishReason) -> pb.GenerateReply:
        """The last reply of a stream that no core has an account of."""
        finished = pb.Finished(
            finish_reason=pb.FINISH_REASON_STOP if self._stopped else REASONS[reason],
            text_tail=self._text.finish(),
            usage=pb.Usage(
                prompt_tokens=self._request.prompt_tokens, output_tokens=self._next_index
            ),
        )
        return pb.GenerateReply(finished=finished)

    def _push(self, token_id: int) -> str:
        piece = self._text.push(token_id)
        self._next_index += 1
        self._stopped = self._stopped or piece.stopped
        return piece.text


def _token(index: int, sampled: SampledToken, text: str) -> pb.Token:
    token = pb.Token(index=index, token_id=sampled.token_id, text=text)
    if sampled.logprobs is not None:
        token.logprobs.logprob = sampled.logprobs.token
        for token_id, logprob in sampled.logprobs.top:
            token.logprobs.top.add(token_id=token_id, logprob=logprob)
    return token
