"""Networks of a common space: what they learn, which rows belong together, and when the linear space is kept."""

import pickle
import sys

import joblib
import numpy as np
import pandas as pd
import pytest
import torch
from conftest import make_blocks, with_checks
from numpy.testing import assert_allclose, assert_array_equal
from scipy.optimize import minimize
from sklearn.base import clone
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline

from ensemblefuse import CommonSpaceProjector, load_model, retrieval_report, save_model
from ensemblefuse.blocks import Blocks
from ensemblefuse.features import _common_space, _space_networks, _space_training
from ensemblefuse.features._space_networks import held_folds
from ensemblefuse.features._space_training import Rows, SpaceNet, share_of_reversal
from ensemblefuse.testing import check_no_leakage
from ensemblefuse.training.pair_losses import contrastive, correlation, discrepancy, info_nce, triplet

METHODS = ["contrastive", "siamese", "triplet", "deep_cca"]
SMALL = {"n_components": 3, "n_members": 2, "max_epochs": 4}
AB = {"a": slice(0, 3), "b": slice(3, 7)}


def linear_table(n=40, seed=0):
    rng = np.random.default_rng(seed)
    meaning = rng.normal(size=(n, 2))
    parts = [meaning @ rng.normal(size=(2, width)) + 0.5 * rng.normal(size=(n, width)) for width in (3, 4)]
    return np.hstack(parts)


@pytest.fixture
def networks_win(monkeypatch):
    monkeypatch.setattr(_common_space, "network_is_better", lambda *_: True)


@pytest.fixture
def fitted(networks_win):
    X = linear_table()
    return {method: CommonSpaceProjector(method=method, blocks=AB, **SMALL).fit(X) for method in METHODS}, X


# ---------------------------------------------------------------------- what they learn


@pytest.mark.parametrize("method", ["contrastive", "siamese", "triplet", "deep_cca"])
def test_a_relation_that_no_linear_map_finds_is_learned(method):
    """Text tells the size of what the picture shows, and not its sign, so that all correlations are 0."""
    rng = np.random.default_rng(0)
    image = rng.normal(size=(300, 2))
    X = np.hstack([image, abs(image) - abs(image).mean(axis=0)]) + 0.02 * rng.normal(size=(300, 4))
    blocks = {"image": slice(0, 2), "text": slice(2, 4)}
    params = {"n_components": 4, "hidden": 32, "n_members": 2, "noise": 0.05, "max_epochs": 40, "learning_rate": 0.03}
    model = CommonSpaceProjector(method=method, blocks=blocks, **params).fit(X[:240])
    linear = CommonSpaceProjector(4, method="cca", blocks=blocks).fit(X[:240])
    found, before = (recall(space, X[240:], 10) for space in (model, linear))
    assert model.chosen_ == method
    assert found > 0.5 and before < 0.35, (found, before)


def recall(space, X, k):
    table = retrieval_report(space, X, *space.blocks_, n_resamples=2).table
    return table.loc[table["measure"] == f"recall@{k}", "score"].mean()


def test_pairs_that_no_row_holds_are_found_by_way_of_a_third_block(networks_win):
    """Every row lacks one of three blocks, and none holds the first and the last."""
    rng = np.random.default_rng(1)
    meaning = rng.normal(size=(240, 3))
    names = ["image", "text", "audio"]
    X = pd.DataFrame(
        {f"{name}__{i}": meaning @ rng.normal(size=3) + 0.1 * rng.normal(size=240) for name in names for i in range(5)}
    )
    rows = X[:200].copy()
    rows.loc[:99, [c for c in X if c.startswith("audio")]] = np.nan
    rows.loc[100:, [c for c in X if c.startswith("image")]] = np.nan
    params = {"n_components": 4, "n_members": 2, "learning_rate": 0.02, "noise": 0.1}
    model = CommonSpaceProjector(method="contrastive", **params).fit(rows)
    table = retrieval_report(model, X[200:], "image", "audio", n_resamples=2).table
    assert (table.loc[table["measure"] == "recall@5", "score"] > 0.5).all()  # chance is .125
    Z = model.transform(rows)
    assert np.isfinite(Z).all() and model.chosen_ == "contrastive"
    assert_allclose(Z[0], (model.transform_block(rows.filter(like="image")[:1], "image") + second(model, rows))[0] / 2)


def second(model, rows):
    return model.transform_block(rows.filter(like="text")[:1], "text")


