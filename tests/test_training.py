"""The training room: preparation, layers, losses, rates, the loop, and state as arrays."""

import math
import threading

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from torch import nn

from ensemblefuse._threads import one_torch_thread
from ensemblefuse.training._rates import Plateau, cosine, one_cycle, rate_at
from ensemblefuse.training.holdout import member_rows, out_of_fold
from ensemblefuse.training.layers import BatchedAttention, BatchedLinear, BatchedNorm, Draws, Dropout
from ensemblefuse.training.loop import AdamW, Schedule, train
from ensemblefuse.training.losses import TaskBalance, cross_entropy, smooth_targets, squared_error
from ensemblefuse.training.precision import half_pays
from ensemblefuse.training.preparation import fit_block, prepare_block
from ensemblefuse.training.state import arrays_of, fill, live_network


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


# ---------------------------------------------------------------------- threads


def test_torch_has_one_thread_inside_and_as_many_as_before_outside():
    before = torch.get_num_threads()
    with one_torch_thread():
        assert torch.get_num_threads() == 1
        with one_torch_thread():
            assert torch.get_num_threads() == 1
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == before


def test_fits_in_two_threads_that_overlap_leave_the_number_of_threads_as_it_was():
    before, entered, leave, counts = torch.get_num_threads(), threading.Event(), threading.Event(), []

    def fit():
        with one_torch_thread():
            counts.append(torch.get_num_threads())
            entered.set()
            leave.wait(5)
            counts.append(torch.get_num_threads())

    other = threading.Thread(target=fit)
    with one_torch_thread():
        other.start()
        entered.wait(5)
    leave.set()
    other.join()
    assert counts == [1, 1]
    assert torch.get_num_threads() == before


@pytest.fixture
def three_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(3)  # whatever the number of cores
    yield
    torch.set_num_threads(before)


def in_new_thread(call):
    said = []
    thread = threading.Thread(target=lambda: said.append(call()))
    thread.start()
    thread.join()
    return said[0]


@pytest.mark.usefixtures("three_threads")
def test_a_thread_whose_first_call_is_a_fit_beside_another_has_all_threads_afterwards():
    def fit_and_count():
        with one_torch_thread():
            inside = torch.get_num_threads()
        return inside, torch.get_num_threads()

    with one_torch_thread():
        assert in_new_thread(fit_and_count) == (1, 3)
        assert in_new_thread(torch.get_num_threads) == 3
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == 3


@pytest.mark.usefixtures("three_threads")
def test_a_fit_that_begins_while_another_ends_leaves_the_number_of_threads_as_it_was(monkeypatch):
    first_is_in, second_asked, first_is_out = threading.Event(), threading.Event(), threading.Event()
    original = torch.get_num_threads

    def first():
        with one_torch_thread():
            first_is_in.set()
            second_asked.wait(5)
        first_is_out.set()

    def asked_late():
        own = original()
        if threading.current_thread() is second:
            second_asked.set()
            first_is_out.wait(0.1)  # in vain if the first cannot end meanwhile
        return own

    def fit():
        with one_torch_thread():
            pass

    second, other = threading.Thread(target=fit), threading.Thread(target=first)
    monkeypatch.setattr(torch, "get_num_threads", asked_late)
    other.start()
    first_is_in.wait(5)
    second.start()
    second.join()
    other.join()
    assert in_new_thread(original) == 3
    assert original() == 3


@pytest.mark.usefixtures("three_threads")
def test_a_thread_with_a_number_of_its_own_keeps_it_and_the_process_its():
    def fit_and_count():
        torch.get_num_threads()  # the first call of a thread sets it to that of the process
        torch.set_num_threads(2)
        in_new_thread(lambda: torch.set_num_threads(3))
        with one_torch_thread():
            pass
        return torch.get_num_threads()

    assert in_new_thread(fit_and_count) == 2
    assert in_new_thread(torch.get_num_threads) == 3


