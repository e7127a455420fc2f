#!/bin/bash
# Check the units: their syntax and their exposure.
set -euo pipefail
units=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
for name in plumd plum-etcd; do
	sed 's|^ExecStart=.*|ExecStart=/bin/true|' "$units/$name.service" >"$work/$name.service"
done
for name in plumd plum-etcd; do
	systemd-analyze verify --man=no "$work/$name.service"
	systemd-analyze security --offline=true --threshold="${THRESHOLD:-60}" --no-pager \
		"$work/$name.service"
done
