"""The flow that all encoders share, shown on an encoder that counts what it is asked to do."""

import os
import pickle
import re
import subprocess
import sys
import textwrap
import traceback
import types
from pathlib import Path
from typing import ClassVar

import numpy as np
import pandas as pd
import polars
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

from ensemblefuse import BaseEncoder, EncodingError, MissingModalityWarning, config_context, get_cache
from ensemblefuse.backbones import column_flow
from ensemblefuse.cache.code_digests import callable_token, cell_digest, class_digest
from ensemblefuse.testing import check_encoder


class Recording(type):
    """Holds `CountingEncoder.seen`: a class attribute that changes while encoding would be a new recipe each time."""

    texts: list = []

    @property
    def seen(cls):
        return Recording.texts

    @seen.setter
    def seen(cls, texts):
        Recording.texts = texts


class CountingEncoder(BaseEncoder, metaclass=Recording):
    """Length and number of words; remembers every text that it encoded."""

    def __init__(self, scale=1.0, *, batch_size=2, on_error="raise"):
        self.scale = scale
        self.batch_size = batch_size
        self.on_error = on_error

    def load(self, cell):
        if "bad" in cell:
            raise ValueError(f"{cell} is bad")
        return cell

    def encode_batch(self, items):
        CountingEncoder.seen += items
        return np.array([[len(item), item.count(" ") + 1] for item in items]) * self.scale


@pytest.fixture(autouse=True)
def forget():
    CountingEncoder.seen = []


TEXTS = pd.DataFrame({"title": ["a cat", "a dog", "two old cats", "a cat", "owl"]}, index=list("pqrst"))


def test_the_contract_holds_for_the_smallest_encoder():
    assert len(check_encoder(CountingEncoder(), TEXTS)) >= 11


def test_equal_cells_are_encoded_once_and_never_again():
    first = CountingEncoder().fit_transform(TEXTS)
    assert CountingEncoder.seen == ["a cat", "a dog", "two old cats", "owl"]
    again = clone(CountingEncoder()).fit(TEXTS).transform(TEXTS.iloc[::-1])
    assert len(CountingEncoder.seen) == 4
    np.testing.assert_array_equal(again, first[::-1])


def test_parameters_that_change_the_value_change_the_key_and_others_do_not():
    CountingEncoder().fit_transform(TEXTS)
    CountingEncoder(batch_size=64, on_error="missing").fit_transform(TEXTS)
    assert len(CountingEncoder.seen) == 4
    CountingEncoder(scale=2.0).fit_transform(TEXTS)
    assert len(CountingEncoder.seen) == 8


def test_a_new_version_and_new_code_are_new_recipes():
    class Newer(CountingEncoder):
        version = 2

    class Other(CountingEncoder):
        def encode_batch(self, items):
            return super().encode_batch(items) + 1

    recipes = [cls().recipe() for cls in (CountingEncoder, Newer, Other)]
    assert recipes[1]["version"] == 2
    assert len({str({**r, "class": ""}) for r in recipes}) == 3
    assert class_digest(CountingEncoder) == class_digest(CountingEncoder)


def test_callable_token_sees_code_defaults_and_enclosed_values():
    def make(n, default=1):
        return lambda text, k=default: [n, k]

    assert callable_token(make(1)) == callable_token(make(1))
    functions = [make(1), make(2), make(1, 2), make(len), make(np), make(make), lambda text: [text]]
    assert len({callable_token(f) for f in functions} - {None}) == len(functions)
    assert callable_token("text".count) is None and callable_token(CountingEncoder().load) is None
    assert callable_token(make(object())) is None


WORDS = {"cat": 1}


def words_of(text):
    return WORDS.get(text, 0)


def same(text):
    return text


