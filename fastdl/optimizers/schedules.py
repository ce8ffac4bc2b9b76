"""Learning rates that depend on the number of updates done. Names, arguments and formulas are those of Keras 3.

A kernel computes them from the step count, so that recorded steps follow them.
"""

import numpy as np

from .. import _core
from ..registry import Configured, Registry
from ..tensor import Tensor, kernels


class LearningRateSchedule(Configured):
    """Base of all schedules. One of your own defines __call__(step), which returns a number; it is called before each
    update, and keeps a step that uses it from being recorded."""

    launch = None                    # launch(rate, iterations): fill rate, float64 (), from iterations, int64 (), by a kernel

    def __call__(self, step):
        """The learning rate after `step` updates: a Tensor (). step: a number or a tensor."""
        if self.launch is None:
            raise NotImplementedError(f"{type(self).__name__}: define __call__(step)")
        rate, at = _core.empty((), "float64"), step.array if isinstance(step, Tensor) else np.array(step)
        self.launch(rate, np.ascontiguousarray(at, "int64"))
        return Tensor(rate)

    def get_config(self):
        """The constructor's arguments."""
        return dict(self.config)

    def __repr__(self):
        return f"{type(self).__name__}({', '.join(f'{k}={v}' for k, v in self.get_config().items() if k != 'name')})"


class _Decay(LearningRateSchedule):
    kind = 0

    def sizes(self):
        """The kernel's numbers."""
        raise NotImplementedError(f"{type(self).__name__}: define sizes()")

    def launch(self, rate, iterations):
        """Fill rate (float64) from iterations (int64)."""
        sizes = {"staircase": 0, "final": 0.0, "warmup_steps": 0.0, **self.sizes()}
        if not sizes["steps"] > 0:
            raise ValueError(f"{type(self).__name__}: decay_steps must be above 0, not {sizes['steps']}")
        kernels.decayed_learning_rate(rate, iterations, kind=self.kind, **{k: v if k == "staircase" else float(v) for k, v in sizes.items()})


class ExponentialDecay(_Decay):
    """initial_learning_rate decay_rate^(step / decay_steps); staircase: the exponent rounded down."""
    kind = 0

    def __init__(self, initial_learning_rate, decay_steps, decay_rate, staircase=False, name="ExponentialDecay"):
        self.config = {"initial_learning_rate": initial_learning_rate, "decay_steps": decay_steps, "decay_rate": decay_rate,
                       "staircase": staircase, "name": name}

    def sizes(self):
        c = self.config
        return {"initial": c["initial_learning_rate"], "steps": c["decay_steps"], "rate": c["decay_rate"], "staircase": int(c["staircase"])}


class InverseTimeDecay(ExponentialDecay):
    """initial_learning_rate / (1 + decay_rate step / decay_steps); staircase: the quotient rounded down."""
    kind = 3

    def __init__(self, initial_learning_rate, decay_steps, decay_rate, staircase=False, name="InverseTimeDecay"):
        super().__init__(initial_learning_rate, decay_steps, decay_rate, staircase, name)


class CosineDecay(_Decay):
    """Half a cosine from initial_learning_rate down to alpha times it in decay_steps; before it, with warmup_target, a straight
    line from initial_learning_rate to warmup_target in warmup_steps. (Loshchilov and Hutter, 2016.)"""
    kind = 1

    def __init__(self, initial_learning_rate, decay_steps, alpha=0.0, name="CosineDecay", warmup_target=None, warmup_steps=0):
        self.config = {"initial_learning_rate": initial_learning_rate, "decay_steps": decay_steps, "alpha": alpha, "name": name,
                       "warmup_target": warmup_target, "warmup_steps": warmup_steps}

    def sizes(self):
        c = self.config
        warm = c["warmup_target"] is not None
        return {"initial": c["initial_learning_rate"], "steps": c["decay_steps"], "rate": c["alpha"],
                "final": c["warmup_target"] if warm else 0.0, "warmup_steps": c["warmup_steps"] if warm else 0.0}


class PolynomialDecay(_Decay):
    """From initial_learning_rate to end_learning_rate in decay_steps, as (1 - step / decay_steps)^power; cycle: decay_steps
    grows to the next multiple."""
    kind = 2

    def __init__(self, initial_learning_rate, decay_steps, end_learning_rate=0.0001, power=1.0, cycle=False, name="PolynomialDecay"):
        self.config = {"initial_learning_rate": initial_learning_rate, "decay_steps": decay_steps, "end_learning_rate": end_learning_rate,
                       "power": power, "cycle": cycle, "name": name}

    def sizes(self):
        c = self.config
        return {"initial": c["initial_learning_rate"], "steps": c["decay_steps"], "rate": c["power"], "final": c["end_learning_rate"],
                "staircase": int(c["cycle"])}


class PiecewiseConstantDecay(LearningRateSchedule):
    """values[0] up to and with step boundaries[0], then values[1], and so on; one value more than boundaries."""

    def __init__(self, boundaries, values, name="PiecewiseConstant"):
        if len(boundaries) != len(values) - 1:
            raise ValueError(f"PiecewiseConstantDecay: {len(boundaries)} boundaries need {len(boundaries) + 1} values, not {len(values)}")
        self.config = {"boundaries": list(boundaries), "values": list(values), "name": name}
        self.boundaries, self.values = np.array(boundaries, "float64"), np.array(values, "float64")

    def launch(self, rate, iterations):
        """Fill rate (float64) from iterations (int64)."""
        kernels.stepped_learning_rate(rate, iterations, self.boundaries, self.values, count=len(self.boundaries))


_known = Registry("learning-rate schedule", LearningRateSchedule, (ExponentialDecay, InverseTimeDecay, CosineDecay, PolynomialDecay, PiecewiseConstantDecay))
serialize, deserialize = _known.serialize, _known.deserialize
