"""AWS on this machine: ministack, given the product's real build by the real `sam deploy`.

One process, ministack, stands for DynamoDB, SQS, KMS, Secrets Manager, Scheduler, CloudFormation
and the rest, with its state in memory, behind TLS. It runs the functions that a queue or a schedule
starts by itself, as processes of its own interpreter, whatever runtime the template names. So
`sam build` makes the layer for that very interpreter, and each start proves that it fits. Requests
over HTTP don't come this way: the local gateway (`local.gateway`) carries those, with the same
artifacts.

What a function writes ends up in its own log group (`AWS.log_messages`): ministack puts it there
for those that it runs, and `log_delivery` for those behind the gateway.

Each function may do what its role allows and no more: every request's signature is verified, and
the deployed roles' statements are judged by action and resource. Whoever operates has the account's
own credentials, which may do all.

ministack differs from AWS in what this package has to know: it doesn't judge a condition on a
table's leading keys, does what Lambda itself does with a role (writing logs, polling a queue)
without asking it, fires schedules up to ten seconds late, and passes its own environment on to the
functions (which is how they learn to trust the local CA).
"""

from local.aws.stack import AWS

__all__ = ["AWS"]
