"""A learned concept: its embedding rows for each layer, and where they come from. ``formats`` has its files."""

from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Self, cast, get_args

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from promptplus.choices import Kind, Tying
from promptplus.errors import ConceptError, LayerError, check_type, one_of, short
from promptplus.files import StrPath, whole_folder, write_atomically
from promptplus.fingerprints import tensor_hash
from promptplus.formats.found import OURS, FoundConcept
from promptplus.formats.hub import check_repo, upload
from promptplus.formats.own import own_bytes
from promptplus.formats.reading import read_concept
from promptplus.formats.writing import HubExtras, kohya_bytes, mean_bytes, spread, write_hub_folder
from promptplus.layers import LayerMap
from promptplus.placeholders import Placeholder, check_form
from promptplus.text_encoders import spelled


@dataclass(frozen=True)
class Concept:
    """A placeholder token and the token embeddings it stands for, on each layer.

    ``PPlus.add`` makes the token usable in prompts.

    Attributes:
        token: the placeholder token, such as ``<cat>``.
        rows: ``[layers, vectors, width]``, float32, on the CPU. With two text encoders a row holds both embeddings, one
            after the other.
        layers: the layers of the model it was learned on, in forward order.
        tying: which layers share their rows: ``layer`` (none do: XTI), ``transformer``, ``block``, ``resolution`` or
            ``all`` (TI).
        initializer: the text whose token embedding training started from.
        class_word: the plain word for the concept's class. Evaluation uses it in place of the token.
        kind: ``object`` or ``style``. It selects the caption templates.
        base_model: name of the model it was learned on.
        token_table: hash of that model's token embeddings; "" where it is unknown.
        provenance: how it was made: training settings, or the concepts it was mixed from.
        encoders: name and width of each text encoder where there are two; empty where there is one.

    The texts, ``kind`` and ``provenance`` are checked by ``save``.

    Raises:
        ConceptError: the token's form, the rows' shape, values or tying are wrong.
    """

    token: str
    rows: Float[Tensor, "layers vectors width"] = field(repr=False)
    layers: LayerMap = field(repr=False)
    tying: Tying = "layer"
    initializer: str = ""
    class_word: str = ""
    kind: Kind = "object"
    base_model: str = ""
    token_table: str = field(default="", repr=False)
    provenance: dict[str, Any] = field(default_factory=dict[str, Any], repr=False)
    encoders: tuple[tuple[str, int], ...] = field(default=(), repr=False)

    def __post_init__(self) -> None:
        check_form(self.token)
        check_type(self.rows, Tensor, f"{self.token}: rows", ConceptError)
        check_type(self.layers, LayerMap, f"{self.token}: layers", ConceptError)
        if not one_of(self.tying, get_args(Tying)):
            raise ConceptError(f"{self.token}: tying is {', '.join(get_args(Tying))}, not {short(self.tying)}")
        if self.rows.is_complex():
            raise ConceptError(f"{self.token} holds {self.rows.dtype}; rows are real numbers")
        object.__setattr__(self, "rows", self.rows.detach().float().cpu())
        if self.rows.ndim != 3 or self.rows.shape[0] != len(self.layers) or 0 in self.rows.shape:
            want = f"[{len(self.layers)} layers, vectors, width]"
            raise ConceptError(f"{self.token}: rows are {want}, not {list(self.rows.shape)}")
        if self.encoders and sum(width for _, width in self.encoders) != self.width:
            raise ConceptError(f"{self.token}: rows of width {self.width} are not those of {dict(self.encoders)}")
        if not torch.isfinite(self.rows).all():
            raise ConceptError(f"{self.token} holds numbers that are not finite")
        groups = tie(self.tying, self.layers)
        if not torch.equal(self.rows, self.rows[[groups.index(group) for group in groups]]):
            raise ConceptError(f"{self.token} says that its layers share rows ({self.tying}), but those rows differ")

    @property
    def width(self) -> int:
        """The width of a token embedding (D); with two text encoders, of both together."""
        return self.rows.shape[2]

    @property
    def widths(self) -> dict[str, int]:
        """The width of each text encoder's token embedding, by name; of the only one under ""."""
        return dict(self.encoders) or {"": self.width}

    def by_encoder(self, rows: Float[Tensor, "*any width"]) -> dict[str, Float[Tensor, "*any part"]]:
        """The parts of rows by text encoder."""
        parts = torch.split(rows, list(self.widths.values()), dim=-1)
        return dict(zip(self.widths, parts, strict=True))

    @property
    def sha256(self) -> str:
        """Hash of the rows, bit for bit: 64 hex digits."""
        return tensor_hash(self.rows)

    @property
    def learned_layers(self) -> tuple[int, ...]:
        """The layers whose rows were trained, as ``provenance`` says; all where it does not say.

        In the others the token stands for the class word.
        """
        learned = self.provenance.get("learn")
        try:
            return self.layers.select(learned) if isinstance(learned, str) else tuple(range(len(self.layers)))
        except LayerError:  # of a file that was made by other means
            return tuple(range(len(self.layers)))

    @property
    def placeholder(self) -> Placeholder:
        """The rows in the form that text encoding takes."""
        return Placeholder(self.rows, tie(self.tying, self.layers))

    def describe(self) -> dict[str, Any]:
        """The concept in plain values, as ``promptplus info`` prints it."""
        learned = [self.layers.names[i] for i in self.learned_layers]
        norms: list[float] = cast(Any, self.rows).norm(dim=-1).mean(dim=1).tolist()  # torch has no type for norm
        return {
            "token": self.token,
            "kind": self.kind,
            "layers": len(self.layers),
            "vectors": self.rows.shape[1],
            "width": self.width,
            **({"encoders": dict(self.encoders)} if self.encoders else {}),
            "tying": self.tying,
            **({"learned_layers": learned} if len(learned) < len(self.layers) else {}),
            "initializer": self.initializer,
            "class_word": self.class_word,
            "base_model": self.base_model,
            "row_norms": {name: round(norm, 4) for name, norm in zip(self.layers.names, norms, strict=True)},
            "provenance": self.provenance,
        }

    @property
    def spread(self) -> float:
        """How far the layers' rows lie from their mean, over their length: 0 where they are equal, at most 1."""
        return spread(self.rows)

    @property
    def file(self) -> str:
        """The name of the other tool's file that it was read from; "" where it is ours."""
        read_from = self.provenance.get("read_from")
        return str(cast(dict[str, Any], read_from).get("file", "")) if isinstance(read_from, dict) else ""

    @contextmanager
    def naming_file(self) -> Generator[None]:
        """While inside, a ConceptError begins with the name of the other tool's file."""
        try:
            yield
        except ConceptError as error:
            raise ConceptError(f"{self.file}: {error}" if self.file else str(error)) from error

    @property
    def origin(self) -> str:
        """The model it was learned on, for messages."""
        return self.base_model or (f"{self.file} does not say which" if self.file else "it is not known which")

    def on(self, layers: LayerMap) -> Self:
        """The same concept on a model's layers.

        A concept whose layers are all tied, as a textual inversion, fits the layers of any model; others only those of
        the model they were learned on.

        Raises ConceptError where it does not fit.
        """
        if self.layers.names == layers.names:
            return self
        if self.tying != "all":
            raise ConceptError(
                f"{self.token} has {len(self.layers)} layers, this model {len(layers)} with other names: "
                f"use the model it was learned on ({self.origin})"
            )
        return replace(self, rows=self.rows[:1].expand(len(layers), -1, -1), layers=layers)

    def check_fits(self, layers: LayerMap, widths: Mapping[str, int]) -> None:
        """Raise ConceptError where its layers or width are those of another model.

        Args:
            layers: the model's.
            widths: of its token embeddings, by text encoder; see ``PPlus.widths``.
        """
        if self.widths != widths or (self.tying != "all" and self.layers.names != layers.names):
            raise ConceptError(
                f"{self.token} has {len(self.layers)} layers of width {spelled(self.widths)}, this model "
                f"{len(layers)} of width {spelled(widths)}: use the model it was learned on ({self.origin})"
            )

    def save(self, path: StrPath) -> Path:
        """Write the concept file, completely or not at all. ``Concept.load`` reads it again, bit for bit.

        Returns the path. Raises OutputError or WriteError where the file cannot be written, and ConceptError where it
        could not be read again.
        """
        return write_atomically(path, own_bytes(self._plain))

    def save_kohya(self, path: StrPath) -> Path:
        """Write the sixteen tensors of kohya's XTI scripts, which call the concept by the file's name.

        Returns the path. Raises ConceptError for other layers than Stable Diffusion's, or a width other than 768, and
        OutputError where the file cannot be written.
        """
        return write_atomically(path, kohya_bytes(self._plain))

    def save_approximation(self, path: StrPath) -> Path:
        """Write the mean over all layers as a plain textual inversion file, for tools that have no per-layer prompts.

        ``spread`` says how far the layers are from it. With two text encoders its keys are ``clip_l`` and ``clip_g``,
        as in kohya's files. Returns the path. Raises OutputError where the file cannot be written.
        """
        return write_atomically(path, mean_bytes(self._plain))

    def save_folder(
        self, folder: StrPath, *, licence: str = "", grid: Image.Image | None = None, pictures: Sequence[Any] = ()
    ) -> Path:
        """Write a new folder as the hub has it: the concept, its approximation, its token, its kind, a model card.

        ``Concept.load`` and stock diffusers (``load_textual_inversion``) read it.

        Args:
            folder: it is new or empty.
            licence: an identifier of the hub, as ``cc-by-4.0``. Default: the card says that it is unknown.
            grid: a sheet of pictures made with the concept, for the card.
            pictures: those it was learned from, where they shall go along. Default: none.

        Returns the folder. Raises OutputError or WriteError where it cannot be written.
        """
        extras = HubExtras(licence, grid, pictures)
        with whole_folder(folder) as temporary:
            write_hub_folder(self._plain, temporary, extras)
        return Path(folder)

    def push_to_hub(
        self,
        repo: str,
        *,
        licence: str = "",
        grid: Image.Image | None = None,
        pictures: Sequence[Any] = (),
        private: bool = False,
    ) -> str:
        """Upload the folder that ``save_folder`` writes to the Hugging Face hub. ``Concept.load("hub:…")`` reads it.

        Args:
            repo: ``owner/name``. It is made where it does not exist.
            licence, grid, pictures: as for ``save_folder``.
            private: make it private, where it is new.

        Returns the repository's web address. Raises OutputError where the hub refuses.
        """
        extras = HubExtras(licence, grid, pictures, check_repo(repo))
        with TemporaryDirectory() as temporary:
            write_hub_folder(self._plain, Path(temporary), extras)
            return upload(Path(temporary), extras.repo, private=private)

    @classmethod
    def load(cls, source: StrPath, token: str | None = None) -> Self:
        """Read a concept: ours, or one of another tool (docs/files.md lists them). The content decides, not the name.

        A textual inversion becomes a concept tied over all layers. Warns of what a file holds beside the concept.

        Args:
            source: a file, a folder in the hub's layout or of a training run, or ``hub:owner/name`` with or without
                ``@revision``.
            token: the placeholder token to give it; of a file with several tokens also the one to take. Default: as
                the file says. Many files of other tools name none.

        Raises ConceptError where it is missing, damaged, too large or of an unknown format, or nobody names a token.
        """
        return cls(**read_concept(source, token).fields)

    @property
    def _plain(self) -> FoundConcept:
        return FoundConcept(OURS, **{one.name: getattr(self, one.name) for one in fields(self)})


def tie(tying: Tying, layers: LayerMap) -> tuple[int, ...]:
    """The group of each layer under a tying: layers with equal numbers share their rows.

    Groups are numbered from 0 in the order of their first layers.
    """
    keys = {
        "layer": [layer.name for layer in layers],
        "transformer": [layer.transformer for layer in layers],
        "block": [layer.block for layer in layers],
        "resolution": [layer.resolution for layer in layers],
        "all": [0] * len(layers),
    }[tying]
    return tuple(list(dict.fromkeys(keys)).index(key) for key in keys)