# ---------------------------------------------------------------------- preparation


def test_a_prepared_block_has_mean_0_and_mean_square_1_and_a_gap_is_0():
    data = np.random.default_rng(0).normal(3.0, [1.0, 5.0, 0.1], size=(50, 3))
    fitted = fit_block(data, np.ones(50))
    prepared = prepare_block(data, fitted)
    assert_allclose(prepared.mean(axis=0), 0, atol=1e-12)
    assert_allclose((prepared**2).mean(), 1)
    assert_array_equal(prepare_block(np.full((1, 3), np.nan), fitted), np.zeros((1, 3)))


def test_a_wide_block_is_rotated_to_the_components_of_99_percent_of_its_variance():
    rng = np.random.default_rng(0)
    data = rng.normal(size=(60, 3)) @ rng.normal(size=(3, 40)) + 0.01 * rng.normal(size=(60, 40))
    for rows in (60, 30):  # more rows than columns, and fewer
        prepared = prepare_block(data[:rows], fit_block(data[:rows], np.ones(rows)))
        assert prepared.shape == (rows, 3)
        products = prepared.T @ prepared
        assert_allclose(products, np.diag(np.diag(products)), atol=1e-8)


@pytest.mark.parametrize("n_columns", [3, 40])
def test_a_row_of_weight_two_is_two_rows_in_the_preparation(n_columns):
    data = np.random.default_rng(0).normal(size=(12, n_columns))
    weighted = fit_block(data, np.r_[2.0, np.ones(11)])
    twice = fit_block(np.vstack([data, data[:1]]), np.ones(13))
    assert_allclose(weighted["mean"], twice["mean"], atol=1e-12)
    assert_allclose(np.abs(weighted["basis"]), np.abs(twice["basis"]), atol=1e-8)


def test_large_numbers_are_no_trouble():
    data = np.random.default_rng(0).normal(size=(20, 2)) * [1e200, 1e-200]
    prepared = prepare_block(data, fit_block(data, np.ones(20)))
    assert_allclose(prepared.std(axis=0), 1)


def test_constant_columns_and_blocks_without_rows_give_zeros():
    data = np.column_stack([np.full(4, 1e6 / 3), [1.0, 2.0, 3.0, 4.0]])
    fitted = fit_block(data, np.ones(4))
    assert_array_equal(fitted["basis"][0], 0)
    assert np.isfinite(fitted["basis"]).all()
    assert_array_equal(prepare_block(np.ones((2, 2)), fit_block(np.empty((0, 2)), np.ones(0))), np.zeros((2, 1)))


def test_a_column_that_is_constant_up_to_the_rounding_of_its_precision_gives_zeros():
    tenth, steps = np.float32(0.1), [-np.inf, 0.0, np.inf]
    rounded = np.array([np.nextafter(tenth, np.float32(to)) if to else tenth for to in steps], dtype=np.float32)
    data = np.column_stack([rounded, np.array([1, 2, 3], dtype=np.float32)])
    assert_array_equal(prepare_block(np.array([[0.2, 2.0]]), fit_block(data, np.ones(3))), [[0.0, 0.0]])
    narrow = 0.1 + 1e-6 * np.arange(3)[:, None]
    assert_array_equal(fit_block(narrow.astype(np.float32), np.ones(3))["basis"], [[0.0]])
    assert_allclose(prepare_block(narrow, fit_block(narrow, np.ones(3))).std(), 1)  # in double precision it says a lot


# ---------------------------------------------------------------------- layers


def test_one_member_is_the_same_network_as_a_sequential():
    ours = nn.Sequential(BatchedLinear(1, 3, 4, generator()), nn.ReLU(), BatchedLinear(1, 4, 2, generator(1)))
    plain = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    for i in (0, 2):
        plain[i].weight.data, plain[i].bias.data = ours[i].weight.data[0].T, ours[i].bias.data[0, 0]
    x = torch.randn(5, 3, generator=generator(2))
    torch.testing.assert_close(ours(x[None])[0], plain(x))


