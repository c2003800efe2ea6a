"""Sampling is a pure function, its filters are Hugging Face's, its numbers uniform."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from splitweave.proto.batch import Draw
from splitweave.proto.requests import SamplingParams
from splitweave.workers.models.sampling import candidates, draw, logprobs, penalize, uniform
from transformers.generation.logits_process import (
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

VOCAB = 400


def row(seed: int, vocab: int = VOCAB) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 3, vocab).astype(np.float32)


def order(position: int = 5, **params: float) -> Draw:
    return Draw(params=SamplingParams(**params), position=position)


def test_greedy_takes_the_lowest_id_among_equals() -> None:
    logits = np.array([1, 3, 3, 2, 3], dtype=np.float32)
    assert draw(logits, order()).token_id == 1


@given(seed=st.integers(-(2**70), 2**70), position=st.integers(0, 10**6))
def test_the_number_depends_on_seed_and_position_only(seed: int, position: int) -> None:
    assert uniform(seed, position) == uniform(seed, position)
    assert 0 <= uniform(seed, position) < 1


def test_numbers_of_neighbouring_seeds_and_positions_look_independent_and_uniform() -> None:
    table = np.array([[uniform(seed, position) for position in range(60)] for seed in range(60)])
    assert abs(table.mean() - 0.5) < 0.02
    assert abs(table.var() - 1 / 12) < 0.005
    assert abs(np.corrcoef(table[:, :-1].ravel(), table[:, 1:].ravel())[0, 1]) < 0.06
    assert abs(np.corrcoef(table[:-1].ravel(), table[1:].ravel())[0, 1]) < 0.06


@settings(max_examples=60)
@given(
    seed=st.integers(0, 10**6),
    position=st.integers(0, 9999),
    temperature=st.floats(0.05, 3),
    top_k=st.integers(0, VOCAB + 10),
    top_p=st.floats(0.01, 1),
    min_p=st.floats(0, 0.99),
)
def test_a_draw_is_pure_and_leaves_its_row_alone(
    seed: int, position: int, temperature: float, top_k: int, top_p: float, min_p: float
) -> None:
    logits, asked = (
        row(seed),
        order(position, temperature=temperature, top_k=top_k, top_p=top_p, min_p=min_p, seed=seed),
    )
    before = logits.copy()
    batch = np.stack([row(1), logits, row(2)])
    assert draw(logits, asked) == draw(batch[1], asked)
    assert np.array_equal(logits, before)


@settings(max_examples=80)
@given(
    seed=st.integers(0, 10**6),
    temperature=st.floats(0.2, 3),
    top_k=st.integers(1, VOCAB),
    top_p=st.floats(0.05, 0.99),
    min_p=st.floats(0.001, 0.9),
)
def test_filters_keep_what_transformers_keeps(
    seed: int, temperature: float, top_k: int, top_p: float, min_p: float
) -> None:
    params = SamplingParams(temperature=temperature, top_k=top_k, top_p=top_p, min_p=min_p)
    ids, weights = candidates(row(seed), params)
    scores = torch.from_numpy(row(seed))[None].double()
    for warper in (
        TemperatureLogitsWarper(temperature), TopKLogitsWarper(top_k),
        TopPLogitsWarper(top_p), MinPLogitsWarper(min_p),
    ):  # fmt: skip
        scores = warper(torch.zeros(1, 1, dtype=torch.long), scores)
    kept = torch.isfinite(scores[0]).nonzero().flatten().tolist()
    assert ids.tolist() == kept
    expected = scores[0].softmax(-1)[kept].numpy()
    assert np.allclose(weights / weights.sum(), expected, atol=1e-9)


def test_top_p_of_a_flat_distribution_looks_beyond_the_likeliest_thousand() -> None:
    logits = np.zeros(5000, dtype=np.float32)
    ids, _ = candidates(logits, SamplingParams(temperature=1.0, top_p=0.5))
    assert ids.tolist() == list(range(2500))


def test_drawn_frequencies_are_the_probabilities() -> None:
    logits = np.log(np.array([0.5, 0.3, 0.15, 0.05], dtype=np.float32))
    drawn = [
        draw(logits, order(position, temperature=1.0, seed=3)).token_id for position in range(4000)
    ]
    shares = np.bincount(drawn, minlength=4) / len(drawn)
    assert np.abs(shares - [0.5, 0.3, 0.15, 0.05]).max() < 0.03


@settings(max_examples=40)
@given(seed=st.integers(0, 10**6), penalty=st.floats(0.5, 2))
def test_repetition_penalty_is_transformers(seed: int, penalty: float) -> None:
    history = tuple(np.random.default_rng(seed).integers(0, VOCAB, 50).tolist())
    asked = Draw(
        params=SamplingParams(repetition_penalty=penalty), position=50, history=history,
        prompt_tokens=30,
    )  # fmt: skip
    theirs = RepetitionPenaltyLogitsProcessor(penalty)(
        torch.tensor([history]), torch.from_numpy(row(seed))[None].clone()
    )
    assert np.allclose(penalize(row(seed), asked), theirs[0].numpy(), rtol=1e-6)


def test_presence_and_frequency_count_the_output_only() -> None:
    logits = np.zeros(6, dtype=np.float32)
    asked = Draw(
        params=SamplingParams(presence_penalty=0.5, frequency_penalty=0.25), position=6,
        history=(0, 1, 1, 2, 2, 3), prompt_tokens=3,
    )  # fmt: skip
    assert penalize(logits, asked).tolist() == [0.0, 0.0, -1.0, -0.75, 0.0, 0.0]


def test_penalties_change_a_greedy_choice() -> None:
    logits = np.array([2.0, 1.9, 0.0], dtype=np.float32)
    asked = Draw(
        params=SamplingParams(frequency_penalty=0.2), position=2, history=(1, 0), prompt_tokens=1
    )
    assert draw(logits, asked).token_id == 1


@pytest.mark.parametrize("alternatives", [0, 1, 5])
def test_logprobs_are_of_the_unfiltered_distribution(alternatives: int) -> None:
    logits = row(9)
    asked = order(temperature=0.3, top_k=3, repetition_penalty=1.3, logprobs=alternatives)
    sampled = draw(logits, asked)
    expected = torch.from_numpy(logits).double().log_softmax(-1)
    assert sampled.logprobs is not None
    assert math.isclose(sampled.logprobs.token, expected[sampled.token_id].item(), abs_tol=1e-9)
    top = expected.topk(alternatives) if alternatives else None
    assert [token for token, _ in sampled.logprobs.top] == (top.indices.tolist() if top else [])


def test_equal_alternatives_are_listed_by_lower_id() -> None:
    logits = np.zeros(50, dtype=np.float32)
    assert [token for token, _ in logprobs(logits, 7, 4).top] == [0, 1, 2, 3]


def test_no_logprobs_unless_asked() -> None:
    assert draw(row(1), order()).logprobs is None
