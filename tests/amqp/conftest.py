"""What the scenes of the engine share."""

from __future__ import annotations

import pytest


@pytest.fixture(params=[False, True], ids=["whole", "octets"])
def octets(request: pytest.FixtureRequest) -> bool:
    """Whether a scene's octets arrive in one piece or one by one: nothing may depend on it."""
    return bool(request.param)
