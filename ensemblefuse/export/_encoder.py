"""Export of the network of an encoder to one ONNX file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from ensemblefuse._optional import import_optional
from ensemblefuse._writing import check_place, write_atomically
from ensemblefuse.backbones.forward import SAME, differ_by, onnx_session, quiet_translation, to_onnx
from ensemblefuse.backbones.quantised import int8_onnx
from ensemblefuse.backbones.text_transformers import SentenceNetwork
from ensemblefuse.backbones.text_use import UniversalNetwork
from ensemblefuse.backbones.weights import PACKAGED
from ensemblefuse.encoders import ImageEncoder, TextEncoder
from ensemblefuse.exceptions import PersistenceError

__all__ = ["export_encoder_onnx"]

_NEEDED_BY = "export_encoder_onnx"


def export_encoder_onnx(encoder: Any, path: str | Path) -> Path:
    """Write the network of an encoder as ONNX: from prepared inputs to embeddings, for any number of rows.

    The preparation (decoding and resizing a picture, splitting a text into tokens) is not in the graph; the metadata of
    the file describes it. ONNX Runtime runs the graph before the file is written: in float32, its vectors must equal
    those of torch to 1e-4 of the largest number in them.

    Parameters
    ----------
    encoder : ImageEncoder or TextEncoder
        Fitted or not. With ``precision="int8"`` the file has weights of 8 bits. Then run rows one by one to get the
        vectors of the encoder: in a batch or with padding, a row gets another vector. Other precisions give float32.
    path : str or Path
        An existing file is replaced once the new one is complete.

    Returns
    -------
    Path
        The file that was written.

    Raises
    ------
    TypeError
        If `encoder` is of another class.
    ValueError
        If the encoder has no network, or its network cannot be written as ONNX.
    PersistenceError
        If the vectors of ONNX Runtime differ from those of torch; nothing is written.
    ImportError
        If onnx or onnxruntime is not installed.

    See Also
    --------
    export_onnx

    Notes
    -----
    For an `ImageEncoder`, the input is ``pixels`` of shape (n, 3, height, width), float32, as ``encoder.load(cell)``
    prepares them; height and width are those of the preparation. For a `TextEncoder`, the inputs are the results of the
    tokenizer (``input_ids``, ``attention_mask`` and, for BERT and similar networks, ``token_type_ids``), each of shape
    (n, n_tokens), int64. The output is ``embedding``, of shape (n, n_dims), float32.

    Metadata: ``ensemblefuse`` (the version), ``encoder`` (the class), ``recipe`` (JSON: parameters, preprocessing, and
    the model with its digest, as in the key of the cache), ``precision`` and, for packaged weights, ``weights`` and
    ``licence``.

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np
    >>> import onnxruntime
    >>> from ensemblefuse import ImageEncoder, export_encoder_onnx
    >>> encoder = ImageEncoder()
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     session = onnxruntime.InferenceSession(export_encoder_onnx(encoder, f"{folder}/image.onnx"))
    >>> pixels = encoder.load(np.zeros((32, 32, 3), dtype=np.uint8)).numpy()[None]
    >>> session.run(["embedding"], {"pixels": pixels})[0].shape
    (1, 1280)
    """
    path = check_place(path, "write the network")
    onnx = import_optional("onnx", extra="onnx", needed_by=_NEEDED_BY)
    import_optional("onnxruntime", extra="onnx", needed_by=_NEEDED_BY)
    if isinstance(encoder, ImageEncoder):
        data, inputs, expected = _image(encoder)
    elif isinstance(encoder, TextEncoder):
        data, inputs, expected = _text(encoder)
    else:
        raise TypeError(f"{_NEEDED_BY} takes an ImageEncoder or a TextEncoder; got {encoder!r}.")
    is_int8 = encoder.precision == "int8"
    difference = differ_by(onnx_session(data).run(None, inputs)[0], expected)
    if not difference <= SAME:
        raise PersistenceError(
            f"{_NEEDED_BY}: the vectors of ONNX Runtime differ from those of torch by {difference:.1e} of the largest "
            f"number in them, which is more than {SAME:.0e}. Nothing was written."
        )
    model = onnx.load_from_string(int8_onnx(data, needed_by=_NEEDED_BY) if is_int8 else data)
    onnx.helper.set_model_props(model, _notes(encoder, "int8" if is_int8 else "float32"))
    return write_atomically(path, model.SerializeToString())


def _image(encoder: ImageEncoder) -> tuple[bytes, dict[str, Any], np.ndarray]:
    """Return the graph, an input for it, and the output of torch for that input."""
    import torch

    if encoder.features is not None:
        raise ValueError(f"{_NEEDED_BY}: ImageEncoder(features={encoder.features!r}) has no network to write.")
    plain = ImageEncoder(**{**encoder.get_params(deep=False), "precision": "float32", "device": "cpu"})
    plain.prepare()
    network = plain._network().module
    shape = plain.load(plain.example_cell()).shape
    noise = np.random.default_rng(0).standard_normal((2, *shape), dtype=np.float32)
    batch = torch.from_numpy(noise)
    try:
        with quiet_translation():
            data = to_onnx(network, batch, ("pixels", "embedding"))
    except Exception as error:
        raise _untranslated("ImageEncoder", encoder.model, error) from error
    with torch.inference_mode():
        return data, {"pixels": noise}, network(batch).numpy()


def _text(encoder: TextEncoder) -> tuple[bytes, dict[str, Any], np.ndarray]:
    if encoder.output != "pooled":
        raise ValueError(f"{_NEEDED_BY} writes the network with its pooling; got output={encoder.output!r}.")
    plain = TextEncoder(**{**encoder.get_params(deep=False), "precision": "float32", "device": "cpu"})
    plain.prepare()
    network = plain._network()
    if isinstance(network, UniversalNetwork):
        raise ValueError(
            f"{_NEEDED_BY}: the model {encoder.model!r} has no ONNX form: it runs in numpy, in a package of its own. "
            "Encode texts with TextEncoder, and export what follows with export_onnx."
        )
    if not isinstance(network, SentenceNetwork):
        raise ValueError(f"{_NEEDED_BY}: static embeddings ({encoder.model!r}) are a table of words, not a network.")
    texts = ["a cat sleeps", "shares fell in London, and nobody had expected it"]
    try:
        data = network.onnx()
    except ValueError:
        raise
    except Exception as error:
        raise _untranslated("TextEncoder", encoder.model, error) from error
    return data, network.tokens(texts), network.encode(texts, 2)


def _untranslated(kind: str, model: Any, error: Exception) -> ValueError:
    first = (str(error).strip().splitlines() or [""])[0]
    shown = model if isinstance(model, str) else type(model).__name__
    return ValueError(
        f"{_NEEDED_BY}: the network of {kind}(model={shown!r}) has no ONNX form ({type(error).__name__}: {first})."
    )


def _notes(encoder: Any, precision: str) -> dict[str, str]:
    import ensemblefuse

    notes = {
        "ensemblefuse": ensemblefuse.__version__,
        "encoder": type(encoder).__name__,
        "recipe": json.dumps(encoder.recipe(), default=str),
        "precision": precision,
    }
    name = encoder.model.rpartition("/")[2] if isinstance(encoder.model, str) else ""
    if name in PACKAGED:
        notes |= {"weights": f"sha256:{PACKAGED[name].sha256}", "licence": PACKAGED[name].licence}
    return notes