def test_members_do_not_see_one_another():
    layer, x = BatchedLinear(3, 4, 2, generator()), torch.randn(3, 5, 4, generator=generator(1))
    for j in range(3):
        torch.testing.assert_close(layer(x)[j], x[j] @ layer.weight[j] + layer.bias[j])
    assert_allclose(BatchedNorm(3, 4)(x).detach().mean(-1), 0, atol=1e-6)


def test_a_masked_token_is_a_token_left_out():
    attention = BatchedAttention(2, 8, 4, generator())
    tokens = torch.randn(2, 3, 4, 8, generator=generator(1))
    present = torch.ones(2, 3, 4)
    present[..., 3] = 0
    masked, weights = attention(tokens[:, :, :3], tokens, present)
    fewer, _ = attention(tokens[:, :, :3], tokens[:, :, :3], present[..., :3])
    torch.testing.assert_close(masked, fewer)
    assert_allclose(weights.detach().sum(-1), 1, rtol=1e-5)


def test_attention_to_no_token_is_finite():
    attention = BatchedAttention(1, 4, 2, generator())
    out, weights = attention(torch.ones(1, 1, 1, 4), torch.ones(1, 1, 2, 4), torch.zeros(1, 1, 2))
    assert torch.isfinite(out).all()
    assert (weights == 0).all()


def test_dropout_keeps_the_mean_and_draws_from_its_own_generator():
    state, x = torch.get_rng_state(), torch.ones(1, 2000, 5)
    layer = Dropout(0.3, Draws(0))
    dropped = layer(x)
    assert abs(dropped.mean().item() - 1) < 0.03
    assert dropped.unique().tolist() == [0.0, pytest.approx(1 / 0.7)]
    assert layer.eval()(x) is x
    assert Dropout(0.0, Draws(0))(x) is x
    assert torch.equal(torch.get_rng_state(), state)


# ---------------------------------------------------------------------- losses and rates


def test_cross_entropy_takes_soft_targets_and_smoothing_has_a_floor():
    sure = torch.full((1, 10), -50.0)
    sure[0, 0] = 50.0
    hard = torch.eye(10)[:1]
    assert cross_entropy(sure, hard).item() == pytest.approx(0, abs=1e-6)
    soft = smooth_targets(hard, 0.1)
    assert cross_entropy(soft.log(), soft).item() == pytest.approx(0.500288, abs=1e-6)
    assert smooth_targets(hard, 0.0) is hard
    assert squared_error(torch.tensor(3.0), torch.tensor(1.0)).item() == 2.0


def test_the_weights_of_tasks_are_those_of_their_uncertainty():
    """With the class loss .25 and the squared error 4, s = (log .5, log 4): weights exp(-s) and exp(-s) / 2."""
    half_squared_error = 4.0 / 2
    weights = TaskBalance().weights(torch.tensor([[0.25, half_squared_error]]))[0]
    s = [math.log(2 * 0.25), math.log(4.0)]
    assert s == pytest.approx([-0.693147, 1.386294], abs=1e-6)
    assert weights[0].item() == pytest.approx(math.exp(-s[0]))
    assert weights[1].item() == pytest.approx(math.exp(-s[1]))  # of half the squared error
    values = [math.exp(-s[0]) * 0.25 + s[0] / 2, math.exp(-s[1]) * 2 + s[1] / 2]
    assert values == pytest.approx([0.153426, 1.193147], abs=1e-6)


def test_the_weight_of_an_easy_task_is_bounded_and_unknown_losses_change_nothing():
    balance = TaskBalance()
    first = balance.weights(torch.tensor([[1.0, 1.0]]))
    assert first.tolist() == [[0.5, 0.5]]
    for _ in range(200):
        weights = balance.weights(torch.tensor([[1e-9, float("nan")]]))
    assert weights.tolist() == [[pytest.approx(10.0), 0.5]]


