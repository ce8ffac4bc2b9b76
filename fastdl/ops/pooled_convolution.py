"""Convolution and 2x2 max pooling in one, over (batch, height, width, channels)."""

import math

import numpy as np

from ..errors import shape_error
from ..op import ACTIVATIONS, case, kernels, twin
from .convolution import IMAGES, KERNEL, Conv2D, pair, unpacked, windows
from .linear import activate, panel_floats

__all__ = ["pooled_conv2d"]

DEPTH, STRIDE = 128, 8               # most numbers of a patch, largest stride; csrc/kernels/pooled_convolution.c has room for them


def _seen(images, *, batch, height, width, channels, pool_height, pool_width, **window):
    """(batch, pool_height, pool_width, 4, depth): the patches of each 2x2 window."""
    seen = windows(images.reshape(batch, height, width, channels), out_height=2 * pool_height, out_width=2 * pool_width,
                   dilation_height=1, dilation_width=1, **window)
    seen = seen.reshape(batch, pool_height, 2, pool_width, 2, math.prod(seen.shape[3:]))
    return seen.transpose(0, 1, 3, 2, 4, 5).reshape(batch, pool_height, pool_width, 4, seen.shape[5])


@twin(flops=lambda *, batch, pool_height, pool_width, filters, kernel_height, kernel_width, channels, **_:
      8 * batch * pool_height * pool_width * filters * kernel_height * kernel_width * channels)
def pooled_conv2d(y, winner, images, panels, bias, *, filters, relu, **sizes):
    seen = _seen(images, **sizes)
    z = seen @ unpacked(panels, 1, seen.shape[4], filters)[0]
    z = z if bias is None else z + bias
    best = z.argmax(3) if z.size else z.sum(3).astype(int)
    y.reshape(best.shape)[...] = activate(np.take_along_axis(z, best[:, :, :, None], 3)[:, :, :, 0], relu)
    if winner is not None:
        winner.reshape(best.shape)[...] = best


@twin(flops=lambda *, batch, pool_height, pool_width, filters, kernel_height, kernel_width, channels, **_:
      2 * batch * pool_height * pool_width * filters * kernel_height * kernel_width * channels)
def pooled_conv2d_d_kernel(d_kernel, d_bias, d_y, y, winner, images, *, filters, relu, piece, **sizes):
    seen = _seen(images, **sizes)
    seen = seen.reshape(math.prod(seen.shape[:2]), *seen.shape[2:])                        # rows, pool_width, 4, depth
    d = np.where(y > 0, d_y, 0) if relu else d_y
    d = d.reshape(*seen.shape[:2], 1, filters)
    placed = np.where(winner.reshape(d.shape) == np.arange(4)[:, None], d, 0)
    for i, part in enumerate(d_kernel.reshape(-1, seen.shape[3], filters)):
        rows = slice(i * piece, (i + 1) * piece)
        part[...] = seen[rows].reshape(-1, seen.shape[3]).T @ placed[rows].reshape(-1, filters)
        if d_bias is not None:
            d_bias.reshape(-1, filters)[i] = d[rows].sum((0, 1, 2))


