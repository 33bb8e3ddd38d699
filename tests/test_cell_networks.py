"""Networks on cells of any modality: scikit-learn's checks, weights, groups, early stopping, state, threads."""

import copy
import pickle

import numpy as np
import pandas as pd
import pytest
import torch
from cell_rows import RowNetworkClassifier, RowNetworkRegressor
from conftest import with_checks
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.model_selection import GroupKFold
from sklearn.utils import estimator_checks
from torch import nn

from ensemblefuse import DecisionFusionClassifier, NeuralFusionClassifier
from ensemblefuse.fusion.linear_head import default_head
from ensemblefuse.networks import _members
from ensemblefuse.networks._linear import fit_linear
from ensemblefuse.testing import check_no_leakage
from ensemblefuse.training.fresh import fresh_network
from ensemblefuse.training.loop import AdamW, Schedule, train
from ensemblefuse.training.lora import add_low_rank, merge_low_rank

SMALL = {"max_epochs": 3, "n_members": 2, "hidden": 4}
WEIGHTS = "check_sample_weight_equivalence_on_dense_data"
# In full batches the two are equal: see below.
BATCHES = "a row of weight 2 is in one batch of an epoch, and two such rows may be in two"


@pytest.fixture(scope="module")
def table():
    rng = np.random.default_rng(0)
    codes = np.arange(60) % 3
    return rng.normal(size=(3, 4))[codes] * 2 + rng.normal(size=(60, 4)), np.array(["a", "b", "c"])[codes]


def same(first, second):
    return first.state_.keys() == second.state_.keys() and all(
        np.array_equal(first.state_[name], second.state_[name]) for name in first.state_
    )


# ---------------------------------------------------------------------- the contract


@pytest.mark.by_turns
@with_checks(
    [RowNetworkClassifier(max_epochs=8), RowNetworkRegressor(max_epochs=8)],
    expected_failed_checks=lambda estimator: {WEIGHTS: BATCHES},
)
def test_scikit_learns_checks(estimator, check):
    check(estimator)


@pytest.mark.parametrize("estimator", [RowNetworkClassifier(**SMALL), RowNetworkRegressor(**SMALL)], ids=type)
def test_checks_that_scikit_learn_defines_but_never_yields(estimator):
    name = type(estimator).__name__
    estimator_checks.check_dataframe_column_names_consistency(name, clone(estimator))
    estimator_checks.check_estimators_overwrite_params(name, clone(estimator))


@pytest.mark.parametrize("kind", [RowNetworkClassifier, RowNetworkRegressor])
def test_in_full_batches_a_row_of_weight_two_is_two_rows_and_one_of_weight_zero_is_none(table, kind):
    X, y = table
    y = y if kind is RowNetworkClassifier else X @ [1.0, 2.0, 0.0, -1.0]
    weight = np.arange(60) // 3 % 3.0
    model = kind(**{**SMALL, "batch_size": 1000, "head": "own"})
    weighted = clone(model).fit(X, y, sample_weight=weight)
    rows = np.repeat(np.arange(60), weight.astype(int))
    repeated = clone(model).fit(X[rows], y[rows])
    for name, values in weighted.state_.items():
        assert_allclose(values, repeated.state_[name], atol=2e-4, err_msg=name)
    without = clone(model).fit(X[weight > 0], y[weight > 0], sample_weight=weight[weight > 0])
    assert same(weighted, without)


def test_class_weights_are_weights_of_rows(table):
    X, y = table
    by_class = RowNetworkClassifier(**SMALL, class_weight={"a": 3.0, "b": 1.0, "c": 1.0}).fit(X, y)
    assert same(by_class, RowNetworkClassifier(**SMALL).fit(X, y, sample_weight=np.where(y == "a", 3.0, 1.0)))


# ---------------------------------------------------------------------- early stopping


def test_no_group_is_on_both_sides_of_early_stopping(table, monkeypatch):
    X, y = table
    groups, seen = np.arange(60) // 4, []
    original = _members.train_members

    def spy(members, plan, rows, parts, *args, **kwargs):
        seen.extend(zip(*parts, strict=True))
        return original(members, plan, rows, parts, *args, **kwargs)

    monkeypatch.setattr(_members, "train_members", spy)
    model = RowNetworkClassifier(**{**SMALL, "n_members": 3}, early_stopping=True, cv=3)
    model.fit(X, y, groups=groups)
    assert len(seen) == 3
    for learned, held in seen:
        assert len(held) and not set(groups[learned]) & set(groups[held])
    # A member of a fusion gets the groups of its rows, too.
    seen.clear()
    DecisionFusionClassifier(model, joint=False, cv=3).fit(X, y, groups=groups)
    assert all(not set(groups[a]) & set(groups[b]) for a, b in seen if len(a) + len(b) == 60)
    assert len(seen) >= 3


