"""Convolutions over (batch, height, width, channels)."""

import numpy as np

from ..errors import shape_error
from ..op import ACTIVATIONS, Op, case, kernels, twin
from .linear import PANEL, activate, panel_floats, product, sum_columns

__all__ = ["conv2d"]

IMAGES, KERNEL = "batch, height, width, channels", "height, width, channels / groups, filters"


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

def patches(images, out_height, out_width, kernel_height, kernel_width, stride_height, stride_width, dilation_height,
            dilation_width, top, left, fill=0):
    """(batch, out_height, out_width, kernel_height, kernel_width, channels), a view: what each window sees."""
    batch, height, width, channels = images.shape
    rows = max((out_height - 1) * stride_height + (kernel_height - 1) * dilation_height + 1, top + height)
    columns = max((out_width - 1) * stride_width + (kernel_width - 1) * dilation_width + 1, left + width)
    padded = np.full((batch, rows, columns, channels), fill, images.dtype)
    padded[:, top:top + height, left:left + width] = images
    b, y, x, c = padded.strides
    return np.lib.stride_tricks.as_strided(
        padded, (batch, out_height, out_width, kernel_height, kernel_width, channels),
        (b, y * stride_height, x * stride_width, y * dilation_height, x * dilation_width, c))


def unpacked(panels, groups, depth, columns):
    """(groups, depth, columns): the matrices in panels."""
    n = -(-columns // PANEL)
    whole = panels.reshape(-1)[:groups * n * depth * PANEL].reshape(groups, n, depth, PANEL)
    return whole.transpose(0, 2, 1, 3).reshape(groups, depth, n * PANEL)[:, :, :columns]


def activate_grad(d, y, activation):
    """What csrc/kernels/convolution.c's activate_grad does, in NumPy."""
    if activation == 1:
        return np.where(y > 0, d, 0)
    return d * y * (1 - y) if activation == 2 else d * (1 - y * y) if activation == 3 else d


def _flops(*, batch, out_height, out_width, filters, kernel_height, kernel_width, channels, groups, **_):
    return 2 * batch * out_height * out_width * filters * kernel_height * kernel_width * channels // groups


@twin(flops=_flops)
def conv2d(out, images, panels, bias, *, batch, height, width, channels, out_height, out_width, filters, kernel_height,
           kernel_width, stride_height, stride_width, dilation_height, dilation_width, top, left, groups, activation):
    seen = patches(images.reshape(batch, height, width, channels), out_height, out_width, kernel_height, kernel_width,
                   stride_height, stride_width, dilation_height, dilation_width, top, left)
    depth = kernel_height * kernel_width * channels // groups
    matrices = unpacked(panels, groups, depth, filters // groups)
    seen = seen.reshape(-1, kernel_height * kernel_width, groups, channels // groups)
    y = np.concatenate([seen[:, :, g].reshape(len(seen), depth) @ matrices[g] for g in range(groups)], 1)
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
def conv2d_d_images(d_images, d_out, panels, *, batch, height, width, channels, out_height, out_width, filters, kernel_height,
                    kernel_width, stride_height, stride_width, dilation_height, dilation_width, top, left, groups):
    taken, columns = filters // groups, channels // groups
    matrices = unpacked(panels, groups, kernel_height * kernel_width * taken, columns).reshape(groups, -1, taken, columns)
    padded = np.zeros((batch, max((out_height - 1) * stride_height + (kernel_height - 1) * dilation_height + 1, top + height),
                       max((out_width - 1) * stride_width + (kernel_width - 1) * dilation_width + 1, left + width), channels),
                      d_out.dtype)
    d_out = d_out.reshape(batch, out_height, out_width, filters)
    places = _classes(kernel_height, kernel_width, stride_height, stride_width, dilation_height, dilation_width, top, left)
    for i, (ky, kx) in enumerate(places):
        y, x = ky * dilation_height, kx * dilation_width
        seen = padded[:, y:y + out_height * stride_height:stride_height, x:x + out_width * stride_width:stride_width]
        for g in range(groups):
            seen[:, :out_height, :out_width, g * columns:(g + 1) * columns] += d_out[..., g * taken:(g + 1) * taken] @ matrices[g, i]
    d_images.reshape(batch, height, width, channels)[...] = padded[:, top:top + height, left:left + width]


def _by_piece(x, piece):
    """The rows of x in pieces: (pieces, piece, columns), zeros behind the last."""
    n = -(-len(x) // piece)
    full = np.zeros((n * piece, x.shape[1]), x.dtype)
    full[:len(x)] = x
    return full.reshape(n, piece, x.shape[1])


@twin(flops=_flops)
def conv2d_d_kernel(d_kernel, d_bias, d_z, d_out, out, images, *, batch, height, width, channels, out_height, out_width, filters,
                    kernel_height, kernel_width, stride_height, stride_width, dilation_height, dilation_width, top, left, groups,
                    activation, piece):
    pixels = batch * out_height * out_width
    own = d_out.reshape(pixels, filters)
    if activation:
        own = activate_grad(own, out.reshape(pixels, filters), activation)
    if d_z is not None:
        d_z.reshape(own.shape)[...] = own
    if d_bias is not None:
        d_bias.reshape(-1, filters)[...] = _by_piece(own, piece).sum(1)
    seen = patches(images.reshape(batch, height, width, channels), out_height, out_width, kernel_height, kernel_width,
                   stride_height, stride_width, dilation_height, dilation_width, top, left)
    places, taken, columns = kernel_height * kernel_width, channels // groups, filters // groups
    left_, right = _by_piece(seen.reshape(pixels, places * channels), piece), _by_piece(own, piece)
    left_ = left_.reshape(len(left_), piece, places, groups, taken)
    d_kernel = d_kernel.reshape(-1, places * taken, groups, columns)
    for g in range(groups):
        rows = left_[:, :, :, g].reshape(len(left_), piece, places * taken)
        d_kernel[:, :, g] = rows.transpose(0, 2, 1) @ right[:, :, g * columns:(g + 1) * columns]


# ---- ops --------------------------------------------------------------------------------------------------------------

class Conv2D(Op):
    """Two-dimensional convolution, with bias and activation.

    images   (batch, height, width, channels)
    kernel   (kernel_height, kernel_width, channels / groups, filters)
    bias     (filters), or None
    returns  (batch, out_height, out_width, filters)

    padding is "valid", "same" or ((top, bottom), (left, right)); activation None, "relu", "sigmoid" or "tanh". With groups, the
    g-th part of the filters sees the g-th part of the channels.
    """

    strides: tuple = (1, 1)
    padding: object = "valid"
    dilation: tuple = (1, 1)
    groups: int = 1
    activation: str = None

    def shape(self, images, kernel, bias=None):
        if len(images.shape) != 4 or len(kernel.shape) != 4:
            raise shape_error(self.name, "images and kernel have four axes each", images=(images.shape, IMAGES),
                              kernel=(kernel.shape, KERNEL))
        groups, channels, filters = self.groups, images.shape[3], kernel.shape[3]
        if groups < 1 or channels != kernel.shape[2] * groups:
            per = f" in each of {groups} groups" if groups != 1 else ""
            raise shape_error(self.name, f"images have {channels} channels, kernel expects {kernel.shape[2]}{per}",
                              images=(images.shape, IMAGES), kernel=(kernel.shape, KERNEL))
        if filters % groups:
            raise shape_error(self.name, f"{filters} filters cannot be split into {groups} groups", kernel=(kernel.shape, KERNEL))
        if bias is not None and tuple(bias.shape) != (filters,):
            raise shape_error(self.name, f"bias has shape {tuple(bias.shape)}, {filters} filters want ({filters},)",
                              bias=(bias.shape, "filters"), kernel=(kernel.shape, KERNEL))
        if self.activation not in ACTIVATIONS:
            raise ValueError(f"{self.name}: activation must be one of {', '.join(map(repr, ACTIVATIONS))}, not {self.activation!r}")
        (rows, _), (columns, _) = self.places(images, kernel)
        return images.shape[0], rows, columns, filters

    def places(self, images, kernel):
        return grid(self.name, images, kernel.shape[:2], pair(self.strides), pair(self.dilation), self.padding)

    def forward(self, out, images, kernel, bias=None):
        batch, height, width, channels = images.shape
        kernel_height, kernel_width, taken, filters = kernel.shape
        (out_height, top), (out_width, left) = self.places(images, kernel)
        (stride_height, stride_width), (dilation_height, dilation_width) = pair(self.strides), pair(self.dilation)
        self.images, self.kernel, self.out, self.act = images, kernel, out, ACTIVATIONS[self.activation]
        self.sizes = dict(
            batch=batch, height=height, width=width, channels=channels, out_height=out_height, out_width=out_width, filters=filters,
            kernel_height=kernel_height, kernel_width=kernel_width, stride_height=stride_height, stride_width=stride_width,
            dilation_height=dilation_height, dilation_width=dilation_width, top=top, left=left, groups=self.groups)
        self.plain = images.shape[1:3] == (out_height, out_width) and self.groups == kernel_height == kernel_width == 1
        if self.plain:
            product(self, out, images, kernel, bias, rows=batch * height * width, columns=filters, depth=channels, left_row=channels,
                    left_depth=1, right_depth=filters, right_column=1, activation=self.act)
            return
        depth, columns = kernel_height * kernel_width * taken, filters // self.groups
        each = panel_floats(depth, columns)
        panels = self.empty((self.groups * each,))
        flat = kernel.reshape(-1)
        for g in range(self.groups):
            kernels.pack(panels[g * each:(g + 1) * each], flat[g * columns:], depth=depth, columns=columns, row=filters, column=1)
        kernels.conv2d(out, images, panels, bias, **self.sizes, activation=self.act)

    def backward(self, d_out, d_images, d_kernel, d_bias=None):
        sizes, filters, pixels = self.sizes, self.sizes["filters"], d_out.size // max(d_out.shape[3], 1)
        out = self.out if self.act else None
        d_z = self.empty(d_out.shape) if self.act and (d_images is not None or d_kernel is None) else None
        if d_kernel is not None:
            # Pieces are large where a piece's part of the gradient is: the sum over the pieces is to cost little.
            piece = max(512, -(-pixels // (16 if d_kernel.size > 8192 else 64)))
            count = -(-pixels // piece)
            parts, bias_parts = self.empty((count, d_kernel.size)), self.empty((count, filters)) if d_bias is not None else None
            kernels.conv2d_d_kernel(parts, bias_parts, d_z, d_out, out, self.images, **sizes, activation=self.act, piece=piece)
            kernels.sum_parts(d_kernel, parts, outer=1, count=count, size=d_kernel.size)
            if d_bias is not None:
                kernels.sum_parts(d_bias, bias_parts, outer=1, count=count, size=filters)
        else:
            if self.act:
                kernels.activation_grad(d_z, d_out, out, size=d_out.size, activation=self.act)
            if d_bias is not None:
                sum_columns(self, d_bias, d_out if d_z is None else d_z, pixels, filters)
        if d_images is not None:
            self.backward_images(d_out if d_z is None else d_z, d_images, pixels)

    def backward_images(self, d_z, d_images, pixels):
        kernel_height, kernel_width, taken, filters = self.kernel.shape
        if self.plain:
            product(self, d_images, d_z, self.kernel, rows=pixels, columns=taken, depth=filters, left_row=filters, left_depth=1,
                    right_depth=1, right_column=filters)
            return
        panels = self.empty((self.groups * panel_floats(kernel_height * kernel_width * filters // self.groups, taken),))
        flip = {k: v for k, v in self.sizes.items() if k not in ("batch", "height", "width", "out_height", "out_width")}
        kernels.conv2d_pack_flipped(panels, self.kernel, **flip)
        kernels.conv2d_d_images(d_images, d_z, panels, **self.sizes)

    def definition(self, images, kernel, bias=None):
        (rows, top), (columns, left) = self.places(images, kernel)
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
        return {None: lambda: z, "linear": lambda: z, "relu": lambda: np.maximum(z, 0), "tanh": lambda: np.tanh(z),
                "sigmoid": lambda: 1 / (1 + np.exp(-z))}[self.activation]()

    cases = [
        case(images=(1, 1, 1, 1), kernel=(1, 1, 1, 1)),
        case(images=(2, 7, 6, 1), kernel=(3, 3, 1, 5), bias=(5,), activation="relu"),
        case(images=(2, 5, 7, 1), kernel=(2, 3, 1, 33), bias=(33,), padding="same", dilation=(1, 2)),
        case(images=(2, 7, 6, 3), kernel=(3, 2, 3, 17), bias=(17,), padding="same", strides=(2, 3), activation="tanh"),
        case(images=(1, 8, 9, 4), kernel=(3, 3, 2, 6), padding=((2, 1), (0, 3)), dilation=(2, 1), groups=2, activation="sigmoid"),
        case(images=(2, 5, 5, 3), kernel=(1, 1, 3, 34), bias=(34,), activation="relu"),
        case(images=(2, 5, 5, 3), kernel=(1, 1, 3, 4), strides=(2, 2)),
        case(images=(1, 9, 8, 2), kernel=(2, 3, 2, 3), strides=(3, 2), dilation=(2, 3), padding=((1, 2), (3, 0))),
        case(images=(0, 4, 4, 2), kernel=(3, 3, 2, 3), bias=(3,)),
    ]
    bench = [case(images=(32, 28, 28, 1), kernel=(3, 3, 1, 32), bias=(32,), activation="relu"),
             case(images=(8, 56, 56, 64), kernel=(3, 3, 64, 64), bias=(64,), activation="relu", padding="same")]


def conv2d(images, kernel, bias=None, strides=(1, 1), padding="valid", dilation=(1, 1), groups=1, activation=None):  # noqa: F811
    return Conv2D.apply(images, kernel, bias, strides=strides, padding=padding, dilation=dilation, groups=groups, activation=activation)


conv2d.__doc__ = Conv2D.__doc__
