"""Winograd's convolutions: how exact they are, which layers they are for, what they depend on."""

import numpy as np
import pytest

import fastdl
from fastdl import ops
from fastdl.ops import winograd
from fastdl.ops.winograd import fastest
from fastdl.record import Program
from fastdl.tensor import Tensor, backward

ERROR = {"winograd4x4": 1e-5, "winograd2x2": 3e-6}            # of the largest output


def direct(images, kernel, d_out, top, left):
    """out, d_images and d_kernel in float64, place by place of the kernel."""
    batch, height, width, channels = images.shape
    rows, columns = d_out.shape[1:3]
    padded = np.zeros((batch, max(rows + 2, height + top), max(columns + 2, width + left), channels))
    padded[:, top:top + height, left:left + width] = images
    out, d_padded, d_kernel = np.zeros(d_out.shape), np.zeros(padded.shape), np.zeros(kernel.shape)
    kernel, d_out = kernel.astype("float64"), d_out.astype("float64")
    for y, x in np.ndindex(3, 3):
        part = np.s_[:, y:y + rows, x:x + columns]
        out += padded[part] @ kernel[y, x]
        d_kernel[y, x] = padded[part].reshape(-1, channels).T @ d_out.reshape(-1, d_out.shape[3])
        d_padded[part] += d_out @ kernel[y, x].T
    return out, d_padded[:, top:top + height, left:left + width], d_kernel


def computed(images, kernel, d_out, **options):
    inputs = [Tensor(images.copy(), True), Tensor(kernel.copy(), True)]
    out = ops.conv2d(*inputs, **options)
    return out.array, *backward([out], [d_out], targets=inputs)


def numbers(rng, images, filters, padding, numbers_of=None):
    draw = numbers_of or (lambda shape: rng.standard_normal(shape))
    (top, bottom), (left, right) = padding
    shape = images[0], images[1] + top + bottom - 2, images[2] + left + right - 2, filters
    kernel = draw((3, 3, images[3], filters))
    if not numbers_of:
        kernel *= (2 / (9 * images[3])) ** 0.5
    return [a.astype("float32") for a in (draw(images), kernel, draw(shape))]


@pytest.mark.parametrize("algorithm", ERROR)
@pytest.mark.parametrize("images, filters", [
    ((3, 16, 16, 64), 64), ((2, 14, 14, 128), 32), ((2, 14, 14, 256), 32), ((6, 7, 7, 512), 32), ((32, 4, 4, 16), 512), ((1, 8, 8, 2048), 16)])
@pytest.mark.parametrize("kind", ["normal", "relu", "offset"])
def test_error(rng, images, filters, algorithm, kind):
    """At most 1e-5 of the largest output for normal numbers, their positive part, and numbers far from 0."""
    draw = {"normal": lambda x: x, "relu": lambda x: np.maximum(x, 0), "offset": lambda x: x + 5}[kind]
    x, kernel, d_out = numbers(rng, images, filters, ((1, 1), (1, 1)))
    x = draw(x)
    for isa in fastdl.config.available_isas()[-2:]:
        with fastdl.isa(isa):
            got = computed(x, kernel, d_out, padding="same", algorithm=algorithm)
        for name, g, wanted in zip(("out", "d_images", "d_kernel"), got, direct(x, kernel, d_out, 1, 1)):
            error = np.abs(g - wanted).max() / np.abs(wanted).max()
            assert error <= ERROR[algorithm], f"{name}: {error:.2e} on {isa}"


def configurations():
    """Edges of tiles, vectors, chunks, blocks and pieces, and a fixed sample."""
    yield (1, 4, 4, 64), 32, ((1, 1), (1, 1))
    yield (2, 5, 9, 65), 33, ((0, 0), (0, 0))
    yield (1, 3, 3, 1), 129, ((0, 0), (0, 0))
    yield (7, 12, 11, 3), 5, ((1, 1), (1, 1))
    yield (1, 1, 1, 130), 2, ((4, 3), (5, 0))
    yield (3, 34, 33, 16), 16, ((2, 0), (0, 2))
    rng = np.random.default_rng(5)
    for _ in range(12):
        padding = tuple(map(tuple, rng.integers(0, 4, (2, 2)).tolist()))
        size = [int(n) for n in rng.integers(3, 12, 2)]
        yield (int(rng.integers(1, 4)), *size, int(rng.integers(1, 70))), int(rng.integers(1, 70)), padding


@pytest.mark.parametrize("images, filters, padding", list(configurations()))
def test_whole_numbers(rng, images, filters, padding):
    """F(2x2, 3x3) only halves: small whole numbers give exact results on every instruction set. F(4x4, 3x3) is close to them."""
    arrays = numbers(rng, images, filters, padding, lambda shape: rng.integers(-3, 4, shape))
    wanted = direct(*arrays, padding[0][0], padding[1][0])
    for isa in fastdl.config.available_isas():
        with fastdl.isa(isa):
            for algorithm in ERROR:
                for name, g, w in zip(("out", "d_images", "d_kernel"), computed(*arrays, padding=padding, algorithm=algorithm), wanted):
                    near = 0 if algorithm == "winograd2x2" else 1e-5 * np.abs(w).max(initial=0)
                    np.testing.assert_allclose(g, w, rtol=0, atol=near, err_msg=f"{name}, {isa}, {algorithm}")


