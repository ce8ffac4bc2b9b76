"""NumPy twins of the optimisers' kernels; fastdl.optimizers calls them."""

import math

import numpy as np

from ..op import kernels, twin  # noqa: F401
from .indexing import take_grad

__all__ = []


def _before(parameter, gradient, scale, clip, decay, learning_rate):
    """The gradient scaled and clipped by value, the parameter decayed."""
    g = gradient if scale is None else gradient * scale.item()
    if math.isfinite(clip):
        g = np.clip(g, -clip, clip)
    return g, parameter * parameter.dtype.type(1 - decay * learning_rate.item())


def _decayed(slot):
    """In place: 0 for numbers that float32 knows only with fewer bits."""
    slot[np.abs(slot) < 2.0 ** -126] = 0


@twin
def advance_iterations(iterations):
    iterations += 1


@twin
def adam(parameter, momentum, velocity, velocity_hat, gradient, learning_rate, iterations, scale, *, size, beta_1, beta_2,
         epsilon, weight_decay, clip):
    t = iterations.item() + 1
    alpha = learning_rate.item() * math.sqrt(1 - beta_2 ** t) / (1 - beta_1 ** t)
    g, kept = _before(parameter, gradient, scale, clip, weight_decay, learning_rate)
    momentum += (g - momentum) * (1 - beta_1)
    velocity += (g * g - velocity) * (1 - beta_2)
    _decayed(momentum)
    _decayed(velocity)
    v = velocity
    if velocity_hat is not None:
        np.maximum(velocity_hat, velocity, out=velocity_hat)
        v = velocity_hat
    parameter[...] = kept - momentum * alpha / (np.sqrt(v) + epsilon)


@twin
def adam_of_rows(parameter, momentum, velocity, velocity_hat, d_out, order, first, learning_rate, iterations, *, size, inner, count,
                 **rule):
    gradient = np.empty(parameter.shape, parameter.dtype)
    take_grad(gradient, d_out, order, first, outer=1, size=size, inner=inner, count=count)
    adam(parameter, momentum, velocity, velocity_hat, gradient, learning_rate, iterations, None, size=gradient.size, **rule)


@twin
def sgd(parameter, velocity, gradient, learning_rate, scale, *, size, nesterov, momentum, weight_decay, clip):
    g, kept = _before(parameter, gradient, scale, clip, weight_decay, learning_rate)
    step = -g * learning_rate.item()
    if velocity is not None:
        velocity[...] = velocity * momentum + step
        _decayed(velocity)
        step = velocity * momentum + step if nesterov else velocity
    parameter[...] = kept + step


@twin
def rmsprop(parameter, velocity, momentum, average, gradient, learning_rate, scale, *, size, rho, momentum_rate, epsilon,
            weight_decay, clip):
    g, kept = _before(parameter, gradient, scale, clip, weight_decay, learning_rate)
    velocity[...] = rho * velocity + (1 - rho) * g * g
    _decayed(velocity)
    square = velocity + epsilon
    if average is not None:
        average[...] = rho * average + (1 - rho) * g
        _decayed(average)
        square = velocity - average * average + epsilon
    step = learning_rate.item() * g / np.sqrt(square)
    if momentum is not None:
        momentum[...] = momentum_rate * momentum + step
        _decayed(momentum)
        step = momentum
    parameter[...] = kept - step


NORM_PIECE = 8192


@twin
def sum_squares(sums, x, *, size):
    x = x.reshape(-1)
    for q in range(len(sums)):
        piece = x[q * NORM_PIECE:(q + 1) * NORM_PIECE]
        sums[q] = piece @ piece


@twin
def clip_scale(scale, sums, *, pieces, most):
    norm = math.sqrt(sums[:pieces].sum())
    scale[...] = math.nan if not math.isfinite(norm) else most / norm if norm > most else 1


@twin
def average_parameters(average, parameter, iterations, *, size, every, momentum):
    average[...] = momentum * average + (1 - momentum) * parameter if iterations.item() else parameter
    if every and (iterations.item() + 1) % every == 0:
        parameter[...] = average


@twin
def decayed_learning_rate(learning_rate, iterations, *, kind, staircase, initial, steps, rate, final, warmup_steps):
    t = float(iterations.item())
    if kind == 1:
        if 0 < warmup_steps and t < warmup_steps:
            learning_rate[...] = initial + (final - initial) * t / warmup_steps
            return
        if warmup_steps > 0:
            initial, t = final, t - warmup_steps
        learning_rate[...] = initial * ((1 - rate) * 0.5 * (1 + math.cos(math.pi * min(t, steps) / steps)) + rate)
    elif kind == 2:
        if staircase:
            steps *= math.ceil(t / steps) if t > 0 else 1
        learning_rate[...] = (initial - final) * (1 - min(t, steps) / steps) ** rate + final
    else:
        t = t // steps if staircase else t / steps
        learning_rate[...] = initial * rate ** t if kind == 0 else initial / (1 + rate * t)


@twin
def stepped_learning_rate(learning_rate, iterations, boundaries, values, *, count):
    learning_rate[...] = values[int((iterations.item() > boundaries[:count]).sum())]