def test_held_out_rows_give_temperature_and_out_of_fold_probabilities(table):
    X, y = table
    model = RowNetworkClassifier(**{**SMALL, "n_members": 3, "max_epochs": 30}, early_stopping=True, cv=3).fit(X, y)
    assert np.isfinite(model.oof_proba_).all()
    assert_allclose(model.oof_proba_.sum(axis=1), 1, atol=1e-6)
    assert model.temperature_ != 1 and model.history_["held_loss"].shape[1] == 3
    codes = np.searchsorted(model.classes_, y)
    cold = model.oof_proba_**model.temperature_
    assert log_loss(codes, model.oof_proba_) <= log_loss(codes, cold / cold.sum(axis=1, keepdims=True)) + 1e-9
    one = clone(model).set_params(n_members=1).fit(X, y)
    assert np.isnan(one.oof_proba_).all(axis=1).sum() == 40
    assert RowNetworkRegressor(**SMALL, early_stopping=True, cv=2).fit(X, codes).oof_fused_.shape == (60,)
    assert not hasattr(RowNetworkClassifier(**SMALL).fit(X, y), "oof_proba_")


def test_folds_of_the_users_own_are_used(table):
    X, y = table
    model = RowNetworkClassifier(**SMALL, early_stopping=True, cv=GroupKFold(2))
    assert np.isfinite(model.fit(X, y, groups=np.arange(60) // 3).oof_proba_).all()


def test_early_stopping_without_a_row_to_hold_out_is_an_error(table):
    X, y = table
    halves = [(np.arange(30), np.arange(30, 60))]
    weight = np.repeat([1.0, 0.0], 30)
    blocks = pd.DataFrame({"a__0": np.arange(60.0)})
    for model, cells in ((RowNetworkClassifier(**SMALL), X), (NeuralFusionClassifier(max_epochs=1), blocks)):
        model.set_params(early_stopping=True, cv=halves)
        with pytest.raises(ValueError, match=r"none has rows on both sides.*early_stopping=False"):
            model.fit(cells, y, sample_weight=weight)


def test_the_refitted_head_is_the_default_linear_model_of_the_features(table):
    X, y = table
    codes, weight = np.searchsorted(["a", "b", "c"], y), np.linspace(0.5, 1.5, 60)
    for classes, target in ((3, codes), (2, codes % 2), (0, X[:, 0])):
        matrix, bias = fit_linear(X, target, weight, classes)
        head = default_head(4, classify=classes > 0)
        step = "logisticregression" if classes else "ridgecv"
        head.fit(X, target, standardscaler__sample_weight=weight, **{f"{step}__sample_weight": weight})
        said = X @ matrix.T + bias
        if classes:
            said = np.exp(said) / np.exp(said).sum(axis=1, keepdims=True)
        assert_allclose(said, head.predict_proba(X) if classes else head.predict(X)[:, None], rtol=1e-6)
    refit = RowNetworkClassifier(**{**SMALL, "n_members": 1}).fit(X, y)
    own = clone(refit).set_params(head="own").fit(X, y)
    assert_array_equal(refit.state_["0.body.0.weight"], own.state_["0.body.0.weight"])
    assert_allclose(refit.state_["0.head.weight"], fit_linear(refit.transform(X), codes, np.ones(60), 3)[0], atol=1e-3)


def test_rows_that_were_held_out_are_in_the_last_fit_of_the_head_and_in_no_fit_before(table):
    X, y = table
    codes = np.searchsorted(["a", "b", "c"], y)
    halves = [(np.arange(30), np.arange(30, 60)), (np.arange(30, 60), np.arange(30))]
    model = RowNetworkClassifier(**{**SMALL, "n_members": 1}, early_stopping=True, cv=halves).fit(X, y)
    features = model.transform(X)
    assert_allclose(model.state_["0.head.weight"], fit_linear(features, codes, np.ones(60), 3)[0], atol=1e-3)
    matrix, bias = fit_linear(features[:30], codes[:30], np.ones(30), 3)
    said = np.exp((features[30:] @ matrix.T + bias) / model.temperature_)
    assert_allclose(model.oof_proba_[30:], said / said.sum(axis=1, keepdims=True), atol=1e-3)


def test_a_class_that_the_learned_rows_lack_is_improbable():
    X = np.array([[0.0], [1.0], [2.0], [3.0]])
    for target in ([0, 0, 2, 2], [0, 0, 0, 0]):
        matrix, bias = fit_linear(X, np.array(target), np.ones(4), 3)
        said = np.exp(X @ matrix.T + bias)
        assert (said[:, 1] < 0.01 * said[:, 0] + 0.01 * said[:, 2]).all()


# ---------------------------------------------------------------------- state, seeds, threads, time


def test_fitted_state_is_arrays_and_a_pickle_holds_no_module(table):
    X, y = table
    model = RowNetworkClassifier(**SMALL).fit(X, y)
    model.predict(X)
    data = pickle.dumps(model)
    assert b"torch" not in data
    assert_array_equal(pickle.loads(data).predict_proba(X), model.predict_proba(X))
    assert_array_equal(copy.deepcopy(model).predict_proba(X), model.predict_proba(X))
    assert all(type(values) is np.ndarray and values.dtype == np.float32 for values in model.state_.values())
    assert model.n_parameters_ == sum(values.size for values in model.state_.values())


def test_the_same_seed_gives_the_same_arrays_and_no_global_generator_moves(table):
    X, y = table
    before = np.random.get_state()[1].copy(), torch.get_rng_state(), torch.get_num_threads()  # noqa: NPY002
    model = RowNetworkClassifier(**SMALL, random_state=3).fit(X, y)
    model.predict_proba(X)
    assert_array_equal(np.random.get_state()[1], before[0])  # noqa: NPY002
    assert torch.equal(torch.get_rng_state(), before[1]) and torch.get_num_threads() == before[2]
    torch.rand(3)
    assert same(model, RowNetworkClassifier(**SMALL, random_state=3).fit(X, y))
    assert not same(model, RowNetworkClassifier(**SMALL, random_state=4).fit(X, y))
    assert not np.array_equal(model.state_["0.body.0.weight"], model.state_["1.body.0.weight"])


def test_members_of_a_fusion_are_the_same_with_two_jobs(table):
    X, y = table
    fits = [DecisionFusionClassifier(RowNetworkClassifier(**SMALL), joint=False, cv=2, n_jobs=n) for n in (1, 2)]
    one, two = (fusion.fit(X, y) for fusion in fits)
    assert_array_equal(one.oof_proba_, two.oof_proba_)
    (name,) = one.estimators_
    assert same(one.estimators_[name], two.estimators_[name])


def test_the_first_epoch_is_always_finished(table):
    X, y = table
    model = RowNetworkClassifier(**{**SMALL, "max_epochs": 50}, time_limit=1e-9).fit(X, y)
    assert model.best_epochs_.tolist() == [1, 1] and model.score(X, y) > 0.5


@pytest.mark.by_turns
@pytest.mark.parametrize("early_stopping", [False, True])
def test_no_label_leaks_through_a_block_of_a_network(table, early_stopping):
    network = RowNetworkClassifier(**SMALL, early_stopping=early_stopping, cv=2)
    fusion = DecisionFusionClassifier({"image": network, "text": LogisticRegression()}, joint=False, cv=3)
    X = pd.DataFrame(table[0], columns=["image__0", "image__1", "text__0", "text__1"])
    assert "oof_proba_" in check_no_leakage(fusion, X, table[1])


def test_an_interrupt_leaves_the_estimator_as_it_was(table, monkeypatch):
    X, y = table
    model = RowNetworkClassifier(**SMALL).fit(X, y)
    before = dict(vars(model))

    def interrupted(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(_members, "train", interrupted)
    with pytest.raises(KeyboardInterrupt):
        model.fit(X[:30], y[:30])
    assert vars(model) == before


def test_a_learning_rate_that_leads_nowhere_is_an_error(table):
    with pytest.raises(ValueError, match=r"no finite numbers after training with learning_rate=1e\+30"):
        RowNetworkRegressor(**SMALL, head="own", learning_rate=1e30).fit(table[0], table[0][:, 0])


def test_transform_gives_what_the_heads_see(table):
    X, y = table
    model = RowNetworkClassifier(**SMALL).fit(X, y)
    features = model.transform(X)
    assert features.shape == (60, 8) == (60, len(model.get_feature_names_out()))
    assert_allclose(model.of_features(features), model.predict_proba(X))
    assert model.set_output(transform="pandas").transform(X).columns[0] == "rownetworkclassifier0"


# ---------------------------------------------------------------------- the loop for one network


def ordinary():
    return fresh_network(lambda: nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.Linear(3, 1)), seed=0)


def test_stages_of_one_ordinary_network_have_rates_of_their_own_and_only_matrices_decay():
    net = fresh_network(lambda: nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 1)), seed=0)
    before = {name: p.detach().clone() for name, p in net.named_parameters()}
    optimiser = AdamW(net, 1, weight_decay=0.5, rates={"0.weight": 0.3, "0.bias": 0.3})
    net(torch.randn(24, 4, generator=torch.Generator().manual_seed(1))).sum().backward()
    optimiser.step(0.01, clip=1e9)  # the first step of Adam has the size of the rate, whatever the gradient
    for name, p in net.named_parameters():
        rate = 0.01 * (0.3 if name.startswith("0.") else 1.0)
        kept = before[name] * (1 - 0.5 * rate * name.endswith("weight"))
        torch.testing.assert_close((p.detach() - kept).abs(), torch.full_like(p, rate), rtol=1e-3, atol=1e-7)


