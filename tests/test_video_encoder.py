"""VideoEncoder and VideoSoundEncoder: which frames count, the pictures' own embeddings, and files that do harm."""

import io
import os
import pickle
import socket
import subprocess
import sys
import time
import wave
from fractions import Fraction

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from PIL import Image
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression

from ensemblefuse import (
    AudioEncoder,
    DecisionFusionClassifier,
    EncodingError,
    FunctionEncoder,
    ImageEncoder,
    MissingModalityWarning,
    VideoEncoder,
    VideoSoundEncoder,
    get_cache,
    infer_modalities,
    load_model,
    make_fusion_pipeline,
    save_model,
)
from ensemblefuse.cells.video import read_video

av = pytest.importorskip("av", reason="PyAV carries the video libraries; the extra 'video' brings it")

# Container and codec of a file, and options that make frames depend on later ones.
KINDS = {
    "mp4": ("libx264", {"x264-params": "open-gop=1:bframes=3"}),
    "webm": ("libvpx", {"auto-alt-ref": "1", "lag-in-frames": "16"}),
    "matroska": ("mjpeg", {}),
    "avi": ("mpeg4", {}),
    "mpegts": ("libx264", {}),
    "mpeg": ("mpeg2video", {"bf": "2"}),
}
GREY = 6  # grey levels from one frame to the next


def grey_frames(n, size=(48, 64)):
    return np.repeat(np.arange(n, dtype=np.uint8) * GREY, size[0] * size[1] * 3).reshape(n, *size, 3)


def film(frames, kind="mp4", fps=10, sound=None, gop=12, options=None, times=None, rate=16_000):
    """Bytes of a video file; `sound` is a stereo array of shape (2, n), `times` are those of the frames in ms."""
    codec, usual = KINDS[kind]
    file = io.BytesIO()
    with av.open(file, "w", format=kind) as container:
        stream = container.add_stream(codec, rate=fps, options=dict(usual if options is None else options))
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        stream.codec_context.gop_size = gop
        if times is not None:
            stream.codec_context.time_base = Fraction(1, 1000)
        track = container.add_stream("pcm_s16le", rate=rate, layout="stereo") if sound is not None else None
        for i, pixels in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            if times is not None:
                frame.pts, frame.time_base = int(times[i]), Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
        if track is not None:
            for start in range(0, sound.shape[1], 1024):
                packed = (sound[:, start : start + 1024].T * 32767).astype(np.int16).reshape(1, -1)
                frame = av.AudioFrame.from_ndarray(packed, format="s16", layout="stereo")
                frame.sample_rate, frame.pts = rate, start
                container.mux(track.encode(frame))
            container.mux(track.encode())
    return file.getvalue()


def decoded_all(cell):
    """Times in seconds and pixels of all frames of a file, as PyAV gives them."""
    with av.open(io.BytesIO(cell)) as container:
        frames = list(container.decode(video=0))
    return [frame.time for frame in frames], [frame.to_ndarray(format="rgb24") for frame in frames]


def without_its_first_frames(cell, n):
    """The file with an edit that leaves its first `n` frames out, as a phone's trimming makes it."""
    file = io.BytesIO()
    options = {"avoid_negative_ts": "disabled"}
    with av.open(io.BytesIO(cell)) as source, av.open(file, "w", format="mp4", options=options) as container:
        stream = container.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.dts is not None:
                cut = round(n / 10 / packet.time_base)
                packet.pts, packet.dts, packet.stream = packet.pts - cut, packet.dts - cut, stream
                container.mux(packet)
    return file.getvalue()


def animation(frames, name="GIF", milliseconds=100):
    file = io.BytesIO()
    pictures = [Image.fromarray(pixels) for pixels in frames]
    pictures[0].save(file, name, save_all=True, append_images=pictures[1:], duration=milliseconds, lossless=True)
    return file.getvalue()


def shown(cell, n_frames=8, fps=None, max_pixels=None):
    """Numbers of the sampled frames of a `grey_frames` video, and their weights."""
    video = read_video(cell, n_frames, fps, max_pixels, needed_by="test")
    return [round(float(frame.mean()) / GREY) for frame in video.decode()], video.weights.tolist()


