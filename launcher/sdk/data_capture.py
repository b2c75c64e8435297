"""``DataCaptureConfig``: what an endpoint writes of its requests and answers, with the SDK's arguments."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from launcher.errors import BadInputError, UnsupportedOptionError
from launcher.storage import to_uri

if TYPE_CHECKING:
    from launcher.sdk.session import Session


class DataCaptureConfig:
    """What an endpoint captures.

    Args:
        enable_capture: whether anything is captured.
        sampling_percentage: of the requests, 0 to 100. An estimate wants all of them: give 100.
        destination_s3_uri: ``s3://`` or ``file://``, or a path; None takes ``model-monitor/data-capture`` in the
            session's bucket.
        capture_options: of ``REQUEST`` and ``RESPONSE``; None captures both.
        csv_content_types: what is written as text; None: ``text/csv``. On AWS None writes Base64.
        json_content_types: the same; None: ``application/json`` and ``application/jsonlines``.
        sagemaker_session: whose bucket is meant.
    Raises:
        BadInputError: an option or a place is none.
        UnsupportedOptionError: ``kms_key_id`` is given.
    """

    API_MAPPING = {"REQUEST": "Input", "RESPONSE": "Output"}  # noqa: RUF012 - the SDK's

    def __init__(
        self,
        enable_capture: bool,
        sampling_percentage: int = 20,
        destination_s3_uri: str | None = None,
        kms_key_id: str | None = None,
        capture_options: Sequence[str] | None = None,
        csv_content_types: Sequence[str] | None = None,
        json_content_types: Sequence[str] | None = None,
        sagemaker_session: Session | None = None,
    ) -> None:
        if kms_key_id is not None:
            raise UnsupportedOptionError(
                f"DataCaptureConfig(kms_key_id={kms_key_id!r}) is not emulated.",
                "Leave it out: what is captured stays on this machine's disk; encrypt that.",
            )
        options = list(capture_options or ("REQUEST", "RESPONSE"))
        if unknown := [option for option in options if option not in self.API_MAPPING]:
            raise BadInputError(
                f"DataCaptureConfig(capture_options): {unknown[0]!r} is none.", "Use REQUEST and RESPONSE."
            )
        self.enable_capture = enable_capture
        self.sampling_percentage = sampling_percentage
        self.destination_s3_uri = None if destination_s3_uri is None else to_uri(str(destination_s3_uri))
        self.kms_key_id = None
        self.capture_options = options
        self.csv_content_types = list(csv_content_types or ("text/csv",))
        self.json_content_types = list(json_content_types or ("application/json", "application/jsonlines"))
        self.sagemaker_session = sagemaker_session

    def to_request_dict(self, session: Session) -> dict[str, Any]:
        """Return the member DataCaptureConfig of a request.

        Args:
            session: whose bucket is meant where neither a place nor a session was given.
        """
        destination = self.destination_s3_uri
        if destination is None:
            destination = f"{(self.sagemaker_session or session).default_output_uri()}/model-monitor/data-capture"
        return {
            "EnableCapture": self.enable_capture,
            "InitialSamplingPercentage": self.sampling_percentage,
            "DestinationS3Uri": destination,
            "CaptureOptions": [{"CaptureMode": self.API_MAPPING[option]} for option in self.capture_options],
            "CaptureContentTypeHeader": {
                "CsvContentTypes": self.csv_content_types,
                "JsonContentTypes": self.json_content_types,
            },
        }
