"""What the machine allows: CPUs by the control group, descriptors by the resource limit."""


def cgroup_cpus() -> float | None:
    """The CPU quota of this process's cgroup in CPUs (v2: cpu.max, v1: cpu.cfs_quota_us), None without one."""
    try:
        with open("/sys/fs/cgroup/cpu.max", encoding="ascii") as file:
            quota, period = file.read().split()
    except (OSError, ValueError):
        try:
            with (
                open("/sys/fs/cgroup/cpu/cpu.cfs_quota_us", encoding="ascii") as first,
                open("/sys/fs/cgroup/cpu/cpu.cfs_period_us", encoding="ascii") as second,
            ):
                quota, period = first.read().strip(), second.read().strip()
        except OSError:
            return None
    return None if quota in ("max", "-1") else int(quota) / int(period)


RESERVE = 128
"""Descriptors of a worker that are no connections: listeners, the loop's own, those being refused."""


def descriptor_limit() -> int:
    """RLIMIT_NOFILE, the soft limit raised to the hard one first."""
    import resource  # noqa: PLC0415 - not there on Windows, where a health check can be made

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        except (OSError, ValueError):
            return soft
    return hard if hard != resource.RLIM_INFINITY else 1 << 30


def connection_limit(wanted: int) -> int:
    """``--max-connections`` (0: as many as there may be), but no more than descriptors are left for connections."""
    most = max(1, descriptor_limit() - RESERVE)
    return min(wanted or most, most)
