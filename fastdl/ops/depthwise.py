"""Depthwise convolution over (batch, height, width, channels)."""

import math

import numpy as np

from ..errors import shape_error
from ..op import ACTIVATIONS, Op, case, kernels, twin
from .convolution import IMAGES, Windows, col2im, windows
from .linear import activate, activation_grad as before_activation, activation_of, sum_columns

__all__ = ["depthwise_conv2d"]

KERNEL = "height, width, channels, depth_multiplier"
MOST_PLACES = 1 << 16            # of a kernel: a list of its rows must fit in a thread's scratch


@twin
def repeat_channels(y, x, *, pixels, channels, times):
    y.reshape(pixels, channels, times)[...] = x.reshape(pixels, channels, 1)


@twin
def repeat_channels_grad(d_x, d_y, *, pixels, channels, times):
    d_x.reshape(pixels, channels)[...] = d_y.reshape(pixels, channels, times).sum(2)


def _flops(*, batch, out_height, out_width, channels, kernel_height, kernel_width, **_):
    return 2 * batch * out_height * out_width * channels * kernel_height * kernel_width


@twin(flops=_flops)
def depthwise_conv2d(out, images, kernel, bias, *, batch, height, width, channels, activation, **window):
    seen = windows(images.reshape(batch, height, width, channels), **window)
    y = (seen * kernel.reshape(seen.shape[3:])).sum((3, 4))
    out.reshape(y.shape)[...] = activate(y if bias is None else y + bias, activation)


@twin(flops=_flops)
def depthwise_conv2d_d_images(d_images, d_out, kernel, *, channels, kernel_height, kernel_width, **sizes):
    d_patches = d_out.reshape(-1, 1, 1, channels) * kernel.reshape(kernel_height, kernel_width, channels)
    col2im(d_images, d_patches, channels=channels, kernel_height=kernel_height, kernel_width=kernel_width, **sizes)


@twin(flops=_flops)
def depthwise_conv2d_d_kernel(d_kernel, d_bias, d_z, d_images, d_out, out, images, kernel, *, batch, height, width, channels, activation,
                              piece, **window):
    d = d_out.reshape(-1, channels)
    if d_images is not None:
        depthwise_conv2d_d_images(d_images, d_out, kernel, batch=batch, height=height, width=width, channels=channels, **window)
    if out is not None:
        before_activation(d_z, d_out, out, size=d_out.size, activation=activation)
        d = d_z.reshape(-1, channels)
    seen = windows(images.reshape(batch, height, width, channels), **window)
    d = d.reshape(*seen.shape[:3], 1, 1, channels)
    terms, sums = (seen * d).sum(2).reshape(-1, *seen.shape[3:]), d.sum(2).reshape(-1, channels)
    for i, part in enumerate(d_kernel.reshape(-1, *seen.shape[3:])):
        part[...] = terms[i * piece:(i + 1) * piece].sum(0)
        if d_bias is not None:
            d_bias[i] = sums[i * piece:(i + 1) * piece].sum(0)


