"""Fixtures that several files of this folder use."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from aioca.testing import SoftIoc
from tests.support.plots import RECORDS


@pytest.fixture
def running(own_ioc: Callable[..., SoftIoc], unique: str) -> Iterator[SoftIoc]:
    ioc = own_ioc(RECORDS, {"P": unique})
    ioc.start()
    yield ioc