def noise(n, size=(24, 32), seed=0):
    return np.random.default_rng(seed).integers(0, 255, (n, *size, 3), dtype=np.uint8)


def mean_colour(frame):
    return frame.mean(axis=(0, 1))


BRIGHTNESS = VideoEncoder(FunctionEncoder(mean_colour))


# ---------------------------------------------------------------------- frames


@pytest.mark.parametrize("kind", KINDS)
def test_the_middles_of_equal_parts_are_taken_whatever_the_container(kind):
    cell = film(grey_frames(40), kind)
    assert shown(cell, 8)[0] == pytest.approx([2, 7, 12, 17, 22, 27, 32, 37], abs=1 if kind in ("avi", "mpeg") else 0)
    assert shown(cell, 1)[0] == [20]
    assert len(shown(cell, 40)[0]) == len(shown(cell, 99)[0]) == 40  # all of them, none twice


REFRESHED = {"x264-params": "intra-refresh=1:bframes=0"}  # strip by strip: no picture is a whole key frame
UNEVEN = np.cumsum(np.random.default_rng(1).integers(1, 400, 40))
HARD = {
    **{kind: (kind, {}) for kind in KINDS},
    "mp4 refreshed": ("mp4", {"options": REFRESHED}),
    "mpegts refreshed": ("mpegts", {"options": REFRESHED}),
    "avi with B-frames": ("avi", {"options": {"bf": "2"}}),
    "mp4 of one key frame": ("mp4", {"gop": 1000}),
    "mp4 of key frames": ("mp4", {"gop": 1}),
    "mp4 with uneven times": ("mp4", {"times": UNEVEN}),
    "webm with uneven times": ("webm", {"times": UNEVEN}),
}


@pytest.mark.by_turns
@pytest.mark.parametrize("name", [*HARD, "mp4 trimmed"])
def test_the_frames_are_those_that_decoding_the_whole_file_gives(name):
    kind, params = HARD.get(name, ("matroska", {}))
    cell = film(noise(40), kind, **params)
    cell = without_its_first_frames(film(noise(40)), 15) if name == "mp4 trimmed" else cell
    times, frames = decoded_all(cell)
    assert len(frames) == (25 if name == "mp4 trimmed" else 40)
    for n_frames in (1, 3, 8, 40):
        taken = min(n_frames, len(frames))
        places = (2 * np.arange(taken) + 1) * len(frames) // (2 * taken)
        found = list(read_video(cell, n_frames, None, None, needed_by="test").decode())
        assert_array_equal(found, [frames[place] for place in places])
    starts = np.array(times) - times[0]
    video = read_video(cell, 1, 1.7, None, needed_by="test")
    moments = np.arange(int(video.weights.sum())) / 1.7
    assert moments[-1] >= starts[-1] - 1 / 1.7  # up to the end of the last frame
    places = np.searchsorted(starts - 0.0005, moments, side="right") - 1
    assert_array_equal(np.repeat(list(video.decode()), video.weights.astype(int), axis=0), [frames[p] for p in places])


def test_fps_takes_the_frame_that_is_shown_at_each_moment():
    cell = film(grey_frames(40), "webm")
    assert shown(cell, fps=2) == ([0, 5, 10, 15, 20, 25, 30, 35], [1] * 8)
    assert shown(cell, fps=0.1) == ([0], [1])
    assert shown(cell, fps=20) == (list(range(40)), [2] * 40)
    slides = animation(grey_frames(3), milliseconds=[100, 1000, 100])
    assert shown(slides, fps=10) == ([0, 1, 2], [1, 10, 1])
    assert shown((grey_frames(40), 10), fps=2) == shown((list(grey_frames(40)), 10), fps=2) == shown(cell, fps=2)
    thirds = film(grey_frames(30), "webm", fps=30)  # whose times are whole milliseconds
    assert shown(thirds, fps=30) == (list(range(30)), [1] * 30)


@pytest.mark.parametrize("name", ["GIF", "WEBP", "PNG"])
def test_animations_and_arrays_are_sampled_as_files_are(name):
    frames = grey_frames(20)
    assert shown(animation(frames, name), 4) == shown(frames, 4) == ([2, 7, 12, 17], [1] * 4)
    assert shown(animation(frames[:1], name), 4) == shown(frames[:1], 4) == ([0], [1])


