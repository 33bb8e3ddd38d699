"""A text network as stages that run one after the other, from tokens to the vector of a text. Imports torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

__all__ = ["NO_TOKEN", "cut_text"]

# Stands behind the last token of a text that is shorter than others of its batch.
NO_TOKEN = -1
# Where networks of transformers keep their layers.
_LAYERS = ("encoder.layer", "encoder.layers", "transformer.layer")


class _Embeddings(nn.Module):
    """Tokens of shape (n, length) as states of shape (n, length, width + 1), of which the last number is a mask."""

    def __init__(self, embeddings: nn.Module, padding: int):
        super().__init__()
        self.embeddings, self.padding = embeddings, padding

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        there = ids != NO_TOKEN
        states = self.embeddings(input_ids=ids.masked_fill(~there, self.padding))
        return torch.cat([states, there[..., None].to(states.dtype)], dim=2)


class _Layer(nn.Module):
    """A layer of a transformer, from states to states."""

    def __init__(self, layer: nn.Module):
        super().__init__()
        self.layer = layer

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        there = x[..., -1]
        bias = (1 - there[:, None, None, :]) * torch.finfo(x.dtype).min
        states = self.layer(x[..., :-1], bias)
        states = states[0] if isinstance(states, tuple) else states  # transformers before 5
        return torch.cat([states, there[..., None]], dim=2)


class _LastLayer(_Layer):
    """The last layer, and the pooling of the tokens to one vector of shape (n, width)."""

    def __init__(self, layer: nn.Module, after: Sequence[nn.Module]):
        super().__init__(layer)
        self.after = nn.ModuleList(after)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = super().forward(x)
        found: Any = {"token_embeddings": x[..., :-1], "attention_mask": x[..., -1].long()}
        for module in self.after:
            found = module(found)
        return found["sentence_embedding"]


class _Whole(nn.Module):
    """A network that is not cut, from tokens to vectors."""

    def __init__(self, network: nn.Module, padding: int, names: Sequence[str]):
        super().__init__()
        self.network, self.padding, self.names = network, padding, tuple(names)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        there = ids != NO_TOKEN
        found = {"input_ids": ids.masked_fill(~there, self.padding), "attention_mask": there.long()}
        if "token_type_ids" in self.names:
            found["token_type_ids"] = torch.zeros_like(ids)
        return self.network(found)["sentence_embedding"]


def cut_text(network: nn.Module, tokenizer: Any, example: Mapping[str, np.ndarray]) -> list[nn.Module]:
    """Cut a network of sentence-transformers into stages: the embeddings of tokens, and each layer.

    What comes after the last layer belongs to it.

    Parameters
    ----------
    network : module
        It is not changed. The stages hold its own layers.
    tokenizer : tokenizer of transformers
    example : dict of str to ndarray of shape (n, n_tokens)
        Tokens of some texts of several lengths. The stages must make the vectors of the network of them.

    Returns
    -------
    list of module
        Only one, for the whole network, if its layers are not called in the way of BERT.
    """
    padding = tokenizer.pad_token_id or 0
    whole = _Whole(network, padding, [name for name in tokenizer.model_input_names if name in example])
    first, *after = list(network.children())
    inner = getattr(first, "auto_model", None)
    if inner is None or not hasattr(inner, "embeddings"):
        return [whole]
    layers = next((list(found) for name in _LAYERS if (found := _part(inner, name)) is not None), [])
    if not layers:
        return [whole]
    stages = [_Embeddings(inner.embeddings, padding), *map(_Layer, layers[:-1]), _LastLayer(layers[-1], after)]
    device = next(network.parameters()).device
    ids = np.where(example["attention_mask"] > 0, example["input_ids"], NO_TOKEN)
    tokens = torch.from_numpy(ids.astype(np.int64)).to(device)
    try:
        with torch.inference_mode():
            alike = torch.allclose(nn.Sequential(*stages)(tokens), whole(tokens), rtol=1e-4, atol=1e-4)
    except Exception:  # a layer that takes other arguments, which any error may tell
        alike = False
    return stages if alike else [whole]


def _part(network: nn.Module, name: str) -> Any:
    try:
        return network.get_submodule(name)
    except AttributeError:
        return None
