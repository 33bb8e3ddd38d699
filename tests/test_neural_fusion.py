"""Neural fusion: what each kind can learn, what it does with missing blocks, and how it stands in the house."""

import pickle
import threading
import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import make_blocks
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

from ensemblefuse import (
    DecisionFusionClassifier,
    DecisionFusionRegressor,
    FusionSearchCV,
    MissingModalityWarning,
    NeuralFusionClassifier,
    NeuralFusionRegressor,
    export_onnx,
    load_model,
    save_model,
)
from ensemblefuse.combine.probabilities import softmax
from ensemblefuse.fusion import _neural_base, _neural_fit
from ensemblefuse.fusion._neural_nets import KINDS, build_net, gates_of
from ensemblefuse.fusion._neural_parameters import FUSIONS, stops_early
from ensemblefuse.training.layers import Draws
from ensemblefuse.training.loop import Schedule

SMALL = {"hidden": 8, "n_members": 2, "max_epochs": 4}
# Learns four points by heart, in a tenth of a second.
STEEP = {"hidden": 8, "n_members": 2, "dropout": 0.0, "max_epochs": 120, "learning_rate": 0.05, "batch_size": 64}
STEEP |= {"weight_decay": 0.0}


@pytest.fixture(scope="module")
def table():
    return make_blocks(n=40, widths={"image": 4, "text": 3, "audio": 2})


@pytest.fixture(scope="module")
def gaps(table):
    X = table[0].copy()
    X.loc[::4, [c for c in X if c.startswith("text__")]] = np.nan
    X.loc[::5, [c for c in X if c.startswith("audio__")]] = np.nan
    return X


def xor():
    corners = np.array([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]]).repeat(8, axis=0)
    X = pd.DataFrame(corners, columns=["image__0", "text__0"])
    return X, (X["image__0"] != X["text__0"]).to_numpy()


def log_loss(model, X, y):
    proba = model.predict_proba(X)
    return -np.log(proba[np.arange(len(y)), np.searchsorted(model.classes_, y)]).mean()


# ---------------------------------------------------------------------- what the kinds are


def test_the_list_of_kinds_is_that_of_the_networks():
    assert tuple(KINDS) == FUSIONS


def plan(kind, **changes):
    sizes = {"hidden": 4, "n_layers": 1, "n_heads": 2, "rank": 3, "n_members": 2, "auxiliary": False}
    return {"fusion": kind, "widths": [3, 2, 5], "outputs": [2], **sizes, **changes}


def rows(seed=0, n=6):
    draw = torch.Generator().manual_seed(seed)
    return [torch.randn(2, n, width, generator=draw) for width in (3, 2, 5)]


@pytest.mark.parametrize("kind", FUSIONS)
def test_what_stands_in_a_missing_block_changes_nothing(kind):
    net, blocks, mask = build_net(plan(kind, n_layers=2)).eval(), rows(), torch.ones(2, 6, 3)
    mask[:, :3, 1] = 0
    other = [blocks[0], blocks[1].clone(), blocks[2]]
    other[1][:, :3] = 7.0
    said, changed = net(blocks, mask)[0], net(other, mask)[0]
    torch.testing.assert_close(said[:, :3], changed[:, :3], rtol=0, atol=0)
    assert not torch.equal(net(other, torch.ones(2, 6, 3))[0][:, :3], said[:, :3])


@pytest.mark.parametrize("kind", FUSIONS)
def test_a_row_is_alone_in_its_batch_and_no_row_makes_it_infinite(kind):
    net, blocks = build_net(plan(kind)).double().eval(), [block.double() for block in rows()]
    mask = torch.ones(2, 6, 3, dtype=torch.double)
    mask[:, 0] = 0
    said = net(blocks, mask)[0]
    assert torch.isfinite(said).all()
    torch.testing.assert_close(net([block[:, 2:3] for block in blocks], mask[:, 2:3])[0], said[:, 2:3])


def test_lowrank_is_a_tensor_fusion_of_low_rank():
    """Products of factors are the contraction of a full tensor with the outer product of all blocks."""
    net, blocks = build_net(plan("lowrank", n_members=1)).eval(), [block[:1] for block in rows()]
    fused = net.fusion(blocks, torch.ones(1, 6, 3))
    hidden = [torch.cat([part[0], torch.ones(6, 1)], dim=1) for part in fused.parts]
    weights = [
        torch.cat([factor.weight[0], factor.bias[0]]).unflatten(1, (3, 4)).transpose(0, 1)
        for factor in net.fusion.factors
    ]
    tensor = torch.einsum("ria,rja,rka->ijka", *weights)
    full = torch.einsum("ni,nj,nk,ijka->na", *hidden, tensor) / 3 - 1
    torch.testing.assert_close(fused.features[0], full, rtol=1e-4, atol=1e-5)


