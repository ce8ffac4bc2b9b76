"""Winograd's algorithm for convolutions of 3 x 3 with stride 2, which ops.convolution calls where it pays.

Even and odd rows and columns of the images are four images, the phases, each of which meets a part of the kernel with stride 1: rows 0 and 2 of
it, or row 1. F(4, 2) takes 5 multiplications along an axis for the even numbers, where the odd ones take 4: 81 for a tile of 4 x 4 results
where the direct sum takes 144. The error stays below 1e-5 of the largest output with up to 512 channels. See csrc/kernels/phase_winograd.c.
"""

import numpy as np

from ..config import winograd_enabled
from ..op import case, kernels, twin
from .linear import activate
from .winograd import CHUNK, WINDOW, WORKSPACE, both, in_pieces, places, store, windows

__all__ = []

TILE, SIDE, MATRICES = 4, 5, 36                             # as in csrc/kernels/phase_winograd.c
PHASES = (0, 0), (0, 1), (1, 0), (1, 1)                     # whether rows and columns are odd
FINITE = 0.0, 0.8125, -0.8125, 2.0                      # points, beside infinity: those with the least error


def matrices():
    """A (5, 4), G (5, 2) and B (5, 5), and C (5, 4), of the odd numbers: results = A^T ((G g) * (B d) + h C e)."""
    points = [FINITE[0], np.inf, *FINITE[1:]]
    powers = lambda n: np.array([[float(k == n - 1) if x == np.inf else x ** k for k in range(n)] for x in points])
    lagrange = np.array([1.0 if x == np.inf else np.prod([x - q for q in FINITE if q != x]) for x in points])
    b = np.zeros((SIDE, SIDE))
    for i, x in enumerate(points):
        roots = np.poly([q for q in FINITE if q != x])[::-1]
        b[i, :len(roots)] = roots
    a = powers(TILE)
    return a, powers(2) / lagrange[:, None], b, np.vstack([np.linalg.inv(a[:4].T), np.zeros(4)])


def on_axes(down, across, x):
    """(down's rows, across' rows, ...): the matrices applied to the first two axes."""
    return np.einsum("ai,bj,ij...->ab...", down.astype(x.dtype), across.astype(x.dtype), x, optimize=True)


def phases(images, *, batch, height, width, channels, out_height, out_width, top, left, **_):
    """For each phase (5, 5, tiles, channels): its numbers at the points."""
    _, _, *transforms = matrices()
    found = places(batch, out_height, out_width, TILE)
    seen = windows(images.reshape(batch, height, width, channels), found, 2 * TILE + 1, top, left, step=2)
    return [on_axes(transforms[i], transforms[j], seen[i::2, j::2]) for i, j in PHASES]


def kernel_at_points(kernel):
    """(36, channels, filters): of (3, 3, channels, filters)."""
    g = matrices()[1]
    even, one = g, np.ones((1, 1))
    parts = [on_axes(one if i else even, one if j else even, kernel[i::2, j::2]) for i, j in PHASES]
    return np.concatenate([part.reshape(-1, *kernel.shape[2:]) for part in parts])