def test_linear_deep_cca_is_cca(networks_win):
    X = linear_table(200)
    deep = CommonSpaceProjector(3, method="deep_cca", hidden=0, n_members=2, max_epochs=2, reg=1e-9, blocks=AB).fit(X)
    linear = CommonSpaceProjector(3, method="cca", reg=1e-9, blocks=AB).fit(X)
    assert deep.chosen_ == "deep_cca"
    assert_allclose(deep.correlations_, linear.correlations_, atol=1e-5)
    scores = [space.similarity(X[:9, :3], X[:9, 3:], block_a="a", block_b="b") for space in (deep, linear)]
    assert_allclose(*scores, atol=1e-3)


def test_the_loss_of_deep_cca_leads_linear_maps_to_the_correlations_of_cca():
    X = torch.from_numpy(linear_table(300))
    a, b = X[:, :3], X[:, 3:]
    best = correlation(a, b)
    whole = torch.linalg.svdvals(whitened(a).T @ whitened(b) / len(a))
    assert best.item() == pytest.approx(whole.sum().item(), abs=1e-6)
    draw = torch.Generator().manual_seed(0)

    def loss_and_gradient(values):
        start = torch.tensor(values, requires_grad=True)
        loss = -correlation(a @ start[:6].reshape(3, 2), b @ start[6:].reshape(4, 2))
        loss.backward()
        return loss.item(), start.grad.numpy()

    start = torch.randn(14, generator=draw, dtype=torch.double).numpy()
    found = minimize(loss_and_gradient, start, jac=True, method="L-BFGS-B", options={"ftol": 1e-12})
    assert -found.fun == pytest.approx(whole[:2].sum().item(), abs=1e-5)


def whitened(view):
    view = view - view.mean(dim=0)
    values, vectors = torch.linalg.eigh(view.T @ view / len(view))
    return view @ vectors / values.sqrt()


# ---------------------------------------------------------------------- which rows belong together


def task(method, cells=None, groups=None, present=None, weight=None, n=6, alignment=None):
    draw = np.random.default_rng(0)
    plan = _space_networks.NetworkPlan(method, 2, 0.1, 0, 1, 0.0, alignment, 4, 0.01, "cpu", 0)
    rows = Rows(
        [draw.normal(size=(n, 3)), draw.normal(size=(n, 2))],
        np.ones((2, n), dtype=bool) if present is None else present,
        np.ones(n) if weight is None else weight,
        np.arange(n) if groups is None else groups,
        [np.arange(n), np.arange(n)] if cells is None else cells,
    )
    net = SpaceNet([3, 2], None, plan)
    said = [
        net(m, torch.as_tensor(block, dtype=torch.float32)[None]).detach()[0] for m, block in enumerate(rows.inputs)
    ]
    return _space_training._Task(net, rows, plan, 10), said


@pytest.mark.parametrize("way", ["equal texts", "equal pictures", "groups"])
def test_equal_cells_and_rows_of_one_group_are_partners(way):
    codes = np.array([0, 0, 1, 2, 2, 2])
    cells = [np.arange(6), np.arange(6)]
    if way != "groups":
        cells[way == "equal texts"] = codes
    own, (a, b) = task("contrastive", cells, codes if way == "groups" else None)
    same, scale = torch.from_numpy(codes[:, None] == codes), torch.tensor(1 / 0.07)
    loss = own.losses(torch.arange(6)[None]).mean().item()
    assert loss == pytest.approx(info_nce(a @ b.T * scale, same).item(), rel=1e-5)
    assert abs(loss - info_nce(a @ b.T * scale).item()) > 0.1  # what it would be if they were pushed apart


@pytest.mark.parametrize("method", ["siamese", "triplet"])
def test_partners_are_never_pushed_apart(method):
    codes = np.array([0, 0, 1, 2, 2, 2])
    own, (a, b) = task(method, [codes, np.arange(6)])
    distance, same = (2 - 2 * a @ b.T).sqrt(), torch.from_numpy(codes[:, None] == codes)
    sides = []
    for far, pairs in ((distance, same), (distance.T, same.T)):
        for i in range(6):
            near, others = far[i][pairs[i]], far[i][~pairs[i]]
            if method == "siamese":
                cost = contrastive(others, torch.zeros_like(others))
                sides.append((near**2).mean() + cost.sum() / max(1, (cost > 0).sum()))
            else:
                harder = others[others > far[i, i]]
                sides.append(triplet(far[i, i], harder.min() if len(harder) else others.max()))
    assert own.losses(torch.arange(6)[None]).mean().item() == pytest.approx(torch.stack(sides).mean().item(), rel=1e-4)


