"""Object stores in the story, each looked at from behind with a client of its own, which is no part of Penstock."""

import json
import urllib.request
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

from tests.integration.cases import SinkCase
from tests.servers.azure import AzureServer
from tests.servers.gcs import GcsServer
from tests.servers.s3 import S3Server

if TYPE_CHECKING:
    from azure.storage.blob import ContainerClient
    from mypy_boto3_s3 import S3Client

PREFIX = "backups/shop"
_VARIABLE = "STORE_KEY"


class S3Case(SinkCase):
    """A bucket; its keys come from the variables that all S3 tools know."""

    def __init__(self, server: S3Server) -> None:
        self.version = server.version
        self.bucket = server.new_bucket()
        self.url = f"s3://{self.bucket}/{PREFIX}?{urlencode({'endpoint': server.endpoint})}"
        self.environ = {"AWS_ACCESS_KEY_ID": server.access_key, "AWS_SECRET_ACCESS_KEY": server.secret_key}
        self._client: S3Client = server.client()

    def sizes(self) -> dict[str, int]:
        pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=f"{PREFIX}/")
        found = {
            one["Key"].removeprefix(f"{PREFIX}/"): one["Size"] for page in pages for one in page.get("Contents", ())
        }
        for upload in self._client.list_multipart_uploads(Bucket=self.bucket).get("Uploads", ()):
            found[f"unfinished: {upload['Key']}"] = 0
        return found

    def read(self, key: str) -> bytes:
        return self._client.get_object(Bucket=self.bucket, Key=f"{PREFIX}/{key}")["Body"].read()

    def write(self, key: str, data: bytes) -> None:
        self._client.put_object(Bucket=self.bucket, Key=f"{PREFIX}/{key}", Body=data)

    def delete(self, key: str) -> None:
        self._client.delete_object(Bucket=self.bucket, Key=f"{PREFIX}/{key}")

    def close(self) -> None:
        self._client.close()


class GcsCase(SinkCase):
    """A bucket, spoken to over plain HTTP."""

    def __init__(self, server: GcsServer) -> None:
        self.version = server.version
        self.bucket = server.new_bucket()
        self.url = f"gs://{self.bucket}/{PREFIX}?{urlencode({'endpoint': server.endpoint})}"
        self.environ = {}
        self._objects = f"{server.endpoint}/storage/v1/b/{self.bucket}/o"
        self._upload = f"{server.endpoint}/upload/storage/v1/b/{self.bucket}/o"

    def sizes(self) -> dict[str, int]:
        found: dict[str, int] = {}
        token = ""
        while True:
            query = urlencode({"prefix": f"{PREFIX}/", "pageToken": token})
            page: dict[str, Any] = json.loads(self._ask("GET", f"{self._objects}?{query}"))
            found |= {one["name"].removeprefix(f"{PREFIX}/"): int(one["size"]) for one in page.get("items", ())}
            token = page.get("nextPageToken", "")
            if not token:
                return found

    def read(self, key: str) -> bytes:
        return self._ask("GET", f"{self._object(key)}?alt=media")

    def write(self, key: str, data: bytes) -> None:
        self._ask("POST", f"{self._upload}?{urlencode({'uploadType': 'media', 'name': f'{PREFIX}/{key}'})}", data)

    def delete(self, key: str) -> None:
        self._ask("DELETE", self._object(key))

    def close(self) -> None:
        """There is nothing to close."""

    def _object(self, key: str) -> str:
        return f"{self._objects}/{quote(f'{PREFIX}/{key}', safe='')}"

    @staticmethod
    def _ask(method: str, url: str, data: bytes | None = None) -> bytes:
        request = urllib.request.Request(url, data, {"Content-Type": "application/octet-stream"}, method=method)
        with urllib.request.urlopen(request, timeout=60) as answer:
            found: bytes = answer.read()
            return found


class AzureCase(SinkCase):
    """A container; the account's key stands in a variable that the settings name."""

    def __init__(self, server: AzureServer) -> None:
        self.version = server.version
        container = server.new_container()
        self.url = f"azure://{server.account}/{container}/{PREFIX}?{urlencode({'endpoint': server.endpoint})}"
        self.environ = {_VARIABLE: server.key}
        self.settings = {"account_key": {"env": _VARIABLE}}
        self._service = server.client()
        self._container: ContainerClient = self._service.get_container_client(container)

    def sizes(self) -> dict[str, int]:
        blobs = self._container.list_blobs(name_starts_with=f"{PREFIX}/", include=["uncommittedblobs"])
        return {str(one.name).removeprefix(f"{PREFIX}/"): int(one.size or 0) for one in blobs}

    def read(self, key: str) -> bytes:
        return self._container.download_blob(f"{PREFIX}/{key}").readall()

    def write(self, key: str, data: bytes) -> None:
        self._container.upload_blob(f"{PREFIX}/{key}", data, overwrite=True)

    def delete(self, key: str) -> None:
        self._container.delete_blob(f"{PREFIX}/{key}")

    def close(self) -> None:
        self._service.close()
