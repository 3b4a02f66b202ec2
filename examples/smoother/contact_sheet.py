"""The contact sheet: original, smoothed and edges of every picture on one page."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from filters import Pixels
from PIL import Image, ImageDraw, ImageFont

BACKGROUND, CELL, BRIGHT, DIM = "#15171c", "#1e2128", "#f2f3f5", "#8d94a3"
CELL_WIDTH, CELL_HEIGHT = 252, 200  # pixels; pictures are fitted in and keep their shape
GAP, MARGIN, CAPTION, HEADER = 10, 36, 46, 86
COLUMNS = ("original", "smoothed", "edges")
MOST = 40  # more pictures would make a page that no viewer likes to open


@dataclass(frozen=True, slots=True)
class Strip:
    """One picture's three cells: uint8, gray or RGB, all of one height and width."""

    name: str
    original: Pixels
    smoothed: Pixels
    edges: Pixels


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)


def _shortened(text: str, most: int = 34) -> str:
    return text if len(text) <= most else text[: most - 3] + "..."


def _draw_cell(sheet: Image.Image, pixels: Pixels, left: int, top: int) -> None:
    """Fit a picture into its cell, in the middle."""
    ImageDraw.Draw(sheet).rectangle((left, top, left + CELL_WIDTH - 1, top + CELL_HEIGHT - 1), fill=CELL)
    image = Image.fromarray(pixels).convert("RGB")
    scale = min(CELL_WIDTH / image.width, CELL_HEIGHT / image.height)
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    # Few big pixels stay pixels; everything else is resampled well.
    method = Image.Resampling.NEAREST if scale > 4 else Image.Resampling.LANCZOS
    offset = (left + (CELL_WIDTH - size[0]) // 2, top + (CELL_HEIGHT - size[1]) // 2)
    sheet.paste(image.resize(size, method), offset)


def _draw_strip(sheet: Image.Image, strip: Strip, left: int, top: int) -> None:
    draw = ImageDraw.Draw(sheet)
    height, width = strip.original.shape[:2]
    kind = "RGB" if strip.original.ndim == 3 else "gray"
    name = _shortened(strip.name)
    draw.text((left, top), name, font=_font(18), fill=BRIGHT)
    beside = left + draw.textlength(name, font=_font(18)) + 12
    draw.text((beside, top + 4), f"{width} x {height}  {kind}", font=_font(13), fill=DIM)
    for number, pixels in enumerate((strip.original, strip.smoothed, strip.edges)):
        cell_left = left + number * (CELL_WIDTH + GAP)
        draw.text((cell_left, top + 26), COLUMNS[number], font=_font(12), fill=DIM)
        _draw_cell(sheet, pixels, cell_left, top + CAPTION)


def contact_sheet(strips: Sequence[Strip], title: str, path: Path) -> int:
    """Draw the first ``MOST`` strips, two beside each other when there are many, as a PNG.

    Returns how many strips the sheet shows.
    """
    shown = strips[:MOST]
    across = 2 if len(shown) > 3 else 1
    down = -(-len(shown) // across)
    strip_width = 3 * CELL_WIDTH + 2 * GAP
    strip_height = CAPTION + CELL_HEIGHT + 2 * GAP
    width = 2 * MARGIN + across * strip_width + (across - 1) * MARGIN
    height = HEADER + down * strip_height + MARGIN
    sheet = Image.new("RGB", (width, height), BACKGROUND)
    ImageDraw.Draw(sheet).text((MARGIN, 28), title, font=_font(26), fill=BRIGHT)
    for number, strip in enumerate(shown):
        row, column = divmod(number, across)
        _draw_strip(
            sheet,
            strip,
            MARGIN + column * (strip_width + MARGIN),
            HEADER + row * strip_height,
        )
    sheet.save(path, optimize=True)
    return len(shown)
