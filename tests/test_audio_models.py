"""AudioEncoder on folders of transformers: the numbers of transformers' own calls, sound by sound."""

import json
import shutil
import warnings

import numpy as np
import pytest
from numpy.testing import assert_allclose
from test_audio_encoder import column, tone

from ensemblefuse import AudioEncoder, EncodingError, config_context

RATE = 16_000
CONVOLUTIONS = {"conv_dim": [16, 16], "conv_kernel": [10, 8], "conv_stride": [5, 8], "num_feat_extract_layers": 2}
TINY = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
POSITIONS = {"num_conv_pos_embeddings": 8, "num_conv_pos_embedding_groups": 2}


def save(folder, model, extractor):
    model.eval().save_pretrained(folder)
    extractor.save_pretrained(folder)
    return folder


def build(kind, folder):
    """A folder of one kind of model, of random weights."""
    import torch
    import transformers as t

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        waveform = TINY | CONVOLUTIONS | POSITIONS
        if kind == "wav2vec2 group norm":
            extractor = t.Wav2Vec2FeatureExtractor(return_attention_mask=False)
            return save(folder, t.Wav2Vec2Model(t.Wav2Vec2Config(**waveform)), extractor)
        layer = {"feat_extract_norm": "layer", "do_stable_layer_norm": True}
        masked = t.Wav2Vec2FeatureExtractor(return_attention_mask=True)
        if kind == "wav2vec2 layer norm":
            return save(folder, t.Wav2Vec2Model(t.Wav2Vec2Config(**waveform, **layer)), masked)
        if kind == "hubert":
            return save(folder, t.HubertModel(t.HubertConfig(**waveform, **layer)), masked)
        if kind == "wavlm":
            return save(folder, t.WavLMModel(t.WavLMConfig(**waveform, **layer)), masked)
        if kind == "whisper":
            config = t.WhisperConfig(
                vocab_size=50,
                d_model=16,
                encoder_layers=1,
                decoder_layers=1,
                encoder_attention_heads=2,
                decoder_attention_heads=2,
                encoder_ffn_dim=16,
                decoder_ffn_dim=16,
                num_mel_bins=80,
                max_source_positions=100,
                pad_token_id=0,
                bos_token_id=1,
                eos_token_id=2,
                decoder_start_token_id=1,
            )
            return save(folder, t.WhisperModel(config), t.WhisperFeatureExtractor(chunk_length=2))
        if kind == "ast":
            shape = {"num_mel_bins": 32, "max_length": 64}
            config = t.ASTConfig(**TINY, **shape, patch_size=8, frequency_stride=5, time_stride=5)
            return save(folder, t.ASTModel(config), t.ASTFeatureExtractor(**shape))
        audio = t.ClapAudioConfig(
            patch_embeds_hidden_size=8,
            hidden_size=64,
            depths=[1, 1, 1, 1],
            num_attention_heads=[2, 2, 2, 2],
            num_hidden_layers=4,
            projection_dim=12,
            enable_fusion=kind == "clap fusion",
            fusion_type=None,
        )
        text = t.ClapTextConfig(**TINY, vocab_size=20, projection_dim=12)
        config = t.ClapConfig(text_config=text.to_dict(), audio_config=audio.to_dict(), projection_dim=12)
        how = "fusion" if kind == "clap fusion" else "rand_trunc"
        return save(folder, t.ClapModel(config), t.ClapFeatureExtractor(max_length_s=1, truncation=how))


