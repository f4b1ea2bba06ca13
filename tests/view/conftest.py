from __future__ import annotations

import pytest
from torch import Tensor

from tests.view.helpers import make_colours


@pytest.fixture
def colours() -> Tensor:
    return make_colours()
