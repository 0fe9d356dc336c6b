"""The batched transforms against torchvision's, image by image with the same parameters."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Generator, Tensor
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import RandomErasing as Reference
from torchvision.transforms.v2 import functional as reference

from trainer.config.transforms import RandomErasing, output_shape, parse_transforms
from trainer.data import transforms
from trainer.data.transforms import Augmentation, make_eval_transform
from trainer.errors import ConfigError

EVERYTHING: list[Any] = [
    {"name": "random_crop", "size": [26, 24], "padding": 3, "fill": 7},
    "random_horizontal_flip",
    {"name": "random_rotation", "degrees": 20, "interpolation": "bilinear", "fill": 9},
    "random_invert",
    {"name": "color_jitter", "brightness": 0.4, "contrast": 0.4},
    {"name": "crop", "top": 2, "left": 1, "height": 22, "width": 20},
    "random_erasing",
]


def seeded(seed: int = 0) -> Generator:
    return Generator().manual_seed(seed)


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=seeded(seed))


def smooth(*shape: int) -> Tensor:
    """Images without hard edges: there a rounding error is one grey level, not a jump."""
    num, channels, height, width = shape
    rows, columns = torch.arange(height)[:, None] / height, torch.arange(width) / width
    phases = torch.arange(num * channels).view(num, channels, 1, 1)
    waves = 127.5 + 120 * torch.sin(3 * rows + 2 * columns + phases)
    return waves.to(torch.uint8)


def distance(left: Tensor, right: Tensor) -> Tensor:
    assert left.dtype == right.dtype == torch.uint8 and left.shape == right.shape
    return (left.int() - right.int()).abs()


batches = st.tuples(
    st.integers(1, 5), st.sampled_from([1, 3]), st.integers(1, 17), st.integers(1, 17)
)
seeds = st.integers(0, 2**31)
rotations = pytest.mark.parametrize(
    ("channels", "size", "fill"),
    [(1, (28, 28), 0), (3, (15, 22), 200), (1, (9, 8), 30), (3, (32, 31), 0)],
)


@given(batches, seeds, st.integers(0, 6), st.integers(0, 255), st.data())
def test_random_crop_equals_torchvision(
    shape: tuple[int, ...], seed: int, padding: int, fill: int, data: st.DataObject
) -> None:
    images = noise(*shape, seed=seed)
    room = [side + 2 * padding for side in shape[2:]]
    size = (data.draw(st.integers(1, room[0])), data.draw(st.integers(1, room[1])))
    spare = (room[0] - size[0], room[1] - size[1])
    corners = transforms.draw_corners(len(images), seeded(seed), room=spare)
    assert bool(((corners >= 0) & (corners <= torch.tensor(spare)[:, None])).all())
    found = transforms.crop_at(images, corners, size=size, padding=padding, fill=fill)
    for image, result, top, left in zip(images, found, *corners.tolist(), strict=True):
        padded = reference.pad(image, [padding], fill=fill)
        assert torch.equal(result, reference.crop(padded, top, left, *size))


@given(batches, seeds)
def test_flip_and_invert_equal_torchvision(shape: tuple[int, ...], seed: int) -> None:
    images = noise(*shape, seed=seed)
    mask = transforms.draw_chances(len(images), seeded(seed), p=0.5)
    pairs = [
        (transforms.flip_where, reference.horizontal_flip),
        (transforms.invert_where, reference.invert),
    ]
    for batched, single in pairs:
        expected = torch.stack(
            [single(x) if chosen else x for x, chosen in zip(images, mask, strict=True)]
        )
        assert torch.equal(batched(images, mask), expected)


@given(batches, seeds, st.integers(0, 255))
def test_erasing_equals_torchvision(shape: tuple[int, ...], seed: int, value: int) -> None:
    images = noise(*shape, seed=seed)
    boxes = transforms.draw_boxes(
        len(images), seeded(seed), transform=RandomErasing(p=0.8), size=(shape[2], shape[3])
    )
    found = transforms.erase(images, boxes, value=value)
    for image, result, (top, left, height, width) in zip(
        images, found, boxes.T.tolist(), strict=True
    ):
        fill = torch.full((shape[1], height, width), value, dtype=torch.uint8)
        assert torch.equal(result, reference.erase(image, top, left, height, width, fill))


@given(seeds, st.tuples(st.integers(2, 40), st.integers(2, 40)))
def test_erasing_draws_rectangles_inside_the_image(seed: int, size: tuple[int, int]) -> None:
    transform = RandomErasing(p=1, scale=(0.1, 0.3), ratio=(0.5, 2.0))
    top, left, height, width = transforms.draw_boxes(
        50, seeded(seed), transform=transform, size=size
    )
    assert bool(
        ((top >= 0) & (left >= 0) & (top + height <= size[0]) & (left + width <= size[1])).all()
    )
    # Half a pixel of rounding on each side; height 0 stands for an image left alone.
    least, most = (height + 0.5) * (width + 0.5), (height - 0.5) * (width - 0.5)
    within = (least >= 0.1 * math.prod(size)) & (most <= 0.3 * math.prod(size))
    assert bool((within | (height == 0)).all())


def test_erasing_draws_sizes_and_places_as_torchvision_does() -> None:
    ours = transforms.draw_boxes(
        2000, seeded(), transform=RandomErasing(p=1), size=(28, 20)
    ).double()
    image = torch.zeros(1, 28, 20)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        drawn = [Reference(p=1).make_params([image]) for _ in range(2000)]
    theirs = torch.tensor([[d["i"], d["j"], d["h"], d["w"]] for d in drawn], dtype=torch.float64).T
    for row, side in enumerate((28, 20, 28, 20)):
        assert abs(float(ours[row].mean() - theirs[row].mean())) < 0.05 * side
        assert abs(float(ours[row].std() - theirs[row].std())) < 0.05 * side


@rotations
def test_nearest_rotation_equals_torchvision(
    channels: int, size: tuple[int, int], fill: int
) -> None:
    """All but 1 pixel in 500: a source that lies halfway between two pixels may round to either."""
    images = noise(16, channels, *size)
    degrees = transforms.draw_uniform(16, seeded(), low=-180, high=180)
    found = transforms.rotate(images, degrees, interpolation="nearest", fill=fill)
    pairs = zip(images, degrees.tolist(), strict=True)
    expected = torch.stack(
        [reference.rotate(x, angle, fill=[float(fill)] * channels) for x, angle in pairs]
    )
    assert (distance(found, expected) > 0).float().mean() <= 1 / 500


@rotations
def test_bilinear_rotation_is_near_torchvision(
    channels: int, size: tuple[int, int], fill: int
) -> None:
    """Within one grey level of a rotation in a wide frame of `fill`.

    torchvision's own `fill` darkens the rim twice.
    """
    images = smooth(16, channels, *size)
    degrees = transforms.draw_uniform(16, seeded(), low=-180, high=180)
    found = transforms.rotate(images, degrees, interpolation="bilinear", fill=fill)
    for image, result, angle in zip(images, found, degrees.tolist(), strict=True):
        framed = reference.pad(image, [30], fill=fill)
        rotated = reference.rotate(framed, angle, interpolation=InterpolationMode.BILINEAR)
        assert int(distance(result, reference.center_crop(rotated, list(size))).max()) <= 1


@pytest.mark.parametrize("interpolation", ["nearest", "bilinear"])
def test_rotation_by_right_angles_is_exact(interpolation: str) -> None:
    images = noise(4, 3, 12, 12)
    found = transforms.rotate(
        images, torch.tensor([0.0, 90, 180, -90]), interpolation=interpolation, fill=5
    )
    expected = [torch.rot90(x, turns, (-2, -1)) for x, turns in zip(images, range(4), strict=True)]
    assert torch.equal(found, torch.stack(expected))


@given(batches, seeds, st.floats(0, 3))
def test_jitter_is_near_torchvision(shape: tuple[int, ...], seed: int, strength: float) -> None:
    """Brightness equal, contrast within one grey level: its mean is rounded down."""
    images = noise(*shape, seed=seed)
    factors = transforms.draw_uniform(len(images), seeded(seed), low=0, high=strength)
    for batched, single, tolerance in (
        (transforms.adjust_brightness, reference.adjust_brightness, 0),
        (transforms.adjust_contrast, reference.adjust_contrast, 1),
    ):
        expected = torch.stack(
            [single(x, factor) for x, factor in zip(images, factors.tolist(), strict=True)]
        )
        assert int(distance(batched(images, factors), expected).max()) <= tolerance


def test_draws_fill_their_ranges() -> None:
    corners = transforms.draw_corners(400, seeded(), room=(2, 4))
    assert set(corners[0].tolist()) == {0, 1, 2} and set(corners[1].tolist()) == {0, 1, 2, 3, 4}
    drawn = transforms.draw_uniform(4000, seeded(), low=-10, high=30)
    assert -10 <= float(drawn.min()) < -9 and 29 < float(drawn.max()) <= 30
    assert abs(float(drawn.mean()) - 10) < 1


def augmented(items: list[Any], images: Tensor, seed: int = 0) -> Tensor:
    return Augmentation(parse_transforms(items))(images, seeded(seed))


@pytest.mark.parametrize(
    "item", EVERYTHING, ids=lambda item: item if isinstance(item, str) else item["name"]
)
def test_same_generator_state_gives_the_same_images_and_another_does_not(item: Any) -> None:
    images = noise(32, 1, 28, 28)
    first = augmented([item], images, seed=3)
    torch.rand(5)
    state = torch.random.get_rng_state()
    assert torch.equal(first, augmented([item], images, seed=3))
    assert torch.equal(state, torch.random.get_rng_state()), "the global generator was used"
    assert torch.equal(first, augmented([item], images, seed=4)) == (item == EVERYTHING[5])
    assert torch.equal(images, noise(32, 1, 28, 28)), "the batch was changed in place"


def test_samples_of_a_batch_are_drawn_apart() -> None:
    images = noise(1, 1, 28, 28).expand(64, -1, -1, -1)
    for item in [
        "random_crop",
        "random_rotation",
        "random_horizontal_flip",
        "random_invert",
        EVERYTHING[4],
    ]:
        assert bool((augmented([item], images) != augmented([item], images)[:1]).any())


@pytest.mark.parametrize("name", ["random_horizontal_flip", "random_invert", "random_erasing"])
def test_p_is_the_share_of_images_that_change(name: str) -> None:
    images = noise(2000, 1, 6, 6)
    for p in (0.0, 0.3, 1.0):
        changed = (
            (augmented([{"name": name, "p": p}], images) != images).flatten(1).any(1).float().mean()
        )
        assert abs(float(changed) - p) < 0.05


def test_jitter_of_zero_changes_nothing_and_strength_widens_the_factors() -> None:
    images = torch.full((500, 1, 4, 4), 100, dtype=torch.uint8)
    assert torch.equal(augmented(["color_jitter"], images), images)
    levels = augmented([{"name": "color_jitter", "brightness": 0.5}], images)[:, 0, 0, 0]
    assert 50 <= int(levels.min()) < 55 and 145 < int(levels.max()) <= 150
    levels = augmented([{"name": "color_jitter", "brightness": [1.5, 1.6]}], images)[:, 0, 0, 0]
    assert 150 <= int(levels.min()) <= int(levels.max()) <= 160


def test_jitter_puts_brightness_first_or_contrast_first() -> None:
    images = noise(1, 1, 8, 8)
    jitter = [{"name": "color_jitter", "brightness": [3, 3], "contrast": [0.5, 0.5]}]
    bright, flat = torch.tensor([3.0]), torch.tensor([0.5])
    orders = [
        transforms.adjust_contrast(transforms.adjust_brightness(images, bright), flat),
        transforms.adjust_brightness(transforms.adjust_contrast(images, flat), bright),
    ]
    found = [augmented(jitter, images, seed=seed) for seed in range(20)]
    for order in orders:
        assert 0 < sum(torch.equal(result, order) for result in found) < 20


def test_rotation_by_one_number_goes_both_ways() -> None:
    images = smooth(64, 1, 28, 28)
    item = {"name": "random_rotation", "degrees": 30, "interpolation": "bilinear"}
    angles = transforms.draw_uniform(64, seeded(), low=-30, high=30)
    expected = transforms.rotate(images, angles, interpolation="bilinear", fill=0)
    assert torch.equal(augmented([item], images), expected)
    turned = augmented([{"name": "random_rotation", "degrees": [90, 90]}], images)
    assert torch.equal(turned, images.rot90(1, (-2, -1)))


sides, greys, starts = st.integers(7, 24), st.integers(0, 255), st.integers(0, 3)
random_crops = st.fixed_dictionaries(
    {
        "name": st.just("random_crop"),
        "size": st.none() | sides | st.lists(sides, min_size=2, max_size=2),
    },
    optional={"padding": st.integers(0, 6), "fill": greys},
)
fixed_crops = st.fixed_dictionaries(
    {"name": st.just("crop"), "top": starts, "left": starts, "height": sides, "width": sides}
)
rest = st.sampled_from([EVERYTHING[i] for i in (1, 2, 3, 4, 6)])
image_shapes = st.tuples(st.sampled_from([1, 3]), st.integers(18, 24), st.integers(18, 24))


@settings(max_examples=150)
@given(st.lists(random_crops | fixed_crops | rest, max_size=4), image_shapes, seeds)
def test_output_shape_agrees_with_training_and_evaluation(
    items: list[Any], image: tuple[int, ...], seed: int
) -> None:
    parsed = parse_transforms(items)
    try:
        shape = output_shape(parsed, image)
    except ConfigError:
        assume(False)
    images = noise(3, *image, seed=seed)
    trained, evaluated = (
        Augmentation(parsed)(images, seeded(seed)),
        make_eval_transform(parsed)(images),
    )
    assert tuple(trained.shape) == tuple(evaluated.shape) == (3, *shape)
    assert trained.dtype == evaluated.dtype == torch.uint8
    assert torch.equal(images, noise(3, *image, seed=seed))


@given(batches, st.integers(1, 30), st.integers(1, 30))
def test_evaluation_takes_torchvisions_centre(
    shape: tuple[int, ...], height: int, width: int
) -> None:
    images = noise(*shape)
    found = transforms.crop_center(images, (height, width), fill=0)
    assert torch.equal(found, reference.center_crop(images, [height, width]))


def test_evaluation_applies_crops_alone() -> None:
    images = noise(4, 3, 28, 28)
    crop = {"name": "crop", "top": 2, "left": 3, "height": 20, "width": 22}
    chance = [
        "random_crop",
        "random_horizontal_flip",
        "random_rotation",
        "random_invert",
        "random_erasing",
    ]
    evaluate = make_eval_transform(
        parse_transforms([*chance, crop, {"name": "random_crop", "size": 10}])
    )
    assert torch.equal(evaluate(images), reference.center_crop(images[..., 2:22, 3:25], [10, 10]))
    framed = make_eval_transform(
        parse_transforms([{"name": "random_crop", "size": 30, "fill": 9}])
    )(images)
    assert torch.equal(framed, reference.pad(images, [1], fill=9))
    assert make_eval_transform(parse_transforms(chance))(images) is images
    assert augmented([], images) is images


def test_device_is_not_asked_anything() -> None:
    """Meta tensors hold no values: reading one, or mixing it with the CPU's, raises."""
    out = augmented(EVERYTHING, torch.empty(8, 3, 28, 28, dtype=torch.uint8, device="meta"))
    assert out.device.type == "meta" and out.shape == (8, 3, 22, 20)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_gives_the_same_images_and_does_not_wait() -> None:
    images = smooth(64, 3, 28, 28)
    on_device = images.cuda()
    torch.cuda.set_sync_debug_mode("error")
    try:
        found = augmented(EVERYTHING, on_device)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert float((distance(found.cpu(), augmented(EVERYTHING, images)) > 2).float().mean()) < 0.01