def test_rates_rise_and_fall():
    assert cosine(50, 100) == pytest.approx(0.5)
    for shape in ("cosine", "one_cycle", "plateau", "constant"):
        rates = [rate_at(shape, step, 100) for step in range(100)]
        assert 0 < rates[0] < 0.2
        assert max(rates) <= 1
    assert one_cycle(30, 100) == 1.0
    assert rate_at("cosine", 99, 100) < 0.01
    assert rate_at("constant", 99, 100) == 1.0
    plateau, still = Plateau("plateau", wait=2), Plateau("cosine", wait=2)
    for loss in (1.0, 1.0, 1.0, 1.0, 0.5):
        plateau.see(loss)
        still.see(loss)
    assert (plateau.factor, still.factor) == (0.5, 1.0)


# ---------------------------------------------------------------------- the loop


class Line(nn.Module):
    """k linear models of rows that stand in the module."""

    def __init__(self, k=2, n=24, seed=0):
        super().__init__()
        self.linear = BatchedLinear(k, 3, 1, generator(seed))
        x = torch.randn(n, 3, generator=generator(seed + 1))
        self.x, self.y = x, x @ torch.tensor([[1.0], [-2.0], [0.5]])

    def losses(self, index):
        return squared_error(self.linear(self.x[index]), self.y[index])[..., 0]


PLAN = Schedule(max_epochs=30, batch_size=8, learning_rate=0.1, weight_decay=0.0)


def test_adamw_takes_the_steps_of_its_formula():
    """Loshchilov and Hutter, ICLR 2019, with decay of the weights alone. torch's own takes two seconds to load."""
    net = Line(k=1)
    optimiser, index = AdamW(net, 1, weight_decay=0.1), torch.arange(24)[None]
    value = np.r_[net.linear.weight.detach().numpy().ravel(), 0.0].astype(float)
    x, y = np.c_[net.x.numpy(), np.ones(24)].astype(float), net.y.numpy().ravel()
    decay, mean, square = np.array([0.1, 0.1, 0.1, 0.0]), np.zeros(4), np.zeros(4)
    for t in range(1, 5):
        gradient = x.T @ (x @ value - y) / 24
        mean, square = 0.9 * mean + 0.1 * gradient, 0.999 * square + 0.001 * gradient**2
        step = (mean / (1 - 0.9**t)) / (np.sqrt(square / (1 - 0.999**t)) + 1e-8)
        value = value - 0.05 * decay * value - 0.05 * step
        net.losses(index).mean().backward()
        optimiser.step(0.05, clip=math.inf)
    assert_allclose(net.linear.weight.detach().numpy().ravel(), value[:3], rtol=1e-4)
    assert_allclose(net.linear.bias.item(), value[3], rtol=1e-4)


def test_gradients_are_clipped_for_each_member_alone():
    net = Line(k=2)
    optimiser = AdamW(net, 2, 0.0)
    net.linear.weight.grad = torch.tensor([100.0, 0.01]).reshape(2, 1, 1).expand(2, 3, 1)
    optimiser.step(0.1, clip=1.0)
    assert_allclose(optimiser._mean[0].norm().item(), 0.1, rtol=1e-5)
    assert_allclose(optimiser._mean[1].numpy(), [0.001] * 3 + [0.0], rtol=1e-5)


def test_the_loop_learns_and_tells_what_happened():
    net = Line()
    record = train(net, net.losses, [np.arange(24)] * 2, PLAN, seed=0)
    assert record.history["train_loss"].shape == (30, 2)
    assert (record.history["train_loss"][-1] < 0.02 * record.history["train_loss"][0]).all()
    assert record.best_epochs.tolist() == [30, 30]
    assert (np.diff(record.history["seconds"]) >= 0).all()
    assert "held_loss" not in record.history


