"""Every data source keeps its promises: cheap facts that hold, fixed splits, and one clear sentence when it fails."""

from __future__ import annotations

import io
import json
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pydantic
import pytest
import torch
from PIL import Image

from core.data import SOURCES, DataError, Source, memory
from core.data.image_folder import class_names, files_by_class
from core.data.load import load_bundle

REPOSITORY = Path(__file__).parents[2]
TRAIN, TEST, CLASSES = 40, 12, 4
LABELS = {"train": [i % CLASSES for i in range(TRAIN)], "test": [i % CLASSES for i in range(TEST)]}


def picture(key: int, mode: str = "RGB", side: int = 8) -> Image.Image:
    shape = (side, side, 3) if mode == "RGB" else (side, side)
    return Image.fromarray(np.random.default_rng(key).integers(0, 256, shape, dtype=np.uint8), mode)


def png(key: int, mode: str = "RGB", side: int = 8) -> bytes:
    buffer = io.BytesIO()
    picture(key, mode, side).save(buffer, "PNG")
    return buffer.getvalue()


def write_parquet(root: Path, split: str, images: list[Any], labels: list[Any], **names: str) -> None:
    """Two shards, with class names in the metadata unless ``bare``."""
    root.mkdir(parents=True, exist_ok=True)
    image, label = names.get("image", "img"), names.get("label", "label")
    info = {"info": {"features": {label: {"names": [f"class {c}" for c in range(CLASSES)]}}}}
    for shard, part in enumerate((slice(0, len(labels) // 2), slice(len(labels) // 2, None))):
        table = pa.table({image: images[part], label: labels[part]})
        if "bare" not in names:
            table = table.replace_schema_metadata({"huggingface": json.dumps(info)})
        pq.write_table(table, root / f"{split}-{shard:05d}-of-00002.parquet")


def parquet(root: Path, **names: str) -> Source:
    for split, labels in LABELS.items():
        images = [{"bytes": png(i), "path": None} for i in range(len(labels))]
        write_parquet(root, split, images, labels, **names)
    return SOURCES["parquet"](root=str(root))


def image_folder(root: Path, test: str = "test") -> Source:
    for split, folder in (("train", "train"), ("test", test)):
        for i, label in enumerate(LABELS[split]):
            path = root / folder / f"class_{label}" / f"{i:03d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            picture(i, "RGB" if i % 3 else "L", 8 + i % 2).save(path)
    return SOURCES["image_folder"](root=str(root), image_size=8)


def tiny_imagenet(root: Path) -> Source:
    """The published layout; one image in ten is gray, as there."""
    lines = []
    for i, label in enumerate(LABELS["train"]):
        path = root / "train" / f"n{label:08d}" / "images" / f"n{label:08d}_{i}.JPEG"
        path.parent.mkdir(parents=True, exist_ok=True)
        picture(i, "RGB" if i % 10 else "L", 64).save(path)
        (path.parent.parent / f"n{label:08d}_boxes.txt").write_text("no image\n")
    (root / "val" / "images").mkdir(parents=True)
    for i, label in enumerate(LABELS["test"]):
        picture(i, side=64).save(root / "val" / "images" / f"val_{i}.JPEG")
        lines.append(f"val_{i}.JPEG\tn{label:08d}\t0\t0\t62\t62")
    (root / "val" / "val_annotations.txt").write_text("\n".join(lines) + "\n")
    return SOURCES["tiny_imagenet"](root=str(root))


def cifar(root: Path, name: str) -> Source:
    """A small set of batches in the on-disk form of the published archives."""
    cls: Any = SOURCES[name]
    folder, fine = root / cls.folder, "fine_labels" if name == "cifar100" else "labels"
    files = {"train": ["train"], "test": ["test"]}
    if name == "cifar10":
        files = {"train": [f"data_batch_{i}" for i in range(1, 6)], "test": ["test_batch"]}
    folder.mkdir(parents=True)
    for split, labels in LABELS.items():
        pixels = np.random.default_rng(7).integers(0, 256, (len(labels), 3072), dtype=np.uint8)
        for k, file in enumerate(files[split]):
            part = slice(k * len(labels) // len(files[split]), (k + 1) * len(labels) // len(files[split]))
            (folder / file).write_bytes(pickle.dumps({"data": pixels[part], fine: labels[part]}))
    key, meta = ("fine_label_names", "meta") if name == "cifar100" else ("label_names", "batches.meta")
    (folder / meta).write_bytes(pickle.dumps({key: [str(i) for i in range(cls.classes)]}))
    return cls(root=str(root))


MAKE: dict[str, Callable[[Path], Source]] = {
    "digits": lambda _: SOURCES["digits"](),
    "synthetic": lambda _: SOURCES["synthetic"](samples=TRAIN, test_samples=TEST),
    "cifar10": lambda root: cifar(root, "cifar10"),
    "cifar100": lambda root: cifar(root, "cifar100"),
    "tiny_imagenet": tiny_imagenet,
    "image_folder": image_folder,
    "parquet": parquet,
}
ON_DISK = ["cifar10", "cifar100", "tiny_imagenet", "image_folder", "parquet"]


@pytest.fixture(params=list(SOURCES))
def source(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Source:
    accept_small_cifar(monkeypatch)
    return MAKE[request.param](tmp_path)


def accept_small_cifar(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torchvision.datasets.cifar.check_integrity", lambda path, md5=None: os.path.isfile(path))
    for name in ("cifar10", "cifar100"):
        monkeypatch.setattr(SOURCES[name], "totals", (TRAIN, TEST))


@pytest.mark.parametrize("fields", [{}, {"val_fraction": 0.0}, {"subset": 30, "val_fraction": 0.25}])
def test_facts_are_those_of_the_loaded_bundle(source: Source, fields: dict[str, Any]) -> None:
    source = replace(source, **fields)
    facts, bundle = source.facts(), load_bundle(source)
    assert (facts.train_size, facts.val_size) == (len(bundle.train), len(bundle.val))
    assert (facts.test_size, facts.num_classes) == (len(bundle.test), bundle.num_classes)
    assert facts.image_shape == bundle.image_shape == tuple(bundle.val.images.shape[1:])
    if "subset" in fields:
        assert (facts.train_size, facts.val_size) == (22, 8)


def test_bundle_is_bytes_and_labels_in_range(source: Source) -> None:
    bundle = load_bundle(source)
    for split in (bundle.train, bundle.val, bundle.test):
        assert (split.images.dtype, split.labels.dtype) == (torch.uint8, torch.int64)
        assert len(split.images) == len(split.labels)
        assert 0 <= split.labels.min() <= split.labels.max() < bundle.num_classes == len(bundle.class_names)
    assert bundle.chance == 1 / bundle.num_classes
    assert not bundle.flipped_N.any()


def test_splits_follow_the_split_seed(source: Source) -> None:
    bundle, again = load_bundle(source), load_bundle(source)
    assert bundle.digest == again.digest
    assert torch.equal(bundle.train.images, again.train.images)
    assert load_bundle(replace(source, split_seed=1)).digest != bundle.digest


@pytest.mark.parametrize("fields", [{"subset": 10**6}, {"subset": 1, "val_fraction": 0.9}])
def test_impossible_sizes_are_refused_alike(source: Source, fields: dict[str, Any]) -> None:
    impossible = replace(source, **fields)
    for act in (impossible.facts, partial(load_bundle, impossible)):
        with pytest.raises(DataError, match="lower it"):
            act()


@pytest.mark.parametrize("name", SOURCES)
def test_declaration(name: str) -> None:
    source = SOURCES[name]()
    assert source.name == name
    assert source.summary
    assert "\n" not in source.summary
    with pytest.raises(pydantic.ValidationError, match="colour"):
        SOURCES[name](colour=3)
    with pytest.raises(pydantic.ValidationError, match="val_fraction"):
        SOURCES[name](val_fraction=1.0)


@pytest.mark.parametrize("name", ON_DISK)
def test_missing_files_are_one_sentence_with_the_next_step(name: str, tmp_path: Path) -> None:
    root = str(tmp_path / "nowhere")
    source = SOURCES[name](root=root)
    for act in (source.facts, source.load):
        with pytest.raises(DataError, match=r"--set data\.root=PATH") as error:
            act()
        assert root in str(error.value)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["digits", "synthetic"])
def test_another_process_loads_the_same(name: str) -> None:
    code = (
        "import sys, core.data, core.models, core.data.augment\n"
        "assert not {'torch', 'numpy', 'torchvision', 'sklearn', 'pyarrow'} & set(sys.modules), 'heavy import'\n"
        "from core.data.load import load_bundle\n"
        f"print(load_bundle(core.data.SOURCES[{name!r}](label_noise=0.1)).digest)"
    )
    run = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert run.stdout.strip() == load_bundle(SOURCES[name](label_noise=0.1)).digest


def test_digits_are_scikit_learns() -> None:
    bundle = load_bundle(SOURCES["digits"](val_fraction=0.0))
    assert (len(bundle.train), len(bundle.test), bundle.image_shape) == (1438, 359, (1, 8, 8))
    assert int(bundle.train.images.max()) == 16
    whole = torch.cat([bundle.train.labels, bundle.test.labels]).bincount()
    assert torch.allclose(bundle.test.labels.bincount() / whole, torch.tensor(0.2), atol=0.005)


def test_synthetic_spread_zero_shows_the_class_means() -> None:
    raw = SOURCES["synthetic"](spread=0.0, classes=3, samples=9).load()
    for label in range(3):
        rows = raw.train_images[np.flatnonzero(raw.train_labels == label)]
        assert (rows == rows[0]).all()


@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
def test_cifar_pixels_and_labels(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    accept_small_cifar(monkeypatch)
    raw = cifar(tmp_path, name).load()
    stored = np.random.default_rng(7).integers(0, 256, (TRAIN, 3072), dtype=np.uint8).reshape(-1, 3, 32, 32)
    assert np.array_equal(raw.train_images[np.arange(TRAIN)], stored)
    assert raw.train_labels.tolist() == LABELS["train"]


def test_cifar_with_a_wrong_checksum_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"corrupted.*data\.download=true"):
        cifar(tmp_path, "cifar10").load()


def test_parquet_decodes_what_was_encoded_in_shard_order(tmp_path: Path) -> None:
    raw = parquet(tmp_path).load()
    expected = [np.asarray(picture(i)).transpose(2, 0, 1) for i in (0, 19, 20, 39)]
    assert np.array_equal(raw.train_images[np.array([0, 19, 20, 39])], np.stack(expected))
    assert raw.class_names == ("class 0", "class 1", "class 2", "class 3")


def test_parquet_other_column_names_and_no_metadata(tmp_path: Path) -> None:
    source = replace(parquet(tmp_path, image="image", label="fine_label", bare=""), label="fine_label")
    assert source.load().class_names == ("0", "1", "2", "3")
    assert source.facts().num_classes == CLASSES


def test_parquet_keeps_gray_gray_and_scales_on_request(tmp_path: Path) -> None:
    for split in ("train", "test"):
        images = [{"bytes": png(i, "L", 8 + i % 2), "path": ""} for i in range(8)]
        write_parquet(tmp_path, split, images, [i % CLASSES for i in range(8)])
    source = SOURCES["parquet"](root=str(tmp_path), image_size=8)
    assert load_bundle(source).image_shape == source.facts().image_shape == (1, 8, 8)
    with pytest.raises(DataError, match=r"image 1 of .* 9 x 9 pixels, not 8 x 8: set data\.image_size"):
        load_bundle(replace(source, image_size=None))


GOOD = {"bytes": png(0), "path": ""}


@pytest.mark.parametrize(
    ("images", "labels", "names", "message"),
    [
        ([GOOD] * 4, [0, 1, 2, 3], {"image": "picture"}, "no column img or image, only picture, label"),
        ([GOOD] * 4, [0, 1, 2, 3], {"label": "target"}, "no column label, only img, target"),
        ([GOOD] * 4, ["a", "b", "c", "d"], {}, "column label of .* is (large_)?string"),
        ([GOOD] * 4, [0, None, 2, 3], {}, "with 1 missing values"),
        ([GOOD] * 4, [0, 1, 2, 9], {}, "labels from 0 to 9 .* 4 classes, 0 to 3"),
        ([GOOD] * 4, [-1, 1, 2, 3], {}, "labels from -1 to 3"),
        (["text"] * 4, [0, 1, 2, 3], {}, "must be a struct with bytes"),
        ([GOOD, {"bytes": None, "path": "x"}] * 2, [0, 1, 2, 3], {}, "bytes in every row"),
        ([GOOD, GOOD, {"bytes": b"no image", "path": ""}, GOOD], [0, 1, 2, 3], {}, "image 2 of .*cannot be decoded"),
        ([{"bytes": png(0, "L"), "path": ""}, GOOD] * 2, [0, 1, 2, 3], {}, "image 1 of .* has colour"),
    ],
)
def test_unfit_parquet_is_one_sentence(
    tmp_path: Path, images: list[Any], labels: list[Any], names: dict[str, str], message: str
) -> None:
    for split in ("train", "test"):
        write_parquet(tmp_path, split, images, labels, **names)
    with pytest.raises(DataError, match=message) as error:
        load_bundle(SOURCES["parquet"](root=str(tmp_path)))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("cut", [0, 3, 400])
def test_damaged_parquet_is_one_sentence(tmp_path: Path, cut: int) -> None:
    source = parquet(tmp_path)
    path = tmp_path / "train-00001-of-00002.parquet"
    path.write_bytes(path.read_bytes()[:cut])
    for act in (source.facts, source.load):
        with pytest.raises(DataError, match=r"damaged parquet file .*: get the files again"):
            act()


def test_empty_parquet_is_one_sentence(tmp_path: Path) -> None:
    schema = pa.schema({"img": pa.struct({"bytes": pa.binary()}), "label": pa.int64()})
    for split in ("train", "test"):
        pq.write_table(schema.empty_table(), tmp_path / f"{split}-0.parquet")
    source = SOURCES["parquet"](root=str(tmp_path))
    for act in (source.facts, source.load):
        with pytest.raises(DataError, match="has no rows"):
            act()


def test_image_folder_takes_val_for_test_and_refuses_other_classes(tmp_path: Path) -> None:
    source = image_folder(tmp_path, test="val")
    assert source.facts().test_size == TEST
    (tmp_path / "train" / "class_9").mkdir()
    with pytest.raises(DataError, match="class_9"):
        source.load()
    picture(0).save(tmp_path / "train" / "class_9" / "0.png")
    with pytest.raises(DataError, match=r"same classes, and differ in \['class_9'\]"):
        source.facts()


def test_imagenets_unlabelled_test_images_do_not_hide_its_validation_images(tmp_path: Path) -> None:
    source = image_folder(tmp_path, test="val")
    (tmp_path / "test").mkdir()
    picture(0).save(tmp_path / "test" / "ILSVRC2012_test_1.png")
    assert source.facts().test_size == TEST


def test_image_folder_lists_the_files_that_torchvision_does(tmp_path: Path) -> None:
    from torchvision.datasets.folder import IMG_EXTENSIONS, make_dataset

    image_folder(tmp_path)
    folder = tmp_path / "train"
    for name in ("class_0/deeper/b.JPG", "class_0/a.webp", "class_1/notes.txt", "class_2/.hidden.png"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).touch()
    labels = {name: label for label, name in enumerate(class_names(folder))}
    assert files_by_class(folder, labels) == make_dataset(str(folder), labels, IMG_EXTENSIONS)


@pytest.mark.parametrize("deep", ["I;16", "I", "F"])
def test_images_of_more_than_8_bits_are_refused(tmp_path: Path, deep: str) -> None:
    """Converted, nearly all of a 16-bit image would be white."""
    source = image_folder(tmp_path)
    Image.new(deep, (8, 8)).save(tmp_path / "train" / "class_0" / "000.tiff")
    (tmp_path / "train" / "class_0" / "000.png").unlink()
    with pytest.raises(DataError, match=r"image 0 of .* has more than 8 bits a pixel: convert it to 8"):
        load_bundle(source)


def test_image_folder_names_the_image_that_is_none(tmp_path: Path) -> None:
    source = image_folder(tmp_path)
    (tmp_path / "train" / "class_0" / "000.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"image 0 of .* cannot be decoded"):
        load_bundle(source)


@pytest.mark.parametrize("make", [image_folder, tiny_imagenet])
def test_some_classes_alone(make: Callable[[Path], Source], tmp_path: Path) -> None:
    """Labels 1 and 2 of 4, a quarter of the samples each; the first two classes by number, 0 and 1."""
    source = make(tmp_path)
    whole = source.load()
    names = whole.class_names
    some = replace(source, classes=[names[2], names[1]])
    assert some == replace(source, classes=(names[1], names[2], names[2]))
    raw = some.load()
    assert raw.class_names == (names[1], names[2])
    assert (raw.train_labels.tolist(), sorted(raw.test_labels.tolist())) == ([0] * 10 + [1] * 10, [0] * 3 + [1] * 3)
    wanted = np.flatnonzero(np.isin(whole.train_labels, [1, 2]))
    assert np.array_equal(raw.train_images[np.arange(20)], whole.train_images[wanted])
    assert replace(source, classes=2).load().class_names == names[:2]
    assert (replace(source, classes=2).facts().train_size, replace(source, classes=2).facts().num_classes) == (18, 2)
    for classes, message in ((5, "data.classes is 5, but .* has 4 classes"), (["cat"], "names cat, and .* no such")):
        with pytest.raises(DataError, match=message):
            replace(source, classes=classes).facts()


def test_tiny_imagenets_annotations(tmp_path: Path) -> None:
    source = tiny_imagenet(tmp_path)
    assert source.load().test_labels.tolist() == LABELS["test"]
    annotations = tmp_path / "val" / "val_annotations.txt"
    whole = annotations.read_text()
    annotations.write_text(whole + "val_9.JPEG\tn00000099\t0\t0\t62\t62\n")
    with pytest.raises(DataError, match="names n00000099, a class that train/ lacks"):
        source.facts()
    annotations.write_text(whole + "val_9.JPEG\n")
    with pytest.raises(DataError, match=r"line 13 of .* names no class"):
        source.facts()
    annotations.unlink()
    with pytest.raises(DataError, match="no TinyImageNet at"):
        source.facts()


@pytest.mark.parametrize(("fields", "images"), [({}, 1797), ({"subset": 100}, 459)])
def test_what_does_not_fit_in_half_of_the_memory_is_one_sentence(
    fields: dict[str, Any], images: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """1 438 + 359 images of 64 bytes; a byte less than twice that is too little."""
    source = SOURCES["digits"](**fields)
    monkeypatch.setattr(memory, "memory", lambda: 2 * 64 * images)
    load_bundle(source)
    monkeypatch.setattr(memory, "memory", lambda: 2 * 64 * images - 1)
    with pytest.raises(
        DataError, match=rf"^{images:,} images of digits take .* GB .*: take fewer or smaller ones"
    ) as error:
        load_bundle(source)
    assert "\n" not in str(error.value)


def test_no_more_is_drawn_than_fits() -> None:
    with pytest.raises(DataError, match=r"^1,000,000,000,260 images of synthetic take 5\.12e\+05 GB .*data\.samples"):
        SOURCES["synthetic"](samples=10**12).load()


def test_a_containers_limit_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limit = tmp_path / "memory.max"
    monkeypatch.setattr(memory, "_LIMITS", (limit,))
    for text, expected in ((None, whole), ("max\n", whole), ("1000\n", 1000), (f"{whole + 1}\n", whole)):
        if text is not None:
            limit.write_text(text)
        assert memory.memory() == expected


CIFAR = REPOSITORY.parent / "shared" / "data" / "cifar10"


@pytest.mark.skipif(not CIFAR.is_dir(), reason="needs CIFAR-10 as parquet at ../shared/data/cifar10")
def test_real_cifar10() -> None:
    source = SOURCES["parquet"](root=str(CIFAR), subset=1000)
    assert (source.facts().train_size, source.facts().val_size, source.facts().test_size) == (900, 100, 10_000)
    bundle = load_bundle(source)
    assert bundle.class_names[:2] == ("airplane", "automobile")
    assert (bundle.train.labels.bincount() + bundle.val.labels.bincount()).tolist() == [100] * 10
    assert torch.allclose(bundle.mean_C / 255, torch.tensor([0.4913, 0.4821, 0.4465]), atol=0.01)
