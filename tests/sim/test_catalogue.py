"""The hardware catalogue: what ships, and how a bad file is refused."""

from pathlib import Path

import pytest
from splitweave.proto.toml_file import ConfigError
from splitweave.sim.costs.catalogue import CATALOGUE, load_catalogue
from splitweave.sim.costs.errors import CostError

NAMES = ["A100-80G", "H100", "H200", "L40S", "A10G", "MI300X", "CPU"]
FIGURES = (
    "bf16_tflops", "memory_gbytes_per_s", "memory_gbytes", "link_gbytes_per_s", "link_latency_us",
    "network_gbytes_per_s", "dollars_per_hour", "idle_w", "decode_low_w", "decode_high_w",
    "peak_w", "decode_midpoint",
)  # fmt: skip


def catalogue_text() -> str:
    rows = [f'{name} = {{ value = {n}, source = "s" }}' for n, name in enumerate(FIGURES, start=1)]
    return '[sources]\ns = "a sheet"\n[devices.one]\n' + "\n".join(rows) + "\n"


def loaded(tmp_path: Path, text: str) -> object:
    path = tmp_path / "hardware.toml"
    path.write_text(text)
    return load_catalogue(path)


def test_the_catalogue_that_ships_has_these_devices() -> None:
    assert list(load_catalogue().devices) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_every_figure_of_a_device_names_who_says_so(name: str) -> None:
    catalogue = load_catalogue()
    for figure in catalogue.device(name).figures().values():
        assert len(catalogue.source(figure)) > 10


def test_no_source_is_left_without_a_figure() -> None:
    catalogue = load_catalogue()
    used = {
        figure.source
        for device in catalogue.devices.values()
        for figure in device.figures().values()
    }
    assert used == set(catalogue.sources)


def test_known_figures_are_what_the_sheets_say() -> None:
    h100 = load_catalogue().device("H100")
    assert (h100.bf16_tflops.value, h100.memory_gbytes_per_s.value) == (989, 3350)
    a100 = load_catalogue().device("A100-80G")
    assert a100.fp8_tflops is None
    assert "fp8_tflops" not in a100.figures()


def test_fp8_is_never_slower_than_bf16() -> None:
    for device in load_catalogue().devices.values():
        if device.fp8_tflops is not None:
            assert device.fp8_tflops.value >= device.bf16_tflops.value


def test_a_good_file_loads(tmp_path: Path) -> None:
    assert loaded(tmp_path, catalogue_text())


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("memory_gbytes =", "memory_gbyte =", "did you mean memory_gbytes?"),
        ("value = 3,", 'value = "lots",', "devices.one.memory_gbytes.value: "),
        ("value = 3,", "value = -3,", "devices.one.memory_gbytes.value: "),
        ('value = 3, source = "s"', "value = 3", "missing key devices.one.memory_gbytes.source"),
        ('value = 3, source = "s"', 'value = 3, source = "x"', "no source 'x' (s)"),
        ("idle_w = { value = 8", "idle_w = { value = 80", "idle_w (80) exceeds decode_low_w (9)"),
        ("peak_w = { value = 11", "peak_w = { value = 1", "decode_high_w (10) exceeds peak_w (1)"),
        ("[devices.one]", "[device.one]", "did you mean devices?"),
    ],
)
def test_a_bad_key_or_value_is_refused_by_name(
    tmp_path: Path, old: str, new: str, message: str
) -> None:
    assert old in catalogue_text()
    with pytest.raises(ConfigError) as caught:
        loaded(tmp_path, catalogue_text().replace(old, new))
    assert message in str(caught.value)
    assert "hardware.toml" in str(caught.value)


def test_an_unknown_device_is_refused_with_the_known_ones() -> None:
    with pytest.raises(CostError, match=r"no device 'H300'.*known: A100-80G, A10G, CPU"):
        load_catalogue().device("H300")


def test_the_file_lies_in_the_package() -> None:
    assert CATALOGUE.name == "hardware.toml"
    assert CATALOGUE.parent.name == "sim"