def test_the_matrices_of_a_recurrent_layer_decay():
    net = fresh_network(lambda: nn.GRU(4, 3, bidirectional=True), seed=0)
    before = {name: p.detach().clone() for name, p in net.named_parameters()}
    AdamW(net, 1, weight_decay=0.5, rates={}).step(0.1, clip=1.0)  # without a gradient
    for name, p in net.named_parameters():
        torch.testing.assert_close(p.detach(), before[name] * (0.95 if name.startswith("weight") else 1.0))


def test_the_best_epoch_keeps_its_buffers_too():
    net, seen = ordinary(), []
    data = torch.randn(24, 4, generator=torch.Generator().manual_seed(1))

    def held_loss():
        seen.append({name: value.clone() for name, value in net.state_dict().items()})
        return torch.tensor([float(len(seen) != 2)])

    plan = Schedule(max_epochs=4, batch_size=8, learning_rate=0.1, weight_decay=0.0)
    losses = lambda index: (net(data[index[0]])[:, 0] ** 2)[None]
    record = train(net, losses, [np.arange(24)], plan, seed=0, held_loss=held_loss, rates={})
    assert record.best_epochs.tolist() == [2] and len(seen) == 4
    assert all(torch.equal(value, seen[1][name]) for name, value in net.state_dict().items())
    assert not torch.equal(seen[1]["1.running_mean"], seen[3]["1.running_mean"])


