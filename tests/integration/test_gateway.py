"""The local gateway over real worker processes: what AWS does, and each of its limits, acting."""

from __future__ import annotations

import concurrent.futures
import contextlib
import http.client
import json
import os
import signal
import socket
import sys
import time
from base64 import b64encode
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from local.gateway.limits import Limits
from local.process import ChildFailedError
from tests.support.gateway import Client, query, start_gateway

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_KIB = 1024
_LIFETIME_SECONDS = 20
_CHUNKED_AND_EMPTY = b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    client = start_gateway(tmp_path_factory.mktemp("gateway"))
    yield client
    client.gateway.stop()


@pytest.fixture(scope="module")
def strict(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    limits = Limits(
        request_body=20 * _KIB,
        event=16 * _KIB,
        response_payload=8 * _KIB,
        stream=512 * _KIB,  # the prelude counts too
        prelude=1 * _KIB,
        buffered_seconds=1.5,
        stream_seconds=3,
        idle_seconds=1,
    )
    client = start_gateway(tmp_path_factory.mktemp("strict"), limits=limits)
    yield client
    client.gateway.stop()


def _wait_until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + _LIFETIME_SECONDS
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def _runs(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


class TestEvent:
    @pytest.mark.parametrize(
        "path",
        [
            "/agents/5/api/v1",
            "/agents/5//api//v1/",
            "/agents/5/a/../b/./c",
            "/agents/5/%2e%2e/%2E%2E",
            "/agents/5/a%2Fb%2fc%3Fd%23e%25f",
            "/agents/5/~!$&'()*+,;=:@-._",
            "/agents/5/api/",
            "/agents/a%20b",
            "/agents/5/",
        ],
    )
    def test_a_path_arrives_byte_for_byte_without_the_stage(
        self, gateway: Client, path: str
    ) -> None:
        event = gateway.send(path).json()["event"]
        assert event["path"] == path
        assert event["requestContext"]["path"] == f"/live{path}"

    def test_path_parameters_stay_encoded_and_the_greedy_one_takes_the_rest(
        self, gateway: Client
    ) -> None:
        event = gateway.send("/agents/a%20b/x%2Fy//z/").json()["event"]
        assert event["pathParameters"] == {"agent_id": "a%20b", "proxy": "x%2Fy//z/"}
        assert event["resource"] == "/agents/{agent_id}/{proxy+}"

    def test_one_slash_at_the_end_doesnt_make_a_greedy_part(self, gateway: Client) -> None:
        event = gateway.send("/agents/5/").json()["event"]
        assert event["resource"] == "/agents/{agent_id}"

    def test_headers_keep_their_letter_case_and_every_value(self, gateway: Client) -> None:
        headers = [("X-miXed", "1"), ("Accept", "*/*"), ("X-miXed", "2"), ("User-Agent", "me")]
        event = gateway.send("/stock/5", headers=headers).json()
        assert event["multiValueHeaders"]["X-miXed"] == ["1", "2"]
        assert event["headers"]["X-miXed"] == "2"
        assert event["requestContext"]["identity"]["userAgent"] == "me"

    def test_the_gateway_adds_its_own_headers_and_drops_those_of_the_connection(
        self, gateway: Client
    ) -> None:
        headers = [
            ("Connection", "keep-alive"),
            ("TE", "trailers"),
            ("X-Forwarded-For", "192.0.2.7"),
            ("x-forwarded-proto", "gopher"),
        ]
        sent = gateway.send("/stock/5", method="POST", headers=headers, body=b"{}").json()
        trace = sent["headers"]["X-Amzn-Trace-Id"]
        host = sent["headers"]["Host"]
        assert sent["multiValueHeaders"] == {
            "Host": [host],
            "X-Amzn-Trace-Id": [trace],
            "X-Forwarded-For": ["192.0.2.7, 127.0.0.1"],
            "X-Forwarded-Port": ["443"],
            "X-Forwarded-Proto": ["https"],
        }
        assert trace.startswith("Root=1-")

    def test_a_query_is_decoded_and_split_at_semicolons_too(self, gateway: Client) -> None:
        event = gateway.send("/stock/5?b=1&a=%7B%7C%2B&b=2;c=x+y&empty&do=event").json()
        assert event["multiValueQueryStringParameters"] == {
            "a": ["{|+"],
            "b": ["1", "2"],
            "c": ["x y"],
            "do": ["event"],
            "empty": [""],
        }
        assert event["queryStringParameters"]["b"] == "2"

    def test_absent_parts_are_null(self, gateway: Client) -> None:
        event = gateway.send("/stock/5").json()
        assert event["queryStringParameters"] is None
        assert event["multiValueQueryStringParameters"] is None
        assert event["stageVariables"] is None
        assert event["body"] is None
        assert event["isBase64Encoded"] is False

    def test_every_body_is_base64_where_all_media_types_are_binary(self, gateway: Client) -> None:
        body = bytes(range(256))
        headers = [("Content-Type", "application/json"), ("Content-Encoding", "gzip")]
        event = gateway.send("/stock/5", method="POST", headers=headers, body=body).json()
        assert event["body"] == b64encode(body).decode()
        assert event["isBase64Encoded"] is True
        assert event["headers"]["Content-Encoding"] == "gzip"

    def test_a_body_is_awaited_after_100_continue(self, gateway: Client) -> None:
        stage = b"/live/stock/5"
        head = b"POST %b HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n"
        assert gateway.raw(head % stage) == b"HTTP/1.1 100 Continue\r\n"

    def test_the_request_context_names_route_stage_and_request(self, gateway: Client) -> None:
        reply = gateway.send("/stock/5")
        context = reply.json()["requestContext"]
        assert context["resourcePath"] == "/stock/{item}"
        assert context["stage"] == "live"
        assert context["httpMethod"] == "GET"
        assert context["protocol"] == "HTTP/1.1"
        assert context["identity"]["sourceIp"] == "127.0.0.1"
        assert [context["requestId"]] == reply.values("x-amzn-RequestId")


class TestRouting:
    def test_a_fixed_part_wins_over_a_variable_one(self, gateway: Client) -> None:
        assert gateway.send("/stock/fixed").json()["resource"] == "/stock/fixed"

    @pytest.mark.parametrize("path", ["/nothing", "/stock", "/stock/5/6", "/Stock/5", "//stock/5"])
    def test_an_unknown_path_is_403_missing_authentication_token(
        self, gateway: Client, path: str
    ) -> None:
        reply = gateway.send(path)
        assert (reply.status, reply.json()) == (403, {"message": "Missing Authentication Token"})

    def test_an_undeclared_method_is_403_missing_authentication_token(
        self, gateway: Client
    ) -> None:
        reply = gateway.send("/stock/5", method="DELETE")
        assert (reply.status, reply.json()) == (403, {"message": "Missing Authentication Token"})

    @pytest.mark.parametrize("method", ["GET", "PUT", "PATCH", "DELETE", "OPTIONS"])
    def test_any_takes_every_method(self, gateway: Client, method: str) -> None:
        event = gateway.send("/agents/5/api", method=method).json()["event"]
        assert event["httpMethod"] == method

    def test_another_stage_is_403_forbidden(self, gateway: Client) -> None:
        first = gateway.raw(b"GET /dev/stock/5 HTTP/1.1\r\nHost: x\r\n\r\n")
        assert first == b"HTTP/1.1 403 Forbidden\r\n"


class TestRefusedRequests:
    @pytest.mark.parametrize("raw", ["a|b", "a{b", "a}b"])
    def test_these_characters_in_a_query_are_400(self, gateway: Client, raw: str) -> None:
        assert gateway.send(f"/stock/5?q={raw}").status == 400

    @pytest.mark.parametrize(
        "data",
        [
            b"GET https://x/live/stock/5 HTTP/1.1\r\nHost: x\r\n\r\n",
            b"GET /live/stock/5#a HTTP/1.1\r\nHost: x\r\n\r\n",
            b"GET /live/stock/\xc3\xa9 HTTP/1.1\r\nHost: x\r\n\r\n",
            b"GET /live/stock/5 HTTP/1.1\nHost: x\n\n",
            b"GET /live/stock/5 HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n",
            b"GET /live/stock/5 HTTP/1.1\r\nHost: x\r\nA: b\r\n c\r\n\r\n",
            b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
            b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n%b" % _CHUNKED_AND_EMPTY,
        ],
    )
    def test_an_ambiguous_request_is_400(self, gateway: Client, data: bytes) -> None:
        assert gateway.raw(data).split(b" ")[1] == b"400"

    def test_a_head_of_10240_bytes_passes_and_one_more_is_431(self, gateway: Client) -> None:
        def request(size: int) -> bytes:
            start, end = b"GET /live/nothing HTTP/1.1\r\nHost: x\r\nX-Long: ", b"\r\n\r\n"
            # The empty line that ends the head isn't counted.
            return start + b"a" * (size - len(start) - len(end) + 2) + end

        assert gateway.raw(request(10_240)).split(b" ")[1] == b"403"
        assert gateway.raw(request(10_241)).split(b" ")[1] == b"431"

    def test_a_body_above_the_gateways_limit_is_413(self, strict: Client) -> None:
        reply = strict.send("/stock/5", method="POST", body=b"x" * (20 * _KIB + 1))
        assert (reply.status, reply.json()) == (413, {"message": "Request Too Long"})

    def test_a_chunked_body_above_the_gateways_limit_is_413(self, strict: Client) -> None:
        head = b"POST /live/stock/5 HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
        chunk = b"5400\r\n" + b"x" * 0x5400 + b"\r\n"
        assert strict.raw(head + chunk).split(b" ")[1] == b"413"

    def test_an_event_above_lambdas_limit_is_413(self, strict: Client) -> None:
        reply = strict.send("/stock/5", method="POST", body=b"x" * (15 * _KIB))
        assert (reply.status, reply.json()) == (413, {"message": "Request Too Long"})


class TestBufferedAnswers:
    def test_status_headers_and_body_become_the_answer(self, gateway: Client) -> None:
        value = {
            "statusCode": 418,
            "headers": {"X-One": "1", "X-Both": "lost"},
            "multiValueHeaders": {"x-both": ["a", "b"], "Set-Cookie": ["c=1", "d=2"]},
            "body": "text é",
        }
        reply = gateway.send("/stock/5" + query(do="return", value=json.dumps(value)))
        assert reply.status == 418
        assert reply.body == "text é".encode()
        assert reply.values("x-one") == ["1"]
        assert reply.values("x-both") == ["a", "b"]
        assert reply.values("set-cookie") == ["c=1", "d=2"]
        assert reply.values("content-type") == ["application/json"]
        assert reply.values("server") == []

    @pytest.mark.parametrize(
        "name", ["WWW-Authenticate", "Date", "Server", "Connection", "Content-Length"]
    )
    def test_headers_that_the_gateway_owns_are_renamed(self, gateway: Client, name: str) -> None:
        value = {"statusCode": 401, "headers": {name: "7"}, "body": "no"}
        reply = gateway.send("/stock/5" + query(do="return", value=json.dumps(value)))
        assert reply.status == 401
        assert reply.values(f"x-amzn-Remapped-{name}") == ["7"]
        assert "7" not in reply.values(name)

    def test_a_base64_body_is_decoded(self, gateway: Client) -> None:
        value = {"statusCode": 200, "isBase64Encoded": True, "body": b64encode(b"\xff\0").decode()}
        reply = gateway.send("/stock/5" + query(do="return", value=json.dumps(value)))
        assert reply.body == b"\xff\0"

    @pytest.mark.parametrize(
        "value",
        [
            "text",
            {"body": "no status"},
            {"statusCode": "OK"},
            {"statusCode": 101},
            {"statusCode": 200, "body": {"an": "object"}},
            {"statusCode": 200, "headers": {"a": {}}},
            {"statusCode": 200, "headers": {"a": "b\r\nc: d"}},
            {"statusCode": 200, "headers": {"a b": "c"}},
            {"statusCode": 200, "multiValueHeaders": {"a": "b"}},
            {"statusCode": 200, "isBase64Encoded": True, "body": "%"},
        ],
    )
    def test_a_malformed_result_is_502(self, gateway: Client, value: object) -> None:
        reply = gateway.send("/stock/5" + query(do="return", value=json.dumps(value)))
        assert (reply.status, reply.json()) == (502, {"message": "Internal server error"})

    def test_a_handler_that_raises_is_502(self, gateway: Client) -> None:
        reply = gateway.send("/stock/5" + query(do="raise"))
        assert (reply.status, reply.json()) == (502, {"message": "Internal server error"})

    def test_a_payload_above_lambdas_limit_is_502(self, strict: Client) -> None:
        assert strict.send("/stock/5" + query(do="big", bytes=7 * _KIB)).status == 200
        assert strict.send("/stock/5" + query(do="big", bytes=8 * _KIB)).status == 502

    def test_a_buffered_integration_is_cut_at_its_time_out(
        self, strict: Client, tmp_path: Path
    ) -> None:
        reply = strict.send("/stock/5" + query(do="wait", file=tmp_path / "late"))
        (tmp_path / "late").touch()
        assert reply.status == 504
        assert reply.body == b"late: Endpoint request timed out (INTEGRATION_TIMEOUT)"
        assert reply.values("x-worded-by") == ["the template"]

    def test_the_routes_own_time_out_counts(self, gateway: Client, tmp_path: Path) -> None:
        reply = gateway.send("/stock/fixed" + query(do="wait", file=tmp_path / "late"))
        (tmp_path / "late").touch()
        assert reply.status == 504


class TestStreamedAnswers:
    def test_the_first_byte_arrives_before_the_function_has_ended(
        self, gateway: Client, tmp_path: Path
    ) -> None:
        gate = tmp_path / "gate"
        with gateway.open("/agents/5/api" + query(do="gate", file=gate)) as response:
            first = response.read1(5)
            gate.touch()
            rest = response.read()
        assert (first, rest) == (b"first", b"second")

    def test_status_and_headers_arrive_before_the_first_byte(
        self, gateway: Client, tmp_path: Path
    ) -> None:
        gate = tmp_path / "gate"
        prelude = {"statusCode": 201, "headers": {"x-a": "1"}, "cookies": ["a=b", "c=d"]}
        wish = query(do="gate-first", file=gate, prelude=json.dumps(prelude))
        with gateway.open(f"/agents/5/api{wish}") as response:
            assert response.status == 201
            assert response.getheader("x-a") == "1"
            assert response.headers.get_all("set-cookie") == ["a=b", "c=d"]
            gate.touch()
            assert response.read() == b"only"

    def test_bytes_pass_unchanged(self, gateway: Client) -> None:
        reply = gateway.send("/agents/5/api" + query(do="bytes"))
        assert reply.body == bytes(range(256))

    def test_a_long_answer_passes_whole(self, gateway: Client) -> None:
        total = 0
        with gateway.open("/agents/5/api" + query(do="long", chunks=800)) as response:
            while data := response.read(1 << 20):
                total += len(data)
        assert total == 800 * 64 * _KIB

    @pytest.mark.parametrize("wish", ["die", "trailer"])
    def test_a_failure_in_the_middle_is_a_broken_answer(self, gateway: Client, wish: str) -> None:
        with (
            gateway.open("/agents/5/api" + query(do=wish)) as response,
            pytest.raises(http.client.IncompleteRead) as broken,
        ):
            response.read()
        assert broken.value.partial == b"first"

    @pytest.mark.parametrize("prelude", ['{"statusCode": 99}', '{"headers": []}', "[]"])
    def test_a_bad_prelude_is_502(self, gateway: Client, prelude: str) -> None:
        reply = gateway.send("/agents/5/api" + query(do="bytes", prelude=prelude))
        assert (reply.status, reply.json()) == (502, {"message": "Internal server error"})

    def test_a_worker_that_dies_before_the_prelude_is_502(self, gateway: Client) -> None:
        reply = gateway.send("/agents/5/api" + query(do="exit"))
        assert (reply.status, reply.json()) == (502, {"message": "Internal server error"})

    def test_a_buffered_result_passes_verbatim_on_a_streaming_route(self, gateway: Client) -> None:
        reply = gateway.send("/agents/5/api" + query(do="buffered"))
        assert reply.status == 200
        assert reply.body == b'{"statusCode": 418, "body": "short and stout"}'

    @pytest.mark.parametrize("status", [204, 304])
    def test_an_answer_without_a_body_ends(self, gateway: Client, status: int) -> None:
        prelude = json.dumps({"statusCode": status})
        reply = gateway.send("/agents/5/api" + query(do="nothing", prelude=prelude))
        assert (reply.status, reply.body) == (status, b"")

    def test_an_empty_200_ends(self, gateway: Client) -> None:
        reply = gateway.send("/agents/5/api" + query(do="nothing"))
        assert (reply.status, reply.body) == (200, b"")

    def test_a_prelude_without_end_is_502(self, strict: Client) -> None:
        prelude = json.dumps({"headers": {"a": "b" * 2 * _KIB}})
        reply = strict.send("/agents/5/api" + query(do="split", prelude=prelude))
        assert reply.status == 502

    def test_a_prelude_above_its_limit_is_502(self, gateway: Client, strict: Client) -> None:
        wish = query(do="bytes", prelude=json.dumps({"headers": {"a": "b" * 2 * _KIB}}))
        assert gateway.send(f"/agents/5/api{wish}").status == 200
        assert strict.send(f"/agents/5/api{wish}").status == 502

    def test_a_stream_is_cut_after_a_silence_long_before_its_time_out(self, tmp_path: Path) -> None:
        client = start_gateway(tmp_path / "gateway", limits=Limits(idle_seconds=1))
        wish = query(do="gate", file=tmp_path / "gate")
        with contextlib.closing(_Stopping(client)):
            with (
                client.open(f"/agents/5/api{wish}") as response,
                pytest.raises(http.client.IncompleteRead),
            ):
                response.read()
            (tmp_path / "gate").touch()

    def test_silence_before_the_head_is_504(self, strict: Client, tmp_path: Path) -> None:
        reply = strict.send("/agents/5/api" + query(do="silent", file=tmp_path / "gate"))
        (tmp_path / "gate").touch()
        assert reply.status == 504

    def test_a_stream_is_cut_at_its_time_out(self, strict: Client) -> None:
        with (
            strict.open("/agents/5/api" + query(do="drip")) as response,
            pytest.raises(http.client.IncompleteRead),
        ):
            response.read()

    def test_a_stream_is_cut_above_lambdas_limit(self, strict: Client) -> None:
        with (
            strict.open("/agents/5/api" + query(do="long", chunks=8)) as response,
            pytest.raises(http.client.IncompleteRead),
        ):
            response.read()
        assert len(strict.send("/agents/5/api" + query(do="long", chunks=7)).body) == 448 * _KIB

    def test_a_client_that_leaves_isnt_told_to_the_function(
        self, gateway: Client, tmp_path: Path
    ) -> None:
        gate, done = tmp_path / "gate", tmp_path / "done"
        with gateway.open("/agents/5/api" + query(do="gate", file=gate, done=done)) as response:
            assert response.read1(5) == b"first"
        gate.touch()
        _wait_until(done.exists)


class TestWorkers:
    def test_a_worker_sees_the_documented_environment_and_nothing_else(
        self, gateway: Client
    ) -> None:
        environment = gateway.send("/stock/5" + query(do="context")).json()["environment"]
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        # Python itself sets this one where the machine lacks the locale.
        environment.pop("LC_CTYPE", None)
        varying = {
            name: environment.pop(name)
            for name in (
                "AWS_LAMBDA_LOG_STREAM_NAME",
                "AWS_LAMBDA_RUNTIME_API",
                "LAMBDA_RUNTIME_DIR",
                "LAMBDA_TASK_ROOT",
                "PATH",
                "POINTS_INTO_LAYER",
                "_X_AMZN_TRACE_ID",
            )
        }
        assert environment == {
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_DEFAULT_REGION": "eu-central-1",
            "AWS_ENDPOINT_URL": "http://127.0.0.1:9",
            "AWS_EXECUTION_ENV": f"AWS_Lambda_python{version}",
            "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "256",
            "AWS_LAMBDA_FUNCTION_NAME": "stock-physical-name",
            "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
            "AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand",
            "AWS_LAMBDA_LOG_GROUP_NAME": "/aws/lambda/stock-physical-name",
            "AWS_REGION": "eu-central-1",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_SESSION_TOKEN": "test",
            "LANG": "en_US.UTF-8",
            "OWN": "value",
            "TZ": ":UTC",
            "_HANDLER": "stock.handler",
        }
        assert varying["POINTS_INTO_LAYER"].endswith("/layer/data")

    def test_a_handler_finds_its_layer_and_the_runtimes_boto3(self, gateway: Client) -> None:
        context = gateway.send("/stock/5" + query(do="context")).json()
        runtime = context["environment"]["LAMBDA_RUNTIME_DIR"]
        assert context["layer"].endswith("/layer/python/layer_module.py")
        assert context["boto3"].startswith(f"{runtime}/")
        assert context["path"][0] == context["working_folder"]
        assert not [place for place in context["path"] if ".venv" in place]

    def test_a_handler_is_told_request_function_and_time_left(self, gateway: Client) -> None:
        reply = gateway.send("/stock/5" + query(do="context"))
        context = reply.json()
        assert [context["request_id"]] == reply.values("x-amzn-RequestId")
        assert context["arn"].endswith(":function:stock-physical-name")
        assert 0 < context["milliseconds"] <= 20_000

    def test_a_warm_worker_is_used_again(self, gateway: Client) -> None:
        pids = {gateway.send("/agents/5/api").json()["pid"] for _ in range(5)}
        assert len(pids) == 1

    def test_concurrent_requests_have_workers_of_their_own(
        self, gateway: Client, tmp_path: Path
    ) -> None:
        def meet(me: str, other: str) -> int:
            wish = query(do="meet", folder=tmp_path, me=me, other=other)
            pid: int = gateway.send(f"/stock/5{wish}").json()["pid"]
            return pid

        with concurrent.futures.ThreadPoolExecutor() as threads:
            one, two = threads.map(meet, ["a", "b"], ["b", "a"])
        assert one != two

    def test_a_function_at_its_reserved_concurrency_is_500(
        self, gateway: Client, tmp_path: Path
    ) -> None:
        with concurrent.futures.ThreadPoolExecutor() as threads:
            wish = query(do="meet", folder=tmp_path, me="busy", other="go")
            first = threads.submit(gateway.send, f"/reserved{wish}")
            _wait_until((tmp_path / "busy").exists)
            second = gateway.send("/reserved")
            (tmp_path / "go").touch()
            assert first.result().status == 200
        assert (second.status, second.json()) == (500, {"message": "Internal server error"})

    def test_a_crash_is_502_and_doesnt_hurt_the_next_request(self, gateway: Client) -> None:
        crashed = gateway.send("/stock/5" + query(do="crash"))
        assert (crashed.status, crashed.json()) == (502, {"message": "Internal server error"})
        assert gateway.send("/stock/5").status == 200

    def test_what_a_function_writes_is_in_its_log(self, gateway: Client) -> None:
        gateway.send("/stock/5" + query(do="raise"))
        log = gateway.gateway.logs / "stock-physical-name.log"
        _wait_until(lambda: "RuntimeError: on purpose" in log.read_text())

    def test_a_function_is_ended_at_its_own_time_out(self, tmp_path: Path) -> None:
        client = start_gateway(tmp_path / "gateway", timeout_seconds=1)
        with contextlib.closing(_Stopping(client)):
            reply = client.send("/stock/5" + query(do="wait", file=tmp_path / "never"))
            assert (reply.status, reply.json()) == (502, {"message": "Internal server error"})
            assert client.send("/stock/5").status == 200

    def test_a_wrapper_that_isnt_there_is_502_and_says_so_in_the_log(self, tmp_path: Path) -> None:
        wrapper = {"AWS_LAMBDA_EXEC_WRAPPER": "/opt/bin/missing"}
        client = start_gateway(tmp_path / "gateway", streaming_environment=wrapper)
        with contextlib.closing(_Stopping(client)):
            assert client.send("/agents/5/api").status == 502
            log = client.gateway.logs / "relay-physical-name.log"
            assert "layer/bin/missing" in log.read_text()

    def test_a_warm_worker_without_work_is_ended(self, tmp_path: Path) -> None:
        client = start_gateway(tmp_path / "gateway", limits=Limits(worker_idle_seconds=0.2))
        with contextlib.closing(_Stopping(client)):
            pid = client.send("/agents/5/api").json()["pid"]
            _wait_until(lambda: not _runs(pid))


class _Stopping:
    def __init__(self, client: Client) -> None:
        self._client = client

    def close(self) -> None:
        self._client.gateway.stop()


class TestLifetime:
    def test_stopping_leaves_no_process(self, tmp_path: Path) -> None:
        client = start_gateway(tmp_path / "gateway")
        pids = [
            client.gateway.children[0].process.pid,
            client.send("/agents/5/api").json()["pid"],
            client.send("/stock/5" + query(do="context")).json()["pid"],
        ]
        client.gateway.stop()
        assert not any(_runs(pid) for pid in pids)

    def test_sigterm_ends_it_cleanly_in_the_middle_of_a_request(self, tmp_path: Path) -> None:
        client = start_gateway(tmp_path / "gateway")
        wish = query(do="gate", file=tmp_path / "never")
        with contextlib.closing(_Stopping(client)), client.open(f"/agents/5/api{wish}") as response:
            assert response.read1(5) == b"first"
            process = client.gateway.children[0].process
            process.send_signal(signal.SIGTERM)
            assert process.wait(_LIFETIME_SECONDS) == 0
            with pytest.raises((http.client.IncompleteRead, ConnectionError)):
                response.read()

    @pytest.mark.skipif(sys.platform != "linux", reason="the kernel ends orphans on Linux alone")
    def test_a_killed_gateway_takes_its_workers_with_it(self, tmp_path: Path) -> None:
        client = start_gateway(tmp_path / "gateway")
        with contextlib.closing(_Stopping(client)):
            pid = client.send("/agents/5/api").json()["pid"]
            os.kill(client.gateway.children[0].process.pid, signal.SIGKILL)
            _wait_until(lambda: not _runs(pid))

    def test_a_taken_port_is_said_in_one_sentence(self, tmp_path: Path) -> None:
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            port = taken.getsockname()[1]
            with pytest.raises(ChildFailedError, match=f"can't listen on 127.0.0.1:{port}: "):
                start_gateway(tmp_path / "gateway", port=port)

    def test_no_token_reaches_the_gateways_log(self, tmp_path: Path) -> None:
        client = start_gateway(tmp_path / "gateway")
        with contextlib.closing(_Stopping(client)):
            client.send("/stock/5?token=canary", headers=[("Authorization", "Bearer canary")])
            client.raw(
                b"GET /live/stock/5 HTTP/1.1\r\nHost: x\r\nAuthorization: canary\x01\r\n\r\n"
            )
            log = client.gateway.children[0].log.read_text()
        assert "GET /live/stock/5 200 " in log
        assert "canary" not in log
