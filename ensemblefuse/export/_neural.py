"""Neural fusions as parts of an ONNX graph: products of matrices, one network after another."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ensemblefuse.export._graph import Graph, Value, where
from ensemblefuse.export._heads import UnsupportedError

__all__ = ["neural"]

State = Mapping[str, np.ndarray]


def _network_outputs(g: Graph, fusion: Any, data: Mapping[str, Value], present: Mapping[str, Value]) -> Value:
    """Return the mean outputs of a fitted neural fusion, of shape (n, n_outputs): of log-probabilities or numbers.

    Parameters
    ----------
    g : Graph
    fusion : NeuralFusionClassifier or NeuralFusionRegressor
    data : dict of str to Value of shape (n, width)
    present : dict of str to Value of shape (n, 1), dtype bool
    """
    write = _KINDS.get(fusion.plan_["fusion"])
    if write is None:
        raise UnsupportedError(fusion, f"there is no formula for fusion={fusion.plan_['fusion']!r}")
    blocks = []
    for name in fusion.plan_["blocks"]:
        mean, basis = fusion._preparation_of(name)
        blocks.append(where(present[name], (data[name] - mean[None]) @ basis, 0.0))
    masks = [present[name].number() for name in fusion.plan_["blocks"]]
    total = None
    for member in range(fusion.plan_["n_members"]):
        state = {name: values[member].astype(np.float64) for name, values in fusion.state_.items()}
        net = _Net(g, state, fusion.plan_)
        outputs = net.linear("head", write(net, blocks, masks))
        if fusion._classify:
            outputs = outputs.op("LogSoftmax", axis=-1)
        total = outputs if total is None else total + outputs
    assert total is not None
    return total / float(fusion.plan_["n_members"])


class _Net:
    """One member: its weights, and the layers that they make."""

    def __init__(self, g: Graph, state: State, plan: Mapping[str, Any]):
        self.g, self.state, self.plan = g, state, plan

    def linear(self, name: str, x: Value) -> Value:
        return x @ self.state[f"{name}.weight"] + self.state[f"{name}.bias"]

    def norm(self, name: str, x: Value) -> Value:
        width = float(self.plan["hidden"])
        centred = x - x.sum() / width
        variance = (centred * centred).sum() / width
        scaled = centred / (variance + 1e-5).op("Sqrt")
        return scaled * self.state[f"{name}.gain"] + self.state[f"{name}.bias"]

    def trunks(self, blocks: list[Value], masks: list[Value], kind: str = "Relu", n_layers: int = 0) -> list[Value]:
        hidden = []
        for m, x in enumerate(blocks):
            for layer in range(n_layers or self.plan["n_layers"]):
                x = self.linear(f"fusion.trunks.stacks.{m}.{layer}", x).op(kind)
            hidden.append(x * masks[m])
        return hidden

    def mix(self, parts: list[Value]) -> Value:
        return self.linear("fusion.mix", self.g.concat(parts)).op("Relu")

    def block(self, name: str, token: Value, asked: list[Value], there: list[Value]) -> Value:
        """Return one token after one layer of attention to others."""
        token = token + self.attention(f"{name}.attention", self.norm(f"{name}.before", token), asked, there)
        wide = self.linear(f"{name}.wide", self.norm(f"{name}.between", token))
        gelu = wide * (((wide + wide * wide * wide * 0.044715) * float(np.sqrt(2 / np.pi))).op("Tanh") + 1.0) * 0.5
        return token + self.linear(f"{name}.narrow", gelu)

    def attention(self, name: str, token: Value, asked: list[Value], there: list[Value]) -> Value:
        """Return what a token learns from others; `there` has the shape (n, 1) for each, dtype bool."""
        n_heads, hidden = self.plan["n_heads"], self.plan["hidden"]
        of_head = np.kron(np.eye(n_heads), np.ones((hidden // n_heads, 1)))
        query = self.linear(f"{name}.query", token)
        scores = [
            where(
                some, ((query * self.linear(f"{name}.key", other)) @ of_head) / float(np.sqrt(hidden // n_heads)), -1e30
            )
            for other, some in zip(asked, there, strict=True)
        ]
        top = scores[0].op("Max", *scores[1:]) if len(scores) > 1 else scores[0]
        shares = [(score - top).exp() * some.number() for score, some in zip(scores, there, strict=True)]
        total = _sum(shares).at_least(1e-300)
        answers = [
            ((share / total) @ of_head.T) * self.linear(f"{name}.value", other)
            for share, other in zip(shares, asked, strict=True)
        ]
        return self.linear(f"{name}.out", _sum(answers))


def _sum(values: list[Value]) -> Value:
    total = values[0]
    for value in values[1:]:
        total = total + value
    return total


def _mean(values: list[Value], masks: list[Value]) -> Value:
    return _sum(values) / _sum(masks).at_least(1.0)


def _concat(net: _Net, blocks: list[Value], masks: list[Value]) -> Value:
    return net.mix([*net.trunks(blocks, masks), *masks])


def _mean_layer(net: _Net, blocks: list[Value], masks: list[Value]) -> Value:
    return net.mix([_mean(net.trunks(blocks, masks), masks) * float(len(blocks))])


def _late(net: _Net, blocks: list[Value], masks: list[Value]) -> Value:
    return net.g.concat(net.trunks(blocks, masks))


def _gated(net: _Net, blocks: list[Value], masks: list[Value]) -> Value:
    hidden = net.trunks(blocks, masks, "Tanh")
    scores, width = net.linear("fusion.gate", net.g.concat([*hidden, *masks])), net.plan["hidden"]
    parts = [scores.columns(np.arange(m * width, (m + 1) * width)) for m in range(len(hidden))]
    parts = [where(mask > 0.0, part, -1e30) for part, mask in zip(parts, masks, strict=True)]
    top = parts[0].op("Max", *parts[1:]) if len(parts) > 1 else parts[0]
    shares = [(part - top).exp() * mask for part, mask in zip(parts, masks, strict=True)]
    total = _sum(shares).at_least(1e-300)
    return _sum([share / total * h for share, h in zip(shares, hidden, strict=True)]) * float(len(blocks))


def _low_rank(net: _Net, blocks: list[Value], masks: list[Value]) -> Value:
    product = None
    for m, (h, mask) in enumerate(zip(net.trunks(blocks, masks), masks, strict=True)):
        factor = net.linear(f"fusion.factors.{m}", h) * mask + (-mask + 1.0)
        product = factor if product is None else product * factor
    assert product is not None
    rank = net.plan["rank"]
    return product @ np.kron(np.full((rank, 1), 1 / rank), np.eye(net.plan["hidden"])) - 1.0


def _attention(net: _Net, blocks: list[Value], masks: list[Value]) -> Value:
    hidden = net.trunks(blocks, masks, n_layers=1)
    names = net.state["fusion.names"][0]
    tokens = [hidden[0] * 0.0 + net.state["fusion.reader"][0], *(h + names[[m]] for m, h in enumerate(hidden))]
    there = [masks[0] * 0.0 + 1.0 > 0.0, *(mask > 0.0 for mask in masks)]
    for layer in range(net.plan["n_layers"]):
        name = f"fusion.layers.{layer}"
        asked = [net.norm(f"{name}.before", token) for token in tokens]
        tokens = [net.block(name, token, asked, there) for token in tokens]
    return net.norm("fusion.last", tokens[0])


def _cross_attention(net: _Net, blocks: list[Value], masks: list[Value]) -> Value:
    hidden, names = net.trunks(blocks, masks, n_layers=1), net.state["fusion.names"][0]
    tokens, n_blocks = [h + names[[m]] for m, h in enumerate(hidden)], len(blocks)
    for layer in range(net.plan["n_layers"]):
        new = []
        for m in range(n_blocks):
            name = f"fusion.layers.{layer}.{m}"
            asked = [net.norm(f"{name}.before", token) for token in tokens]
            there = [(mask * float(o != m)) > 0.0 for o, mask in enumerate(masks)]
            new.append(net.block(name, tokens[m], asked, there))
        tokens = new
    return net.mix([*(token * mask for token, mask in zip(tokens, masks, strict=True)), *masks])


def _hybrid_encoder(net: _Net, blocks: list[Value], masks: list[Value]) -> Value:
    hidden = net.trunks(blocks, masks)
    common = [
        net.linear("fusion.shared", net.linear(f"fusion.narrow.{m}", x)).op("Relu") * masks[m]
        for m, x in enumerate(blocks)
    ]
    return net.mix([*hidden, _mean(common, masks), *masks])


_KINDS = {
    "concat": _concat,
    "sum": _mean_layer,
    "late": _late,
    "gated": _gated,
    "lowrank": _low_rank,
    "attention": _attention,
    "cross_attention": _cross_attention,
    "hybrid_encoder": _hybrid_encoder,
}


def neural(g: Graph, fusion: Any, rows: Any) -> tuple[Value, Value | None]:
    """Return the probabilities or numbers of a neural fusion, and the column of the label."""
    some = rows.any(list(fusion.blocks_))
    prior = np.asarray(fusion.prior_, dtype=float).reshape(1, -1)
    outputs = _network_outputs(g, fusion, rows.data, rows.present)
    if not fusion._classify:
        if prior.size > 1:
            raise UnsupportedError(fusion, "a graph has one number a row, and this model predicts several")
        return where(some, outputs * fusion.target_scale_[None] + fusion.target_mean_[None], prior), None
    proba = where(some, (outputs / float(fusion.temperature_)).softmax(), prior)
    return proba, proba.op("ArgMax", axis=1, keepdims=0)
