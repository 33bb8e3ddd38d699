"""Builder of ONNX graphs with the notation of numpy."""

from __future__ import annotations

from copy import copy
from typing import Any

import numpy as np
from sklearn.base import is_classifier
from sklearn.ensemble._forest import BaseForest
from sklearn.tree import BaseDecisionTree

from ensemblefuse._optional import import_optional

__all__ = ["DOUBLE", "FLOAT", "INT64", "STRING", "TREES", "Graph", "Value", "where"]

# Constants of onnx.TensorProto, which is imported only when needed.
FLOAT, INT64, STRING, DOUBLE = 1, 7, 8, 11

# ReduceMax takes its axes as an input since opset 18; every release of ONNX Runtime since 1.14 supports it.
_OPSET = {"": 18, "ai.onnx.ml": 3}
_IR_VERSION = 8
# Trees of scikit-learn that take NaN; they do so since versions 1.3 to 1.6.
TREES = (BaseDecisionTree, BaseForest)
_OF_A_CLASSIFIER = {"nocl": [True, False], "zipmap": [True, False, "columns"]}


class Value:
    """The output of a node. Numbers and arrays in an operation become constants: int64 if int arrays, else float64."""

    def __init__(self, graph: Graph, name: str):
        self.graph, self.name = graph, name

    def op(self, kind: str, *others: Any, **attributes: Any) -> Value:
        return self.graph.op(kind, self, *others, **attributes)

    def __add__(self, other: Any) -> Value:
        return self.op("Add", other)

    def __sub__(self, other: Any) -> Value:
        return self.op("Sub", other)

    def __mul__(self, other: Any) -> Value:
        return self.op("Mul", other)

    def __truediv__(self, other: Any) -> Value:
        return self.op("Div", other)

    def __matmul__(self, other: Any) -> Value:
        return self.op("MatMul", other)

    def __neg__(self) -> Value:
        return self.op("Neg")

    def __and__(self, other: Any) -> Value:
        return self.op("And", other)

    def __or__(self, other: Any) -> Value:
        return self.op("Or", other)

    def __invert__(self) -> Value:
        return self.op("Not")

    def __gt__(self, other: Any) -> Value:
        return self.op("Greater", other)

    def equals(self, other: Any) -> Value:
        return self.op("Equal", other)

    def at_least(self, floor: float) -> Value:
        return self.op("Max", floor)

    def log(self) -> Value:
        return self.op("Log")

    def exp(self) -> Value:
        return self.op("Exp")

    def softmax(self) -> Value:
        return self.op("Softmax", axis=-1)

    def sum(self, axis: int = 1) -> Value:
        return self.op("ReduceSum", np.array([axis]), keepdims=1)

    def max(self, axis: int = 1) -> Value:
        return self.op("ReduceMax", np.array([axis]), keepdims=1)

    def min(self, axis: int = 1) -> Value:
        return self.op("ReduceMin", np.array([axis]), keepdims=1)

    def any(self) -> Value:
        """Return whether any number of a row is true: shape (n, 1)."""
        return self.number().sum() > 0.0

    def number(self) -> Value:
        """Return booleans, integers or float32 as float64."""
        return self.op("Cast", to=DOUBLE)

    def columns(self, positions: Any) -> Value:
        return self.op("Gather", np.asarray(positions, dtype=np.int64), axis=1)