@pytest.mark.parametrize("method", METHODS)
def test_a_row_that_lacks_a_block_teaches_nothing_about_the_pair(method):
    present = np.ones((2, 6), dtype=bool)
    present[1, 4:] = False
    whole, part = (
        own.losses(torch.arange(n)[None])[0] for own, n in ((task(method)[0], 4), (task(method, present=present)[0], 6))
    )
    if method == "deep_cca":  # one number for the batch
        assert_allclose(part.detach(), whole[0].item(), rtol=1e-4)
    else:
        assert_allclose(part[:4].detach(), whole.detach(), rtol=1e-4)
        assert part[4:].tolist() == [0, 0]


def test_rows_of_weight_0_are_as_good_as_left_out(networks_win):
    X, weight = linear_table(), np.r_[np.ones(30), np.zeros(10)]
    model = CommonSpaceProjector(method="contrastive", blocks=AB, **SMALL)
    Z = model.fit(X, sample_weight=weight).transform(X)
    assert_allclose(clone(model).fit(X[:30]).transform(X), Z, atol=1e-6)
    other = clone(model).fit(X, sample_weight=np.r_[np.ones(30), np.full(10, 5.0)]).transform(X)
    assert abs(other - Z).max() > 0.01


# ---------------------------------------------------------------------- alignment


@pytest.mark.parametrize("alignment", ["mmd", "adversarial"])
def test_alignment_makes_the_outputs_of_unpaired_rows_alike(networks_win, alignment):
    """Pairs are of one part of the blocks; the other rows lie elsewhere, and each holds one block."""
    X = linear_table(240)
    X[40:, :3] += 3.0
    X[40:140, :3], X[140:, 3:] = np.nan, np.nan
    gaps = {}
    for kind in (None, alignment):
        params = {"n_components": 2, "n_members": 2, "noise": 0.1, "learning_rate": 0.02, "max_epochs": 30}
        model = CommonSpaceProjector(method="contrastive", alignment=kind, blocks=AB, **params).fit(X)
        a, b = model.transform_block(X[140:, :3], "a"), model.transform_block(X[40:140, 3:], "b")
        gaps[kind] = discrepancy(*map(torch.from_numpy, (a, b)), *torch.ones(2, 100, dtype=torch.double)).item()
    assert gaps[alignment] < 0.7 * gaps[None], gaps


def test_the_discrepancy_of_equal_sets_is_0_and_absent_rows_do_not_count():
    a = torch.randn(20, 3, generator=torch.Generator().manual_seed(0), dtype=torch.double)
    one, some = torch.ones(20, dtype=torch.double), torch.cat([torch.ones(10), torch.zeros(10)]).double()
    assert discrepancy(a, a.flip(0), one, one).item() == pytest.approx(0, abs=1e-12)
    assert discrepancy(a, a + 1, one, one).item() > 0.1
    assert discrepancy(a, a + 1, some, some).item() == pytest.approx(
        discrepancy(a[:10], a[:10] + 1, one[:10], one[:10]).item(), abs=1e-12
    )


def test_the_reversed_gradient_grows_from_0_to_1():
    assert share_of_reversal(0.0) == 0.0
    assert share_of_reversal(0.5) == pytest.approx(0.986614, abs=1e-6)
    assert share_of_reversal(1.0) == pytest.approx(0.999909, abs=1e-6)
    own, _ = task("contrastive", alignment="adversarial")
    seen = []
    for _ in range(3):
        own.losses(torch.arange(6)[None])
        seen.append(own.step)
    assert seen == [1, 2, 3]


# ---------------------------------------------------------------------- the choice


def table_of(X, blocks=AB):
    data = {name: X[:, span] for name, span in blocks.items()}
    return Blocks(data, ~np.array([np.isnan(part).all(axis=1) for part in data.values()]), list(range(len(X))))


def test_no_group_and_no_cell_is_on_both_sides_of_a_held_out_split():
    rng = np.random.default_rng(0)
    X, groups = rng.normal(size=(60, 7)), rng.permutation(60) // 3
    X[::7, 3:] = X[0, 3:]
    X[5, :3] = np.nan
    folds = held_folds(table_of(X), np.ones(60), groups)
    assert sorted(np.concatenate([test for _, test in folds]).tolist()) == [i for i in range(60) if i != 5]
    for train, test in folds:
        assert 5 not in test  # it lacks a block, and has no partner
        assert not set(groups[train]) & set(groups[test])
        assert not set(map(bytes, X[train, 3:])) & set(map(bytes, X[test, 3:]))
    X[:, 3:] = rng.integers(2, size=(60, 1))  # such cells would tie all rows together
    folds = held_folds(table_of(X), np.ones(60), groups)
    assert len(folds) == 3 and not any(set(groups[train]) & set(groups[test]) for train, test in folds)


