"""`flow_prior`: as `concat`, with the flow that is fitted to its codes as part of the model.

A prior p(z|y) that is a flow, or a decoder that begins with that flow and has the prior N(0, 1), are two views of one
model (Chen et al. 2017, section 3.2). Here the second is taken: the code is the flow's noise, in which classes are not
told apart if the flow fits, and the label decides what the decoder makes of it.
"""

from __future__ import annotations

from ..cvae import CVAE
from ..spec import Spec
from . import concat

OWN_FLOW = True


def build(spec: Spec) -> CVAE:
    """An untrained model; its flow is fitted after the training."""
    return concat.build(spec)
