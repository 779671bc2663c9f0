"""`make sam-local`: every event through the SAM CLI's own containers.

Docker's engine is the user's where one runs. Else one from Debian's packages is unpacked into the
cache, nothing of it installed, and runs in process, network and mount namespaces of its own, with
the whole stage: whatever ends the stage, the kernel ends every container, process and network with
it. There the functions' base image is made on the spot, as nothing can be pulled.

The functions' containers reach AWS, GitLab and Kubernetes of the local stack under their own URLs
on 127.0.0.1: sockets below /var/task, which SAM mounts, join a container's loopback to this one's
(`loopback.py`).
"""
