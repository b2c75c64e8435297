"""The names of ``sagemaker.processing`` of the SDK that have a counterpart here."""

from launcher.sdk.framework_processors import FrameworkProcessor
from launcher.sdk.processing import Processor, ScriptProcessor
from launcher.sdk.processing_inputs import NetworkConfig, ProcessingInput, ProcessingOutput, S3Input
from launcher.sdk.processing_job import ProcessingJob

__all__ = [
    "FrameworkProcessor",
    "NetworkConfig",
    "ProcessingInput",
    "ProcessingJob",
    "ProcessingOutput",
    "Processor",
    "S3Input",
    "ScriptProcessor",
]
