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


def _within(room: str, places: Mapping[str, str]) -> dict[str, str]:
    return {name: f"dglke_distill.{room}.{place}" for name, place in places.items()}


SCORE_FUNCTIONS: Registry[Any] = Registry(
    "score function",
    "model.name",
    _within(
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
    ),
    group="dglke_distill.models",
    base="dglke_distill.models.score_function:ScoreFunction",
)
ENCODERS: Registry[Any] = Registry(
    "encoder",
    "model.encoder",
    _within(
        "models",
        {
            "lookup": "encoders:LookupEncoder",
            "neighbor": "neighbor_encoder:NeighborEncoder",
            "node_piece": "node_piece:NodePieceEncoder",
            "path": "path_encoder:PathEncoder",
        },
    ),
)
NEGATIVE_SAMPLERS: Registry[Any] = Registry(
    "sampler",
    "negatives.sampler",
    _within(
        "sampling",
        {
            "uniform": "negatives:UniformNegatives",
            "bernoulli": "negatives:BernoulliNegatives",
            "degree": "negatives:DegreeNegatives",
            "typed": "negatives:TypedNegatives",
        },
    ),
    group="dglke_distill.samplers",
    base="dglke_distill.sampling.base:NegativeSampler",
)
LOSSES: Registry[Any] = Registry(
    "loss",
    "loss.name",
    _within(
        "training",
        {
            "margin": "losses:MarginLoss",
            "logistic": "losses:LogisticLoss",
            "self_adversarial": "losses:SelfAdversarialLoss",
            "softmax": "losses:SoftmaxLoss",
            "bce": "losses:BinaryCrossEntropyLoss",
        },
    ),
    group="dglke_distill.losses",
    base="dglke_distill.training.losses:Loss",
)
REGULARIZERS: Registry[Any] = Registry(
    "regularizer",
    "regularizer.name",
    _within(
        "training",
        {
            "none": "regularizers:NoPenalty",
            "l2": "regularizers:L2",
            "n3": "regularizers:N3",
            "dura": "regularizers:DURA",
        },
    ),
    group="dglke_distill.regularizers",
    base="dglke_distill.training.regularizers:Penalty",
)
OPTIMIZERS: Registry[Any] = Registry(
    "optimizer",
    "optimizer.name",
    _within(
        "training",
        {
            "adagrad": "optim:RowAdagrad",
            "rowwise_adagrad": "optim:rowwise_adagrad",
            "adam": "optim:RowAdam",
            "sgd": "optim:RowSGD",
        },
    ),
)
SOFT_LOSSES: Registry[Any] = Registry(
    "soft loss",
    "distillation.soft.name",
    _within("distill", {"huber": "soft:Huber", "kl": "soft:KullbackLeibler"}),
    group="dglke_distill.soft_losses",
    base="dglke_distill.distill.soft:SoftLoss",
)
SCHEDULES: Registry[Any] = Registry(
    "schedule",
    "distillation.weight.name",
    _within(
        "distill",
        {
            "constant": "schedules:Constant",
            "fading": "schedules:Fading",
            "linear": "schedules:Linear",
            "power": "schedules:Power",
            "two_phase": "schedules:TwoPhase",
        },
    ),
    group="dglke_distill.schedules",
    base="dglke_distill.distill.schedules:Schedule",
)
METHODS: Registry[Any] = Registry(
    "method",
    "distillation.method",
    _within(
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
    ),
    group="dglke_distill.methods",
    base="dglke_distill.distill.method:Method",
)
INITIALIZATIONS: Registry[Any] = Registry(
    "initialization",
    "distillation.initialization",
    _within(
        "distill",
        {
            "random": "initialization:at_random",
            "pca": "initialization:pca",
            "svd": "initialization:svd",
            "truncate": "initialization:truncate",
        },
    ),
)
STORAGES: Registry[Any] = Registry(
    "storage",
    "--to",
    _within(
        "compression",
        {
            "float32": "table:Float32",
            "float16": "table:Float16",
            "int8": "int8:Int8",
            "pq": "pq:PQ",
            "binary": "binary:Binary",
        },
    ),
    group="dglke_distill.storages",
    base="dglke_distill.compression.table:StoredTable",
)
CALIBRATIONS: Registry[Any] = Registry(
    "calibration method",
    "--method",
    _within("calibration", {"platt": "platt:Platt", "isotonic": "isotonic:Isotonic"}),
    group="dglke_distill.calibrations",
    base="dglke_distill.calibration.curves:CalibrationMethod",
)
TRACKERS: Registry[Any] = Registry(
    "tracker",
    "--track",
    _within(
        "runs",
        {
            "tensorboard": "tracking:TensorBoard",
            "wandb": "tracking:WandB",
            "mlflow": "tracking:MLflow",
        },
    ),
)
FORMATS: Registry[Any] = Registry(
    "export format",
    "--format",
    _within(
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
    ),
    group="dglke_distill.export_formats",
    base="dglke_distill.interop.base:ExportFormat",
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
