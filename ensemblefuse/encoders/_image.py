"""The encoder of pictures: a frozen network, or classical features. Never imports `fusion`."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pandas as pd
from PIL import Image, ImageColor

from ensemblefuse._torch import resolve_device
from ensemblefuse.backbones.feature_map import last_map
from ensemblefuse.backbones.forward import BACKENDS, PRECISIONS, Forward, check_choice, resolve_precision
from ensemblefuse.backbones.image_model import find_image_model
from ensemblefuse.backbones.image_module import ModuleModel, object_token
from ensemblefuse.backbones.image_network import OUTPUTS, ImageModel, ImageNetwork, Preparation, did_you_mean
from ensemblefuse.backbones.image_torchvision import list_backbones
from ensemblefuse.backbones.quantised import Int8Forward
from ensemblefuse.backbones.weights import WeightsSource
from ensemblefuse.cells.image import MAX_PIXELS, read_rgb
from ensemblefuse.encoders._base import BaseEncoder
from ensemblefuse.encoders._image_features import IMAGE_FEATURES, SIDE, image_features
from ensemblefuse.exceptions import reason_of
from ensemblefuse.table import lists_again

if TYPE_CHECKING:
    import torch

__all__ = ["ImageEncoder", "list_backbones"]

# Pictures per batch for batch_size="auto". On a CPU, larger batches are not faster.
_CPU_BATCH_SIZE = 32
_GPU_BATCH_SIZE = 128
_POOLS = ("mean", "max")
# Errors that are caused by the machine, the installation or the code, not by one picture in a cell.
_NOT_OF_THE_CELL = (ImportError, MemoryError, NameError, NotImplementedError)


class ImageEncoder(BaseEncoder):
    """Embed images with a pretrained network, or with features that need no weights. Fitting trains nothing.

    Pictures are read as a viewer shows them: turned upright by their EXIF record, with transparent parts on a
    background, and with 16 bits scaled to 8. Colour profiles are not applied. A cell may hold several pictures; their
    vectors are pooled to one.

    Parameters
    ----------
    model : str, path or torch.nn.Module, default="efficientnet_lite0"
        - A name of `list_backbones`. The default, EfficientNet-Lite0 (Tan and Le, 2019 [1]_; trained on ImageNet,
          Apache-2.0), is part of an installed package; the others are torchvision's.
        - ``"timm/<name>"``, any network of timm, such as ``"timm/deit_tiny_patch16_224"``. Its weights are taken from
          `weights` or from the local Hugging Face cache.
        - A folder (str with a separator, or path) that transformers or timm saved: DeiT, ViT, DINOv2, CLIP and others,
          with the folder's own preprocessing. Or ``"org/name"`` in the local Hugging Face cache.
        - Your own `torch.nn.Module`, from (n, 3, height, width) to (n, n_dims). It is copied and used in ``eval()``
          mode. Its cache key consists of its tensors, attributes and code; if one of them cannot be hashed, nothing is
          cached. The encoder's pickle then holds the whole network, and `save_model` refuses it.

        Only torchvision's own weights are ever downloaded, and code that comes with a model is not run. Not used, and
        not checked, if `features` is given.
    weights : str or path, default="DEFAULT"
        The name of weights of torchvision, such as ``"IMAGENET1K_V1"``: they are taken from torch hub's folder, or
        downloaded into it. Or the path of a state dict (.pth, .pt, .safetensors) for a network of torchvision or timm,
        with any number of classes; pictures are then prepared as for ``"DEFAULT"``.
    output : {"pooled", "tokens", "cls"}, default="pooled"
        ``"pooled"`` is the input of the network's classifier. For a folder of transformers it is the projection into
        the space that CLIP and similar networks share with texts; without one it is the pooler's output; without a
        pooler in the checkpoint it is the class token. ``"tokens"`` is the mean over the patch tokens of the last
        layer, without class, distillation and register tokens; for a convolutional network, the mean over the
        positions of the last feature map (one vector, unlike those of `TextEncoder`). ``"cls"`` is the class token of
        the last layer.
    features : {None, "color", "hog", "lbp"}, default=None
        Features without weights instead of a network, from the whole picture at 128 x 128 pixels: ``"color"``, 73
        numbers, a histogram of the RGB cube in 4 x 4 x 4 cells and three moments per channel; ``"hog"``, 1764 numbers,
        histograms of oriented gradients [2]_; ``"lbp"``, 54 numbers, local binary patterns at three radii [3]_. The
        last two need scikit-image.
    pool : {"mean", "max"}, default="mean"
        How the vectors of several pictures in a cell are combined to one, number by number.
    preprocess : callable or None, default=None
        From an RGB PIL image to a float32 tensor of shape (3, height, width); it is called from several threads. None
        prepares pictures as the weights require. For your own module it prepares them as for most ImageNet networks:
        short side to 256, central 224 x 224, ImageNet's mean and standard deviation.
    background : str or tuple of 3 int, default="white"
        Colour behind transparent parts: a colour name of Pillow, ``"#rrggbb"``, or red, green and blue up to 255.
    frame : int, default=0
        Frame of an animation, or page of a TIFF; -1 is the last. A file without this frame is a bad row. For PIL images
        and arrays it is ignored.
    max_pixels : int, default=178956970
        A file whose header gives more pixels is a bad row and is not decoded. The default is Pillow's own limit. In an
        animation, all frames up to the one that is read count. Where decoding is slow, a pixel counts several times:
        JPEG 2000 4, QOI, uncompressed DDS, plain PPM and run-length BMP 8, a progressive JPEG of n scans n / 16.
    device : str or list of str, default="auto"
        ``"auto"`` takes CUDA, then Apple's MPS, then the CPU. A list such as ``["cuda:0", "cuda:1"]`` splits every
        batch between copies of the network. Not part of the cache key.
    backend : {"auto", "torch", "torch.compile", "onnxruntime", "openvino"}, default="auto"
        The library that runs the network. ``"auto"`` is torch on a GPU. On a CPU it begins with torch. If installed
        (``pip install "ensemblefuse[onnx]"``, ``"ensemblefuse[openvino]"``), ONNX Runtime is tried after 32 pictures
        and OpenVINO after 512, each on one of your batches; the fastest is used from then on. A backend is not used if
        its vectors differ from torch's by more than 1e-4 of their largest number. So it is not part of the cache key.
        Your own module stays in torch unless you name a backend, because a translation records the path of one batch
        through its code. In the child of a fork, all networks stay in torch.
    precision : {"float32", "auto", "bfloat16", "float16", "int8"}, default="float32"
        The 16-bit precisions use torch's autocast, and are part of the cache key. If vectors of noise differ from those
        in float32 by over 2 % of their largest number, float32 is used, with a warning. ``"auto"`` is float16 on CUDA
        and float32 elsewhere: a CPU then does not use vectors that a GPU has cached. ``"int8"`` is for transformers on
        a CPU: ONNX Runtime with 8-bit weights, part of the cache key. Pictures then go through the network one by one.
    batch_size : int or "auto", default="auto"
        Number of pictures that go through the network at once; ``"auto"`` is 32 on a CPU and 128 on a GPU. If the
        memory is too small, it is halved, with a warning. Not part of the cache key.
    on_error : {"raise", "missing"}, default="raise"
        What to do with cells that cannot be read: raise one error that lists all of them, or return rows of NaN with
        one `MissingModalityWarning`.

    Attributes
    ----------
    n_dims_ : int
        Length of an embedding: 1280 for the default, 2048 for ``"resnet50"``.
    n_features_in_, feature_names_in_
        As in scikit-learn.

    Raises
    ------
    ValueError
        From `fit` and `transform`, if the model or the weights are unknown, the device does not exist, or a file of
        weights is damaged or belongs to another network.
    FileNotFoundError
        From `fit` and `transform`, if the weights are not on this machine and cannot be downloaded.
    ImportError
        From `fit` and `transform`, if timm, transformers or scikit-image is needed and not installed.

    See Also
    --------
    list_backbones : The names of networks for `model`.

    Notes
    -----
    A cell is a path (str or path-like), the bytes of a file, a PIL image, or an array of shape (height, width),
    (height, width, 1), (height, width, 3) or (height, width, 4), of uint8, uint16 or floats in [0, 1]; or a list or
    tuple of these. An array and a file of the same pixels have the same embedding, but not the same cache key. One
    unreadable picture makes its whole row bad, and the reason gives its number; so does None in a list. An empty list
    is a bad row too: use None for a missing cell.

    Formats are recognised by content, not by name: AVIF, BMP, DDS, GIF, ICNS, ICO, JPEG, JPEG 2000, PCX, PNG, PPM, PSD
    (flattened), QOI, SGI, TGA, TIFF, WebP, and HEIF if a plugin of Pillow is registered. Drawings (SVG, PDF, EPS)
    must be rasterised first. Files of 16-bit integers are taken as 0 to 65535, files of floats must lie in [0, 1].

    A file that Pillow would decode to other pixels is a bad row. These are a TIFF of signed or 32-bit integers, of 16
    bits in planes, or with a fourth sample without a meaning; a JPEG 2000 of other than 8 bits a channel (grey of 10 to
    16 bits is read), with a palette, or with channels without a meaning; and a PNG of 16 bits with one transparent
    colour. A PIL image is taken as the pixels that it holds.

    A JPEG photo of at least four times the size that the preprocessing needs is decoded at a half, a quarter or an
    eighth of its size, so that at least twice the needed size remains. This depends only on the file and the
    preprocessing. With your own `preprocess`, files are decoded in full.

    References
    ----------
    .. [1] M. Tan and Q. V. Le. EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks. ICML 2019.
    .. [2] N. Dalal and B. Triggs. Histograms of Oriented Gradients for Human Detection. CVPR 2005.
    .. [3] T. Ojala, M. Pietikäinen and T. Mäenpää. Multiresolution Gray-Scale and Rotation Invariant Texture
       Classification with Local Binary Patterns. IEEE PAMI, 2002.

    Examples
    --------
    >>> import numpy as np
    >>> from ensemblefuse import ImageEncoder
    >>> red = np.zeros((32, 32, 3), dtype=np.uint8)
    >>> red[:, :, 0] = 255
    >>> embeddings = ImageEncoder().fit_transform({"photo": [red, None, red[::2]]})
    >>> embeddings.shape, np.isnan(embeddings).all(axis=1)
    ((3, 1280), array([False,  True, False]))
    >>> ImageEncoder(features="color").fit_transform({"photos": [[red, 255 - red], red]})[:, 64:67]
    array([[0.5, 0.5, 0.5],
           [1. , 0. , 0. ]], dtype=float32)
    """

    version: ClassVar[int] = 2
    strings_are_paths: ClassVar[bool] = True
    loads_in_threads: ClassVar[bool] = True
    # `recipe` writes the values that these stand for instead.
    neutral_params: ClassVar[frozenset[str]] = BaseEncoder.neutral_params | {
        *("model", "weights", "output", "features", "preprocess", "background", "backend")
    }

    def __init__(
        self,
        model: Any = "efficientnet_lite0",
        *,
        weights: str | os.PathLike[str] = "DEFAULT",
        output: str = "pooled",
        features: str | None = None,
        pool: str = "mean",
        preprocess: Any = None,
        background: str | tuple[int, int, int] = "white",
        frame: int = 0,
        max_pixels: int = MAX_PIXELS,
        device: str | list[str] = "auto",
        backend: str = "auto",
        precision: str = "float32",
        batch_size: int | str = "auto",
        on_error: str = "raise",
    ):
        self.model = model
        self.weights = weights
        self.output = output
        self.features = features
        self.pool = pool
        self.preprocess = preprocess
        self.background = background
        self.frame = frame
        self.max_pixels = max_pixels
        self.device = device
        self.backend = backend
        self.precision = precision
        self.batch_size = batch_size
        self.on_error = on_error

    def cells(self, X: pd.DataFrame) -> list[Any]:
        """Return the cells of the one column. An array of names, as polars and Parquet give it, becomes a list.

        The digest of an array of names would be that of the names, not of the files.
        """
        return lists_again(super().cells(X))

    def load(self, cell: Any) -> Any:
        """Read the pictures of a cell and prepare them as the weights require.

        Parameters
        ----------
        cell : str, path, bytes, PIL image or array, or list or tuple of these

        Returns
        -------
        torch.Tensor of shape (3, height, width), dtype float32
            On the CPU. With `features`, an ndarray of shape (n_dims,). If the cell is a list, a list of these.

        Raises
        ------
        OSError, ValueError, TypeError
            If a picture of the cell cannot be read whole, or the cell is an empty list.
        """
        return self._each(cell, self._load_one)

    def probe(self, cell: Any) -> None:
        """Decode the pictures of a cell, photos at a fraction of their size; see `BaseEncoder.probe`."""
        self._each(cell, lambda picture: self._read(picture, 1))

    def _each(self, cell: Any, read: Callable[[Any], Any]) -> Any:
        """Apply a function to the picture of a cell, or to each of a list; the reason of an error has its number."""
        if not isinstance(cell, (list, tuple)):
            return read(cell)
        if not len(cell):
            raise ValueError("an empty list of pictures; use None for a missing cell")
        done = []
        for i, picture in enumerate(cell):
            try:
                done.append(read(picture))
            except _NOT_OF_THE_CELL:
                raise
            except Exception as error:
                raise ValueError(f"picture {i} of {len(cell)} (from 0): {reason_of(error)}") from error
        return done

    def encode_batch(self, items: list[Any]) -> np.ndarray:
        """Embed prepared pictures, and pool the vectors of each cell.

        Parameters
        ----------
        items : list of torch.Tensor of shape (3, height, width), dtype float32, or of lists of these

        Returns
        -------
        ndarray of shape (len(items), n_dims), dtype float32
        """
        groups = [item if isinstance(item, list) else [item] for item in items]
        flat = [picture for group in groups for picture in group]
        vectors = np.stack(flat) if self.features is not None else self._embed_all(flat)
        if len(flat) == len(items):
            return vectors
        pool: Any = np.max if self.pool == "max" else np.mean
        ends = np.cumsum([len(group) for group in groups])
        return np.stack([pool(part, axis=0) for part in np.split(vectors, ends[:-1])])

    def example_cell(self) -> Any:
        """See `BaseEncoder.example_cell`."""
        return np.zeros((8, 8, 3), dtype=np.uint8)

    def prepare(self) -> None:
        """Check the parameters and load the network, once per process for each file of weights and device."""
        self._check_params()
        if self.features is None:
            self._forward(self._network(fresh=True))

    def place(self) -> str:
        """See `BaseEncoder.place`."""
        if self.features is not None:
            return "cpu"
        forward = self._forward(self._network())
        parts = [", ".join(forward.devices), "" if forward.backend == "torch" else forward.backend, forward.precision]
        return ", ".join(part for part in parts if part not in ("", "float32"))

    def recipe(self) -> dict[str, Any] | None:
        """Return what the embeddings depend on: class, version, and the network with its preprocessing or the features.

        Returns
        -------
        dict or None
            It contains no path: the same weights in another place make the same embeddings. None if `model` or
            `preprocess` is the user's own object and cannot be hashed.
        """
        self._check_params()
        recipe = super().recipe()
        if recipe is None:
            return None
        del recipe["params"]["precision"]  # the value that "auto" stands for is added below
        recipe["params"]["background"] = list(_colour(self.background))
        if self.features is not None:
            recipe["params"]["features"] = self.features
            return recipe
        token = self._model().token()
        if token is not None and self.preprocess is not None:
            token = token | {"preprocessing": object_token(self.preprocess)}
            token = None if token["preprocessing"] is None else token
        if token is None:
            return None
        recipe["params"] |= {**token, "output": self.output}
        device = self.device if isinstance(self.device, str) else self.device[0]
        if (precision := resolve_precision(self.precision, device)) != "float32":
            recipe["params"]["precision"] = precision
        return recipe

    def as_seen(self, cell: Any) -> np.ndarray:
        """Return a picture as the network sees it, of shape (3, height, width), dtype float32."""
        return self.load(cell).numpy()

    def feature_maps(self, cell: Any) -> tuple[Any, list[Any], np.ndarray]:
        """Return the vector of a picture, and the last map of the network that it is computed from.

        Parameters
        ----------
        cell : str, path, bytes, PIL image or array

        Returns
        -------
        vector : torch.Tensor of shape (1, n_dims)
        maps : list of one torch.Tensor of shape (1, channels, height, width)
            Both with their autograd graph.
        seen : ndarray of shape (3, height, width)
            See `as_seen`.

        Raises
        ------
        ValueError
            If the network does not end in such a map.
        """
        import torch

        self.prepare()
        seen = self.as_seen(cell)
        vector, last = last_map(self._network().module, torch.from_numpy(seen)[None].to(self._devices()[0]))
        return vector, [last], seen

    def weights_sources(self) -> list[WeightsSource]:
        """See `BaseEncoder.weights_sources`."""
        return [] if self.features is not None else self._model().sources(type(self).__name__)

    def _check_params(self) -> None:
        if self.batch_size != "auto":
            self._batch_size()
        _check_choice("pool", self.pool, _POOLS)
        _check_choice("output", self.output, OUTPUTS)
        _colour(self.background)
        _check_whole("frame", self.frame)
        _check_whole("max_pixels", self.max_pixels, least=1)
        if self.features is not None:
            _check_choice("features", self.features, IMAGE_FEATURES)
            return
        if self.preprocess is not None and not callable(self.preprocess):
            raise TypeError(f"ImageEncoder: preprocess must be None or a callable; got {self.preprocess!r}.")
        check_choice("backend", self.backend, BACKENDS, type(self).__name__)
        check_choice("precision", self.precision, PRECISIONS, type(self).__name__)
        if self.precision == "int8" and not (
            self.backend in ("auto", "onnxruntime") and self.device in ("auto", "cpu")
        ):
            raise ValueError(
                'ImageEncoder: precision="int8" runs by backend="onnxruntime" on device="cpu" only; got '
                f"backend={self.backend!r}, device={self.device!r}."
            )
        if self.device not in ("auto", "cpu"):  # these two always work, and importing torch takes seconds
            self._devices()

    def _model(self) -> ImageModel:
        return find_image_model(self.model, self.weights, self.output)

    def _load_one(self, picture: Any) -> Any:
        if self.features is not None:
            return image_features(self._read(picture, SIDE), self.features)
        if self.preprocess is not None:
            return _checked_tensor(self.preprocess(self._read(picture, None)))
        preparation = self._model().preparation()
        return preparation.transform(self._read(picture, preparation.short_side))

    def _read(self, picture: Any, short_side: int | None) -> Image.Image:
        colour = _colour(self.background)
        return read_rgb(picture, background=colour, frame=self.frame, max_pixels=self.max_pixels, short_side=short_side)

    def _embed_all(self, pictures: list[torch.Tensor]) -> np.ndarray:
        """Return the vectors of prepared pictures, of any number and shapes."""
        import torch

        network = self._network()
        forward = self._forward(network)
        out = np.empty((len(pictures), network.n_dims), dtype=np.float32)
        places: dict[Any, list[int]] = {}
        for i, picture in enumerate(pictures):
            places.setdefault(tuple(picture.shape), []).append(i)
        size = self._batch_size()
        for same in places.values():
            for start in range(0, len(same), size):
                rows = same[start : start + size]
                out[rows] = forward(torch.stack([pictures[i] for i in rows]))
        return out

    def _devices(self) -> tuple[str, ...]:
        if self.precision == "int8":
            return ("cpu",)
        devices = [self.device] if isinstance(self.device, str) else self.device
        if not isinstance(devices, (list, tuple)) or not devices:
            raise ValueError(f"ImageEncoder: device must be a name or a list of names; got {self.device!r}.")
        return tuple(resolve_device(device, needed_by=type(self).__name__) for device in devices)

    def _forward(self, network: ImageNetwork) -> Forward | Int8Forward:
        devices = self._devices()
        token = _file_token(self.recipe()) if self.precision == "int8" else None
        return network.forward(devices, self.backend, resolve_precision(self.precision, devices[0]), token)

    def _network(self, *, fresh: bool = False) -> ImageNetwork:
        model, device = self._model(), self._devices()[0]
        if isinstance(model, ModuleModel):
            own = None if self.preprocess is None else Preparation(self.preprocess, "", None)
            return model.network(device, own, fresh=fresh)
        return model.network(device)

    def _batch_size(self) -> int:
        if not isinstance(self.batch_size, str):
            return super()._batch_size()
        if self.batch_size != "auto":
            raise ValueError(
                f"ImageEncoder: batch_size must be a whole number of at least 1, or 'auto'; got {self.batch_size!r}."
            )
        if self.features is not None:
            return _CPU_BATCH_SIZE
        return sum(_CPU_BATCH_SIZE if device == "cpu" else _GPU_BATCH_SIZE for device in self._devices())


def _file_token(recipe: dict[str, Any] | None) -> str | None:
    return None if recipe is None else json.dumps(recipe, sort_keys=True, default=str)


def _checked_tensor(value: Any) -> torch.Tensor:
    import torch

    if isinstance(value, torch.Tensor) and value.ndim == 3 and value.dtype == torch.float32:
        return value
    shown = f"{tuple(value.shape)} of {value.dtype}" if isinstance(value, torch.Tensor) else type(value).__name__
    raise TypeError(f"preprocess must return a float32 tensor of shape (3, height, width); got {shown}")


def _colour(background: Any) -> tuple[int, int, int]:
    levels = background
    if isinstance(background, str):
        with contextlib.suppress(ValueError):
            levels = ImageColor.getrgb(background)[:3]
    if isinstance(levels, (tuple, list)) and len(levels) == 3:
        red, green, blue = levels
        if all(isinstance(level, (int, np.integer)) and 0 <= level <= 255 for level in levels):
            return int(red), int(green), int(blue)
    raise ValueError(
        "ImageEncoder: background must be a colour such as 'white' or '#ffffff', or red, green and blue from 0 to 255; "
        f"got {background!r}."
    )


def _check_choice(name: str, value: Any, choices: tuple[str, ...]) -> None:
    if value not in choices:
        kinds = "None or one of" if name == "features" else "one of"
        hint = did_you_mean(str(value), list(choices))
        raise ValueError(f"ImageEncoder: {name} must be {kinds} {list(choices)}; got {value!r}.{hint}")


def _check_whole(name: str, value: Any, least: int | None = None) -> None:
    is_whole = isinstance(value, (int, np.integer)) and not isinstance(value, bool)
    if not is_whole or (least is not None and value < least):
        bound = "" if least is None else f" of at least {least}"
        raise ValueError(f"ImageEncoder: {name} must be a whole number{bound}; got {value!r}.")
