"""The smoother example: tiles that are put together again equal the whole picture."""

import os
import socket
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[2] / "examples" / "smoother"))

import contact_sheet
import filters
import pictures
import smoother
import smoother_tasks
from filters import Pixels


def noise(*shape: int) -> Pixels:
    return np.random.default_rng(7).integers(0, 256, shape, dtype=np.uint8)


def whole(pixels: Pixels, sigma: float) -> tuple[Pixels, Pixels]:
    return filters.smooth_edges(pictures.padded(pixels, filters.halo(sigma)), sigma)


@pytest.mark.parametrize("sigma", [0.3, 2.0, 5.5])
@pytest.mark.parametrize("tile", [16, 31, 64, 500])
@pytest.mark.parametrize("shape", [(64, 64), (61, 97), (61, 97, 3), (1, 200, 3), (40, 1), (1, 1)])
def test_tiles_reassemble_to_what_the_whole_picture_gives(shape: tuple[int, ...], tile: int, sigma: float) -> None:
    original = noise(*shape)
    smoothed = np.zeros_like(original)
    edges = np.zeros(original.shape[:2], dtype=np.uint8)
    covered = np.zeros(original.shape[:2], dtype=int)

    for place, window in pictures.cut(original, tile, filters.halo(sigma)):
        done = smoother_tasks.smooth_edges(window, sigma)
        pictures.paste(smoothed, place, done.smoothed)
        pictures.paste(edges, place, done.edges)
        covered[place.top : place.top + place.height, place.left : place.left + place.width] += 1

    assert (covered == 1).all()
    expected_smoothed, expected_edges = whole(original, sigma)
    assert np.array_equal(smoothed, expected_smoothed)
    assert np.array_equal(edges, expected_edges)


def test_a_tile_says_where_it_was_made() -> None:
    done = smoother_tasks.smooth_edges(noise(30, 30), 1.0)

    assert (done.host, done.pid, done.worker) == (socket.gethostname(), os.getpid(), "")


def test_the_blur_is_a_gaussian() -> None:
    sigma, original = 2.0, noise(50, 40)
    exact = np.exp(-0.5 * (np.arange(-8, 9) / sigma) ** 2)
    exact /= exact.sum()
    expected = np.pad(original.astype(float), 8, mode="edge")
    for axis in (0, 1):
        expected = np.apply_along_axis(np.convolve, axis, expected, exact, "valid")

    smoothed, _ = whole(original, sigma)

    assert np.abs(smoothed - expected).max() < 0.52  # half a gray level is the rounding


def test_weights_are_whole_65536ths_with_the_sum_one() -> None:
    for sigma in (0.1, 0.5, 2.0, 50.0):
        weights = filters.gaussian_weights(sigma).astype(float)
        assert weights.sum() == 1
        assert (weights * 65536 == np.rint(weights * 65536)).all()
        assert (weights == weights[::-1]).all()


def test_edges_of_a_step_and_of_nothing() -> None:
    flat = np.full((20, 20, 3), 99, dtype=np.uint8)
    step = np.zeros((20, 20), dtype=np.uint8)
    step[:, 10:] = 40

    assert not whole(flat, 1.0)[1].any()
    edges = whole(step, 0.1)[1]  # a sigma that smooths nothing
    assert (edges[:, 9:11] == 160).all()  # Sobel's 1 + 2 + 1, times the step
    assert not edges[:, :9].any()
    assert not edges[:, 11:].any()


def test_a_tile_of_another_shape_is_refused() -> None:
    with pytest.raises(ValueError, match="does not fit"):
        pictures.paste(noise(20, 20), pictures.Cut(0, 0, 10, 10), noise(1, 10))


def test_every_bundled_photograph_is_in_the_wheel() -> None:
    found = {picture.name: picture.pixels for picture in pictures.bundled()}

    assert set(found) == {Path(name).stem for name in pictures.BUNDLED}
    assert found["camera"].ndim == 2
    assert found["astronaut"].shape == (512, 512, 3)
    assert all(pixels.dtype == np.uint8 for pixels in found.values())
    assert len(pictures.bundled(short=True)) == len(pictures.BUNDLED_SHORT)


def test_a_folder_with_all_kinds_of_files(tmp_path: Path) -> None:
    Image.fromarray(noise(20, 30, 3)).save(tmp_path / "a.png")
    Image.fromarray(noise(20, 30)).save(tmp_path / "a.jpg")
    Image.fromarray(noise(20, 30, 4)).save(tmp_path / "b with alpha.png")
    Image.fromarray(noise(9, 9).astype(np.uint16) * 200).save(tmp_path / "c sixteen bits.png")
    Image.fromarray(noise(9, 9)).convert("P").save(tmp_path / "d palette.gif")
    complete = (tmp_path / "a.png").read_bytes()
    (tmp_path / "e cut short.png").write_bytes(complete[: len(complete) // 2])
    (tmp_path / "f notes.txt").write_text("no picture")
    (tmp_path / "g empty.png").touch()
    (tmp_path / "h folder.png").mkdir()
    (tmp_path / ".hidden").touch()
    skipped: list[str] = []

    found = pictures.from_folder(tmp_path, skipped.append)

    assert [(picture.name, picture.pixels.shape) for picture in found] == [
        ("a", (20, 30)),
        ("a.png", (20, 30, 3)),
        ("b with alpha", (20, 30, 3)),
        ("c sixteen bits", (9, 9)),
        ("d palette", (9, 9, 3)),
    ]
    assert found[3].pixels.max() == 255
    assert [why.split(" is not ")[0] for why in skipped] == [
        "e cut short.png",
        "f notes.txt",
        "g empty.png",
    ]


def test_a_picture_is_turned_upright(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # orientation: to be turned by a quarter
    Image.fromarray(noise(20, 30, 3)).save(tmp_path / "lying.jpg", exif=exif)

    assert pictures.load(tmp_path / "lying.jpg").shape == (30, 20, 3)


@pytest.mark.parametrize("name", ["absent", "."])
def test_no_folder_and_an_empty_one_are_said_clearly(tmp_path: Path, name: str) -> None:
    with pytest.raises(pictures.NoPictures, match=r"folder|no pictures"):
        pictures.from_folder(tmp_path / name, print)


def test_one_different_pixel_is_noticed() -> None:
    original = pictures.Picture("noise", noise(40, 30, 3))
    smoothed, edges = whole(original.pixels, 2.0)
    made = smoother.Made([smoothed], [edges], Counter(), 1, 1.0)
    assert smoother.compare([original], made, 2.0)[0] == 0

    edges[39, 29] ^= 1

    assert smoother.compare([original], made, 2.0)[0] == 1


@pytest.mark.parametrize("count", [1, 5, contact_sheet.MOST + 1])
def test_the_contact_sheet_shows_what_fits(tmp_path: Path, count: int) -> None:
    gray, colour = noise(3, 90), noise(3, 90, 3)
    strips = [contact_sheet.Strip(f"n{i}" * 30, colour, colour, gray) for i in range(count)]

    shown = contact_sheet.contact_sheet(strips, "a title", tmp_path / "sheet.png")

    assert shown == min(count, contact_sheet.MOST)
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.format == "PNG"
        assert sheet.width < 2000
