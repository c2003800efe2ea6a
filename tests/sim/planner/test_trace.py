"""What --trace may name, how it is cut and scaled, and what is refused."""

from pathlib import Path

import pytest
from public_traces import DATA, FILES, needs_data
from splitweave.proto.toml_file import ConfigError
from splitweave.sim.errors import TraceError
from splitweave.sim.planner.trace import Cut, guess_format, load_of

AZURE = """TIMESTAMP,ContextTokens,GeneratedTokens
2023-11-16 18:17:03.9799600,4808,10
2023-11-16 18:17:05.0000000,3180,8
2023-11-16 18:18:05.9799600,110,27
"""
HEADS = {
    "azure": AZURE,
    "burstgpt": "Timestamp,Model,Request tokens,Response tokens\n5,gpt,10,20\n9,gpt,3,4\n",
    "splitwise": "request_id,arrival_timestamp,prompt_size,token_size\n0,0.5,10,3\n1,0.9,5,3\n",
    "mooncake": '{"timestamp": 0, "input_length": 5, "output_length": 3, "hash_ids": [1]}\n',
    "llmservingsim": '{"arrival_time": 0.1, "input_toks": 4, "output_toks": 3}\n',
    "splitweave": '{"at_s": 0.0, "prompt_tokens": 4, "output_tokens": 3}\n',
}


@pytest.fixture
def azure(tmp_path: Path) -> Path:
    path = tmp_path / "trace.csv"
    path.write_text(AZURE)
    return path


@pytest.mark.parametrize("form", HEADS)
def test_a_format_is_guessed_from_the_first_line(form: str, tmp_path: Path) -> None:
    path = tmp_path / "trace"
    path.write_text(HEADS[form])
    assert guess_format(path) == form
    assert load_of(str(path), None, Cut(), seed=1).requests >= 1


@needs_data
@pytest.mark.parametrize("name", sorted(FILES))
def test_the_public_traces_are_known_by_their_first_line(name: str) -> None:
    path, form = FILES[name]
    assert guess_format(DATA / path) == form


def test_a_trace_begins_at_0_and_keeps_its_lengths(azure: Path) -> None:
    load = load_of(str(azure), None, Cut(), seed=1)
    assert [a.prompt_tokens for a in load] == [4808, 3180, 110]
    assert load.arrivals[0].at_ns == 0
    assert load.span_s == pytest.approx(62.0)
    assert load.rate_per_s == pytest.approx(2 / 62)
    assert load.longest_tokens == 4818


def test_a_rate_scales_what_is_left_after_the_cut(azure: Path) -> None:
    load = load_of(str(azure), None, Cut(minutes=0.5, rate_per_s=4.0), seed=1)
    assert load.requests == 2
    assert load.rate_per_s == pytest.approx(4.0)


def test_only_so_many_requests_are_taken(azure: Path) -> None:
    assert load_of(str(azure), None, Cut(requests_max=2), seed=1).requests == 2


def test_a_synthetic_load_needs_no_file_and_goes_by_its_seed() -> None:
    cut = Cut(requests_max=50, rate_per_s=3)
    first, again, other = (load_of("azure-code", None, cut, seed) for seed in (1, 1, 2))
    assert first == again != other
    assert first.rate_per_s == pytest.approx(3)


def test_a_workload_table_is_a_load(tmp_path: Path, azure: Path) -> None:
    path = tmp_path / "scenario.toml"
    path.write_text(f'[workload]\nkind = "trace"\nformat = "azure"\npath = "{azure.name}"\n')
    assert load_of(str(path), None, Cut(), seed=1).requests == 3


def test_a_faster_load_is_the_same_requests(azure: Path) -> None:
    load = load_of(str(azure), None, Cut(), seed=1)
    twice = load.faster(2)
    assert twice.rate_per_s == pytest.approx(2 * load.rate_per_s)
    assert [a.segments for a in twice] == [a.segments for a in load]
    assert load.faster(1) is load


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "no requests in it"),
        ("time,tokens\n1,2\n", "of no format that is known; name it"),
        ("TIMESTAMP,ContextTokens,GeneratedTokens\n", "no requests in it"),
        ("TIMESTAMP,ContextTokens\n2023-11-16 18:17:03,4\n", "GeneratedTokens"),
        (AZURE.replace("3180", "-5"), "trace.csv:3: ContextTokens is '-5'"),
    ],
)
def test_a_file_that_is_no_trace_is_refused(tmp_path: Path, text: str, told: str) -> None:
    path = tmp_path / "trace.csv"
    path.write_text(text)
    with pytest.raises((ConfigError, TraceError), match=told):
        load_of(str(path), None, Cut(), seed=1)


def test_no_such_file_names_what_needs_none() -> None:
    with pytest.raises(ConfigError, match=r"no file 'nowhere.csv'.*azure-conversation"):
        load_of("nowhere.csv", None, Cut(), seed=1)


def test_sessions_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "chat.toml"
    path.write_text('[workload]\nkind = "sessions"\nrate_per_s = 1\nsessions = 3\n')
    with pytest.raises(ConfigError, match="sessions wait for the answers"):
        load_of(str(path), None, Cut(), seed=1)


def test_a_scenario_without_a_workload_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "empty.toml"
    path.write_text("seed = 1\n")
    with pytest.raises(ConfigError, match=r"no table \[workload\]"):
        load_of(str(path), None, Cut(), seed=1)


def test_one_moment_cannot_be_scaled(azure: Path) -> None:
    with pytest.raises(ConfigError, match="no two requests at different times"):
        load_of(str(azure), None, Cut(requests_max=1, rate_per_s=5), seed=1)


@pytest.mark.parametrize("cut", [{"minutes": 0}, {"rate_per_s": -1}, {"requests_max": 0}])
def test_a_cut_that_leaves_nothing_is_refused(cut: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match="must be"):
        Cut(**cut)  # type: ignore[arg-type]
