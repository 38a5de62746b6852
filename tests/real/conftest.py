"""Fixtures of the tests that need real servers."""

from collections.abc import Iterator

import pytest
from real_servers import open_own_stack, unavailable

from harness_stream.errors import HarnessError
from harness_stream.local.stack import Stack


@pytest.fixture
def own_stack() -> Iterator[Stack]:
    """A running stack of local processes that the test may kill: `own_stack.brokers[0].kill()`, then `.start()`."""
    with open_own_stack() as stack:
        try:
            stack.up()
        except HarnessError as error:
            unavailable(error.message)
        yield stack
