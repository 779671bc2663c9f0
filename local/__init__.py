"""The whole stack on one machine, for the demo, the tests and `make local` alike.

Every part is a real program or speaks the real protocol: kube-apiserver and etcd, ministack for
AWS, a gateway with API Gateway's rules, a GitLab stand-in. All of it listens on 127.0.0.1 and ends
with the process that started it.
"""
