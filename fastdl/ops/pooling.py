"""Pooling over (batch, height, width, channels)."""

import numpy as np

from ..errors import shape_error
from ..op import Op, case, kernels, twin
from .convolution import IMAGES, grid, pair, windows

__all__ = ["max_pool2d", "average_pool2d", "global_max_pool2d", "global_average_pool2d"]


def _windows(x, fill, *, batch, height, width, channels, pool_height, pool_width, **window):
    """(batch, out_height, out_width, channels, places): what each window sees, `fill` outside of the images."""
    seen = windows(x.reshape(batch, height, width, channels), fill=fill, kernel_height=pool_height, kernel_width=pool_width,
                   dilation_height=1, dilation_width=1, **window)
    return np.moveaxis(seen, 5, 3).reshape(*seen.shape[:3], channels, pool_height * pool_width)


def _counts(dtype, *, height, width, out_height, out_width, pool_height, pool_width, stride_height, stride_width, top, left, **_):
    """(1, out_height, out_width, 1): how many places of each window lie in the image."""
    def along(size, out, pool, stride, before):
        start = np.arange(out) * stride - before
        return np.minimum(start + pool, size) - np.maximum(start, 0)
    rows = along(height, out_height, pool_height, stride_height, top)
    columns = along(width, out_width, pool_width, stride_width, left)
    return (rows[:, None] * columns)[None, :, :, None].astype(dtype)


@twin
def max_pool2d(y, winner, wide_winner, x, **sizes):
    seen = _windows(x, -np.inf, **sizes)
    inside = _windows(np.ones_like(x), 0, **sizes)
    place = np.where(inside > 0, seen, -np.inf)
    # argmax takes the first NaN, else the first of the largest; among places outside and -inf inside, the first inside.
    best = np.where(np.isneginf(seen.max(-1)), inside.argmax(-1), place.argmax(-1)) if seen.size else seen.sum(-1).astype(int)
    y.reshape(best.shape)[...] = np.take_along_axis(seen, best[..., None], -1)[..., 0]
    for saved in (winner, wide_winner):
        if saved is not None:
            saved.reshape(best.shape)[...] = best


@twin
def average_pool2d(y, x, **sizes):
    seen = _windows(x, 0, **sizes)
    y.reshape(seen.shape[:4])[...] = seen.sum(-1) / _counts(x.dtype, **sizes)


@twin
def pool2d_grad(d_x, d_y, winner, wide_winner, *, batch, height, width, channels, out_height, out_width, pool_height, pool_width,
                stride_height, stride_width, top, left):
    d_y = d_y.reshape(batch, out_height, out_width, channels)
    place = winner if winner is not None else wide_winner
    if place is None:
        d_y = d_y / _counts(d_x.dtype, height=height, width=width, out_height=out_height, out_width=out_width, pool_height=pool_height,
                            pool_width=pool_width, stride_height=stride_height, stride_width=stride_width, top=top, left=left)
    else:
        place = place.reshape(d_y.shape)
    rows, columns = out_height * stride_height + pool_height + top + height, out_width * stride_width + pool_width + left + width
    padded = np.zeros((batch, rows, columns, channels), d_x.dtype)
    for ky, kx in reversed(list(np.ndindex(pool_height, pool_width))):        # windows in their order, as the kernel adds
        part = d_y if place is None else np.where(place == ky * pool_width + kx, d_y, 0)
        padded[:, ky:ky + out_height * stride_height:stride_height, kx:kx + out_width * stride_width:stride_width] += part
    d_x.reshape(batch, height, width, channels)[...] = padded[:, top:top + height, left:left + width]