class UserEncoder(BaseEncoder):
    """With everything that an author may write into a class."""

    strings_are_paths: ClassVar[bool] = False
    stops: ClassVar[list] = ["the", "a"]
    table: ClassVar[dict] = {"x": 1.0, "f": len}
    matrix = np.eye(2)
    names = frozenset({"p", "q"})
    neutral_params = BaseEncoder.neutral_params | {"name"}
    pattern = re.compile("a+")

    def __init__(self, name="n", function=None):
        self.name = name
        self.function = function

    @property
    def width(self):
        return 2

    @classmethod
    def make(cls):
        return cls()

    @staticmethod
    def twice(number):
        return 2 * number

    def encode_batch(self, items):
        if len(items) > 1:
            return np.concatenate([self.encode_batch([item]) for item in items])
        return np.array([[self.twice(words_of(item)), len(UserEncoder.stops)] for item in items])


def test_the_recipe_of_a_class_follows_its_attributes_methods_and_globals(monkeypatch):
    recipe = UserEncoder().recipe()
    assert recipe == UserEncoder("other").recipe() and recipe["code"]
    changes = [
        ("stops", ["the"]),
        ("table", {"x": 2.0, "f": len}),
        ("table", {"x": 1.0, "f": max}),
        ("matrix", np.ones((2, 2))),
        ("names", frozenset({"p"})),
        ("pattern", re.compile("a*")),
        ("width", property(lambda self: 3)),
        ("make", classmethod(lambda cls: None)),
        ("twice", staticmethod(lambda number: number)),
        ("load", same),
    ]
    for name, value in changes:
        with monkeypatch.context() as patch:
            patch.setattr(UserEncoder, name, value, raising=False)
            assert UserEncoder().recipe()["code"] != recipe["code"], name
    for name, value in [("WORDS", {"cat": 2}), ("words_of", lambda text: 1)]:
        with monkeypatch.context() as patch:
            patch.setitem(globals(), name, value)
            assert UserEncoder().recipe()["code"] != recipe["code"], name
    with monkeypatch.context() as patch:
        patch.setitem(UserEncoder.table, "x", 3.0)
        assert UserEncoder().recipe()["code"] != recipe["code"]
    assert UserEncoder().recipe() == recipe


def test_a_function_as_a_parameter_counts_with_its_globals(monkeypatch):
    recipe = UserEncoder(function=words_of).recipe()
    assert recipe is not None and recipe == UserEncoder(function=words_of).recipe()
    monkeypatch.setitem(WORDS, "cat", 5)
    assert UserEncoder(function=words_of).recipe()["params"] != recipe["params"]
    assert UserEncoder(function=np.mean).recipe() is not None
    assert UserEncoder(function=UserEncoder().load).recipe() is None


@pytest.mark.parametrize("where", ["attribute", "global"])
def test_what_cannot_be_told_is_not_cached(monkeypatch, where):
    if where == "attribute":
        monkeypatch.setattr(UserEncoder, "matrix", object())
    else:
        monkeypatch.setitem(globals(), "WORDS", types.SimpleNamespace(get=lambda text, default: 0))
    assert UserEncoder().recipe() is None
    UserEncoder().fit_transform(TEXTS)
    assert get_cache().n_written == 0


def test_an_edited_class_attribute_gives_new_vectors(monkeypatch):
    assert UserEncoder().fit_transform({"t": ["cat"]}).tolist() == [[2, 2]]
    assert get_cache().n_written == 1
    monkeypatch.setattr(UserEncoder, "stops", ["the"])
    monkeypatch.setitem(WORDS, "cat", 4)
    assert UserEncoder().fit_transform({"t": ["cat"]}).tolist() == [[8, 1]]


