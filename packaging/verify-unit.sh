#!/bin/bash
# Check the unit: its syntax, its exposure, and that nothing gives it mounts of its own.
set -euo pipefail
unit=$(cd "$(dirname "$0")" && pwd)/plumd.service
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
sed 's|^ExecStart=.*|ExecStart=/bin/true|' "$unit" >"$work/plumd.service"
systemd-analyze verify --man=no "$work/plumd.service"
systemd-analyze security --offline=true --threshold="${THRESHOLD:-60}" --no-pager "$work/plumd.service"
