"""The kernel's side of the datapath: programs and maps, through libbpf."""

from daemon.datapath.libbpf import DatapathError, mount_bpffs

__all__ = ["DatapathError", "mount_bpffs"]