def test_a_list_of_frames_holds_pictures_of_any_kind(tmp_path):
    frames = grey_frames(4)
    Image.fromarray(frames[1]).save(tmp_path / "1.png")
    opaque = np.dstack([frames[3], np.full((48, 64), 255, dtype=np.uint8)])
    assert shown([frames[0], tmp_path / "1.png", Image.fromarray(frames[2]), opaque]) == ([0, 1, 2, 3], [1] * 4)
    names = np.array([str(tmp_path / "1.png")] * 2, dtype=object)  # what Parquet makes of a list
    column = np.empty(2, dtype=object)
    column[:] = [names, tuple(frames[1:2])]
    assert_allclose(BRIGHTNESS.fit_transform({"clip": column}), np.full((2, 3), GREY), rtol=1e-6)
    assert "frame 1 of 2 (from 0): UnidentifiedImageError" in reason([frames[0], b"no picture"])
    assert "frame 1 of 2 (from 0): TypeError" in reason([frames[0], None])
    assert "no such file" in (why := reason([frames[0], str(tmp_path / "gone.png")])) and "gone.png" in why
    assert "empty list" in reason([])


def test_a_video_lying_on_its_side_is_put_upright():
    frames = np.zeros((3, 48, 64, 3), dtype=np.uint8)
    frames[:, :24] = 255  # the upper half is white
    cell = bytearray(film(frames))
    matrix = cell.index(b"tkhd") + 44
    assert cell[matrix : matrix + 4] == b"\x00\x01\x00\x00"
    one = (1 << 16).to_bytes(4, "big")
    minus = (2**32 - (1 << 16)).to_bytes(4, "big")
    cell[matrix : matrix + 20] = bytes(4) + one + bytes(4) + minus + bytes(4)  # a quarter to the right
    (frame,) = read_video(bytes(cell), 1, None, None, needed_by="test").decode()
    assert frame.shape == (64, 48, 3)
    assert frame[:, 30:].mean() > 200 > 50 > frame[:, :18].mean()


# ---------------------------------------------------------------------- embeddings


def test_the_embedding_is_that_of_the_image_encoder_pooled_over_the_same_frames():
    cell = film(noise(20, (40, 56)))
    _, frames = decoded_all(cell)
    image = ImageEncoder()
    vectors = image.fit_transform([frames[i] for i in (2, 7, 12, 17)])
    expected = {"mean": vectors.mean(axis=0), "max": vectors.max(axis=0)}
    for pool, vector in expected.items():
        assert_allclose(
            image.set_params(pool=pool).fit_transform({"photos": [[frames[i] for i in (2, 7, 12, 17)]]}),
            [vector],
            atol=1e-6,
        )
        assert_allclose(VideoEncoder(n_frames=4, pool=pool).fit_transform({"clip": [cell]}), [vector], atol=1e-6)
    one = VideoEncoder(n_frames=1).fit_transform(
        {"clip": [cell, frames[10:11], [frames[10]], animation(frames[10:11], "PNG")]}
    )
    assert_allclose(one, np.repeat(image.fit_transform([frames[10]]), 4, axis=0), atol=1e-6)


def test_frames_are_pooled_number_by_number_and_their_order_does_not_count():
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 255, (8, 6, 5, 3), dtype=np.uint8)
    vectors = frames.mean(axis=(1, 2))
    for pool, expected in [
        ("mean", vectors.mean(axis=0)),
        ("max", vectors.max(axis=0)),
        ("mean+std", np.concatenate([vectors.mean(axis=0), vectors.std(axis=0)])),
    ]:
        encoder = clone(BRIGHTNESS).set_params(pool=pool)
        found = encoder.fit_transform({"clip": [frames, frames[rng.permutation(8)]]})
        assert_allclose(found, [expected, expected], rtol=1e-5)


