"""The operators' command `jobgate`: what writes the items that no function may write.

A command reads the deployed stack's outputs, asks GitLab and AWS with the operator's own rights,
and writes settings, public keys, issuers, stops, agent ids, cluster connections and secrets. It
isn't shipped in the layer. Secrets come from files or the environment, never from arguments, and
are never printed. Exit codes: 0 done, 1 findings, 2 usage or input, 3 not reachable or unknown,
4 refused.
"""
