"""Convolutions of operands rounded to bfloat16: twins of their kernels, which are those of float32 on rounded numbers, and calls."""

import numpy as np

from .. import _core
from ..op import kernels, twin
from . import convolution, linear
from .bfloat16 import panel_pairs, rounded, unpaired

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


def conv2d(op, out, images, kernel, bias):
    """The convolution of op."""
    depth, filters = kernel[..., 0].size, kernel.shape[3]
    columns = filters // op.groups
    panels = op.empty((op.groups * panel_pairs(depth, columns),), "uint32")
    kernels.pack_bf16(panels, kernel, outer=1, inner=op.groups, depth=depth, columns=columns, b_outer=0, b_inner=columns, b_depth=filters,
                      b_column=1)
    kernels.conv2d_bf16(out, images, panels, bias, **op.sizes, filters=filters, groups=op.groups, activation=op.act)


def conv2d_d_images(op, d_images, d_z):
    """The gradient of op's images from that of its result before the activation."""
    _, _, taken, filters = op.kernel.shape
    window = {name: op.sizes[name] for name in convolution.WINDOW}
    size = sum(panel_pairs(rows, taken) for rows in _class_rows(filters // op.groups, window))
    panels = op.empty((op.groups * size,), "uint32")
    kernels.conv2d_pack_flipped_bf16(panels, op.kernel, channels=op.sizes["channels"], filters=filters, groups=op.groups, **window)
    kernels.conv2d_d_images_bf16(d_images, d_z, panels, **op.sizes, filters=filters, groups=op.groups)
