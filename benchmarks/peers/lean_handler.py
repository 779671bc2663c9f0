"""The usual way: AWS's own runtime client, boto3 for the table, PyJWT, urllib3 to the cluster.

It does the relay's job for one kind of job and answers it whole, since this runtime can't stream.
"""

import base64
import json
import os
import time

import boto3
import jwt
import urllib3

_SETTINGS = json.loads(os.environ["PEER_SETTINGS"])
_KEY = jwt.PyJWK(_SETTINGS["jwk"])
_TABLE = boto3.client("dynamodb")
_CLUSTER = urllib3.PoolManager(ca_certs=_SETTINGS["ca"], retries=False)
_CARRIED = ("Accept", "Accept-Encoding", "Content-Type", "User-Agent")
_TEXT = ("application/json", "text/plain")
_CACHE_SECONDS = 3
_jobs = {}
_tokens = {}


def handler(event, _context):
    headers = {name: values[-1] for name, values in event["multiValueHeaders"].items()}
    job = _verified(headers["Authorization"].removeprefix("Bearer "))
    if not _runs(job):
        return {"statusCode": 403, "body": "{}"}
    path = event["path"].split("/", 3)[3]
    query = event.get("multiValueQueryStringParameters") or {}
    began = time.time()
    answer = _CLUSTER.request(
        event["httpMethod"],
        f"{_SETTINGS['cluster']}/{path}",
        fields=[(name, value) for name, values in query.items() for value in values] or None,
        headers={
            **{name: headers[name] for name in _CARRIED if name in headers},
            "Authorization": f"Bearer {_SETTINGS['credential']}",
            "Impersonate-User": f"gitlab:ci_job:{job['id']}",
            "Impersonate-Group": f"gitlab:project:{job['project_id']}",
        },
        decode_content=False,
    )
    print(json.dumps(_record(event, job, answer, began)))
    given = {name: [value] for name, value in answer.headers.items()}
    if answer.headers.get("content-type", "").startswith(_TEXT):
        body, is_binary = answer.data.decode(), False
    else:
        body, is_binary = base64.b64encode(answer.data).decode(), True
    return {
        "statusCode": answer.status,
        "multiValueHeaders": given,
        "body": body,
        "isBase64Encoded": is_binary,
    }


def _record(event, job, answer, began):
    return {
        "type": "request",
        "at": began,
        "job_id": job["id"],
        "project": job["project_path"],
        "user": job["user_login"],
        "method": event["httpMethod"],
        "path": event["path"],
        "status": answer.status,
        "bytes_out": len(answer.data),
        "ms_upstream": round((time.time() - began) * 1000, 1),
    }


def _verified(token):
    if token not in _tokens:
        _tokens[token] = jwt.decode(
            token, _KEY, algorithms=["ES256"], audience=_SETTINGS["audience"]
        )
    claims = _tokens[token]
    if claims["exp"] <= time.time():
        raise PermissionError
    return claims["job"]


def _runs(job):
    known = _jobs.get(job["id"])
    if known is None or time.monotonic() - known[0] > _CACHE_SECONDS:
        key = {"pk": {"S": f"JOB#main#{job['project_id']}#{job['id']}"}, "sk": {"S": "STATE"}}
        item = _TABLE.get_item(TableName=_SETTINGS["table"], Key=key, ConsistentRead=True)
        known = _jobs[job["id"]] = time.monotonic(), item["Item"]["status"]["S"]
    return known[1] == "running"
