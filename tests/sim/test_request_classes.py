"""Classes of the requests in a world."""

from collections import Counter

import pytest
from splitweave.proto.requests import RequestClass
from splitweave.sim.clients import class_of
from splitweave.sim.scenario import ClassSpec

SPEC = ClassSpec(interactive=0.25, batch=0.5)


def test_shares_are_what_the_spec_says_and_the_same_in_every_run() -> None:
    classes = [class_of(SPEC, 7, index) for index in range(2000)]
    assert classes == [class_of(SPEC, 7, index) for index in range(2000)]
    counts = Counter(classes)
    assert counts[RequestClass.INTERACTIVE] == pytest.approx(500, rel=0.15)
    assert counts[RequestClass.BATCH] == pytest.approx(1000, rel=0.15)
    assert counts[RequestClass.STANDARD] == pytest.approx(500, rel=0.15)


def test_without_shares_all_are_standard() -> None:
    assert {class_of(ClassSpec(), 7, index) for index in range(50)} == {RequestClass.STANDARD}


def test_shares_beyond_the_whole_are_refused() -> None:
    with pytest.raises(ValueError, match=r"interactive \+ batch \(1.1\) exceeds 1"):
        ClassSpec(interactive=0.6, batch=0.5)
