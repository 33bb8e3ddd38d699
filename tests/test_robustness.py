"""How a score falls as one modality at a time is corrupted: what is encoded again, and what is measured."""

import re

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose
from sklearn.dummy import DummyClassifier
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import ensemblefuse
from ensemblefuse import (
    AudioEncoder,
    CascadeFusionClassifier,
    DecisionFusionClassifier,
    DecisionFusionRegressor,
    FeatureFusionClassifier,
    FunctionEncoder,
    ImageEncoder,
    MissingModalityWarning,
    RobustnessCurveDisplay,
    TimeSeriesEncoder,
    make_fusion_pipeline,
    robustness_curve,
)
from ensemblefuse.datasets import make_media
from ensemblefuse.scoring.bootstrap import interval, resampled_scores
from ensemblefuse.scoring.metrics import row_values

HEAD = LogisticRegression(max_iter=1000)
COLOURS = ("red", "green", "blue", "yellow")


def words(title):
    return [title.count(word) for word in (*COLOURS, "circle", "square", "triangle", "A ", "One")]


class MeanColour(ImageEncoder):
    """Reads pictures as its base does, and describes them in no time."""

    def _load_one(self, picture):
        return 10 * np.asarray(self._read(picture, None), dtype=np.float32)[16:48, 16:48].mean(axis=(0, 1)) / 255


def encoders():
    return [
        ("image", MeanColour(features="color"), "photo"),
        ("text", FunctionEncoder(words), "title"),
        ("tabular", make_pipeline(StandardScaler()), ["price", "weight"]),
    ]


@pytest.fixture(scope="module")
def media(tmp_path_factory):
    """Photos and titles that both tell the colour, which is the label; 40 rows are new to the model."""
    made = make_media(tmp_path_factory.mktemp("media"), n_samples=100, random_state=0)
    y = made.frame["title"].str.split().str[1].to_numpy(dtype=object)
    return made.frame.iloc[:60], y[:60], made.frame.iloc[60:], y[60:]


@pytest.fixture(scope="module")
def model(media):
    with ensemblefuse.config_context(cache=None, progress=False):
        return make_fusion_pipeline(encoders(), FeatureFusionClassifier(HEAD)).fit(media[0], media[1])


@pytest.fixture
def encoded(monkeypatch):
    """Cells that were encoded, by encoder."""
    seen = {}
    for cls in (ImageEncoder, FunctionEncoder, AudioEncoder):

        def load(self, cell, cls=cls, load=cls.load):
            seen.setdefault(cls.__name__, []).append(cell)
            return load(self, cell)

        monkeypatch.setattr(cls, "load", load)
    return seen


@pytest.fixture(scope="module")
def curve(model, media):
    with ensemblefuse.config_context(cache=None, progress=False):
        return robustness_curve(model, *media[2:], severities=[1, 5])


def test_the_table_has_a_row_for_each_point_and_starts_from_the_score_of_the_clean_rows(curve, model, media):
    (X, y), table = media[2:], curve.table
    assert curve.clean_score == pytest.approx(np.log(model.predict_proba(X)[range(40), codes(model, y)]).mean())
    assert table.groupby(["modality", "corruption"]).size().eq(2).all()
    assert table["modality"].unique().tolist() == ["image", "text"]
    assert table.loc[table["corruption"] == "jpeg", "parameter"].tolist() == ["quality 25", "quality 7"]
    assert_allclose(table["difference"], table["score"] - curve.clean_score)
    assert (table["low"] <= table["score"]).all() and (table["score"] <= table["high"]).all()
    assert curve.notes == ["Not corrupted, without a corruption or without values: tabular."]
    assert "40 rows" in curve.caption and "tabular" in curve._repr_html_()


def codes(model, y):
    return np.searchsorted(model[-1].classes_, y)


def test_a_score_is_that_of_the_model_on_the_corrupted_table(model, media):
    """Encoded as a whole, by the pipeline itself."""
    X, y = media[2:]

    def mirror(cell, severity, rng):
        return f"{cell} "[::-1]

    curve = robustness_curve(model, X, y, corruptions={"text": {"mirror": mirror}}, severities=[2], metric="accuracy")
    changed = X.assign(title=[f"{cell} "[::-1] for cell in X["title"]])
    assert curve.table["score"].item() == model.score(changed, y)
    assert curve.table["parameter"].tolist() == [""]


