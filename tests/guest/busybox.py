"""A small real guest: its own kernel, a virtio network device on a tap, busybox."""

from __future__ import annotations

from collections.abc import Sequence

from tests.guest.initramfs import Initramfs
from tests.guest.kernel import debian_kernel
from tests.guest.machine import MARK, Machine, Report, Tap, script_of

INIT = f"""#!/bin/sh
/bin/busybox --install -s /bin
mount -t proc proc /proc; mount -t sysfs sysfs /sys; mount -t devtmpfs dev /dev
while read -r module; do insmod "$module"; done < /load-modules
ip link set lo up; ip link set eth0 up
echo "{MARK} up"
udhcpc -i eth0 -n -q -t 15 -T 2 -O search -O mtu -O staticroutes -s /lease || echo "{MARK} no lease"
. /commands
poweroff -f
"""

# udhcpc calls it with the event and, as variables, what the server said.
LEASE = f"""#!/bin/sh
[ "$1" = bound ] || exit 0
ip address flush dev eth0 scope global
ip address add "$ip/$mask" dev eth0
[ -z "$mtu" ] || ip link set eth0 mtu "$mtu"
for gateway in $router; do
    ip route add "$gateway" dev eth0 2>/dev/null
    ip route add default via "$gateway" && break
done
for name in ip mask router dns domain search mtu lease serverid staticroutes; do
    eval "value=\\$$name"
    [ -z "$value" ] || echo "{MARK} fact $name=$value"
done
"""


def busybox_guest(tap: Tap, commands: Sequence[str], memory_mib: int = 192) -> Machine:
    """Not started yet. It asks for a lease, runs the commands, and powers off."""
    kernel = debian_kernel()
    root = Initramfs()
    root.add_busybox()
    root.add_modules(kernel, ("virtio_pci", "virtio_net"))
    root.add("init", INIT, mode=0o755)
    root.add("lease", LEASE, mode=0o755)
    root.add("commands", script_of(commands, "sh"))
    return Machine(kernel, root, memory_mib, taps=[tap])


def run_busybox(tap: Tap, commands: Sequence[str], timeout_s: float = 120) -> Report:
    """Boot, lease, commands, off. The lease's options are the report's facts."""
    with busybox_guest(tap, commands).running() as machine:
        return machine.wait(commands, timeout_s)
