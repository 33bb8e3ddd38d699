"""Autoencoders of blocks: bounds with known values, generated blocks, missing blocks, and their place in the house."""

import math
import pickle
import threading

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import make_blocks
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.decomposition import FactorAnalysis

from ensemblefuse import CrossModalImputer, CrossModalVAE, MissingModalityWarning, load_model, save_model
from ensemblefuse.features import _vae_fit
from ensemblefuse.features._vae_nets import build_autoencoder

KINDS = ["poe", "mixture", "conditional"]
SMALL = {"n_latent": 2, "hidden": 4, "max_epochs": 3}
by_kind = pytest.mark.parametrize("kind", KINDS)


def net_of(kind, widths, n_latent, **values):
    """A linear network in double precision, with weights given by the names of its state and 0 for the others."""
    plan = {"kind": kind, "n_members": 1, "widths": widths, "n_latent": n_latent, "hidden": 0}
    net = build_autoencoder(plan).double()
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            given = values.get(name.replace(".", "_"), 0.0)
            parameter.copy_(torch.as_tensor(given, dtype=torch.double).expand_as(parameter))
    return net


def corners(n_latent):
    """Draws of mean 0 and covariance 1, over which the mean of a quadratic is exact."""
    axes = math.sqrt(n_latent) * torch.eye(n_latent, dtype=torch.double)
    return torch.cat([axes, -axes])[None, None]


def two_views(n=300, seed=0, noise=0.3):
    """Two blocks of one hidden number, and a third of its square."""
    rng = np.random.default_rng(seed)
    z = rng.normal(size=n)
    draw = lambda: noise * rng.normal(size=n)
    return pd.DataFrame(
        {"image__0": z + draw(), "image__1": -z + draw(), "text__0": 2 * z + draw(), "audio__0": z**2 + draw()}
    )


def without(X, *blocks, rows=slice(None)):
    X = X.copy()
    X.loc[X.index[rows], [c for c in X if c.split("__")[0] in blocks]] = np.nan
    return X


# ---------------------------------------------------------------------- bounds with known values


