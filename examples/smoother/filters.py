"""The numerics: a Gaussian blur and the Sobel edges of it, in plain numpy.

Every step is elementwise float32 in a fixed order, so a pixel's value depends only on its
neighbours and not on the size of the array it sits in. That is why a picture put together from
tiles equals the whole picture computed at once, bit for bit.
"""

import math

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]  # (height, width) gray or (height, width, 3) RGB
Floats = NDArray[np.float32]

_LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)  # ITU-R BT.601, as Pillow's "L"


def radius(sigma: float) -> int:
    """How many pixels the blur reaches to each side; sigma in pixels."""
    return max(1, math.ceil(4 * sigma))


def halo(sigma: float) -> int:
    """How many pixels a tile needs around it: the blur's reach, and one more for Sobel's."""
    return radius(sigma) + 1


def gaussian_weights(sigma: float) -> Floats:
    """Weights of the blur along one axis, shape (2 * radius + 1,), with the sum 1."""
    reach = radius(sigma)
    bell = [math.exp(-0.5 * (x / sigma) ** 2) for x in range(-reach, reach + 1)]
    # Whole 65536ths are the same on every host, whatever the last bit of its exp() is.
    steps = [round(65536 * value / sum(bell)) for value in bell]
    steps[reach] += 65536 - sum(steps)
    return np.array(steps, dtype=np.float32) / np.float32(65536)


def _blur_rows(values: Floats, weights: Floats) -> Floats:
    """Weighted sum along axis 0; the result is ``len(weights) - 1`` rows shorter."""
    rows = values.shape[0] - len(weights) + 1
    total: Floats = values[:rows] * weights[0]
    for shift in range(1, len(weights)):
        total += values[shift : shift + rows] * weights[shift]
    return total


def _blur(values: Floats, weights: Floats) -> Floats:
    """The blur along both axes, without borders: smaller by 2 * radius each way."""
    rows = _blur_rows(values, weights)
    return _blur_rows(rows.swapaxes(0, 1), weights).swapaxes(0, 1)


def _sobel(gray: Floats) -> Floats:
    """Magnitude of the Sobel gradient, without borders: smaller by 2 each way."""
    two = np.float32(2)
    down = gray[:, :-2] + two * gray[:, 1:-1] + gray[:, 2:]
    across = gray[:-2] + two * gray[1:-1] + gray[2:]
    dy = down[2:] - down[:-2]
    dx = across[:, 2:] - across[:, :-2]
    # Not hypot: sqrt is rounded correctly on every machine, hypot need not be.
    magnitude: Floats = np.sqrt(dy * dy + dx * dx)
    return magnitude


def _to_pixels(values: Floats) -> Pixels:
    return np.rint(values).clip(0, 255).astype(np.uint8)


def smooth_edges(window: Pixels, sigma: float) -> tuple[Pixels, Pixels]:
    """Blur a window and find its edges.

    ``window`` is (height + 2 * halo, width + 2 * halo) gray or the same with a third axis of 3,
    ``sigma`` is in pixels. Returns the smoothed pixels, (height, width) or (height, width, 3),
    and the edges, (height, width), both uint8.
    """
    smoothed = _blur(window.astype(np.float32), gaussian_weights(sigma))
    if smoothed.ndim == 3:
        red, green, blue = (smoothed[..., channel] * _LUMA[channel] for channel in range(3))
        gray = red + green + blue
    else:
        gray = smoothed
    return _to_pixels(smoothed[1:-1, 1:-1]), _to_pixels(_sobel(gray))
