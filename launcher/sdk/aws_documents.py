"""Documents of every kind on their way to AWS itself: checked, their inputs uploaded by content, sent."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from launcher.errors import NotFoundError, RemoteRequestError, TakenError
from launcher.remote.client import is_missing
from launcher.remote.shipping import Shipment, ship_inputs
from launcher.requests.for_aws import aws_document, check_kind_for_aws, texts_of
from launcher.storage.s3_uris import split_s3_uri

if TYPE_CHECKING:
    from launcher.remote.client import WireClient


class AwsDocuments:
    """Sends the documents of a session.

    Args:
        client: the wire.
        bucket: returns the name of the bucket that gets inputs, where a document names none that is written.
    """

    def __init__(self, client: WireClient, bucket: Callable[[], str]) -> None:
        self.client = client
        self._bucket = bucket

    def prepared(self, operation: str, request: Mapping[str, Any]) -> Shipment:
        """Return a document as AWS takes it, with the files to upload; reads files, sends nothing.

        Args:
            operation: that takes the document, such as ``CreateTransformJob``.
        Raises:
            BadInputError: AWS would refuse it, or an input cannot be read.
        """
        document = aws_document(request)
        check_kind_for_aws(operation, document)
        texts = list(texts_of(document))
        if not any(text.is_local_input for text in texts):
            return Shipment(document, {})
        buckets = [split_s3_uri(text.value)[0] for text in texts if text.is_written]
        return ship_inputs(document, f"s3://{buckets[0] if buckets else self._bucket()}")

    def send(self, operation: str, request: Mapping[str, Any]) -> dict[str, Any]:
        """Upload what is missing, and send a document; return AWS's answer.

        Raises:
            BadInputError: AWS would refuse it; nothing was sent.
            StorageError: the bucket is not there, or may not be written.
            TakenError, NotFoundError: AWS has it already, or has something of it not.
            RemoteRequestError: AWS refused it.
        """
        shipment = self.prepared(operation, request)
        shipment.send(self.client)
        return self.ask(operation, shipment.request)

    def ask(self, operation: str, request: Mapping[str, Any]) -> dict[str, Any]:
        """Send a document as it is; return AWS's answer.

        Raises:
            TakenError, NotFoundError, RemoteRequestError: as of ``send``.
        """
        try:
            return self.client.ask("sagemaker", operation, **request)
        except RemoteRequestError as error:
            if is_missing(error):
                raise NotFoundError(error.message, error.hint) from error
            if error.aws_code == "ResourceInUse" or "already existing" in error.message:
                raise TakenError(error.message, error.hint) from error
            raise
