#!/bin/bash
# Install the packages of debian-12.txt that are missing: install-debian.sh run|test
# Idempotent; what an interrupted run left half configured is finished first.
set -euo pipefail
list="$(dirname "$0")/debian-12.txt"
wanted=$(awk -v upto="${1:?run or test}" '
	/^\[/ { if (done) exit; if ($1 == "[" upto "]") done = 1; next }
	!/^#/ && NF { print $1 }' "$list")

missing() {
	local have
	have=$(dpkg-query -W -f '${db:Status-Abbrev} ${Package}\n' $wanted 2>/dev/null |
		awk '$1 == "ii" { print $2 }') || true
	comm -23 <(sort <<<"$wanted") <(sort -u <<<"$have")
}

if ! command -v apt-get >/dev/null; then
	echo "This is no Debian: install the equivalents of $list yourself, then make a .venv" >&2
	exit 1
fi
[ -n "$(missing)" ] || exit 0
if [ "$(id -u)" != 0 ]; then
	echo "Missing packages, and only root can install them: $(missing | xargs)" >&2
	exit 1
fi
export DEBIAN_FRONTEND=noninteractive
apt="apt-get -q -o DPkg::Lock::Timeout=300"
dpkg --configure -a
$apt update
$apt install -y --no-install-recommends $(missing)