def test_a_video_has_one_vector_whatever_the_batch_and_however_many_frames():
    frames = np.random.default_rng(0).integers(0, 255, (150, 4, 4, 3), dtype=np.uint8)
    cells = {"clip": [frames[:3], frames, animation(frames[:70]), frames[5:9]]}
    expected = [mean_colour(f.mean(axis=0)) for f in (frames[:3], frames, None, frames[5:9]) if f is not None]
    for batch_size, inner in [(1, 7), (4, 1), (2, 64)]:
        encoder = VideoEncoder(FunctionEncoder(mean_colour, batch_size=inner), n_frames=200, batch_size=batch_size)
        found = encoder.fit_transform(cells)
        assert_allclose(found[[0, 1, 3]], expected, rtol=1e-5)
    assert_allclose(found[2], mean_colour(frames[:70].mean(axis=0)), atol=3)  # 256 colours a frame


def test_what_changes_the_vectors_changes_the_recipe():
    base = VideoEncoder().recipe()
    assert base["params"]["frame_encoder"] == ImageEncoder().recipe()
    assert VideoEncoder(ImageEncoder(batch_size=2), batch_size=1, max_pixels=None, on_error="missing").recipe() == base
    assert VideoEncoder(fps=2, n_frames=3).recipe() == VideoEncoder(fps=2.0).recipe()
    others = [VideoEncoder(n_frames=4), VideoEncoder(fps=2), VideoEncoder(pool="max"), BRIGHTNESS]
    others += [VideoEncoder(ImageEncoder(output="tokens")), VideoEncoder(ImageEncoder(features="color"))]
    recipes = [base, *(encoder.recipe() for encoder in others)]
    assert all(recipes.count(recipe) == 1 for recipe in recipes)
    assert VideoEncoder(FunctionEncoder(lambda frame: np.ones(3) * id(BRIGHTNESS))).recipe() is None


def test_a_second_call_is_served_from_the_cache(tmp_path):
    path = tmp_path / "clip.mp4"
    path.write_bytes(film(grey_frames(9)))
    first = BRIGHTNESS.fit_transform({"clip": [path, str(path), path.read_bytes()]})
    assert get_cache().n_written == 1 and np.ptp(first, axis=0).max() == 0
    assert_array_equal(BRIGHTNESS.fit_transform({"clip": [path]})[0], first[0])
    assert get_cache().n_written == 1


@pytest.mark.parametrize(
    "params, message",
    [
        ({"n_frames": 0}, "n_frames must be a whole number of at least 1; got 0"),
        ({"n_frames": 2.5}, "n_frames must be a whole number"),
        ({"fps": 0}, "fps must be None or a number above 0; got 0"),
        ({"fps": float("inf")}, "fps must be"),
        ({"pool": "sum"}, r"pool must be one of \['mean', 'max', 'mean\+std'\]; got 'sum'"),
        ({"max_pixels": -1}, "max_pixels must be None or a whole number"),
        ({"frame_encoder": "resnet50"}, "frame_encoder must be None or an encoder; got 'resnet50'"),
    ],
)
def test_a_wrong_parameter_is_an_error_with_its_value(params, message):
    with pytest.raises((TypeError, ValueError), match=message):
        VideoEncoder(**params).fit({"clip": [grey_frames(2)]})


def test_parameters_of_the_inner_encoder_are_reached_and_the_pickle_is_small():
    encoder = VideoEncoder(ImageEncoder()).set_params(frame_encoder__model="resnet18", n_frames=2)
    assert clone(encoder).frame_encoder.model == "resnet18"
    fitted = clone(BRIGHTNESS).fit({"clip": [grey_frames(2)]})
    assert len(pickle.dumps(fitted)) < 1024
    assert len(pickle.dumps(VideoSoundEncoder(AudioEncoder()))) < 1024


# ---------------------------------------------------------------------- sound


def tone(seconds=0.5, hertz=440):
    wave = np.sin(2 * np.pi * hertz * np.arange(int(16_000 * seconds)) / 16_000).astype(np.float32)
    return np.stack([wave, 0.5 * wave])


SOUND = VideoSoundEncoder(AudioEncoder(features="librosa"))


def wav(sound, rate=16_000):
    """The stereo sound of `film` as a file of its own."""
    file = io.BytesIO()
    with wave.open(file, "wb") as writer:
        writer.setparams((2, 2, rate, 0, "NONE", ""))
        writer.writeframes((sound.T * 32767).astype(np.int16).tobytes())
    return file.getvalue()