def test_the_comparison_fits_on_one_side_and_asks_the_other(monkeypatch):
    X, groups, seen = linear_table(60), np.arange(60) // 2, []
    fit, ask = _space_networks.fit_networks, _space_networks._found
    monkeypatch.setattr(
        _space_networks, "fit_networks", lambda blocks, w, g, plan: seen.append(("fit", g)) or fit(blocks, w, g, plan)
    )
    monkeypatch.setattr(
        _space_networks, "_found", lambda space, blocks, g, r: seen.append(("ask", g)) or ask(space, blocks, g, r)
    )
    CommonSpaceProjector(method="contrastive", blocks=AB, **SMALL).fit(X, groups=groups)
    assert [what for what, _ in seen] == ["fit", "ask", "ask"] * 3
    for i in range(0, 9, 3):
        learned, asked = set(seen[i][1]), set(seen[i + 1][1])
        assert not learned & asked and learned | asked == set(range(30))


@pytest.mark.parametrize("networks, linear, chosen", [(0.6, 0.5, "siamese"), (0.5, 0.5, "cca"), (0.4, 0.5, "cca")])
def test_networks_are_kept_if_they_find_more(monkeypatch, networks, linear, chosen):
    found = lambda space, *_: networks if space.is_unit else linear
    monkeypatch.setattr(_space_networks, "_found", found)
    X = linear_table()
    model = CommonSpaceProjector(method="siamese", blocks=AB, **SMALL).fit(X)
    assert model.chosen_ == chosen and bool(model.networks_) == (chosen == "siamese")
    if chosen == "cca":
        assert_allclose(model.transform(X), CommonSpaceProjector(3, method="cca", blocks=AB).fit(X).transform(X))


def test_a_mark_that_a_fold_lacks_is_no_error():
    X = linear_table()
    X[:, 3:] = 0.0
    X[7, 3] = 1.0
    assert CommonSpaceProjector(method="contrastive", blocks=AB, **SMALL).fit(X).chosen_ == "cca"


def test_with_few_pairs_or_one_block_the_linear_space_is_kept():
    X = linear_table(19)
    assert CommonSpaceProjector(method="triplet", blocks=AB, **SMALL).fit(X).chosen_ == "cca"
    assert CommonSpaceProjector(method="triplet", **SMALL).fit(X).chosen_ == "gcca"
    X[:, :3][::2], X[:, 3:][1::2] = np.nan, np.nan
    with pytest.raises(ValueError, match=r"hold two blocks or more, and X has 0 of them \(n_samples = 19, blocks"):
        CommonSpaceProjector(method="triplet", blocks=AB, **SMALL).fit(X)


# ---------------------------------------------------------------------- an estimator like the others


def test_similarity_is_the_mean_over_the_members(fitted):
    models, X = fitted
    for method in METHODS[:3]:
        model = models[method]
        assert model.n_components_ == 6 and model.transform(X).shape == (40, 6)
        a, b = (model.transform_block(X[:, span], name).reshape(40, 2, 3) for name, span in AB.items())
        assert_allclose(np.linalg.norm(a, axis=2), np.sqrt(3))
        each = np.einsum("ikc,jkc->kij", a, b) / 3
        assert_allclose(model.similarity(X[:, :3], X[:, 3:], block_a="a", block_b="b"), each.mean(axis=0))
        assert abs(each[0] - each[1]).max() > 1e-3
    assert models["deep_cca"].n_components_ == 3


def test_the_same_seed_gives_the_same_arrays_wherever_it_is_fitted(fitted):
    models, X = fitted
    state, threads = torch.get_rng_state(), torch.get_num_threads()
    plain = np.random.get_state()[1].copy()  # noqa: NPY002
    for method in ("contrastive", "deep_cca"):
        again = joblib.Parallel(n_jobs=2, backend="threading")(
            joblib.delayed(clone(models[method]).fit)(X) for _ in range(2)
        )
        for model in again:
            assert_array_equal(model.transform(X), models[method].transform(X))
        other = clone(models[method]).set_params(random_state=1).fit(X)
        assert abs(other.networks_["a"]["weight"] - models[method].networks_["a"]["weight"]).max() > 0
    assert torch.equal(torch.get_rng_state(), state) and torch.get_num_threads() == threads
    assert_array_equal(np.random.get_state()[1], plain)  # noqa: NPY002


def test_a_file_holds_arrays_and_is_asked_without_torch(fitted, tmp_path, monkeypatch):
    models, X = fitted
    files = {method: save_model(models[method], tmp_path / method) for method in METHODS}
    monkeypatch.setitem(sys.modules, "torch", None)
    for method, file in files.items():
        expected = models[method].transform(X)
        for model in (load_model(file), pickle.loads(pickle.dumps(models[method]))):
            assert_array_equal(model.transform(X), expected)
            assert all(type(values) is np.ndarray for net in model.networks_.values() for values in net.values())


