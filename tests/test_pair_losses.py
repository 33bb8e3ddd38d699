"""Losses of pairs and views, against values worked out by hand."""

import math

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose

from ensemblefuse.training.pair_losses import (
    contrastive,
    correlation,
    gaussian_kl,
    info_nce,
    product_of_experts,
    reverse_gradient,
    triplet,
)


def test_info_nce_of_equal_similarities_is_the_log_of_the_rows():
    assert info_nce(torch.zeros(7, 7)).item() == pytest.approx(math.log(7), abs=1e-6)
    sure = torch.tensor([[1.0, -1.0], [-1.0, 1.0]])
    assert info_nce(sure).item() == pytest.approx(0.126928, abs=1e-6)
    assert info_nce(sure / 0.5).item() == pytest.approx(0.018150, abs=1e-6)


def test_partners_besides_the_diagonal_are_not_pushed_apart():
    """Rows 0 and 1 are the same picture: similarities that say so are best, and both sides count."""
    same = torch.tensor([[1, 1, 0], [1, 1, 0], [0, 0, 1]], dtype=torch.bool)
    right, wrong = 50.0 * same, 50.0 * torch.eye(3)
    assert info_nce(right, same).item() == pytest.approx(2 / 3 * math.log(2), abs=1e-6)
    assert info_nce(wrong, same) > info_nce(right, same)
    assert info_nce(wrong) < info_nce(right)
    lopsided = torch.tensor([[1.0, 2.0], [0.0, 1.0]])
    rows = -lopsided.log_softmax(1).diagonal().mean()
    columns = -lopsided.log_softmax(0).diagonal().mean()
    assert info_nce(lopsided).item() == pytest.approx(((rows + columns) / 2).item())


def test_distances_within_the_margin_cost():
    half = torch.tensor(0.5)
    assert contrastive(half, torch.tensor(0)).item() == pytest.approx(0.25)
    assert contrastive(half, torch.tensor(1)).item() == pytest.approx(0.25)
    assert contrastive(torch.tensor(1.5), torch.tensor(0)).item() == 0
    assert triplet(torch.tensor(0.2), half, margin=0.4).item() == pytest.approx(0.1)
    assert triplet(torch.tensor(0.2), half, margin=0.2).item() == 0


def test_correlation_is_that_of_cca_and_blind_to_invertible_maps():
    from sklearn.cross_decomposition import CCA

    draw = torch.Generator().manual_seed(0)
    shared = torch.randn(300, 2, generator=draw, dtype=torch.double)
    noise = lambda width: torch.randn(300, width, generator=draw, dtype=torch.double)
    a, b = torch.cat([shared + 0.5 * noise(2), noise(1)], 1), torch.cat([noise(1), shared + noise(2)], 1)
    fitted = CCA(3, max_iter=5000, tol=1e-12).fit(a.numpy(), b.numpy())
    u, v = fitted.transform(a.numpy(), b.numpy())
    expected = sum(np.corrcoef(u[:, i], v[:, i])[0, 1] for i in range(3))
    assert correlation(a, b).item() == pytest.approx(expected, abs=1e-4)
    turned = a @ torch.randn(3, 3, generator=draw, dtype=torch.double)
    assert correlation(turned, b).item() == pytest.approx(correlation(a, b).item(), abs=1e-8)
    assert correlation(a, b, ridge=0.5) < correlation(a, b)


def test_a_product_of_experts_with_the_prior():
    means, variances = torch.tensor([1.0, 3.0]).reshape(2, 1, 1), torch.ones(2, 1, 1)
    mean, variance = product_of_experts(means, variances, torch.ones(2, 1))
    assert (mean.item(), variance.item()) == (pytest.approx(4 / 3), pytest.approx(1 / 3))
    mean, variance = product_of_experts(means, variances, torch.tensor([[0.0], [1.0]]))
    assert (mean.item(), variance.item()) == (1.5, 0.5)
    nobody = product_of_experts(means, variances, torch.zeros(2, 1))
    assert [value.item() for value in nobody] == [0.0, 1.0]


def test_the_bound_of_a_linear_gaussian_model_is_exact_with_the_right_prior():
    """x = z + e, y = z + e': log p(y | x) is E log p(y | z) - KL(q(z | x, y) || p(z | x)) for every row."""
    x, y = torch.randn(2, 50, 1, generator=torch.Generator().manual_seed(0), dtype=torch.double)
    mean, variance = (x + y) / 3, torch.full_like(x, 1 / 3)
    fit = -0.5 * (math.log(2 * math.pi) + (y - mean) ** 2 + variance)[:, 0]
    bound = fit - gaussian_kl(mean, variance, x / 2, 0.5)
    exact = -0.5 * (math.log(2 * math.pi * 1.5) + (y - x / 2) ** 2 / 1.5)[:, 0]
    assert_allclose(bound, exact, atol=1e-12)
    assert (fit - gaussian_kl(mean, variance)).mean() < bound.mean() - 0.1


def test_a_reversed_gradient():
    x = torch.tensor(2.0, requires_grad=True)
    said = 3 * reverse_gradient(x, 0.5)
    said.backward()
    assert (said.item(), x.grad.item()) == (6.0, -1.5)