@pytest.mark.parametrize("rate", [16_000, 48_000, 11_025])
def test_the_sound_of_a_video_has_the_embedding_of_the_sound_alone(rate):
    cell = film(grey_frames(5), "matroska", sound=tone(), rate=rate)
    own = AudioEncoder(features="librosa").fit_transform({"clip": [wav(tone(), rate)]})
    assert_allclose(SOUND.fit_transform({"clip": [cell, wav(tone(), rate)]}), np.repeat(own, 2, axis=0), rtol=1e-6)
    assert shown(cell, 5)[0] == list(range(5))


@pytest.mark.parametrize("codec", ["pcm_u8", "pcm_s24le", "pcm_s32le", "pcm_f32le", "pcm_f64le", "pcm_alaw"])
def test_numbers_of_every_kind_are_the_same_samples(codec):
    file = io.BytesIO()
    with av.open(file, "w", format="wav") as container:
        track = container.add_stream(codec, rate=16_000, layout="stereo")
        frame = av.AudioFrame.from_ndarray(tone(0.1), format="fltp", layout="stereo")
        frame.sample_rate = 16_000
        for converted in av.AudioResampler(format=track.format, layout="stereo", rate=16_000).resample(frame):
            container.mux(track.encode(converted))
        container.mux(track.encode())
    assert_allclose(
        SOUND.load(file.getvalue()).samples, SOUND.audio_encoder.load(file.getvalue()).samples, rtol=1e-6, atol=1e-9
    )


def test_whisper_hears_the_same_in_a_video_and_in_a_file():
    cell = film(grey_frames(5), "matroska", sound=tone())
    own = AudioEncoder().fit_transform({"clip": [wav(tone())]})
    assert_allclose(VideoSoundEncoder().fit_transform({"clip": [cell]}), own, rtol=1e-6)


def test_a_long_sound_is_decoded_again_and_not_held_in_memory(monkeypatch):
    cell = film(grey_frames(5), "matroska", sound=tone(3))
    whole = SOUND.load(cell)
    monkeypatch.setattr("ensemblefuse.cells.sound._IN_MEMORY", 1)
    streamed = SOUND.load(cell)
    assert streamed.samples is None and len(whole.samples) == 48_000
    assert_array_equal(np.concatenate(list(streamed.windows(7000))), whole.samples)


def test_another_encoder_of_sounds_is_given_samples_and_rate():
    encoder = VideoSoundEncoder(FunctionEncoder(lambda sound: [sound[0].ndim, len(sound[0]), sound[1]]))
    cell = film(grey_frames(5), "matroska", sound=tone(), rate=8000)
    assert_array_equal(encoder.fit_transform({"clip": [cell]}), [[1, 8000, 8000]])


def test_a_video_without_sound_lacks_the_modality_and_one_warning_says_so():
    silent, loud = film(grey_frames(5)), film(grey_frames(5), "matroska", sound=tone())
    with pytest.warns(MissingModalityWarning, match="2 of 4 videos in column 'clip' have no sound") as warned:
        vectors = SOUND.fit_transform({"clip": [silent, loud, None, silent]})
    assert len(warned) == 1
    assert np.isnan(vectors).all(axis=1).tolist() == [True, False, True, True]
    with pytest.warns(MissingModalityWarning, match="1 of 1 videos"):
        assert np.isnan(SOUND.transform({"clip": [silent]})).all()
    with pytest.warns(MissingModalityWarning):
        assert np.isnan(clone(SOUND).fit_transform({"clip": [silent, None]})).all()
    with pytest.raises(EncodingError, match="1 of 2"):
        SOUND.fit_transform({"clip": [silent, b"no video"]})


def test_the_audio_encoders_max_seconds_bounds_what_is_decoded():
    cell = film(grey_frames(5), "matroska", sound=tone(5))
    encoder = VideoSoundEncoder(AudioEncoder(features="librosa", max_seconds=1.0))
    assert len(encoder.load(cell).samples) == 16_000
    with pytest.warns(UserWarning, match="cut 1 sound of column 'clip' at max_seconds=1.0"):
        found = encoder.fit_transform({"clip": [cell]})
    with pytest.warns(UserWarning, match="cut 1 sound"):
        assert_allclose(found, encoder.audio_encoder.fit_transform({"clip": [wav(tone(5))]}), rtol=1e-6)


