"""A network as stages that run one after the other, so that it can be cut between them."""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ensemblefuse._torch import settle_after_fork

if TYPE_CHECKING:
    import torch

__all__ = ["cut_stages"]

# Where networks of torchvision and timm keep their stages: the children of these are stages.
_CONTAINERS = ("features", "blocks", "stages", "layers", "trunk_output", "encoder", "encoder.layers")


def cut_stages(network: torch.nn.Module) -> list[torch.nn.Module]:
    """Cut a network into stages. Each takes one tensor, what the stage before it returns.

    The order of calls is read from the network's code by `torch.fx`. A stage begins at a child of a container that
    torchvision or timm name for it, at a `torch.nn.Sequential` of the network, or, if the network is one, at its
    children with weights. What comes before the first stage belongs to it, and what comes after the last, too.

    Parameters
    ----------
    network : torch.nn.Module
        It is not changed. The stages hold its own layers, under its names.

    Returns
    -------
    list of torch.nn.Module
        Only the network itself if its code cannot be read, or has no such stages.
    """
    import torch

    settle_after_fork()
    containers = {name for name, _ in network.named_modules() if name in _CONTAINERS}

    class Tracer(torch.fx.Tracer):
        def is_leaf_module(self, m: torch.nn.Module, module_qualified_name: str) -> bool:
            return module_qualified_name not in containers

    try:
        # Further arguments, such as a mask, keep their defaults.
        others = list(inspect.signature(network.forward).parameters.values())[1:]
        nodes = list(Tracer().trace(network, concrete_args={other.name: other.default for other in others}).nodes)
        nodes = _without_checks_of_defaults(nodes)
    except Exception:  # code that depends on values, which any error may tell
        return [network]
    inputs = [node for node in nodes if node.op == "placeholder"]
    if len(inputs) != 1 or not isinstance(nodes[-1].args[0], torch.fx.Node):
        return [network]
    starts = [i for i, node in enumerate(nodes) if _is_start(network, node, containers) and _alone(nodes, i)]
    held = [any(_has_weights(network, node) for node in nodes[: starts[0]])] if starts else []
    starts = [0, *(starts if any(held) else starts[1:]), len(nodes) - 1]
    if len(starts) == 2:
        return [network]
    return [_part(network, nodes, *ends) for ends in itertools.pairwise(starts)]


def _without_checks_of_defaults(nodes: Sequence[Any]) -> list[Any]:
    """Return the nodes without further arguments, and without those that only check that they have their defaults."""
    others = set([node for node in nodes if node.op == "placeholder"][1:])
    for node in nodes:
        asked = node.all_input_nodes
        if asked and others.issuperset(asked):
            others.add(node)
    return [node for node in nodes if node not in others]


def _is_start(network: torch.nn.Module, node: Any, containers: set[str]) -> bool:
    import torch

    if node.op != "call_module":
        return False
    parent = str(node.target).rpartition(".")[0]
    holds_stages = isinstance(network, torch.nn.Sequential)
    is_stage = parent in containers or (
        not parent and (holds_stages or isinstance(network.get_submodule(node.target), torch.nn.Sequential))
    )
    return is_stage and _has_weights(network, node)


def _has_weights(network: torch.nn.Module, node: Any) -> bool:
    """Return whether a node calls a module with more than one number for each unit, as normalisations have."""
    return node.op == "call_module" and any(p.ndim > 1 for p in network.get_submodule(node.target).parameters())


def _alone(nodes: Sequence[Any], place: int) -> bool:
    """Return whether only the input of a node, of all values made before it, is used from there on."""
    later = set(nodes[place:])
    used = [node for node in nodes[:place] if node.op != "get_attr" and not later.isdisjoint(node.users)]
    return used == nodes[place].all_input_nodes


def _part(network: torch.nn.Module, nodes: Sequence[Any], start: int, end: int) -> torch.nn.Module:
    """Return the nodes of one stage as a module, which shares the layers of the network."""
    import torch

    graph = torch.fx.Graph()
    known: dict[Any, Any] = {}
    if start:
        known[nodes[start].all_input_nodes[0]] = graph.placeholder("x")

    def copied(node: Any) -> Any:
        if node not in known:
            known[node] = graph.node_copy(node, copied)  # also parameters that the code asks for before the stage
        return known[node]

    for node in nodes[start:end]:
        copied(node)
    is_last = end == len(nodes) - 1
    graph.output(copied(nodes[end].args[0] if is_last else nodes[end].all_input_nodes[0]))
    return torch.fx.GraphModule(network, graph, class_name="Stage").train(network.training)
