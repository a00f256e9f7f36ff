"""The section `data`: the source, and which variables, levels and times are taken from it."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from graphufs.config.base import MOST_NAMES, MOST_SEEDS, Hours, Period, Section
from graphufs.config.credentials import Address, Name, Options
from graphufs.config.identity import HOW_TO_REACH, PERMISSION, HashedOtherwise, Later, NotIdentity
from graphufs.vocabulary.variables import DERIVED_FORCINGS, naming

EMBEDDED = "embedded"
"""The source URL that stands for the idealised world this package makes itself."""


Kind = Literal["auto", "replay", "weatherbench2", "cds", "anemoi"]
"""How a source is laid out (graphufs.sources)."""


class StochasticPhysics(Section):
    """Random factors on what the embedded world's physics changes (graphufs.replay.synthetic.stochastic)."""

    amplitude: float = Field(0.0, ge=0, le=1)
    """Standard deviation of the factors about 1; 0 is none, and 0.5 about what is usual in ensemble forecasts."""
    seed: int = Field(0, ge=0, le=MOST_SEEDS)
    """Each is another world that begins in the same state: worlds that differ in it are members of an ensemble."""

    @model_validator(mode="after")
    def _perturbs(self) -> Self:
        if self.seed and not self.amplitude:
            raise ValueError(
                f"stochastic.seed is {self.seed}, but stochastic.amplitude is 0, which perturbs nothing; give an "
                "amplitude above 0, or leave out the seed"
            )
        return self


class World(Section):
    """The embedded idealised world (used where the source is `embedded`)."""

    ALWAYS_HASHED = "seed"
    seed: int = Field(0, ge=0, le=MOST_SEEDS)
    """Each seed is another world: another weather from the same climate."""
    step: Annotated[Hours, Field(le=2), Later()] = 1
    """Time step of its model, 1h or 2h. With 2h it is made in half the time, and its climate is another one."""
    stochastic: Annotated[StochasticPhysics, Later()] = StochasticPhysics()
    """Makes it less predictable; by default nothing is random in it."""


class Source(Section):
    """Where the data come from."""

    ALWAYS_HASHED = "url component world"
    url: Address = EMBEDDED
    """`embedded`, or the address of a store: gs://, s3://, https:// or a path."""
    kind: Annotated[Kind, NotIdentity(HOW_TO_REACH), Later()] = "auto"
    """How the store is laid out; `auto` looks. `weatherbench2` is an analysis in zarr, also zipped, such as ERA5; `cds`
    are NetCDF or GRIB files of the Copernicus data store; `anemoi` is zarr of anemoi-datasets or ufs2arco."""
    storage_options: Options = {}
    """Options for fsspec, such as {token: anon} for the public bucket; also connect_timeout, read_timeout, retry_for,
    requests, reading_mib.

    The latter are seconds, and most requests in flight and MiB that reads may take, for any client; their defaults are
    in graphufs.storage, in object_stores and in_flight."""
    storage: Name = None
    """The name of credentials in the file that graphufs.storage.credentials reads where the work is done."""
    component: Literal["fv3", "mom6"] = "fv3"
    """The model component the store holds: atmosphere (fv3) or ocean (mom6)."""
    world: World = World()


class Transform(Section):
    """A function applied to a variable before it is normalised, and undone in forecasts."""

    ALWAYS_HASHED = "function floor"
    function: Literal["log"] = "log"
    floor: float = Field(1e-10, ge=1.2e-38)
    """Values below are taken as this before the logarithm; a smaller one would be 0 in float32."""


def _middles(interfaces: Sequence[float]) -> list[float]:
    return [(above + below) / 2 for above, below in pairwise(interfaces)]