# ---------------------------------------------------------------------- pipelines


def test_a_column_may_be_frames_and_sound_and_the_model_can_be_saved(tmp_path):
    rng = np.random.default_rng(0)
    paths, labels = [], []
    for i in range(24):
        bright = i % 2
        frames = np.full((4, 16, 16, 3), 40 + 170 * bright, dtype=np.uint8) + rng.integers(0, 9, (4, 1, 1, 3)).astype(
            np.uint8
        )
        paths.append(tmp_path / f"{i}.mkv")
        paths[-1].write_bytes(film(frames, "matroska", sound=tone(0.2, 300 + 600 * bright) if i % 4 < 2 else None))
        labels.append("day" if bright else "night")
    table = {"clip": [str(path) for path in paths]}
    assert [name for name, _, _ in infer_modalities(table, verbose=False)] == ["video"]
    frames = VideoEncoder(ImageEncoder(), n_frames=2)
    fusion = DecisionFusionClassifier(LogisticRegression(), cv=3)
    model = make_fusion_pipeline([("frames", frames, "clip"), ("sound", SOUND, "clip")], fusion)
    with pytest.warns(MissingModalityWarning, match="have no sound"):
        model.fit(table, labels)
        assert (model.predict(table) == labels).mean() > 0.9
        save_model(model, tmp_path / "model")
        assert_array_equal(load_model(tmp_path / "model").predict(table), model.predict(table))


def test_columns_of_videos_are_told_by_suffix_and_by_shape():
    def kinds(cells):
        return [name for name, _, _ in infer_modalities({"clip": cells}, verbose=False)]

    assert kinds(["a.mp4", "b.MOV", "c.webm"]) == kinds([grey_frames(2), grey_frames(3)]) == ["video"]
    assert kinds(["a.gif", "b.png"]) == ["image"]


# ---------------------------------------------------------------------- hostile files


def reason(cell, **params):
    started = time.perf_counter()
    with pytest.raises(EncodingError) as caught:
        clone(BRIGHTNESS).set_params(**params).fit_transform({"clip": [cell]})
    assert time.perf_counter() - started < 5
    return caught.value.rows[0].reason


@pytest.mark.parametrize("kind", ["mp4", "webm", "matroska", "avi"])
def test_a_file_that_is_cut_short_is_a_bad_row(kind):
    whole = film(grey_frames(40), kind)
    for share in (0.3, 0.6, 0.9, 0.99):
        assert "cut short" in reason(whole[: int(len(whole) * share)])


@pytest.mark.parametrize("name", ["GIF", "WEBP", "PNG"])
def test_an_animation_that_is_cut_short_is_a_bad_row(name):
    whole = animation(np.random.default_rng(0).integers(0, 255, (12, 20, 20, 3), dtype=np.uint8), name)
    for share in (0.05, 0.3, 0.6, 0.9):
        assert reason(whole[: int(len(whole) * share)])


@pytest.mark.parametrize("n", [25, pytest.param(230, marks=pytest.mark.slow)])
def test_damaged_files_give_a_vector_or_one_error(tmp_path, n):
    """In a process of its own: a crash of a library must fail this test, not the run."""
    for kind in KINDS:
        sound = tone(0.3) if kind in ("matroska", "avi") else None
        (tmp_path / kind).write_bytes(film(noise(12), kind, gop=4, sound=sound))
    for name in ("GIF", "WEBP", "PNG"):
        (tmp_path / name).write_bytes(animation(noise(12), name))
    command = [sys.executable, "-c", DAMAGE, str(tmp_path), str(n)]
    run = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert run.returncode == 0, run.stderr[-2000:]
    results = [line.split() for line in run.stdout.splitlines()]
    assert [result[0] for result in results] == sorted([*KINDS, "GIF", "WEBP", "PNG"])
    for name, n_good, n_bad, n_cut, slowest, megabytes in results:
        assert int(n_good) + int(n_bad) == n and int(n_bad) > 0 < int(n_cut), name
        assert float(slowest) < 5 and float(megabytes) < 400, name
    assert not run.stderr, run.stderr[-500:]


