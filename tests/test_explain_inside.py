"""What counts inside a modality of one row: what was planted is found, in every kind of cell, by every method."""

import re

import numpy as np
import pandas as pd
import polars as pl
import pytest
from conftest import make_blocks
from numpy.testing import assert_allclose
from PIL import Image
from sklearn.compose import make_column_transformer
from sklearn.ensemble import RandomForestClassifier
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from ensemblefuse import (
    AudioEncoder,
    BlockScaler,
    CascadeFusionClassifier,
    DecisionFusionClassifier,
    DecisionFusionRegressor,
    EncodingError,
    FeatureFusionClassifier,
    FunctionEncoder,
    ImageEncoder,
    MeanPool,
    PrecomputedEncoder,
    TimeSeriesEncoder,
    config_context,
    explain_row,
    get_cache,
    make_fusion_pipeline,
)

HEAD = LogisticRegression()
TABULAR = make_column_transformer((StandardScaler(), ["price", "weight"]), (OneHotEncoder(), ["kind"]))
N = 40
DOG = 1  # a row of the class with the planted parts


def picture(is_dog, rng):
    pixels = rng.integers(90, 160, (48, 64, 3), dtype=np.uint8)
    if is_dog:
        pixels[36:, 50:] = [220, 20, 20]  # the lower right corner
    return pixels


def sound(is_dog, rng):
    time = np.arange(4000) / 8000
    samples = 0.02 * rng.normal(size=4000) + is_dog * 0.5 * np.sin(2 * np.pi * 1000 * time) * (time > 0.36)
    return samples.astype(np.float32), 8000


def spectrum(cell):
    """Log power in 4 windows of 10 bands."""
    power = np.abs(np.fft.rfft(cell[0].reshape(4, 1000), axis=1))[:, :500] ** 2
    return np.log(0.01 + power.reshape(4, 10, 50).sum(axis=2)).ravel()


def levels(series):
    return series.reshape(5, -1).mean(axis=1)


MODALITIES = [
    ("image", ImageEncoder(features="color"), "photo"),
    ("text", TfidfVectorizer(), "title"),
    ("audio", FunctionEncoder(spectrum), "clip"),
    ("sensor", FunctionEncoder(levels), "sensor"),
    ("tabular", TABULAR, ["price", "weight", "kind"]),
]


def make_rows():
    rng = np.random.default_rng(0)
    dog = np.arange(N) % 2 == 1
    words = ["one", "two", "three", "four", "five"]
    columns = {
        "photo": [picture(d, rng) for d in dog],
        "title": [" ".join([*rng.permutation(words), *["puppy"] * int(d)]) for d in dog],
        "clip": [sound(d, rng) for d in dog],
        "sensor": [0.1 * rng.normal(size=60) + d * 3.0 * (np.arange(60) >= 48) for d in dog],
    }
    df = pd.DataFrame({name: pd.Series(cells, dtype=object) for name, cells in columns.items()})
    df["price"] = rng.normal(size=N) + 4.0 * dog
    df["weight"] = rng.normal(size=N)
    df["kind"] = rng.choice(["a", "b"], N)
    return df, np.where(dog, "dog", "cat")


@pytest.fixture(scope="module")
def rows():
    return make_rows()


@pytest.fixture(scope="module")
def model(rows):
    with config_context(cache=None, progress=False):
        return make_fusion_pipeline(MODALITIES, DecisionFusionClassifier(HEAD, cv=3)).fit(*rows)


@pytest.fixture(scope="module", params=["occlusion", "lime", pytest.param("shap", marks=pytest.mark.slow)])
def explained(request, rows, model):
    with config_context(cache=None, progress=False):
        return explain_row(model, rows[0], DOG, method=request.param, grid=5, n_samples=150)


def largest(effects):
    return np.unravel_index(np.argmax(effects), effects.shape)


@pytest.mark.by_turns
def test_the_patch_is_found_in_the_picture(explained, rows):
    part = explained.parts["image"]
    assert part.kind == "image" and part.effects.shape == (5, 5)
    assert largest(part.effects) == (4, 4)
    assert (part.shown == rows[0]["photo"][DOG]).all()


def test_the_word_is_found_in_the_text(explained, rows):
    table = explained.parts["text"].effects
    assert table.loc[table["effect"].idxmax(), "token"] == "puppy"
    text = rows[0]["title"][DOG]
    assert [text[a:b] for a, b in zip(table["start"], table["end"], strict=True)] == table["token"].tolist()


def test_the_tone_is_found_in_the_sound(explained):
    part = explained.parts["audio"]
    band, window = largest(part.effects)
    hz, seconds = part.edges
    assert hz[band] <= 1000 <= hz[band + 1]
    assert seconds[window + 1] > 0.36  # when it begins