def kernels_of(images, filters, algorithm="auto", **options):
    program = Program()
    with program.recorded():
        ops.conv2d(np.zeros(images, "float32"), np.zeros((3, 3, images[3], filters), "float32"), algorithm=algorithm, **options)
    return {call[0]: call[3] for call in program.about}


def test_bits_depend_neither_on_the_batch_nor_on_the_instruction_set(rng, monkeypatch):
    for images, filters in ((17, 24, 24, 64), 35), ((6, 8, 8, 144), 35), ((40, 4, 4, 20), 67), ((5, 9, 9, 70), 130):
        x, kernel, bias = (rng.standard_normal(s).astype("float32") for s in (images, (3, 3, images[3], filters), (filters,)))
        found, last = set(), set()
        for isa in fastdl.config.available_isas():
            if isa in ("avx2", "avx512"):
                for workspace in winograd.WORKSPACE, 0:
                    monkeypatch.setattr(winograd, "WORKSPACE", workspace)
                    called = kernels_of(images, filters, padding="same")
                    assert "winograd" in called and ("winograd_images" in called) == (filters > 64 and workspace > 0)
                    with fastdl.isa(isa):
                        y = [ops.conv2d(x[:n], kernel, bias, padding="same", activation="relu").array for n in (1, 2, len(x))]
                    found |= {part[0].tobytes() for part in y}
                    last |= {y[-1][-1].tobytes(), ops.conv2d(x[-1:], kernel, bias, padding="same", activation="relu").array[0].tobytes()}
                    monkeypatch.undo()
        assert len(found) <= 1 and len(last) <= 1


def test_chosen_by_the_shape_of_the_layer():
    assert fastest(64, 64, 32, 32) == fastest(512, 512, 4, 4) == fastest(16, 16, 7, 7) == 4
    assert fastest(64, 64, 2, 2) == fastest(64, 64, 6, 6) == 2                          # as many products as 4 x 4, or fewer
    assert fastest(64, 64, 1, 1) == fastest(3, 64, 32, 32) == fastest(64, 8, 32, 32) == fastest(64, 64, 1, 100) == 0
    same = dict(padding="same")
    assert kernels_of((2, 9, 9, 32), 32, **same)["winograd"]["tile"] == 4 and kernels_of((2, 6, 6, 32), 32, **same)["winograd"]["tile"] == 2
    for options in dict(strides=2), dict(dilation=2), dict(algorithm="implicit"), dict(algorithm="im2col"):
        assert "winograd" not in kernels_of((2, 9, 9, 32), 32, **options)


def test_can_be_turned_off(rng):
    x, kernel = rng.standard_normal((2, 9, 9, 32)).astype("float32"), Tensor(rng.standard_normal((3, 3, 32, 32)).astype("float32"))
    named = {True: "winograd4x4", False: "implicit"}
    wanted = {on: ops.conv2d(x, kernel, algorithm=algorithm).array.tobytes() for on, algorithm in named.items()}
    assert wanted[True] != wanted[False]
    step = fastdl.record(lambda x: ops.conv2d(x, kernel))
    try:
        for on in True, False, True, False:
            fastdl.config.set_winograd(on)
            assert fastdl.config.winograd_enabled() is on
            for _ in range(3):                                # plain, recorded, replayed
                assert step(x).array.tobytes() == wanted[on]
    finally:
        fastdl.config.set_winograd(True)


def test_not_finite_numbers_stay_in_their_tiles():
    x = np.ones((1, 12, 12, 16), "float32")
    x[0, 5, 6, 3] = np.nan
    for isa in fastdl.config.available_isas():
        with fastdl.isa(isa):
            y = ops.conv2d(x, np.ones((3, 3, 16, 16), "float32"), padding="same", algorithm="winograd4x4").array[0]
        assert np.isnan(y[4:7, 5:8]).all() and not np.isnan(y[:4]).any() and not np.isnan(y[8:]).any() and not np.isnan(y[:, :4]).any()


def test_refused():
    images = np.zeros((1, 7, 7, 4), "float32")
    for shape, options in ((3, 2, 4, 4), {}), ((3, 3, 4, 4), dict(strides=2)), ((3, 3, 4, 4), dict(dilation=2)), ((3, 3, 2, 4), dict(groups=2)):
        with pytest.raises(ValueError, match="3 x 3"):
            ops.conv2d(images, np.zeros(shape, "float32"), algorithm="winograd4x4", **options)
