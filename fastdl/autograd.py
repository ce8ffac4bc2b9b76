"""Gradients for those who want them by hand: GradientTape, custom_gradient, gradcheck."""

import functools
import inspect

import numpy as np

from .config import isa
from .op import Made, Op, Symbol
from .ops.layout import move, strides_of
from .tensor import Tensor, backward, mode, no_grad

__all__ = ["GradientError", "GradientTape", "custom_gradient", "gradcheck"]


def _list(x):
    return list(x) if isinstance(x, (list, tuple)) else [x]


class GradientTape:
    """Gradients of what is computed inside, in the manner of TensorFlow.

        with fastdl.GradientTape() as tape:
            loss = ops.mean(ops.square(model(x) - y))
        d_kernel, d_bias = tape.gradient(loss, [kernel, bias])

    Parameters that are trainable are followed unasked, other tensors after watch().

    persistent   whether gradient() may be called more than once
    """

    def __init__(self, persistent=False):
        self.persistent, self.used, self.before, self.watched = persistent, False, None, []

    def __enter__(self):
        self.before, mode.grad = mode.grad, True
        return self

    def __exit__(self, *_):
        mode.grad = self.before
        for t in self.watched:
            t.requires_grad = False

    def watch(self, tensor):
        """Follow a tensor, or a list of them, until the end of the `with`."""
        for t in _list(tensor):
            if t.array.dtype.kind != "f":
                raise TypeError(f"GradientTape.watch: the tensor has dtype {t.dtype}; gradients need floating point")
            if not t.requires_grad:
                t.requires_grad = True
                self.watched.append(t)

    def gradient(self, target, sources, output_gradients=None, unconnected_gradients="none"):
        """Gradients of the sum of target with respect to the sources, in their structure: a tensor, or a list or dict of them.

        target                 a tensor or a list of them
        output_gradients       weights of the target's numbers; for each target one, or None
        unconnected_gradients  what a source gets on which the target does not depend: "none" (None) or "zero"
        """
        if self.used and not self.persistent:
            raise RuntimeError("GradientTape.gradient was called before; GradientTape(persistent=True) lets it be called again")
        if unconnected_gradients not in ("none", "zero"):
            raise ValueError(f"unconnected_gradients is {unconnected_gradients!r}; wanted is 'none' or 'zero'")
        self.used = True
        targets = _list(target)
        weights = [None] * len(targets) if output_gradients is None else _list(output_gradients)
        seeds = [np.ones(t.shape, t.dtype) if w is None else t._seed(w) for t, w in zip(targets, weights)]
        of = list(sources.values()) if isinstance(sources, dict) else _list(sources)
        found = self._gradients(targets, seeds, of, self.persistent)
        if unconnected_gradients == "zero":
            found = [Tensor(np.zeros(x.shape, x.dtype)) if g is None else g for g, x in zip(found, of)]
        if isinstance(sources, dict):
            return dict(zip(sources, found))
        return type(sources)(found) if isinstance(sources, (list, tuple)) else found[0]

    def jacobian(self, target, sources):
        """Derivatives of each number of target, shaped as target, then source: a tensor, or a list of them. Keeps the tape."""
        of, rows = _list(sources), []
        for seed in np.eye(target.size, dtype=target.dtype):
            found = self._gradients([target], [seed.reshape(target.shape)], of, True)
            rows.append([np.zeros(x.shape, x.dtype) if g is None else g.array.copy() for g, x in zip(found, of)])
        whole = [Tensor(np.reshape([row[i] for row in rows], target.shape + x.shape)) for i, x in enumerate(of)]
        return whole if isinstance(sources, (list, tuple)) else whole[0]

    @staticmethod
    def _gradients(targets, seeds, of, keep):
        unique = list({id(x): x for x in of}.values())
        followed = [i for i, t in enumerate(targets) if t.node is not None or any(t is x for x in of)]
        found = backward([targets[i] for i in followed], [seeds[i] for i in followed], unique, retain_graph=keep)
        by_id = {id(x): None if g is None else Tensor(g) for x, g in zip(unique, found)}
        return [by_id[id(x)] for x in of]


