"""Pictures: where they come from, how they are cut into tiles and put together again."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from filters import Pixels
from numpy.typing import NDArray
from PIL import Image, ImageOps

# The photographs inside scikit-image's wheel. Other pictures of skimage.data are downloaded on
# first use, so the files are opened here by their paths and that module is never imported.
BUNDLED = (
    "astronaut.png",
    "camera.png",
    "chelsea.png",
    "coffee.png",
    "coins.png",
    "gravel.png",
    "hubble_deep_field.jpg",
    "moon.png",
    "motorcycle_left.png",
    "retina.jpg",
    "rocket.jpg",
    "brick.png",
)
BUNDLED_SHORT = ("chelsea.png", "coins.png", "rocket.jpg")  # small, odd sizes, one is gray


class NoPictures(Exception):
    """There is nothing to work on; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class Picture:
    """A named picture; ``pixels`` is uint8, (height, width) gray or (height, width, 3) RGB."""

    name: str
    pixels: Pixels


@dataclass(frozen=True, slots=True)
class Cut:
    """Where a tile lies in its picture, in pixels, without its halo."""

    top: int
    left: int
    height: int
    width: int


def load(path: Path) -> Pixels:
    """Read one picture file as 8-bit gray or RGB, upright as its EXIF data says.

    Raises OSError or ValueError where the file is no picture, is broken or is absurdly large.
    """
    try:
        with Image.open(path) as opened:
            upright = ImageOps.exif_transpose(opened)
            if upright.mode.startswith(("I", "F")):  # 16 and 32 bits: Pillow would only clip
                return _stretched(np.asarray(upright, dtype=np.float64))
            gray = upright.mode in ("1", "L", "LA", "La")
            return np.array(upright.convert("L" if gray else "RGB"), dtype=np.uint8)
    except (Image.DecompressionBombError, SyntaxError) as error:
        # Pillow's own way to say "too large", and what some broken PNG files end in.
        raise ValueError(str(error)) from error


def _stretched(values: NDArray[np.float64]) -> Pixels:
    """Any numbers as gray levels from 0 (the smallest) to 255 (the largest)."""
    if not np.isfinite(values).all():
        raise ValueError("some of its values are not finite numbers")
    low, high = float(values.min()), float(values.max())
    scaled = (values - low) * (255 / (high - low) if high > low else 0)
    return np.rint(scaled).astype(np.uint8)


def bundled(*, short: bool = False) -> list[Picture]:
    """The photographs that scikit-image ships; three small ones when ``short``."""
    spec = find_spec("skimage")
    if spec is None or not spec.submodule_search_locations:
        raise NoPictures(
            "scikit-image, whose photographs are used, is not installed: "
            "pip install 'zmqtasks[examples]', or name your own with --pictures FOLDER"
        )
    data = Path(spec.submodule_search_locations[0]) / "data"
    names = BUNDLED_SHORT if short else BUNDLED
    files = [data / name for name in names if (data / name).exists()]
    found = [Picture(path.stem, load(path)) for path in files]
    if not found:
        raise NoPictures(f"no photographs in {data}: name your own with --pictures FOLDER")
    return found


def from_folder(folder: Path, skipped: Callable[[str], None]) -> list[Picture]:
    """Every picture that lies directly in ``folder``, in the order of the names.

    ``skipped`` is told, in one sentence each, which files are not pictures.
    """
    if not folder.is_dir():
        raise NoPictures(f"{folder} is not a folder")
    found: list[Picture] = []
    names: set[str] = set()
    for path in sorted(folder.iterdir()):
        if not path.is_file() or path.name.startswith("."):
            continue
        try:
            pixels = load(path)
        except (OSError, ValueError) as error:
            skipped(f"{path.name} is not a picture that can be read: {_reason(error)}")
            continue
        # cat.jpg and cat.png: the second keeps its ending, lest one overwrite the other.
        name = path.stem if path.stem not in names else path.name
        names.add(name)
        found.append(Picture(name, pixels))
    if not found:
        raise NoPictures(f"no pictures in {folder}")
    return found


def _reason(error: Exception) -> str:
    text = str(error).splitlines()[0] if str(error) else type(error).__name__
    return "its format is unknown" if text.startswith("cannot identify") else text


def padded(pixels: Pixels, halo: int) -> Pixels:
    """The picture with ``halo`` more pixels on every side, which repeat its border."""
    sides = [(halo, halo), (halo, halo), (0, 0)]
    return np.pad(pixels, sides[: pixels.ndim], mode="edge")


def cut(pixels: Pixels, tile: int, halo: int) -> Iterator[tuple[Cut, Pixels]]:
    """Cut a picture into tiles of at most ``tile`` by ``tile`` pixels, row by row.

    Yields where each lies and its window: the tile with ``halo`` pixels around it, a copy.
    """
    height, width = pixels.shape[:2]
    wide = padded(pixels, halo)
    for top in range(0, height, tile):
        for left in range(0, width, tile):
            place = Cut(top, left, min(tile, height - top), min(tile, width - left))
            bottom, right = top + place.height + 2 * halo, left + place.width + 2 * halo
            yield place, wide[top:bottom, left:right].copy()


def paste(canvas: Pixels, place: Cut, tile: Pixels) -> None:
    """Put a finished tile, without halo, where it was cut out.

    Raises ValueError where the tile has another shape than its place.
    """
    target = canvas[place.top : place.top + place.height, place.left : place.left + place.width]
    if target.shape != tile.shape:  # else numpy would broadcast a wrong tile into the place
        raise ValueError(f"a tile of {tile.shape} does not fit into {target.shape}")
    target[...] = tile


def save(pixels: Pixels, path: Path) -> None:
    """Write a picture, uint8, gray or RGB; the ending of ``path`` names the format."""
    Image.fromarray(pixels).save(path)