class Graph:
    """Nodes, constants and inputs of one model.

    Parameters
    ----------
    needed_by : str
        The function that the user called, for messages.
    """

    def __init__(self, needed_by: str):
        self.needed_by = needed_by
        self._onnx = import_optional("onnx", extra="onnx", needed_by=needed_by)
        self._nodes: list[Any] = []
        self._constants: list[Any] = []
        self._inputs: list[Any] = []
        self._count = 0

    def _name(self) -> str:
        self._count += 1
        return f"ensemblefuse__{self._count}"  # not the name of an input: block names from columns contain no "__"

    def input(self, name: str, width: int) -> Value:
        """Add an input, a float32 table with any number of rows, and return it as float64."""
        self._inputs.append(self._onnx.helper.make_tensor_value_info(name, FLOAT, ["n", width]))
        return Value(self, name).number()

    def constant(self, value: Any) -> Value:
        """Add a constant: numbers become float64, arrays of integers stay integers."""
        array = np.asarray(value)
        if array.dtype.kind == "f" or isinstance(value, int):
            array = array.astype(float)
        name = self._name()
        self._constants.append(self._onnx.numpy_helper.from_array(np.ascontiguousarray(array), name))
        return Value(self, name)

    def op(self, kind: str, *inputs: Any, **attributes: Any) -> Value:
        """Add one node of a standard operator."""
        names = [value.name if isinstance(value, Value) else self.constant(value).name for value in inputs]
        out = self._name()
        self._nodes.append(self._onnx.helper.make_node(kind, names, [out], **attributes))
        return Value(self, out)

    def concat(self, values: list[Value], axis: int = 1) -> Value:
        return values[0] if len(values) == 1 else self.op("Concat", *values, axis=axis)

    def embed(self, estimator: Any, x: Value, width: int, **options: Any) -> list[Value]:
        """Return the outputs of an estimator that skl2onnx or onnxmltools converts; it computes in float32.

        Trees and forests send NaN into the same branch as scikit-learn does; skl2onnx alone does not.

        Raises
        ------
        Exception
            Any error of these packages for an estimator that they do not convert.
        """
        skl2onnx = import_optional("skl2onnx", extra="onnx", needed_by=self.needed_by)
        if any(base.__module__.split(".")[0] == "xgboost" for base in type(estimator).__mro__):
            _register_xgboost(self.needed_by)
        from skl2onnx.common.data_types import FloatTensorType

        model = skl2onnx.convert_sklearn(
            estimator,
            initial_types=[("x", FloatTensorType([None, width]))],
            options={id(estimator): options} if options else None,
            target_opset=_OPSET,
        )
        if isinstance(estimator, TREES):
            self._send_nan(model, estimator)
        prefix = f"{self._name()}_"
        model = self._onnx.compose.add_prefix(self._at_this_opset(model), prefix)
        self._nodes.append(self._onnx.helper.make_node("Cast", [x.name], [f"{prefix}x"], to=FLOAT))
        self._nodes += model.graph.node
        self._constants += model.graph.initializer
        return [Value(self, output.name) for output in model.graph.output]

    def _send_nan(self, model: Any, estimator: Any) -> None:
        trees = estimator.estimators_ if isinstance(estimator, BaseForest) else [estimator]
        left = np.concatenate([tree.tree_.__getstate__()["nodes"]["missing_go_to_left"] for tree in trees])
        name = "nodes_missing_value_tracks_true"
        for node in model.graph.node:
            for attribute in node.attribute:
                if attribute.name == name:
                    if len(attribute.ints) != len(left):
                        raise ValueError(f"its {len(left)} nodes became {len(attribute.ints)}")
                    attribute.CopyFrom(self._onnx.helper.make_attribute(name, left.astype(int).tolist()))

    def _at_this_opset(self, model: Any) -> Any:
        """Convert a model to this opset: a converter uses the oldest opset of its operators, some of which changed."""
        versions = {entry.domain: entry.version for entry in model.opset_import}
        schema = self._onnx.defs.get_schema
        for node in model.graph.node:
            old, new = versions[node.domain], _OPSET[node.domain]
            if schema(node.op_type, old, node.domain) is None:
                raise ValueError(f"{node.op_type} is not an operator of ONNX")
            if schema(node.op_type, old, node.domain).since_version != (
                schema(node.op_type, new, node.domain).since_version
            ):
                return self._onnx.version_converter.convert_version(model, _OPSET[""])
        return model

    def finish(self, outputs: dict[str, tuple[Value, int, list[Any]]], notes: dict[str, str]) -> bytes:
        """Return the model as bytes.

        Parameters
        ----------
        outputs : dict of str to (value, type of its numbers, shape)
        notes : dict of str to str
            Metadata of the file.
        """
        helper = self._onnx.helper
        nodes = [*self._nodes, *(helper.make_node("Identity", [v.name], [name]) for name, (v, _, _) in outputs.items())]
        infos = [helper.make_tensor_value_info(name, kind, shape) for name, (_, kind, shape) in outputs.items()]
        graph = helper.make_graph(nodes, "fusion", self._inputs, infos, self._constants)
        opsets = [helper.make_opsetid(domain, version) for domain, version in _OPSET.items()]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=_IR_VERSION, producer_name="ensemblefuse")
        helper.set_model_props(model, notes)
        return model.SerializeToString()


def where(condition: Value, a: Any, b: Any) -> Value:
    return condition.op("Where", a, b)


def _register_xgboost(needed_by: str) -> None:
    """Register XGBoost's estimators with skl2onnx, so that they may also be inside estimators of scikit-learn."""
    import_optional("onnxmltools", extra="onnx", needed_by=needed_by)
    import xgboost
    from skl2onnx import update_registered_converter
    from skl2onnx.common.shape_calculator import (
        calculate_linear_classifier_output_shapes,
        calculate_linear_regressor_output_shapes,
    )

    for kind, shapes, options in (
        (xgboost.XGBClassifier, calculate_linear_classifier_output_shapes, _OF_A_CLASSIFIER),
        (xgboost.XGBRFClassifier, calculate_linear_classifier_output_shapes, _OF_A_CLASSIFIER),
        (xgboost.XGBRegressor, calculate_linear_regressor_output_shapes, None),
        (xgboost.XGBRFRegressor, calculate_linear_regressor_output_shapes, None),
    ):
        update_registered_converter(kind, kind.__name__, shapes, _convert_xgboost, options=options)


def _convert_xgboost(scope: Any, operator: Any, container: Any) -> None:
    """Convert an XGBoost model as onnxmltools does, and mend what it gets wrong for several trees a round.

    It takes tree i for one of class i modulo the number of classes. With several trees a round, those of a class stand
    side by side. For two classes it takes the trees of a round for those of several classes.
    """
    from onnxmltools.convert.xgboost.operator_converters.XGBoost import convert_xgboost

    model = operator.raw_operator
    together = int(model.get_xgb_params().get("num_parallel_tree") or 1)
    if together > 1 and hasattr(model, "best_iteration"):  # of a fit that stopped early
        raise ValueError("onnxmltools counts the trees of a round as one where fit stopped early")
    if together > 1 and is_classifier(model):
        operator.raw_operator = copy(model)
        operator.raw_operator.n_estimators = model.get_booster().num_boosted_rounds() * together
    first = len(container.nodes)
    try:
        convert_xgboost(scope, operator, container)
    finally:
        operator.raw_operator = model
    n_classes = len(model.classes_) if is_classifier(model) else 0
    if together > 1 and n_classes > 2:
        for node in container.nodes[first:]:
            held = {attribute.name: attribute for attribute in node.attribute}
            if "class_ids" in held:
                trees = np.asarray(held["class_treeids"].ints)
                held["class_ids"].ints[:] = (trees // together % n_classes).tolist()
