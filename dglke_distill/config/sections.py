"""The sections of a run's settings; ``config`` puts them together."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Optional, Self, Union

from dglke_distill.base.schema import BaseModel, ConfigDict, Field, field_validator, model_validator
from dglke_distill.config.components import (
    EncoderName,
    InitializationName,
    LossName,
    MethodName,
    ModelName,
    OptimizerName,
    RegularizerName,
    SamplerName,
    ScheduleName,
    SoftLossName,
)
from dglke_distill.config.names import current_names, spell_choices
from dglke_distill.config.validation import validate_tree

Scalar = Union[bool, int, float, str, list[float], list[int], list[str]]
Options = dict[str, Scalar]

# Far beyond what anybody trains, and below where numbers overflow or the machine stands still.
MOST_FLOATS = 1 << 20
"""The largest number of floats that an entity may have."""
MOST_SEED = 1 << 62
"""The largest seed: what is derived from it has to fit 64 bits."""
_MANY = (1 << 31) - 1
_LARGE = 1e9
_Seed = Annotated[int, Field(ge=0, le=MOST_SEED)]


class Section(BaseModel):
    """Base of every section: immutable, unknown keys refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _published_choices(cls, tree: Any) -> Any:
        """Take choices in any letter case."""
        return spell_choices(cls, tree)

    @classmethod
    def from_mapping(cls, tree: Mapping[str, Any], source: str) -> Self:
        """Validate a nested mapping.

        Raises:
            UserError: an unknown key or a value out of range; ``source`` says where it stands.
        """
        return validate_tree(cls, tree, source)

    def to_toml(self) -> str:
        """Return the tree as TOML; keys whose value is None are left out."""
        import tomli_w

        return tomli_w.dumps(self.model_dump(exclude_none=True))


class DataConfig(Section):
    """Which triples to learn from."""

    dataset: str = Field("cldr", description="catalog name, folder or file of triples")
    format: str = Field("auto", description="file format of a user's own triples")
    split_seed: _Seed = Field(0, description="seed when one file is split by us")
    # None, so that the settings saved with older runs are theirs.
    header: Optional[bool] = Field(
        None, description="whether a user's files begin with a heading: true, false or auto"
    )

    columns: Optional[str] = Field(
        None, description="head=x,relation=y,tail=z: a user's columns, by heading or number"
    )
    delimiter: Optional[str] = Field(
        None, description="what separates a user's columns: signs, or tab, comma, space ..."
    )
    ignore_extra: Optional[bool] = Field(
        None, description="whether further columns of a user's tables are left out"
    )
    weight_column: Optional[str] = Field(
        None, description="the column, by heading or number, of how much each fact counts"
    )
    literals: Optional[Literal["drop", "keep"]] = Field(
        None, description="of RDF: statements about literals are left out, or facts"
    )

    @field_validator("columns", "delimiter", "weight_column", mode="before")
    @classmethod
    def _number_is_text(cls, value: object) -> object:
        """Read a number, as ``--set data.weight_column=4`` gives it."""
        return str(value) if type(value) is int else value

    @field_validator("header", mode="before")
    @classmethod
    def _auto_is_none(cls, value: object) -> object:
        """Read ``auto``, which is what None stands for."""
        return None if isinstance(value, str) and value.strip().lower() == "auto" else value


class ModelConfig(Section):
    """The score function, the encoder and their sizes."""

    name: ModelName = Field("TransE", description="score function, in any letter case")
    dim: int = Field(
        64,
        ge=1,
        le=MOST_FLOATS,
        description="floats of an entity's vector; complex parts counted, a bias not",
    )
    options: Options = Field(default_factory=dict, description="the score function's own options")
    encoder: EncoderName = Field("lookup", description="lookup, neighbor, node_piece or path")
    encoder_options: Options = Field(default_factory=dict, description="the encoder's own options")
    reciprocal: bool = Field(False, description="a second embedding per relation for head queries")
    entity_bias: bool = Field(False, description="one more float per entity, added to its scores")
    init_scale: Optional[float] = Field(
        None, gt=0, le=_LARGE, description="scale of the initial embeddings"
    )

    @property
    def size(self) -> str:
        """How large an entity is, in words: its vector, and all its floats if these are more."""
        if not self.entity_bias:
            return f"{self.dim} floats per entity"
        return f"dim {self.dim}, with the bias {self.dim + 1} floats per entity"


