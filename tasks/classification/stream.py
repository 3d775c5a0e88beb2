"""A label at any moment: the classifier fed one step at a time.

    stream = task.stream(batch=1)
    for x_t in series:                  # [1, channels], standardised like the training data
        logits = stream.step(x_t)       # [1, classes]: the class so far

Time and memory a step are constant (for Aaren; a Transformer's cache grows), and the logits after the last
step are those of the parallel form.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from tasks.classification.model import CausalClassifier


class ClassStream:
    """Running logits of `batch` series.

    Rows may end at different steps: a row whose `valid_t` is False keeps its state and its logits. All rows
    begin together. The network is used in evaluation mode, without gradients.
    """

    def __init__(self, network: CausalClassifier, batch: int) -> None:
        if batch < 1:
            raise ValueError(f"batch={batch}: a stream needs at least one series")
        self.network = network.eval()
        weight = network.head.weight
        self.state = network.backbone.initial_state(batch)
        # The last `kernel` steps seen, oldest first; zeros stand before the first step, as in the parallel
        # form.
        self.window = weight.new_zeros(batch, network.kernel, network.channels)
        self.logits = network.head.bias.detach().double().repeat(batch, 1)
        self.seen = 0

    @torch.no_grad()
    def step(self, x_t: Float[Tensor, "B C"], valid_t: Bool[Tensor, " B"] | None = None) -> Float[Tensor, "B K"]:
        """Takes one step of every series and returns the logits so far.

        Raises ValueError if the shape is wrong or the series grows longer than the head.
        """
        net = self.network
        if x_t.shape != (len(self.window), net.channels):
            raise ValueError(f"x_t has shape {tuple(x_t.shape)}, not {(len(self.window), net.channels)}")
        net.check_length(self.seen + 1)
        self.window = torch.cat((self.window[:, 1:], x_t[:, None]), dim=1)
        token = net.embed(self.window.transpose(1, 2).flatten(1)) + net.position[self.seen]
        y, self.state = net.backbone.step(token, self.state, valid_t)
        part = F.linear(F.gelu(y), net.step_weights()[:, self.seen]).double()
        self.logits = self.logits + (part if valid_t is None else part * valid_t[:, None])
        self.seen += 1
        return self.logits.to(x_t.dtype)
