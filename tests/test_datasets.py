"""The loaders, on tiny packages made here; one slow test fetches the real Tux Paint stamps."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import sys
import tarfile
import wave
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from ensemblefuse import datasets
from ensemblefuse.datasets import (
    DatasetUnavailableError,
    _apt,
    _av_digits,
    _deb,
    _demo,
    _speech,
    _tux_paint,
    fetch_tux_paint,
    load_av_digits,
    load_demo,
    make_media,
)

STAMPS = "./usr/share/tuxpaint/stamps/"
FILES = {
    f"{STAMPS}animals/birds/wren.png": b"png",
    f"{STAMPS}animals/birds/wren.svg": b"svg",
    f"{STAMPS}animals/birds/wren.txt": "A wren—small!\nfr.utf8=Un troglodyte.\n".encode(),
    f"{STAMPS}animals/birds/wren_desc_fr.ogg": b"ogg",
    f"{STAMPS}animals/birds/wren_desc_es.ogg": b"another language",
    f"{STAMPS}animals/birds/wren_mirror.png": b"a picture without text",
    f"{STAMPS}animals/wren2.svg": b"svg",
    f"{STAMPS}animals/wren2.txt": b" A WREN, small \r\n",
    f"{STAMPS}town/stop.png": b"png",
    f"{STAMPS}town/stop.txt": b"Stop.",
    f"{STAMPS}town/nothing.txt": b"A text without a picture.",
    "./usr/share/doc/tuxpaint-stamps-default/copyright": b"GPL-2",
    "./usr/share/lintian/overrides/x": b"not used",
}


def tar_bytes(files: dict[str, bytes], mode: str) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as tar:  # type: ignore[call-overload]
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def write_deb(path: Path, files: dict[str, bytes], suffix: str = ".xz", data: bytes | None = None) -> Path:
    if data is None:
        data = tar_bytes(files, f"w:{suffix[1:]}")
    members = {
        "debian-binary": b"2.0\n",
        "control.tar.gz": tar_bytes({"./control": b"Package: odd"}, "w:gz"),
        f"data.tar{suffix}": data,
    }
    with path.open("wb") as file:
        file.write(b"!<arch>\n")
        for name, content in members.items():
            file.write(f"{name:<16}{0:<12}{0:<6}{0:<6}{100644:<8}{len(content):<10}`\n".encode())
            file.write(content + b"\n" * (len(content) % 2))
    return path


@pytest.fixture
def fake_download(monkeypatch):
    """Give the tiny package instead of Debian's; count the calls."""
    calls: list[Path] = []

    def download_package(package, folder, *, progress):
        calls.append(folder)
        return write_deb(folder / "tiny.deb", FILES), _apt.PackageRecord("1.0", 1, "abc")

    monkeypatch.setattr(_tux_paint, "download_package", download_package)
    return calls


# The .deb reader


@pytest.mark.parametrize("suffix", ["", ".gz", ".bz2", ".xz"])
def test_deb_reader_writes_the_chosen_files_under_every_compression(tmp_path, suffix):
    deb = write_deb(tmp_path / "a.deb", {"./usr/a.txt": b"one", "./usr/b.bin": b"two"}, suffix)
    count = _deb.unpack_deb(deb, tmp_path / "out", lambda path: path if path == "usr/a.txt" else None, progress=False)
    assert count == 1
    assert [path.name for path in (tmp_path / "out").rglob("*") if path.is_file()] == ["a.txt"]
    assert (tmp_path / "out/usr/a.txt").read_bytes() == b"one"


@pytest.mark.skipif(not (shutil.which("dpkg-deb") and shutil.which("zstd")), reason="needs dpkg-deb and zstd")
def test_deb_reader_takes_zstandard(tmp_path):
    plain = tar_bytes({"./a": b"one"}, "w:")
    data = subprocess.run(["zstd", "-c"], input=plain, capture_output=True, check=True).stdout
    deb = write_deb(tmp_path / "a.deb", {}, ".zst", data)
    assert _deb.unpack_deb(deb, tmp_path / "out", str, progress=False) == 1


def test_deb_reader_says_what_is_missing_for_zstandard(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "zstandard", None)
    monkeypatch.setitem(sys.modules, "compression.zstd", None)
    monkeypatch.setattr(_deb.shutil, "which", lambda name: None)
    deb = write_deb(tmp_path / "a.deb", {}, ".zst", b"whatever")
    with pytest.raises(DatasetUnavailableError, match=r"install the Python package 'zstandard'"):
        _deb.unpack_deb(deb, tmp_path / "out", str, progress=False)


