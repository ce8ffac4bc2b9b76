"""Convolutions over (batch, height, width, channels)."""

import math

import numpy as np

from ..errors import shape_error
from ..op import ACTIVATIONS, Op, case, kernels, twin
from . import bfloat16_convolution, phase_winograd, strided_winograd, winograd
from .linear import LONG, PANEL, activate, activate_grad, activation_of, panel_floats, product, sum_columns

__all__ = ["conv2d"]

FEW, FEW_DEPTH = 16, 256         # channels below which they are few, and most numbers of a patch, for csrc/kernels/few_channels.c
MOST_VECTORS = 1 << 12           # of 16 filters that a channel's kernel may have in conv2d_d_few_channels, which has room for 4 channels
IMAGES, KERNEL = "batch, height, width, channels", "height, width, channels / groups, filters"
ALGORITHMS = *winograd.TILES, *strided_winograd.TILES, *phase_winograd.TILES       # of Winograd
LEAST_DEPTH = 32                # patches of fewer numbers are not rounded to bfloat16: their products are over before that pays
WINDOW = "kernel_height", "kernel_width", "stride_height", "stride_width", "dilation_height", "dilation_width", "top", "left"


def pair(value):
    """A number for both axes, or one for each."""
    return (value, value) if isinstance(value, int) else tuple(value)


