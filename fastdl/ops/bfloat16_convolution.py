"""Convolutions of operands rounded to bfloat16: twins of their kernels, which are those of float32 on rounded numbers, and calls."""

import numpy as np

from .. import _core, config
from ..op import kernels, twin
from . import convolution, linear
from .bfloat16 import pack, pairs, panel_pairs, rounded, unpaired

__all__ = []


def _flops(**sizes):
    return convolution._flops(**sizes)


def _class_rows(taken, window):
    """Rows of each class of conv2d_pack_flipped, in pairs of its own."""
    rows = []
    for cy in range(window["stride_height"]):
        for cx in range(window["stride_width"]):
            v = sum((cy + window["top"] - k * window["dilation_height"]) % window["stride_height"] == 0 for k in range(window["kernel_height"]))
            h = sum((cx + window["left"] - k * window["dilation_width"]) % window["stride_width"] == 0 for k in range(window["kernel_width"]))
            rows.append(v * h * taken)
    return rows


def _float_panels(panels, groups, rows, columns, dtype):
    """Panels of pairs as panels of numbers; of their rows these runs, each of which begins a pair."""
    panels = panels.reshape(groups * -(-columns // linear.PANEL), -1, linear.PANEL)
    runs, at = [panels[:, :0].view("float32")], 0
    for n in rows:
        runs.append(unpaired(panels[:, at:at + -(-n // 2)], n))
        at += -(-n // 2)
    return np.concatenate(runs, 1).astype(dtype).reshape(-1)


@twin(flops=_flops)
def conv2d_bf16(out, images, panels, bias, *, channels, filters, kernel_height, kernel_width, groups, **sizes):
    depth = kernel_height * kernel_width * channels // groups
    panels = _float_panels(panels, groups, [depth], filters // groups, images.dtype)
    _core.twins["conv2d"](out, rounded(images), panels, bias, channels=channels, filters=filters, kernel_height=kernel_height,
                          kernel_width=kernel_width, groups=groups, **sizes)


@twin
def conv2d_pack_flipped_bf16(panels, kernel, *, channels, filters, groups, **window):
    columns, taken = channels // groups, filters // groups
    n = -(-columns // linear.PANEL) * groups
    full = np.empty(n * linear.PANEL * window["kernel_height"] * window["kernel_width"] * taken, kernel.dtype)
    _core.twins["conv2d_pack_flipped"](full, kernel, channels=channels, filters=filters, groups=groups, **window)
    full, at, found = rounded(full).astype("float32").reshape(n, -1, linear.PANEL), 0, []
    for rows in _class_rows(taken, window):
        run = full[:, at:at + rows]
        at += rows
        bits = np.concatenate([run, np.zeros_like(run[:, :rows % 2])], 1).view("uint32") >> 16
        found.append(bits[:, ::2] | bits[:, 1::2] << 16)
    panels.reshape(-1)[...] = np.concatenate(found, 1).reshape(-1)


@twin(flops=_flops)
def conv2d_d_images_bf16(d_images, d_out, panels, *, channels, filters, groups, **sizes):
    window = {name: sizes[name] for name in convolution.WINDOW}
    panels = _float_panels(panels, groups, _class_rows(filters // groups, window), channels // groups, d_out.dtype)
    _core.twins["conv2d_d_images"](d_images, rounded(d_out), panels, channels=channels, filters=filters, groups=groups, **sizes)


@twin(flops=_flops)
def conv2d_d_kernel_bf16(d_kernel, d_bias, d_z, d_out, out, images, *, filters, activation, piece, **sizes):
    if d_z is None:
        d_z = np.empty_like(d_out)
    exact = np.empty_like(d_kernel)
    _core.twins["conv2d_d_kernel"](exact, d_bias, d_z, d_out, out, images, filters=filters, activation=activation, piece=piece, **sizes)
    _core.twins["conv2d_d_kernel"](d_kernel, None, None, rounded(d_z), None, rounded(images), filters=filters, activation=0, piece=piece, **sizes)


# ---- Winograd's algorithm F(2 x 2, 3 x 3) ----

def _window_points(x):
    """B^T d along the last axis but one (4)."""
    a, b, c, d = np.moveaxis(x, -2, 0)
    return np.stack([a - c, b + c, c - b, b - d], -2)


def _kernel_points(g):
    """G g along the last axis but one (3)."""
    a, b, c = np.moveaxis(g, -2, 0)
    both, middle = (a + c) * np.float32(0.5), b * np.float32(0.5)
    return np.stack([a, both + middle, both - middle, c], -2)


@twin
def winograd_pack_bf16(panels, kernel, *, rows, columns, flipped, tap, row, column):
    g = linear.strided(kernel, (9, rows, columns), tap, row, column).astype("float32")
    g = (g[::-1] if flipped else g).reshape(3, 3, rows, columns).transpose(2, 3, 1, 0)[..., None]       # kx, ky
    u = _kernel_points(_kernel_points(g)[..., 0].swapaxes(-1, -2)[..., None])[..., 0]                   # rows, columns, ky, kx
    n = -(-columns // linear.PANEL)
    full = np.zeros((16, rows, n * linear.PANEL), "float32")
    full[..., :columns] = u.transpose(2, 3, 0, 1).reshape(16, rows, columns)
    panels.reshape(-1)[...] = pairs(full).reshape(16, -1, n, linear.PANEL).swapaxes(1, 2).reshape(-1)


def _winograd_flops(*, batch, out_height, out_width, filters, channels, **_):
    return 2 * batch * out_height * out_width * filters * 9 * channels


@twin(flops=_winograd_flops)
def winograd_bf16(out, images, panels, bias, *, batch, height, width, channels, out_height, out_width, filters, top, left, activation,
                  block, parts):
    down, across, n = -(-out_height // 2), -(-out_width // 2), -(-filters // linear.PANEL)
    d = convolution.windows(images.reshape(batch, height, width, channels).astype("float32"), out_height=down, out_width=across, kernel_height=4,
                            kernel_width=4, stride_height=2, stride_width=2, dilation_height=1, dilation_width=1, top=top, left=left)
    d = d.transpose(0, 1, 2, 5, 4, 3)[..., None]                                                        # …, channels, x, y
    v = _window_points(_window_points(d)[..., 0].swapaxes(-1, -2)[..., None])[..., 0]                   # …, channels, y, x
    v = rounded(v.reshape(-1, channels, 16)).transpose(2, 0, 1).astype(out.dtype)
    u = unpaired(panels.reshape(16, n, -1, linear.PANEL), channels).swapaxes(1, 2).reshape(16, channels, -1)[..., :filters]
    m = (v @ u.astype(out.dtype)).reshape(4, 4, batch, down, across, filters)
    back = lambda x: np.stack([x[0] + x[1] + x[2], x[1] - x[2] - x[3]])
    y = back(back(m).swapaxes(0, 1))                                                                    # x, y, batch, down, across, filters
    y = y.transpose(2, 3, 1, 4, 0, 5).reshape(batch, 2 * down, 2 * across, filters)[:, :out_height, :out_width]
    out.reshape(y.shape)[...] = linear.activate(y if bias is None else y + bias, activation)


def suits_winograd(op):
    """Whether op is computed by Winograd's algorithm: by its layer's shape, and as its algorithm and set_winograd allow."""
    sizes, (height, width, rows, columns) = op.sizes, op.kernel.shape
    if not (config.winograd_enabled() if op.algorithm == "auto" else op.algorithm.startswith("winograd")):
        return False
    ones = (sizes[name] for name in ("stride_height", "stride_width", "dilation_height", "dilation_width"))
    return (height == width == 3 and op.groups == 1 and all(n == 1 for n in ones) and max(sizes["top"], sizes["left"]) <= 2
            and 32 <= min(rows, columns) and max(rows, columns) <= 1024)


def _winograd(op, out, images, kernel, bias, flipped, sizes, activation=0):
    """The convolution of the images with the kernel, or with its transpose in all axes."""
    rows, columns = kernel.shape[2:] if not flipped else kernel.shape[:1:-1]
    panels = op.prepared((16 * panel_pairs(rows, columns),), lambda panels: kernels.winograd_pack_bf16(
        panels, kernel, rows=rows, columns=columns, flipped=flipped, tap=rows * columns, row=1 if flipped else columns,
        column=rows if flipped else 1), kernel, dtype="uint32")
    tiles = sizes["batch"] * -(-sizes["out_height"] // 2) * -(-sizes["out_width"] // 2)
    block = max(14, min(84, (1 << 14) // rows // 14 * 14))
    parts = min(-(-columns // linear.PANEL), -(-8 // max(-(-tiles // block), 1)))        # each transforms the windows anew
    kernels.winograd_bf16(out, images, panels, bias, channels=rows, filters=columns, activation=activation, block=block, parts=parts, **sizes)


def conv2d(op, out, images, kernel, bias):
    """The convolution of op."""
    depth, filters = kernel[..., 0].size, kernel.shape[3]
    if suits_winograd(op):
        names = "batch", "height", "width", "out_height", "out_width", "top", "left"
        return _winograd(op, out, images, kernel, bias, 0, {name: op.sizes[name] for name in names}, op.act)
    columns = filters // op.groups
    panels = pack(op, kernel, depth=depth, columns=columns, b_depth=filters, b_column=1, inner=op.groups, b_inner=columns)
    kernels.conv2d_bf16(out, images, panels, bias, **op.sizes, filters=filters, groups=op.groups, activation=op.act)


def conv2d_d_images(op, d_images, d_z):
    """The gradient of op's images from that of its result before the activation."""
    _, _, taken, filters = op.kernel.shape
    if suits_winograd(op):
        s = op.sizes
        return _winograd(op, d_images, d_z, op.kernel, None, 1, dict(
            batch=s["batch"], height=s["out_height"], width=s["out_width"], out_height=s["height"], out_width=s["width"], top=2 - s["top"],
            left=2 - s["left"]))
    window = {name: op.sizes[name] for name in convolution.WINDOW}
    size = sum(panel_pairs(rows, taken) for rows in _class_rows(filters // op.groups, window))
    panels = op.empty((op.groups * size,), "uint32")
    kernels.conv2d_pack_flipped_bf16(panels, op.kernel, channels=op.sizes["channels"], filters=filters, groups=op.groups, **window)
    kernels.conv2d_d_images_bf16(d_images, d_z, panels, **op.sizes, filters=filters, groups=op.groups)
