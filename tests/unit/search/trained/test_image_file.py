"""Image files become what the network was trained on, whatever they look like."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny_weights import digit, small_config

from nkat_errors import BadInput
from search.trained.image_file import ImageFile, Likeness, on_light_ground, read_image

GREY = Likeness(config=small_config(), mean=0.13, object_share=20 / 28)
COLOUR = Likeness(config=small_config(grey=False), mean=0.45, object_share=1.0)


def read(tmp_path: Path, image: Image.Image, like: Likeness = GREY, **how: object) -> ImageFile:
    path = tmp_path / "image.png"
    image.save(path, **how)  # type: ignore[arg-type]
    return read_image(path, like=like)


def far(found: ImageFile, wanted: np.ndarray) -> float:
    """Mean distance of the pixels, 0..255."""
    return float(np.abs(found.pixels[..., 0].astype(float) - wanted).mean())


def test_a_file_of_the_right_size_and_ground_is_used_to_the_bit(tmp_path):
    found = read(tmp_path, Image.fromarray(digit()))
    assert np.array_equal(found.pixels[..., 0], digit())
    assert not found.inverted


def test_dark_on_light_is_inverted(tmp_path):
    found = read(tmp_path, Image.fromarray(255 - digit()))
    assert found.inverted
    assert far(found, digit()) < 4


def test_only_where_the_training_images_are_light_on_dark(tmp_path):
    dark_on_light = Likeness(config=small_config(), mean=0.8, object_share=1.0)
    found = read(tmp_path, Image.fromarray(255 - digit()), dark_on_light)
    assert not found.inverted
    assert np.array_equal(found.pixels[..., 0], 255 - digit())


def large_page() -> Image.Image:
    """The digit somewhere on a large sheet of paper, photographed: grey, noisy, yellowish."""
    rng = np.random.default_rng(0)
    sheet = np.full((900, 1300), 205.0)
    sheet[60:340, 800:1080] -= 150 * (digit(280) / 255.0)
    noisy = (sheet + rng.normal(0, 6, sheet.shape)).clip(0, 255)
    return Image.fromarray((noisy[..., None] * [1, 0.97, 0.85]).astype(np.uint8))


@pytest.mark.parametrize(
    "image",
    [
        Image.fromarray(255 - digit(280)).convert("RGB"),
        Image.fromarray(255 - digit(280)).convert("P"),
        Image.fromarray(255 - digit(280)).convert("CMYK").convert("RGB"),
        Image.fromarray(np.pad(255 - digit(280), ((0, 0), (90, 400)), "edge")),
        Image.fromarray(digit(280).astype(np.uint16) * 257),
        Image.fromarray(np.where(digit(280) > 128, 0, 255).astype(np.uint8)).convert("1"),
        # Strokes on nothing: black ones, and white ones.
        Image.merge("LA", [Image.new("L", (280, 280), 0), Image.fromarray(digit(280))]),
        Image.merge("LA", [Image.new("L", (280, 280), 255), Image.fromarray(digit(280))]),
        large_page(),
    ],
    ids=["rgb", "palette", "cmyk", "wide", "16 bits", "1 bit", "black ink", "white ink", "page"],
)
def test_any_size_and_colour(tmp_path, image):
    found = read(tmp_path, image)
    assert found.pixels.shape == (28, 28, 1)
    reference = read_image(saved(tmp_path, Image.fromarray(digit(280))), like=GREY)
    assert far(found, reference.pixels[..., 0]) < 14, "mean grey levels"
    blank = np.zeros((28, 28))
    assert far(found, reference.pixels[..., 0]) < far(found, blank) / 2


def saved(tmp_path: Path, image: Image.Image) -> Path:
    path = tmp_path / "reference.png"
    image.save(path)
    return path


def test_colour_takes_the_middle_square_upright(tmp_path):
    pixels = np.zeros((40, 100, 3), np.uint8)
    pixels[:, 30:70] = (200, 100, 50)
    found = read(tmp_path, Image.fromarray(pixels), COLOUR)
    assert found.pixels.shape == (28, 28, 3)
    assert (found.pixels == (200, 100, 50)).all()
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees
    top = np.zeros((28, 28, 3), np.uint8)
    top[:14] = 255
    turned = read(tmp_path, Image.fromarray(top), COLOUR, exif=exif)
    assert turned.pixels[:, 20:].mean() > 250
    assert turned.pixels[:, :8].mean() < 5
    grey = read(tmp_path, Image.fromarray(digit()), COLOUR)
    assert np.array_equal(grey.pixels, np.repeat(digit()[..., None], 3, axis=2))


@pytest.mark.parametrize("value", [0, 128, 255])
def test_an_empty_image_is_an_image(tmp_path, value):
    found = read(tmp_path, Image.new("L", (50, 30), value))
    assert len(np.unique(found.pixels)) == 1


def test_what_is_no_image_is_one_sentence(tmp_path):
    good = saved(tmp_path, Image.fromarray(digit(280))).read_bytes()
    for content, words in (
        (b"", "not an image"),
        (b"words\n", "not an image"),
        (good[:300], "cannot be read as an image"),
        (good[:60] + bytes(200) + good[260:], "image"),
    ):
        path = tmp_path / "bad.png"
        path.write_bytes(content)
        with pytest.raises(BadInput, match=words) as caught:
            read_image(path, like=GREY)
        assert "\n" not in str(caught.value)
    with pytest.raises(BadInput, match="no such file"):
        read_image(tmp_path / "none.png", like=GREY)
    with pytest.raises(BadInput, match="cannot be read"):
        read_image(tmp_path, like=GREY)


def test_far_too_many_pixels_are_refused(tmp_path):
    path = tmp_path / "huge.png"
    Image.new("1", (30_000, 1)).save(path)
    with pytest.raises(BadInput, match="30000 x 1 pixels are too many"):
        read_image(path, like=GREY)


def test_the_ground_is_told_by_the_border():
    assert not on_light_ground(digit())
    assert on_light_ground(255 - digit())
    assert on_light_ground((110 - digit() / 4).astype(np.uint8))  # badly lit paper