WAVEFORM = ["wav2vec2 group norm", "wav2vec2 layer norm", "hubert", "wavlm"]
KINDS = [*WAVEFORM, "whisper", "ast", "clap", "clap fusion"]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Folders by kind, made when first asked for."""

    class Folders(dict):
        def __missing__(self, kind):
            self[kind] = build(kind, tmp_path_factory.mktemp(kind.replace(" ", "_")))
            return self[kind]

    return Folders()


def theirs(folder):
    from transformers import AutoFeatureExtractor, AutoModel

    return AutoModel.from_pretrained(folder).eval(), AutoFeatureExtractor.from_pretrained(folder)


def outputs(folder, clip, rate=RATE, **settings):
    """The last hidden states of one sound alone, by transformers' own calls."""
    import torch

    model, extractor = theirs(folder)
    with torch.inference_mode():
        inputs = extractor(clip, sampling_rate=rate, return_tensors="pt", **settings)
        network = model.get_encoder() if "input_features" in inputs and hasattr(model, "get_encoder") else model
        return network(**{k: v for k, v in inputs.items() if k != "attention_mask"}).last_hidden_state[0].numpy()


def mean_and_std(frames):
    return np.hstack([frames.mean(axis=0), frames.std(axis=0)])


def encode(folder, clips, **params):
    with config_context(cache=None):
        return AudioEncoder(folder, device="cpu", **params).fit_transform(column(clips))


CLIPS = [tone(200 + 60 * i, seconds, noise=0.01) for i, seconds in enumerate([0.3, 0.25, 0.61, 0.3, 0.999, 0.05])]


@pytest.mark.by_turns
@pytest.mark.parametrize("kind", WAVEFORM)
def test_a_model_of_samples_gives_the_frames_of_transformers(folders, kind):
    vectors = encode(folders[kind], CLIPS, batch_size=4)
    assert vectors.shape == (6, 32) and vectors.dtype == np.float32
    expected = [mean_and_std(outputs(folders[kind], clip)) for clip in CLIPS]
    assert_allclose(vectors, expected, rtol=1e-4, atol=1e-5)