class Pooling:
    """What MaxPool2D and AveragePool2D share.

    images   (batch, height, width, channels)
    returns  (batch, out_height, out_width, channels)
    """

    pool_size: tuple = (2, 2)
    strides: tuple = None
    padding: str = "valid"

    def places(self, images):
        """((out_height, top), (out_width, left))."""
        self.pool = tuple(images.shape[1:3]) if self.pool_size is None else pair(self.pool_size)
        self.steps = self.pool if self.strides is None else pair(self.strides)
        if not isinstance(self.padding, str) and any(max(pair(sides)) >= size for sides, size in zip(self.padding, self.pool)):
            raise ValueError(f"{self.name}: padding must be less than the pool {self.pool}, not {self.padding!r}")
        return grid(self.name, images, self.pool, self.steps, (1, 1), self.padding)

    def shape(self, images):
        if len(images.shape) != 4:
            raise shape_error(self.name, f"images have {len(images.shape)} axes, four are wanted", images=(images.shape, IMAGES))
        (out_height, top), (out_width, left) = self.places(images)
        batch, height, width, channels = images.shape
        self.sizes = dict(batch=batch, height=height, width=width, channels=channels, out_height=out_height, out_width=out_width,
                          pool_height=self.pool[0], pool_width=self.pool[1], stride_height=self.steps[0],
                          stride_width=self.steps[1], top=top, left=left)
        return batch, out_height, out_width, channels

    def windows(self, images):
        """For `definition`: ((y, x), the part of the images that the window at y, x sees)."""
        (rows, top), (columns, left) = self.places(images)
        for y, x in np.ndindex(rows, columns):
            y0, x0 = y * self.steps[0] - top, x * self.steps[1] - left
            yield (y, x), images[:, max(y0, 0):y0 + self.pool[0], max(x0, 0):x0 + self.pool[1]]

    def definition(self, images):
        out = np.empty(self.shape(images), images.dtype)
        for (y, x), part in self.windows(images):
            out[:, y, x] = self.of_window(part)
        return out


class MaxPool2D(Pooling, Op):
    """The largest value in each window.

    images   (batch, height, width, channels)
    returns  (batch, out_height, out_width, channels)

    pool_size None: the whole image; strides None: those of the window; padding "valid", "same" or
    ((top, bottom), (left, right)), less than the pool. Ties go to the first; NaN wins.
    The gradient flows to the winner only.
    """

    def forward(self, out, images):
        self.winner = self.wide_winner = None
        if self.traced:
            if self.pool[0] * self.pool[1] <= 256:
                self.winner = self.empty(out.shape, "uint8")
            else:
                self.wide_winner = self.empty(out.shape, "int32")
        kernels.max_pool2d(out, self.winner, self.wide_winner, images, **self.sizes)

    def backward(self, d_out, d_images):
        kernels.pool2d_grad(d_images, d_out, self.winner, self.wide_winner, **self.sizes)

    @staticmethod
    def of_window(part):
        """For `definition`: what becomes of a window (batch, rows, columns, channels)."""
        return part.max((1, 2))

    cases = [case(images=(1, 2, 2, 1)), case(images=(2, 7, 6, 3)), case(images=(2, 7, 5, 17), pool_size=(3, 2), strides=(2, 1)),
             case(images=(1, 5, 8, 33), pool_size=(3, 3), strides=(2, 2), padding="same"),
             case(images=(2, 5, 4, 3), pool_size=(3, 3), strides=(2, 1), padding=((1, 2), (0, 1))),
             case(images=(2, 9, 7, 2), pool_size=(2, 1), strides=(3, 4)), case(images=(1, 3, 2, 5), pool_size=(4, 5), padding="same"),
             case(images=(1, 17, 17, 3), pool_size=None), case(images=(0, 4, 4, 2))]
    bench = [case(images=(32, 56, 56, 64)), case(images=(32, 56, 56, 64), pool_size=(3, 3), strides=(2, 2)), case(images=(8, 7, 7, 2048), pool_size=None),
             case(images=(8, 112, 112, 64), pool_size=(3, 3), strides=(2, 2), padding="same")]


class AveragePool2D(Pooling, Op):
    """The average of each window; with padding "same", of its places inside the images.

    images   (batch, height, width, channels)
    returns  (batch, out_height, out_width, channels)

    pool_size None: the whole image; strides None: those of the window.
    """

    def forward(self, out, images):
        kernels.average_pool2d(out, images, **self.sizes)

    def backward(self, d_out, d_images):
        kernels.pool2d_grad(d_images, d_out, None, None, **self.sizes)

    @staticmethod
    def of_window(part):
        """For `definition`: what becomes of a window (batch, rows, columns, channels)."""
        return part.mean((1, 2))

    cases, bench = MaxPool2D.cases, MaxPool2D.bench


max_pool2d, average_pool2d = MaxPool2D.apply, AveragePool2D.apply


def global_max_pool2d(images):
    """The largest value of each channel: (batch, height, width, channels) to (batch, 1, 1, channels)."""
    return max_pool2d(images, pool_size=None)


def global_average_pool2d(images):
    """The average of each channel: (batch, height, width, channels) to (batch, 1, 1, channels)."""
    return average_pool2d(images, pool_size=None)