class PooledConv2D(Conv2D):
    """The largest of each 2x2 window of a two-dimensional convolution with bias and activation, as max_pool2d of conv2d.

    images   (batch, height, width, channels)
    kernel   (kernel_height, kernel_width, channels, filters), at most 128 numbers for each filter
    bias     (filters), or None
    returns  (batch, out_height // 2, out_width // 2, filters)

    The options are those of Conv2D; activation is None or "relu", there are neither groups nor dilation.
    """

    @staticmethod
    def takes(kernel_shape, strides, dilation, groups, activation):
        """Whether a convolution may be pooled at once."""
        return (math.prod(kernel_shape[:3]) <= DEPTH and max(pair(strides)) <= STRIDE and pair(dilation) == (1, 1) and groups == 1
                and activation in (None, "linear", "relu"))

    def shape(self, images, kernel, bias=None):
        batch, out_height, out_width, filters = super().shape(images, kernel, bias)
        if not self.takes(kernel.shape, self.strides, self.dilation, self.groups, self.activation):
            raise ValueError(f"{self.name}: takes kernels of at most {DEPTH} numbers for each filter, strides of at most {STRIDE}, no "
                             f"dilation, no groups and no activation but relu; met are {tuple(kernel.shape)}, {self.strides}, "
                             f"{self.dilation}, {self.groups} and {self.activation!r}")
        if out_height < 2 or out_width < 2:
            raise shape_error(self.name, f"a window of 2 x 2 does not fit into the convolution's {out_height} x {out_width}",
                              images=(images.shape, IMAGES), kernel=(kernel.shape, KERNEL))
        return batch, out_height // 2, out_width // 2, filters

    def forward(self, out, images, kernel, bias=None):
        *_, filters = kernel.shape
        depth = kernel.size // filters
        self.bfloat16 = False
        self.images, self.kernel, self.out, self.patches, self.relu = images, kernel, out, None, ACTIVATIONS[self.activation]
        self.pooled = {name: n for name, n in self.sizes.items() if name not in ("out_height", "out_width", "dilation_height", "dilation_width")}
        self.pooled.update(pool_height=out.shape[1], pool_width=out.shape[2], filters=filters, relu=self.relu)
        panels = self.prepared((panel_floats(depth, filters),), lambda to: kernels.pack(
            to, kernel, depth=depth, columns=filters, row=filters, column=1), kernel)
        self.winner = self.empty(out.shape, "uint8") if self.traced else None
        kernels.pooled_conv2d(out, self.winner, images, panels, bias, **self.pooled)

    def backward(self, d_out, d_images, d_kernel, d_bias=None):
        batch, pool_height, pool_width, filters = d_out.shape
        if d_kernel is not None or d_bias is not None:
            piece = max(1, -(-batch * pool_height // 64))
            if piece > pool_height // 2:                              # whole images
                piece = -(-piece // pool_height) * pool_height
            count, size = -(-batch * pool_height // piece), self.kernel.size
            parts, bias_parts = self.empty((count, size)), self.empty((count, filters)) if d_bias is not None else None
            kernels.pooled_conv2d_d_kernel(parts, bias_parts, d_out, self.out, self.winner, self.images, **self.pooled, piece=piece)
            if d_kernel is not None:
                kernels.sum_parts(d_kernel, parts, outer=1, count=count, size=size)
            if d_bias is not None:
                kernels.sum_parts(d_bias, bias_parts, outer=1, count=count, size=filters)
        if d_images is not None:
            d_y, (out_height, out_width) = d_out, (self.sizes["out_height"], self.sizes["out_width"])
            if self.relu:
                d_y = self.empty(d_out.shape)
                kernels.activation_grad(d_y, d_out, self.out, size=d_out.size, activation=self.relu)
            d_z = self.empty((batch, out_height, out_width, filters))
            kernels.pool2d_grad(d_z, d_y, self.winner, None, batch=batch, height=out_height, width=out_width, channels=filters,
                                out_height=pool_height, out_width=pool_width, pool_height=2, pool_width=2, stride_height=2, stride_width=2,
                                top=0, left=0)
            self.pixels = batch * out_height * out_width
            self.backward_images(d_z, d_images)

    def definition(self, images, kernel, bias=None):
        y = super().definition(images, kernel, bias)
        batch, height, width, filters = y.shape
        return y[:, :height // 2 * 2, :width // 2 * 2].reshape(batch, height // 2, 2, width // 2, 2, filters).max((2, 4))

    cases = [
        case(images=(1, 4, 4, 1), kernel=(3, 3, 1, 1), bias=(1,)),
        case(images=(3, 13, 11, 1), kernel=(3, 3, 1, 33), bias=(33,), activation="relu"),
        case(images=(2, 9, 12, 3), kernel=(3, 2, 3, 17), bias=(17,), padding="same", strides=(2, 1), activation="relu"),
        case(images=(2, 8, 17, 2), kernel=(1, 4, 2, 5), padding=((1, 0), (2, 3)), strides=(1, 3)),
        case(images=(1, 5, 4, 1), kernel=(2, 2, 1, 4)), case(images=(0, 6, 6, 1), kernel=(3, 3, 1, 4), bias=(4,), activation="relu"),
    ]
    bench = [case(images=(32, 28, 28, 1), kernel=(3, 3, 1, 32), bias=(32,), activation="relu")]


def pooled_conv2d(images, kernel, bias=None, strides=(1, 1), padding="valid", activation=None):  # noqa: F811
    """The largest of each 2x2 window of a two-dimensional convolution: (batch, out_height // 2, out_width // 2, filters).

    images   (batch, height, width, channels)
    kernel   (kernel_height, kernel_width, channels, filters), at most 128 numbers for each filter
    bias     (filters), or None

    The same as max_pool2d(conv2d(…)), but what lies between is never stored. strides are an integer for both axes or one for
    each; padding is that of conv2d, activation None or "relu".
    """
    return PooledConv2D.apply(images, kernel, bias, strides=strides, padding=padding, activation=activation)
