#!/bin/bash
# Prove that make does all set-up: run it on a bare Debian 12 (debootstrap, pivoted into with
# mount and process namespaces of its own), from the commit that is checked out.
#
#   tests/clean-machine/run.sh [STEP...]     default: killed demo demo test test
#
# killed   make demo, killed half way (KILL_AFTER_S, default 30)
# shell    look around
# others   make STEP
#
# The bare root is kept as a tarball in ${XDG_CACHE_HOME:-~/.cache}/plum. The host's apt, pip and
# name service configuration is copied in, so that the registries it may use work there too.
set -euo pipefail

here=$(realpath "$0")
repo=$(cd "$(dirname "$0")/../.." && pwd)
cache="${XDG_CACHE_HOME:-$HOME/.cache}/plum"
bare="$cache/debian-12-bare.tar"
limit_s="${LIMIT_S:-3600}" # of one step

make_bare() {
	mkdir -p "$cache"
	local root="$cache/bare.$$"
	trap 'rm -rf "$root"' RETURN
	local mirror
	mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Codename: bookworm' | head -n 1)
	debootstrap --variant=minbase --include=make,ca-certificates bookworm "$root" $mirror >&2
	tar -C "$root" --one-file-system -cf "$bare.$$" .
	mv "$bare.$$" "$bare"
}

copy_configuration() {
	local path
	for path in /etc/resolv.conf /etc/hosts /etc/pip.conf /root/.config/pip \
		/etc/apt/apt.conf.d /etc/apt/auth.conf.d /etc/apt/preferences.d /etc/apt/keyrings \
		/etc/apt/sources.list /etc/apt/sources.list.d/debian.sources \
		/etc/ssl/certs /usr/local/share/ca-certificates; do
		[ -e "$path" ] || continue
		mkdir -p "$root$(dirname "$path")"
		rm -rf "$root$path" # sources of the host replace debootstrap's
		cp -aL "$path" "$root$(dirname "$path")/"
	done
	[ ! -e "$root/etc/apt/sources.list.d/debian.sources" ] || [ -e /etc/apt/sources.list ] ||
		rm -f "$root/etc/apt/sources.list"
}

# Local directories that pip's configuration names, with what lies beside an index.
pip_directories() {
	python3 -m pip config list 2>/dev/null | grep -oE "(/opt|/srv|/mnt)/[^/' ]+" | sort -u
}

# In the namespaces: mounts and processes end with them, however they end.
enter() {
	local root=$1 path
	shift
	mount --make-rprivate /
	mount --bind "$root" "$root"
	mount -t proc proc "$root/proc"
	mount -t sysfs sysfs "$root/sys" # without bpffs: make mounts it
	mount --rbind /dev "$root/dev"
	mount -t tmpfs tmpfs "$root/run"
	for path in $(pip_directories); do
		mkdir -p "$root$path"
		mount --bind -o ro "$path" "$root$path"
	done
	# Not chroot: the kernel refuses user namespaces in one, and tests make some.
	mkdir -p "$root/old"
	cd "$root"
	pivot_root . old
	cd /
	umount -l old
	rmdir old
	local step
	for step; do
		echo "=== $step: $(date -u +%T)"
		case $step in
		killed)
			local status=0
			in_root timeout -s KILL "${KILL_AFTER_S:-30}" make demo </dev/null || status=$?
			[ "$status" = 137 ] || { echo "not killed: exit $status" >&2; exit 1; } ;;
		shell) in_root bash -i ;;
		*) in_root timeout -k 10 "$limit_s" make "$step" </dev/null ;;
		esac
		echo "=== $step passed: $(date -u +%T)"
	done
}

in_root() {
	local keep
	keep=$(env | grep -E '^(PIP_|SSL_CERT|REQUESTS_CA_BUNDLE|https?_proxy|no_proxy|CI=)' || true)
	local IFS=$'\n'
	env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8 \
		TERM="${TERM:-dumb}" $keep bash -c 'cd /srv/plum && exec "$@"' - "$@"
}

if [ "${1:-}" = --inside ]; then
	shift
	root=$1
	enter "$@"
	exit
fi

[ "$(id -u)" = 0 ] || { echo "needs root: mounts, namespaces" >&2; exit 1; }
[ -e "$bare" ] || make_bare
root=$(mktemp -d "${TMPDIR:-/var/tmp}/plum-clean.XXXXXX")
trap 'rm -rf --one-file-system "$root"' EXIT
trap 'exit 130' INT TERM HUP
tar -C "$root" -xf "$bare"
copy_configuration
mkdir "$root/srv/plum"
git -C "$repo" archive HEAD | tar -C "$root/srv/plum" -x
[ $# -gt 0 ] || set -- killed demo demo test test
unshare --mount --pid --fork --kill-child --mount-proc \
	bash "$here" --inside "$root" "$@"
echo "clean machine: $* passed"
