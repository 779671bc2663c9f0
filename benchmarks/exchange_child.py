"""One cold start of the exchange: a process that answers one event and ends.

    python -m benchmarks.exchange_child AWS FRONT EVENT_FILE

AWS: signed (as deployed), client or resource (boto3's). FRONT: own (as deployed) or powertools
(API Gateway's resolver with validation). Printed: the status of the answer.
"""

import json
import os
import sys
from typing import Any


def main(aws: str, front: str, event_file: str) -> None:
    """Answer the event and say how."""
    from jobgate import wiring  # noqa: PLC0415  its import is part of what is measured

    if aws != "signed":
        _use_boto(resource=aws == "resource")
    handler: Any = wiring.token_exchange(os.environ)  # noqa: TID251  as functions/*/app.py does
    if front == "powertools":
        handler = _behind_powertools(handler)
    with open(event_file) as file:  # noqa: PTH123  pathlib's import would be measured too
        answer = handler(json.load(file), _Context())
    print(answer["statusCode"], flush=True)


class _Context:
    function_name = "token_exchange"
    memory_limit_in_mb = 1024
    invoked_function_arn = "arn:aws:lambda:eu-central-1:000000000000:function:token_exchange"
    aws_request_id = "request-1"

    def get_remaining_time_in_millis(self) -> int:
        return 28_000


def _use_boto(*, resource: bool) -> None:
    import boto3  # noqa: PLC0415  measured
    from jobgate.adapters import signed_aws  # noqa: PLC0415
    from jobgate.adapters.boto_aws import BotoAWS  # noqa: PLC0415

    class Boto(BotoAWS):
        def __init__(self, *_: object, **__: object) -> None:
            session = boto3.Session()
            super().__init__(session)
            if resource:
                # What a handler on boto3's resources makes at INIT; it describes the tables' API.
                self.table = session.resource("dynamodb").Table(os.environ["JOBGATE_TABLE"])  # noqa: TID251
            self._clients = {name: session.client(name) for name in ("dynamodb", "kms")}

    signed_aws.SignedAWS = Boto  # type: ignore[misc, assignment]  # the one seam of this comparison


def _behind_powertools(handler: Any) -> Any:
    from aws_lambda_powertools import Logger  # noqa: PLC0415  measured
    from aws_lambda_powertools.event_handler import (  # noqa: PLC0415
        APIGatewayRestResolver,
        Response,
    )
    from pydantic import BaseModel  # noqa: PLC0415

    logger = Logger(service="token_exchange")
    app = APIGatewayRestResolver(enable_validation=True)

    class Kubeconfig(BaseModel):
        apiVersion: str  # noqa: N815  Kubernetes' name
        kind: str
        clusters: list[dict[str, Any]]
        users: list[dict[str, Any]]
        contexts: list[dict[str, Any]]

    @app.post("/kubeconfig")
    def kubeconfig() -> Response[Kubeconfig]:
        answer = handler(app.current_event.raw_event, None)
        return Response(
            status_code=answer["statusCode"],
            content_type="application/json",
            body=Kubeconfig(**json.loads(answer["body"])),
        )

    @logger.inject_lambda_context
    def wrapped(event: dict[str, Any], context: Any) -> Any:
        return app.resolve(event, context)

    return wrapped


if __name__ == "__main__":
    main(*sys.argv[1:])