def test_the_score_falls_for_what_the_model_relies_on_and_not_for_what_it_ignores(media):
    X, y, new, truth = media
    for relied, ignored in (("image", "text"), ("text", "image")):
        heads = {relied: HEAD, ignored: DummyClassifier(), "tabular": "drop"}
        model = make_fusion_pipeline(encoders(), DecisionFusionClassifier(heads, cv=3, joint=False)).fit(X, y)
        gone = {"image": {"gone": lambda cell, severity, rng: np.full((64, 64, 3), 255, np.uint8)}}
        gone["text"] = {"gone": lambda cell, severity, rng: ""}
        table = robustness_curve(model, new, truth, corruptions=gone, severities=[1]).table.set_index("modality")
        assert table.loc[relied, "difference_high"] < -0.3
        assert table.loc[ignored, ["difference", "difference_low", "difference_high"]].tolist() == [0, 0, 0]


def test_severity_0_is_no_difference_and_encodes_nothing(model, media, encoded):
    X, y = media[2:]
    model.predict(X)
    encoded.clear()
    table = robustness_curve(model, X, y, severities=[0]).table
    assert not table[["difference", "difference_low", "difference_high"]].to_numpy().any()
    assert not encoded


def test_only_the_corrupted_modality_is_encoded_again_and_a_second_call_encodes_nothing(model, media, encoded):
    X, y = media[2:]
    model.predict(X)
    encoded.clear()
    asked = {"corruptions": {"image": ["gaussian_noise", "darker"]}, "severities": [1, 5]}
    first = robustness_curve(model, X, y, **asked)
    assert len(encoded["ImageEncoder"]) == 4 * len(X) and "FunctionEncoder" not in encoded
    encoded.clear()
    order = np.random.default_rng(1).permutation(len(X))
    again = robustness_curve(model, X.iloc[order], y[order], **asked)
    assert not encoded
    assert_allclose(again.table["score"], first.table["score"], rtol=1e-6)
    robustness_curve(model, X, y, **asked, random_state=1)
    assert len(encoded["ImageEncoder"]) == 2 * len(X)  # noise is drawn anew; darker draws nothing


def test_without_a_cache_the_other_modalities_are_encoded_once(model, media, encoded):
    X, y = media[2:]
    with ensemblefuse.config_context(cache=None):
        robustness_curve(model, X, y, corruptions={"image": ["jpeg"]}, severities=[1, 2, 3])
    assert len(encoded["ImageEncoder"]) == 4 * len(X)
    assert len(encoded["FunctionEncoder"]) == X["title"].nunique()


def test_the_difference_is_paired():
    """The same rows are drawn for both scores, so a change of the same size in every row has no interval."""
    clean, worse = np.random.default_rng(0).normal(size=(2, 50))
    samples = resampled_scores(np.column_stack([clean, clean - 0.5, worse]), 400, 0)
    falls = interval(samples - samples[:, :1])
    assert_allclose([falls[0][1], falls[1][1]], -0.5)
    expected = np.std(worse - clean) / np.sqrt(50)
    assert_allclose((falls[1][2] - falls[0][2]) / (2 * 1.96), expected, rtol=0.15)


def test_missing_cells_stay_missing(media):
    X, y, new, truth = (part.copy() for part in media)
    for frame in (X, new):
        frame.iloc[:20, frame.columns.get_loc("photo")] = None
        frame.iloc[20:30, frame.columns.get_loc("title")] = np.nan
    heads = {"image": HEAD, "text": HEAD, "tabular": HEAD}
    model = make_fusion_pipeline(encoders(), DecisionFusionClassifier(heads, cv=3)).fit(X, y)
    seen = []

    def watch(cell, severity, rng):
        seen.append(cell)
        return cell

    own = {"image": {"watch": watch}, "text": {"watch": watch}, "tabular": {"watch": watch}}
    curve = robustness_curve(model, new, truth, corruptions=own, severities=[1])
    assert_allclose(curve.table["difference"], 0, atol=1e-12)
    assert len(seen) == 20 + 30 + 40 and not any(cell is None for cell in seen)
    assert curve.notes == ["Missing, and so not corrupted: image in 20 of 40 rows, text in 10 of 40 rows."]
    lost = {"image": {"lost": lambda cell, severity, rng: None}}
    hidden = model.predict_proba(new.assign(photo=None))
    found = robustness_curve(model, new, truth, corruptions=lost, severities=[1], metric="brier").table["score"]
    assert found.item() == pytest.approx(row_values(hidden, codes(model, truth), "brier").mean())


def test_a_cell_that_was_taken_as_missing_stays_so(model, media):
    X, y = media[2].copy(), media[3]
    X.iloc[3, X.columns.get_loc("photo")] = "nowhere.png"
    lenient = make_fusion_pipeline(encoders(), FeatureFusionClassifier(make_pipeline(HEAD)))
    lenient = lenient.set_params(encode__image__on_error="missing").fit(media[0], media[1])
    with pytest.warns(MissingModalityWarning):
        curve = robustness_curve(lenient, X, y, corruptions={"image": ["jpeg"]}, severities=[1])
    assert curve.notes == ["Missing, and so not corrupted: image in 1 of 40 rows."]


