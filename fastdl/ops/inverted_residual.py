"""The block of MobileNet in one: 1x1 convolution to many channels, depthwise convolution, 1x1 convolution to few. For predictions."""

import math

import numpy as np

from ..errors import shape_error
from ..op import ACTIVATIONS, Op, case, kernels, twin
from .bfloat16 import panel_pairs, rounded_if, unpaired
from .convolution import IMAGES, Windows, extent, unpacked, windows
from .linear import activate, activation_of, panel_floats

__all__ = []

MOST_DOWN, GROUP, CHUNK = 8, 32, 128                       # as in csrc/kernels/inverted_residual.c
BAND, SCRATCH = 1 << 16, 1 << 19                            # the same; words of a thread's scratch
FEW_PIXELS, PARTS, MOST_WEIGHTS = 64, 4, 1 << 17     # parts of the channels for so few pixels; weights that each thread may read by itself


def chunks(channels, parts):
    """[(part, first, stop)] of the channels that are multiplied at once; without parts all of them are."""
    edges = [min(-(-channels // GROUP) * i // parts * GROUP, channels) for i in range(parts + 1)] if parts else []
    return [(i, c, min(c + CHUNK, stop)) for i, (first, stop) in enumerate(zip(edges, edges[1:])) for c in range(first, stop, CHUNK)] or [(0, 0, channels)]


def _flops(*, batch, height, width, taken, channels, filters, out_height, out_width, kernel_height, kernel_width, **_):
    expand = height * width * taken if taken != channels else 0
    return 2 * batch * channels * (expand + out_height * out_width * (kernel_height * kernel_width + filters))


def words(bfloat16, depth, columns):
    """Size of a (depth, columns) matrix in panels."""
    return panel_pairs(depth, columns) if bfloat16 else panel_floats(depth, columns)


def _matrix(panels, depth, columns, dtype):
    """The (depth, columns) matrix that begins panels, of numbers or of pairs."""
    if panels.dtype != np.uint32:
        return unpacked(panels, 1, depth, columns)[0]
    n = -(-columns // GROUP)
    found = unpaired(panels.reshape(-1)[:panel_pairs(depth, columns)].reshape(n, -1, GROUP), depth)
    return found.swapaxes(0, 1).reshape(depth, n * GROUP)[:, :columns].astype(dtype)


@twin(flops=_flops)
def inverted_residual(out, images, expand, expand_bias, kernel, bias, project, project_bias, residual, *, batch, height, width, taken,
                      channels, filters, out_height, out_width, expand_activation, activation, project_activation, parts, rounded, **window):
    add = lambda y, b: y if b is None else y + b
    x = images.reshape(batch, height, width, taken)
    if expand is not None:
        x = activate(add(rounded_if(rounded, x) @ _matrix(expand, taken, channels, x.dtype), expand_bias), expand_activation)
    seen = windows(x, out_height=out_height, out_width=out_width, dilation_height=1, dilation_width=1, **window)
    y = activate(add((seen * kernel.reshape(seen.shape[3:])).sum((3, 4)), bias), activation)
    y = rounded_if(rounded, y.reshape(-1, channels))
    z = np.zeros((max(parts, 1), len(y), filters), y.dtype)
    for part, first, stop in chunks(channels, parts):
        z[part] += y[:, first:stop] @ _matrix(project.reshape(-1)[words(rounded, first, filters):], stop - first, filters, y.dtype)
    z[-1] = activate(add(add(z[-1], project_bias), None if residual is None else residual.reshape(z[-1].shape)), project_activation)
    out.reshape(z.shape)[...] = z


class InvertedResidual(Windows, Op):
    """conv2d(depthwise_conv2d(conv2d(images, expand), kernel), project) + residual, each with bias and activation, without gradients.

    images         (batch, height, width, taken)
    expand         (1, 1, taken, channels), or None: the depthwise convolution sees the images, and taken is channels
    expand_bias    (channels), or None
    kernel         (kernel_height, kernel_width, channels, 1)
    bias           (channels), or None
    project        (1, 1, channels, filters)
    project_bias   (filters), or None
    residual       as the result, or None
    returns        (batch, out_height, out_width, filters)

    strides and padding are those of the depthwise convolution; activations those after each of the three, the last after the residual.
    The result is that of the single convolutions, but for the order of its sums where pixels are few. In bfloat16 both operands of the 1x1
    convolutions are rounded, however few the channels are.
    """

    strides: tuple = (1, 1)
    padding: object = "valid"
    activations: tuple = (None, None, None)
    bfloat16: bool = False
    dilation = (1, 1)
    differentiable = False

    @staticmethod
    def parts(images, kernel, out, stride, expands, activation, bfloat16):
        """Parts into which the channels are cut, where pixels are few; 0: rows are cut. None: what a thread keeps has no place in its scratch.

        images, kernel and out are shapes; stride is that of rows; expands: whether there is a first convolution; activation is that of the last.
        """
        (_, height, width, taken), (down, _, channels, times), (out_height, out_width) = images, kernel, out[1:3]
        if times != 1 or down > MOST_DOWN:
            return None
        pitch = lambda n: (-(-n // 32) | 1) * 16 if bfloat16 else n + 32           # at least that of csrc/kernels/inverted_residual.c
        given, line = (width * pitch(taken), out_width * channels) if bfloat16 else (0, 0)
        parted = height * (width * GROUP + given) + line + out_height * out_width * pitch(CHUNK) + 64 <= SCRATCH
        if parted and expands and activation in (None, "linear") and out_height * out_width <= FEW_PIXELS:
            return PARTS
        row = out_width * pitch(channels)
        seen = min((max(BAND // max(row, 1), 1) - 1) * stride + down, height)
        return 0 if down * width * channels + seen * given + line + max(BAND, row) + 64 <= SCRATCH else None

    @classmethod
    def pays(cls, images, expand, kernel, project, strides, padding, activation, bfloat16, residual=None):
        """Whether it is faster than the single convolutions, for shapes."""
        padding = (padding, padding) if isinstance(padding, str) else padding
        out = images[0], *(extent(*axis)[0] for axis in zip(images[1:3], kernel[:2], strides, (1, 1), padding)), project[3]
        if residual not in (None, out) or min(out[1:3]) < 1:
            return False
        parts = cls.parts(images, kernel, out, strides[0], expand is not None, activation, bfloat16)
        weights = kernel[2] * (project[3] + (expand[2] if expand else 0))
        return bool(parts) or parts == 0 and out[1] * out[2] > FEW_PIXELS and weights <= MOST_WEIGHTS

    def shape(self, images, expand, expand_bias, kernel, bias, project, project_bias=None, residual=None):
        shapes = dict(images=(images.shape, IMAGES), kernel=(kernel.shape, "height, width, channels, 1"),
                      project=(project.shape, "1, 1, channels, filters"))
        if expand is not None:
            shapes["expand"] = expand.shape, "1, 1, taken, channels"
        if any(len(shape) != 4 for shape, _ in shapes.values()):
            raise shape_error(self.name, "images and kernels have four axes each", **shapes)
        channels, filters = kernel.shape[2], project.shape[3]
        given = images.shape[3:] if expand is None else expand.shape[3:]
        if given != (channels,) or expand is not None and expand.shape[:3] != (1, 1, images.shape[3]) or project.shape[:3] != (1, 1, channels):
            raise shape_error(self.name, "the channels do not fit", **shapes)
        for name, b, size in ("expand_bias", expand_bias, channels), ("bias", bias, channels), ("project_bias", project_bias, filters):
            if b is not None and tuple(b.shape) != (size,):
                raise shape_error(self.name, f"{name} must have {size} numbers", **{name: (b.shape, "channels")}, **shapes)
        sizes = self.sizes = self.measure(images, kernel.shape[:2])
        shape = images.shape[0], sizes["out_height"], sizes["out_width"], filters
        self.cut = self.parts(images.shape, kernel.shape, shape, sizes["stride_height"], expand is not None, self.activations[2], self.bfloat16)
        if self.cut is None:
            raise shape_error(self.name, "rows and windows are too large, or a channel has several filters", **shapes)
        if residual is not None and tuple(residual.shape) != shape:
            raise shape_error(self.name, f"residual must have the result's shape, {shape}", residual=(residual.shape, IMAGES), **shapes)
        return shape

    def forward(self, out, images, expand, expand_bias, kernel, bias, project, project_bias=None, residual=None):
        def panels(weights, parts=0):
            depth, columns = weights.shape[2:]

            def pack(to):
                for _, first, stop in chunks(depth, parts):
                    place, taken = to[words(self.bfloat16, first, columns):words(self.bfloat16, stop, columns)], weights.reshape(-1)[first * columns:]
                    sizes = dict(depth=stop - first, columns=columns)
                    if self.bfloat16:
                        kernels.pack_bf16(place, taken, outer=1, inner=1, b_outer=0, b_inner=0, b_depth=columns, b_column=1, **sizes)
                    else:
                        kernels.pack(place, taken, row=columns, column=1, **sizes)
            return self.prepared((words(self.bfloat16, depth, columns),), pack, weights, dtype="uint32" if self.bfloat16 else None)

        sizes = {name: n for name, n in self.sizes.items() if name not in ("dilation_height", "dilation_width", "channels")}
        parts, (first, second, third) = self.cut, (ACTIVATIONS[a] for a in self.activations)
        to = self.empty((parts, *out.shape)) if parts else out
        kernels.inverted_residual(to, images, None if expand is None else panels(expand), expand_bias, kernel, bias, panels(project, parts),
                                  project_bias, residual, **sizes, taken=images.shape[3], channels=kernel.shape[2], filters=out.shape[3],
                                  expand_activation=first, activation=second, project_activation=third, parts=parts,
                                  rounded=int(self.bfloat16))
        if parts:
            kernels.sum_parts(out, to, outer=1, count=parts, size=out.size)

    def definition(self, images, expand, expand_bias, kernel, bias, project, project_bias=None, residual=None):
        add = lambda y, b: y if b is None else y + b
        first, second, third = self.activations
        x = images if expand is None else activation_of(add(np.einsum("nyxc,cd->nyxd", images, expand[0, 0]), expand_bias), first)
        (rows, top), (columns, left) = self.places(x, kernel.shape[:2])
        (sy, sx), z = np.broadcast_to(self.strides, 2), np.zeros((len(x), rows, columns, x.shape[3]), x.dtype)
        for i, j, ky, kx in np.ndindex(rows, columns, *kernel.shape[:2]):
            at = i * sy - top + ky, j * sx - left + kx
            if 0 <= at[0] < x.shape[1] and 0 <= at[1] < x.shape[2]:
                z[:, i, j] += x[:, at[0], at[1]] * kernel[ky, kx, :, 0]
        z = activation_of(add(z, bias), second)
        return activation_of(add(add(np.einsum("nyxc,cd->nyxd", z, project[0, 0]), project_bias), residual), third)

    cases = [
        case(images=(1, 1, 1, 1), expand=(1, 1, 1, 1), expand_bias=None, kernel=(1, 1, 1, 1), bias=None, project=(1, 1, 1, 1)),
        case(images=(2, 7, 9, 3), expand=(1, 1, 3, 163), expand_bias=(163,), kernel=(3, 3, 163, 1), bias=(163,), project=(1, 1, 163, 3),
             project_bias=(3,), residual=(2, 7, 9, 3), padding="same", activations=("relu6", "relu6", None)),
        case(images=(2, 9, 8, 3), expand=(1, 1, 3, 50), expand_bias=(50,), kernel=(3, 3, 50, 1), bias=(50,), project=(1, 1, 50, 3),
             project_bias=(3,), residual=(2, 9, 8, 3), padding="same", activations=("relu6", "relu6", None)),
        case(images=(2, 7, 8, 5), expand=(1, 1, 5, 33), expand_bias=None, kernel=(3, 3, 33, 1), bias=None, project=(1, 1, 33, 34),
             project_bias=(34,), strides=(2, 2), padding=((0, 1), (0, 1)), activations=("relu", "tanh", "sigmoid")),
        case(images=(1, 9, 6, 17), expand=None, expand_bias=None, kernel=(2, 4, 17, 1), bias=(17,), project=(1, 1, 17, 5),
             padding=((1, 0), (2, 3)), strides=(1, 2), activations=(None, "relu", "relu")),
        case(images=(1, 32, 5, 2), expand=(1, 1, 2, 6), expand_bias=(6,), kernel=(2, 2, 6, 1), bias=(6,), project=(1, 1, 6, 2),
             strides=(4, 3), activations=("tanh", None, "relu")),
        case(images=(0, 4, 4, 2), expand=(1, 1, 2, 3), expand_bias=None, kernel=(3, 3, 3, 1), bias=None, project=(1, 1, 3, 2)),
        case(images=(1, 4, 0, 2), expand=(1, 1, 2, 3), expand_bias=None, kernel=(3, 3, 3, 1), bias=None, project=(1, 1, 3, 2), padding="same"),
        case(images=(1, 4, 0, 3), expand=None, expand_bias=None, kernel=(3, 3, 3, 1), bias=None, project=(1, 1, 3, 2), padding="same",
             activations=(None, None, "relu")),
        case(images=(2, 7, 9, 3), expand=(1, 1, 3, 163), expand_bias=(163,), kernel=(3, 3, 163, 1), bias=(163,), project=(1, 1, 163, 3),
             project_bias=(3,), residual=(2, 7, 9, 3), padding="same", activations=("relu6", "relu6", None), bfloat16=True),
        case(images=(2, 9, 8, 34), expand=(1, 1, 34, 50), expand_bias=(50,), kernel=(3, 3, 50, 1), bias=(50,), project=(1, 1, 50, 34),
             project_bias=(34,), residual=(2, 9, 8, 34), padding="same", activations=("relu6", "relu6", None), bfloat16=True),
        case(images=(2, 17, 9, 5), expand=(1, 1, 5, 33), expand_bias=None, kernel=(3, 3, 33, 1), bias=None, project=(1, 1, 33, 34),
             project_bias=(34,), strides=(2, 1), padding=((0, 1), (0, 1)), activations=("relu", "tanh", "sigmoid"), bfloat16=True),
        case(images=(1, 9, 6, 17), expand=None, expand_bias=None, kernel=(2, 4, 17, 1), bias=(17,), project=(1, 1, 17, 5),
             padding=((1, 0), (2, 3)), strides=(1, 2), activations=(None, "relu", "relu"), bfloat16=True),
        case(images=(0, 4, 4, 2), expand=(1, 1, 2, 3), expand_bias=None, kernel=(3, 3, 3, 1), bias=None, project=(1, 1, 3, 2), bfloat16=True),
    ]
    wrong = [case(images=(1, 4, 4, 2), expand=(1, 1, 3, 3), expand_bias=None, kernel=(3, 3, 3, 1), bias=None, project=(1, 1, 3, 2)),
             case(images=(1, 4, 4, 2), expand=None, expand_bias=None, kernel=(3, 3, 2, 2), bias=None, project=(1, 1, 2, 2)),
             case(images=(1, 4, 4, 2), expand=None, expand_bias=None, kernel=(3, 3, 2, 1), bias=(3,), project=(1, 1, 2, 2))]
    bench = [
        case(images=(1, 112, 112, 16), expand=(1, 1, 16, 96), expand_bias=(96,), kernel=(3, 3, 96, 1), bias=(96,), project=(1, 1, 96, 24),
             project_bias=(24,), strides=(2, 2), padding=((0, 1), (0, 1)), activations=("relu6", "relu6", None)),
        case(images=(1, 14, 14, 96), expand=(1, 1, 96, 576), expand_bias=(576,), kernel=(3, 3, 576, 1), bias=(576,), project=(1, 1, 576, 96),
             project_bias=(96,), residual=(1, 14, 14, 96), padding="same", activations=("relu6", "relu6", None)),
    ]
