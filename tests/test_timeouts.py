"""
The five clocks: seconds, or off.
"""

import math

import pytest

from horay_async._timeouts import Timeouts


CLOCKS = ["connect", "first_token", "stall", "silence", "deadline"]


@pytest.mark.parametrize("clock", CLOCKS)
def test_clocks(clock):
    for fine in (1, 0.5, math.inf, None):
        assert getattr(Timeouts(**{clock: fine}), clock) == fine
        assert getattr(Timeouts().evolve(**{clock: fine}), clock) == fine
    for wrong in (0, -1, math.nan, -math.inf):
        with pytest.raises(ValueError, match=rf"Timeouts\({clock}=.*more than 0"):
            Timeouts(**{clock: wrong})
    for wrong in (True, "1", [1]):
        with pytest.raises(TypeError, match=rf"Timeouts\({clock}=.*seconds or None"):
            Timeouts().evolve(**{clock: wrong})