class NegativesConfig(Section):
    """Sampling of negatives (training mode ``negatives``)."""

    sampler: SamplerName = Field("uniform", description="uniform, bernoulli, degree or typed")
    count: int = Field(256, ge=1, le=_MANY, description="negatives per positive and side")
    sharing: Literal["chunk", "private"] = Field(
        "chunk",
        description="whether a chunk of positives shares its negatives, or each has its own",
    )
    chunk_size: int = Field(
        0, ge=0, le=_MANY, description="positives that share negatives; 0: whole batch"
    )
    filtered: bool = Field(False, description="known training answers are never negatives")
    sides: Literal["alternate", "both"] = Field(
        "alternate",
        description="whether heads and tails are replaced in turns, or both in each step",
    )
    options: Options = Field(default_factory=dict, description="the sampler's own options")


class LossConfig(Section):
    """The hard loss on sampled or all candidates."""

    name: LossName = Field(
        "self_adversarial", description="margin, logistic, self_adversarial, softmax or bce"
    )
    options: Options = Field(default_factory=dict, description="the loss's own options")
    relation_weight: float = Field(
        0.0, ge=0, le=_LARGE, description="weight of predicting the relation too"
    )


class RegularizerConfig(Section):
    """Penalty on the embeddings of a batch."""

    name: RegularizerName = Field("none", description="none, l2, n3 or dura")
    weight: float = Field(0.0, ge=0, le=_LARGE, description="weight of the penalty in the loss")
    relation_weight: Optional[float] = Field(
        None, ge=0, le=_LARGE, description="relations; None: as weight"
    )
    # None, so that the settings saved with older runs are theirs.
    options: Optional[Options] = Field(None, description="the penalty's own options")


class OptimizerConfig(Section):
    """Optimiser, learning-rate schedule and gradient clipping."""

    name: OptimizerName = Field(
        "rowwise_adagrad", description="adagrad, rowwise_adagrad, adam or sgd"
    )
    learning_rate: float = Field(0.1, gt=0, le=_LARGE, description="the first, after any warm-up")
    schedule: Literal["constant", "linear", "cosine", "step"] = Field(
        "linear", description="how the learning rate falls from the first to the final one"
    )
    warmup: float = Field(0.0, ge=0, lt=1, description="share of the run with a rising rate")
    final: float = Field(0.0, ge=0, le=1, description="last learning rate over the first one")
    step_at: float = Field(0.5, gt=0, le=1, description="schedule 'step': where, as a share")
    clip_norm: Optional[float] = Field(
        None, gt=0, le=1e30, description="largest global gradient norm; None: not clipped"
    )
    options: Options = Field(default_factory=dict, description="the optimiser's own options")