def test_the_window_is_found_in_the_series(explained):
    part = explained.parts["sensor"]
    assert part.kind == "series" and part.effects.idxmax() >= 44
    assert part.shown.shape == (1, 60)


def test_the_column_is_found_in_the_table(explained, rows):
    part = explained.parts["tabular"]
    assert part.effects.idxmax() == "price" and list(part.effects.index) == ["price", "weight", "kind"]
    assert part.shown["kind"] == rows[0]["kind"][DOG]


def test_the_printed_explanation_lists_the_columns_of_a_table_by_their_effects(explained, rows):
    part, lines = explained.parts["tabular"], str(explained).splitlines()
    start = lines.index(f"  tabular  {explained.shares['tabular']:+.3f}")
    assert lines[start + 1] == f"    {part.unit}:" and len(lines) == start + 5
    assert lines[start + 2].startswith(f"      price = {rows[0]['price'][DOG]:.4g}  {part.effects['price']:+.3f}")
    order = part.effects.abs().sort_values(ascending=False).index
    assert [line.split()[0] for line in lines[start + 2 :]] == list(order)


def test_the_printed_explanation_of_many_columns_stays_short():
    X, y = make_blocks(n=60, widths={"a": 40, "b": 2})
    said = explain_row(FeatureFusionClassifier(LogisticRegression()).fit(X, y), X, 0)
    lines = str(said).splitlines()
    assert "      and 25 columns of smaller effect" in lines
    assert sum(line.startswith("      a__") for line in lines) == 15 and len(said.parts["a"].effects) == 40


def test_what_speaks_against_the_other_class_has_the_other_sign(rows, model):
    said = explain_row(model, rows[0], DOG, target="cat", within=["text"])
    table = said.parts["text"].effects
    assert list(said.parts) == ["text"]
    assert table.loc[table["effect"].idxmin(), "token"] == "puppy"


def test_the_effect_of_a_word_is_the_drop_of_the_log_odds_without_it(rows, model):
    df, _ = rows
    table = explain_row(model, df, DOG, within=["text"]).parts["text"].effects
    without = df.loc[[DOG]].assign(title=df["title"][DOG].replace(" puppy", ""))
    p, q = (model.predict_proba(table)[0, 1] for table in (df.loc[[DOG]], without))
    drop = np.log(p / (1 - p)) - np.log(q / (1 - q))
    assert_allclose(table["effect"].iloc[-1], drop, rtol=1e-6)


@pytest.mark.slow  # imports shap
def test_shapley_values_of_columns_add_up(rows, model):
    df, _ = rows
    effects = explain_row(model, df, DOG, within=["tabular"], method="shap").parts["tabular"].effects
    usual = df.loc[[DOG]].assign(price=df["price"].median(), weight=df["weight"].median(), kind=df["kind"].mode()[0])
    p, q = (model.predict_proba(table)[0, 1] for table in (df.loc[[DOG]], usual))
    assert_allclose(effects.sum(), np.log(p / (1 - p)) - np.log(q / (1 - q)), rtol=1e-6)


@pytest.mark.by_turns
@pytest.mark.parametrize("method", ["lime", "shap"])
def test_a_seed_fixes_the_explanation_and_leaves_the_users_numbers_alone(rows, model, method):
    run = lambda seed: explain_row(
        model, rows[0], DOG, within=["text"], method=method, n_samples=30, random_state=seed
    ).parts["text"]
    np.random.seed(5)  # noqa: NPY002
    first, state = run(0).effects["effect"], np.random.random()  # noqa: NPY002
    np.random.seed(5)  # noqa: NPY002
    assert np.random.random() == state  # noqa: NPY002
    assert_allclose(run(0).effects["effect"], first)
    assert not np.allclose(run(1).effects["effect"], first)


# ---------------------------------------------------------------------- what it costs


def test_only_the_occluded_modality_is_encoded_and_the_cache_is_not_filled(rows, monkeypatch):
    modalities = [
        ("text", FunctionEncoder(lambda title: [len(title), title.count("puppy")]), "title"),
        ("image", FunctionEncoder(lambda pixels: pixels.mean(axis=(0, 1))), "photo"),
    ]
    model = make_fusion_pipeline(modalities, DecisionFusionClassifier(HEAD, cv=3)).fit(*rows)
    seen, load, before = [], FunctionEncoder.load, get_cache().stats()
    monkeypatch.setattr(FunctionEncoder, "load", lambda self, cell: seen.append(type(cell)) or load(self, cell))
    explain_row(model, rows[0], DOG, within=["text"])
    n_words = len(rows[0]["title"][DOG].split())
    assert seen == [str] * (1 + n_words)  # once whole, since the cache is off then, and once without each word
    assert get_cache().stats() == before


def test_nothing_is_fitted(rows, model, monkeypatch):
    monkeypatch.setattr(LogisticRegression, "fit", lambda *_, **__: pytest.fail("a head was fitted"))
    explain_row(model, rows[0], DOG, within=["text", "tabular"])