DAMAGE = """
import os, pathlib, sys, threading, time
import numpy as np
from ensemblefuse import AudioEncoder, VideoSoundEncoder
from ensemblefuse.cells.video import read_video

def megabytes():
    try:
        return int(open("/proc/self/status").read().split("VmHWM:")[1].split()[0]) / 1024
    except OSError:
        return 0.0

sound, before = VideoSoundEncoder(AudioEncoder(features="librosa")), None
for path in sorted(pathlib.Path(sys.argv[1]).iterdir()):
    whole, rng, counts, slowest = path.read_bytes(), np.random.default_rng(0), [0, 0, 0], 0.0
    for i in range(int(sys.argv[2])):
        data = bytearray(whole)
        if i % 4 == 0:
            data = data[: rng.integers(len(data))]
        else:
            for place in rng.integers(4, 200 if i % 4 == 1 else len(data), size=1 + i % 20):  # headers are hit often
                data[place] = rng.integers(256)
        started = time.perf_counter()
        try:
            for frame in read_video(bytes(data), 4, None, 10**8, needed_by="test").decode():
                assert frame.dtype == np.uint8 and frame.shape[2] == 3
            counts[0] += 1
        except (ValueError, OSError) as error:
            counts[1] += 1
            counts[2] += i % 4 == 0
        try:
            assert np.isfinite(sound.load(bytes(data)).samples).all()
        except (ValueError, OSError) as error:
            pass
        slowest = max(slowest, time.perf_counter() - started)
        before = megabytes() if before is None else before
    print(path.name, *counts, slowest, megabytes() - before)
"""


def test_a_header_that_lies_allocates_nothing_and_takes_no_time():
    whole = film(grey_frames(6))
    for n_samples in (10**6, 10**7, 2**32 - 1):  # all of one size, so that no table need hold them
        lying = bytearray(whole)
        for box, offset, numbers in [
            (b"stsz", 8, (1, n_samples)),
            (b"stsc", 16, (n_samples,)),
            (b"stts", 12, (n_samples,)),
        ]:
            at = lying.index(box) + offset
            lying[at : at + 4 * len(numbers)] = b"".join(number.to_bytes(4, "big") for number in numbers)
        assert f"damaged: it declares {n_samples} samples" in reason(bytes(lying))
        lying = bytearray(whole)
        at = lying.index(b"stsz") + 12
        lying[at : at + 4] = n_samples.to_bytes(4, "big")
        assert reason(bytes(lying))
    rated = bytearray(film(grey_frames(6), options={"x264-params": "bframes=0"}))
    at = rated.index(b"stts") + 12
    rated[at : at + 8] = (10**6).to_bytes(4, "big") + (1).to_bytes(4, "big")  # a million frames, of which 6 are there
    assert len(shown(bytes(rated))[0]) == 6


def test_what_stands_behind_a_video_is_not_taken_for_a_part_of_it():
    whole = film(grey_frames(6))
    assert shown(whole + b"\xff" * 30) == shown(whole + b"SEFHe" * 9) == shown(whole)


def test_files_and_threads_are_closed(tmp_path):
    if not os.path.isdir("/proc/self/fd"):
        pytest.skip("this system does not list a process's files and threads in /proc")
    path, broken = tmp_path / "clip.mkv", tmp_path / "broken.mkv"
    path.write_bytes(film(noise(90), "matroska", sound=tone()))
    damaged = bytearray(path.read_bytes())
    damaged[1000:-1000:50] = bytes(len(damaged[1000:-1000:50]))
    broken.write_bytes(damaged)

    def fails(frame):
        raise ValueError("no")

    def load_all():
        BRIGHTNESS.load(path)
        SOUND.load(path)
        many = clone(BRIGHTNESS).set_params(n_frames=90)
        many.encode_batch([many.load(path)])
        for encoder, cell in [(VideoEncoder(FunctionEncoder(fails)), path), (BRIGHTNESS, broken)]:
            with pytest.raises(ValueError):
                encoder.load(cell)

    load_all()  # the first call imports
    before = [len(os.listdir(f"/proc/self/{what}")) for what in ("fd", "task")]
    for _ in range(3):
        load_all()
    assert [len(os.listdir(f"/proc/self/{what}")) for what in ("fd", "task")] == before


