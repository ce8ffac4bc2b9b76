"""Convolution with small whole numbers, where no sum rounds: every result must be exact on every instruction set."""

import itertools

import numpy as np
import pytest

import fastdl
from fastdl import ops
from fastdl.ops.convolution import Conv2D, extent
from fastdl.record import Program
from fastdl.tensor import Tensor, backward


def whole(rng, shape):
    return rng.integers(-3, 4, shape).astype("float32")


def textbook(images, kernel, bias, d_out, strides, padding, dilation, groups):
    """out, d_images, d_kernel, d_bias by the formula, place by place, over images with zeros around."""
    (kh, kw), (sy, sx), (dy, dx) = kernel.shape[:2], strides, dilation
    sides = []
    for size, k, s, d, side in zip(images.shape[1:3], (kh, kw), strides, dilation, (padding,) * 2 if isinstance(padding, str) else padding):
        if side == "valid":
            side = 0, 0
        elif side == "same":
            total = max((-(-size // s) - 1) * s + (k - 1) * d + 1 - size, 0)
            side = total // 2, total - total // 2
        sides.append(side)
    padded = np.pad(images, ((0, 0), *sides, (0, 0)))
    rows = (padded.shape[1] - (kh - 1) * dy - 1) // sy + 1
    columns = (padded.shape[2] - (kw - 1) * dx - 1) // sx + 1
    z = np.zeros((len(images), rows, columns, kernel.shape[3]))
    d_padded, d_kernel = np.zeros(padded.shape), np.zeros(kernel.shape)
    d_out = d_out(z.shape)
    c, f = kernel.shape[2], kernel.shape[3] // groups
    for ky, kx, g in itertools.product(range(kh), range(kw), range(groups)):
        part = (slice(None), slice(ky * dy, ky * dy + (rows - 1) * sy + 1, sy), slice(kx * dx, kx * dx + (columns - 1) * sx + 1, sx),
                slice(g * c, g * c + c))
        own = slice(g * f, g * f + f)
        z[..., own] += np.einsum("nyxc,cf->nyxf", padded[part], kernel[ky, kx, :, own])
        d_kernel[ky, kx, :, own] = np.einsum("nyxc,nyxf->cf", padded[part], d_out[..., own])
        d_padded[part] += np.einsum("nyxf,cf->nyxc", d_out[..., own], kernel[ky, kx, :, own])
    (top, _), (left, _) = sides
    d_images = d_padded[:, top:top + images.shape[1], left:left + images.shape[2]]
    return z + bias, d_images, d_kernel, d_out.sum((0, 1, 2)), d_out


def configurations():
    """Shapes at the edges of tiles, panels, blocks and vectors; then a fixed sample of awkward ones."""
    yield (2, 9, 9, 1), (3, 3, 1, 32), (1, 1), "valid", (1, 1), 1
    yield (1, 30, 31, 1), (5, 2, 1, 7), (2, 1), "same", (1, 3), 1
    yield (1, 8, 8, 65), (3, 3, 65, 33), (1, 1), "same", (1, 1), 1            # a patch of 585 numbers, two panels and one column
    yield (1, 6, 5, 96), (3, 3, 96, 40), (2, 2), "same", (1, 1), 1            # deeper than is gathered at once
    yield (1, 40, 40, 2), (3, 3, 2, 3), (1, 1), "valid", (1, 1), 1            # several pieces of pixels
    yield (3, 4, 4, 20), (2, 2, 5, 12), (1, 1), "same", (1, 1), 4
    yield (1, 3, 3, 600), (1, 1, 600, 5), (2, 1), "valid", (1, 1), 1
    yield (1, 5, 5, 3), (3, 3, 3, 520), (1, 1), "valid", (1, 1), 1            # more columns than an item computes
    yield (1, 5, 5, 1060), (2, 2, 1060, 3), (2, 2), "valid", (1, 1), 1        # the same for the images' gradient, by classes
    yield (2, 9, 8, 9), (3, 3, 9, 1), (1, 1), "same", (1, 1), 1               # one filter
    rng = np.random.default_rng(7)
    for _ in range(40):
        groups = int(rng.choice([1, 1, 2, 3]))
        kernel = *rng.integers(1, 5, 2), int(rng.integers(1, 6)), groups * int(rng.integers(1, 20))
        dilation, strides = tuple(rng.integers(1, 4, 2)), tuple(rng.integers(1, 5, 2))
        padding = [("valid"), ("same"), tuple(map(tuple, rng.integers(0, 4, (2, 2))))][rng.integers(0, 3)]
        images = int(rng.integers(1, 4)), *(int(n) for n in (np.array(kernel[:2]) - 1) * dilation + 1 + rng.integers(0, 7, 2)), groups * kernel[2]
        yield images, tuple(map(int, kernel)), tuple(map(int, strides)), padding, tuple(map(int, dilation)), groups


@pytest.mark.parametrize("images, kernel, strides, padding, dilation, groups", list(configurations()))
def test_exact(images, kernel, strides, padding, dilation, groups):
    rng = np.random.default_rng(1)
    images, kernel, bias = whole(rng, images), whole(rng, kernel), whole(rng, kernel[3])
    *expected, d_out = textbook(images, kernel, bias, lambda shape: whole(rng, shape), strides, padding, dilation, groups)
    options = dict(strides=strides, padding=padding, dilation=dilation, groups=groups)
    for isa in fastdl.config.available_isas():
        for algorithm in ("implicit", "im2col")[:2 if groups == 1 else 1]:
            with fastdl.isa(isa):
                inputs = [Tensor(a.copy(), True) for a in (images, kernel, bias)]
                out = ops.conv2d(*inputs, **options, algorithm=algorithm)
                got = out.array, *backward([out], [d_out.astype("float32")], targets=inputs)
            for name, g, e in zip(("out", "d_images", "d_kernel", "d_bias"), got, expected):
                np.testing.assert_array_equal(g, e, err_msg=f"{name}, {isa}, {algorithm}")


def test_gradients_nobody_asked_for_are_not_computed(rng):
    images, kernel, bias = whole(rng, (40, 6, 6, 3)), whole(rng, (3, 3, 3, 4)), whole(rng, 4)       # several pieces, to be summed
    def calls(*wanted):
        program = Program()
        inputs = [Tensor(a, w) for a, w in zip((images, kernel, bias), wanted)]
        with program.recorded():
            out = ops.conv2d(*inputs, activation="relu")
            backward([out], [np.ones(out.shape, "float32")], targets=[t for t in inputs if t.requires_grad])
        return [call[0] for call in program.about]
    assert not {"conv2d_d_images", "conv2d_pack_flipped"} & set(calls(False, True, True))
    assert not {"conv2d_d_kernel"} & set(calls(True, False, False))
    assert calls(False, True, True).count("sum_parts") == 2 and calls(False, True, False).count("sum_parts") == 1


def test_frozen_kernel(rng):
    """Without a gradient of the kernel those of the images and the bias are the same."""
    arrays = [whole(rng, s) for s in ((2, 6, 7, 3), (3, 2, 3, 5), (5,))]
    found = []
    for trained in True, False:
        images, kernel, bias = [Tensor(a, i != 1 or trained) for i, a in enumerate(arrays)]
        out = ops.conv2d(images, kernel, bias, strides=2, activation="relu")
        found.append(backward([out], [np.ones(out.shape, "float32")], targets=[images, bias]))
    for a, b in zip(*found):
        np.testing.assert_array_equal(a, b)


def test_same_padding_puts_the_odd_zero_at_the_end():
    assert extent(6, 3, 2, 1, "same") == (3, 0) and extent(7, 3, 2, 1, "same") == (4, 1) and extent(5, 4, 1, 1, "same") == (5, 1)
    x = np.arange(1, 7, dtype="float32").reshape(1, 1, 6, 1)
    y = ops.conv2d(x, np.ones((1, 3, 1, 1), "float32"), strides=(1, 2), padding="same")
    np.testing.assert_array_equal(y.array.ravel(), [6, 12, 11])


def test_not_finite_numbers_stay_in_their_windows():
    x = np.ones((1, 5, 5, 2), "float32")
    x[0, 0, 0, 0], x[0, 4, 4, 1] = np.nan, np.inf
    for isa in fastdl.config.available_isas():
        with fastdl.isa(isa), np.errstate(invalid="ignore"):
            y = ops.conv2d(x, np.ones((2, 2, 2, 3), "float32"), padding="same", activation="relu").array[0]
            assert np.isnan(y[0, 0]).all() and np.isnan(y).sum() == 3 and np.isposinf(y).sum() == 4 * 3


@pytest.mark.parametrize("shapes, options, message", [
    (((1, 5, 5, 3), (3, 3, 4, 8)), {}, "images have 3 channels, kernel expects 4\n  images  (1, 5, 5, 3)   batch, height, width, channels\n  kernel  (3, 3, 4, 8)"),
    (((1, 5, 5, 4), (3, 3, 4, 8)), dict(groups=2), "expects 4 in each of 2 groups"),
    (((1, 5, 5, 4), (3, 3, 2, 5)), dict(groups=2), "5 filters cannot be split into 2 groups"),
    (((5, 5, 3), (3, 3, 3, 8)), {}, "four axes"),
    (((1, 5, 5, 3), (3, 3, 3, 8), (7,)), {}, r"bias has shape (7,), 8 filters want (8,)"),
    (((1, 2, 9, 3), (3, 3, 3, 8)), {}, "a window of 3 x 3 does not fit into the padded images\n  images  (1, 2, 9, 3)"),
    (((1, 9, 4, 3), (3, 3, 3, 8)), dict(dilation=2), "a window of 5 x 5 does not fit"),
    (((1, 0, 4, 3), (1, 1, 3, 8)), {}, "does not fit"),
    (((1, 4, 4, 0), (1, 1, 0, 8)), {}, "at least one channel"),
])
def test_shapes_that_do_not_fit(shapes, options, message):
    with pytest.raises(fastdl.ShapeError) as e:
        ops.conv2d(*(np.zeros(s, "float32") for s in shapes), **options)
    assert "conv2d: " in str(e.value) and message in str(e.value)


@pytest.mark.parametrize("options, message", [
    (dict(padding="full"), "padding must be"), (dict(padding=((1, -1), (0, 0))), "not be negative"), (dict(strides=0), "at least 1"),
    (dict(dilation=(1, 0)), "at least 1"), (dict(activation="gelu"), "activation must be one of"), (dict(algorithm="fft"), "known are"),
    (dict(algorithm="im2col", groups=3), "for one group"),
])
def test_options_that_are_not_known(options, message):
    with pytest.raises(ValueError, match=message):
        ops.conv2d(np.zeros((1, 5, 5, 3), "float32"), np.zeros((3, 3, 3 // options.get("groups", 1), 3), "float32"), **options)


def test_no_images_give_zero_gradients(rng):
    kernel, bias = Tensor(whole(rng, (3, 3, 2, 4)), True), Tensor(whole(rng, 4), True)
    out = ops.conv2d(np.zeros((0, 5, 5, 2), "float32"), kernel, bias)
    d_kernel, d_bias = backward([out], [np.zeros(out.shape, "float32")], targets=[kernel, bias])
    assert out.shape == (0, 3, 3, 4) and not d_kernel.any() and not d_bias.any()


def test_definition_is_the_textbook(rng):
    images, kernel, bias = whole(rng, (2, 7, 6, 4)), whole(rng, (3, 2, 2, 6)), whole(rng, 6)
    op = Conv2D.__new__(Conv2D)
    op.__dict__.update(strides=(2, 1), padding="same", dilation=(1, 2), groups=2)
    expected = textbook(images, kernel, bias, np.zeros, (2, 1), "same", (1, 2), 2)[0]
    np.testing.assert_array_equal(op.definition(images, kernel, bias), expected)