@pytest.mark.parametrize("content", [b"", b"no archive", b"!<arch>\nshort", b"!<arch>\n"])
def test_deb_reader_refuses_what_is_no_package(tmp_path, content):
    deb = tmp_path / "broken.deb"
    deb.write_bytes(content)
    with pytest.raises(DatasetUnavailableError, match=r"broken\.deb could not be unpacked.*damaged"):
        _deb.unpack_deb(deb, tmp_path / "out", str, progress=False)


@pytest.mark.parametrize("suffix", [".xz", ".gz", ""])
def test_deb_reader_refuses_a_package_cut_short(tmp_path, suffix):
    rng = np.random.default_rng(0)
    deb = write_deb(tmp_path / "a.deb", {f"./{i}": rng.bytes(50_000) for i in range(4)}, suffix)
    deb.write_bytes(deb.read_bytes()[:100_000])
    with pytest.raises(DatasetUnavailableError, match="damaged"):
        _deb.unpack_deb(deb, tmp_path / "out", str, progress=False)


@pytest.mark.parametrize("name", ["./../evil", "/evil"])
def test_deb_reader_writes_nothing_outside_its_folder(tmp_path, name):
    deb = write_deb(tmp_path / "a.deb", {name: b"x"})
    with pytest.raises(DatasetUnavailableError, match="would be written outside the folder"):
        _deb.unpack_deb(deb, tmp_path / "out", str, progress=False)
    assert not (tmp_path / "evil").exists()


# Tux Paint


def test_tux_paint_reads_images_texts_and_speech(tmp_path, fake_download):
    stamps = fetch_tux_paint(tmp_path, min_count=1, progress=False)
    assert list(stamps.frame.index) == ["animals/birds/wren", "animals/wren2", "town/stop"]
    wren = stamps.frame.loc["animals/birds/wren"]
    assert os.path.isabs(wren["image"]) and wren["image"].endswith("wren.png")
    assert wren["text"] == "A wren—small!"
    assert Path(wren["speech"]).read_bytes() == b"ogg"
    assert stamps.frame.loc["animals/wren2", "image"] is None  # drawn as SVG only
    assert stamps.frame.loc["town/stop", "speech"] is None
    assert stamps.missing == {"image": 1, "text": 0, "speech": 2}
    assert list(stamps.target) == ["animals", "animals", "town"]
    assert "GPL-2" in stamps.DESCR and "1.0" in stamps.DESCR


def test_tux_paint_groups_texts_that_differ_in_case_and_punctuation_only(tmp_path, fake_download):
    groups = fetch_tux_paint(tmp_path, min_count=1, progress=False).groups
    assert groups["animals/birds/wren"] == groups["animals/wren2"] != groups["town/stop"]


def test_tux_paint_leaves_out_small_classes(tmp_path, fake_download):
    stamps = fetch_tux_paint(tmp_path, min_count=2, progress=False)
    assert set(stamps.target) == {"animals"}
    assert "(town)" in stamps.DESCR
    with pytest.raises(ValueError, match=r"min_count=3 leaves no class: the largest, 'animals', has 2"):
        fetch_tux_paint(tmp_path, min_count=3, progress=False)


def test_tux_paint_keeps_only_what_is_used_and_no_scraps(tmp_path, fake_download):
    fetch_tux_paint(tmp_path, min_count=1, progress=False)
    kept = {path.name for path in tmp_path.rglob("*") if path.is_file()}
    assert not kept & {"wren_desc_es.ogg", "x", "tiny.deb"}
    assert {"COMPLETE.json", "copyright"} <= kept
    assert [path.name for path in tmp_path.iterdir()] == ["tux_paint"]


def test_tux_paint_is_fetched_once(tmp_path, fake_download):
    first = fetch_tux_paint(tmp_path, min_count=1, progress=False)
    second = fetch_tux_paint(tmp_path, min_count=1, progress=False)
    assert len(fake_download) == 1
    pd.testing.assert_frame_equal(first.frame, second.frame)


def test_tux_paint_is_fetched_again_where_the_marker_is_gone(tmp_path, fake_download):
    fetch_tux_paint(tmp_path, min_count=1, progress=False)
    (tmp_path / "tux_paint/COMPLETE.json").unlink()
    fetch_tux_paint(tmp_path, min_count=1, progress=False)
    assert len(fake_download) == 2