def test_gates_are_a_softmax_over_the_blocks_that_are_there():
    scores = torch.tensor([2.0, 0.5]).reshape(1, 1, 2, 1)
    assert gates_of(scores, torch.ones(1, 1, 2))[0, 0, 0, 0].item() == pytest.approx(0.817574, abs=1e-6)
    assert gates_of(scores, torch.tensor([[[0.0, 1.0]]])).flatten().tolist() == [0.0, 1.0]
    assert gates_of(torch.zeros(1, 1, 3, 1), torch.ones(1, 1, 3)).flatten().tolist() == [pytest.approx(1 / 3)] * 3


@pytest.mark.parametrize("kind", ["concat", "gated", "lowrank", "attention", "hybrid_encoder"])
def test_an_exclusive_or_across_modalities_is_learned(kind):
    X, y = xor()
    assert log_loss(NeuralFusionClassifier(kind, **STEEP).fit(X, y), X, y) < 0.1


def test_a_sum_of_functions_of_one_block_each_cannot_learn_an_exclusive_or():
    X, y = xor()
    late = NeuralFusionClassifier("late", **STEEP)
    assert log_loss(late.fit(X, y), X, y) > np.log(2) - 1e-6
    both = (X["image__0"] + X["text__0"] == 2).to_numpy()
    assert log_loss(clone(late).fit(X, both), X, both) < 0.01


# ---------------------------------------------------------------------- missing blocks


@pytest.mark.parametrize("kind", FUSIONS)
def test_every_kind_learns_from_rows_with_gaps(kind, table, gaps):
    model = NeuralFusionClassifier(kind, **{**STEEP, "max_epochs": 25}).fit(gaps, table[1])
    assert model.score(gaps, table[1]) > 0.8
    assert model.patterns_.tolist() == [[True, False, False], [True, False, True], [True, True, False], [True] * 3]
    assert model.n_parameters_ == sum(values.size for values in model.state_.values())


def test_a_row_without_any_block_gets_the_class_frequencies_or_the_mean(table):
    X, y = table
    weight = np.arange(1.0, 41.0)
    empty = pd.DataFrame(np.nan, index=[0, 1], columns=X.columns)
    model = NeuralFusionClassifier(**SMALL).fit(X, y, sample_weight=weight)
    frequencies = [weight[y == label].sum() / weight.sum() for label in model.classes_]
    assert_allclose(model.predict_proba(empty), [frequencies] * 2)
    numbers = np.column_stack([np.arange(40.0), -np.arange(40.0)])
    means = NeuralFusionRegressor(**SMALL).fit(X, numbers).predict(empty)
    assert_allclose(means, [[19.5, -19.5]] * 2)


def test_a_pattern_that_fit_never_saw_warns_unless_blocks_were_left_out_in_training(table, gaps):
    X, y = table
    model = NeuralFusionClassifier(**SMALL).fit(X, y)
    with pytest.warns(MissingModalityWarning, match=r"no row in fit without .*It leaves the missing part out"):
        model.predict(gaps)
    trained = NeuralFusionClassifier(modality_dropout=0.3, **SMALL).fit(X, y)
    assert_array_equal(trained.predict(gaps).shape, (40,))


def test_modality_dropout_never_leaves_a_row_empty():
    heads = [_neural_fit.Head(2, np.zeros(50, dtype=int), np.ones(50))]
    tricks = _neural_fit.Tricks(0.0, 0.9, 0.0, 0.0, 0.0, 0.0)
    task = _neural_fit._Task(build_net(plan("sum")), ([np.ones((50, 3))], np.ones((50, 3))), heads, tricks, 0, "cpu")
    blocks, mask = task._without_some([torch.ones(2, 50, 3)], torch.ones(2, 50, 3))
    assert (mask.sum(-1) > 0).all()
    assert (mask == 0).any()
    assert_array_equal(blocks[0].numpy()[..., 0], mask.numpy()[..., 0])


# ---------------------------------------------------------------------- sequences of tokens


def sequences(n=40, seed=0):
    """Cells of one to five tokens of width 3, of which some are missing, beside a block of numbers."""
    rng = np.random.default_rng(seed)
    cells = [rng.normal(size=(rng.integers(1, 6), 3)) for _ in range(n)]
    X = pd.DataFrame({"image__0": rng.normal(size=n), "image__1": rng.normal(size=n)})
    X["clip__0"] = pd.Series(cells, dtype=object)
    y = np.array([cell.mean() > 0 for cell in cells])
    X.loc[::7, "clip__0"] = None
    return X, y


