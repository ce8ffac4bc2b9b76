"""Winograd's convolutions with stride 2: how exact they are, which layers they are for, what they depend on."""

import numpy as np
import pytest

import fastdl
from fastdl import ops
from fastdl.ops.strided_winograd import pays
from fastdl.record import Program
from fastdl.tensor import Tensor, backward

ERROR = 1e-5                                                  # of the largest output


def direct(images, kernel, d_out, top, left):
    """out, d_images and d_kernel in float64, place by place of the kernel."""
    batch, height, width, channels = images.shape
    rows, columns = d_out.shape[1:3]
    padded = np.zeros((batch, max(2 * rows + 6, height + top), max(2 * columns + 6, width + left), channels))
    padded[:, top:top + height, left:left + width] = images
    out, d_padded, d_kernel = np.zeros(d_out.shape), np.zeros(padded.shape), np.zeros(kernel.shape)
    kernel, d_out = kernel.astype("float64"), d_out.astype("float64")
    for y, x in np.ndindex(kernel.shape[:2]):
        part = np.s_[:, y:y + 2 * rows:2, x:x + 2 * columns:2]
        out += padded[part] @ kernel[y, x]
        d_kernel[y, x] = padded[part].reshape(-1, channels).T @ d_out.reshape(-1, d_out.shape[3])
        d_padded[part] += d_out @ kernel[y, x].T
    return out, d_padded[:, top:top + height, left:left + width], d_kernel


def computed(images, kernel, d_out, **options):
    inputs = [Tensor(images.copy(), True), Tensor(kernel.copy(), True)]
    out = ops.conv2d(*inputs, strides=2, algorithm="winograd3x3", **options)
    return out.array, *backward([out], [d_out], targets=inputs)


def numbers(rng, images, window, filters, padding):
    (top, bottom), (left, right) = padding
    shape = images[0], (images[1] + top + bottom - window[0]) // 2 + 1, (images[2] + left + right - window[1]) // 2 + 1, filters
    kernel = rng.standard_normal((*window, images[3], filters)) * (2 / (window[0] * window[1] * images[3])) ** 0.5
    return [a.astype("float32") for a in (rng.standard_normal(images), kernel, rng.standard_normal(shape))]


def close(got, wanted, error, about):
    for name, g, w in zip(("out", "d_images", "d_kernel"), got, wanted):
        found = np.abs(g - w).max(initial=0) / max(np.abs(w).max(initial=0), 1e-30)
        assert found <= error, f"{name}: {found:.2e} {about}"


@pytest.mark.parametrize("kind", ["normal", "relu", "offset"])
@pytest.mark.parametrize("images, filters", [((2, 64, 64, 3), 64), ((8, 33, 35, 4), 96), ((3, 50, 48, 1), 512)])
def test_error(rng, images, filters, kind):
    """At most 1e-5 of the largest output for normal numbers, their positive part, and numbers far from 0."""
    x, kernel, d_out = numbers(rng, images, (7, 7), filters, ((3, 3), (3, 3)))
    x = {"normal": lambda x: x, "relu": lambda x: np.maximum(x, 0), "offset": lambda x: x + 5}[kind](x)
    for isa in fastdl.config.available_isas()[-2:]:
        with fastdl.isa(isa):
            close(computed(x, kernel, d_out, padding=((3, 3), (3, 3))), direct(x, kernel, d_out, 3, 3), ERROR, isa)


def configurations():
    """Edges of tiles, vectors, panels, groups and parts, all kernels, and a fixed sample."""
    yield (1, 7, 7, 3), (7, 7), 64, ((0, 0), (0, 0))
    yield (2, 13, 300, 2), (7, 7), 33, ((3, 3), (3, 3))
    yield (7, 12, 11, 3), (5, 8), 5, ((1, 1), (1, 1))
    yield (1, 1, 1, 4), (8, 8), 130, ((4, 7), (7, 0))
    rng = np.random.default_rng(5)
    for _ in range(16):
        padding = tuple(map(tuple, rng.integers(0, 9, (2, 2)).tolist()))
        size, window = rng.integers(8, 40, 2).tolist(), tuple(rng.integers(5, 9, 2).tolist())
        yield (int(rng.integers(1, 4)), *size, int(rng.integers(1, 5))), window, int(rng.integers(1, 70)), padding