def test_the_bound_of_a_linear_network_is_the_likelihood_of_probabilistic_pca_at_its_optimum():
    """Lucas et al., 2019: W = V (L - s2)^1/2, s2 the mean of the discarded eigenvalues, q exact. No gradient."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(200, 2)) @ rng.normal(size=(2, 6)) + 0.5 * rng.normal(size=(200, 6))
    X -= X.mean(axis=0)
    values, vectors = np.linalg.eigh(X.T @ X / len(X))
    values, vectors = values[::-1], vectors[:, ::-1]
    rest = values[2:].mean()
    W = vectors[:, :2] * np.sqrt(values[:2] - rest)
    assert_allclose(W.T @ W, np.diag(values[:2] - rest), atol=1e-12)
    # What one expert must say, so that its product with N(0, 1) is the posterior N(M^-1 W' x, s2 M^-1).
    M = values[:2]
    ratio = 1 / (1 - rest / M)
    net = net_of(
        "poe",
        [6],
        2,
        experts_0_linear_weight=W / M * ratio,
        experts_0_log_variance=np.log(rest / M * ratio),
        decoders_0_linear_weight=W.T,
        decoders_0_log_variance=np.log(rest),
    )
    rows = torch.from_numpy(X)[None]
    bound = net.bound([rows], torch.ones(1, 200, 1, dtype=torch.double), corners(2)).mean()
    exact = -0.5 * (6 * np.log(2 * np.pi) + np.log(values[:2]).sum() + 4 * np.log(rest) + 6)
    assert bound.item() == pytest.approx(exact, abs=1e-10)
    bound.backward()
    for name, parameter in net.named_parameters():
        gradient = parameter.grad.sum() if name.endswith("decoders.0.log_variance") else parameter.grad
        assert_allclose(gradient, 0, atol=1e-10, err_msg=name)


def test_training_a_linear_network_reaches_the_likelihood_of_factor_analysis():
    """With a variance for each column, its optimum is that of factor analysis."""
    X = two_views().drop(columns="audio__0").to_numpy()
    X = (X - X.mean(axis=0)) / X.std(axis=0)
    best = FactorAnalysis(1, tol=1e-8, max_iter=5000).fit(X).score(X)
    table = pd.DataFrame(X, columns=["image__0", "image__1", "text__0"])
    model = CrossModalVAE(n_latent=1, hidden=0, max_epochs=30, learning_rate=0.02, early_stopping=False).fit(table)
    assert best - 0.03 < model.log_likelihood(table).mean() < best + 1e-3


def test_experts_are_multiplied_with_the_prior():
    net = net_of("poe", [1, 1], 1, experts_0_linear_weight=1.0, experts_1_linear_weight=1.0)
    blocks = [torch.tensor([[[1.0]]]).double(), torch.tensor([[[3.0]]]).double()]
    ask = lambda *mask: [part.item() for part in net.components(net.experts_of(blocks), torch.tensor([[mask]]))[:2]]
    assert ask(1.0, 1.0) == [pytest.approx(4 / 3), pytest.approx(1 / 3)]
    assert ask(0.0, 1.0) == [1.5, 0.5]
    assert ask(0.0, 0.0) == [0.0, 1.0]


def test_the_conditional_bound_is_exact_with_the_prior_that_the_given_block_teaches():
    """x = z + e, y = z + e'. Rows of the right covariance, so that the mean over them is that over all rows."""
    root = np.linalg.cholesky([[2.0, 1.0], [1.0, 2.0]]) * np.sqrt(2)
    x, y = torch.from_numpy(np.vstack([root.T, -root.T])).T[:, None, :, None]
    right = {f"{part}_{m}_linear_weight": 1.0 for part in ("experts", "decoders") for m in (0, 1)}
    net, given, target = net_of("conditional", [1, 1], 1, **right), torch.zeros(1, 4, 2), torch.zeros(1, 4, 2)
    given[..., 0] = target[..., 1] = 1
    bound = net.bound([x, y], target.double(), corners(1), given=given.double())
    exact = -0.5 * (math.log(2 * math.pi * 1.5) + (y - x / 2) ** 2 / 1.5)[..., 0]
    assert_allclose(bound.detach(), exact, atol=1e-12)
    assert bound.mean().item() == pytest.approx(-1.621671, abs=1e-6)
    net.kind = "poe"  # N(0, 1) in place of the prior given x
    wrong = net.bound([x, y], target.double(), corners(1), given=given.double())
    assert wrong.mean().item() == pytest.approx(-1.968, abs=5e-4)


def test_the_weighted_bound_rises_to_the_likelihood():
    """An encoder that knows nothing: more draws make up for it, and the likelihood is known."""
    net = net_of("poe", [1], 1, decoders_0_linear_weight=1.0, experts_0_log_variance=9.0)
    x = torch.tensor([[[1.5], [-0.5]]]).double()
    one, none = torch.ones(1, 2, 1).double(), torch.zeros(1, 2, 1).double()
    draws = torch.randn(1, 1, 20_000, 1, generator=torch.Generator().manual_seed(0), dtype=torch.double)
    exact = -0.5 * (math.log(2 * math.pi * 2) + x**2 / 2)[..., 0]
    assert_allclose(net.weighted_bound([x], one, draws, none).detach(), exact, atol=0.02)
    few = net.bound([x], one, draws).detach()
    assert (few < exact - 0.1).all()
    mixed = net_of("mixture", [1, 1], 1, **{f"{p}_{m}_linear_weight": 1.0 for p in ("decoders",) for m in (0, 1)})
    both = torch.ones(1, 2, 2).double()
    covariance = np.eye(2) + 1
    for row in range(2):
        pair = x[0, row].numpy().repeat(2)
        exact = -0.5 * (np.log(np.linalg.det(2 * np.pi * covariance)) + pair @ np.linalg.solve(covariance, pair))
        assert mixed.weighted_bound([x, x], both, draws, both * 0)[0, row].item() == pytest.approx(exact, abs=0.03)


