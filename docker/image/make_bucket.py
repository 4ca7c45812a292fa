"""Create the bucket MLFLOW_ARTIFACTS_DESTINATION names (s3://BUCKET/...), if it is not there yet. Idempotent."""

from __future__ import annotations

import os
import sys
from typing import Any
from urllib.parse import urlsplit


def bucket_of(destination: str) -> str:
    """The bucket of an s3 address. Raises ``ValueError`` for any other address."""
    parts = urlsplit(destination)
    if parts.scheme != "s3" or not parts.netloc:
        raise ValueError(f"MLFLOW_ARTIFACTS_DESTINATION is {destination!r}; give s3://BUCKET or s3://BUCKET/FOLDER")
    return parts.netloc


def ensure(client: Any, bucket: str) -> bool:
    """Create the bucket of an S3 client where it lacks; whether it was created."""
    if bucket in (entry["Name"] for entry in client.list_buckets()["Buckets"]):
        return False
    client.create_bucket(Bucket=bucket)
    return True


def main() -> None:
    """Entry point; the server and its keys come from the environment, as for MLflow."""
    import boto3

    bucket = bucket_of(os.environ["MLFLOW_ARTIFACTS_DESTINATION"])
    client = boto3.client("s3", endpoint_url=os.environ.get("MLFLOW_S3_ENDPOINT_URL"))
    sys.stdout.write(f"bucket {bucket}: {'created' if ensure(client, bucket) else 'there already'}\n")


if __name__ == "__main__":
    main()