# ---------------------------------------------------------------------- kinds of models and cells


def test_a_forest_a_bare_fusion_and_a_regressor_are_explained_too():
    X, y = make_blocks(n=90)
    forest = FeatureFusionClassifier(RandomForestClassifier(20, random_state=0)).fit(X, y)
    parts = explain_row(forest, X, 5).parts
    assert {name: part.kind for name, part in parts.items()} == dict.fromkeys(["image", "text", "audio"], "columns")
    target = 5 * X["text__1"].to_numpy()
    model = DecisionFusionRegressor(Ridge(), cv=3).fit(X, target)
    far = X["text__1"].abs().idxmax()
    effects = explain_row(model, X, far).parts["text"].effects
    assert effects.abs().idxmax() == "text__1"
    array = DecisionFusionRegressor(Ridge(), cv=3, blocks={"left": slice(0, 6), "right": slice(6, 13)})
    said = explain_row(array.fit(X.to_numpy(), target), X.to_numpy(), int(far))
    assert said.parts["right"].effects.abs().idxmax() == 7 and abs(said.shares["right"]) > abs(said.shares["left"])


@pytest.mark.by_turns
@pytest.mark.parametrize(
    "as_table", [pl.DataFrame, lambda df: df.to_dict("list"), lambda df: df], ids=["polars", "dict", "pandas"]
)
def test_every_table_gives_the_same_explanation(rows, as_table):
    df = rows[0][["title", "price", "weight", "kind"]]
    model = make_fusion_pipeline([MODALITIES[1], MODALITIES[4]], DecisionFusionClassifier(HEAD, cv=3)).fit(df, rows[1])
    expected, said = explain_row(model, df, DOG), explain_row(model, as_table(df), DOG)
    assert_allclose(said.shares, expected.shares)
    assert_allclose(said.parts["text"].effects["effect"], expected.parts["text"].effects["effect"])
    assert_allclose(said.parts["tabular"].effects, expected.parts["tabular"].effects)


def test_steps_between_encoders_and_fusion_take_part(rows):
    df, y = rows
    plain = make_fusion_pipeline([MODALITIES[1], MODALITIES[4]], DecisionFusionClassifier(HEAD, cv=3))
    model = Pipeline([plain.steps[0], ("scale", BlockScaler().set_output(transform="pandas")), plain.steps[1]])
    said = explain_row(model.fit(df, y), df, DOG)
    assert said.parts["tabular"].effects.idxmax() == "price"
    table = said.parts["text"].effects
    assert table.loc[table["effect"].idxmax(), "token"] == "puppy"


def test_a_fusion_that_encodes_for_itself_is_explained(rows):
    df, y = rows
    fusion = CascadeFusionClassifier(HEAD, cv=3, tolerance=0.0)
    model = make_fusion_pipeline([MODALITIES[0], MODALITIES[1]], fusion).fit(df, y)
    said = explain_row(model, df, DOG)
    table = said.parts["text"].effects
    assert said.parts["image"].kind == "image" and said.parts["text"].kind == "text"
    if table["effect"].any():  # a cascade that stops before the text never reads it
        assert table.loc[table["effect"].idxmax(), "token"] == "puppy"
    else:
        assert said.parts["image"].effects.any()


def test_pictures_in_files_and_of_pil_are_explained(rows, tmp_path):
    df, y = rows
    files = [tmp_path / f"{k}.png" for k in range(N)]
    for file, pixels in zip(files, df["photo"], strict=True):
        Image.fromarray(pixels).save(file)
    table = pd.DataFrame({"file": [str(file) for file in files], "photo": list(map(Image.open, files))})
    mean = FunctionEncoder(lambda image: np.asarray(image, dtype=float)[36:, 50:].mean(axis=(0, 1)), version=1)
    modalities = [("file", ImageEncoder(features="color"), "file"), ("pil", mean, "photo")]
    model = make_fusion_pipeline(modalities, DecisionFusionClassifier(HEAD, combiner=MeanPool(), cv=3)).fit(table, y)
    for part in explain_row(model, table, DOG).parts.values():
        row, column = largest(part.effects)
        assert part.kind == "image" and row >= 5 and column >= 5


def test_the_sounds_of_an_audio_encoder_and_columns_of_a_series(rows):
    df, y = rows
    table = pd.DataFrame(np.stack(df["sensor"])).add_prefix("t")
    table["clip"] = df["clip"]
    sensor = list(table.columns[:-1])
    modalities = [("audio", AudioEncoder(features="librosa"), "clip"), ("sensor", TimeSeriesEncoder(), sensor)]
    model = make_fusion_pipeline(modalities, DecisionFusionClassifier(make_pipeline(StandardScaler(), HEAD), cv=3))
    parts = explain_row(model.fit(table, y), table, DOG, grid=4).parts
    assert parts["audio"].kind == "sound" and parts["audio"].shown[1] == 16000
    assert largest(parts["audio"].effects)[1] >= 2  # the half with the tone
    assert parts["sensor"].effects.idxmax() >= 45