def test_a_broken_download_leaves_nothing_behind(tmp_path, monkeypatch):
    def download_package(package, folder, *, progress):
        deb = write_deb(folder / "tiny.deb", {**FILES, "./big": os.urandom(100_000)})
        deb.write_bytes(deb.read_bytes()[:60_000])
        return deb, _apt.PackageRecord("1.0", 1, "abc")

    monkeypatch.setattr(_tux_paint, "download_package", download_package)
    with pytest.raises(DatasetUnavailableError, match="damaged"):
        fetch_tux_paint(tmp_path, min_count=1, progress=False)
    assert list(tmp_path.iterdir()) == []


def test_a_stop_while_unpacking_leaves_nothing_behind(tmp_path, fake_download, monkeypatch):
    def stop(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(_tux_paint, "_write_marker", stop)
    with pytest.raises(KeyboardInterrupt):
        fetch_tux_paint(tmp_path, min_count=1, progress=False)
    assert list(tmp_path.iterdir()) == []


def test_the_slower_of_two_processes_takes_the_copy_of_the_faster(tmp_path):
    for name in ("mine", "theirs"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "COMPLETE.json").write_text(name)
    _tux_paint._move_into_place(tmp_path / "mine", tmp_path / "theirs")
    assert (tmp_path / "theirs/COMPLETE.json").read_text() == "theirs"


def test_data_home_comes_from_the_environment(tmp_path, fake_download, monkeypatch):
    monkeypatch.setenv("ENSEMBLEFUSE_DATA", str(tmp_path / "there"))
    fetch_tux_paint(min_count=1, progress=False)
    assert (tmp_path / "there/tux_paint/COMPLETE.json").is_file()


@pytest.mark.parametrize(("value", "error"), [(0, ValueError), (2.5, TypeError), (True, TypeError)])
def test_tux_paint_names_a_bad_min_count(tmp_path, value, error):
    with pytest.raises(error, match=rf"min_count must be an integer of at least 1, got {value!r}"):
        fetch_tux_paint(tmp_path, min_count=value)


def test_tux_paint_names_a_bad_data_home():
    with pytest.raises(TypeError, match=r"data_home must be a path or None, got 3"):
        fetch_tux_paint(3)


# apt-get, played by a shell script


@pytest.fixture
def fake_apt(tmp_path, monkeypatch):
    """Scripts named apt-get and apt-cache, first on the PATH; gives a function that writes them."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr(_apt, "_POLL_SECONDS", 0.01)

    def write(apt_get: str, apt_cache: str) -> Path:
        for name, body in (("apt-get", apt_get), ("apt-cache", apt_cache)):
            (folder / name).write_text(f"#!/bin/sh\necho {name} $* >> {folder}/calls\n{body}\n")
            (folder / name).chmod(0o755)
        return folder / "calls"

    return write


posix = pytest.mark.skipif(os.name != "posix", reason="plays apt-get with a shell script")
SHA_OF_HI = "98ea6e4f216f2fb4b69fff9b3a44842c38686ca685f3f55dc48c5d3fb1107be4"
RECORD = f"printf 'Version: 1.0\\nSize: 3\\nSHA256: {SHA_OF_HI}\\n'"


@posix
def test_apt_download_checks_the_digest_that_apt_tells(tmp_path, fake_apt):
    calls = fake_apt("echo hi > p_1.0_all.deb", RECORD)
    (tmp_path / "down").mkdir()
    deb, record = _apt.download_package("p", tmp_path / "down", progress=False)
    assert (deb.name, record.version, record.sha256) == ("p_1.0_all.deb", "1.0", SHA_OF_HI)
    assert "update" not in calls.read_text()


@posix
@pytest.mark.parametrize(
    ("apt_get", "apt_cache", "why"),
    [
        ("echo other > p.deb", RECORD, "SHA-256 is .* while apt-cache says 98ea"),
        ("echo 'Err: Could not resolve host'; exit 100", RECORD, "apt-get has no network"),
        ("echo 'E: Failed to fetch: 404'; exit 100", RECORD, r"apt-get failed \(Failed to fetch: 404\)"),
        ("exit 0", RECORD, "left 0 packages"),
        ("exit 0", "exit 100", "apt-get does not know it"),
        ("echo 'W: Temporary failure resolving' >&2", "exit 100", "apt-get has no network"),
    ],
)
def test_apt_download_says_why_it_failed(tmp_path, fake_apt, apt_get, apt_cache, why):
    fake_apt(apt_get, apt_cache)
    (tmp_path / "down").mkdir()
    with pytest.raises(DatasetUnavailableError, match=f"'p' could not be downloaded, because .*{why}"):
        _apt.download_package("p", tmp_path / "down", progress=False)


@posix
def test_apt_lists_are_refreshed_only_where_the_package_is_unknown(tmp_path, fake_apt):
    flag = tmp_path / "updated"
    calls = fake_apt(f'case "$*" in *update*) touch {flag};; *) echo hi > p.deb;; esac', f"test -e {flag} && {RECORD}")
    (tmp_path / "down").mkdir()
    _apt.download_package("p", tmp_path / "down", progress=False)
    assert calls.read_text().count("update") == 1


@posix
def test_apt_download_stops_a_silent_apt(tmp_path, fake_apt, monkeypatch):
    monkeypatch.setattr(_apt, "_STALL_SECONDS", 0.1)
    fake_apt("exec sleep 20", RECORD)
    (tmp_path / "down").mkdir()
    with pytest.raises(DatasetUnavailableError, match="timed out: no network"):
        _apt.download_package("p", tmp_path / "down", progress=False)


def test_apt_missing_is_said_in_one_sentence(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(DatasetUnavailableError, match="because apt-get is not on the PATH; run this on Debian"):
        fetch_tux_paint(tmp_path / "data", progress=False)
    assert list((tmp_path / "data").iterdir()) == []


# Digits


def has_speech() -> bool:
    try:
        _speech.start_speech()
    except _speech.SpeechUnavailableError:
        return False
    return True


speech = pytest.mark.skipif(not has_speech(), reason="espeakng-loader is not installed")


@speech
def test_digits_are_seen_spoken_and_hinted_at(tmp_path):
    digits = load_av_digits(20, data_home=tmp_path, progress=False)
    assert list(digits.frame.columns) == ["image", "text", "speech"]
    assert digits.target.value_counts().to_dict() == {str(digit): 2 for digit in range(10)}
    assert set(digits.groups) <= set(_speech.VOICES)
    for row in digits.frame.itertuples():
        assert Image.open(row.image).size == (8, 8)
        with wave.open(row.speech) as file:
            assert 0.1 < file.getnframes() / file.getframerate() < 3
        assert int(digits.target[row.Index]) in _av_digits._HINTS[row.text]
    assert "GENERATED" in digits.DESCR


@speech
def test_digits_are_the_same_again_and_a_larger_set_continues_a_smaller(tmp_path):
    few = load_av_digits(12, data_home=tmp_path / "a", progress=False)
    many = load_av_digits(15, data_home=tmp_path / "b", progress=False)
    assert list(few.frame.index) == list(many.frame.index[:12])
    assert list(few.frame["text"]) == list(many.frame["text"][:12])
    assert list(few.groups) == list(many.groups[:12])
    other = load_av_digits(12, data_home=tmp_path / "a", random_state=1, progress=False)
    assert list(other.frame.index) != list(few.frame.index)


@speech
def test_digits_are_written_once(tmp_path):
    first = load_av_digits(10, data_home=tmp_path, progress=False)
    paths = [*first.frame["image"], *first.frame["speech"]]
    times = [os.stat(path).st_mtime_ns for path in paths]
    load_av_digits(10, data_home=tmp_path, progress=False)
    assert [os.stat(path).st_mtime_ns for path in paths] == times


@speech
def test_every_voice_sounds_different(tmp_path):
    # espeak-ng takes a variant it does not have without a word, and speaks with the plain voice.
    clips = {
        _speech.spoken(_speech.Utterance("two", voice, 165, 50), tmp_path).read_bytes() for voice in _speech.VOICES
    }
    assert len(clips) == len(_speech.VOICES) == 24


def test_digits_have_row_sums_where_there_is_no_speech(tmp_path, monkeypatch):
    monkeypatch.setattr(_speech, "_speaker", None)
    monkeypatch.setitem(sys.modules, "espeakng_loader", None)
    digits = load_av_digits(20, data_home=tmp_path, progress=False)
    rows = [f"row_{i}" for i in range(8)]
    assert list(digits.frame.columns) == ["image", "text", *rows]
    pixels = np.asarray(Image.open(digits.frame["image"].iloc[0]), dtype=float) * 16 / 255
    np.testing.assert_allclose(digits.frame[rows].iloc[0], pixels.sum(axis=1), atol=0.5)
    assert digits.modalities["tabular"] == rows
    assert "espeakng-loader is not installed" in digits.DESCR
    assert digits.groups.is_unique


def test_no_hint_gives_its_digit_away():
    assert all(len(digits) >= 2 for digits in _av_digits._HINTS.values())
    assert set().union(*_av_digits._HINTS.values()) == set(range(10))


@pytest.mark.parametrize("value", [9, 1798])
def test_digits_name_a_bad_n_samples(tmp_path, value):
    with pytest.raises(ValueError, match=rf"n_samples must be .*at least 10 and at most 1797, got {value}"):
        load_av_digits(value, data_home=tmp_path)


def test_digits_name_a_bad_random_state(tmp_path):
    with pytest.raises(TypeError, match=r"random_state must be an integer of at least 0, got None"):
        load_av_digits(data_home=tmp_path, random_state=None)


# Media made on the spot


def test_media_are_real_files(tmp_path):
    media = make_media(tmp_path / "new", 9)
    assert list(media.frame.columns) == ["photo", "title", "clip", "price", "weight"]
    assert {Image.open(path).format for path in media.frame["photo"]} == {"PNG", "JPEG"}
    with wave.open(media.frame["clip"].iloc[0]) as file:
        assert (file.getframerate(), file.getnframes()) == (16_000, 4_000)
    assert media.target.value_counts().to_dict() == {"circle": 3, "square": 3, "triangle": 3}
    assert media.frame[["price", "weight"]].dtypes.eq(float).all()
    assert not any("__" in column for column in media.frame)


def test_media_are_the_same_again(tmp_path):
    first = make_media(tmp_path / "a", missing=0.3, random_state=5)
    second = make_media(tmp_path / "b", missing=0.3, random_state=5)
    same = ["title", "price", "weight"]
    pd.testing.assert_frame_equal(first.frame[same], second.frame[same])
    for name in ("photo-0000.png", "photo-0001.jpg", "clip-0000.wav"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    assert list(make_media(tmp_path / "c", random_state=6).frame["price"]) != list(first.frame["price"])


@pytest.mark.parametrize("missing", [0.0, 0.25, 0.5, 2 / 3])
def test_media_hide_the_share_asked_for_and_never_a_whole_row(tmp_path, missing):
    media = make_media(tmp_path, 24, missing=missing)
    hidden = media.frame[["photo", "title", "clip"]].isna()
    assert hidden.to_numpy().sum() == round(missing * 72) == sum(media.missing.values())
    assert not hidden.all(axis=1).any()
    assert all(cell is None or isinstance(cell, str) for cell in media.frame["photo"])


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"n_samples": 2}, ValueError, "n_samples must be an integer of at least 3, got 2"),
        ({"missing": 0.9}, ValueError, "missing must be from 0 to 2/3 .* got 0.9"),
        ({"missing": float("nan")}, ValueError, "missing must be from 0 to 2/3 .* got nan"),
        ({"missing": "half"}, TypeError, "missing must be a number from 0 to 2/3, got 'half'"),
        ({"random_state": -1}, ValueError, "random_state must be .* got -1"),
    ],
)
def test_media_name_the_bad_argument(tmp_path, arguments, error, message):
    with pytest.raises(error, match=message):
        make_media(tmp_path, **arguments)


def test_media_name_a_bad_folder():
    with pytest.raises(TypeError, match="folder must be a path, got None"):
        make_media(None)


# The demo, and the package


def test_demo_takes_the_stamps_where_they_can_be_had(tmp_path, fake_download, monkeypatch):
    monkeypatch.setenv("ENSEMBLEFUSE_DATA", str(tmp_path))
    monkeypatch.setattr(_demo, "fetch_tux_paint", lambda progress: fetch_tux_paint(min_count=1, progress=progress))
    demo = load_demo(progress=False)
    assert (demo.name, demo.note) == ("Tux Paint stamps", "")


def test_demo_falls_back_on_the_digits_and_says_why(tmp_path, monkeypatch):
    monkeypatch.setenv("ENSEMBLEFUSE_DATA", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(_demo, "load_av_digits", lambda progress: load_av_digits(10, progress=progress))
    demo = load_demo(progress=False)
    assert (demo.name, len(demo.frame)) == ("digits", 10)
    assert "apt-get is not on the PATH" in demo.note


def test_every_public_name_is_there():
    assert all(hasattr(datasets, name) for name in datasets.__all__)


@pytest.mark.slow
def test_the_real_tux_paint_stamps_can_be_fetched(tmp_path):
    if shutil.which("apt-get") is None:
        pytest.skip("apt-get is not on the PATH")
    try:
        stamps = fetch_tux_paint(tmp_path, progress=False)
    except DatasetUnavailableError as error:
        if "no network" not in str(error):
            raise
        pytest.skip(str(error))
    assert len(stamps.frame) >= 850 and stamps.target.nunique() >= 10
    assert stamps.frame["text"].str.len().min() > 0
    assert stamps.missing["image"] < 200 and stamps.missing["speech"] < 50
    for path in stamps.frame["image"].dropna().iloc[::50]:
        assert Image.open(path).format == "PNG"
    assert all(Path(path).read_bytes()[:4] == b"OggS" for path in stamps.frame["speech"].dropna().iloc[::50])
