"""ONNX Runtime: the operator TreeEnsemble of ai.onnx.ml 5, whose thresholds, leaves, input and output are double.

The converters write float32 thresholds, and the older TreeEnsembleRegressor returns float32; so the operator's arrays
are filled here from LightGBM's text, whose nodes and leaves are numbered the same way.
"""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from benchmarks.peers.process import Predict

PACKAGES = ("onnxruntime",)
DOMAIN = "ai.onnx.ml"


def build(text: Path, kept: Path) -> None:
    inputs = [helper.make_tensor_value_info("rows", TensorProto.DOUBLE, [None, None])]
    outputs = [helper.make_tensor_value_info("scores", TensorProto.DOUBLE, [None, 1])]
    node = helper.make_node("TreeEnsemble", ["rows"], ["scores"], domain=DOMAIN, **attributes(text.read_text()))
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid(DOMAIN, 5)]
    graph = helper.make_graph([node], "forest", inputs, outputs)
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=10), kept / "forest.onnx")


def load(text: Path, kept: Path) -> Predict:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(kept / "forest.onnx", options, providers=["CPUExecutionProvider"])
    return lambda rows: session.run(["scores"], {"rows": rows})[0][:, 0]


def attributes(text: str) -> dict:
    """The operator's attributes; only for numeric splits of features that are never missing."""
    roots, nodes, leaves, first_leaf = [], [], [], 0
    for block in text.partition("\nend of trees")[0].split("\nTree=")[1:]:
        lines = dict(line.split("=", 1) for line in block.splitlines() if "=" in line)
        features, thresholds, kinds, left, right = (
            np.array(lines[name].split(), dtype)
            for name, dtype in (
                ("split_feature", int), ("threshold", float), ("decision_type", int), ("left_child", int),
                ("right_child", int),
            )
        )  # fmt: skip
        assert not (kinds & 1).any(), "a categorical split"
        roots.append(first_node := sum(len(part[0]) for part in nodes))
        places = (np.where(child < 0, first_leaf + ~child, first_node + child) for child in (left, right))
        nodes.append((features, thresholds, left < 0, right < 0, *places))
        leaves.append(np.array(lines["leaf_value"].split(), float))
        first_leaf += len(leaves[-1])
    features, thresholds, left_is_leaf, right_is_leaf, left, right = map(np.concatenate, zip(*nodes, strict=True))
    return {
        "tree_roots": roots,
        "nodes_featureids": features,
        "nodes_splits": numpy_helper.from_array(thresholds),
        "nodes_modes": numpy_helper.from_array(np.zeros(len(thresholds), np.uint8)),  # BRANCH_LEQ
        "nodes_truenodeids": left,
        "nodes_trueleafs": left_is_leaf.astype(int),
        "nodes_falsenodeids": right,
        "nodes_falseleafs": right_is_leaf.astype(int),
        "leaf_weights": numpy_helper.from_array(np.concatenate(leaves)),
        "leaf_targetids": np.zeros(first_leaf, int),
        "n_targets": 1,
    }