class CustomGradient(Op):
    """The results of a function that also gives their gradient; see custom_gradient."""

    function: object = None
    views = True                     # the function makes the outputs; from then on gradients are filled like any op's

    def trace(self, inputs):
        y = self.function(*inputs)[0]
        made = Made(type(self), inputs, {"function": self.function})
        symbols = [Symbol(s.shape, s.dtype, made, i) for i, s in enumerate(_list(y))]
        return symbols if isinstance(y, (list, tuple)) else symbols[0]

    def forward(self, *inputs):
        with no_grad():
            y, self.gradient = self.function(*map(Tensor, inputs))
        arrays = [t.array for t in _list(y)]
        self.views, self.outputs, self.out_shapes = False, len(arrays), [(a.shape, a.dtype) for a in arrays]
        return arrays if isinstance(y, (list, tuple)) else arrays[0]

    def backward(self, d_y, *d_inputs):
        with no_grad():
            found = _list(self.gradient(*map(Tensor, _list(d_y))))
        if len(found) != len(d_inputs):
            raise ValueError(f"custom_gradient: the gradient function gave {len(found)} gradients; the function has {len(d_inputs)} inputs")
        for i, (d_x, g) in enumerate(zip(d_inputs, found)):
            if d_x is not None:
                if g is None or g.shape != d_x.shape:
                    raise ValueError(f"custom_gradient: the gradient of input {i} has shape {None if g is None else g.shape}; wanted is {d_x.shape}")
                move(d_x, g.array, d_x.shape, strides_of(d_x.shape), strides_of(d_x.shape))


def custom_gradient(function):
    """Decorator: a function of tensors that returns its result and a function from the result's gradient to those of the inputs.

        @fastdl.custom_gradient
        def clipped(x):
            return x, lambda d_y: ops.clip(d_y, -1, 1)

    Of several results, the gradient function takes as many arguments; for several inputs it returns a list. Both are
    composed of fastdl.ops; then they can be recorded.
    """
    @functools.wraps(function)
    def wrapped(*inputs, **options):
        return CustomGradient.apply(*inputs, function=functools.partial(function, **options) if options else function)
    return wrapped


class GradientError(AssertionError):
    """A gradient that is not that of finite differences."""


def gradcheck(function, inputs, eps=1e-6, atol=1e-6, rtol=1e-5):
    """Compare the gradients of a function with finite differences, in float64 on the NumPy twins; True, or a GradientError.

    function     takes tensors and returns one, or a list of them
    inputs       a tensor or array, or a list of them; those of floating point are checked, each number
    eps          distance by which a number is moved, both ways, relative to the number where that is above 1
    atol, rtol   the error allowed: atol + rtol * |difference quotient|

    The results are weighed with fixed numbers and summed. Gradients that are not the same when computed again are an error.
    """
    arrays = [np.array(x.array if isinstance(x, Tensor) else x) for x in _list(inputs)]
    arrays = [a.astype("float64") if a.dtype.kind == "f" else a for a in arrays]
    names = list(inspect.signature(function).parameters)
    name = lambda i: names[i] if i < len(names) and "args" not in names[i] else f"input {i}"

    def results():
        tensors = [Tensor(a.copy(), a.dtype.kind == "f") for a in arrays]
        return tensors, [y for y in _list(function(*tensors)) if y.array.dtype.kind == "f"]

    def weights(y):
        return (np.arange(1, y.size + 1) * 0.6180339887498949 % 1 + 0.25).reshape(y.shape)

    def gradients():
        tensors, made = results()
        followed = [y for y in made if y.requires_grad]
        of = [t for t in tensors if t.requires_grad]
        found = backward(followed, [weights(y) for y in followed], of) if followed else [None] * len(of)
        found = iter([np.zeros(x.shape) if g is None else np.array(g) for g, x in zip(found, of)])
        return [next(found) if t.requires_grad else None for t in tensors]

    def total():
        with no_grad():
            return float(sum((weights(y) * y.array).sum() for y in results()[1]))

    with isa("numpy"):
        found = gradients()
        for i, (first, again) in enumerate(zip(found, gradients())):
            if first is not None and first.tobytes() != again.tobytes():
                raise GradientError(f"gradcheck: the gradient of {name(i)} differs when it is computed again\n"
                                    "  a function with chance in it (dropout, noise) cannot be checked")
        for i, gradient in enumerate(found):
            for at in np.ndindex(arrays[i].shape) if gradient is not None else ():
                here = arrays[i][at]
                step = eps * max(1.0, abs(here))
                arrays[i][at] = here + step
                above = total()
                arrays[i][at] = here - step
                quotient = (above - total()) / (2 * step)
                arrays[i][at] = here
                if not abs(gradient[at] - quotient) <= atol + rtol * abs(quotient):
                    raise GradientError(f"gradcheck: the gradient of {name(i)} at {tuple(map(int, at))} is wrong\n"
                                        f"  gradient             {gradient[at]:.9g}\n  finite differences   {quotient:.9g}")
    return True
