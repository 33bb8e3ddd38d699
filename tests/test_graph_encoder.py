"""GraphEncoder: numbers worked out by hand, graphs in every form, lies as bad rows, networks of one's own."""

import copy
import pickle

import networkx as nx
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from PIL import Image
from sklearn.linear_model import RidgeClassifier
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from ensemblefuse import (
    EncodingError,
    FeatureFusionClassifier,
    GraphEncoder,
    get_cache,
    infer_modalities,
    load_model,
    make_fusion_pipeline,
    save_model,
)
from ensemblefuse.cells.graph import Graph
from ensemblefuse.cells.superpixels import superpixel_graph
from ensemblefuse.encoders._graph_features import graph_features

RNG = np.random.default_rng(0)


@pytest.fixture(scope="module", autouse=True)
def torch_geometric():
    """Imported here and not above: it takes 3 s of every process that only collects the tests."""
    global Data, GCN, GIN, GCNConv, SGConv, global_add_pool
    from torch_geometric.data import Data
    from torch_geometric.nn import GCN, GIN, GCNConv, SGConv, global_add_pool


def random_graph(rng, n_nodes, n_edges, n_features=2):
    x = rng.normal(size=(n_nodes, n_features)).astype(np.float32)
    return {"x": x, "edge_index": rng.integers(n_nodes, size=(2, n_edges))}


GRAPHS = [random_graph(RNG, n, m) for n, m in ((1, 0), (2, 1), (5, 9), (30, 60), (4, 0), (3, 7))]


def encode(*cells, **params):
    return GraphEncoder(**params).fit_transform({"g": list(cells)})


# ---------------------------------------------------------------------- without a network


def test_a_hop_is_that_of_torch_geometric():
    rng = np.random.default_rng(1)
    graph = nx.gnm_random_graph(20, 45, seed=1)
    edges = np.array([*graph.edges, *[(v, u) for u, v in graph.edges]]).T
    x = rng.normal(size=(20, 3))
    hop = SGConv(4, 4, K=2, bias=False)
    torch.nn.init.eye_(hop.lin.weight)
    degrees = np.log1p([d for _, d in graph.degree])[:, None]
    both = np.concatenate([x, degrees], axis=1)
    out = hop(torch.from_numpy(both).float(), torch.from_numpy(edges)).detach().numpy()
    found = graph_features(Graph(20, edges, x), n_hops=2)
    expected = [f(part, axis=0) for part in (both, out) for f in (np.mean, np.std, np.max)]
    assert_allclose(found[:12], np.concatenate(expected[:3]), atol=1e-6)
    assert_allclose(found[24:36], np.concatenate(expected[3:]), atol=1e-5)


def test_size_edges_and_components_are_counted():
    edges = [[0, 1, 2, 2, 0], [1, 0, 3, 3, 0]]  # 0-1 in both directions, 2-3 twice, 0 with itself, 4 alone
    vector = encode({"num_nodes": 5, "edge_index": edges}, n_hops=0)[0]
    assert_allclose(vector[3:], [np.log(6), np.log(3), np.log(3)], rtol=1e-6)
    assert_array_equal(encode({"num_nodes": 1, "edge_index": [[], []]}, n_hops=0)[0, 3:4], np.float32([np.log(2)]))
    assert_allclose(vector[:3], [0.8 * np.log(2), 0.4 * np.log(2), np.log(2)], rtol=1e-6)