def test_frames_that_cost_too_much_are_refused_before_they_are_decoded():
    black = film(np.zeros((60, 512, 512, 3), dtype=np.uint8), gop=1000, options={"x264-params": "bframes=0"})
    # Of 60 frames, 15 and 45 are taken, and one key frame stands at the beginning.
    assert "46 frames of 512 x 512 pixels must be decoded" in reason(black, n_frames=2, max_pixels=10**6)
    assert "at most 100000 pixels" in reason(animation(grey_frames(40)), max_pixels=10**5)
    assert np.isfinite(clone(BRIGHTNESS).set_params(max_pixels=None).fit_transform({"clip": [black]})).all()


def test_a_gif_that_says_it_is_huge_allocates_nothing():
    lying = bytearray(animation(grey_frames(3)))
    lying[6:10] = b"\xff\xff\xff\xff"
    assert "65535 x 65535 pixels" in reason(bytes(lying))


def test_a_playlist_opens_no_other_file(tmp_path):
    (tmp_path / "secret.ts").write_bytes(film(grey_frames(20), "mpegts"))
    listener = socket.create_server(("127.0.0.1", 0))
    listener.settimeout(0.2)
    url = f"http://127.0.0.1:{listener.getsockname()[1]}/x.ts"
    for target in (str(tmp_path / "secret.ts"), f"file:{tmp_path}/secret.ts", url):
        playlist = f"#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\n{target}\n#EXT-X-ENDLIST\n"
        path = tmp_path / "list.m3u8"
        path.write_text(playlist)
        assert reason(str(path)) and reason(playlist.encode())
        assert reason(f"ffconcat version 1.0\nfile {target}\n".encode())
    with pytest.raises(TimeoutError):
        listener.accept()
    listener.close()


@pytest.mark.parametrize("cell", [b"", b"not a video", b"\x00" * 500, b"RIFF", b"\x1a\x45\xdf\xa3", b"GIF89a"])
def test_what_is_no_video_is_a_bad_row(cell):
    assert reason(cell)


def test_sound_files_pictures_and_other_cells_are_bad_rows(tmp_path):
    file = io.BytesIO()
    with wave.open(file, "wb") as writer:
        writer.setparams((1, 2, 8000, 0, "NONE", ""))
        writer.writeframes(bytes(8000))
    assert "no pictures" in reason(file.getvalue())
    assert "got int" in reason(3)
    assert "(n_frames, height, width, 3)" in reason(np.zeros((4, 4, 3), np.uint8))
    assert "(n_frames, height, width, 3)" in reason(np.zeros((0, 4, 4, 3), np.uint8))
    assert "floats must lie in [0, 1]" in reason(np.full((2, 4, 4, 3), 7.0))
    assert "frames without times, which fps needs" in reason(grey_frames(2), fps=1)
    assert "frames per second must be above 0" in reason((grey_frames(2), -1.0))
    assert "no such file" in reason(str(tmp_path / "gone.mp4"))
    assert reason(tmp_path) == "a folder, not a file"


def test_a_pipe_is_refused_and_not_waited_for(tmp_path):
    if not hasattr(os, "mkfifo"):
        pytest.skip("this system has no named pipes")
    os.mkfifo(tmp_path / "pipe.mp4")
    for encoder in (BRIGHTNESS, SOUND):
        with pytest.raises(ValueError, match="not a regular file"):
            encoder.load(tmp_path / "pipe.mp4")


def test_without_pyav_a_file_says_what_to_install_and_animations_work(monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    assert np.isfinite(BRIGHTNESS.fit_transform({"clip": [animation(grey_frames(3))]})).all()
    with pytest.raises(ImportError, match=r'pip install "ensemblefuse\[video\]"'):
        BRIGHTNESS.fit_transform({"clip": [b"\x00\x00\x00\x18ftypmp42"]})