@pytest.mark.by_turns
@pytest.mark.parametrize("kind", FUSIONS)
def test_a_block_may_hold_sequences(kind):
    X, y = sequences()
    model = NeuralFusionClassifier(kind, **{**STEEP, "max_epochs": 40}).fit(X, y)
    held = X["clip__0"].notna().to_numpy()
    assert model.score(X[held], y[held]) > 0.85
    assert model.token_widths_ == {"clip": 3}
    one_by_one = np.vstack([model.predict_proba(X.iloc[[i]]) for i in range(8)])
    assert_allclose(one_by_one, model.predict_proba(X)[:8], atol=1e-9)  # whatever the longest sequence is
    turned = X.assign(clip__0=[None if cell is None else cell[::-1] for cell in X["clip__0"]])
    assert_allclose(model.predict_proba(turned), model.predict_proba(X), atol=1e-9)
    assert model.predict_proba(X.iloc[:0]).shape == (0, 2)


def test_pairs_of_tokens_that_match_are_found_by_asking():
    """The label is whether the one token of the question is among the tokens of the text.

    In one layer of ``"attention"``, only the reading token asks: no token of the text meets that of the question.
    """
    rng = np.random.default_rng(0)
    codes = np.eye(6)

    def rows(n):
        text = [rng.choice(6, size=3, replace=False) for _ in range(n)]
        y = np.arange(n) % 2
        asked = [rng.choice(t if same else np.setdiff1d(np.arange(6), t)) for t, same in zip(text, y, strict=True)]
        cells = {"text__0": [codes[t] for t in text], "question__0": [codes[[a]] for a in asked]}
        return pd.DataFrame({name: pd.Series(values, dtype=object) for name, values in cells.items()}), y

    (X, y), (X_new, y_new) = rows(200), rows(100)
    params = {**STEEP, "hidden": 16, "n_members": 1, "max_epochs": 20, "learning_rate": 0.03, "batch_size": 25}
    score = {
        kind: NeuralFusionClassifier(kind, **params).fit(X, y).score(X_new, y_new)
        for kind in ("cross_attention", "attention", "late")
    }
    assert score["cross_attention"] > 0.95
    assert score["attention"] < score["cross_attention"] - 0.08
    assert score["late"] < 0.6


def test_sequences_in_a_pipeline_of_tricks_and_in_files(tmp_path):
    X, y = sequences()
    tricks = {"noise": 0.1, "mixup": 0.2, "modality_dropout": 0.3, "auxiliary_weight": 0.1, "early_stopping": True}
    model = NeuralFusionClassifier("cross_attention", n_layers=2, **tricks, **SMALL).fit(X, y)
    save_model(model, tmp_path / "net.fuse")
    assert_array_equal(load_model(tmp_path / "net.fuse").predict_proba(X), model.predict_proba(X))
    weights = NeuralFusionClassifier("attention", **SMALL).fit(X, y).fusion_weights(X)
    assert_allclose(weights.sum(axis=1), 1)
    assert (weights["clip"].to_numpy()[::7] == 0).all()
    with pytest.raises(ValueError, match=r"blocks \['clip'\] hold raw cells"):
        export_onnx(model, tmp_path / "net.onnx")


def test_noise_and_dropped_blocks_leave_the_padding_alone():
    heads = [_neural_fit.Head(2, np.zeros(4, dtype=int), np.ones(4))]
    tricks = _neural_fit.Tricks(0.0, 0.5, 0.0, 1.0, 0.0, 0.0)
    task = _neural_fit._Task(build_net(plan("sum")), ([np.ones((4, 3))], np.ones((4, 3))), heads, tricks, 0, "cpu")
    padded = torch.ones(2, 4, 3, 4)
    padded[:, :, 2] = 0
    blocks, mask = task._without_some(*task._with_noise([padded, torch.ones(2, 4, 1)], torch.ones(2, 4, 2)))
    assert (blocks[0][:, :, 2] == 0).all()
    assert set(blocks[0][..., -1].unique().tolist()) <= {0.0, 1.0}
    assert_array_equal(blocks[0][:, :, 0, -1].numpy(), mask[..., 0].numpy())


def test_a_search_takes_sequences_on_its_ledger():
    X, y = sequences()
    net = NeuralFusionClassifier("attention", **SMALL)
    search = FusionSearchCV({"neural": net}, cv=2, refit="all").fit(X, y)
    assert_allclose(search.estimators_["neural"].predict_proba(X), clone(net).fit(X, y).predict_proba(X), atol=1e-12)


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        ("a text", r"row 3 holds 'a text'\. Each cell of such a block .* \(n_tokens, 3\)"),
        (np.zeros((2, 5)), r"row 3 holds an array of shape \(2, 5\) and dtype float64"),
        (np.full((2, 3), np.nan), "row 3 holds an array of shape"),
        (np.zeros((0, 3)), r"an array of shape \(0, 3\)"),
    ],
)
def test_a_cell_that_is_no_sequence_is_named(cell, message):
    X, y = sequences()
    X.at[3, "clip__0"] = cell
    with pytest.raises(ValueError, match=message):
        NeuralFusionClassifier(**SMALL).fit(X, y)


