"""Architecture descriptions: a policy as layers, widths and tokens, from which its work follows without weights."""

from __future__ import annotations

from typing import Annotated, Literal, NamedTuple, Self

from pydantic import Field, model_validator

from harness.errors import SpecError, unknown_name
from harness.spec.resolve import SpecModel, find, load_yaml, names, parse

KIND = "architectures"

CountedComponent = Literal["vision", "prefix", "denoise_step"]
Format = Literal["fp32", "tf32", "bf16", "fp16", "int8", "fp8", "int4"]
"""Number format. Weights may be stored in one and multiplied in another (int8 weights, bf16 products)."""

BYTES: dict[str, float] = {"fp32": 4, "tf32": 4, "bf16": 2, "fp16": 2, "int8": 1, "fp8": 1, "int4": 0.5}
"""Format → bytes of one stored number; the scales of quantised weights (about a thousandth) are left out."""

Positive = Annotated[int, Field(gt=0)]


class Precision(SpecModel):
    """In which formats something is stored and multiplied."""

    weights: Format = "bf16"
    """How weights are stored."""
    compute: Format = "bf16"
    """How products run: the rate of the device that counts."""


class Dense(SpecModel):
    """Linear maps outside of the layers: patch embedding, projections, modulation by time."""

    name: str
    inputs: Positive
    outputs: Positive
    tokens: Positive = 1
    """Vectors that each of them maps, per call."""
    count: Positive = 1
    """How many such maps there are."""
    precision: Precision | None = None
    """None for the tower's."""


class Tower(SpecModel):
    """A stack of transformer layers that belongs to one component of a decision."""

    name: str
    component: CountedComponent
    layers: Positive
    width: Positive
    heads: Positive
    kv_heads: Positive | None = None
    """Heads of keys and values; None for as many as `heads`."""
    head_dim: Positive | None = None
    """Width of a head; None for width / heads."""
    mlp: Positive
    """Hidden width of the feed-forward part."""
    gated: bool = False
    """Whether the feed-forward part has a gate: three matrices instead of two."""
    bias: bool = False
    """Whether linear maps and norms carry a bias."""
    tokens: Positive
    """Tokens of one sequence."""
    sequences: Positive = 1
    """Sequences with the same weights in one call: cameras."""
    context: Annotated[int, Field(ge=0)] = 0
    """Cached tokens that every token attends to beside its own sequence."""
    caches: bool = False
    """Whether its keys and values are kept for later components."""
    norms: bool = True
    """Whether its norms carry weights; False where time modulates them (their maps are `dense` then)."""
    dense: tuple[Dense, ...] = ()
    precision: Precision | None = None
    """None for the architecture's."""
    kernels_per_layer: Annotated[int, Field(ge=0)] = 0
    """Kernels that one layer launches when it runs eagerly, per sequence; 0 where it is not known."""

    @model_validator(mode="after")
    def _heads_divide(self) -> Self:
        if self.head_dim is None and self.width % self.heads:
            raise ValueError(f"width {self.width} does not split over {self.heads} heads; state head_dim")
        if self.heads % (self.kv_heads or self.heads):
            raise ValueError(f"heads {self.heads} is no multiple of kv_heads {self.kv_heads}")
        return self

    @property
    def head(self) -> int:
        """Width of a head."""
        return self.head_dim or self.width // self.heads

    @property
    def queries(self) -> int:
        """Width of all queries of a token."""
        return self.heads * self.head

    @property
    def keys(self) -> int:
        """Width of all keys (or values) of a token."""
        return (self.kv_heads or self.heads) * self.head

    @property
    def maps(self) -> tuple[tuple[int, int], ...]:
        """(inputs, outputs) of the linear maps of a layer."""
        attention = ((self.width, self.queries), (self.width, self.keys), (self.width, self.keys))
        gates = ((self.width, self.mlp),) * (2 if self.gated else 1)
        return (*attention, (self.queries, self.width), *gates, (self.mlp, self.width))

    @property
    def layer_parameters(self) -> int:
        """Parameters of one layer."""
        linear = sum(inputs * outputs + (outputs if self.bias else 0) for inputs, outputs in self.maps)
        norm = self.width * (2 if self.bias else 1) if self.norms else 0
        return linear + 2 * norm

    @property
    def parameters(self) -> int:
        """Parameters that a call reads: layers, last norm and dense maps; embedding tables are read by row."""
        norm = self.width * (2 if self.bias else 1) if self.norms else 0
        return self.layers * self.layer_parameters + norm + sum(_dense_parameters(dense) for dense in self.dense)


class Resident(SpecModel):
    """Parameters that are in memory though a decision does not read them whole: embedding tables, unused heads."""

    name: str
    parameters: Positive
    weights: Format = "bf16"


class ArchitectureVariant(SpecModel):
    """The same layers in other formats."""

    title: str
    precision: Precision


