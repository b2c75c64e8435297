"""Names and modules of the SageMaker SDK that have no counterpart: each is refused by name, with what to use."""

from __future__ import annotations

from launcher.errors import UnsupportedImportError

_SCRIPT = (
    "A framework's script runs unchanged by launcher.Estimator(entry_point=..., source_dir=...); give image_uri for an "
    "image of your own. A model is served by launcher.Model(model_data=...), with entry_point for code of your own."
)
_ALGORITHM = "AWS's own algorithms have no code outside AWS. Give image_uri for an image of your own."
_EXEC = "With the SDK installed, the program runs as it is: launcher exec -- python SCRIPT"
_SERVING = "Use launcher.Model and launcher.Transformer; launcher.Predictor asks an endpoint."
_PROCESSING = "Run the script as a job: launcher.Estimator(entry_point=...).fit(inputs)."
_TUNING = "Start a job for each value: launcher.Estimator(..., hyperparameters=...).fit(wait=False)."
_PIPELINES = "Call fit() of one estimator after the other; a job's outputs are the next one's inputs."
_IMAGES = "Name the image itself, image_uri=..., or leave it out for the bundled one."
_DATA = "Use launcher.TrainingInput with a path, a file:// or an s3:// URI."

# Name in the SDK's package, a class or a module -> what to use.
INSTEAD = {
    **dict.fromkeys(
        (
            *("algorithm", "amazon", "AlgorithmEstimator", "FactorizationMachines", "KMeans", "LinearLearner", "PCA"),
            *("LDA", "NTM", "Object2Vec", "RandomCutForest", "KNN", "IPInsights"),
        ),
        _ALGORITHM,
    ),
    **dict.fromkeys(("Chainer", "chainer", "djl_inference", "sparkml", "MultiDataModel"), _SCRIPT),
    **{
        name: f"It is in a module, as in the SDK: from launcher.{module} import {name}"
        for module, names in {
            "pytorch": ("PyTorch", "PyTorchModel"),
            "tensorflow": ("TensorFlow", "TensorFlowModel"),
            "sklearn": ("SKLearn", "SKLearnModel"),
            "xgboost": ("XGBoost", "XGBoostModel"),
            "huggingface": ("HuggingFace", "HuggingFaceModel"),
            "mxnet": ("MXNet", "MXNetModel"),
            "s3": ("S3Uploader", "S3Downloader"),
        }.items()
        for name in names
    },
    **dict.fromkeys(
        (*("ModelPackage", "PipelineModel", "multidatamodel", "pipeline", "serve"),),
        _SERVING,
    ),
    **dict.fromkeys(("Processor", "ScriptProcessor", "dataset_definition", "processing", "spark"), _PROCESSING),
    **dict.fromkeys(("HyperparameterTuner", "parameter", "tuner", "automl", "AutoML"), _TUNING),
    **dict.fromkeys(("workflow", "lineage", "experiments", "feature_store", "remote_function"), _PIPELINES),
    **dict.fromkeys(("get_model_package_args", "jumpstart"), _IMAGES),
    "git_utils": "Clone the repository and give source_dir.",
    "s3_input": "Use launcher.TrainingInput.",
    **dict.fromkeys(("FileSystemInput", "ShuffleConfig"), _DATA),
    **dict.fromkeys(
        ("debugger", "Profiler", "ProfilerConfig", "clarify", "wrangler"),
        "Print values and read them with metric_definitions.",
    ),
}


def refuse_name(name: str, module: str = "") -> None:
    """Raise if ``name``, a class or a module, is one of the SDK's package that has no counterpart.

    Args:
        module: one of the SDK's that has a counterpart, if the name was looked for there; none of its other names has.
    Raises:
        UnsupportedImportError: it is; an ImportError as well.
    """
    if module or name in INSTEAD:
        hint = "\n  ".join(filter(None, (INSTEAD.get(name, ""), _EXEC)))
        raise UnsupportedImportError(f"{module or 'launcher'}.{name} is not emulated.", hint)