def extent(size, window, stride, dilation, padding):
    """How many windows there are along an axis, and how many zeros stand before it.

    padding  "valid", "same" (Keras: an odd zero more stands at the end) or (before, after)
    """
    reach = (window - 1) * dilation + 1
    if padding == "same":
        out = -(-size // stride)
        return out, max((out - 1) * stride + reach - size, 0) // 2
    before, after = (0, 0) if padding == "valid" else padding
    return (size + before + after - reach) // stride + 1, before


def grid(op, images, window, strides, dilation, padding):
    """((out_height, top), (out_width, left)); a ShapeError where a window finds no place."""
    if min(window) < 1 or min(strides) < 1 or min(dilation) < 1:
        raise ValueError(f"{op}: window, strides and dilation must be at least 1, not {window}, {strides}, {dilation}")
    if isinstance(padding, str):
        if padding not in ("valid", "same"):
            raise ValueError(f"{op}: padding must be 'valid', 'same' or ((top, bottom), (left, right)), not {padding!r}")
        padding = padding, padding
    elif min(min(pair(p)) for p in padding) < 0:
        raise ValueError(f"{op}: padding must not be negative: {padding}")
    found = [extent(*axis) for axis in zip(images.shape[1:3], window, strides, dilation, map(_sides, padding))]
    if min(found)[0] < 1 and padding[0] != "same":
        reach = tuple((w - 1) * d + 1 for w, d in zip(window, dilation))
        raise shape_error(op, f"a window of {reach[0]} x {reach[1]} does not fit into the padded images",
                          images=(images.shape, IMAGES))
    return found


def _sides(padding):
    return padding if isinstance(padding, str) else pair(padding)


# ---- twins ------------------------------------------------------------------------------------------------------------

def reach(out, stride, window, dilation, size):
    """Places along an axis that the windows or the `size` places of the padded image reach."""
    return max((out - 1) * stride + (window - 1) * dilation + 1, size)


def windows(images, *, out_height, out_width, kernel_height, kernel_width, stride_height, stride_width, dilation_height,
            dilation_width, top, left, fill=0):
    """(batch, out_height, out_width, kernel_height, kernel_width, channels), a view: what each window sees."""
    batch, height, width, channels = images.shape
    padded = np.full((batch, reach(out_height, stride_height, kernel_height, dilation_height, top + height),
                      reach(out_width, stride_width, kernel_width, dilation_width, left + width), channels), fill, images.dtype)
    padded[:, top:top + height, left:left + width] = images
    b, y, x, c = padded.strides
    return np.lib.stride_tricks.as_strided(
        padded, (batch, out_height, out_width, kernel_height, kernel_width, channels),
        (b, y * stride_height, x * stride_width, y * dilation_height, x * dilation_width, c))


@twin
def im2col(patches, images, *, batch, height, width, channels, **window):
    seen = windows(images.reshape(batch, height, width, channels), **window)
    patches.reshape(seen.shape)[...] = seen


@twin
def col2im(images, patches, *, batch, height, width, channels, out_height, out_width, kernel_height, kernel_width, stride_height,
           stride_width, dilation_height, dilation_width, top, left):
    padded = np.zeros((batch, reach(out_height, stride_height, kernel_height, dilation_height, top + height),
                       reach(out_width, stride_width, kernel_width, dilation_width, left + width), channels), images.dtype)
    patches = patches.reshape(batch, out_height, out_width, kernel_height, kernel_width, channels)
    for ky, kx in np.ndindex(kernel_height, kernel_width):
        y, x = ky * dilation_height, kx * dilation_width
        rows, columns = slice(y, y + out_height * stride_height, stride_height), slice(x, x + out_width * stride_width, stride_width)
        padded[:, rows, columns][:, :out_height, :out_width] += patches[:, :, :, ky, kx]
    images.reshape(batch, height, width, channels)[...] = padded[:, top:top + height, left:left + width]


def unpacked(panels, groups, depth, columns):
    """(groups, depth, columns): the matrices in panels."""
    n = -(-columns // PANEL)
    whole = panels.reshape(-1)[:groups * n * depth * PANEL].reshape(groups, n, depth, PANEL)
    return whole.transpose(0, 2, 1, 3).reshape(groups, depth, n * PANEL)[:, :, :columns]


def _flops(*, batch, out_height, out_width, filters, kernel_height, kernel_width, channels, groups, **_):
    return 2 * batch * out_height * out_width * filters * kernel_height * kernel_width * channels // groups


@twin(flops=_flops)
def conv2d(out, images, panels, bias, *, batch, height, width, channels, filters, groups, activation, **window):
    places = window["kernel_height"] * window["kernel_width"]
    depth = places * channels // groups
    matrices = unpacked(panels, groups, depth, filters // groups)
    seen = windows(images.reshape(batch, height, width, channels), **window).reshape(-1, places, groups, channels // groups)
    y = np.concatenate([seen[:, :, g].reshape(len(seen), depth) @ matrices[g] for g in range(groups)], 1)
    out.reshape(y.shape)[...] = activate(y if bias is None else y + bias, activation)


@twin(flops=lambda **sizes: _flops(**sizes, groups=1))
def conv2d_few_channels(out, images, panels, bias, *, batch, height, width, channels, filters, activation, **window):
    seen = windows(images.reshape(batch, height, width, channels), dilation_height=1, dilation_width=1, **window)
    depth = math.prod(seen.shape[3:])
    y = seen.reshape(math.prod(seen.shape[:3]), depth) @ unpacked(panels, 1, depth, filters)[0]
    out.reshape(y.shape)[...] = activate(y if bias is None else y + bias, activation)


def _classes(kernel_height, kernel_width, stride_height, stride_width, dilation_height, dilation_width, top, left):
    """The kernel's places (ky, kx) in the order of conv2d_pack_flipped."""
    for cy in range(stride_height):
        for cx in range(stride_width):
            for ky in reversed(range(kernel_height)):
                for kx in reversed(range(kernel_width)):
                    if (cy + top - ky * dilation_height) % stride_height == 0 and (cx + left - kx * dilation_width) % stride_width == 0:
                        yield ky, kx


@twin
def conv2d_pack_flipped(panels, kernel, *, channels, filters, kernel_height, kernel_width, stride_height, stride_width,
                        dilation_height, dilation_width, top, left, groups):
    kernel = kernel.reshape(kernel_height, kernel_width, channels // groups, groups, filters // groups)
    places = list(_classes(kernel_height, kernel_width, stride_height, stride_width, dilation_height, dilation_width, top, left))
    rows = np.array([kernel[ky, kx] for ky, kx in places])            # taps, channels, groups, filters
    rows = rows.transpose(2, 0, 3, 1).reshape(groups, -1, channels // groups)
    n = -(-rows.shape[2] // PANEL)
    full = np.zeros((groups, rows.shape[1], n * PANEL), kernel.dtype)
    full[:, :, :rows.shape[2]] = rows
    full = full.reshape(groups, rows.shape[1], n, PANEL).transpose(0, 2, 1, 3)
    panels.reshape(-1)[:full.size] = full.reshape(-1)


@twin(flops=_flops)
def conv2d_d_images(d_images, d_out, panels, *, channels, filters, groups, **sizes):
    kernel_height, kernel_width = sizes["kernel_height"], sizes["kernel_width"]
    matrices = unpacked(panels, groups, kernel_height * kernel_width * (filters // groups), channels // groups)
    matrices = matrices.reshape(groups, -1, filters // groups, channels // groups)
    rows = d_out.reshape(-1, groups, filters // groups)
    d_patches = np.empty((len(rows), kernel_height, kernel_width, groups, channels // groups), d_out.dtype)
    for i, (ky, kx) in enumerate(_classes(**{name: sizes[name] for name in WINDOW})):
        for g in range(groups):
            d_patches[:, ky, kx, g] = rows[:, g] @ matrices[g, i]
    col2im(d_images, d_patches, channels=channels, **sizes)


@twin(flops=lambda **sizes: _flops(**sizes, groups=1))
def conv2d_d_few_channels(d_images, d_out, kernel, *, filters, **sizes):
    d_patches = d_out.reshape(-1, filters) @ kernel.reshape(-1, filters).T
    col2im(d_images, d_patches, **sizes)


def _by_piece(x, piece):
    """The rows of x in pieces: (pieces, piece, columns), zeros behind the last."""
    n = -(-len(x) // piece)
    full = np.zeros((n * piece, x.shape[1]), x.dtype)
    full[:len(x)] = x
    return full.reshape(n, piece, x.shape[1])


@twin(flops=_flops)
def conv2d_d_kernel(d_kernel, d_bias, d_z, d_out, out, images, *, batch, height, width, channels, filters, groups, activation, piece,
                    **window):
    own = d_out.reshape(-1, filters)
    if activation:
        own = activate_grad(own, out.reshape(own.shape), activation)
    if d_z is not None:
        d_z.reshape(own.shape)[...] = own
    if d_bias is not None:
        d_bias.reshape(-1, filters)[...] = _by_piece(own, piece).sum(1)
    places, taken, columns = window["kernel_height"] * window["kernel_width"], channels // groups, filters // groups
    seen = windows(images.reshape(batch, height, width, channels), **window)
    seen, d = _by_piece(seen.reshape(len(own), places * channels), piece), _by_piece(own, piece)
    seen = seen.reshape(len(seen), piece, places, groups, taken)
    d_kernel = d_kernel.reshape(-1, places * taken, groups, columns)
    for g in range(groups):
        rows = seen[:, :, :, g].reshape(len(seen), piece, places * taken)
        d_kernel[:, :, g] = rows.transpose(0, 2, 1) @ d[:, :, g * columns:(g + 1) * columns]


@twin(flops=lambda **sizes: _flops(**sizes, groups=1))
def conv2d_d_kernel_few_channels(d_kernel, d_bias, d_z, d_out, out, images, **sizes):
    conv2d_d_kernel(d_kernel, d_bias, d_z, d_out, out, images, groups=1, dilation_height=1, dilation_width=1, **sizes)


# ---- ops --------------------------------------------------------------------------------------------------------------

class Windows:
    """What the ops over windows of images share: where the windows lie, as sizes for their kernels."""

    def measure(self, images, window):
        """The sizes of the images and of the windows that they are seen through."""
        (out_height, top), (out_width, left) = self.places(images, window)
        batch, height, width, channels = images.shape
        (stride_height, stride_width), (dilation_height, dilation_width) = pair(self.strides), pair(self.dilation)
        return dict(batch=batch, height=height, width=width, channels=channels, out_height=out_height, out_width=out_width,
                    kernel_height=window[0], kernel_width=window[1], stride_height=stride_height, stride_width=stride_width,
                    dilation_height=dilation_height, dilation_width=dilation_width, top=top, left=left)

    def places(self, images, window):
        """((out_height, top), (out_width, left))."""
        return grid(self.name, images, tuple(window), pair(self.strides), pair(self.dilation), self.padding)

    def check(self, images, kernel, bias, filters):
        """Raise where bias or activation do not fit."""
        if bias is not None and tuple(bias.shape) != (filters,):
            raise shape_error(self.name, f"bias has shape {tuple(bias.shape)}, {filters} filters want ({filters},)",
                              bias=(bias.shape, "filters"), kernel=(kernel.shape, KERNEL))
        if self.activation not in ACTIVATIONS:
            raise ValueError(f"{self.name}: activation must be one of {', '.join(map(repr, ACTIVATIONS))}, not {self.activation!r}")


class Conv2D(Windows, Op):
    """Two-dimensional convolution, with bias and activation.

    images   (batch, height, width, channels)
    kernel   (kernel_height, kernel_width, channels / groups, filters)
    bias     (filters), or None
    returns  (batch, out_height, out_width, filters)

    padding is "valid", "same" or ((top, bottom), (left, right)); activation None, "relu", "relu6", "sigmoid" or "tanh". With groups, the
    g-th part of the filters sees the g-th part of the channels. algorithm "implicit" gathers patches as it multiplies; "im2col" makes
    a matrix of all patches in memory, and takes no groups; "winograd4x4" and "winograd2x2" are for kernels of 3 x 3, stride 1 and no
    groups (see fastdl/ops/winograd.py), "winograd_phases" for those of 3 x 3 with stride 2 (phase_winograd.py), "winograd3x3" for those of
    5 x 5 to 8 x 8 with stride 2 over up to 4 channels (strided_winograd.py);
    "auto" is the fastest for the layer's shape, and without set_winograd(False) that may be Winograd's.
    A kernel of 1 x 1 without groups is a matrix product of the pixels, whatever the algorithm.
    """

    strides: tuple = (1, 1)
    padding: object = "valid"
    dilation: tuple = (1, 1)
    groups: int = 1
    activation: str = None
    algorithm: str = "auto"
    bfloat16: bool = False
    in_place = True

    def shape(self, images, kernel, bias=None):
        if len(images.shape) != 4 or len(kernel.shape) != 4:
            raise shape_error(self.name, "images and kernel have four axes each", images=(images.shape, IMAGES),
                              kernel=(kernel.shape, KERNEL))
        groups, channels, filters = self.groups, images.shape[3], kernel.shape[3]
        if groups < 1 or channels != kernel.shape[2] * groups:
            per = f" in each of {groups} groups" if groups != 1 else ""
            raise shape_error(self.name, f"images have {channels} channels, kernel expects {kernel.shape[2]}{per}",
                              images=(images.shape, IMAGES), kernel=(kernel.shape, KERNEL))
        if not channels or not filters:
            raise shape_error(self.name, "wants at least one channel and one filter", images=(images.shape, IMAGES),
                              kernel=(kernel.shape, KERNEL))
        if filters % groups:
            raise shape_error(self.name, f"{filters} filters cannot be split into {groups} groups", kernel=(kernel.shape, KERNEL))
        self.check(images, kernel, bias, filters)
        if self.algorithm not in ("auto", "implicit", *ALGORITHMS) and (self.algorithm != "im2col" or groups > 1):
            raise ValueError(f"{self.name}: algorithm is {self.algorithm!r} with {groups} groups; known are 'auto', 'implicit' and, for one "
                             f"group, 'im2col', {', '.join(map(repr, ALGORITHMS))}")
        sizes = self.sizes = self.measure(images, kernel.shape[:2])
        self.winograd = next((w for w in (strided_winograd, phase_winograd) if w.tile_of(self, filters)), winograd)
        self.tile = self.winograd.tile_of(self, filters)
        self.pixelwise = groups == 1 and sizes["kernel_height"] == sizes["kernel_width"] == 1      # a product of matrices
        return images.shape[0], sizes["out_height"], sizes["out_width"], filters

    def forward(self, out, images, kernel, bias=None):
        kernel_height, kernel_width, taken, filters = kernel.shape
        self.images, self.kernel, self.out, self.patches = images, kernel, out, None
        depth, columns = kernel_height * kernel_width * taken, filters // self.groups
        self.act, self.pixels = ACTIVATIONS[self.activation], math.prod(out.shape[:3])
        self.bfloat16 = self.bfloat16 and depth >= LEAST_DEPTH and self.winograd is not strided_winograd      # which is faster than pairs
        if self.bfloat16:
            self.tile = bfloat16_convolution.tile_of(self)
            self.adds = () if self.pixelwise or self.algorithm == "im2col" else bfloat16_convolution.adds(self)
        if self.pixelwise and out.shape[:3] == images.shape[:3] and pair(self.strides) == (1, 1):
            self.patches = images
        elif self.pixelwise or self.algorithm == "im2col":
            self.patches = self.empty((self.pixels, depth))
            kernels.im2col(self.patches, images, **self.sizes)
        if self.patches is not None:
            product(self, out, self.patches, kernel, bias, rows=self.pixels, columns=filters, depth=depth, left_row=depth,
                    left_depth=1, right_depth=filters, right_column=1, activation=self.act)
            return
        if self.bfloat16:
            bfloat16_convolution.conv2d(self, out, images, kernel, bias)
            return
        if self.tile:
            self.winograd.convolve(self, out, images, kernel, bias)
            return
        each = panel_floats(depth, columns)
        flat = kernel.reshape(-1)

        def pack(panels):
            for g in range(self.groups):
                kernels.pack(panels[g * each:(g + 1) * each], flat[g * columns:], depth=depth, columns=columns, row=filters, column=1)

        panels = self.prepared((self.groups * each,), pack, kernel)
        if self.few_channels():
            kernels.conv2d_few_channels(out, images, panels, bias, **self.undilated(), filters=filters, activation=self.act)
            return
        kernels.conv2d(out, images, panels, bias, **self.sizes, filters=filters, groups=self.groups, activation=self.act)

    def few_channels(self):
        """Whether csrc/kernels/few_channels.c takes the images and the gradient of the kernel."""
        kernel_height, kernel_width, taken, _ = self.kernel.shape
        return self.groups == 1 and taken < FEW and kernel_height * kernel_width * taken <= FEW_DEPTH and pair(self.dilation) == (1, 1)

    def undilated(self):
        return {name: n for name, n in self.sizes.items() if name not in ("dilation_height", "dilation_width")}

    def backward(self, d_out, d_images, d_kernel, d_bias=None):
        size, filters = self.kernel.size, self.kernel.shape[3]
        implicit = self.patches is None and d_kernel is not None and not self.tile
        d_z = self.empty(d_out.shape) if self.act and not (implicit and d_images is None) else None
        if implicit:
            # Pieces are large where a piece's part of the gradient is: the sum over the pieces is to cost little.
            piece, few = max(512, -(-self.pixels // (16 if size > 8192 else 64))), not self.bfloat16 and self.few_channels()
            if few:                                                 # whole rows
                width = max(d_out.shape[2], 1)
                piece = -(-piece // width) * width
            count = -(-self.pixels // piece)
            parts, bias_parts = d_kernel, d_bias
            if count != 1:
                parts, bias_parts = self.empty((count, size)), self.empty((count, filters)) if d_bias is not None else None
            arrays = parts, bias_parts, d_z, d_out, self.out if self.act else None, self.images
            if few:
                kernels.conv2d_d_kernel_few_channels(*arrays, **self.undilated(), filters=filters, activation=self.act, piece=piece)
            else:
                conv2d_d_kernel = kernels.conv2d_d_kernel_bf16 if self.bfloat16 else kernels.conv2d_d_kernel
                conv2d_d_kernel(*arrays, **self.sizes, filters=filters, groups=self.groups, activation=self.act, piece=piece)
            if count != 1:
                kernels.sum_parts(d_kernel, parts, outer=1, count=count, size=size)
            if count != 1 and d_bias is not None:
                kernels.sum_parts(d_bias, bias_parts, outer=1, count=count, size=filters)
        else:
            d_z = d_out if d_z is None else d_z
            if self.act or d_bias is not None:
                sum_columns(self, d_bias, d_z, self.pixels, filters, d_out, self.out, self.act)
        d_z = d_out if d_z is None else d_z
        if d_kernel is not None and self.tile:
            (bfloat16_convolution if self.bfloat16 and self.tile == 4 else self.winograd).kernel_gradient(self, d_kernel, d_z)
        elif d_kernel is not None and not implicit:
            product(self, d_kernel, self.patches, d_z, rows=size // filters, columns=filters, depth=self.pixels, left_row=1,
                    left_depth=size // filters, right_depth=filters, right_column=1, long=LONG)
        if d_images is not None:
            self.backward_images(d_z, d_images)

    def backward_images(self, d_z, d_images):
        """Fill d_images from d_z, the gradient before the activation."""
        kernel_height, kernel_width, taken, filters = self.kernel.shape
        depth = kernel_height * kernel_width * taken
        if self.patches is not None:
            d_patches = d_images if self.patches is self.images else self.empty((self.pixels, depth))
            product(self, d_patches, d_z, self.kernel, rows=self.pixels, columns=depth, depth=filters, left_row=filters, left_depth=1,
                    right_depth=1, right_column=filters)
            if d_patches is not d_images:
                kernels.col2im(d_images, d_patches, **self.sizes)
        elif self.bfloat16:
            bfloat16_convolution.conv2d_d_images(self, d_images, d_z)
        elif self.tile and self.winograd is not phase_winograd:
            self.winograd.images_gradient(self, d_images, d_z)
        elif self.groups == 1 and taken < FEW and kernel_height * kernel_width * -(-filters // 16) <= MOST_VECTORS:
            kernels.conv2d_d_few_channels(d_images, d_z, self.kernel, **self.sizes, filters=filters)
        else:
            panels = self.empty((self.groups * panel_floats(kernel_height * kernel_width * filters // self.groups, taken),))
            window = {name: self.sizes[name] for name in WINDOW}
            kernels.conv2d_pack_flipped(panels, self.kernel, channels=self.sizes["channels"], filters=filters, groups=self.groups,
                                        **window)
            kernels.conv2d_d_images(d_images, d_z, panels, **self.sizes, filters=filters, groups=self.groups)

    def definition(self, images, kernel, bias=None):
        (rows, top), (columns, left) = self.places(images, kernel.shape[:2])
        (sy, sx), (dy, dx) = pair(self.strides), pair(self.dilation)
        batch, height, width, channels = images.shape
        taken, each = channels // self.groups, kernel.shape[3] // self.groups
        z = np.zeros((batch, rows, columns, kernel.shape[3]), images.dtype)
        for y, x, ky, kx in np.ndindex(rows, columns, *kernel.shape[:2]):
            at = y * sy - top + ky * dy, x * sx - left + kx * dx
            if 0 <= at[0] < height and 0 <= at[1] < width:
                for g in range(self.groups):
                    z[:, y, x, g * each:(g + 1) * each] += np.einsum(
                        "nc,cf->nf", images[:, at[0], at[1], g * taken:(g + 1) * taken], kernel[ky, kx, :, g * each:(g + 1) * each])
        z = z if bias is None else z + bias
        return activation_of(z, self.activation)

    cases = [
        case(images=(1, 1, 1, 1), kernel=(1, 1, 1, 1)),
        case(images=(2, 7, 6, 1), kernel=(3, 3, 1, 5), bias=(5,), activation="relu"),
        case(images=(2, 5, 7, 1), kernel=(2, 3, 1, 33), bias=(33,), padding="same", dilation=(1, 2)),
        case(images=(2, 7, 6, 3), kernel=(3, 2, 3, 17), bias=(17,), padding="same", strides=(2, 3), activation="tanh"),
        case(images=(1, 8, 9, 4), kernel=(3, 3, 2, 6), padding=((2, 1), (0, 3)), dilation=(2, 1), groups=2, activation="sigmoid"),
        case(images=(2, 5, 5, 3), kernel=(1, 1, 3, 34), bias=(34,), activation="relu"),
        case(images=(2, 5, 5, 3), kernel=(1, 1, 3, 4), strides=(2, 2)),
        case(images=(2, 5, 5, 3), kernel=(3, 3, 3, 5), bias=np.float32([-3, 0, 3, 6, 9]), activation="relu6"),
        case(images=(1, 9, 8, 2), kernel=(2, 3, 2, 3), strides=(3, 2), dilation=(2, 3), padding=((1, 2), (3, 0))),
        case(images=(1, 4, 19, 5), kernel=(2, 9, 5, 18), padding="same"), case(images=(1, 3, 24, 1), kernel=(2, 7, 1, 16), padding="same"),
        case(images=(0, 4, 4, 2), kernel=(3, 3, 2, 3), bias=(3,)),
        case(images=(1, 4, 0, 2), kernel=(3, 3, 2, 3), bias=(3,), padding="same"),
        case(images=(2, 6, 5, 3), kernel=(3, 2, 3, 4), bias=(4,), padding="same", strides=(2, 1), activation="relu", algorithm="im2col"),
        case(images=(2, 7, 6, 5), kernel=(3, 3, 5, 7), bias=(7,), activation="relu", bfloat16=True),
        case(images=(2, 7, 6, 33), kernel=(3, 2, 33, 17), bias=(17,), padding="same", strides=(2, 3), activation="tanh", bfloat16=True),
        case(images=(1, 8, 9, 16), kernel=(3, 3, 8, 6), padding=((2, 1), (0, 3)), dilation=(2, 1), groups=2, bfloat16=True),
        case(images=(1, 9, 8, 9), kernel=(2, 3, 9, 3), strides=(3, 2), dilation=(2, 3), padding=((1, 2), (3, 0)), bfloat16=True),
        case(images=(2, 5, 5, 35), kernel=(1, 1, 35, 34), bias=(34,), activation="relu", bfloat16=True),
        case(images=(2, 5, 6, 35), kernel=(3, 3, 35, 33), bias=(33,), padding="same", activation="relu", bfloat16=True),
        case(images=(1, 7, 4, 32), kernel=(3, 3, 32, 34), padding=((0, 1), (2, 0)), bfloat16=True),
        case(images=(2, 5, 6, 35), kernel=(3, 3, 35, 33), bias=(33,), padding="same", activation="relu", algorithm="winograd2x2", bfloat16=True),
        case(images=(2, 6, 5, 11), kernel=(3, 2, 11, 4), padding="same", activation="relu", algorithm="im2col", bfloat16=True),
        *winograd.cases, *strided_winograd.cases, *phase_winograd.cases,
    ]
    bench = [case(images=(32, 28, 28, 1), kernel=(3, 3, 1, 32), bias=(32,), activation="relu"),
             case(images=(8, 224, 224, 3), kernel=(7, 7, 3, 64), bias=(64,), padding="same", strides=(2, 2)),
             case(images=(8, 56, 56, 64), kernel=(3, 3, 64, 64), bias=(64,), activation="relu", padding="same"),
             case(images=(8, 28, 28, 128), kernel=(3, 3, 128, 128), bias=(128,), padding="same"),
             case(images=(8, 14, 14, 256), kernel=(3, 3, 256, 256), bias=(256,), padding="same"),
             case(images=(8, 7, 7, 512), kernel=(3, 3, 512, 512), bias=(512,), padding="same"),
             case(images=(8, 56, 56, 64), kernel=(1, 1, 64, 256), bias=(256,)),
             case(images=(8, 56, 56, 64), kernel=(1, 1, 64, 128), strides=(2, 2)),
             case(images=(8, 56, 56, 64), kernel=(3, 3, 64, 128), padding="same", strides=(2, 2)),
             *winograd.bench]


def conv2d(images, kernel, bias=None, strides=(1, 1), padding="valid", dilation=(1, 1), groups=1, activation=None,  # noqa: F811
           algorithm="auto"):
    """Two-dimensional convolution, with bias and activation: (batch, out_height, out_width, filters).

    images   (batch, height, width, channels)
    kernel   (kernel_height, kernel_width, channels / groups, filters)
    bias     (filters), or None

    strides and dilation are an integer for both axes or one for each; the other options are those of Conv2D. As many groups as
    channels are a depthwise convolution.
    """
    if groups > 1 and len(kernel.shape) == 4 and algorithm == "auto":
        from .depthwise import MOST_PLACES, depthwise_conv2d          # which use this file
        from .shape import reshape
        kernel_height, kernel_width, taken, filters = kernel.shape
        if taken == 1 and groups == images.shape[-1] and filters % groups == 0 and kernel_height * kernel_width <= MOST_PLACES:
            kernel = reshape(kernel, (kernel_height, kernel_width, groups, filters // groups))
            return depthwise_conv2d(images, kernel, bias, strides, padding, dilation, activation)
    return Conv2D.apply(images, kernel, bias, strides=strides, padding=padding, dilation=dilation, groups=groups,
                        activation=activation, algorithm=algorithm)
