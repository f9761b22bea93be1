"""Graphs compressed to 8 bits: close to the exact ones, small, and the same for a text in any batch."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

from onnx import TensorProto, helper, numpy_helper  # noqa: E402

from emotune.models.quantize import Profile, compressed  # noqa: E402

PROFILES: tuple[Profile, ...] = ("compact", "fast")
WORDS, HIDDEN, INNER, HEADS, LABELS = 200, 48, 96, 4, 5


class Graph:
    """An encoder graph in the making, with random weights."""

    def __init__(self, seed: int = 0) -> None:
        self.random = np.random.default_rng(seed)
        self.nodes: list[Any] = []
        self.constants: dict[str, npt.NDArray[Any]] = {}

    def constant(self, value: Any, name: str = "") -> str:
        name = name or f"constant_{len(self.constants)}"
        self.constants[name] = np.asarray(value)
        return name

    def weights(self, *shape: int, name: str = "", scale: float | None = None) -> str:
        value = self.random.standard_normal(shape) * (shape[-2] ** -0.5 if scale is None else scale)
        return self.constant(value.astype(np.float32), name)

    def add(self, kind: str, *inputs: str, **settings: Any) -> str:
        output = f"{kind}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [output], **settings))
        return output

    def linear(self, x: str, size: int, out: int) -> str:
        bias = self.weights(1, out, scale=0.1)
        self.constants[bias] = self.constants[bias][0]
        return self.add("Add", self.add("MatMul", x, self.weights(size, out)), bias)

    def normalized(self, x: str, size: int) -> str:
        gain = self.constant(self.random.uniform(0.5, 1.5, size).astype(np.float32))
        self.constants[gain][3] = 12.0  # a channel with large values, as trained encoders have
        return self.add("LayerNormalization", x, gain, self.constant(np.zeros(size, np.float32)), axis=-1)

    def heads(self, x: str, size: int, perm: list[int], count: int) -> str:
        shape = self.constant(np.array([0, 0, count, size // count]))
        return self.add("Transpose", self.add("Reshape", x, shape), perm=perm)

    def layer(self, x: str, size: int, inner: int, count: int) -> str:
        query, key, value = (self.linear(x, size, size) for _ in range(3))
        scores = self.add(
            "MatMul", self.heads(query, size, [0, 2, 1, 3], count), self.heads(key, size, [0, 2, 3, 1], count)
        )
        scores = self.add("Mul", scores, self.constant(np.float32((size // count) ** -0.5)))
        context = self.add("MatMul", self.add("Softmax", scores), self.heads(value, size, [0, 2, 1, 3], count))
        context = self.add("Transpose", context, perm=[0, 2, 1, 3])
        context = self.add("Reshape", context, self.constant(np.array([0, 0, size])))
        x = self.normalized(self.add("Add", self.linear(context, size, size), x), size)
        expanded = self.add("Gelu", self.linear(x, size, inner))
        return self.normalized(self.add("Add", self.linear(expanded, inner, size), x), size)

    def model(self, logits: str, labels: int = LABELS) -> Any:
        self.nodes[-1].output[0] = "logits"
        assert logits
        graph = helper.make_graph(
            self.nodes,
            "test",
            [helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["rows", "tokens"])],
            [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["rows", labels])],
            [numpy_helper.from_array(value, name) for name, value in self.constants.items()],
        )
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def encoder(words: int = WORDS, size: int = HIDDEN, inner: int = INNER, count: int = HEADS, layers: int = 2) -> Any:
    graph = Graph()
    x = graph.add("Gather", graph.weights(words, size, name="table", scale=1.0), "input_ids")
    x = graph.normalized(x, size)
    for _ in range(layers):
        x = graph.layer(x, size, inner, count)
    first = graph.add("Gather", x, graph.constant(np.int64(0)), axis=1)
    pooled = graph.add("Gemm", first, graph.weights(size, size), graph.constant(np.zeros(size, np.float32)), transB=1)
    pooled = graph.add("Tanh", pooled)
    return graph.model(graph.add("MatMul", pooled, graph.weights(size, LABELS, name="head")))


def run(model: Any, ids: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    logits: npt.NDArray[np.float32] = session.run(["logits"], {"input_ids": ids})[0]
    return logits


def token_ids(rows: int, tokens: int, seed: int = 1, words: int = WORDS) -> npt.NDArray[np.int64]:
    return np.random.default_rng(seed).integers(0, words, (rows, tokens))


def kinds(model: Any) -> list[str]:
    return [node.op_type for node in model.graph.node]


def constants(model: Any) -> dict[str, npt.NDArray[Any]]:
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}


def samples() -> list[dict[str, npt.NDArray[np.int64]]]:
    return [{"input_ids": token_ids(16, tokens, seed=tokens)} for tokens in (3, 9, 14)]


@pytest.mark.parametrize("profile", PROFILES)
def test_the_compressed_graph_is_close_to_the_exact_one_and_closer_with_samples(profile: Profile) -> None:
    exact, ids = encoder(), token_ids(64, 11)
    wanted = run(exact, ids)
    typical = [{"input_ids": token_ids(64, tokens, seed=tokens)} for tokens in (3, 9, 14)]
    sampled, plain = (
        np.abs(run(compressed(exact, profile, given), ids) - wanted).mean() / wanted.std() for given in (typical, ())
    )
    assert 0 < sampled < plain < 0.15


@pytest.mark.parametrize("profile", PROFILES)
def test_a_row_has_the_same_logits_in_any_batch(profile: Profile) -> None:
    model = compressed(encoder(), profile, samples())
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    random = np.random.default_rng(0)
    for tokens in (1, 7, 20):
        row = token_ids(1, tokens)
        alone = session.run(None, {"input_ids": row})[0][0]
        for size in (2, 5, 33):
            batch = np.concatenate([row, random.integers(0, WORDS, (size - 1, tokens))])
            np.testing.assert_allclose(session.run(None, {"input_ids": batch})[0][0], alone, rtol=0, atol=5e-6)


@pytest.mark.parametrize("profile", PROFILES)
def test_weights_and_tables_take_a_byte_each_and_the_last_layer_stays_exact(profile: Profile) -> None:
    exact = encoder()
    found = constants(compressed(exact, profile, samples()))
    assert found["table.int8"].dtype == np.int8
    assert "table" not in found
    np.testing.assert_array_equal(found["head"], constants(exact)["head"])
    large = [name for name, value in found.items() if value.dtype == np.float32 and value.size > 1000]
    assert large == []


@pytest.mark.parametrize("profile", PROFILES)
def test_no_two_constants_have_the_same_name(profile: Profile) -> None:
    exact = encoder()
    tensors = {tensor.name: tensor for tensor in exact.graph.initializer}
    for node in exact.graph.node:
        if node.op_type == "Add" and node.input[1] in tensors:  # the name that a bias has in graphs of BERT
            tensors[node.input[1]].name = node.input[1] = f"{node.output[0]}.bias"
    names = [tensor.name for tensor in compressed(exact, profile, samples()).graph.initializer]
    assert len(names) == len(set(names))


def test_layers_with_one_input_share_its_quantization() -> None:
    found = kinds(compressed(encoder(layers=1), "fast", samples()))
    # query, key and value; the attention's output; the two layers of the feed-forward; the pooler
    assert found.count("MatMulIntegerToFloat") == 7
    assert found.count("QuantizeLinear") == 5
    # only the GELU is measured while the graph runs
    assert found.count("ReduceMax") == 1
    assert kinds(compressed(encoder(layers=1), "fast")).count("ReduceMax") == 5


def test_the_graph_given_is_not_changed() -> None:
    exact = encoder()
    before = exact.SerializeToString()
    for profile in PROFILES:
        onnx.checker.check_model(compressed(exact, "compact"))
        assert exact.SerializeToString() == before, profile


def test_a_token_whose_values_are_all_0_gets_finite_logits() -> None:
    graph = Graph()
    x = graph.add("Gather", graph.weights(WORDS, HIDDEN, name="table"), "input_ids")
    graph.constants["table"][0] = 0
    x = graph.add("Relu", graph.add("MatMul", x, graph.weights(HIDDEN, HIDDEN)))
    x = graph.add("ReduceMax", graph.add("MatMul", x, graph.weights(HIDDEN, HIDDEN)), graph.constant([1]), keepdims=0)
    exact = graph.model(graph.add("MatMul", x, graph.weights(HIDDEN, LABELS)))
    model = compressed(exact, "fast")
    assert np.array_equal(run(model, np.zeros((2, 3), np.int64)), np.zeros((2, LABELS), np.float32))
    ids = token_ids(8, 3)
    np.testing.assert_allclose(run(model, ids), run(exact, ids), atol=0.1)


def bilstm() -> Any:
    graph, hidden = Graph(), 32
    x = graph.add("Gather", graph.weights(WORDS, HIDDEN, name="table"), "input_ids")
    weights = [
        graph.weights(2, 4 * hidden, size, name=name, scale=0.2) for name, size in (("W", HIDDEN), ("R", hidden))
    ]
    x = graph.add("Transpose", x, perm=[1, 0, 2])
    x = graph.add("LSTM", x, *weights, direction="bidirectional", hidden_size=hidden)
    x = graph.add("Transpose", x, perm=[2, 0, 1, 3])
    x = graph.add("Reshape", x, graph.constant(np.array([0, -1, 2 * hidden])))
    x = graph.add("ReduceMax", x, graph.constant([1]), keepdims=0)
    return graph.model(graph.add("MatMul", x, graph.weights(2 * hidden, LABELS)))


def test_recurrent_weights_are_stored_as_int8_only_by_compact() -> None:
    exact, ids = bilstm(), token_ids(12, 6)
    found = {profile: compressed(exact, profile) for profile in PROFILES}
    assert {"W.int8", "R.int8", "table.int8"} <= constants(found["compact"]).keys()
    assert {"W", "R", "table.int8"} <= constants(found["fast"]).keys()
    for model in found.values():
        np.testing.assert_allclose(run(model, ids), run(exact, ids), atol=0.02)


def test_a_table_with_another_use_stays_fp32() -> None:
    graph = Graph()
    table = graph.weights(WORDS, HIDDEN, name="table")
    x = graph.add("Gather", table, "input_ids")
    first = graph.add("Gather", x, graph.constant(np.int64(0)), axis=1)
    model = graph.model(graph.add("MatMul", first, graph.add("Transpose", table)), WORDS)
    for profile in PROFILES:
        assert constants(compressed(model, profile)).keys() >= {"table"}
        np.testing.assert_array_equal(run(compressed(model, profile), token_ids(2, 3)), run(model, token_ids(2, 3)))


@pytest.mark.slow
@pytest.mark.parametrize("profile", PROFILES)
def test_a_graph_of_the_size_of_minilm_has_at_most_24_mb(profile: Profile) -> None:
    exact = encoder(words=30522 + 512, size=384, inner=1536, count=12, layers=6)
    model = compressed(exact, profile, [{"input_ids": token_ids(16, 20, words=30522)}])
    assert exact.ByteSize() > 90e6
    assert model.ByteSize() <= 24e6
    ids = token_ids(16, 20, seed=2, words=30522)
    wanted = run(exact, ids)
    assert np.abs(run(model, ids) - wanted).mean() / wanted.std() < 0.05
