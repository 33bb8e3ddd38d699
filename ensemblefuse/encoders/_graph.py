"""The encoder of graphs, and of pictures as graphs. Never imports `fusion`."""

from __future__ import annotations

import inspect
from typing import Any, ClassVar

import numpy as np
import pandas as pd

from ensemblefuse._torch import resolve_device
from ensemblefuse.backbones.column_flow import WrongShapeError
from ensemblefuse.backbones.image_module import frozen_copy, object_token
from ensemblefuse.cells.graph import Graph, plain_graph, read_graph
from ensemblefuse.cells.image import read_rgb
from ensemblefuse.cells.superpixels import superpixel_graph
from ensemblefuse.encoders._base import BaseEncoder
from ensemblefuse.encoders._graph_features import graph_features

__all__ = ["GraphEncoder"]

_NEEDED_BY = "GraphEncoder"
_POOLS = ("mean", "max", "sum")


class GraphEncoder(BaseEncoder):
    """Embed graphs, or pictures as graphs of superpixels, with or without a network. Fitting trains nothing.

    By default there is no network, and no weights are needed. A graph is then described by its size and its nodes: the
    node features and log(1 + number of neighbours), as they are and averaged over 1 to `n_hops` hops of neighbours as
    in SGC [1]_. Each is pooled by mean, standard deviation and maximum. Edges count in both directions, and several
    edges between the same nodes count once.

    Parameters
    ----------
    model : torch.nn.Module, optional
        Your own trained network. It is called as ``model(x, edge_index)``, like the networks of torch_geometric. Of
        ``batch``, ``edge_weight`` and ``edge_attr``, those that its ``forward`` takes are passed by name. It returns
        one row for each node, which are pooled by `pool`, or one row for each graph. If it takes no ``batch``, graphs
        go through it one by one. The encoder copies it: the original keeps its mode and device.
    n_hops : int, default=2
        Number of hops of the features without a network.
    pool : {"mean", "max", "sum"}, default="mean"
        How the rows of the nodes of a graph are combined to one.
    n_superpixels : int, default=75
        Approximate number of regions of a picture. Pictures need scikit-image.
    device : str, default="auto"
        Device of `model`. ``"auto"`` takes CUDA, then Apple's MPS, then the CPU. Not part of the cache key.
    batch_size : int, default=32
        Number of graphs that go through the network at once. Not part of the cache key.
    on_error : {"raise", "missing"}, default="raise"
        What to do with cells that are not graphs: raise one error that lists all of them, or return rows of NaN with
        one `MissingModalityWarning`.

    Attributes
    ----------
    n_dims_ : int
        ``3 * (n_hops + 1) * (n_features + 1) + 3`` without a network; 93 for pictures.
    n_features_in_, feature_names_in_
        As in scikit-learn.

    Raises
    ------
    TypeError, ValueError
        From `fit` and `transform`, if a parameter is out of its range, the network returns another shape, or graphs
        have different numbers of node features.
    ImportError
        From `fit` and `transform`, if scikit-image is needed and not installed.

    Notes
    -----
    A cell is a graph or a picture. A graph is a ``torch_geometric.data.Data``, a dict, or a graph of networkx. A dict
    has ``edge_index`` of shape (2, n_edges) and ``x`` of shape (n_nodes, n_features), or ``num_nodes`` if nodes have no
    features; ``edge_weight`` (0 or more) and ``edge_attr`` are optional. A graph of networkx has node features in the
    attribute ``x`` and edge weights in ``weight``. Other fields, such as ``y`` and ``pos``, are not read; ``edge_attr``
    is for networks only.

    A picture is one that `ImageEncoder` takes as a cell. Its long side is reduced to at most 256 pixels, and SLIC [2]_
    cuts it into regions of similar colour, which are the nodes. A node has nine features: mean and standard deviation
    of red, green and blue, height and width of the centre, share of the area. Regions with adjacent pixels (above,
    below or beside) are joined by an edge.

    A network that takes ``batch`` must keep graphs apart: pass ``batch`` to all layers that mix nodes, such as graph
    normalisation. The cache key identifies a network by its tensors, classes and attributes. If one of them cannot be
    hashed, nothing is cached.

    References
    ----------
    .. [1] F. Wu, A. Souza, T. Zhang, C. Fifty, T. Yu and K. Weinberger. Simplifying Graph Convolutional Networks. ICML
       2019.
    .. [2] R. Achanta et al. SLIC Superpixels Compared to State-of-the-Art Superpixel Methods. IEEE PAMI, 2012.

    Examples
    --------
    >>> from ensemblefuse import GraphEncoder
    >>> triangle = {"x": [[1.0], [2.0], [6.0]], "edge_index": [[0, 1, 2], [1, 2, 0]]}
    >>> vectors = GraphEncoder(n_hops=1).fit_transform({"molecule": [triangle, None]})
    >>> vectors.shape, vectors[0, [0, 4, 6]].tolist()  # mean and maximum of x; after a hop all three nodes are 3
    ((2, 15), [3.0, 6.0, 3.0])
    """

    strings_are_paths: ClassVar[bool] = True
    loads_in_threads: ClassVar[bool] = True
    # `recipe` writes the values that these stand for instead.
    neutral_params: ClassVar[frozenset[str]] = BaseEncoder.neutral_params | {"model", "n_hops", "pool"}

    def __init__(
        self,
        model: Any = None,
        *,
        n_hops: int = 2,
        pool: str = "mean",
        n_superpixels: int = 75,
        device: str = "auto",
        batch_size: int = 32,
        on_error: str = "raise",
    ):
        self.model = model
        self.n_hops = n_hops
        self.pool = pool
        self.n_superpixels = n_superpixels
        self.device = device
        self.batch_size = batch_size
        self.on_error = on_error

    def cells(self, X: pd.DataFrame) -> list[Any]:
        """Return the cells of the one column, with graphs as dicts of arrays: a digest can be computed from these."""
        return [plain_graph(cell) for cell in super().cells(X)]

    def load(self, cell: Any) -> Graph:
        """Check a graph, or convert a picture to one.

        Parameters
        ----------
        cell : dict of arrays, or picture

        Returns
        -------
        Graph

        Raises
        ------
        OSError, TypeError, ValueError
            If the cell is neither, or its parts do not match.
        """
        if not isinstance(cell, dict):
            try:
                picture = read_rgb(cell)
            except TypeError as error:
                raise TypeError(f"neither a graph nor a picture: {error}") from error
            return superpixel_graph(picture, int(self.n_superpixels), needed_by=_NEEDED_BY)
        graph = read_graph(cell)
        if self.model is not None and graph.x is None:
            raise ValueError("a graph without node features x, which the network needs")
        return graph

    def probe(self, cell: Any) -> None:
        """Check a graph, or decode a picture; see `BaseEncoder.probe`."""
        self.load(cell)

    def encode_batch(self, items: list[Any]) -> np.ndarray:
        """Embed graphs.

        Parameters
        ----------
        items : list of Graph

        Returns
        -------
        ndarray of shape (len(items), n_dims), dtype float32
        """
        if self.model is None:
            return np.stack([graph_features(graph, int(self.n_hops)) for graph in items]).astype(np.float32)
        device = resolve_device(self.device, needed_by=_NEEDED_BY)
        network = frozen_copy(self.model, device, lambda copied: copied)
        takes = set(inspect.signature(self.model.forward).parameters)
        groups: dict[Any, list[int]] = {}
        for i, graph in enumerate(items):
            alike = (graph.edge_weight is None, graph.edge_attr is None)
            groups.setdefault(alike if "batch" in takes else i, []).append(i)
        out = [_run(network, [items[i] for i in rows], takes, self.pool, device) for rows in groups.values()]
        return np.concatenate(out)[np.argsort(np.concatenate(list(groups.values())))]

    def prepare(self) -> None:
        """Check the parameters and copy the network."""
        self._check_params()
        if self.model is not None:
            device = resolve_device(self.device, needed_by=_NEEDED_BY)
            frozen_copy(self.model, device, lambda copied: copied, fresh=True)

    def recipe(self) -> dict[str, Any] | None:
        """Return what the embeddings depend on: class, version, and the network with its pooling or the number of hops.

        Returns
        -------
        dict or None
            None if the network cannot be hashed.
        """
        self._check_params()
        recipe = super().recipe()
        if recipe is None:
            return None
        recipe["params"]["n_superpixels"] = int(self.n_superpixels)
        if self.model is None:
            recipe["params"]["n_hops"] = int(self.n_hops)
            return recipe
        token = object_token(self.model)
        recipe["params"] |= {"weights": token, "pool": self.pool}
        return None if token is None else recipe

    def _check_params(self) -> None:
        self._batch_size()
        if self.model is not None and not (callable(self.model) and hasattr(self.model, "state_dict")):
            raise TypeError(f"{_NEEDED_BY}: model must be None or a torch.nn.Module; got {self.model!r}.")
        if self.pool not in _POOLS:
            raise ValueError(f"{_NEEDED_BY}: pool must be one of {list(_POOLS)}; got {self.pool!r}.")
        for name, least, most in (("n_hops", 0, 64), ("n_superpixels", 1, 4096)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or not least <= value <= most:
                raise ValueError(f"{_NEEDED_BY}: {name} must be a whole number from {least} to {most}; got {value!r}.")


def _run(network: Any, graphs: list[Graph], takes: set[str], pool: str, device: str) -> np.ndarray:
    """Return the pooled output of the network for several graphs, which are joined without edges between them."""
    import torch

    sizes = torch.tensor([graph.n_nodes for graph in graphs])
    starts = np.cumsum([0, *sizes.tolist()])
    batch = torch.repeat_interleave(torch.arange(len(graphs)), sizes).to(device)
    x = torch.from_numpy(np.concatenate([graph.x for graph in graphs]).astype(np.float32)).to(device)  # type: ignore
    edges = np.concatenate([graph.edge_index + start for graph, start in zip(graphs, starts, strict=False)], axis=1)
    named = {"batch": batch} if "batch" in takes else {}
    for name in takes & {"edge_weight", "edge_attr"}:
        if getattr(graphs[0], name) is not None:  # then all have it
            values = np.concatenate([getattr(graph, name) for graph in graphs])
            named[name] = torch.from_numpy(values.astype(np.float32)).to(device)
    with torch.inference_mode():
        out = network(x, torch.from_numpy(edges).to(device), **named)
        shape = tuple(out.shape) if isinstance(out, torch.Tensor) else type(out).__name__
        if not isinstance(out, torch.Tensor) or out.ndim != 2 or len(out) not in (len(graphs), len(x)):
            raise WrongShapeError(
                f"{_NEEDED_BY}: model must return a row for each of {len(graphs)} graphs, or of {len(x)} nodes; got "
                f"{shape}."
            )
        if len(out) == len(x):
            parts = out.float().split(sizes.tolist())
            out = torch.stack([part.amax(dim=0) if pool == "max" else getattr(part, pool)(dim=0) for part in parts])
        return out.float().cpu().numpy()
