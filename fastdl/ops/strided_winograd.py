"""Winograd's algorithm for convolutions with stride 2 and kernels of 5 x 5 to 8 x 8 over few channels, which ops.convolution calls where it pays.

Even and odd rows and columns of the images are four images, the phases, and each meets its quarter of the kernel with stride 1. With the
phases as channels that is a convolution of 4 x 4, for which F(3x3, 4x4) takes 36 multiplications a channel for a tile of 3 x 3 results: of the
147 of a kernel of 7 x 7 over 3 channels 40 are left. The points are those of F(4x4, 3x3) in ops.winograd, and so is the bound of the error,
which here is about 1e-6 of the largest output. See csrc/kernels/strided_winograd.c.
"""

import math

import numpy as np

from ..config import winograd_enabled
from ..op import case, kernels, twin
from .linear import PANEL, activate
from .winograd import both, matrices

__all__ = []

TILE, LANES = 3, 16                         # results of a tile, each way; numbers of a place in csrc/kernels/strided_winograd.h
SMALLEST, LARGEST, CHANNELS = 5, 8, 4       # kernels, and the most channels
NUMBERS, FILTERS = 98, 16                   # of a patch: least ones, for the layers where this is the fastest


# ---- twins ------------------------------------------------------------------------------------------------------------

def phases(images, top, left, rows, columns):
    """(batch, rows, columns, 4 * channels): the numbers of 2 x 2 pixels as channels, `top` rows and `left` columns of zeros before them."""
    batch, height, width, channels = images.shape
    padded = np.zeros((batch, max(2 * rows, top + height), max(2 * columns, left + width), channels), images.dtype)
    padded[:, top:top + height, left:left + width] = images
    padded = padded[:, :2 * rows, :2 * columns].reshape(batch, rows, 2, columns, 2, channels)
    return padded.transpose(0, 1, 3, 2, 4, 5).reshape(batch, rows, columns, 4 * channels)


def seen(images, tile, size, down, across, top, left):
    """(points, points, batch * down * across, channels): the size x size window of every tile, zeros outside the images."""
    batch, height, width, channels = images.shape
    before = max(top, 0), max(left, 0)
    reach = (down - 1) * tile + size - top + before[0], (across - 1) * tile + size - left + before[1]
    padded = np.zeros((batch, max(reach[0], height + before[0]), max(reach[1], width + before[1]), channels), images.dtype)
    padded[:, before[0]:before[0] + height, before[1]:before[1] + width] = images
    padded = padded[:, before[0] - top:, before[1] - left:]
    b, y, x, c = padded.strides
    found = np.lib.stride_tricks.as_strided(padded, (size, size, batch, down, across, channels), (y, x, b, y * tile, x * tile, c))
    return found.reshape(size, size, batch * down * across, channels)


