"""API Gateway (a Regional REST API) and Lambda's Runtime API on this machine, in one process.

Why not an emulator: none of those that run without docker carries a REST API's streaming Lambda
integration, and Lambda's own emulator buffers and takes one request at a time. What a client and a
function see here is API Gateway's and Lambda's behaviour where AWS documents it, so that what works
here fits there: the event's shape, the path byte for byte, every limit, the renamed headers, the
answers of API Gateway's own. Where AWS says nothing, this gateway is the stricter one.

A request's way, one module a step:

    front        one HTTP request in, one answer out
    request      the head's budget, the target split as it was sent
    routing      the route, by the translated template (`api`)
    event        the proxy event
    pool         a warm worker or a new one, or throttling
    worker       its process: as Lambda starts it (`environment`, `bootstrap`)
    runtime_api  what the worker asks and answers (`http1`, `invocation`)
    answer       status, headers and body of a result; `streaming` for a streamed one
    refusals     API Gateway's own answers

A stream that breaks after its head was sent breaks the client's connection: it never ends cleanly.
A client that leaves isn't told to the function, which runs on, as on AWS.

Known differences: HTTP/1.1 only (AWS speaks HTTP/2 too, where header names come in lower case);
workers aren't frozen between invocations; no throttling by rate, no caches, no authorizers; a
stream's rate isn't capped.
"""

from local.gateway.launch import Gateway

__all__ = ["Gateway"]
