"""What nginx's `auth_request` asks: the token and the job, checked; the job's user in a header."""

from asgi_app import _answer, _lifespan, _runs, _verified


async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        return await _lifespan(receive, send)
    headers = dict(scope["headers"])
    if b"authorization" not in headers:
        return await _answer(send, 401, [], b"")
    job = _verified(headers[b"authorization"].decode().removeprefix("Bearer "))
    status = 200 if await _runs(job) else 403
    told = [
        (b"x-user", f"gitlab:ci_job:{job['id']}".encode()),
        (b"x-group", f"gitlab:project:{job['project_id']}".encode()),
        (b"cache-control", b"max-age=3"),
    ]
    await _answer(send, status, told, b"")