def test_a_projector_of_an_older_version_is_read():
    X = linear_table()
    model = CommonSpaceProjector(2, method="cca", blocks=AB).fit(X)
    old = CommonSpaceProjector.__new__(CommonSpaceProjector)
    known = "n_components method reg combine weights blocks n_features_in_ blocks_ projections_ means_ weights_"
    old.__dict__.update({name: vars(model)[name] for name in [*known.split(), "correlations_", "n_components_"]})
    assert_array_equal(old.transform(X), model.transform(X))
    assert clone(old).fit(X).chosen_ == "cca" and "method='cca'" in repr(old)


def test_weights_of_the_sum_are_learned_from_the_outputs(networks_win):
    X = linear_table(60)
    X[:, 3:] = np.random.default_rng(1).normal(size=(60, 4))
    model = CommonSpaceProjector(method="contrastive", weights="learned", blocks=AB, **SMALL).fit(X, X[:, 0] > 0)
    assert model.weights_["a"] > 2 * model.weights_["b"]


def test_labels_that_weigh_the_outputs_are_those_of_the_fold(networks_win):
    X, y = make_blocks(60)
    space = CommonSpaceProjector(method="contrastive", weights="learned", **SMALL)
    model = make_pipeline(space, KNeighborsClassifier(1))
    assert check_no_leakage(model, X, y, cv=2, n_draws=2) == ["cross_validation"]


@pytest.mark.parametrize(
    "params, message",
    [
        ({"hidden": -1}, 'hidden must be a whole number from 0 or "auto"; got -1'),
        ({"n_members": 0}, "n_members must be a whole number from 1; got 0"),
        ({"max_epochs": 2.5}, "max_epochs must be a whole number"),
        ({"noise": -1}, "noise must be a number from 0"),
        ({"learning_rate": 0}, "learning_rate must be a number above 0"),
        ({"alignment": "coral"}, r"alignment must be None or one of \('mmd', 'adversarial'\)"),
        ({"alignment": "mmd", "method": "cca"}, "alignment='mmd' is for the methods"),
        ({"device": "abacus"}, "device 'abacus' cannot be used here"),
        ({"learning_rate": 1e30, "hidden": 4}, "no finite numbers after training with learning_rate=1e\\+30"),
    ],
)
def test_bad_parameters_are_named(networks_win, params, message):
    with pytest.raises(ValueError, match=message):
        CommonSpaceProjector(**{"method": "contrastive", "blocks": AB, **SMALL, **params}).fit(linear_table())


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a card")
@pytest.mark.parametrize("method", METHODS)
def test_a_card_gives_about_the_same(networks_win, method):
    X = linear_table()
    here, there = (
        CommonSpaceProjector(method=method, blocks=AB, device=device, noise=0.0, **SMALL).fit(X).transform(X)
        for device in ("cpu", "cuda")
    )
    assert_allclose(there, here, atol=0.02)


FAILED = {
    "check_fit2d_1feature": "the two blocks need two columns",
    "check_estimators_nan_inf": "a block of one column that is NaN is missing",
    "check_sample_weight_equivalence_on_dense_data": "batches are drawn by position: a row twice is not weight 2",
}
CHECKED = [
    CommonSpaceProjector(2, method=method, n_members=2, max_epochs=2, blocks={"a": [0], "b": slice(1, None)})
    for method in ("contrastive", "deep_cca")
]


@pytest.mark.by_turns
@with_checks(CHECKED, expected_failed_checks=lambda _: FAILED)
def test_scikit_learns_checks(networks_win, estimator, check):
    check(estimator)


def test_deep_cca_of_blocks_that_no_row_holds_all_of_is_refused_before_it_is_trained(monkeypatch):
    X = np.random.default_rng(0).normal(size=(30, 6))
    for block in range(3):
        X[block::3, 2 * block : 2 * block + 2] = np.nan
    blocks = {"a": [0, 1], "b": [2, 3], "c": [4, 5]}
    small = {"blocks": blocks, "n_components": 1, "n_members": 1, "max_epochs": 1}
    assert CommonSpaceProjector(method="contrastive", **small).fit(X).chosen_ == "contrastive"
    monkeypatch.setattr("ensemblefuse.features._common_space.fit_networks", None)
    with pytest.raises(ValueError, match=r"method='deep_cca' learns from rows that hold all blocks, and X has 0 "):
        CommonSpaceProjector(method="deep_cca", **small).fit(X)