class TrainingConfig(Section):
    """The loop: mode, length, validation, seeds and device."""

    mode: Literal["negatives", "one_vs_all", "k_vs_all"] = Field(
        "negatives",
        description="what an answer is compared with: sampled negatives; all entities, triple by "
        "triple; or all entities, with all answers of a query at once",
    )
    epochs: int = Field(100, ge=1, le=1_000_000, description="passes over the train split")
    batch_size: int = Field(
        1024, ge=1, le=_MANY, description="triples, or distinct queries in k_vs_all"
    )
    subsampling: bool = Field(False, description="weights 1/sqrt(frequency), RotatE paper")
    weighting: Optional[Literal["loss", "sampling"]] = Field(
        None, description="weights of facts (data.weight_column) count in the loss, or are visited"
    )
    evaluate_every: int = Field(
        10, ge=0, le=_MANY, description="epochs between validations; 0: only last"
    )
    validation_limit: Optional[int] = Field(
        None, ge=1, le=_MANY, description="validation triples ranked meanwhile; None: all"
    )
    patience: Optional[int] = Field(
        None, ge=1, le=_MANY, description="validations without gain before it stops; None: never"
    )
    checkpoint_minutes: float = Field(
        5.0, gt=0, le=_LARGE, description="minutes between resume checkpoints"
    )
    seed: _Seed = Field(0, description="of everything that is drawn at random")
    device: str = Field("auto", description="auto, cpu, cuda or cuda:N")
    threads: Optional[int] = Field(
        None, ge=1, le=1024, description="threads of torch and the kernels; None: all cores"
    )
    dtype: Literal["float32", "float64"] = Field("float32", description="of all computation")
    # Of those below none is set by default, so that the settings saved with older runs are theirs.
    processes: Optional[int] = Field(
        None,
        ge=1,
        le=256,
        description="processes that train one table at once (Hogwild); None: one",
    )
    products: Optional[Literal["float32", "bfloat16"]] = Field(
        None,
        description="how steps multiply matrices: bfloat16 rounds the factors, not the sums, where "
        "the processor has units for it; ranking never does; None: float32",
    )
    storage: Optional[Literal["bfloat16", "float16"]] = Field(
        None, description="dtype in which the entity table is kept; None: dtype"
    )
    tables: Optional[Literal["memory", "file"]] = Field(
        None, description="where tables and optimiser state lie; file: mapped, may exceed memory"
    )
    memory_megabytes: Optional[int] = Field(
        None,
        ge=1,
        le=_MANY,
        description="memory the run may take; None: what the machine has available",
    )


class EvaluationConfig(Section):
    """Ranking of the test split."""

    split: Literal["valid", "test", "none"] = Field(
        "test", description="ranked once, at the end, beside valid"
    )
    query_block_megabytes: int = Field(
        256, ge=1, le=MOST_FLOATS, description="largest score block in memory"
    )


class SoftLabelConfig(Section):
    """What a student is asked to copy of its teacher's scores, and on which candidates."""

    name: SoftLossName = Field("huber", description="huber or kl")
    options: Options = Field(default_factory=dict, description="the soft loss's own options")
    candidates: Literal["batch", "top", "neighbors", "all"] = Field(
        "batch",
        description="the batch's positives and negatives; with the teacher's own best ones; with "
        "graph neighbours of the known entity; or all entities",
    )
    count: int = Field(64, ge=1, le=_MANY, description="best ones, or neighbours, per query")
    scale: Literal["auto", "none", "standardize", "calibrate"] = Field(
        "auto", description="how scores of different scale are made comparable"
    )
    cache_megabytes: int = Field(
        512,
        ge=0,
        le=_MANY,
        description="memory for a teacher's answers, if they fit: its best candidates, "
        "or with all entities its distributions (k_vs_all, kl)",
    )
    extra: float = Field(
        0.0,
        ge=0,
        le=1000,
        description="queries that train does not ask, per query of train: plausible pairs of "
        "entity and relation, which the teacher alone answers",
    )
    extra_pool: float = Field(
        2.0,
        gt=0,
        le=1000,
        description="how many of them there are to draw from, per query of train",
    )

    @model_validator(mode="before")
    @classmethod
    def _former_names(cls, tree: Any) -> Any:
        """Take settings of older versions by the names that they had."""
        return current_names("soft", tree)


class SoftWeightConfig(Section):
    """How much the soft label weighs as training goes on."""

    name: ScheduleName = Field("power", description="constant, fading, linear, power or two_phase")
    value: float = Field(1.0, ge=0, le=_LARGE, description="the weight's scale")
    options: Options = Field(default_factory=dict, description="the schedule's own options")


class DistillationConfig(Section):
    """How a student learns from its teacher."""

    method: MethodName = Field(
        "iterde",
        description="iterde, fan_out, dgkd, bkd, ta, dualde, mulde, rkd, fitnet or direct",
    )
    options: Options = Field(default_factory=dict, description="the method's own options")
    hard_weight: float = Field(
        1.0, ge=0, le=_LARGE, description="weight of the loss against the facts"
    )
    soft: SoftLabelConfig = Field(default_factory=SoftLabelConfig)
    weight: SoftWeightConfig = Field(default_factory=SoftWeightConfig)
    initialization: InitializationName = Field(
        "pca",
        description="what a student starts from: random vectors, or its teacher's, projected "
        "(pca, svd) or cut (truncate)",
    )