class Architecture(SpecModel):
    """A vision-language-action policy as its work: towers, tokens and function evaluations."""

    name: str
    """The file's name."""
    title: str
    """Name for people."""
    source: Annotated[str, Field(min_length=4)]
    """Where the sizes are from."""
    precision: Precision = Precision()
    cache: Format = "bf16"
    """How cached keys and values are stored."""
    nfe: tuple[Positive, ...] = (1, 10)
    """Function evaluations of interest."""
    towers: Annotated[tuple[Tower, ...], Field(min_length=1)]
    resident: tuple[Resident, ...] = ()
    variants: dict[str, ArchitectureVariant] = Field(default_factory=dict)
    """Other formats by suffix: architecture `x` with variant `int8` is also found as `x-int8`."""
    notes: str = ""
    """What was assumed."""

    def variant(self, suffix: str) -> Architecture:
        """This architecture in a variant's formats, wherever they are not stated for a tower of its own."""
        chosen = self.variants[suffix]
        changed = {
            "name": f"{self.name}-{suffix}",
            "title": chosen.title,
            "precision": chosen.precision,
            "variants": {},
        }
        return self.model_copy(update=changed)

    @property
    def parameters(self) -> int:
        """All parameters in memory."""
        return sum(tower.parameters for tower in self.towers) + sum(part.parameters for part in self.resident)

    @property
    def memory_bytes(self) -> float:
        """Bytes of all parameters and of the cache."""
        weights = sum(work.parameter_bytes for work in self.work())
        cache = sum(work.kv_bytes for work in self.work() if work.component == "prefix")
        return weights + cache + sum(part.parameters * BYTES[part.weights] for part in self.resident)

    @property
    def formats(self) -> tuple[str, ...]:
        """Number formats that it multiplies in."""
        return tuple(dict.fromkeys(key for work in self.work() for key in work.flops_by_format))

    def work(self) -> tuple[Work, ...]:
        """What one call of each component asks of a device, in the order of a decision."""
        order: tuple[CountedComponent, ...] = ("vision", "prefix", "denoise_step")
        return tuple(
            _sum_work(name, [_work(tower, self) for tower in self.towers if tower.component == name])
            for name in order
            if any(tower.component == name for tower in self.towers)
        )


class Work(NamedTuple):
    """What one call of a component asks of a device."""

    component: str
    flops_by_format: dict[str, float]
    """FLOPs (a multiply-add is two) by number format."""
    parameter_bytes: float
    kv_bytes: float
    """Cache written (prefix) or read (denoise step)."""
    activation_bytes: float
    """Inputs and outputs of linear maps and attention."""
    kernels: int
    """Kernels of an eager run; 0 where the description does not say."""


def _dense_parameters(dense: Dense) -> int:
    return dense.count * dense.outputs * (dense.inputs + 1)


def _work(tower: Tower, architecture: Architecture) -> Work:
    precision = tower.precision or architecture.precision
    size = BYTES["bf16" if BYTES[precision.compute] < 2 else precision.compute]
    rows = tower.tokens * tower.sequences
    maps = sum(inputs * outputs for inputs, outputs in tower.maps)
    seen = tower.tokens + tower.context
    flops: dict[str, float] = {precision.compute: 2.0 * tower.layers * rows * maps}
    # Attention is never quantised with the weights: queries and keys meet in the format of the activations.
    attends = "bf16" if BYTES[precision.compute] < 2 else precision.compute
    flops[attends] = flops.get(attends, 0.0) + 4.0 * tower.layers * rows * seen * tower.queries
    moved = sum(inputs + outputs for inputs, outputs in tower.maps) + 2 * tower.queries + 2 * tower.keys
    weights = (tower.parameters - sum(map(_dense_parameters, tower.dense))) * BYTES[precision.weights]
    activations = tower.layers * rows * moved * size
    for dense in tower.dense:
        own = dense.precision or precision
        weights += _dense_parameters(dense) * BYTES[own.weights]
        work = 2.0 * dense.count * dense.tokens * dense.inputs * dense.outputs
        flops[own.compute] = flops.get(own.compute, 0.0) + work
        activations += dense.count * dense.tokens * (dense.inputs + dense.outputs) * size
    cached = 2.0 * tower.layers * tower.keys * BYTES[architecture.cache]
    cache = cached * (tower.tokens * tower.sequences if tower.caches else tower.context)
    kernels = tower.layers * tower.kernels_per_layer * tower.sequences
    return Work(tower.component, flops, weights, cache, activations, kernels)


def _sum_work(component: str, parts: list[Work]) -> Work:
    flops: dict[str, float] = {}
    for part in parts:
        for name, value in part.flops_by_format.items():
            flops[name] = flops.get(name, 0.0) + value
    return Work(
        component,
        flops,
        sum(part.parameter_bytes for part in parts),
        sum(part.kv_bytes for part in parts),
        sum(part.activation_bytes for part in parts),
        sum(part.kernels for part in parts),
    )


def load_architecture(name: str) -> Architecture:
    """Load an architecture by name, by name and variant (`student-650m-int8`), or by path.

    Raises:
        SpecError: The file does not validate, or its `name` is not the file's.
        UsageError: No such architecture; the nearest known name is suggested.
    """
    if "/" in name or name.endswith((".yaml", ".yml")):
        return _read(name)
    known = names(KIND)
    if name in known:
        return _read(name)
    for stem in known:
        if name.startswith(f"{stem}-"):
            found = _read(stem)
            suffix = name.removeprefix(f"{stem}-")
            if suffix in found.variants:
                return found.variant(suffix)
    raise unknown_name("architecture", name, architecture_names())


def architecture_names() -> list[str]:
    """Names of every shipped architecture and of its variants."""
    found = []
    for stem in names(KIND):
        found += [stem, *(f"{stem}-{suffix}" for suffix in _read(stem).variants)]
    return sorted(found)


def _read(name: str) -> Architecture:
    path = find(KIND, "architecture", name)
    architecture = parse(Architecture, load_yaml(path), str(path))
    if architecture.name != path.stem:
        raise SpecError(f"{path}: name is {architecture.name!r}; it must be the file's name, {path.stem!r}.")
    return architecture