# ---------------------------------------------------------------------- generated blocks


@by_kind
def test_a_block_is_generated_from_the_others(kind):
    X = two_views()
    model = CrossModalVAE(kind, n_latent=2, hidden=8, max_epochs=15).fit(X[:200])
    hidden = without(X[200:], "text")
    made = model.reconstruct(hidden, "text")
    assert np.corrcoef(made[:, 0], X["text__0"][200:])[0, 1] > 0.95
    assert_allclose(made, model.reconstruct(X[200:], "text"))  # whether the row holds it or not
    alone = model.reconstruct(without(X[200:], "text", "audio"), "text")
    assert np.corrcoef(alone[:, 0], X["text__0"][200:])[0, 1] > 0.9
    nothing = model.reconstruct(without(X[200:202], "text", "audio", "image"), "text")
    assert_array_equal(nothing[0], nothing[1])
    assert abs(nothing[0, 0] - X["text__0"].mean()) < 0.5


def test_a_hidden_layer_generates_what_no_line_does():
    X = two_views(noise=0.1)
    error = lambda model: np.square(model.fit(X[:200]).reconstruct(X[200:], "audio")[:, 0] - X["audio__0"][200:]).mean()
    options = {"n_latent": 2, "max_epochs": 40, "learning_rate": 0.02, "early_stopping": False}
    curved, straight = (CrossModalVAE("conditional", hidden=hidden, **options) for hidden in (16, 0))
    assert error(curved) < 0.5 * error(straight)


@by_kind
def test_rows_whose_blocks_do_not_fit_together_are_improbable(kind):
    X = two_views()
    model = CrossModalVAE(kind, **{**SMALL, "max_epochs": 8}).fit(X)
    wrong = X.copy()
    wrong[["image__0", "image__1"]] = X[["image__0", "image__1"]].to_numpy()[::-1]
    right, wrong = model.log_likelihood(X), model.log_likelihood(wrong)
    assert right.mean() > wrong.mean() + 0.5
    part = model.log_likelihood(without(X, "image", "text"))
    assert np.isfinite(part).all()


def test_wide_blocks_come_back_through_their_components():
    rng = np.random.default_rng(0)
    shared = rng.normal(size=(80, 2))
    wide = 5 + shared @ rng.normal(size=(2, 40)) * np.logspace(-2, 2, 40)
    X = pd.DataFrame(np.hstack([wide, shared]), columns=[f"image__{i}" for i in range(40)] + ["text__0", "text__1"])
    model = CrossModalVAE(n_latent=2, hidden=0, max_epochs=5).fit(X)
    gaps = (model.reconstruct(X, "image") - wide) / wide.std(axis=0)
    assert np.sqrt(np.square(gaps).mean()) < 0.3


# ---------------------------------------------------------------------- missing blocks, weights, groups


@by_kind
def test_rows_that_lack_blocks_take_part_and_are_answered(kind):
    X = without(without(two_views(60), "text", rows=slice(0, 20)), "image", "audio", rows=slice(20, 25))
    X.iloc[17] = np.nan
    model = CrossModalVAE(kind, **SMALL).fit(X)
    Z = model.transform(X)
    assert np.flatnonzero(np.isnan(Z).any(axis=1)).tolist() == [17] and np.isnan(Z[17]).all()
    assert np.flatnonzero(np.isnan(model.log_likelihood(X))).tolist() == [17]
    assert np.isfinite(model.reconstruct(X, "image")).all()
    other = CrossModalVAE(kind, **SMALL).fit(X.iloc[25:])  # the rows with gaps taught something
    assert (other.transform(X)[30] != Z[30]).any()
    assert model.transform(X.iloc[:0]).shape == (0, 2)
    assert model.reconstruct(X.iloc[:0], "image").shape == (0, 2)


