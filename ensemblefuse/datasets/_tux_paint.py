"""Data set of the stamps of Tux Paint: a picture, an English sentence, and the same sentence in spoken French."""

from __future__ import annotations

import json
import os
import re
import shutil
import tempfile
import unicodedata
from collections.abc import Callable
from pathlib import Path, PurePosixPath

import pandas as pd
from sklearn.utils import Bunch

from ensemblefuse.datasets._apt import PackageRecord, download_package
from ensemblefuse.datasets._base import DatasetUnavailableError, check_int, data_folder, object_frame
from ensemblefuse.datasets._deb import unpack_deb

_PACKAGE = "tuxpaint-stamps-default"
_STAMPS = "usr/share/tuxpaint/stamps/"
_COPYRIGHT = f"usr/share/doc/{_PACKAGE}/copyright"
_SPEECH_END = "_desc_fr.ogg"
_FOLDER = "tux_paint"
_MARKER = "COMPLETE.json"
_LICENCE = "GPL-2; the file 'copyright' beside this one is the package's own notice"

_DESCR = """Tux Paint stamps: {n_rows} pictures in {n_classes} classes, {n_groups} different texts

Each row is one stamp of the drawing program Tux Paint: a picture, the English sentence shown with it, and
the same sentence spoken in French. The class is the stamp's top folder in the program. The paths in `image`
and `speech` contain the name of this folder. So only use the files' content, and never read the paths as text.

image   {n_image} PNG files. The other {no_image} stamps exist only as SVG, which this library does not
        rasterise: their image is None, a modality that is really missing.
text    {n_rows} sentences. Some are shared by several stamps (a coin's two sides, one thing in two
        colours): split by `groups`, or the same sentence is on both sides of a split.
speech  {n_speech} Ogg Vorbis files of about one second; {no_speech} stamps have none.

Classes with fewer than {min_count} stamps are left out{left_out}.

Source   Debian package tuxpaint-stamps-default {version}, fetched with apt-get and not installed.
Licence  GPL-2. Copyright 2002-2022 Bill Kendrick and the contributors of Tux Paint. The files are read
         from your data folder; they are not part of ensemblefuse.
"""


def fetch_tux_paint(
    data_home: str | os.PathLike[str] | None = None, *, min_count: int = 20, progress: bool = True
) -> Bunch:
    """Load the stamps of Tux Paint: image, English text and French speech, in 11 classes.

    The first call downloads a Debian package of 161 MB with ``apt-get download`` and keeps the 60 MB that
    are used; nothing is installed. Later calls only read the data folder.

    Parameters
    ----------
    data_home : path-like, optional
        The folder for downloaded data. By default the environment variable ``ENSEMBLEFUSE_DATA``, and without
        it the user's data folder.
    min_count : int, default=20
        Leave out classes with fewer rows.
    progress : bool, default=True
        Show bars on stderr while downloading and unpacking.

    Returns
    -------
    Bunch
        frame : DataFrame of shape (n_samples, 3)
            ``image`` (path of a PNG file, or None if the stamp exists only as SVG), ``text`` (str) and
            ``speech`` (path of an Ogg file, or None). The index is the stamp's id, such as
            ``"animals/birds/blackbird"``.
        target : Series of shape (n_samples,)
            The class (str).
        groups : Series of shape (n_samples,)
            The normalised text (str): rows of one group belong on the same side of a split.
        modalities : dict of str to str
            Modality to column.
        missing : dict of str to int
            Column to the number of None cells.
        name, DESCR : str
            Short name; a description of the data, their source and licence.

    Raises
    ------
    DatasetUnavailableError
        If apt-get is missing, has no network or times out, or if the download is damaged.
    ValueError, TypeError
        If `min_count` or `data_home` has a wrong type or value, or no class has `min_count` rows.
    """
    min_count = check_int(min_count, "min_count", low=1)
    folder = _ensure_stamps(data_folder(data_home), progress=progress)
    return _read_stamps(folder, min_count)


def _ensure_stamps(home: Path, *, progress: bool) -> Path:
    """Return the folder of unpacked stamps; download it if it is not complete."""
    folder = home / _FOLDER
    if (folder / _MARKER).is_file():
        return folder
    work = Path(tempfile.mkdtemp(prefix=f".{_FOLDER}-", dir=home))
    try:
        download, unpacked = work / "download", work / "unpacked"
        download.mkdir()
        deb, record = download_package(_PACKAGE, download, progress=progress)
        unpack_deb(deb, unpacked, _destination, progress=progress)
        _write_marker(unpacked, record)
        _move_into_place(unpacked, folder)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return folder


