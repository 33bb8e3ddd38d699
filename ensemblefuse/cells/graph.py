"""Reader of a graph cell of any kind into checked arrays. Imports neither torch_geometric nor networkx."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

__all__ = ["Graph", "plain_graph", "read_graph"]

_FIELDS = ("x", "edge_index", "edge_weight", "edge_attr")
# Nodes without features take no space in the cell. This number of them takes about 230 MB during encoding.
_MOST_BARE_NODES = 2**22


@dataclass(frozen=True, eq=False)
class Graph:
    """The arrays of one graph.

    Attributes
    ----------
    n_nodes : int
    edge_index : ndarray of shape (2, n_edges), dtype int64
        Source and target of each edge.
    x : ndarray of shape (n_nodes, n_features), dtype float64, or None
    edge_weight : ndarray of shape (n_edges,), dtype float64, or None
    edge_attr : ndarray of shape (n_edges, n_edge_features), dtype float64, or None
    """

    n_nodes: int
    edge_index: np.ndarray
    x: np.ndarray | None = None
    edge_weight: np.ndarray | None = None
    edge_attr: np.ndarray | None = None


def plain_graph(cell: Any) -> Any:
    """Convert a graph of torch_geometric or networkx, or a dict of tensors, to a dict of arrays.

    Any other cell is returned unchanged. The dict has only the fields that an embedding depends on, so that its digest
    is that of the graph's content. Nothing is checked.
    """
    if isinstance(cell, np.ndarray) and cell.dtype == object and cell.ndim == 0:
        cell = cell.item()  # polars' structs come in this form
    try:
        if isinstance(cell, Mapping):
            found = {name: _as_array(cell.get(name)) for name in (*_FIELDS, "num_nodes")}
        elif type(cell).__module__.split(".")[0] == "networkx":
            found = _of_networkx(cell)
        elif hasattr(cell, "edge_index") and hasattr(cell, "num_nodes"):
            found = {name: _as_array(getattr(cell, name, None)) for name in _FIELDS}
            found["num_nodes"] = cell.num_nodes if found["x"] is None else None
        else:
            return cell
    except (AttributeError, KeyError, RuntimeError, TypeError, ValueError):
        return cell  # no digest can be computed from it, so it becomes a bad row
    return {name: value for name, value in found.items() if value is not None}


def _as_array(value: Any) -> Any:
    if hasattr(value, "detach"):
        return value.detach().cpu().numpy()
    with contextlib.suppress(ValueError):  # rows of different lengths are reported by `read_graph`
        return np.asarray(value) if isinstance(value, (list, tuple)) else value
    return value


def _of_networkx(graph: Any) -> dict[str, Any]:
    place = {node: i for i, node in enumerate(graph.nodes)}
    x = [_as_array(features) for _, features in graph.nodes(data="x")]
    edges = [(place[u], place[v], weight) for u, v, weight in graph.edges(data="weight")]
    if not graph.is_directed():
        edges += [(v, u, weight) for u, v, weight in edges if u != v]
    weights = [weight for _, _, weight in edges]
    return {
        "num_nodes": len(place),
        "x": _as_array(x) if any(features is not None for features in x) else None,
        "edge_index": np.array([edge[:2] for edge in edges], dtype=np.int64).reshape(-1, 2).T,
        "edge_weight": weights if any(weight is not None for weight in weights) else None,
    }


def read_graph(cell: Mapping[str, Any]) -> Graph:
    """Check the arrays of a graph.

    Parameters
    ----------
    cell : dict
        ``edge_index`` of shape (2, n_edges), and ``x`` of shape (n_nodes, n_features) or ``num_nodes``. Optional are
        ``edge_weight`` of shape (n_edges,) and ``edge_attr`` of shape (n_edges, n_edge_features).

    Raises
    ------
    TypeError, ValueError
        If an array is absent, has another shape, is not finite, or refers to a node that does not exist.
    """
    if "edge_index" not in cell:
        raise ValueError("a graph without edge_index, which has shape (2, n_edges), or (2, 0) if there are no edges")
    x = _numbers(cell, "x", 2)
    n_nodes = _n_nodes(cell, x)
    edge_index = _edge_index(cell["edge_index"], n_nodes)
    weight, attr = _numbers(cell, "edge_weight", 1), _numbers(cell, "edge_attr", 1, 2)
    for name, values in (("edge_weight", weight), ("edge_attr", attr)):
        if values is not None and len(values) != edge_index.shape[1]:
            raise ValueError(f"{name} is of {len(values)} edges, edge_index of {edge_index.shape[1]}")
    if weight is not None and (weight < 0).any():
        edge = int(np.flatnonzero(weight < 0)[0])
        raise ValueError(f"edge_weight holds {weight[edge]:g}, at edge {edge}; weights must be 0 or more")
    if attr is not None:
        attr = attr.reshape(len(attr), -1)
    return Graph(n_nodes, edge_index, x, weight, attr)


def _n_nodes(cell: Mapping[str, Any], x: np.ndarray | None) -> int:
    n_nodes = cell.get("num_nodes") if x is None else len(x)
    if n_nodes is None:
        raise ValueError("a graph with neither node features x nor num_nodes")
    if isinstance(n_nodes, bool) or not isinstance(n_nodes, (int, np.integer)):
        raise TypeError(f"num_nodes must be a whole number, got {type(n_nodes).__name__}")
    if n_nodes < 1:
        raise ValueError("a graph of 0 nodes; use None for a missing cell")
    if x is None and n_nodes > _MOST_BARE_NODES:
        raise ValueError(f"num_nodes is {n_nodes}; without node features, at most {_MOST_BARE_NODES} nodes are allowed")
    return int(n_nodes)


def _edge_index(value: Any, n_nodes: int) -> np.ndarray:
    array = _array(value)
    if array.size == 0 and array.shape in ((0,), (2, 0), (0, 2)):
        return np.empty((2, 0), dtype=np.int64)
    if array.ndim != 2 or len(array) != 2:
        raise ValueError(f"edge_index must have shape (2, n_edges), got {array.shape}")
    if array.dtype.kind not in "iu":
        raise TypeError(f"edge_index must hold whole numbers, got {array.dtype}")
    odd = np.argwhere((array < 0) | (array >= n_nodes))
    if len(odd):
        raise ValueError(f"edge {odd[0][1]} refers to node {array[tuple(odd[0])]}; the nodes are 0 to {n_nodes - 1}")
    return array.astype(np.int64)


def _numbers(cell: Mapping[str, Any], name: str, *n_axes: int) -> np.ndarray | None:
    if name not in cell:
        return None
    array = _array(cell[name])
    if array.ndim not in n_axes:
        raise ValueError(f"{name} must have {' or '.join(map(str, n_axes))} dimensions, got shape {array.shape}")
    if array.ndim == 2 and not array.shape[1]:
        raise ValueError(f"{name} has no columns")
    if array.dtype.kind not in "biuf":
        raise TypeError(f"{name} must hold numbers, got values of type {array.dtype}")
    odd = np.argwhere(~np.isfinite(array))
    if len(odd):
        raise ValueError(f"{len(odd)} values of {name} are NaN or infinite, the first in row {odd[0][0]}")
    return array.astype(np.float64)


def _array(value: Any) -> np.ndarray:
    """Return an array. An array of row arrays, as Parquet gives it, is stacked."""
    return np.asarray(value.tolist() if isinstance(value, np.ndarray) and value.dtype == object else value)