def test_a_weight_of_edges_counts_and_of_two_the_larger_one():
    x, edges = [[0.0], [4.0]], [[0, 0], [1, 1]]
    light, heavy = (encode({"x": x, "edge_index": edges, "edge_weight": w}, n_hops=1)[0] for w in ([0, 0], [1, 3]))
    assert_allclose(light[[6, 8, 10]], [2, 2, 4], rtol=1e-6)  # nothing reaches the other node
    assert_allclose(heavy[[6, 8, 10]], [2, 1, 3], rtol=1e-6)  # 3/4 of the other, 1/4 of itself


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 12), st.integers(0, 30), st.integers(0, 3))
def test_the_order_of_nodes_and_edges_changes_nothing(seed, n_nodes, n_edges, n_hops):
    rng = np.random.default_rng(seed)
    x, edges = rng.normal(size=(n_nodes, 2)), rng.integers(n_nodes, size=(2, n_edges))
    place = rng.permutation(n_nodes)
    moved = np.empty_like(x)
    moved[place] = x
    other = place[edges][::-1, rng.permutation(n_edges)]
    one = graph_features(Graph(n_nodes, edges, x), n_hops)
    assert_allclose(graph_features(Graph(n_nodes, other, moved), n_hops), one, atol=1e-10)
    assert one.shape == (9 * (n_hops + 1) + 3,) and np.isfinite(one).all()


def test_a_graph_has_one_vector_in_every_form_and_batch():
    plain = random_graph(np.random.default_rng(2), 6, 0)
    graph = nx.erdos_renyi_graph(6, 0.5, seed=0)
    graph.add_nodes_from((i, {"x": plain["x"][i]}) for i in range(6))
    edges = np.array(graph.edges).T
    both = np.concatenate([edges, edges[::-1]], axis=1)
    forms = [
        plain | {"edge_index": edges},
        plain | {"edge_index": both.astype(np.int32), "y": object()},
        {"x": plain["x"].tolist(), "edge_index": edges.tolist()},
        Data(x=torch.from_numpy(plain["x"]), edge_index=torch.from_numpy(both), y=torch.ones(1)),
        graph,
        nx.relabel_nodes(nx.DiGraph(graph), {i: f"node {i}" for i in range(6)}),
    ]
    out = encode(*forms)
    assert_allclose(out, np.repeat(out[:1], 6, axis=0), atol=1e-6)
    for i, cell in enumerate(GRAPHS):
        assert_array_equal(encode(cell)[0], encode(*GRAPHS, batch_size=4)[i])


def test_shapes_of_graphs_can_be_told_apart():
    """Rings and trees of the same size, without node features."""
    rng = np.random.default_rng(0)
    graphs = [nx.cycle_graph(n) if i % 2 else nx.star_graph(n - 1) for i, n in enumerate(rng.integers(4, 20, 40))]
    heads = make_pipeline(StandardScaler(), RidgeClassifier())
    assert cross_val_score(heads, encode(*graphs), np.arange(40) % 2, cv=4).mean() == 1


# ---------------------------------------------------------------------- bad cells


def test_every_lie_is_a_bad_row_with_its_reason():
    x, edge = [[1.0], [2.0]], [[0], [1]]
    lies = {
        "edge 0 refers to node 2; the nodes are 0 to 1": {"x": x, "edge_index": [[0], [2]]},
        "edge 1 refers to node -1": {"x": x, "edge_index": [[0, 0], [1, -1]]},
        "1 values of x are NaN or infinite, the first in row 1": {"x": [[1.0], [np.nan]], "edge_index": edge},
        "a graph of 0 nodes": {"x": np.ones((0, 1)), "edge_index": [[], []]},
        "without edge_index": {"x": x},
        "neither node features x nor num_nodes": {"edge_index": edge},
        "num_nodes is 1000000000000": {"num_nodes": 10**12, "edge_index": edge},
        "num_nodes must be a whole number, got float": {"num_nodes": 2.0, "edge_index": edge},
        "must have shape (2, n_edges), got (3, 1)": {"x": x, "edge_index": [[0], [1], [0]]},
        "edge_index must hold whole numbers, got float64": {"x": x, "edge_index": [[0.0], [1.0]]},
        "x must have 2 dimensions, got shape (2,)": {"x": [1.0, 2.0], "edge_index": edge},
        "x must hold numbers": {"x": [["a"], ["b"]], "edge_index": edge},
        "x has no columns": {"x": np.ones((2, 0)), "edge_index": edge},
        "edge_weight is of 2 edges, edge_index of 1": {"x": x, "edge_index": edge, "edge_weight": [1, 1]},
        "edge_weight holds -1, at edge 0": {"x": x, "edge_index": edge, "edge_weight": [-1.0]},
        "inhomogeneous": {"x": [[1.0], [1.0, 2.0]], "edge_index": edge},
        "holds NaN or infinite": {"x": [[1e200], [1.0]], "edge_index": edge},
        "a cell of type object cannot be encoded": {"x": x, "edge_index": edge, "edge_attr": object()},
        "neither a graph nor a picture": 7,
        "no such file": "gone.png",
    }
    whole = {"x": x, "edge_index": edge}
    with pytest.raises(EncodingError) as caught:
        encode(whole, *lies.values())
    assert [row.label for row in caught.value.rows] == list(range(1, len(lies) + 1))
    for row, part in zip(caught.value.rows, lies, strict=True):
        assert part in row.reason
    with pytest.raises(EncodingError, match=r"a graph of 0 nodes(.|\n)*inhomogeneous"):
        encode(nx.path_graph(2), nx.Graph(), half_featured())
    with pytest.raises(ValueError, match="several lengths"):
        encode(GRAPHS[0], whole)