@pytest.mark.slow  # another process
def test_a_recipe_is_the_same_in_another_process():
    code = "from test_encoder_base import UserEncoder; print(UserEncoder().recipe()['code'])"
    other = "2" if os.environ.get("PYTHONHASHSEED") == "1" else "1"
    told = subprocess.run(
        [sys.executable, "-c", code],
        cwd=Path(__file__).parent,
        env={**os.environ, "PYTHONHASHSEED": other},
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    assert told == UserEncoder().recipe()["code"]


class ByteEncoder(BaseEncoder):
    strings_are_paths = True

    def load(self, cell):
        return Path(cell).read_bytes()

    def encode_batch(self, items):
        return np.array([[item[0]] for item in items])


def test_a_file_that_changes_while_it_is_read_does_not_poison_the_cache(tmp_path, monkeypatch):
    paths = [tmp_path / "a.bin", tmp_path / "b.bin"]
    for path in paths:
        path.write_bytes(path.stem.encode())
    prepare = ByteEncoder.prepare

    def overwrite(self):
        paths[0].write_bytes(b"z")

    monkeypatch.setattr(ByteEncoder, "prepare", overwrite)
    out = ByteEncoder().fit_transform({"p": [str(path) for path in paths]})
    assert out.ravel().tolist() == [ord("z"), ord("b")]
    monkeypatch.setattr(ByteEncoder, "prepare", prepare)
    assert get_cache().n_written == 1
    paths[0].write_bytes(b"a")
    assert ByteEncoder().fit_transform({"p": paths}).ravel().tolist() == [ord("a"), ord("b")]


@pytest.mark.parametrize("shape", [(3,), (2, 2), (3, 0)])
def test_a_batch_of_the_wrong_shape_is_the_encoders_fault(shape):
    class Wrong(CountingEncoder):
        def encode_batch(self, items):
            super().encode_batch(items)
            return np.ones(shape)

    with pytest.raises(ValueError, match=r"encode_batch must return an array of shape \(3, n_dims\)"):
        Wrong(batch_size=3, on_error="missing").fit_transform({"title": ["a", "b", "c"]})
    assert len(CountingEncoder.seen) == 3


def test_without_a_cache_nothing_is_written(cache_folder):
    with config_context(cache=None):
        CountingEncoder().fit(TEXTS).transform(TEXTS)
    assert not cache_folder.exists()


@pytest.mark.slow  # two more processes
def test_a_second_process_encodes_nothing(tmp_path):
    script = tmp_path / "encode.py"
    script.write_text(
        textwrap.dedent("""
        import numpy as np, pandas as pd
        from ensemblefuse import BaseEncoder, get_cache

        class WordEncoder(BaseEncoder):
            def encode_batch(self, items):
                print("encoded", len(items))
                return np.array([[len(item), 1] for item in items])

        WordEncoder().fit_transform({"title": ["a", "bb", None, "a"]})
        print("written", get_cache().n_written)
        """)
    )
    runs = [subprocess.run([sys.executable, script], capture_output=True, text=True, check=True).stdout for _ in "ab"]
    assert runs[0].split() == ["encoded", "2", "written", "2"]
    assert runs[1].split() == ["written", "0"]


def test_all_bad_rows_are_listed_at_once_and_the_good_ones_stay_cached():
    X = pd.DataFrame({"title": ["good", "bad 1", None, "fine", "bad 2"]}, index=[f"sku{i}" for i in range(5)])
    with pytest.raises(EncodingError) as caught:
        CountingEncoder().fit_transform(X)
    error = caught.value
    assert [row.label for row in error.rows] == ["sku1", "sku4"]
    assert "could not encode 2 of 5 cells" in str(error)
    assert "row 'sku1', column 'title', value 'bad 1': ValueError: bad 1 is bad" in str(error)
    assert error.report.columns.tolist() == ["label", "column", "value", "reason"]
    assert get_cache().n_written >= 2
    again = pickle.loads(pickle.dumps(error))
    assert again.rows == error.rows and str(again) == str(error)
    seen = len(CountingEncoder.seen)
    CountingEncoder().fit_transform(X.drop(["sku1", "sku4"]))
    assert len(CountingEncoder.seen) == seen


def test_only_five_of_many_bad_rows_are_shown():
    X = {"title": ["good"] + [f"bad {i}" for i in range(30)]}
    with pytest.raises(EncodingError, match=r"\.\.\. and 25 more \(see error\.rows\)") as caught:
        CountingEncoder().fit_transform(X)
    assert len(caught.value.rows) == 30


def test_on_error_missing_goes_on_and_warns_once():
    X = {"title": ["good", "bad 1", None, "bad 2"]}
    with pytest.warns(MissingModalityWarning, match="treats 2 of 4 cells as missing") as caught:
        out = CountingEncoder(on_error="missing").fit_transform(X)
    assert len(caught) == 1
    assert np.isnan(out).all(axis=1).tolist() == [False, True, True, True]


def test_the_warning_of_missing_cells_has_all_their_rows():
    X = pd.DataFrame({"title": ["good", None] + [f"bad {i}" for i in range(12)]}, index=range(100, 114))
    encoder = CountingEncoder(on_error="missing")
    for act in (encoder.fit_transform, encoder.transform):
        with pytest.warns(
            MissingModalityWarning, match=r"and 7 more \(all are in the attribute rows of this"
        ) as caught:
            act(X)
        (said,) = [warning.message for warning in caught]
        assert [row.label for row in said.rows] == list(range(102, 114))
        assert said.report["reason"].tolist() == [f"ValueError: bad {i} is bad" for i in range(12)]
        assert pickle.loads(pickle.dumps(said)).rows == said.rows
    assert MissingModalityWarning("something else").rows == []


class Misspelt(CountingEncoder):
    def load(self, cell):
        return cell.uper()


class Forgetful(CountingEncoder):
    def encode_batch(self, items):
        return self.network_(items)


class Unprepared(CountingEncoder):
    loads_in_threads = True

    def load(self, cell):
        return [cell][len(cell)]


@pytest.mark.parametrize(
    "encoder, line",
    [(Misspelt, "return cell.uper()"), (Forgetful, "return self.network_(items)"), (Unprepared, "[cell][len(cell)]")],
)
def test_a_bug_in_the_code_of_an_encoder_keeps_its_line(encoder, line, monkeypatch):
    monkeypatch.setattr(column_flow, "n_threads", lambda: 4)
    for act in (encoder().fit, encoder().fit_transform):
        with pytest.raises(EncodingError, match="All rows fail in the same way, so the encoder") as caught:
            act({"title": ["a", "bb", None, "ccc"]})
        assert line in "".join(traceback.format_exception(caught.value))
        assert len(caught.value.rows) == 3
        assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


def test_rows_that_fail_each_in_its_own_way_or_not_all_are_told_as_bad_cells():
    for cells in (["bad 1", "bad 2"], ["good", "bad", "bad"], ["bad"]):
        with pytest.raises(EncodingError) as caught:
            CountingEncoder().fit_transform({"title": cells})
        assert "in the same way" not in str(caught.value)
        assert isinstance(caught.value.__cause__, ValueError) and "is bad" in str(caught.value.__cause__)


def test_a_batch_that_fails_costs_only_the_cell_that_is_to_blame():
    class Picky(CountingEncoder):
        def encode_batch(self, items):
            if any("boom" in item for item in items):
                raise RuntimeError("boom")
            return super().encode_batch(items)

    with pytest.raises(EncodingError, match="1 of 4 cells") as caught:
        Picky(batch_size=4).fit_transform({"title": ["a", "boom", "b", "c"]})
    assert caught.value.rows[0].reason == "RuntimeError: boom"


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e300])
def test_nan_and_infinity_never_leave_an_encoder(value):
    class Overflowing(CountingEncoder):
        def encode_batch(self, items):
            return np.where([["x" in item] for item in items], value, super().encode_batch(items))

    with pytest.raises(EncodingError, match="NaN or infinite"):
        Overflowing().fit_transform({"title": ["a", "x"]})