def test_new_networks_draw_from_no_generator_of_the_process():
    before = torch.get_rng_state()
    first, again = ordinary(), ordinary()
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(a, b) for a, b in zip(first.state_dict().values(), again.state_dict().values(), strict=True))
    assert first[1].weight.tolist() == [1, 1, 1] and first[1].running_var.tolist() == [1, 1, 1]
    assert not torch.equal(first[0].weight, fresh_network(lambda: nn.Linear(4, 3), seed=1).weight)


# ---------------------------------------------------------------------- adapters


def test_an_adapter_starts_as_nothing_and_is_merged_without_a_change():
    net = nn.Sequential(fresh_network(lambda: nn.Linear(6, 4), 0), nn.ReLU(), fresh_network(lambda: nn.Linear(4, 2), 1))
    data = torch.randn(5, 6, generator=torch.Generator().manual_seed(0))
    frozen = net(data).detach()
    assert add_low_rank(net, 3, seed=0) == 2
    assert torch.equal(net(data), frozen)
    trained = {name: p for name, p in net.named_parameters() if p.requires_grad}
    # r (n_in + n_out) numbers; the rank is not larger than the smaller side.
    assert sum(p.numel() for p in trained.values()) == 3 * (6 + 4) + 2 * (4 + 2)
    with torch.no_grad():
        for p in trained.values():
            p.normal_(generator=torch.Generator().manual_seed(2))
    tuned = net(data).detach()
    assert not torch.allclose(tuned, frozen)
    merged = merge_low_rank(net)
    torch.testing.assert_close(merged(data), tuned)
    assert set(dict(merged.named_parameters())) == {"0.weight", "0.bias", "2.weight", "2.bias"}


def test_attention_of_torch_has_an_adapter_for_queries_keys_and_values():
    net = fresh_network(lambda: nn.MultiheadAttention(4, 2, batch_first=True), 0)
    data = torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(0))
    frozen = net(data, data, data)[0].detach()
    assert add_low_rank(net, 2, seed=0) == 2  # the maps of the input, and that of the output
    torch.testing.assert_close(net(data, data, data)[0], frozen)
