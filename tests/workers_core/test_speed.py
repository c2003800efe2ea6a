from random import Random

import pytest
from splitweave.proto.views import Speed
from splitweave.workers.core.speed import SpeedMeter

START = Speed(iteration_ns=5e6, token_ns=1e4)


def measured(meter: SpeedMeter, samples: list[tuple[int, int]]) -> Speed:
    for tokens, duration_ns in samples:
        meter.observe(tokens, duration_ns)
    return meter.speed


def law(tokens: int) -> tuple[int, int]:
    return tokens, 2_000_000 + 30_000 * tokens


def test_it_starts_from_what_it_was_told() -> None:
    assert SpeedMeter(START).speed == START


def test_it_finds_a_linear_law() -> None:
    speed = measured(SpeedMeter(START), [law(tokens) for tokens in (1, 64, 256, 8) * 20])
    assert speed.iteration_ns == pytest.approx(2e6, rel=0.01)
    assert speed.token_ns == pytest.approx(3e4, rel=0.01)


def test_it_finds_the_law_through_noise() -> None:
    random = Random(1)
    noisy = []
    for _ in range(300):
        tokens, duration_ns = law(random.choice([1, 8, 64, 256]))
        noisy.append((tokens, int(duration_ns * random.uniform(0.95, 1.05))))
    speed = measured(SpeedMeter(START), noisy)
    assert speed.iteration_ns == pytest.approx(2e6, rel=0.1)
    assert speed.token_ns == pytest.approx(3e4, rel=0.1)


def test_batches_of_one_size_keep_the_slope_and_fit_the_mean() -> None:
    speed = measured(SpeedMeter(START), [(10, 4_000_000)] * 200)
    assert speed.token_ns == pytest.approx(START.token_ns, rel=0.01)
    assert speed.iteration_ns + 10 * speed.token_ns == pytest.approx(4e6, rel=0.01)


def test_it_forgets_how_fast_it_was() -> None:
    meter = SpeedMeter(START)
    measured(meter, [law(tokens) for tokens in (1, 64, 256) * 50])
    slower = [(tokens, 3 * law(tokens)[1]) for tokens in (1, 64, 256) * 100]
    assert measured(meter, slower).iteration_ns == pytest.approx(6e6, rel=0.05)


@pytest.mark.parametrize("seed", range(20))
def test_it_never_predicts_a_negative_time(seed: int) -> None:
    random = Random(seed)
    meter = SpeedMeter(START)
    for _ in range(200):
        meter.observe(random.choice([1, 2, 500]), random.randrange(10_000_000))
        assert meter.speed.iteration_ns >= 0
        assert meter.speed.token_ns >= 0


def test_it_is_a_function_of_what_it_saw() -> None:
    samples = [law(tokens) for tokens in (1, 7, 300) * 9]
    assert measured(SpeedMeter(START), samples) == measured(SpeedMeter(START), samples)