@pytest.mark.parametrize("images, window, filters, padding", list(configurations()))
def test_is_the_direct_sum(rng, images, window, filters, padding):
    arrays = numbers(rng, images, window, filters, padding)
    wanted = direct(*arrays, padding[0][0], padding[1][0])
    for isa in fastdl.config.available_isas():
        with fastdl.isa(isa):
            close(computed(*arrays, padding=padding), wanted, ERROR, isa)


def kernels_of(images, window, filters, algorithm="auto", strides=2, **options):
    program = Program()
    with program.recorded():
        ops.conv2d(np.zeros(images, "float32"), np.zeros((*window, images[3], filters), "float32"), algorithm=algorithm, strides=strides, **options)
    return {call[0] for call in program.about}


def test_bits_depend_neither_on_the_batch_nor_on_the_instruction_set(rng):
    x, kernel, d_out = numbers(rng, (5, 31, 120, 3), (7, 7), 48, ((3, 3), (3, 3)))
    found, last = set(), set()
    for isa in fastdl.config.available_isas():
        if isa in ("avx2", "avx512"):
            with fastdl.isa(isa):
                for part in slice(1), slice(2), slice(5):
                    out, d_images, _ = computed(x[part], kernel, d_out[part], padding=((3, 3), (3, 3)))
                    found.add(out[0].tobytes() + d_images[0].tobytes())
                last.add(b"".join(a.tobytes() for a in computed(x, kernel, d_out, padding=((3, 3), (3, 3)))))
    assert len(found) <= 1 and len(last) <= 1


def test_chosen_by_the_shape_of_the_layer():
    assert pays(147, 64, 112, 112) and pays(147, 16, 8, 8)
    assert not pays(147, 8, 112, 112) and not pays(75, 64, 112, 112) and not pays(147, 64, 1, 1) and not pays(147, 64, 4, 4)
    same = dict(padding="same")
    assert "strided_winograd" in kernels_of((2, 32, 32, 3), (7, 7), 64, **same)
    for window, options in ((7, 7), dict(strides=1)), ((7, 7), dict(strides=(2, 1))), ((9, 7), {}), ((3, 3), {}), ((7, 7), dict(algorithm="implicit")):
        assert "strided_winograd" not in kernels_of((2, 32, 32, 3), window, 64, **same, **options)
    assert "strided_winograd" not in kernels_of((2, 32, 32, 5), (7, 7), 64, **same)


def test_can_be_turned_off():
    try:
        fastdl.config.set_winograd(False)
        assert "strided_winograd" not in kernels_of((2, 32, 32, 3), (7, 7), 64, padding="same")
    finally:
        fastdl.config.set_winograd(True)
    assert "strided_winograd" in kernels_of((2, 32, 32, 3), (7, 7), 64, padding="same")


def test_not_finite_numbers_stay_in_their_tiles():
    x = np.ones((1, 48, 48, 3), "float32")
    x[0, 24, 24, 1] = np.nan                                  # seen by the results 9 to 12
    for isa in fastdl.config.available_isas():
        with fastdl.isa(isa):
            y = ops.conv2d(x, np.ones((7, 7, 3, 16), "float32"), strides=2, algorithm="winograd3x3").array[0]
        assert np.isnan(y[9:13, 9:13]).all() and not np.isnan(y[:9]).any() and not np.isnan(y[15:]).any() and not np.isnan(y[:, :9]).any()


def test_refused():
    for window, channels, options in ((7, 7), 3, dict(strides=1)), ((3, 3), 3, {}), ((9, 9), 3, {}), ((7, 7), 5, {}), ((5, 5), 3, dict(dilation=2)):
        with pytest.raises(ValueError, match="5 x 5 to 8 x 8"):
            ops.conv2d(np.zeros((1, 20, 20, channels), "float32"), np.zeros((*window, channels, 4), "float32"), algorithm="winograd3x3",
                       **{"strides": 2, **options})