def test_tokens_that_are_constant_up_to_single_precision_give_zeros():
    X, y = sequences()
    steps = lambda cell: np.tile(np.array([0.1, 0.1 + 1e-8], dtype=np.float32)[np.arange(len(cell)) % 2, None], (1, 3))
    X["clip__0"] = [None if cell is None else steps(cell) for cell in X["clip__0"]]
    assert (NeuralFusionClassifier(**SMALL).fit(X, y).preparation_["clip"]["basis"] == 0).all()


def test_sequences_that_no_row_with_a_weight_holds():
    X, _ = sequences()
    only = np.where(X["clip__0"].isna(), 1.0, 0.0)  # the rows that hold sequences have no weight
    assert NeuralFusionClassifier(**SMALL).fit(X, np.arange(40) % 2, sample_weight=only).plan_["widths"] == [1, 2]


def test_sequences_that_cannot_be_one_block_are_named():
    X, y = sequences()
    with pytest.raises(ValueError, match=r"Block 'clip' holds raw cells in 2 columns"):
        NeuralFusionClassifier(**SMALL).fit(X.assign(clip__1=X["clip__0"]), y)


# ---------------------------------------------------------------------- weights, groups, early stopping


def exact(**changes):
    return NeuralFusionClassifier("concat", **{**SMALL, "dropout": 0.0, "batch_size": 1000, "max_epochs": 8, **changes})


def test_in_full_batches_a_row_of_weight_two_is_two_rows_and_one_of_weight_zero_is_left_out(table):
    X, y = table
    weighted = exact().fit(X, y, sample_weight=np.r_[2.0, np.ones(38), 0.0])
    rows = [0, 0, *range(1, 39)]
    repeated = exact().fit(X.iloc[rows], y[rows])
    assert_allclose(weighted.predict_proba(X), repeated.predict_proba(X), atol=1e-4)
    assert abs(weighted.predict_proba(X) - exact().fit(X, y).predict_proba(X)).max() > 1e-3


def test_class_weight_multiplies_the_weights_of_rows(table):
    X, y = table
    by_class = {"class 0": 3.0, "class 1": 1.0, "class 2": 0.5}
    named = exact(class_weight=by_class).fit(X, y)
    given = exact().fit(X, y, sample_weight=[by_class[label] for label in y])
    assert_allclose(named.predict_proba(X), given.predict_proba(X), atol=1e-6)


def test_early_stopping_gives_out_of_fold_predictions_and_a_temperature(table):
    X, y = table
    model = NeuralFusionClassifier(early_stopping=True, cv=4, learning_rate=0.05, **{**SMALL, "n_members": 4})
    model.fit(X, y)
    assert model.oof_proba_.shape == (40, 3)
    assert_allclose(model.oof_proba_.sum(axis=1), 1, atol=1e-5)
    truth = np.searchsorted(model.classes_, y)
    loss_at = lambda scores: -np.log(softmax(scores)[np.arange(40), truth]).mean()
    scores = np.log(model.oof_proba_.astype(float))
    at_one, half, double = scores * model.temperature_, scores * 2, scores / 2
    assert loss_at(scores) < min(loss_at(other) for other in (at_one, half, double)) - 0.03
    assert model.history_["held_loss"].shape == model.history_["train_loss"].shape
    assert (model.best_epochs_ >= 1).all()
    fixed = clone(model).set_params(early_stopping="auto").fit(X, y)
    assert fixed.temperature_ == 1
    assert not hasattr(fixed, "oof_proba_")
    with pytest.raises(AttributeError, match=r"fixed number of epochs.*500 rows on.*early_stopping=True"):
        fixed.oof_proba_  # noqa: B018
    with pytest.raises(AttributeError, match=r"no attribute 'oof_proba_'$"):
        clone(fixed).oof_proba_  # noqa: B018
    assert fixed.best_epochs_.tolist() == [4] * 4
    some = clone(model).set_params(n_members=1).fit(X, y)
    assert np.isfinite(some.oof_proba_).all(axis=1).sum() == 10  # the one fold that its one member held out


def test_held_out_rows_are_asked_in_chunks_and_their_loss_is_that_of_all_at_once(monkeypatch):
    rng, asked = np.random.default_rng(0), []
    heads = [
        _neural_fit.Head(2, rng.integers(2, size=50), rng.random(50)),
        _neural_fit.Head(0, np.zeros(50), np.ones(50)),
    ]
    heads[1].weight[:30] = 0  # the first member knows no target of its rows
    net = build_net(plan("sum", outputs=[2, 1])).eval()
    net.register_forward_pre_hook(lambda net, inputs: asked.append(inputs[1].shape[1]))
    inputs = [rng.normal(size=(50, width)) for width in (3, 2, 5)]
    task = _neural_fit._Task(net, (inputs, np.ones((50, 3))), heads, _neural_fit.Tricks(*[0.0] * 6), 0, "cpu")
    held = [np.arange(23), np.arange(23, 50)]
    at_once = task.held_loss(held)()
    monkeypatch.setattr(_neural_fit, "_CHUNK", 8)
    torch.testing.assert_close(task.held_loss(held)(), at_once)
    assert asked == [27, 8, 8, 8, 3]