def half_featured():
    graph = nx.path_graph(2)
    graph.nodes[0]["x"] = [1.0]
    return graph


# ---------------------------------------------------------------------- pictures


def test_a_picture_of_two_colours_is_two_regions_that_touch():
    pixels = np.zeros((40, 60, 3), dtype=np.uint8)
    pixels[:, 30:] = [255, 0, 0]
    graph = superpixel_graph(Image.fromarray(pixels), 2, needed_by="test")
    assert graph.n_nodes == 2 and graph.edge_index.tolist() == [[0, 1], [1, 0]]
    assert_allclose(graph.x[:, [0, 3, 6, 7, 8]], [[0, 0, 0.5, 0.25, 0.5], [1, 0, 0.5, 0.75, 0.5]], atol=1e-6)


@pytest.mark.parametrize("size", [(1, 1), (1, 70), (3000, 2), (500, 400)])
def test_pictures_of_any_shape_are_graphs(size):
    picture = Image.fromarray(RNG.integers(256, size=(size[1], size[0], 3), dtype=np.uint8))
    out = encode(picture, np.asarray(picture))
    assert out.shape == (2, 93) and np.isfinite(out).all()
    assert_array_equal(out[0], out[1])


# ---------------------------------------------------------------------- networks


class WholeGraph(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = GCNConv(2, 4)

    def forward(self, x, edge_index, edge_weight=None, batch=None):
        return global_add_pool(self.conv(x, edge_index, edge_weight), batch)


def seeded(make):
    torch.manual_seed(0)
    return make()


def test_a_network_is_called_as_its_user_would_call_it():
    for make in (lambda: GCN(2, 4, 2, dropout=0.5), lambda: GIN(2, 4, 2, norm="batch_norm"), lambda: GCNConv(2, 4)):
        network = seeded(make).train()
        by_hand = copy.deepcopy(network).eval()
        for pool in ("mean", "max", "sum"):
            out = encode(*GRAPHS, model=network, pool=pool, device="cpu", batch_size=3)
            for i, cell in enumerate(GRAPHS):
                x, edges = torch.from_numpy(cell["x"]), torch.as_tensor(cell["edge_index"]).long()
                rows = by_hand(x, edges).detach()
                expected = rows.amax(dim=0) if pool == "max" else getattr(rows, pool)(dim=0)
                assert_allclose(out[i], expected, atol=1e-5)
        assert network.training


def test_a_network_that_pools_itself_gets_batches_and_weights_of_edges():
    network = seeded(WholeGraph)
    weighted = [g | {"edge_weight": np.full(np.shape(g["edge_index"])[1], 2.0)} for g in GRAPHS]
    cells = [*GRAPHS[:3], *weighted]
    out = encode(*cells, model=network, device="cpu")
    for i, cell in enumerate(cells):
        assert_allclose(encode(cell, model=network, device="cpu", batch_size=1)[0], out[i], atol=1e-5)
    assert np.abs(out[2] - out[5]).max() > 1e-3


def test_weights_and_pooling_are_in_the_recipe_and_what_changes_nothing_is_not():
    one, same = (GraphEncoder(seeded(lambda: GCN(2, 4, 2)), device="cpu") for _ in range(2))
    assert one.recipe() is not None and one.recipe() == same.recipe()
    encode(*GRAPHS, model=one.model, device="cpu")
    assert one.recipe() == same.recipe()
    with torch.no_grad():
        next(one.model.parameters()).add_(1)
    others = [GraphEncoder(one.model), GraphEncoder(same.model, pool="max"), GraphEncoder(), GraphEncoder(n_hops=1)]
    others += [GraphEncoder(seeded(lambda: GIN(2, 4, 2))), GraphEncoder(same.model, n_superpixels=9)]
    recipes = [encoder.recipe() for encoder in [same, *others]]
    assert all(a != b for i, a in enumerate(recipes) for b in recipes[:i])
    assert GraphEncoder(pool="sum", batch_size=2, device="cpu").recipe() == GraphEncoder().recipe()
    assert GraphEncoder(same.model, n_hops=5).recipe() == same.recipe()


def test_a_graph_is_found_in_the_cache_by_its_content():
    encode(*GRAPHS)
    n_written = get_cache().n_written
    assert n_written == len(GRAPHS)
    tensors = [
        Data(x=torch.from_numpy(g["x"]), edge_index=torch.as_tensor(np.asarray(g["edge_index"]))) for g in GRAPHS
    ]
    encode(*copy.deepcopy(GRAPHS), *tensors, batch_size=1)
    assert get_cache().n_written == n_written
    encode(GRAPHS[1] | {"x": GRAPHS[1]["x"] + 1})
    assert get_cache().n_written == n_written + 1


def test_networks_that_cannot_be_called_so_are_errors_of_the_call():
    class Wrong(torch.nn.Module):
        def forward(self, x, edge_index):
            return x.sum()

    with pytest.raises(ValueError, match="a row for each of 1 graphs, or of 5 nodes; got"):
        encode(GRAPHS[2], model=Wrong(), device="cpu")
    with pytest.raises(EncodingError, match="without node features x, which the network needs"):
        encode({"num_nodes": 2, "edge_index": [[0], [1]]}, model=GCNConv(2, 2), device="cpu")
    for params, message in [
        ({"model": "gcn"}, "model must be None or a torch.nn.Module; got 'gcn'"),
        ({"pool": "median"}, "pool must be one of .*got 'median'"),
        ({"n_hops": -1}, "n_hops must be .*got -1"),
        ({"n_superpixels": 0}, "n_superpixels must be .*got 0"),
    ]:
        with pytest.raises((TypeError, ValueError), match=message):
            encode(GRAPHS[0], **params)


# ---------------------------------------------------------------------- around it


def test_a_model_on_graphs_is_inferred_saved_and_loaded(tmp_path):
    X = {"molecule": [random_graph(RNG, 5, 6) for _ in range(12)]}
    data = [Data(x=torch.from_numpy(g["x"]), edge_index=torch.from_numpy(g["edge_index"])) for g in X["molecule"]]
    assert [type(encoder) for _, encoder, _ in infer_modalities({"a": data}, verbose=False)] == [GraphEncoder]
    assert infer_modalities({"a": [nx.path_graph(3)]}, verbose=False)[0][0] == "graph"
    modalities = infer_modalities(X, verbose=False)
    model = make_fusion_pipeline(modalities, FeatureFusionClassifier(RidgeClassifier())).fit(X, [0, 1] * 6)
    assert len(pickle.dumps(model.named_steps["encode"].named_transformers_["graph"])) < 1000
    save_model(model, tmp_path / "m.fuse")
    assert_array_equal(load_model(tmp_path / "m.fuse").decision_function(X), model.decision_function(X))
