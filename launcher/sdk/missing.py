"""Names and modules of the SageMaker SDK that have no counterpart: each is refused by name, with what to use."""

from __future__ import annotations

from launcher.errors import UnsupportedImportError

_SCRIPT = (
    "A framework's script runs unchanged by launcher.Estimator(entry_point=..., source_dir=...); give image_uri for an "
    "image of your own. A model is served by launcher.Model(model_data=...), with entry_point for code of your own."
)
_SERVING = "Use launcher.Model and launcher.Transformer; launcher.Predictor asks an endpoint."
_PROCESSING = "Run the program as a job: launcher.ScriptProcessor(...).run(code=...)."
_TUNING = "Start a job for each value: launcher.Estimator(..., hyperparameters=...).fit(wait=False)."
_PIPELINES = "Call fit() of one estimator after the other; a job's outputs are the next one's inputs."
_IMAGES = "Name the image itself, image_uri=..., or leave it out for the bundled one."
_DATA = "Use launcher.Session: upload_data, download_data, list_s3_files, read_s3_file."

# Name in the SDK's package, a class or a module -> what to use.
INSTEAD = {
    **dict.fromkeys(
        (
            *("PyTorch", "TensorFlow", "SKLearn", "XGBoost", "HuggingFace", "MXNet", "Chainer"),
            *("pytorch", "tensorflow", "sklearn", "xgboost", "huggingface", "mxnet", "chainer", "algorithm", "amazon"),
            *("AlgorithmEstimator", "KMeans", "LinearLearner", "PCA", "LDA", "NTM", "Object2Vec", "RandomCutForest"),
        ),
        _SCRIPT,
    ),
    **dict.fromkeys(
        (*("ModelPackage", "PipelineModel", "TensorFlowModel", "multidatamodel", "pipeline", "serve"),),
        _SERVING,
    ),
    **dict.fromkeys(("dataset_definition", "spark"), _PROCESSING),
    **dict.fromkeys(("HyperparameterTuner", "parameter", "tuner", "automl", "AutoML"), _TUNING),
    **dict.fromkeys(("workflow", "lineage", "experiments", "feature_store", "remote_function"), _PIPELINES),
    **dict.fromkeys(("image_uris", "get_model_package_args", "jumpstart", "git_utils"), _IMAGES),
    **dict.fromkeys(("S3Uploader", "S3Downloader", "s3", "s3_input"), _DATA),
    **dict.fromkeys(
        ("debugger", "Profiler", "ProfilerConfig", "clarify", "wrangler"),
        "Print values and read them with metric_definitions.",
    ),
}


def refuse_name(name: str) -> None:
    """Raise if ``name``, a class or a module, is one of the SDK's package that has no counterpart.

    Raises:
        UnsupportedImportError: it is; an ImportError as well.
    """
    if name in INSTEAD:
        raise UnsupportedImportError(
            f"launcher.{name} is not emulated: this version processes, trains, evaluates and transforms.", INSTEAD[name]
        )