def _destination(path: str) -> str | None:
    """Return where to write a file of the package; None for other languages, sound effects and settings."""
    if path == _COPYRIGHT:
        return "copyright"
    if path.startswith(_STAMPS) and path.endswith((".png", ".svg", ".txt", _SPEECH_END)):
        return f"stamps/{path.removeprefix(_STAMPS)}"
    return None


def _write_marker(folder: Path, record: PackageRecord) -> None:
    if not any(folder.glob("stamps/*/**/*.txt")):
        raise DatasetUnavailableError(
            f"The Debian package {_PACKAGE!r} {record.version} could not be used, because it holds no stamps "
            "where they are expected; report this to the developers of ensemblefuse."
        )
    content = {"package": _PACKAGE, "version": record.version, "sha256": record.sha256, "licence": _LICENCE}
    (folder / _MARKER).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def _move_into_place(unpacked: Path, folder: Path) -> None:
    """Rename the unpacked folder, so that the final folder is either complete or absent."""
    if folder.exists() and not (folder / _MARKER).is_file():
        shutil.rmtree(folder)  # someone removed the marker, so the rest cannot be trusted
    try:
        unpacked.rename(folder)
    except OSError:
        if not (folder / _MARKER).is_file():
            raise
        # Another process has downloaded the same package; its copy is equivalent.


def _read_stamps(folder: Path, min_count: int) -> Bunch:
    stamps = folder / "stamps"
    files = {path.relative_to(stamps).as_posix() for path in stamps.rglob("*") if path.is_file()}
    rows = {stem: _read_row(stamps, stem, files.__contains__) for stem in _stems(files)}
    index = pd.Index(list(rows), name="stamp", dtype=object)
    image, text, speech = zip(*rows.values(), strict=True)
    frame = object_frame({"image": image, "text": text, "speech": speech}, index)
    target = pd.Series([stem.split("/")[0] for stem in rows], index=index, name="category", dtype=object)

    counts = target.value_counts()
    keep = target.isin(counts.index[counts >= min_count])
    if not keep.any():
        raise ValueError(
            f"min_count={min_count} leaves no class: the largest, {counts.index[0]!r}, has {counts.iloc[0]}."
        )
    frame, target = frame[keep], target[keep]
    groups = pd.Series([_normalise(cell) for cell in frame["text"]], index=frame.index, name="group", dtype=object)
    missing = {column: int(frame[column].isna().sum()) for column in frame}
    small = sorted(counts.index[counts < min_count])
    version = json.loads((folder / _MARKER).read_text(encoding="utf-8"))["version"]
    return Bunch(
        frame=frame,
        target=target,
        groups=groups,
        modalities={"image": "image", "text": "text", "audio": "speech"},
        missing=missing,
        name="Tux Paint stamps",
        DESCR=_DESCR.format(
            n_rows=len(frame),
            n_classes=target.nunique(),
            n_groups=groups.nunique(),
            n_image=len(frame) - missing["image"],
            no_image=missing["image"],
            n_speech=len(frame) - missing["speech"],
            no_speech=missing["speech"],
            min_count=min_count,
            left_out=f" ({', '.join(small)})" if small else "",
            version=version,
        ),
    )


def _stems(files: set[str]) -> list[str]:
    """Return the ids of the stamps, which have a picture and a text. ``*_mirror`` pictures have no text."""
    pictures = {str(PurePosixPath(name).with_suffix("")) for name in files if name.endswith((".png", ".svg"))}
    return sorted(stem for stem in pictures if f"{stem}.txt" in files)


def _read_row(stamps: Path, stem: str, exists: Callable[[str], bool]) -> tuple[str | None, str, str | None]:
    image, speech = f"{stem}.png", f"{stem}{_SPEECH_END}"
    # The first line is English; the others are translations, "fr.utf8=...".
    lines = (stamps / f"{stem}.txt").read_text(encoding="utf-8-sig", errors="replace").splitlines()
    return (
        str(stamps / image) if exists(image) else None,
        lines[0].strip() if lines else "",
        str(stamps / speech) if exists(speech) else None,
    )


def _normalise(text: str) -> str:
    """Return the same spelling for texts that only differ in case, punctuation or spaces."""
    return " ".join(re.findall(r"\w+", unicodedata.normalize("NFKC", text).casefold()))