def test_an_installation_error_is_not_a_bad_row():
    class NeedsMore(CountingEncoder):
        def load(self, cell):
            raise ImportError("install it")

    with pytest.raises(ImportError, match="install it"):
        NeedsMore().fit(TEXTS)


@pytest.mark.parametrize(
    "make",
    [
        lambda c: pd.DataFrame({"title": c}),
        lambda c: pd.Series(c, name="title"),
        lambda c: pd.DataFrame({"title": c}, dtype="string"),
        lambda c: polars.DataFrame({"title": c}),
        lambda c: polars.Series("title", c),
        lambda c: {"title": c},
        lambda c: c,
        lambda c: np.array(c, dtype=object),
        lambda c: np.array(c, dtype=object)[:, None],
    ],
    ids=["frame", "series", "string dtype", "polars frame", "polars series", "dict", "list", "array", "2-D array"],
)
def test_every_kind_of_table_comes_in(make):
    out = CountingEncoder().fit_transform(make(["a cat", None, "owl"]))
    np.testing.assert_array_equal(out, np.array([[5, 2], [np.nan, np.nan], [3, 1]], dtype=np.float32))


def test_wrong_use_is_told_plainly():
    with pytest.raises(NotFittedError):
        CountingEncoder().transform(TEXTS)
    with pytest.raises(ValueError, match="takes one column; got 2"):
        CountingEncoder().fit(TEXTS.assign(other="x"))
    with pytest.raises(ValueError, match="column 'title' has no value in any of 2 rows"):
        CountingEncoder().fit({"title": [None, None]})
    with pytest.raises(ValueError, match="got 'skip'"):
        CountingEncoder(on_error="skip").fit(TEXTS)
    with pytest.raises(ValueError, match=r"batch_size must be .*; got 0"):
        CountingEncoder(batch_size=0).fit(TEXTS)
    with pytest.raises(TypeError, match="got int"):
        CountingEncoder().fit(3)
    with pytest.raises(ValueError, match="feature names"):
        CountingEncoder().fit(TEXTS).transform(TEXTS.rename(columns={"title": "name"}))