def test_folds_begin_at_five_hundred_rows():
    auto, always, never = (NeuralFusionClassifier(early_stopping=value) for value in ("auto", True, False))
    assert [stops_early(auto, n) for n in (499, 500)] == [False, True]
    assert [stops_early(always, 2), stops_early(never, 10**6)] == [True, False]


def test_out_of_fold_predictions_in_regression_are_on_the_scale_of_y(table):
    X, _ = table
    y = X.to_numpy().sum(axis=1) * 50 + 1000
    model = NeuralFusionRegressor("concat", early_stopping=True, **{**STEEP, "n_members": 5, "max_epochs": 25})
    model.fit(X, np.column_stack([y, -y]))
    assert model.oof_fused_.shape == (40, 2)
    assert np.corrcoef(model.oof_fused_[:, 0], y)[0, 1] > 0.5
    assert abs(model.oof_fused_.mean(axis=0) - [y.mean(), -y.mean()]).max() < 100


def test_no_group_is_on_both_sides_of_early_stopping(table, monkeypatch):
    X, y = table
    groups, seen = np.arange(40) // 4, []

    def spy(splits, n_members, n_rows):
        seen.extend(splits)
        return original(splits, n_members, n_rows)

    original = _neural_base.member_rows
    monkeypatch.setattr(_neural_base, "member_rows", spy)
    model = NeuralFusionClassifier(early_stopping=True, **SMALL)
    model.fit(X, y, groups=groups)
    assert len(seen) == 5
    assert not any(set(groups[train]) & set(groups[test]) for train, test in seen)


# ---------------------------------------------------------------------- regression


def test_a_target_times_ten_gives_predictions_times_ten(table):
    X, _ = table
    y = X.to_numpy().sum(axis=1)
    model = NeuralFusionRegressor(**SMALL)
    one, ten = clone(model).fit(X, y).predict(X), clone(model).fit(X, 10 * y).predict(X)
    assert_allclose(10 * one, ten, rtol=1e-4, atol=1e-4)


def test_several_targets_and_one_of_them_constant(table):
    X, _ = table
    y = pd.DataFrame({"sum": X.sum(axis=1), "three": 3.0})
    model = NeuralFusionRegressor("concat", **{**STEEP, "max_epochs": 40}).fit(X, y)
    assert model.predict(X).shape == (40, 2)
    assert np.corrcoef(model.predict(X)[:, 0], y["sum"])[0, 1] > 0.95
    assert_allclose(model.predict(X)[:, 1], 3, atol=0.05)
    assert model.predict(X.iloc[:0]).shape == (0, 2)


# ---------------------------------------------------------------------- determinism, state, files


def test_a_fit_leaves_global_generators_and_threads_alone_and_is_repeatable(table):
    X, y = table
    before = torch.get_rng_state(), np.random.get_state()[1].copy(), torch.get_num_threads()  # noqa: NPY002
    model = NeuralFusionClassifier(noise=0.1, mixup=0.2, modality_dropout=0.1, random_state=3, **SMALL).fit(X, y)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert_array_equal(np.random.get_state()[1], before[1])  # noqa: NPY002
    assert torch.get_num_threads() == before[2]
    again, other = clone(model).fit(X, y), clone(model).set_params(random_state=4).fit(X, y)
    for name, values in model.state_.items():
        assert_array_equal(values, again.state_[name])
    assert any((values != other.state_[name]).any() for name, values in model.state_.items())


def test_a_fit_beside_another_thread_gives_the_same_arrays(table):
    X, y = table
    alone = NeuralFusionClassifier("attention", **SMALL).fit(X, y)
    beside = [clone(alone), clone(alone)]
    threads = [threading.Thread(target=model.fit, args=(X, y)) for model in beside]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for model in beside:
        for name, values in alone.state_.items():
            assert_array_equal(values, model.state_[name])