def at_points(images, *, batch, height, width, channels, out_height, out_width, top, left, **_):
    """(6, 6, tiles, 4 * channels)."""
    down, across = -(-out_height // TILE), -(-out_width // TILE)
    x = phases(images.reshape(batch, height, width, channels), top, left, TILE * down + 3, TILE * across + 3)
    return both(matrices(TILE, 4)[2], seen(x, TILE, 6, down, across, 0, 0))


def quarters(kernel, channels, filters, kernel_height, kernel_width):
    """(4, 4, 4 * channels, filters): the kernel that meets the phases."""
    full = np.zeros((8, 8, channels, filters), kernel.dtype)
    full[:kernel_height, :kernel_width] = kernel.reshape(kernel_height, kernel_width, channels, filters)
    return full.reshape(4, 2, 4, 2, channels, filters).transpose(0, 2, 1, 3, 4, 5).reshape(4, 4, 4 * channels, filters)


@twin
def strided_winograd_kernel(u, kernel, *, channels, filters, kernel_height, kernel_width):
    g = both(matrices(TILE, 4)[1], quarters(kernel, channels, filters, kernel_height, kernel_width)).reshape(36, 4 * channels, filters)
    u = u.reshape(-1, 36, 4 * channels, PANEL)
    u[...] = 0
    for q, panel in enumerate(u):
        part = g[:, :, q * PANEL:(q + 1) * PANEL]
        panel[:, :, :part.shape[2]] = part


def _flops(*, batch, out_height, out_width, channels, filters, **_):
    return 2 * batch * -(-out_height // TILE) * -(-out_width // TILE) * 36 * 4 * channels * filters


@twin(flops=_flops, error=1e-5)
def strided_winograd(out, images, u, bias, *, batch, channels, out_height, out_width, filters, kernel_height, kernel_width, activation, **sizes):
    if not out.size:
        return
    x = at_points(images, batch=batch, channels=channels, out_height=out_height, out_width=out_width, **sizes)
    g = u.reshape(-1, 36, 4 * channels, PANEL).transpose(1, 2, 0, 3).reshape(6, 6, 4 * channels, -1)[..., :filters]
    down, across = -(-out_height // TILE), -(-out_width // TILE)
    y = both(matrices(TILE, 4)[0].T, x @ g).reshape(TILE, TILE, batch, down, across, filters)
    y = y.transpose(2, 3, 0, 4, 1, 5).reshape(batch, TILE * down, TILE * across, filters)[:, :out_height, :out_width]
    out.reshape(y.shape)[...] = activate(y if bias is None else y + bias, activation)


@twin(flops=_flops, error=1e-5)
def strided_winograd_d_kernel(d_kernel, d_out, images, *, batch, channels, out_height, out_width, filters, kernel_height, kernel_width, piece,
                              **sizes):
    x = at_points(images, batch=batch, channels=channels, out_height=out_height, out_width=out_width, **sizes)
    down, across = -(-out_height // TILE), -(-out_width // TILE)
    d = both(matrices(TILE, 4)[0], seen(d_out.reshape(batch, out_height, out_width, filters), TILE, TILE, down, across, 0, 0))
    for i, part in enumerate(d_kernel.reshape(-1, kernel_height, kernel_width, channels, filters)):
        own = slice(i * piece * across, (i + 1) * piece * across)
        g = both(matrices(TILE, 4)[1].T, x[:, :, own].swapaxes(2, 3) @ d[:, :, own])
        g = g.reshape(4, 4, 2, 2, channels, filters).transpose(0, 2, 1, 3, 4, 5).reshape(8, 8, channels, filters)
        part[...] = g[:kernel_height, :kernel_width]


@twin
def strided_winograd_turned(u, kernel, *, channels, filters, kernel_height, kernel_width):
    taps = quarters(kernel, channels, filters, kernel_height, kernel_width)[::-1, ::-1].reshape(4, 4, 2, 2 * channels, filters)
    full = np.zeros((4, 4, filters, 2, LANES // 2), kernel.dtype)
    full[..., :2 * channels] = taps.transpose(0, 1, 4, 2, 3)
    u.reshape(6, 6, filters, LANES)[...] = both(matrices(TILE, 4)[1], full.reshape(4, 4, filters, LANES))


def _places(size, before):
    """Rows or columns of a phase that the images have, `before` zeros before them."""
    return (size - 1 + before) // 2 - before // 2 + 1 if size else 0


@twin(flops=lambda *, batch, height, width, top, left, filters, **_:
      2 * batch * -(-_places(height, top) // TILE) * -(-_places(width, left) // TILE) * 36 * LANES * filters, error=1e-5)
def strided_winograd_d_images(d_images, d_out, u, *, batch, height, width, channels, out_height, out_width, filters, top, left):
    if not d_images.size:
        return
    down, across = -(-_places(height, top) // TILE), -(-_places(width, left) // TILE)
    d = d_out.reshape(batch, out_height, out_width, filters)
    d = both(matrices(TILE, 4)[2], seen(d, TILE, 6, down, across, 3 - top // 2, 3 - left // 2))
    x = both(matrices(TILE, 4)[0].T, d @ u.reshape(6, 6, filters, LANES)).reshape(TILE, TILE, batch, down, across, 2, LANES // 2)
    x = x[..., :2 * channels].reshape(TILE, TILE, batch, down, across, 2, 2, channels)
    x = x.transpose(2, 3, 0, 5, 4, 1, 6, 7).reshape(batch, 2 * TILE * down, 2 * TILE * across, channels)
    d_images.reshape(batch, height, width, channels)[...] = x[:, top % 2:, left % 2:][:, :height, :width]


# ---- what Conv2D calls ------------------------------------------------------------------------------------------------

TILES = {"winograd3x3": TILE}


def tile_of(op, filters):
    """3 for F(3x3, 4x4), 0 for another algorithm."""
    s = op.sizes
    window, others = (s["kernel_height"], s["kernel_width"]), (s["stride_height"], s["stride_width"], s["dilation_height"], s["dilation_width"])
    suits = SMALLEST <= min(window) and max(window) <= LARGEST and others == (2, 2, 1, 1) and op.groups == 1 and s["channels"] <= CHANNELS
    if op.algorithm in TILES:
        if not suits:
            raise ValueError(f"{op.name}: algorithm {op.algorithm!r} is for kernels of 5 x 5 to 8 x 8 over up to {CHANNELS} channels, with strides "
                             f"of 2, no dilation and no groups")
        return TILE
    if not suits or op.algorithm != "auto" or not winograd_enabled():
        return 0
    return TILE if pays(math.prod(window) * s["channels"], filters, s["out_height"], s["out_width"]) else 0


def pays(numbers, filters, height, width):
    """Whether these are the fastest for outputs of height x width and patches of so many numbers: by the shape of the layer, so that neither the
    batch nor the machine changes bits."""
    # Measured with 1 to 4 channels and 16 to 96 filters, two threads: from 98 numbers on the convolution takes 0.45 to 0.8 of the direct time,
    # the gradient of the kernel 0.55 to 0.95, that of the images 0.6 to 1.1.
    covered = TILE * TILE * -(-height // TILE) * -(-width // TILE)
    return numbers >= NUMBERS and filters >= FILTERS and 2 * covered <= 3 * height * width


def _sizes(op, *left_out):
    names = {"stride_height", "stride_width", "dilation_height", "dilation_width", *left_out}
    return {name: n for name, n in op.sizes.items() if name not in names}


def _window(op):
    channels, filters = op.kernel.shape[2:]
    return dict(channels=channels, filters=filters, kernel_height=op.kernel.shape[0], kernel_width=op.kernel.shape[1])


def convolve(op, out, images, kernel, bias):
    """out = activation(bias + convolution)."""
    channels, filters = kernel.shape[2:]
    u = op.prepared((-(-filters // PANEL) * 36 * 4 * channels * PANEL,),
                    lambda to: kernels.strided_winograd_kernel(to, kernel, **_window(op)), kernel)
    kernels.strided_winograd(out, images, u, bias, **_sizes(op), filters=filters, activation=op.act)


def kernel_gradient(op, d_kernel, d_out):
    """The gradient of the kernel from d_out, before the activation."""
    rows = op.sizes["batch"] * -(-op.sizes["out_height"] // TILE)
    piece = max(-(-rows // 32), 4)
    count = -(-rows // piece)
    parts = d_kernel if count == 1 else op.empty((count, d_kernel.size))
    kernels.strided_winograd_d_kernel(parts, d_out, op.images, **_sizes(op), filters=op.kernel.shape[3], piece=piece)
    if count != 1:
        kernels.sum_parts(d_kernel, parts, outer=1, count=count, size=d_kernel.size)


def images_gradient(op, d_images, d_out):
    """The gradient of the images from d_out, before the activation."""
    filters = op.kernel.shape[3]
    u = op.empty((36 * filters * LANES,))
    kernels.strided_winograd_turned(u, op.kernel, **_window(op))
    kernels.strided_winograd_d_images(d_images, d_out, u, **_sizes(op, "kernel_height", "kernel_width"), filters=filters)


def _case(images, kernel, filters, **options):
    return case(images=images, kernel=(*kernel, images[3], filters), strides=(2, 2), algorithm="winograd3x3", **options)


cases = [
    _case((1, 7, 7, 1), (7, 7), 1),
    _case((2, 11, 14, 3), (7, 7), 17, bias=(17,), padding="same", activation="relu"),
    _case((1, 9, 13, 4), (8, 5), 33, bias=(33,), padding=((2, 1), (0, 5)), activation="sigmoid"),
    _case((2, 8, 10, 2), (6, 7), 35, padding=((5, 4), (3, 2))),
    _case((0, 9, 9, 3), (7, 7), 4, bias=(4,)),
    _case((1, 16, 5, 3), (5, 5), 66, padding="same"),
]