def test_digests_tell_contents_apart(tmp_path):
    (tmp_path / "a.bin").write_bytes(b"x")
    (tmp_path / "b.bin").write_bytes(b"x")
    digest = lambda cell, paths=True: cell_digest(cell, strings_are_paths=paths)
    assert digest(str(tmp_path / "a.bin")) == digest(tmp_path / "b.bin") == digest(b"x")
    (tmp_path / "b.bin").write_bytes(b"y")
    assert digest(tmp_path / "b.bin") == digest(b"y") != digest(b"x")
    cells = [
        "1",
        1,
        1.0,
        True,
        None,
        [1],
        [1, 1],
        [[1], 1],
        {"1": 1},
        np.array([1]),
        np.array([1.0]),
        np.array([[1]]),
        b"1",
    ]
    assert len({digest(cell, False) for cell in cells}) == len(cells)
    with pytest.raises(TypeError, match="of type object"):
        digest(object())


def test_a_file_rewritten_at_once_under_the_same_size_is_read_again(tmp_path):
    path = tmp_path / "a.bin"
    digests = set()
    for i in range(20):
        path.write_bytes(bytes([i]) * 8)
        digests.add(cell_digest(path, strings_are_paths=True))
    assert len(digests) == 20


class ScaleEncoder(BaseEncoder):
    """Reads its scale from a folder."""

    def __init__(self, folder):
        self.folder = folder

    def encode_batch(self, items):
        scale = float((self.folder / "scale.csv").read_text())
        return np.array([[scale * len(item)] for item in items])


def test_every_file_of_a_folder_counts_for_the_key(tmp_path):
    encoder = ScaleEncoder(tmp_path)
    for scale in (1, 2):
        (tmp_path / "scale.csv").write_text(str(scale))
        assert encoder.fit_transform({"t": ["four"]}) == 4 * scale