@pytest.mark.slow  # starts two worker processes
def test_the_number_of_jobs_changes_no_array(table):
    from joblib import Parallel, delayed

    X, y = table
    alone = NeuralFusionClassifier(**SMALL).fit(X, y)
    for model in Parallel(n_jobs=2)(delayed(clone(alone).fit)(X, y) for _ in range(2)):
        for name, values in alone.state_.items():
            assert_array_equal(values, model.state_[name])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_card_learns_what_the_processor_learns(table):
    X, y = table
    fit = lambda device: NeuralFusionClassifier(device=device, **{**SMALL, "dropout": 0.0}).fit(X, y).predict_proba(X)
    assert_allclose(fit("cuda"), fit("cpu"), atol=1e-3)
    tricks = NeuralFusionClassifier(device="cuda", noise=0.1, mixup=0.2, modality_dropout=0.2, early_stopping=True)
    assert_array_equal(*(clone(tricks).set_params(**SMALL).fit(X, y).predict_proba(X) for _ in range(2)))


@pytest.mark.by_turns
@pytest.mark.parametrize("kind", FUSIONS)
def test_no_tensor_of_a_training_stays_on_another_device(kind, monkeypatch):
    """A device without memory stands for a card: an operation on tensors of two devices is an error there, too."""
    monkeypatch.setattr(Draws, "on", lambda self, device: None)  # it has no generators
    monkeypatch.setattr(torch.Tensor, "cpu", lambda t: torch.zeros(t.shape, dtype=t.dtype))
    monkeypatch.setattr(_neural_fit, "arrays_of", lambda net: {p.device.type for p in net.parameters()})
    rng = np.random.default_rng(0)
    blocks = [rng.normal(size=(12, 3)), rng.normal(size=(12, 2)), rng.normal(size=(12, 4, 6))]
    heads = [_neural_fit.Head(2, np.arange(12) % 2, np.ones(12)), _neural_fit.Head(0, np.ones(12), np.ones(12))]
    tricks = _neural_fit.Tricks(0.3, 0.3, 0.1, 0.1, 0.2, 0.1, balance=True)
    rows = [np.arange(6), np.arange(6, 12)], [np.arange(6, 12), np.arange(6)]
    devices, record, outputs = _neural_fit.fit_net(
        (blocks, np.ones((12, 3))),
        heads,
        plan(kind, outputs=[2, 1], auxiliary=True),
        Schedule(2, 4, 0.01, 0.01),
        tricks,
        rows,
        seed=0,
        device="meta",
    )
    assert devices == {"meta"}
    assert len(record.history["held_loss"]) == 2
    assert outputs.shape == (2, 12, 3)


@pytest.mark.by_turns
@pytest.mark.parametrize("kind", FUSIONS)
def test_a_training_in_half_precision_learns_the_same(kind, table, monkeypatch):
    X, y = table
    model = NeuralFusionClassifier(kind, auxiliary_weight=0.1, **SMALL)
    single = clone(model).fit(X, y)
    half = lambda device, width: torch.autocast("cpu", dtype=torch.bfloat16)
    monkeypatch.setattr(_neural_fit, "mixed_precision", half)
    model.fit(X, y)
    assert_allclose(model.predict_proba(X), single.predict_proba(X), atol=0.03)
    assert (model.predict_proba(X) != single.predict_proba(X)).any()
    assert {values.dtype for values in model.state_.values()} == {np.dtype(np.float32)}


def test_the_order_of_columns_and_blocks_changes_nothing(table):
    X, y = table
    model, turned = NeuralFusionClassifier(**SMALL), X[X.columns[::-1]]
    assert_allclose(
        clone(model).fit(X, y).predict_proba(X), clone(model).fit(turned, y).predict_proba(turned), atol=1e-6
    )


def test_tricks_that_are_off_change_no_number_and_those_that_are_on_do(table):
    X, y = table
    plain = NeuralFusionClassifier(**SMALL).fit(X, y).predict_proba(X)
    tricks = {"noise": 0.5, "mixup": 0.5, "label_smoothing": 0.2, "modality_dropout": 0.5, "auxiliary_weight": 0.5}
    off = NeuralFusionClassifier(**SMALL, **dict.fromkeys(tricks, 0.0)).fit(X, y)
    assert_array_equal(off.predict_proba(X), plain)
    for name, value in tricks.items():
        assert (clone(off).set_params(**{name: value}).fit(X, y).predict_proba(X) != plain).any(), name


@pytest.mark.by_turns
@pytest.mark.parametrize("kind", FUSIONS)
def test_a_saved_model_predicts_exactly_the_same(kind, table, gaps, tmp_path):
    model = NeuralFusionClassifier(kind, early_stopping=True, **SMALL).fit(gaps, table[1])
    save_model(model, tmp_path / "net.fuse", example=gaps.head(3))
    loaded = load_model(tmp_path / "net.fuse")
    assert_array_equal(loaded.predict_proba(gaps), model.predict_proba(gaps))
    assert_array_equal(loaded.transform(gaps), model.transform(gaps))


def test_a_pickle_holds_no_module(table):
    X, _ = table
    model = NeuralFusionRegressor(**SMALL).fit(X, X.sum(axis=1))
    expected = model.predict(X)
    data = pickle.dumps(model)
    assert b"torch" not in data
    assert_array_equal(pickle.loads(data).predict(X), expected)


