"""Asks an endpoint through SageMaker's SDK; a program, for v2 and v3 cannot be imported together.

    python sdk_predictors.py v2|v3 FOLDER BODY

The endpoint's address is AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME. Prints the plain answer to the JSON
body, and the text of the one that comes as a stream, as a JSON list.
"""

import json
import sys
from pathlib import Path

from sdk_settings import quiet_sdk


def by_v2(body):
    """The predictor that HuggingFaceModel.deploy returns, with all its defaults."""
    import boto3
    from sagemaker import Session
    from sagemaker.huggingface import HuggingFacePredictor

    predictor = HuggingFacePredictor("mine", Session(boto3.Session(), default_bucket="none"))
    return predictor.predict(body), predictor.predict_stream({**body, "stream": True})


def by_v3(body):
    """The endpoint resource that ModelBuilder.deploy returns, with its serializers."""
    from sagemaker.core.deserializers.implementations import JSONDeserializer
    from sagemaker.core.iterators import ByteIterator
    from sagemaker.core.resources import Endpoint
    from sagemaker.core.serializers.implementations import JSONSerializer

    endpoint = Endpoint(
        endpoint_name="mine", serializer=JSONSerializer(), deserializer=JSONDeserializer()
    )
    kinds = {"content_type": "application/json", "accept": "application/json"}
    # Its own invoke_with_response_stream takes the stream for a dict (sagemaker-core 2.27).
    streamed = endpoint._get_client("sagemaker-runtime").invoke_endpoint_with_response_stream(
        EndpointName="mine", ContentType="application/json", Accept="application/json",
        Body=json.dumps({**body, "stream": True}),
    )  # fmt: skip
    return endpoint.invoke(body=body, **kinds).body, ByteIterator(streamed["Body"])


if __name__ == "__main__":
    version, folder, body = sys.argv[1:]
    quiet_sdk(Path(folder))
    plain, pieces = {"v2": by_v2, "v3": by_v3}[version](json.loads(body))
    print(json.dumps([plain, b"".join(pieces).decode()]))
