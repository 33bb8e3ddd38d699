"""Pictures to vectors with a frozen, pretrained network. Floor 2; never imports `fusion`."""

from __future__ import annotations

import os
from typing import Any, ClassVar

import numpy as np

from ensemblefuse.encoders._backbones import build_network, find_backbone, find_transform, list_backbones
from ensemblefuse.encoders._base import BaseEncoder
from ensemblefuse.encoders._image_cell import read_rgb
from ensemblefuse.encoders._torch import resolve_device, shared_network

__all__ = ["ImageEncoder", "list_backbones"]

# What stays in the processor's cache: EfficientNet-Lite0 on 2 threads takes 9 ms an image in fours, 21 in 32s.
_CPU_CHUNK = 4


class ImageEncoder(BaseEncoder):
    """Embed images with a pretrained network: what its classifier sees. Fitting trains nothing.

    The embedding is the input of the network's last layer. Pictures are read as a person would see them: turned
    upright by their EXIF record, transparent parts on white, 16 bits scaled to 8, the first frame of an animation.

    Parameters
    ----------
    model : str, default="efficientnet_lite0"
        A name of `list_backbones`. The default, EfficientNet-Lite0 (Tan and Le, 2019 [1]_; trained on ImageNet,
        Apache-2.0), comes inside an installed package; the others are torchvision's.
    weights : str or path, default="DEFAULT"
        A weights name of torchvision, such as ``"IMAGENET1K_V1"``: taken from torch hub's folder, or downloaded
        into it. Or the path of a state dict (.pth, .pt, .safetensors) for `model`, whatever its number of classes;
        pictures are then prepared as for ``"DEFAULT"``.
    device : str, default="auto"
        ``"auto"`` takes CUDA, then Apple's MPS, then the CPU. Not part of the cache key.
    batch_size : int, default=32
        Pictures that go through the network at once. Not part of the cache key.
    on_error : {"raise", "missing"}, default="raise"
        What to do with a picture that cannot be read: one error that lists all of them, or a row of NaN and one
        `MissingModalityWarning`.

    Attributes
    ----------
    n_dims_ : int
        Length of an embedding: 1280 for the default, 2048 for ``"resnet50"``.
    n_features_in_, feature_names_in_
        As in scikit-learn.

    Raises
    ------
    ValueError
        From `fit` and `transform`: unknown model or weights, a device that is not there, a file of weights that is
        damaged or belongs to another network.
    FileNotFoundError
        From `fit` and `transform`: weights that are neither here nor can be downloaded.

    See Also
    --------
    list_backbones : The names that `model` takes.

    Notes
    -----
    A cell is a path (str or path-like), the bytes of a file, a PIL image, or an array of shape (height, width),
    (height, width, 1), (height, width, 3) or (height, width, 4), of uint8, uint16 or floats in [0, 1]. An array and a
    file of the same pixels have the same embedding, but not the same cache key.

    References
    ----------
    .. [1] M. Tan and Q. V. Le. EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks. ICML 2019.

    Examples
    --------
    >>> import numpy as np
    >>> from ensemblefuse import ImageEncoder
    >>> red = np.zeros((32, 32, 3), dtype=np.uint8)
    >>> red[:, :, 0] = 255
    >>> embeddings = ImageEncoder().fit_transform({"photo": [red, None, red[::2]]})
    >>> embeddings.shape, np.isnan(embeddings).all(axis=1)
    ((3, 1280), array([False,  True, False]))
    """

    strings_are_paths: ClassVar[bool] = True

    def __init__(
        self,
        model: str = "efficientnet_lite0",
        *,
        weights: str | os.PathLike[str] = "DEFAULT",
        device: str = "auto",
        batch_size: int = 32,
        on_error: str = "raise",
    ):
        self.model = model
        self.weights = weights
        self.device = device
        self.batch_size = batch_size
        self.on_error = on_error

    def load(self, cell: Any) -> Any:
        """Read one picture and prepare it as the weights want it.

        Parameters
        ----------
        cell : str, path, bytes, PIL image or array

        Returns
        -------
        torch.Tensor of shape (3, height, width), dtype float32
            On the CPU.

        Raises
        ------
        OSError, ValueError, TypeError
            If the cell is not a picture that can be read whole.
        """
        return find_transform(self.model, self.weights)(read_rgb(cell))

    def encode_batch(self, items: list[Any]) -> np.ndarray:
        """Embed prepared pictures.

        Parameters
        ----------
        items : list of torch.Tensor of shape (3, height, width), dtype float32

        Returns
        -------
        ndarray of shape (len(items), n_dims), dtype float32
        """
        import torch

        network, n_dims, device = self._network()
        with torch.inference_mode():
            chunks = torch.stack(items).split(_CPU_CHUNK if device == "cpu" else len(items))
            parts = [network(chunk.to(device=device, memory_format=torch.channels_last)).cpu() for chunk in chunks]
            vectors = torch.cat(parts).numpy()
        assert vectors.shape == (len(items), n_dims), (vectors.shape, n_dims)
        return vectors

    def example_cell(self) -> Any:
        """See `BaseEncoder.example_cell`."""
        return np.zeros((8, 8, 3), dtype=np.uint8)

    def prepare(self) -> None:
        """Check the parameters and load the network, once a process for one file of weights and device."""
        self._network()

    def recipe(self) -> dict[str, Any] | None:
        """What the embeddings depend on: class, version, model, digest of the weights, preprocessing.

        Returns
        -------
        dict
            No path in it: the same weights in another place make the same embeddings.
        """
        self._batch_size()
        if self.device not in ("auto", "cpu"):  # these two always work; asking torch costs seconds of import
            resolve_device(self.device, needed_by=type(self).__name__)
        backbone = find_backbone(self.model, self.weights)
        recipe = super().recipe()
        if recipe is not None:
            recipe["params"] |= {"weights": backbone.digest, "preprocessing": backbone.preprocessing}
        return recipe

    def _network(self) -> tuple[Any, int, str]:
        backbone = find_backbone(self.model, self.weights)
        device = resolve_device(self.device, needed_by=type(self).__name__)
        key = ("image", backbone.model, backbone.digest, device)
        network, n_dims = shared_network(key, lambda: build_network(backbone, device))
        return network, n_dims, device
