"""EinsumDense: a dense layer by the names of its axes."""

import re

from .. import activations, constraints, initializers, ops, regularizers
from ..errors import shape_error
from .core import fused
from .layer import Layer

__all__ = ["EinsumDense"]


class EinsumDense(Layer):
    """activation(einsum(equation, inputs, kernel) + bias).

    equation      "letters of inputs,letters of kernel->letters of the result"; ... may stand for the first or the last axes
    output_shape  sizes of the result without the batch axis, and without those that ... stands for; None where inputs say it
    bias_axes     letters of the result along which there is a bias; None: no bias
    """

    input_dtype = "float32"

    def __init__(self, equation, output_shape, activation=None, bias_axes=None, kernel_initializer="glorot_uniform", bias_initializer="zeros",
                 kernel_regularizer=None, bias_regularizer=None, kernel_constraint=None, bias_constraint=None, **kwargs):
        super().__init__(**kwargs)
        self.equation, self.bias_axes, self.activation = equation, bias_axes, activations.get(activation)
        self.partial_output_shape = (output_shape,) if isinstance(output_shape, int) else tuple(output_shape)
        self.kernel_initializer, self.bias_initializer = initializers.get(kernel_initializer), initializers.get(bias_initializer)
        self.kernel_regularizer, self.bias_regularizer = regularizers.get(kernel_regularizer), regularizers.get(bias_regularizer)
        self.kernel_constraint, self.bias_constraint = constraints.get(kernel_constraint), constraints.get(bias_constraint)
        found = re.fullmatch(r"(\.\.\.)?([a-zA-Z]+)(\.\.\.)?,([a-zA-Z]+)->(\.\.\.)?([a-zA-Z]+)(\.\.\.)?", equation.replace(" ", ""))
        if not found or found[1] != found[5] or found[3] != found[7] or found[1] and found[3]:
            raise ValueError(f"EinsumDense: equation is {equation!r}\n  wanted is 'ab,bc->ac', with ... before or behind both ab and ac")
        self._before, self._terms = bool(found[1]), (found[2], found[4], found[6])
        self._fused = fused(self.activation) if self.activation is not activations.sigmoid else None

    def _shapes(self, input_shape):
        """Of kernel, bias (or None) and the result."""
        of_x, of_kernel, of_y = self._terms
        rest = len(input_shape) - len(of_x)
        refuse = lambda what: shape_error(self.name, f"EinsumDense {self.equation!r}: {what}", inputs=input_shape, output_shape=self.partial_output_shape)
        if rest < 0 or rest and "..." not in self.equation:
            raise refuse("names another number of axes than inputs have")
        unnamed = tuple(input_shape[:rest] if self._before else input_shape[len(of_x):])
        before = self._before and rest > 0
        full = (*(unnamed if before else input_shape[:1]), *self.partial_output_shape, *(() if before else unnamed))
        if len(full) != rest + len(of_y):
            raise refuse(f"output_shape must have {len(of_y) - (not before)} sizes")
        size = dict(zip(of_y, full[rest if before else 0:]))
        for letter, n in zip(of_x, input_shape[rest if self._before else 0:]):
            if size.get(letter) not in (None, n):
                raise refuse(f"axis {letter} has size {n} in inputs")
            size[letter] = n
        missing = [x for x in of_kernel if size.get(x) is None]
        if missing:
            raise refuse(f"the size of axis {', '.join(missing)} of the kernel is not known")
        if any(x not in of_x + of_kernel for x in of_y) or any(x not in of_y for x in self.bias_axes or ()):
            raise refuse("the result has an axis of neither inputs nor kernel, or the bias one that the result lacks")
        bias = None
        if self.bias_axes is not None:
            first = min(of_y.find(x) for x in self.bias_axes)
            bias = (*(size[x] if x in self.bias_axes else 1 for x in of_y[first:]), *(1,) * (0 if self._before else rest))
        full = tuple(size.get(x) if n is None else n for x, n in zip(("",) * (rest if before else 0) + (*of_y,) + ("",) * rest, full))
        return tuple(size[x] for x in of_kernel), bias, full

    def build(self, input_shape):
        """Make kernel and bias."""
        kernel_shape, bias_shape, _ = self._shapes(input_shape)
        _, of_kernel, of_y = self._terms
        initializer = self.kernel_initializer
        if isinstance(initializer, initializers.VarianceScaling) and (initializer.input_axes is None or initializer.output_axes is None):
            outputs = [i for i, x in enumerate(of_kernel) if x in of_y]
            inputs = [i for i in range(len(of_kernel)) if i not in outputs]
            initializer = type(initializer).from_config({**initializer.get_config(), "seed": initializer.seed, "input_axes": inputs, "output_axes": outputs})
        self.kernel = self.add_weight(kernel_shape, initializer, name="kernel", regularizer=self.kernel_regularizer, constraint=self.kernel_constraint)
        self.bias = None if bias_shape is None else self.add_weight(
            bias_shape, self.bias_initializer, name="bias", regularizer=self.bias_regularizer, constraint=self.bias_constraint)

    def compute_output_shape(self, input_shape):
        """The shape of the result for inputs of a shape."""
        return self._shapes(input_shape)[2]

    def _summed(self, rank):
        """How many last axes of inputs meet as many first ones of the kernel, whose others then are the last of the result; 0: another product."""
        of_x, of_kernel, of_y = self._terms
        n = sum(x not in of_y for x in of_kernel)
        plain = of_x.endswith(of_kernel[:n]) and of_y == of_x[:len(of_x) - n] + of_kernel[n:] and (self._before or rank == len(of_x))
        return n if plain and n < len(of_kernel) and (self.bias is None or self.bias.shape == self.kernel.shape[n:]) else 0

    def call(self, inputs, residual=None):
        """The sum of products, with bias, a residual of its shape, and activation."""
        n = self._summed(inputs.ndim)
        if n:
            y = ops.linear(inputs, self.kernel, self.bias, activation=self._fused, residual=residual, summed=n)
            return y if self._fused is not None else self.activation(y)
        y = ops.einsum(self.equation, inputs, self.kernel)
        y = y if self.bias is None else y + self.bias
        return self.activation(y if residual is None else y + residual)

    def get_config(self):
        """The constructor's arguments."""
        return {**super().get_config(), "equation": self.equation, "output_shape": list(self.partial_output_shape),
                "activation": activations.serialize(self.activation), "bias_axes": self.bias_axes,
                "kernel_initializer": initializers.serialize(self.kernel_initializer),
                "bias_initializer": initializers.serialize(self.bias_initializer),
                "kernel_regularizer": regularizers.serialize(self.kernel_regularizer),
                "bias_regularizer": regularizers.serialize(self.bias_regularizer),
                "kernel_constraint": constraints.serialize(self.kernel_constraint),
                "bias_constraint": constraints.serialize(self.bias_constraint)}