class Data(Section):
    """Which variables, levels and times."""

    ALWAYS_HASHED = "forcings levels level_match time_step input_frames transforms tisr_period"
    source: Annotated[Source, HashedOtherwise("as the place it names; a world only where that is embedded")] = Source()
    inputs: Annotated[tuple[str, ...], Field(min_length=1, max_length=MOST_NAMES)]
    """Variables the network sees at the input frames (static ones once), by Replay's or WeatherBench2's names."""
    targets: Annotated[tuple[str, ...], Field(min_length=1, max_length=MOST_NAMES)]
    """Variables the network predicts, named alike."""
    forcings: tuple[str, ...] = Field((), max_length=MOST_NAMES)
    """Variables known in advance, seen at the target time: from the store, or derived from time and place."""
    levels: tuple[float, ...] = Field((), max_length=MOST_NAMES)
    """Wanted levels in hPa (depth in m for the ocean) of the three-dimensional variables."""
    level_match: Literal["nearest", "exact"] = "nearest"
    """`nearest` takes the closest native level within a tenth of its value; `exact` takes no other.

    Of pressure levels none but those named are taken, whatever this is."""
    interfaces: Annotated[tuple[Annotated[float, Field(ge=0)], ...], Field(max_length=MOST_NAMES), Later()] = ()
    """Interfaces in hPa, ascending, between which Replay's layers become one: their mean, weighted by `delz`, by the
    nearest native interfaces. `levels` are then the middles, and may be left out."""
    storage: Annotated[Literal["float32", "int16"], Later()] = "float32"
    """How prepared frames lie on disk. `int16` takes half the room; the error is at most a 65,000th of a field's range,
    half of what the UFS's own rounding to 14 bits leaves, and is refused where a store keeps more of a variable."""
    time_step: Hours = 6
    input_frames: int = Field(2, ge=1, le=100)
    """How many past frames the network sees, the initial time included."""
    transforms: dict[str, Transform] = {}
    """By variable, as in {spfh: {function: log}}; its statistics are those of the transformed field."""
    tisr_period: Hours = 1
    """The hours ending at the stamp over which toa_incident_solar_radiation is integrated."""
    training: Period
    validation: Period
    evaluation: Annotated[Period, HashedOtherwise("as the initial times of forecasts")]
    allow_overlap: Annotated[
        tuple[Literal["training", "validation", "normalization"], ...], NotIdentity(PERMISSION)
    ] = ()
    """Periods that may overlap the evaluation period. Scores are then not independent."""
    region: Annotated[Literal["global", "limited"], NotIdentity(PERMISSION), Later()] = "global"
    """`limited` says that the source is meant to cover a part of the globe, which is refused otherwise."""
    accept_implausible: Annotated[tuple[str, ...], NotIdentity(PERMISSION), Later()] = ()
    """Variables of the source whose values may leave what is physically believed, and whose units may be unreadable."""

    @model_validator(mode="before")
    @classmethod
    def _levels_of_interfaces(cls, content: Any) -> Any:
        """Name the levels that interfaces make, where none are named."""
        if not isinstance(content, dict) or content.get("levels"):
            return content
        given = content.get("interfaces")
        if not isinstance(given, list | tuple) or not all(isinstance(one, int | float) for one in given):
            return content
        return {**content, "levels": _middles(given)}

    @model_validator(mode="after")
    def _interfaces_make_sense(self) -> Self:
        if not self.interfaces:
            return self
        if self.source.component != "fv3":
            raise ValueError("data.interfaces are between layers of the atmosphere, and the source is of the ocean")
        shown = ", ".join(f"{value:g}" for value in self.interfaces)
        if len(self.interfaces) < 2 or any(a >= b for a, b in pairwise(self.interfaces)):
            raise ValueError(f"data.interfaces are {shown}; give at least two, ascending")
        if sorted(self.levels) != _middles(self.interfaces):
            raise ValueError(
                f"data.levels must be the middles of data.interfaces ({shown}); leave data.levels out, and they are"
            )
        return self

    @model_validator(mode="after")
    def _variables_make_sense(self) -> Self:
        for name in ("inputs", "targets", "forcings", "levels"):
            values = getattr(self, name)
            twice = sorted({str(value) for value in values if values.count(value) > 1})
            if twice:
                raise ValueError(f"data.{name} names {', '.join(twice)} more than once")
        naming({*self.inputs, *self.targets, *self.forcings})
        both = sorted(set(self.targets) & set(self.forcings))
        if both:
            raise ValueError(f"{', '.join(both)} cannot be both a target and a forcing")
        derived = sorted(set(self.targets) & set(DERIVED_FORCINGS))
        if derived:
            raise ValueError(f"{', '.join(derived)} is computed from time and place and cannot be a target")
        strange = sorted(set(self.transforms) - set(self.stored_variables))
        if strange:
            raise ValueError(f"data.transforms names {', '.join(strange)}, which is not a variable read from the store")
        return self

    @property
    def stored_variables(self) -> tuple[str, ...]:
        """The variables to read from the store, sorted."""
        names = set(self.inputs) | set(self.targets) | set(self.forcings)
        return tuple(sorted(names - set(DERIVED_FORCINGS)))