def test_whisper_gives_the_frames_of_the_sound_and_not_those_of_the_silence_after_it(folders):
    vectors = encode(folders["whisper"], CLIPS)
    for vector, clip in zip(vectors, CLIPS, strict=True):
        own = outputs(folders["whisper"], clip)[: -(-len(clip) // 320)]
        assert_allclose(vector, mean_and_std(own), rtol=1e-4, atol=1e-5)


def test_a_spectrogram_transformer_gives_the_patches_that_begin_in_the_sound(folders):
    full = tone(300, 0.655, noise=0.01)  # 64 windows of 25 ms every 10 ms
    vectors = encode(folders["ast"], [full, full[:4000]])
    n_bands, n_times = 5, 12  # patches of 8 every 5, of 32 bands and 64 times
    patches = outputs(folders["ast"], full)[2:]
    assert patches.shape == (n_bands * n_times, 16)
    assert_allclose(vectors[0], mean_and_std(patches), rtol=1e-4, atol=1e-5)
    short = outputs(folders["ast"], full[:4000])[2:].reshape(n_bands, n_times, 16)
    own = short[:, :5]  # 4 000 samples make 23 times, in which patches begin at 0, 5, 10, 15 and 20
    assert_allclose(vectors[1], mean_and_std(own.reshape(-1, 16)), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", ["clap", "clap fusion"])
def test_clap_gives_the_projection_of_transformers(folders, kind):
    import torch

    model, extractor = theirs(folders[kind])
    clips = [tone(300, 0.5, rate=48_000), tone(900, 1.0, rate=48_000, noise=0.1), tone(500, 0.1, rate=48_000)]
    expected = []
    for clip in clips:
        inputs = extractor(clip, sampling_rate=48_000, return_tensors="pt")
        inputs["is_longer"] = torch.zeros((1, 1), dtype=torch.bool)  # where none is longer, they draw one to be
        with torch.inference_mode():
            made = model.get_audio_features(**inputs)
        expected.append(getattr(made, "pooler_output", made)[0].numpy())
    vectors = encode(folders[kind], clips)
    assert_allclose(vectors, expected, rtol=1e-4, atol=1e-5)
    assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_a_sound_has_one_vector_whatever_the_batch_and_the_random_state(folders, kind):
    import torch

    state = torch.random.get_rng_state(), torch.is_grad_enabled(), str(np.random.get_state())  # noqa: NPY002
    clips = [*CLIPS, tone(400, 2.3, noise=0.01), np.zeros(1), tone()[:7]]
    one_by_one = encode(folders[kind], clips, batch_size=1)
    np.random.random()  # noqa: NPY002
    assert_allclose(encode(folders[kind], clips[::-1], batch_size=5)[::-1], one_by_one, rtol=1e-4, atol=1e-5)
    assert np.isfinite(one_by_one).all()
    assert torch.equal(state[0], torch.random.get_rng_state()) and torch.is_grad_enabled() == state[1]


def test_long_sounds_are_pooled_over_all_frames_of_their_windows(folders):
    clip = tone(300, 5.3, noise=0.01)
    frames = [outputs(folders["whisper"], clip[start : start + 2 * RATE]) for start in (0, 2 * RATE)]
    last = outputs(folders["whisper"], clip[4 * RATE :])[:65]  # 1.3 s
    expected = mean_and_std(np.concatenate([*frames, last]))
    assert_allclose(encode(folders["whisper"], [clip])[0], expected, rtol=1e-4, atol=1e-5)


def test_long_sounds_of_clap_are_the_mean_of_their_windows(folders):
    clip = tone(300, 2.5, rate=48_000, noise=0.1)
    parts = encode(folders["clap"], [clip[:48_000], clip[48_000:96_000], clip[96_000:]]).astype(float)
    mean = np.average(parts, axis=0, weights=[2, 2, 1])
    assert_allclose(encode(folders["clap"], [clip])[0], mean / np.linalg.norm(mean), rtol=1e-4, atol=1e-5)


def test_max_seconds_counts_the_beginning_alone(folders):
    clip = tone(300, 1.7, noise=0.01)
    with pytest.warns(UserWarning, match="cut 1 sound of column 'clip' at max_seconds=0.5"):
        cut = encode(folders["hubert"], [clip, clip[:4000]], max_seconds=0.5)
    assert_allclose(cut, encode(folders["hubert"], [clip[:8000], clip[:4000]]), rtol=1e-4, atol=1e-5)


def test_the_recipe_is_the_content_of_the_folder(folders, tmp_path):
    copy = shutil.copytree(folders["ast"], tmp_path / "copy")
    recipe = AudioEncoder(copy).recipe()
    assert recipe == AudioEncoder(str(folders["ast"]), batch_size=3).recipe()
    assert recipe != AudioEncoder(copy, max_seconds=1).recipe() and "copy" not in json.dumps(recipe)
    settings = json.loads((copy / "preprocessor_config.json").read_text())
    (copy / "preprocessor_config.json").write_text(json.dumps(settings | {"mean": 0.0}))
    assert AudioEncoder(copy).recipe() != recipe


def test_half_precision_is_raised_to_float32(folders, tmp_path):
    model, extractor = theirs(folders["hubert"])
    save(tmp_path, model.half(), extractor)
    vectors = encode(tmp_path, CLIPS)
    assert vectors.dtype == np.float32
    assert_allclose(vectors, encode(folders["hubert"], CLIPS), atol=0.01)


def changed(folder, to, file="config.json", **settings):
    shutil.copytree(folder, to)
    old = json.loads((to / file).read_text())
    (to / file).write_text(json.dumps(old | settings))
    return to


@pytest.mark.filterwarnings("ignore:At least one mel filter")  # the other extractor's
def test_a_folder_that_cannot_be_used_is_an_error_that_says_why(folders, tmp_path):
    from safetensors.numpy import load_file, save_file

    hubert = folders["hubert"]
    clips = column([tone()])
    with pytest.raises(ValueError, match=r"holds no config.json and no model.bin"):
        AudioEncoder(tmp_path).fit(clips)
    bert = changed(hubert, tmp_path / "bert", model_type="bert")
    message = r"'bert' holds a model of the type 'bert'; these types of transformers can be read"
    with pytest.raises(ValueError, match=message):
        AudioEncoder(bert).fit(clips)
    rateless = shutil.copytree(hubert, tmp_path / "rateless")
    (rateless / "preprocessor_config.json").unlink()
    with pytest.raises(ValueError, match=r"'rateless' holds no preprocessor_config.json that gives a sampling_rate"):
        AudioEncoder(rateless).fit(clips)
    broken = shutil.copytree(hubert, tmp_path / "broken")
    (broken / "model.safetensors").write_bytes(b"\xff" * 100)
    with pytest.raises(ValueError, match="transformers cannot load the folder 'broken'"):
        AudioEncoder(broken).fit(clips)
    partial = shutil.copytree(hubert, tmp_path / "partial")
    weights = load_file(partial / "model.safetensors")
    del weights["encoder.layers.0.attention.k_proj.weight"]
    save_file(weights, partial / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"lack 1 of the model's, such as 'encoder.layers.0.attention.k_proj.weight'"):
        AudioEncoder(partial).fit(clips)
    other = changed(
        hubert, tmp_path / "other", "preprocessor_config.json", feature_extractor_type="ASTFeatureExtractor"
    )
    with pytest.raises(ValueError, match=r"folder 'other' .*prepared by ASTFeatureExtractor, not by Wav2Vec2Feature"):
        AudioEncoder(other).fit(clips)


def test_code_that_comes_with_a_folder_is_not_run(folders, tmp_path):
    code = "import pathlib\npathlib.Path(__file__).with_name('ran').touch()\nclass Own: pass\n"
    for file, key in (("config.json", "AutoModel"), ("preprocessor_config.json", "AutoFeatureExtractor")):
        folder = changed(folders["hubert"], tmp_path / key, file, auto_map={key: "own.Own"})
        (folder / "own.py").write_text(code)
        encode(folder, CLIPS[:1])
        unknown = changed(folder, tmp_path / f"{key} unknown", file, feature_extractor_type="Own", model_type="own")
        with pytest.raises(ValueError, match=r"cannot load|holds a model of the type"):
            encode(unknown, CLIPS[:1])
        assert not list(tmp_path.rglob("ran"))


def test_encoding_prints_and_warns_of_nothing(folders, tmp_path, capfd):
    fresh = changed(folders["wav2vec2 layer norm"], tmp_path / "fresh", note=1)
    with warnings.catch_warnings(), config_context(progress=False):
        warnings.simplefilter("error")
        encode(fresh, CLIPS)
    assert capfd.readouterr() == ("", "")


def test_one_bad_sound_costs_the_others_nothing(folders):
    with pytest.raises(EncodingError, match="row 1, column 'clip'") as caught:
        encode(folders["ast"], [tone(), b"no sound", np.full(99, np.nan)])
    assert [row.label for row in caught.value.rows] == [1, 2]


@pytest.mark.parametrize("kind", ["hubert", "whisper"])
def test_the_tokens_of_a_sound_are_its_frames_in_their_order(folders, kind):
    clips = [*CLIPS[:2], np.concatenate([CLIPS[0]] * 9)[: 5 * RATE]]
    cells = encode(folders[kind], clips, output="tokens", max_tokens=2500, batch_size=2)[:, 0]
    step = 320
    for clip, tokens in zip(clips, cells, strict=True):
        parts = (
            [clip] if kind == "hubert" else [clip[start : start + 2 * RATE] for start in range(0, len(clip), 2 * RATE)]
        )
        frames = [outputs(folders[kind], part)[: None if kind == "hubert" else -(-len(part) // step)] for part in parts]
        assert_allclose(tokens, np.concatenate(frames), rtol=1e-4, atol=1e-5)
    few = encode(folders[kind], clips[:1], output="tokens", max_tokens=3)[0, 0]
    assert len(few) <= 3
    assert_allclose(few[0], cells[0][: -(-len(cells[0]) // 3)].mean(axis=0), rtol=1e-4, atol=1e-5)


def test_what_has_no_frames_gives_no_tokens():
    with pytest.raises(ValueError, match=r"takes features=None only; got 'librosa'"):
        AudioEncoder(features="librosa", output="tokens").fit({"clip": [CLIPS[0]]})