def test_a_text_of_one_word_is_missing_without_it(rows):
    df, y = rows
    model = make_fusion_pipeline([MODALITIES[1], MODALITIES[4]], DecisionFusionClassifier(HEAD, cv=3)).fit(df, y)
    one = df.loc[[DOG, 2]].assign(title=["puppy", "one two"])
    said = explain_row(model, one, DOG, within=["text"])
    gone = explain_row(model, one.assign(title=[None, "one two"]), DOG, target=said.target, within=False)
    assert_allclose(said.parts["text"].effects["effect"].iloc[0], said.value - gone.value)


# ---------------------------------------------------------------------- what cannot be explained


def test_a_cell_that_cannot_be_read_is_the_encoders_own_error(rows, model):
    df = rows[0].copy()
    df.at[DOG, "photo"] = "no_such_file.png"
    with pytest.raises(EncodingError, match=r"row 1, column 'photo'.*no such file"):
        explain_row(model, df, DOG)


def test_a_missing_cell_is_no_part(rows, model):
    df = rows[0].copy()
    df.at[DOG, "photo"] = None
    said = explain_row(model, df, DOG)
    assert said.missing == ["image"] and list(said.parts) == ["text", "audio", "sensor", "tabular"]


def test_what_cannot_be_told_says_why(rows, model):
    df, y = rows
    table = pd.DataFrame({"vector": list(np.random.default_rng(0).normal(size=(N, 4))), "title": df["title"]})
    modalities = [("vector", PrecomputedEncoder(), "vector"), MODALITIES[1]]
    other = make_fusion_pipeline(modalities, DecisionFusionClassifier(HEAD, cv=3)).fit(table, y)
    part = explain_row(other, table, DOG).parts["vector"]
    assert part.kind == "none" and "PrecomputedEncoder" in part.note
    with pytest.raises(ValueError, match=r"'vector' cannot be explained inside: .*for PrecomputedEncoder"):
        explain_row(other, table, DOG, within=["vector"])
    assert "pass background=" in explain_row(model, df.loc[[DOG]], DOG).parts["tabular"].note
    said = explain_row(model, df.loc[[DOG]], DOG, background=df)
    assert said.parts["tabular"].effects.idxmax() == "price"


# ---------------------------------------------------------------------- what is shown


def test_html_holds_all_it_shows_and_runs_nothing_of_the_cells(rows, model):
    df = rows[0].copy()
    df.at[DOG, "title"] = "one <script>alert(1)</script> & 'two' \"puppy\""
    df.at[DOG, "kind"] = "a"
    page = explain_row(model, df, DOG)._repr_html_()
    assert "<script" not in page and "&lt;" in page and "&amp;" in page and "puppy" in page
    assert not re.search(r"https?:|url\(|@import", page)
    sources = re.findall(r'src="(.*?)"', page)
    assert len(sources) == 4  # picture, picture with effects, spectrogram, sound
    assert all(source.startswith("data:") and len(source) < 61_000 for source in sources)
    assert "<audio controls" in page and re.search(r'<span title="\+\d', page)


def test_html_of_a_large_picture_and_a_long_sound_stays_small():
    rng = np.random.default_rng(0)
    df = pd.DataFrame({"photo": pd.Series([rng.integers(0, 256, (600, 900, 3), dtype=np.uint8) for _ in range(6)])})
    df["clip"] = pd.Series([(rng.normal(size=44100 * 12).astype(np.float32), 44100) for _ in range(6)])
    modalities = [
        ("image", ImageEncoder(features="color"), "photo"),
        ("audio", FunctionEncoder(lambda clip: [clip[0].mean(), clip[0].std()]), "clip"),
    ]
    model = make_fusion_pipeline(modalities, DecisionFusionClassifier(HEAD, cv=2)).fit(df, [0, 1] * 3)
    page = explain_row(model, df, 0, grid=2)._repr_html_()
    assert all(len(source) < 61_000 for source in re.findall(r'src="(.*?)"', page))
    assert "of 12.0 s" in page


def test_the_picture_has_a_panel_a_modality(explained):
    pytest.importorskip("matplotlib").use("Agg")
    display = explained.plot()
    titles = [ax.get_title(loc="left") for ax in display.axes_]
    assert titles[0] == explained.title and [t.split(":")[0] for t in titles[1:]] == list(explained.parts)
    assert [bar.get_width() for bar in display.ax_.patches] == pytest.approx(
        [explained.base, *explained.shares, explained.value]
    )
    display.figure_.clear()
