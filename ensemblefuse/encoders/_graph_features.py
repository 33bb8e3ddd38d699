"""Features of graphs without weights: node features, averaged over neighbours and pooled. Uses no torch."""

from __future__ import annotations

import numpy as np
from scipy import sparse
from scipy.sparse.csgraph import connected_components

from ensemblefuse.cells.graph import Graph

__all__ = ["graph_features"]


def graph_features(graph: Graph, n_hops: int) -> np.ndarray:
    """Describe a graph by its size and by its nodes' features, before and after 1 to `n_hops` hops.

    A node's features are its row of `x` and log(1 + number of neighbours). A hop multiplies them by the adjacency
    matrix with ones on the diagonal, divided by the square roots of both nodes' degrees, as in SGC. After each number
    of hops, the mean, standard deviation and maximum over the nodes are taken. Edges count in both directions. Of
    several edges between the same nodes, only that with the largest weight counts. An edge from a node to itself is
    replaced by the one on the diagonal.

    Parameters
    ----------
    graph : Graph
    n_hops : int
        0 or more.

    Returns
    -------
    ndarray of shape (3 * (n_hops + 1) * (n_features + 1) + 3,), dtype float64
        By hop: means, standard deviations, maxima. Then log(1 + n_nodes), log(1 + n_edges), log(n_components).

    References
    ----------
    F. Wu, A. Souza, T. Zhang, C. Fifty, T. Yu and K. Weinberger. Simplifying Graph Convolutional Networks. ICML 2019.

    Examples
    --------
    >>> import numpy as np
    >>> from ensemblefuse.cells.graph import Graph
    >>> from ensemblefuse.encoders._graph_features import graph_features
    >>> pair = Graph(2, np.array([[0], [1]]), np.array([[1.0], [3.0]]))
    >>> graph_features(pair, n_hops=1).round(2)  # after one hop both nodes are 2
    array([2.  , 0.69, 1.  , 0.  , 3.  , 0.69, 2.  , 0.69, 0.  , 0.  , 2.  , 0.69, 1.1 , 0.69, 0.  ])
    """
    adjacency = _adjacency(graph)
    n_neighbours = np.diff(adjacency.indptr)
    columns = np.log1p(n_neighbours)[:, None]
    if graph.x is not None:
        columns = np.concatenate([graph.x, columns], axis=1)
    scale = 1 / np.sqrt(1 + adjacency.sum(axis=1))
    pooled = []
    with np.errstate(over="ignore", invalid="ignore"):  # an embedding that is not finite becomes a bad row
        for hop in range(n_hops + 1):
            if hop:
                scaled = scale[:, None] * columns
                columns = scale[:, None] * (adjacency @ scaled + scaled)
            pooled += [columns.mean(axis=0), columns.std(axis=0), columns.max(axis=0)]
    n_components = connected_components(adjacency, directed=False, return_labels=False)
    sizes = [np.log1p(graph.n_nodes), np.log1p(adjacency.nnz // 2), np.log(n_components)]
    return np.concatenate([*pooled, sizes])


def _adjacency(graph: Graph) -> sparse.csr_array:
    """Return the symmetric adjacency matrix without its diagonal: each edge once in each direction."""
    source, target = graph.edge_index
    weight = np.ones(len(source)) if graph.edge_weight is None else graph.edge_weight
    source, target = np.concatenate([source, target]), np.concatenate([target, source])
    weight = np.concatenate([weight, weight])
    order = np.lexsort((weight, target, source))
    source, target, weight = source[order], target[order], weight[order]
    is_last = np.ones(len(source), dtype=bool)
    is_last[:-1] = (source[1:] != source[:-1]) | (target[1:] != target[:-1])
    kept = is_last & (source != target)
    shape = (graph.n_nodes, graph.n_nodes)
    return sparse.csr_array((weight[kept], (source[kept], target[kept])), shape=shape)
