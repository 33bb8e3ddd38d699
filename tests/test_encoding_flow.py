"""How a column goes through an encoder: loading ahead, order of batches, lack of memory, interrupts, progress."""

import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from joblib import Parallel, delayed

from ensemblefuse import BaseEncoder, EncodingError, config_context, get_cache
from ensemblefuse.backbones import column_flow


class Hooks(type):
    """What the tests hook in; what an encoder's own class holds would be part of its recipe."""

    batches: list = []

    def seen_loading(cls, cell):
        Hooks.load(cell)

    def seen_encoding(cls, items):
        Hooks.encode(items)

    @staticmethod
    def load(cell):
        pass

    @staticmethod
    def encode(items):
        Hooks.batches.append(list(items))


class LengthEncoder(BaseEncoder, metaclass=Hooks):
    """Length and first letter."""

    loads_in_threads = True

    def __init__(self, *, batch_size=4, on_error="raise"):
        self.batch_size = batch_size
        self.on_error = on_error

    def load(self, cell):
        type(self).seen_loading(cell)
        return cell

    def encode_batch(self, items):
        type(self).seen_encoding(items)
        return np.array([[len(item), ord(item[0])] for item in items])


@pytest.fixture(autouse=True)
def two_threads(monkeypatch):
    """Whatever the machine has."""
    monkeypatch.setattr(column_flow, "n_threads", lambda: 2)
    monkeypatch.setattr(Hooks, "batches", [])


def texts(n):
    return [f"{chr(97 + i % 26)}{'x' * i}" for i in range(n)]


def expected(cells):
    return np.array([[len(cell), ord(cell[0])] for cell in cells], dtype=np.float32)


def test_two_cells_are_loaded_at_once(monkeypatch):
    both = threading.Barrier(2, timeout=10)
    monkeypatch.setattr(Hooks, "load", staticmethod(lambda cell: both.wait()))
    assert np.array_equal(LengthEncoder().fit_transform({"t": texts(6)}), expected(texts(6)))
    assert both.n_waiting == 0 and not both.broken


def test_an_encoder_that_does_not_say_so_is_loaded_in_the_calling_thread(monkeypatch):
    names = set()
    monkeypatch.setattr(LengthEncoder, "loads_in_threads", False)
    monkeypatch.setattr(Hooks, "load", staticmethod(lambda cell: names.add(threading.current_thread().name)))
    LengthEncoder().fit_transform({"t": texts(6)})
    assert names == {threading.current_thread().name}


def test_no_more_than_a_few_batches_are_in_memory(monkeypatch):
    state, most, lock = {"loaded": 0, "encoded": 0}, [0], threading.Lock()

    def load(cell):
        with lock:
            state["loaded"] += 1
            most[0] = max(most[0], state["loaded"] - state["encoded"])

    def encode(items):
        state["encoded"] += len(items)

    monkeypatch.setattr(Hooks, "load", staticmethod(load))
    monkeypatch.setattr(Hooks, "encode", staticmethod(encode))
    LengthEncoder(batch_size=5).fit_transform({"t": texts(200)})
    assert state == {"loaded": 200, "encoded": 200}
    assert most[0] <= 5 * (column_flow._BATCHES_AHEAD + 1) + 2


def test_threads_end_with_the_call_even_if_it_fails(monkeypatch):
    def load(cell):
        if cell == texts(6)[5]:
            raise ImportError("no such library")

    monkeypatch.setattr(Hooks, "load", staticmethod(load))
    with pytest.raises(ImportError, match="no such library"):
        LengthEncoder(on_error="missing").fit_transform({"t": texts(50)})
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("ensemblefuse-load")]


@settings(max_examples=60, deadline=None)
@given(
    cells=st.lists(st.sampled_from(["a", "bb", "ccc", "bad", "dddd", "wrong", None]), min_size=1, max_size=30),
    batch_size=st.integers(1, 7),
    threads=st.sampled_from([1, 3]),
)
def test_every_row_has_its_own_vector_whatever_the_order_repeats_and_gaps(cells, batch_size, threads):
    class Picky(LengthEncoder):
        def load(self, cell):
            if cell == "bad":
                raise ValueError("bad")
            return cell

        def encode_batch(self, items):
            if "wrong" in items:
                raise RuntimeError("wrong")
            return super().encode_batch(items)

    with pytest.MonkeyPatch.context() as patch, config_context(cache=None):
        patch.setattr(column_flow, "n_threads", lambda: threads)
        out, reasons = column_flow.encode_column(Picky(batch_size=batch_size), cells, "t")
    good = [i for i, cell in enumerate(cells) if cell not in ("bad", "wrong", None)]
    assert set(reasons) == {i for i, cell in enumerate(cells) if cell in ("bad", "wrong")}
    if good:
        assert np.array_equal(out[good], expected([cells[i] for i in good]))
        assert np.isnan(np.delete(out, good, axis=0)).all()
    else:
        assert out.shape == (len(cells), 0)


