"""A real S3 server for tests: moto's, in a process of its own, with its log of requests."""

import json
import os
import re
import socket
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

REQUEST = re.compile(r'"(?:\x1b\[\d+m)*(\w+) (/\S*) HTTP')


class S3Server:
    """`uri(...)` names objects of its bucket; `requests()` counts what has been asked of it since the last call."""

    bucket = "raypt-test"

    def __init__(self, endpoint: str, log: Path) -> None:
        self.endpoint, self._log, self._seen = endpoint, log, 0

    def uri(self, *parts: str) -> str:
        return "/".join((f"s3://{self.bucket}", *parts))

    def requests(self) -> Counter[str]:
        """By method: GET, PUT, HEAD, DELETE, POST."""
        return Counter(method for method, _ in self.asked())

    def asked(self) -> list[tuple[str, str]]:
        """(method, path with its query) of each request since the last call of this or of `requests`, in order."""
        text = self._log.read_text(errors="replace")
        new, self._seen = text[self._seen :], len(text)
        return REQUEST.findall(new)

    @contextmanager
    def checking(self) -> Iterator[dict[str, dict[str, str]]]:
        """For the length of the block the server looks at who asks: signature, token and rights, as S3 does. Gives the
        credentials, as a client's environment has them, of who may do `everything` and `nothing`, and those of a
        `session` that may do everything.
        """
        import boto3

        iam, sts = (boto3.client(name, endpoint_url=self.endpoint) for name in ("iam", "sts"))
        allowed = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]}
        users = {}
        once = os.urandom(4).hex()  # the server keeps who it knows
        for name in ("everything", "nothing"):
            iam.create_user(UserName=f"{name}-{once}")
            users[name] = iam.create_access_key(UserName=f"{name}-{once}")["AccessKey"]
        iam.put_user_policy(UserName=f"everything-{once}", PolicyName="all", PolicyDocument=json.dumps(allowed))
        trust = {
            "Version": "2012-10-17",
            "Statement": [{"Effect": "Allow", "Principal": "*", "Action": "sts:AssumeRole"}],
        }
        role = iam.create_role(RoleName=f"session-{once}", AssumeRolePolicyDocument=json.dumps(trust))["Role"]["Arn"]
        iam.put_role_policy(RoleName=f"session-{once}", PolicyName="all", PolicyDocument=json.dumps(allowed))
        users["session"] = sts.assume_role(RoleArn=role, RoleSessionName="one")["Credentials"]
        names = {
            "AccessKeyId": "AWS_ACCESS_KEY_ID",
            "SecretAccessKey": "AWS_SECRET_ACCESS_KEY",
            "SessionToken": "AWS_SESSION_TOKEN",
        }
        self._checks("0")
        try:
            yield {user: {names[k]: v for k, v in keys.items() if k in names} for user, keys in users.items()}
        finally:
            self._checks("inf")

    def _checks(self, after: str) -> None:
        """After so many requests more."""
        request = urllib.request.Request(f"{self.endpoint}/moto-api/reset-auth", data=after.encode(), method="POST")
        request.add_header("Content-Type", "text/plain")
        urllib.request.urlopen(request, timeout=5).close()


def forget_clients() -> None:
    """fsspec keeps a client for good, with the server that it was made for."""
    import s3fs

    s3fs.S3FileSystem.clear_instance_cache()


@contextmanager
def s3_server(folder: Path) -> Iterator[S3Server]:
    """The server, with one bucket, and the environment by which every S3 client of this process finds it."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    log = folder / "s3.log"
    endpoint = f"http://127.0.0.1:{port}"
    given = {
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": endpoint,
    }
    before = {key: os.environ.get(key) for key in given}
    os.environ.update(given)
    forget_clients()
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with log.open("wb") as f:
        server = subprocess.Popen(command, stdout=f, stderr=subprocess.STDOUT)
    try:
        deadline = time.monotonic() + 60
        while True:
            try:
                request = urllib.request.Request(f"{endpoint}/{S3Server.bucket}", method="PUT")
                request.add_header(
                    "Authorization", "AWS4-HMAC-SHA256 Credential=test/20260101/us-east-1/s3/aws4_request"
                )
                urllib.request.urlopen(request, timeout=5)
                break
            except OSError:
                if server.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(f"no S3 server: {log.read_text()[-2000:]}") from None
                time.sleep(0.1)
        yield S3Server(endpoint, log)
    finally:
        server.terminate()
        server.wait(10)
        forget_clients()
        for key, value in before.items():
            if value is None:
                del os.environ[key]
            else:
                os.environ[key] = value