def test_a_block_that_no_row_of_fit_holds_is_left_out_with_a_warning():
    X = two_views(40)
    with pytest.warns(MissingModalityWarning, match=r"no row in fit holds the blocks \['audio'\]"):
        model = CrossModalVAE(**SMALL).fit(without(X, "audio"))
    assert model.known_blocks_ == ["image", "text"]
    assert_array_equal(model.transform(X), model.transform(without(X, "audio")))
    with pytest.raises(ValueError, match=r"block 'audio' is not known from fit; the blocks are \['image', 'text'\]"):
        model.reconstruct(X, "audio")
    with pytest.raises(ValueError, match=r"none of the 40 rows .*nothing to fit"):
        CrossModalVAE().fit(without(X, "image", "text", "audio", rows=slice(1, None)), sample_weight=np.arange(40.0))


@by_kind
def test_a_weight_of_two_is_two_rows_and_of_zero_none(kind):
    """In the preparation; a ridge penalty is chosen by leave-one-out errors, and draws differ with the rows."""
    X = two_views(30)
    options = {"hidden": 0, "n_latent": 2, "max_epochs": 1, "learning_rate": 1e-9, "early_stopping": False}
    model = CrossModalVAE(kind, batch_size=100, **options)
    twice = clone(model).fit(pd.concat([X, X[:10]], ignore_index=True))
    weighted = clone(model).fit(X, sample_weight=np.r_[np.full(10, 2.0), np.ones(20)])
    for name in ("mean", "basis"):
        assert_allclose(weighted.preparation_["text"][name], twice.preparation_["text"][name])
    left_out = clone(model).fit(X, sample_weight=np.r_[np.zeros(10), np.ones(20)])
    alone = clone(model).fit(X[10:])
    assert all((left_out.state_[name] == alone.state_[name]).all() for name in alone.state_)


def test_no_group_is_on_both_sides_of_early_stopping(monkeypatch):
    seen = []
    fit = _vae_fit.fit_autoencoder
    monkeypatch.setattr(_vae_fit, "fit_autoencoder", lambda *args, **kw: seen.append(args[4]) or fit(*args, **kw))
    X, groups = two_views(40), np.arange(40) // 4
    CrossModalVAE(**SMALL).fit(X, groups=groups)
    assert len(seen[0]) == 5
    assert all(not set(groups[train]) & set(groups[test]) for train, test in seen[0])
    assert sorted(np.concatenate([test for _, test in seen[0]])) == list(range(40))


def test_the_linear_start_is_kept_if_no_epoch_is_better():
    X = two_views(40)
    model = CrossModalVAE(n_latent=1, hidden=8, max_epochs=3, learning_rate=5.0).fit(X)
    start = CrossModalVAE(n_latent=1, hidden=0, max_epochs=1, learning_rate=1e-12, early_stopping=False).fit(X)
    assert model.best_epoch_ == 0
    assert_allclose(model.transform(X), start.transform(X), atol=1e-6)


# ---------------------------------------------------------------------- in the house


@by_kind
def test_it_is_saved_and_loaded_with_equal_answers_and_holds_no_module(kind, tmp_path):
    X = without(two_views(40), "text", rows=slice(0, 9))
    model = CrossModalVAE(kind, **SMALL).fit(X)
    expected = model.transform(X), model.reconstruct(X, "text"), model.log_likelihood(X)
    data = pickle.dumps(model)
    assert b"torch" not in data
    save_model(model, tmp_path / "vae.fuse")
    for copy in (pickle.loads(data), load_model(tmp_path / "vae.fuse")):
        for now, then in zip(
            (copy.transform(X), copy.reconstruct(X, "text"), copy.log_likelihood(X)), expected, strict=True
        ):
            assert_array_equal(now, then)
    assert list(model.get_feature_names_out()) == ["latent__0", "latent__1"]