def test_an_interrupt_leaves_the_estimator_as_it_was(table, monkeypatch):
    X, y = table
    model, fresh = NeuralFusionClassifier(**SMALL).fit(X, y), NeuralFusionClassifier(**SMALL)
    expected = model.predict_proba(X)

    def interrupted(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(_neural_fit._Task, "losses", interrupted)
    for estimator in (model, fresh):
        with pytest.raises(KeyboardInterrupt):
            estimator.fit(X[X.columns[:4]], y == "class 0")
    assert_array_equal(model.predict_proba(X), expected)
    assert not any(name.endswith("_") for name in vars(fresh))
    with pytest.raises(NotFittedError):
        fresh.predict(X)


def test_a_time_limit_finishes_the_first_epoch(table):
    X, y = table
    model = NeuralFusionClassifier(**{**SMALL, "max_epochs": 10_000}, time_limit=1e-6).fit(X, y)
    assert model.best_epochs_.tolist() == [1, 1]
    assert_allclose(model.predict_proba(X).sum(axis=1), 1)


def test_a_warm_start_goes_on_and_says_what_differs(table):
    X, y = table
    model = NeuralFusionClassifier(warm_start=True, dropout=0.0, **SMALL).fit(X, y)
    first = log_loss(model, X, y)
    for _ in range(5):
        model.fit(X, y)
    assert log_loss(model, X, y) < first - 0.02
    with pytest.raises(ValueError, match=r"read the blocks .*'audio': 2.*warm_start=False"):
        model.fit(X[X.columns[:4]], y)
    with pytest.raises(ValueError, match="hidden was 8 and is 16"):
        model.set_params(hidden=16).fit(X, y)
    with pytest.raises(ValueError, match="whose classes are"):
        model.set_params(hidden=8).fit(X, y == "class 0")


@pytest.mark.parametrize(
    "change", ["more rows", "other rows", "order", "folds", "groups", "weights", "no folds before"]
)
def test_a_warm_start_never_stops_by_rows_that_it_has_learned_from(change, table):
    X, y = table
    model = NeuralFusionClassifier(warm_start=True, early_stopping=change != "no folds before", cv=2, **SMALL)
    model.fit(X.iloc[:30], y[:30]).set_params(early_stopping=True)
    rows, fit = np.arange(30), {}
    if change == "more rows":
        rows = np.arange(40)
    elif change == "other rows":
        rows = np.r_[np.arange(29), np.flatnonzero(y[30:] == y[29])[:1] + 30]  # the folds are the same
    elif change == "order":
        rows = np.argsort(y[:30], kind="stable")
    elif change == "folds":
        model.set_params(cv=3)
    elif change == "groups":
        fit = {"groups": np.arange(30) // 2}
    elif change == "weights":
        fit = {"sample_weight": np.r_[0.0, np.ones(29)]}
    expected = model.predict_proba(X)
    with pytest.raises(
        ValueError, match=r"rows that early stopping now holds out.*early_stopping=False, or warm_start"
    ):
        model.fit(X.iloc[rows], y[rows], **fit)
    assert_array_equal(model.predict_proba(X), expected)
    model.set_params(early_stopping=False).fit(X.iloc[rows], y[rows], **fit)
    assert (model.predict_proba(X) != expected).any()
    with pytest.raises(ValueError, match="rows that early stopping now holds out"):  # it has now learned from all rows
        model.set_params(early_stopping=True).fit(X.iloc[:30], y[:30])


def test_a_warm_start_on_the_same_folds_goes_on_with_early_stopping(table):
    for X, y in (table, sequences()):
        model = NeuralFusionClassifier("concat", warm_start=True, early_stopping=True, learning_rate=0.05, **SMALL)
        first = model.fit(X, y).history_["held_loss"][0].mean()
        again = pickle.loads(pickle.dumps(model)).fit(X[X.columns[::-1]], y)
        assert again.history_["held_loss"][0].mean() < first - 0.02


# ---------------------------------------------------------------------- what a model tells


def test_features_of_all_members_have_names(table, gaps):
    y = table[1]
    model = NeuralFusionClassifier(**SMALL).fit(gaps, y)
    frame = model.set_output(transform="pandas").transform(gaps)
    assert frame.shape == (40, 16)
    assert frame.columns[0] == "neuralfusionclassifier0"
    late = NeuralFusionClassifier("late", **SMALL).fit(gaps, y)
    assert late.transform(gaps).shape == (40, 3 * 16)
    assert len(late.get_feature_names_out()) == 3 * 16


@pytest.mark.parametrize("kind", ["gated", "attention"])
def test_weights_of_blocks_sum_to_one_and_a_missing_block_has_none(kind, table, gaps):
    gaps = gaps.copy()
    gaps.iloc[7] = np.nan
    gaps.index = [f"row {i}" for i in range(40)]
    weights = NeuralFusionClassifier(kind, **SMALL).fit(gaps, table[1]).fusion_weights(gaps)
    assert list(weights) == ["image", "text", "audio"]
    assert weights.index.tolist() == gaps.index.tolist()
    assert weights.iloc[7].isna().all()
    rest = weights.drop("row 7")
    assert_allclose(rest.sum(axis=1), 1)
    lacks = gaps.drop("row 7")["text__0"].isna().to_numpy()
    assert (rest["text"].to_numpy()[lacks] == 0).all()
    assert (rest["text"].to_numpy()[~lacks] > 0).all()


def test_kinds_without_weights_have_no_such_method():
    assert not hasattr(NeuralFusionClassifier("concat"), "fusion_weights")


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"fusion": "mean"}, "fusion must be one of .*'gated'.*got 'mean'"),
        ({"schedule": "linear"}, "schedule must be one of"),
        ({"early_stopping": "yes"}, 'early_stopping must be "auto", True or False'),
        ({"hidden": 0}, "hidden must be a whole number of at least 1; got 0"),
        ({"n_members": True}, "n_members must be a whole number"),
        ({"fusion": "attention", "hidden": 10}, r"hidden=10 cannot be divided among n_heads=4.*hidden=8"),
        ({"dropout": 1.0}, "dropout must be a number at least 0 and below 1; got 1.0"),
        ({"learning_rate": 0}, "learning_rate must be a number above 0"),
        ({"time_limit": -1}, "time_limit must be a number above 0"),
        ({"learning_rate": 1e38, "fusion": "lowrank"}, "no finite numbers after training with learning_rate=1e[+]38"),
        ({"device": "abacus"}, "device 'abacus' cannot be used here"),
    ],
)
def test_a_wrong_parameter_is_named(wrong, message, table):
    with pytest.raises(ValueError, match=message):
        NeuralFusionClassifier(**wrong).fit(*table)