class DepthwiseConv2D(Windows, Op):
    """Convolution of each channel with kernels of its own, with bias and activation.

    images   (batch, height, width, channels)
    kernel   (kernel_height, kernel_width, channels, depth_multiplier)
    bias     (channels * depth_multiplier), or None
    returns  (batch, out_height, out_width, channels * depth_multiplier): all outputs of a channel side by side

    padding is "valid", "same" or ((top, bottom), (left, right)); activation None, "relu", "relu6", "sigmoid" or "tanh".
    """

    strides: tuple = (1, 1)
    padding: object = "valid"
    dilation: tuple = (1, 1)
    activation: str = None

    def shape(self, images, kernel, bias=None):
        if len(images.shape) != 4 or len(kernel.shape) != 4 or images.shape[3] != kernel.shape[2]:
            met = "images and kernel have four axes each" if len(images.shape) != 4 or len(kernel.shape) != 4 else \
                f"images have {images.shape[3]} channels, kernel expects {kernel.shape[2]}"
            raise shape_error(self.name, met, images=(images.shape, IMAGES), kernel=(kernel.shape, KERNEL))
        self.check(images, kernel, bias, kernel.shape[2] * kernel.shape[3])
        sizes = self.sizes = self.measure(images, kernel.shape[:2])
        if math.prod(kernel.shape[:2]) > MOST_PLACES:
            raise shape_error(self.name, f"a kernel may have at most {MOST_PLACES} places", kernel=(kernel.shape, KERNEL))
        sizes["channels"] *= kernel.shape[3]
        return images.shape[0], sizes["out_height"], sizes["out_width"], sizes["channels"]

    def forward(self, out, images, kernel, bias=None):
        self.times, self.seen = kernel.shape[3], images
        if self.times != 1:
            self.seen = self.empty((*images.shape[:3], out.shape[3]))
            kernels.repeat_channels(self.seen, images, pixels=math.prod(images.shape[:3]), channels=images.shape[3], times=self.times)
        self.kernel, self.out, self.act = kernel, out, ACTIVATIONS[self.activation]
        kernels.depthwise_conv2d(out, self.seen, kernel, bias, **self.sizes, activation=self.act)

    def backward(self, d_out, d_images, d_kernel, d_bias=None):
        d_z, sizes = d_out, self.sizes
        d_seen = d_images if d_images is None or self.times == 1 else self.empty(self.seen.shape)
        if self.act:
            d_z = self.empty(d_out.shape)
        if d_kernel is not None:
            rows = sizes["batch"] * sizes["out_height"]
            piece = max(1, -(-rows // 64))
            count = -(-rows // piece)
            parts, sums = self.empty((count, d_kernel.size)), None if d_bias is None else self.empty((count, d_bias.size))
            # without an activation both gradients at once, which reads d_out once
            activated = (d_z, None, d_out, self.out) if self.act else (None, d_seen, d_out, None)
            kernels.depthwise_conv2d_d_kernel(parts, sums, *activated, self.seen, self.kernel, **sizes, activation=self.act, piece=piece)
            kernels.sum_parts(d_kernel, parts, outer=1, count=count, size=d_kernel.size)
            if d_bias is not None:
                kernels.sum_parts(d_bias, sums, outer=1, count=count, size=d_bias.size)
        else:
            if self.act:
                kernels.activation_grad(d_z, d_out, self.out, size=d_out.size, activation=self.act)
            if d_bias is not None:
                sum_columns(self, d_bias, d_z, math.prod(d_out.shape[:3]), d_out.shape[3])
        if d_images is not None:
            if d_kernel is None or self.act:
                kernels.depthwise_conv2d_d_images(d_seen, d_z, self.kernel, **sizes)
            if self.times != 1:
                kernels.repeat_channels_grad(d_images, d_seen, pixels=math.prod(d_images.shape[:3]), channels=d_images.shape[3],
                                             times=self.times)

    def definition(self, images, kernel, bias=None):
        (rows, top), (columns, left) = self.places(images, kernel.shape[:2])
        (sy, sx), (dy, dx) = np.broadcast_to(self.strides, 2), np.broadcast_to(self.dilation, 2)
        z = np.zeros((len(images), rows, columns, *kernel.shape[2:]), images.dtype)
        for y, x, ky, kx in np.ndindex(rows, columns, *kernel.shape[:2]):
            at = y * sy - top + ky * dy, x * sx - left + kx * dx
            if 0 <= at[0] < images.shape[1] and 0 <= at[1] < images.shape[2]:
                z[:, y, x] += np.einsum("nc,cm->ncm", images[:, at[0], at[1]], kernel[ky, kx])
        z = z.reshape(*z.shape[:3], -1 if z.size else kernel.shape[2] * kernel.shape[3]) + (0 if bias is None else bias)
        return activation_of(z, self.activation)

    cases = [
        case(images=(1, 1, 1, 1), kernel=(1, 1, 1, 1)),
        case(images=(2, 7, 9, 17), kernel=(3, 3, 17, 1), bias=(17,), activation="relu"),
        case(images=(2, 6, 11, 3), kernel=(3, 4, 3, 1), bias=(3,), padding="same", strides=(2, 2), activation="tanh"),
        case(images=(1, 5, 16, 2), kernel=(2, 6, 2, 3), bias=(6,), padding="same", activation="sigmoid"),
        case(images=(2, 8, 7, 5), kernel=(2, 3, 5, 2), padding=((2, 1), (0, 3)), dilation=(2, 3), strides=(1, 2)),
        case(images=(1, 9, 8, 4), kernel=(2, 2, 4, 1), strides=(3, 4), activation="relu6"),
        case(images=(0, 4, 4, 2), kernel=(3, 3, 2, 1), bias=(2,)),
        case(images=(2, 7, 9, 32), kernel=(3, 3, 32, 1), bias=(32,), padding="same", activation="relu6"),
        case(images=(1, 6, 9, 16), kernel=(3, 3, 16, 1)),
    ]
    bench = [
        case(images=(8, 56, 56, 144), kernel=(3, 3, 144, 1), padding="same"),
        case(images=(1, 112, 112, 32), kernel=(3, 3, 32, 1), bias=(32,), padding="same", activation="relu"),
        case(images=(1, 112, 112, 96), kernel=(3, 3, 96, 1), padding=((0, 1), (0, 1)), strides=(2, 2)),
        case(images=(1, 7, 7, 960), kernel=(3, 3, 960, 1), padding="same"),
        case(images=(8, 14, 14, 672), kernel=(5, 5, 672, 1), padding="same"),
    ]


def depthwise_conv2d(images, kernel, bias=None, strides=(1, 1), padding="valid", dilation=(1, 1), activation=None):  # noqa: F811
    """Convolution of each channel with kernels of its own: (batch, out_height, out_width, channels * depth_multiplier).

    images   (batch, height, width, channels)
    kernel   (kernel_height, kernel_width, channels, depth_multiplier)
    bias     (channels * depth_multiplier), or None

    strides and dilation are an integer for both axes or one for each; the other options are those of DepthwiseConv2D.
    """
    return DepthwiseConv2D.apply(images, kernel, bias, strides=strides, padding=padding, dilation=dilation, activation=activation)
