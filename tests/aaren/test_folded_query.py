"""The remembered folded query never outlives the parameters that it was made of."""

from __future__ import annotations

import pytest
import torch

from aaren import Aaren


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("switch", [False, True])
def test_no_gradient_forward_follows_every_optimiser_step(fused, switch):
    """A fused optimiser changes parameters in place without counting up their `_version`."""
    torch.manual_seed(0)
    layer, x = Aaren(8, 2).eval(), torch.randn(2, 5, 8)
    optimiser = torch.optim.Adam(layer.parameters(), lr=0.1, fused=fused)
    for _ in range(3):
        with torch.no_grad():
            layer(x)  # a validation before the step: what it remembers must not serve the next one
        layer.train(switch)
        optimiser.zero_grad()
        layer(x)[0].sum().backward()
        optimiser.step()
        layer.eval()
        with torch.no_grad():
            scores = layer.scores(x)
        assert torch.allclose(scores, x @ layer.fold_query(), atol=1e-6)