@pytest.mark.parametrize("on_error", ["raise", "missing"])
def test_a_corrupted_cell_that_cannot_be_encoded_is_named(media, on_error):
    X, y = media[2:]
    model = make_fusion_pipeline(encoders(), FeatureFusionClassifier(HEAD))
    model.set_params(encode__image__on_error=on_error).fit(media[0], media[1])
    own = {"image": {"torn": lambda cell, severity, rng: b"no picture" if cell == X["photo"].iloc[5] else cell}}
    message = rf"corruption 'torn' of modality 'image' at severity 3: 1 cell .*\n.*row '{X.index[5]}', column 'photo'"
    with pytest.raises(ValueError, match=message), pytest.MonkeyPatch.context() as patch:
        patch.setattr("warnings.warn", lambda *_, **__: None)
        robustness_curve(model, X, y, corruptions=own, severities=[3])


def test_a_corruption_that_fails_is_named_with_its_row(model, media):
    X, y = media[2:]
    own = {"text": {"broken": lambda cell, severity, rng: 1 / 0}}
    message = r"corruption 'broken' of modality 'text' at severity 1: 40 cells could not be corrupted:\n  row "
    with pytest.raises(ValueError, match=message + rf"'{X.index[0]}', column 'title', .*ZeroDivisionError"):
        robustness_curve(model, X, y, corruptions=own)
    own = {"tabular": {"short": lambda cell, severity, rng: cell[:1]}}
    with pytest.raises(ValueError, match="returned 1 values of 2"):
        robustness_curve(model, X, y, corruptions=own)


def test_numbers_of_a_row_are_one_cell(model, media):
    X, y = media[2:]
    own = {"tabular": {"free": lambda row, severity, rng: row * [0, 1]}, "text": ["dropped_words", words_upper]}
    curve = robustness_curve(model, X, y, corruptions=own, severities=[1], metric="accuracy")
    assert curve.table["corruption"].tolist() == ["free", "dropped_words", "words_upper"]
    assert curve.table["score"].iloc[0] == model.score(X.assign(price=0.0), y)


def words_upper(cell, severity, rng):
    return cell.upper()


def test_regression_of_series(encoded):
    rng = np.random.default_rng(0)
    level = rng.normal(size=120)
    waves = level[:, None] + np.sin(np.arange(40) / 3) * rng.uniform(1, 2, size=(120, 1))
    table = pd.DataFrame({f"t{i}": wave for i, wave in enumerate(waves.T)})
    cells = pd.DataFrame({"wave": list(waves)})
    for X, columns in ((table, list(table)), (cells, "wave")):
        modalities = [("sensor", make_pipeline(TimeSeriesEncoder(), StandardScaler()), columns)]
        fusion = DecisionFusionRegressor({"sensor": Ridge()}, cv=3)
        model = make_fusion_pipeline(modalities, fusion).fit(X[:80], level[:80])
        curve = robustness_curve(model, X[80:], level[80:], severities=[1, 5])
        assert curve.metric == "squared_error" and curve.clean_score <= 0
        assert curve.table["corruption"].unique().tolist() == ["relative_noise", "gap"]
        assert (curve.table["difference"] < 0).all()
        assert (curve.table.groupby("corruption")["score"].diff().dropna() < 0).all()


def test_sounds_are_corrupted_at_the_rate_of_the_encoder(tmp_path, encoded):
    media = make_media(tmp_path, n_samples=18, random_state=1)
    fusion = FeatureFusionClassifier(make_pipeline(StandardScaler(), HEAD))
    model = make_fusion_pipeline([("sound", AudioEncoder(features="librosa"), "clip")], fusion)
    model.fit(media.frame, media.target)
    encoded.clear()
    curve = robustness_curve(model, media.frame, media.target, corruptions={"sound": ["white_noise"]}, severities=[5])
    assert curve.table["difference"].item() < 0
    assert sum(isinstance(cell, np.ndarray) for cell in encoded["AudioEncoder"]) == 18


def test_vectorizers_cascades_and_searches(media):
    X, y, new, truth = media
    text = [("text", CountVectorizer(), "title"), ("tabular", "passthrough", ["price"])]
    heads = {"text": HEAD, "tabular": HEAD}
    counted = make_fusion_pipeline(text, DecisionFusionClassifier(heads, cv=3))
    search = GridSearchCV(counted, {"fuse__joint": [False]}, cv=2).fit(X, y)
    curve = robustness_curve(search, new, truth, corruptions={"text": ["replaced_letters"]}, metric="accuracy")
    assert (
        curve.table["severity"].tolist() == [1, 3, 5]
        and curve.table["score"].is_monotonic_decreasing
        and curve.table["difference"].iloc[-1] < -0.1
    )
    cascade = make_fusion_pipeline(encoders(), CascadeFusionClassifier(HEAD, cv=3)).fit(X, y)
    assert set(robustness_curve(cascade, new, truth, severities=[5]).table["modality"]) == {"image", "text"}