# ---------------------------------------------------------------------- in the house


def test_it_stands_in_decision_level_fusion_as_the_joint_member(table, gaps):
    X, y = table
    net = NeuralFusionClassifier("concat", **SMALL)
    model = DecisionFusionClassifier({"joint": [None, net]}, cv=2, effort="low").fit(gaps, y)
    members = [name for name in model.member_names_ if name.startswith("joint")]
    assert len(members) == 2
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", MissingModalityWarning)
        assert model.predict_proba(gaps).shape == (40, 3)
    numbers = DecisionFusionRegressor({"joint": NeuralFusionRegressor(**SMALL)}, cv=2, effort="low")
    assert numbers.fit(X, X.sum(axis=1)).predict(X).shape == (40,)


@pytest.mark.by_turns
@pytest.mark.filterwarnings("ignore:.*saw no row in fit")
@pytest.mark.parametrize("kind", FUSIONS)
def test_every_kind_is_written_as_a_graph_that_predicts_the_same(kind, table, gaps, tmp_path):
    gaps = gaps.astype(np.float32).astype(float)[gaps.columns[::-1]]
    model = NeuralFusionClassifier(kind, n_layers=2, early_stopping=True, **SMALL).fit(gaps, table[1])
    assert export_onnx(model, tmp_path / "net.onnx", example=gaps.head(8), tolerance=1e-6).is_file()


@pytest.mark.filterwarnings("ignore:.*saw no row in fit")
def test_graphs_of_numbers_and_of_a_joint_member(table, tmp_path):
    X, y = table
    X = X.astype(np.float32).astype(float)
    numbers = NeuralFusionRegressor(**SMALL).fit(X, X.sum(axis=1))
    export_onnx(numbers, tmp_path / "numbers.onnx", example=X.head(8))
    joint = DecisionFusionClassifier({"joint": NeuralFusionClassifier(**SMALL)}, cv=2, effort="low").fit(X, y)
    export_onnx(joint, tmp_path / "joint.onnx", example=X.head(8))
    several = NeuralFusionRegressor(**SMALL).fit(X, X.iloc[:, :2])
    with pytest.raises(ValueError, match="this model predicts several"):
        export_onnx(several, tmp_path / "several.onnx")


def test_it_is_a_candidate_of_a_search_on_the_ledger(table, gaps):
    y = table[1]
    net = NeuralFusionClassifier("concat", **{**STEEP, "max_epochs": 20})
    search = FusionSearchCV({"neural": net, "late": DecisionFusionClassifier(effort="low")}, cv=2, refit="all")
    search.fit(gaps, y)
    assert search.results_.loc["neural", "n_members"] == 1
    alone = clone(net).fit(gaps, y)
    assert_allclose(search.estimators_["neural"].predict_proba(gaps), alone.predict_proba(gaps), atol=1e-12)