def test_one_bad_cell_of_many_does_not_make_a_batch_of_each(monkeypatch):
    def encode(items):
        Hooks.batches.append(list(items))
        if texts(64)[37] in items:
            raise RuntimeError("boom")

    monkeypatch.setattr(Hooks, "encode", staticmethod(encode))
    with pytest.raises(EncodingError, match="1 of 64 cells"):
        LengthEncoder(batch_size=64).fit_transform({"t": texts(64)})
    assert len(Hooks.batches) <= 1 + 2 * 6


def test_items_of_like_size_share_a_batch():
    class Sorted(LengthEncoder):
        def sort_key(self, cell):
            return len(cell)

    cells = [texts(20)[i] for i in np.random.default_rng(0).permutation(20)]
    assert np.array_equal(Sorted(batch_size=4).fit_transform({"t": cells}), expected(cells))
    assert [len(item) for batch in Hooks.batches for item in batch] == list(range(20, 0, -1))


class OutOfMemoryError(RuntimeError):
    """As torch's own."""


def test_a_batch_too_large_for_the_device_is_halved_and_stays_so(monkeypatch):
    sizes = []

    def encode(items):
        sizes.append(len(items))
        if len(items) > 5:
            raise OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(Hooks, "encode", staticmethod(encode))
    with pytest.warns(UserWarning, match="memory of the device is too small for a batch of") as caught:
        out = LengthEncoder(batch_size=16).fit_transform({"t": texts(40)})
    assert np.array_equal(out, expected(texts(40)))
    assert sizes[:3] == [16, 8, 4] and max(sizes[2:]) == 4
    assert [str(w.message).split("batch of ")[1].split(".")[0] for w in caught] == [
        "16; encoding continues with 8",
        "8; encoding continues with 4",
    ]


def test_one_item_too_large_for_the_device_is_an_error_of_the_machine(monkeypatch):
    def encode(items):
        raise OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(Hooks, "encode", staticmethod(encode))
    with pytest.warns(UserWarning, match="continues with 1"), pytest.raises(OutOfMemoryError):
        LengthEncoder(batch_size=2, on_error="missing").fit_transform({"t": texts(3)})


@pytest.mark.parametrize("stop", [KeyboardInterrupt, MemoryError])
def test_what_was_done_before_an_interrupt_is_not_done_again(monkeypatch, stop):
    def encode(items):
        Hooks.batches.append(list(items))
        if len(Hooks.batches) == 6:
            raise stop

    monkeypatch.setattr(Hooks, "encode", staticmethod(encode))
    with pytest.raises(stop):
        LengthEncoder().fit_transform({"t": texts(40)})
    assert get_cache().n_written == 20
    monkeypatch.setattr(Hooks, "encode", staticmethod(lambda items: Hooks.batches.append(items)))
    Hooks.batches.clear()
    assert np.array_equal(LengthEncoder().fit_transform({"t": texts(40)}), expected(texts(40)))
    assert sum(map(len, Hooks.batches)) == 20


def test_progress_is_one_line_and_a_bar(capfd):
    LengthEncoder().fit_transform({"t": texts(3)})
    assert capfd.readouterr().err == ""
    with config_context(progress=True):
        LengthEncoder(on_error="missing").fit_transform({"title": [*texts(5), None, "a"]})
        err = capfd.readouterr().err
        assert "title: 7 rows, 1 missing, 5 distinct: 3 in cache, 2 to encode\n" in err.replace("\r", "\n")
        assert "encode title" in err
        LengthEncoder().fit_transform({"title": texts(5)})
        assert capfd.readouterr().err == ""


def _shows():
    from ensemblefuse._config import show_progress

    return show_progress()


def test_workers_show_no_bars_of_their_own(monkeypatch):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    with config_context(progress="auto"):
        assert Parallel(n_jobs=2)(delayed(_shows)() for _ in range(2)) == [False, False]