def test_rows_weights_and_groups(model, media):
    X, y = media[2:]
    part = robustness_curve(model, X, y, n_rows=20, modalities=["text"], severities=[1])
    assert part.n_samples == 20
    weight = (np.arange(40) < 20).astype(float)
    weighted = robustness_curve(model, X, y, sample_weight=weight, modalities=["text"], severities=[5])
    half = robustness_curve(model, X[:20], y[:20], modalities=["text"], severities=[5])
    assert_allclose(weighted.table["score"], half.table["score"])
    together = robustness_curve(model, X, y, groups=np.zeros(40), modalities=["text"], severities=[5])
    assert_allclose(together.table["low"], together.table["high"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"corruptions": {"smell": ["jpeg"]}}, r"no modality \['smell'\]; it has \['image', 'text', 'tabular'\]"),
        ({"corruptions": {"image": ["swapped_letters"]}}, "not a corruption of MeanColour's cells; these are"),
        ({"corruptions": {"image": ["blurr"]}}, "'blurr' is not a corruption"),
        ({"corruptions": {"image": "jpeg"}}, "must be a list of names and functions"),
        ({"corruptions": {"image": ["jpeg", "jpeg"]}}, "name each corruption once"),
        ({"corruptions": ["jpeg"]}, "corruptions must be a dict"),
        ({"modalities": ["tabular"]}, "no default corruption for modality 'tabular'"),
        ({"modalities": "image"}, r"Write \['image'\]"),
        ({"severities": [1, 6]}, "whole numbers from 0 to 5"),
        ({"severities": []}, "whole numbers from 0 to 5"),
        ({"random_state": None}, "random_state must be a whole number"),
        ({"metric": "squared_error"}, "metric must be one of"),
        ({"n_rows": 0}, "n_rows must be"),
        ({"sample_weight": [1, 2]}, "sample_weight has 2 values for the 40 rows"),
        ({"confidence_level": 2}, "confidence_level must be between"),
    ],
)
def test_a_wrong_question_says_what_to_do(model, media, change, message):
    with pytest.raises((TypeError, ValueError), match=message):
        robustness_curve(model, *media[2:], **{"modalities": None, **change})


def test_a_model_of_blocks_has_no_cells_to_corrupt(blocks):
    X, y = blocks
    with pytest.raises(TypeError, match="begins with its encoders, as from make_fusion_pipeline"):
        robustness_curve(FeatureFusionClassifier(HEAD).fit(X, y), X, y)


def test_a_modality_that_no_row_has_is_not_corrupted(model, media):
    X, y = media[2].assign(photo=None), media[3]
    heads = {"image": HEAD, "text": HEAD, "tabular": HEAD}
    model = make_fusion_pipeline(encoders(), DecisionFusionClassifier(heads, cv=3)).fit(media[0], media[1])
    curve = robustness_curve(model, X, y, severities=[1])
    assert curve.table["modality"].unique().tolist() == ["text"]
    with pytest.raises(ValueError, match=re.escape("modality 'image' is missing in all 40 rows")):
        robustness_curve(model, X, y, modalities=["image"])


def test_the_picture_has_a_line_for_each_corruption(curve, model, media):
    pyplot = pytest.importorskip("matplotlib.pyplot", reason="matplotlib is an optional package")
    display = curve.plot()
    assert len(display.lines_) == 8
    colours = {name: line[0].get_color() for name, line in display.lines_.items()}
    markers = {name: line[0].get_marker() for name, line in display.lines_.items()}
    assert len({colours[name] for name in colours if name[0] == "image"}) == 1
    assert len({markers[name] for name in markers if name[0] == "image"}) == 5
    assert colours["image", "jpeg"] != colours["text", "dropped_words"]
    line = display.lines_["text", "dropped_words"][0]
    assert_allclose(line.get_ydata()[0], display.result.clean_score)
    assert "40 rows" in display.ax_.get_title()
    _, ax = pyplot.subplots()
    asked = {"modalities": ["text"], "severities": [1], "metric": "accuracy"}
    other = RobustnessCurveDisplay.from_estimator(model, *media[2:], ax=ax, **asked)
    assert other.ax_ is ax and len(other.lines_) == 3
    pyplot.close("all")