def test_a_seed_gives_the_same_arrays_and_leaves_the_users_generators_and_threads_alone():
    X = two_views(40)
    torch.manual_seed(1)
    np.random.seed(1)  # noqa: NPY002
    before = torch.get_rng_state(), np.random.get_state()[1].copy(), torch.get_num_threads()  # noqa: NPY002
    states = [CrossModalVAE(random_state=3, **SMALL).fit(X).state_ for _ in range(2)]
    found = []
    thread = threading.Thread(target=lambda: found.append(CrossModalVAE(random_state=3, **SMALL).fit(X).state_))
    thread.start()
    thread.join()
    assert all((states[0][name] == other[name]).all() for other in [states[1], *found] for name in states[0])
    other = CrossModalVAE(random_state=4, **SMALL).fit(X).state_
    assert any((states[0][name] != other[name]).any() for name in other)
    assert torch.equal(before[0], torch.get_rng_state())
    assert_array_equal(before[1], np.random.get_state()[1])  # noqa: NPY002
    assert before[2] == torch.get_num_threads()


def test_an_interrupt_leaves_it_as_it_was(monkeypatch):
    X = two_views(40)
    model = CrossModalVAE(**SMALL).fit(X)
    expected = model.transform(X)

    def interrupted(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(_vae_fit._Task, "losses", interrupted)
    with pytest.raises(KeyboardInterrupt):
        model.set_params(n_latent=1).fit(X)
    assert_array_equal(model.transform(X), expected)


def test_a_time_limit_finishes_the_first_epoch():
    model = CrossModalVAE(n_latent=1, hidden=4, max_epochs=10_000, time_limit=1e-6).fit(two_views(40))
    assert len(model.history_["seconds"]) == 1


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@by_kind
def test_a_card_trains_one_that_is_as_good(kind):
    X = two_views()
    fit = lambda device: CrossModalVAE(kind, n_latent=2, hidden=8, max_epochs=15, device=device).fit(X)
    assert fit("cuda").log_likelihood(X).mean() == pytest.approx(fit("cpu").log_likelihood(X).mean(), abs=0.3)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"kind": "gan"}, r"kind must be one of .*'poe'.*got 'gan'"),
        ({"n_latent": 0}, "n_latent must be a whole number of at least 1; got 0"),
        ({"hidden": -1}, "hidden must be a whole number of at least 0; got -1"),
        ({"max_epochs": True}, "max_epochs must be a whole number"),
        ({"learning_rate": 0}, "learning_rate must be a number above 0; got 0"),
        ({"time_limit": "1"}, "time_limit must be a number above 0"),
        ({"early_stopping": "auto"}, "early_stopping must be True or False"),
        ({"learning_rate": 1e36, "early_stopping": False}, "no finite numbers .* with learning_rate=1e[+]36"),
        ({"device": "abacus"}, "device 'abacus' cannot be used here"),
    ],
)
def test_a_wrong_parameter_is_named(wrong, message):
    with pytest.raises(ValueError, match=message):
        CrossModalVAE(**{"max_epochs": 2, **wrong}).fit(two_views(20))


def test_the_imputer_fills_what_the_autoencoder_generates():
    X = two_views(60)
    holes = without(X, "text", rows=slice(0, 15))
    imputer = CrossModalImputer("vae", random_state=0).fit(holes)
    filled = imputer.transform(holes)
    there = holes.notna().to_numpy()
    assert_array_equal(filled[there], holes.to_numpy()[there])
    assert np.corrcoef(filled[:15, 2], X["text__0"][:15])[0, 1] > 0.9
    assert_allclose(filled[:15, 2], imputer.vae_.reconstruct(holes.to_numpy(), "text")[:15, 0])
    with pytest.warns(MissingModalityWarning, match="no row in fit holds the blocks"):
        unknown = CrossModalImputer("vae").fit(without(X, "audio"))
    assert_array_equal(unknown.transform(without(X, "audio"))[:, 3], 0)


def test_it_reads_blocks_of_one_precision_and_keeps_it():
    X, _ = make_blocks(40)
    model = CrossModalVAE(**SMALL).fit(X.astype(np.float32))
    assert model.transform(X.astype(np.float32)).dtype == np.float32
    assert model.reconstruct(X.astype(np.float32), "text").dtype == np.float32
