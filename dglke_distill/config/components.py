"""Every kind of component that settings choose by name, and where those that ship lie.

A component that ships is imported when it is built. A name that is not known passes the settings as
it is; the room that builds it refuses it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from dglke_distill.base.schema import BeforeValidator
from dglke_distill.config.names import published
from dglke_distill.config.registry import Registry

__all__ = [
    "CALIBRATIONS",
    "ENCODERS",
    "FORMATS",
    "INITIALIZATIONS",
    "LOSSES",
    "METHODS",
    "NEGATIVE_SAMPLERS",
    "OPTIMIZERS",
    "REGULARIZERS",
    "SCHEDULES",
    "SCORE_FUNCTIONS",
    "SOFT_LOSSES",
    "STORAGES",
    "TRACKERS",
    "EncoderName",
    "InitializationName",
    "LossName",
    "MethodName",
    "ModelName",
    "OptimizerName",
    "RegularizerName",
    "SamplerName",
    "ScheduleName",
    "SoftLossName",
]


def _shipped(
    kind: str, setting: str, room: str, places: Mapping[str, str], group: str = "", base: str = ""
) -> Registry[Any]:
    """Return a registry of what lies in a room; all names of modules are below the package."""
    whole = {name: f"dglke_distill.{room}.{place}" for name, place in places.items()}
    named = [f"dglke_distill.{name}" if name else None for name in (group, base)]
    return Registry(kind, setting, whole, group=named[0], base=named[1])


SCORE_FUNCTIONS: Registry[Any] = _shipped(
    "score function",
    "model.name",
    "models",
    {
        "TransE": "transe:TransE",
        "DistMult": "distmult:DistMult",
        "ComplEx": "complex:ComplEx",
        "SimplE": "simple:SimplE",
        "RotatE": "rotate:RotatE",
        "RotE": "rote:RotE",
        "RotH": "roth:RotH",
        "RESCAL": "rescal:RESCAL",
        "HolE": "hole:HolE",
        "TransR": "transr:TransR",
        "PairRE": "pairre:PairRE",
        "TripleRE": "triplere:TripleRE",
        "AutoSF": "autosf:AutoSF",
        "TuckER": "meim:TuckER",
        "MEIM": "meim:MEIM",
    },
    group="models",
    base="models.score_function:ScoreFunction",
)
ENCODERS: Registry[Any] = _shipped(
    "encoder",
    "model.encoder",
    "models",
    {
        "codebook": "codebook:CodebookEncoder",
        "lookup": "encoders:LookupEncoder",
        "neighbor": "neighbor_encoder:NeighborEncoder",
        "node_piece": "node_piece:NodePieceEncoder",
        "path": "path_encoder:PathEncoder",
    },
)
NEGATIVE_SAMPLERS: Registry[Any] = _shipped(
    "sampler",
    "negatives.sampler",
    "sampling",
    {
        "uniform": "negatives:UniformNegatives",
        "bernoulli": "negatives:BernoulliNegatives",
        "degree": "negatives:DegreeNegatives",
        "typed": "negatives:TypedNegatives",
    },
    group="samplers",
    base="sampling.base:NegativeSampler",
)
LOSSES: Registry[Any] = _shipped(
    "loss",
    "loss.name",
    "training",
    {
        "margin": "losses:MarginLoss",
        "logistic": "losses:LogisticLoss",
        "self_adversarial": "losses:SelfAdversarialLoss",
        "softmax": "losses:SoftmaxLoss",
        "bce": "losses:BinaryCrossEntropyLoss",
    },
    group="losses",
    base="training.losses:Loss",
)
REGULARIZERS: Registry[Any] = _shipped(
    "regularizer",
    "regularizer.name",
    "training",
    {
        "none": "regularizers:NoPenalty",
        "l2": "regularizers:L2",
        "n3": "regularizers:N3",
        "dura": "regularizers:DURA",
    },
    group="regularizers",
    base="training.regularizers:Penalty",
)
OPTIMIZERS: Registry[Any] = _shipped(
    "optimizer",
    "optimizer.name",
    "training",
    {
        "adagrad": "optim:RowAdagrad",
        "rowwise_adagrad": "optim:rowwise_adagrad",
        "adam": "optim:RowAdam",
        "sgd": "optim:RowSGD",
    },
)
SOFT_LOSSES: Registry[Any] = _shipped(
    "soft loss",
    "distillation.soft.name",
    "distill",
    {"huber": "soft:Huber", "kl": "soft:KullbackLeibler"},
    group="soft_losses",
    base="distill.soft:SoftLoss",
)
SCHEDULES: Registry[Any] = _shipped(
    "schedule",
    "distillation.weight.name",
    "distill",
    {
        "constant": "schedules:Constant",
        "fading": "schedules:Fading",
        "linear": "schedules:Linear",
        "power": "schedules:Power",
        "two_phase": "schedules:TwoPhase",
    },
    group="schedules",
    base="distill.schedules:Schedule",
)
METHODS: Registry[Any] = _shipped(
    "method",
    "distillation.method",
    "distill",
    {
        "iterde": "methods:IterDE",
        "fan_out": "methods:FanOut",
        "dgkd": "methods:DenselyGuided",
        "bkd": "methods:BasicDistillation",
        "ta": "methods:TeacherAssistant",
        "dualde": "dualde:DualDE",
        "mulde": "mulde:MulDE",
        "rkd": "methods:RelationalDistillation",
        "fitnet": "methods:HintDistillation",
        "direct": "methods:Direct",
    },
    group="methods",
    base="distill.method:Method",
)
INITIALIZATIONS: Registry[Any] = _shipped(
    "initialization",
    "distillation.initialization",
    "distill",
    {
        "random": "initialization:at_random",
        "pca": "initialization:pca",
        "svd": "initialization:svd",
        "truncate": "initialization:truncate",
    },
)
STORAGES: Registry[Any] = _shipped(
    "storage",
    "--to",
    "compression",
    {
        "float32": "table:Float32",
        "float16": "table:Float16",
        "int8": "int8:Int8",
        "pq": "pq:PQ",
        "binary": "binary:Binary",
    },
    group="storages",
    base="compression.table:StoredTable",
)
CALIBRATIONS: Registry[Any] = _shipped(
    "calibration method",
    "--method",
    "calibration",
    {"platt": "platt:Platt", "isotonic": "isotonic:Isotonic"},
    group="calibrations",
    base="calibration.curves:CalibrationMethod",
)
TRACKERS: Registry[Any] = _shipped(
    "tracker",
    "--track",
    "runs",
    {
        "tensorboard": "tracking:TensorBoard",
        "wandb": "tracking:WandB",
        "mlflow": "tracking:MLflow",
    },
)
FORMATS: Registry[Any] = _shipped(
    "export format",
    "--format",
    "interop",
    {
        "dglke": "dglke:DGLKEFolder",
        "word2vec": "word2vec:Word2VecText",
        "word2vec-binary": "word2vec:Word2VecBinary",
        "npz": "npz:NumPyArchive",
        "parquet": "parquet:ParquetFolder",
        "onnx": "onnx_graph:ONNXGraph",
        "bundle": "bundle:EdgeBundle",
        "faiss": "faiss_index:FaissIndex",
        "sqlite-vec": "sqlite_vec_file:SqliteVecFile",
        "qdrant": "qdrant_folder:QdrantFolder",
        "pgvector": "pgvector_files:PgvectorFiles",
    },
    group="export_formats",
    base="interop.base:ExportFormat",
)


def _of(registry: Registry[Any]) -> BeforeValidator:
    return BeforeValidator(lambda name: published(name, registry))


ModelName = Annotated[str, _of(SCORE_FUNCTIONS)]
EncoderName = Annotated[str, _of(ENCODERS)]
SamplerName = Annotated[str, _of(NEGATIVE_SAMPLERS)]
LossName = Annotated[str, _of(LOSSES)]
RegularizerName = Annotated[str, _of(REGULARIZERS)]
OptimizerName = Annotated[str, _of(OPTIMIZERS)]
SoftLossName = Annotated[str, _of(SOFT_LOSSES)]
ScheduleName = Annotated[str, _of(SCHEDULES)]
MethodName = Annotated[str, _of(METHODS)]
InitializationName = Annotated[str, _of(INITIALIZATIONS)]
