# Copyright (c) 2026 The mirrornet.rsync authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Our cheap dataclasses, held against the original: what is written with either means the same."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from types import ModuleType
from typing import Any

import pytest
from conftest import ENGINE
from mirrornet import record
from mirrornet.entry import Counts


@pytest.fixture(params=[dataclasses, record], ids=["original", "ours"])
def kind(request: pytest.FixtureRequest) -> tuple[ModuleType, Any, Any]:
    """One of both, and two classes made by it."""
    module = request.param

    class Open:
        one: int
        two: str = "two"
        many: list[int] = module.field(default_factory=list)

        @property
        def twice(self) -> int:
            return self.one * 2

    class Closed:
        one: int
        inner: tuple[Any, ...] = ()
        by_name: dict[str, list[int]] = module.field(default_factory=dict)

    return module, module.dataclass(Open), module.dataclass(frozen=True)(Closed)


def test_objects(kind: tuple[ModuleType, Any, Any]) -> None:
    module, opened, closed = kind
    one = opened(1, many=[3])
    assert (one.one, one.two, one.many, one.twice) == (1, "two", [3], 2)
    assert repr(one) == f"{opened.__qualname__}(one=1, two='two', many=[3])"
    assert one == opened(1, "two", [3])
    assert one != opened(1)
    assert one != (1, "two", [3])
    assert opened(1).many is not opened(1).many
    one.one = 5
    assert one.twice == 10
    both = closed(2, (one, Counts(1, 2, 3)), {"x": [1]})
    inside = ({"one": 5, "two": "two", "many": [3]}, Counts(1, 2, 3))
    assert module.asdict(both) == {"one": 2, "inner": inside, "by_name": {"x": [1]}}
    assert isinstance(module.asdict(both)["inner"][1], Counts)
    module.asdict(both)["by_name"]["x"].append(2)
    module.asdict(one)["many"].append(2)
    assert (both.by_name, one.many) == ({"x": [1]}, [3]), "nothing is shared"
    assert module.replace(both, one=3) == closed(3, (one, Counts(1, 2, 3)), {"x": [1]})
    with pytest.raises(AttributeError):
        both.one = 4
    with pytest.raises(AttributeError):
        del both.one
    assert hash(closed(1, (), ())) == hash(closed(1, (), ()))
    with pytest.raises(TypeError):
        hash(one)


@pytest.mark.parametrize(
    ("values", "named"),
    [((), {}), ((1, "", [], 4), {}), ((1,), {"one": 1}), ((1,), {"three": 3}), ((), {"two": "2"})],
)
def test_what_no_object_is_made_of(kind: tuple[ModuleType, Any, Any], values: tuple[Any, ...], named: dict[str, Any]) -> None:
    with pytest.raises(TypeError):
        kind[1](*values, **named)
    with pytest.raises(TypeError):
        kind[0].replace(kind[1](1), three=3)


def test_a_run_that_finds_nothing_loads_little() -> None:
    """What is left out here took more than half of the time until such a run reached its work."""
    program = "import sys; import mirrornet.cli; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-SE", "-c", program], cwd=ENGINE, capture_output=True, text=True, check=True).stdout.split()
    assert "mirrornet.fast" in loaded
    for name in ("dataclasses", "inspect", "typing", "argparse", "hashlib", "shutil", "mirrornet.follow", "mirrornet.entry"):
        assert name not in loaded