@twin
def phase_winograd_kernel(u, kernel, *, channels, filters):
    found = kernel_at_points(kernel.reshape(3, 3, channels, filters))
    u = u.reshape(-1, -(-channels // CHUNK), MATRICES, CHUNK * CHUNK + 16)
    u[...] = 0
    for g, k in np.ndindex(u.shape[:2]):
        part = found[:, k * CHUNK:(k + 1) * CHUNK, g * CHUNK:(g + 1) * CHUNK]
        u[g, k, :, :-16].reshape(-1, CHUNK, CHUNK)[:, :part.shape[1], :part.shape[2]] = part


def _flops(*, batch, out_height, out_width, channels, filters, **_):
    return 2 * batch * -(-out_height // TILE) * -(-out_width // TILE) * 81 * channels * filters


@twin(flops=_flops, error=1e-5)
def phase_winograd(out, images, kernel, u, bias, *, batch, channels, out_height, out_width, filters, activation, block, parts, **sizes):
    if not out.size:
        return
    if u is None:
        found = kernel_at_points(kernel.reshape(3, 3, channels, filters))
    else:
        chunks = -(-channels // CHUNK)
        found = u.reshape(-1, chunks, MATRICES, CHUNK * CHUNK + 16)[..., :-16].reshape(-1, chunks, MATRICES, CHUNK, CHUNK)
        found = found.transpose(2, 1, 3, 0, 4).reshape(MATRICES, chunks * CHUNK, -1)[:, :channels, :filters]
    even, row, column, one = found[:25].reshape(5, 5, channels, filters), found[25:30, None], found[None, 30:35], found[None, 35:]
    x = phases(images, batch=batch, channels=channels, out_height=out_height, out_width=out_width, **sizes)
    y = sum(part @ g for part, g in zip(x, (even, row, column, one)))
    y = both(matrices()[0].T, y)
    y = activate(y if bias is None else y + bias, activation)
    store(out.reshape(batch, out_height, out_width, filters), places(batch, out_height, out_width, TILE), y)


@twin(flops=_flops, error=1e-5)
def phase_winograd_d_kernel(d_kernel, d_out, images, *, batch, out_height, out_width, channels, filters, piece, **sizes):
    a, g = matrices()[:2]
    x = phases(images, batch=batch, out_height=out_height, out_width=out_width, channels=channels, **sizes)
    d_out = d_out.reshape(batch, out_height, out_width, filters)
    d = both(a, windows(d_out, places(batch, out_height, out_width, TILE), TILE, 0, 0, own=True))
    for k, part in enumerate(d_kernel.reshape(-1, 3, 3, channels, filters)):
        own = slice(k * piece, (k + 1) * piece)
        for (i, j), seen in zip(PHASES, x):
            sums = seen[:, :, own].swapaxes(2, 3) @ d[:, :, own]
            part[i::2, j::2] = on_axes(np.ones((1, SIDE)) if i else g.T, np.ones((1, SIDE)) if j else g.T, sums)


# ---- what Conv2D calls ------------------------------------------------------------------------------------------------

TILES = {"winograd_phases": TILE}


def tile_of(op, filters):
    """4 for this algorithm, 0 for another."""
    s = op.sizes
    sizes = {"k": 3, "s": 2, "d": 1}
    suits = op.groups == 1 and all(s[name] == sizes[name[0]] for name in WINDOW)
    if op.algorithm in TILES:
        if not suits:
            raise ValueError(f"{op.name}: algorithm {op.algorithm!r} is for kernels of 3 x 3 with strides of 2, no dilation and no groups")
        return TILE
    if not suits or op.algorithm != "auto" or not winograd_enabled():
        return 0
    return TILE if pays(s["channels"], filters, s["out_height"], s["out_width"]) else 0


def pays(channels, filters, height, width):
    """Whether this is the fastest for outputs of height x width: by the shape of the layer, so that neither the batch nor the machine
    changes bits."""
    # Measured with 32 to 512 of both, two threads: 0.55 to 0.8 of the direct time. Longer sums come near the bound of the error.
    return min(channels, filters) >= 32 and channels <= 512 and min(height, width) > 2


def _axes(op):
    return {name: op.sizes[name] for name in ("batch", "height", "width", "channels", "out_height", "out_width", "top", "left")}


def convolve(op, out, images, kernel, bias):
    """out = activation(bias + convolution)."""
    if not out.size:
        return
    channels, filters = kernel.shape[2:]
    sizes = _axes(op)
    tiles = sizes["batch"] * -(-sizes["out_height"] // TILE) * -(-sizes["out_width"] // TILE)
    groups, chunks, u = -(-filters // CHUNK), -(-channels // CHUNK), None
    parts = -(-groups // 2)                                            # a block's windows serve 128 filters
    blocks = max(-(-tiles // 32), min(-(-4 // parts), tiles // 14), 1)
    blocks += blocks % 2 if 1 < blocks < 16 else 0
    floats = groups * chunks * MATRICES * (CHUNK * CHUNK + 16)
    if blocks > 2 and floats <= 4 * WORKSPACE:
        u = op.prepared((floats,), lambda to: kernels.phase_winograd_kernel(to, kernel, channels=channels, filters=filters), kernel)
    kernels.phase_winograd(out, images, kernel if u is None else None, u, bias, **sizes, filters=filters, activation=op.act,
                           block=-(-tiles // blocks), parts=parts)


def kernel_gradient(op, d_kernel, d_out):
    """The gradient of the kernel from d_out, before the activation."""
    in_pieces(op, d_kernel, d_out, TILE, kernels.phase_winograd_d_kernel, {})


def _case(images, filters, **options):
    return case(images=images, kernel=(3, 3, images[3], filters), strides=(2, 2), algorithm="winograd_phases", **options)


cases = [
    _case((1, 9, 9, 1), 1),
    _case((2, 11, 14, 3), 17, bias=(17,), padding="same", activation="relu"),
    _case((1, 7, 12, 65), 33, bias=(33,), padding=((2, 1), (0, 5))),
    _case((1, 8, 5, 3), 5, bias=(5,), padding=((0, 1), (2, 0)), activation="sigmoid"),
    _case((1, 18, 5, 18), 130, padding="same"),
    _case((0, 9, 9, 3), 4, bias=(4,)),
]
