"""A Ray cluster of two nodes on this machine, as a program: it prints its address, and loses a node when told to.

Ports are given, so that a node waits for fewer of its helpers to choose theirs: it does so for no longer than fifteen
seconds, which a busy machine exceeds.
"""

from __future__ import annotations

import os
import socket
import sys

os.environ |= {"RAY_raylet_start_wait_time_s": "60", "RAY_USAGE_STATS_ENABLED": "0"}
PORTS = ("runtime_env_agent_port", "metrics_agent_port", "dashboard_agent_listen_port", "metrics_export_port")


def free_ports() -> dict[str, int]:
    """A port for each of a node's helpers."""
    held = [socket.socket() for _ in PORTS]
    for each in held:
        each.bind(("", 0))
    numbers = [each.getsockname()[1] for each in held]
    for each in held:
        each.close()
    return dict(zip(PORTS, numbers, strict=True))


def main() -> None:
    """Serve until standard input ends; every line on it kills the second node."""
    from ray.cluster_utils import Cluster

    settings = {"num_cpus": 1, "object_store_memory": 200_000_000, "include_log_monitor": False}
    head = settings | {"include_dashboard": False, "no_monitor": True}
    cluster = Cluster(initialize_head=True, head_node_args=head | free_ports(), shutdown_at_exit=True)
    second = cluster.add_node(**settings, **free_ports())
    print(cluster.address, flush=True)  # noqa: T201
    for _ in sys.stdin:
        cluster.remove_node(second, allow_graceful=False)
        print("killed", flush=True)  # noqa: T201
    cluster.shutdown()


if __name__ == "__main__":
    main()