def test_each_member_is_kept_at_its_best_epoch():
    net, seen, losses = Line(), [], iter([[1.0, 5.0], [0.5, 4.0], [0.7, 3.0], *[[1.0, 9.0]] * 30])

    def held_loss():
        seen.append(net.linear.weight.detach().clone())
        return torch.tensor(next(losses))

    record = train(net, net.losses, [np.arange(24)] * 2, PLAN, seed=0, held_loss=held_loss)
    assert record.best_epochs.tolist() == [2, 3]
    assert len(seen) == 13  # ten epochs after the last that was better for any member
    torch.testing.assert_close(net.linear.weight[0], seen[1][0])
    torch.testing.assert_close(net.linear.weight[1], seen[2][1])


def test_a_member_whose_held_out_loss_is_unknown_keeps_its_last_epoch():
    net = Line()
    record = train(
        net, net.losses, [np.arange(24)] * 2, PLAN, seed=0, held_loss=lambda: torch.tensor([math.nan, math.nan])
    )
    assert record.best_epochs.tolist() == [10, 10]
    assert torch.isfinite(net.linear.weight).all()


def test_the_first_epoch_is_finished_whatever_the_time_limit():
    net = Line()
    plan = Schedule(max_epochs=30, batch_size=8, learning_rate=0.1, weight_decay=0.0, time_limit=1e-9)
    assert train(net, net.losses, [np.arange(24)] * 2, plan, seed=0).best_epochs.tolist() == [1, 1]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_the_loop_on_a_card_takes_the_steps_of_the_processor():
    on_cpu, on_card = Line(), Line()
    train(on_cpu, on_cpu.losses, [np.arange(24)] * 2, PLAN, seed=0)
    on_card.cuda()
    on_card.x, on_card.y = on_card.x.cuda(), on_card.y.cuda()
    train(on_card, lambda index: on_card.losses(index.cuda()), [np.arange(24)] * 2, PLAN, seed=0)
    assert_allclose(arrays_of(on_card)["linear.weight"], arrays_of(on_cpu)["linear.weight"], atol=1e-3)


def test_half_precision_is_for_wide_layers_on_a_card_that_has_it(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: True)
    assert half_pays("cuda:0", 512)
    assert not half_pays("cuda", 64)
    assert not half_pays("cpu", 512)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: including_emulation)
    assert not half_pays("cuda", 512)  # such a card would only imitate it


# ---------------------------------------------------------------------- folds and state


def test_members_hold_out_folds_in_turn_and_predict_what_they_held_out():
    splits = [(np.array([2, 3]), np.array([0, 1])), (np.array([0, 1]), np.array([2]))]
    learned, held = member_rows(splits, 3, 4)
    assert [rows.tolist() for rows in held] == [[0, 1], [2], [0, 1]]
    assert [rows.tolist() for rows in learned] == [[2, 3], [0, 1], [2, 3]]
    outputs = np.arange(3.0)[:, None, None] * np.ones((3, 4, 1))
    assert_array_equal(out_of_fold(outputs, held)[:, 0], [1.0, 1.0, 1.0, np.nan])
    assert member_rows(None, 2, 3)[1] is None


def test_state_is_arrays_and_the_live_network_is_made_once_a_state():
    class Owner:
        pass

    net, owner, built = BatchedLinear(2, 3, 1, generator()), Owner(), []

    def build():
        built.append(1)
        return BatchedLinear(2, 3, 1, generator(5))

    state = arrays_of(net)
    assert {name: values.dtype for name, values in state.items()} == {"weight": np.float32, "bias": np.float32}
    live = live_network(owner, state, build)
    assert live is live_network(owner, state, build)
    assert len(built) == 1
    assert live.weight.dtype == torch.float64
    assert_array_equal(live.weight.numpy(), state["weight"])
    assert live_network(owner, dict(state), build) is not live
    with pytest.raises(RuntimeError, match="size mismatch"):
        fill(BatchedLinear(2, 4, 1, generator()), state)
