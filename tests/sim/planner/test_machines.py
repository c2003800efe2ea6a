"""Which workers there are to choose from, and which models."""

import json
from pathlib import Path

import pytest
from plan_questions import mixed, pair, small_types
from splitweave.proto.toml_file import ConfigError
from splitweave.proto.views import Role
from splitweave.sim.costs.specs import ModelSpec
from splitweave.sim.planner.fleet import shapes_of
from splitweave.sim.planner.machines import Offer, uncapped, worker_types
from splitweave.sim.planner.models import built_in, model_of
from splitweave.sim.planner.slo import Unit

FOUR = Offer(machines=("A100", "H100", "H200", "L40S"), caps=(1.0, 0.7))


def test_only_workers_that_hold_the_model_are_offered() -> None:
    names = [kind.name for kind in worker_types(FOUR, model_of("Llama-3.1-70B"), 16, 8000)]
    assert "H200-TP2" in names
    assert "L40S-TP4" in names
    assert not [name for name in names if "TP1" in name]
    assert not [name for name in names if name.startswith(("A100-80G-TP2", "H100-TP2", "L40S-TP2"))]
    assert len(names) == len(set(names)) == 18


def test_a_cap_lowers_watts_and_not_the_price() -> None:
    kinds = {k.name: k for k in worker_types(FOUR, model_of("Llama-3.1-70B"), 16, 8000)}
    full, capped = kinds["H100-TP4"], kinds["H100-TP4-490W"]
    assert (full.watts, capped.watts) == (2800, 1960)
    assert full.dollars_per_hour == capped.dollars_per_hour == pytest.approx(19.04)
    assert full.link_gbytes_per_s == 200
    assert capped not in uncapped(tuple(kinds.values()))


def test_a_model_that_fits_nowhere_says_why() -> None:
    offer = Offer(machines=("A10G", "L40S"), tp_sizes=(1, 2))
    with pytest.raises(ConfigError) as told:
        worker_types(offer, model_of("Llama-3.1-405B"), 16, 8000)
    assert "A10G-TP1: no memory is left for KV blocks" in str(told.value)
    assert "fits on none of these machines; offer larger ones" in str(told.value)


def test_a_request_that_fits_nowhere_says_how_long_it_is() -> None:
    offer = Offer(machines=("A10G",), tp_sizes=(1,))
    with pytest.raises(ConfigError, match="the longest request has 100000"):
        worker_types(offer, model_of("Llama-3.1-8B"), 16, 100_000)


@pytest.mark.parametrize(
    ("machines", "told"),
    [(("B200",), "'B200' is not in the catalogue"), (("A1",), "may be A100-80G or A10G")],
)
def test_an_unknown_machine_names_the_known(machines: tuple[str, ...], told: str) -> None:
    with pytest.raises(ConfigError, match=f"{told}.*known: A100-80G, H100"):
        worker_types(Offer(machines=machines), model_of("Llama-3.1-8B"), 16, 100)


def test_a_cap_below_idle_is_refused() -> None:
    with pytest.raises(ConfigError, match="no more than it idles at"):
        worker_types(Offer(machines=("H100",), caps=(0.1,)), model_of("Llama-3.1-8B"), 16, 100)


def test_heads_are_not_split() -> None:
    names = [
        k.name for k in worker_types(Offer(machines=("A10G",)), model_of("SmolLM2-135M"), 16, 9)
    ]
    assert names == ["A10G-TP1"]


def test_a_fleet_adds_up() -> None:
    kinds = small_types()
    fleet = pair(kinds["L40S-TP2"], 2, kinds["A10G-TP1"], 3)
    assert fleet.name == "2 prefill L40S-TP2 + 3 decode A10G-TP1"
    assert fleet.gpus == 7
    assert fleet.dollars_per_hour == pytest.approx(2 * 3.6 + 3)
    assert fleet.watts == 2 * 700 + 3 * 150
    assert fleet.without_one(1).counts == (2, 2)
    assert mixed(kinds["L40S-TP1"], 4).cost(Unit.WATTS) == 1400


def test_shapes_are_mixed_pools_and_every_pair() -> None:
    kinds = list(small_types().values())
    assert len(shapes_of(kinds)) == len(kinds) + len(kinds) ** 2
    assert [shape.roles for shape in shapes_of(kinds[:1], [Role.MIXED])] == [(Role.MIXED,)]
    only = shapes_of(kinds[:2], [Role.PREFILL, Role.DECODE])
    assert all(shape.disaggregated for shape in only)
    assert len({shape.name for shape in only}) == 4


@pytest.mark.parametrize(
    ("name", "billions"),
    [
        ("Llama-3.1-8B", 8.03), ("Llama-3.1-70B", 70.55), ("Llama-3.1-405B", 405.85),
        ("Mixtral-8x7B", 46.70), ("Qwen3-8B", 8.19), ("Qwen3-32B", 32.76), ("SmolLM2-135M", 0.1345),
    ],
)  # fmt: skip
def test_built_in_models_have_their_published_parameters(name: str, billions: float) -> None:
    assert built_in()[name].decoder().parameters / 1e9 == pytest.approx(billions, rel=0.002)


def test_a_model_may_be_a_config_json_or_a_name_in_any_case(tmp_path: Path) -> None:
    said = {
        "num_hidden_layers": 2, "hidden_size": 64, "num_attention_heads": 4, "vocab_size": 100,
        "intermediate_size": 128, "num_key_value_heads": 2, "torch_dtype": "bfloat16",
    }  # fmt: skip
    path = tmp_path / "config.json"
    path.write_text(json.dumps(said))
    for given in (str(path), str(tmp_path)):
        assert model_of(given).layers == 2
    assert isinstance(model_of("llama-3.1-70b"), ModelSpec)


def test_an_unknown_model_names_the_built_in_ones() -> None:
    with pytest.raises(ConfigError, match=r"'Llama-9' is no config.json here.*Llama-3.1-70B"):
        model_of("Llama-9")
