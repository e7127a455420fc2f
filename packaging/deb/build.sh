#!/bin/bash
# Build the Debian package: packaging/deb/build.sh PYTHON OUTPUT_FOLDER
# PYTHON is one with pip; what it installs is for /usr/bin/python3 of this Debian.
#
# Plum and the libraries it needs go to /usr/lib/plum, a folder that nothing else imports
# from. So the package needs no particular version of any Python library of Debian's.
set -euo pipefail
umask 022

python=$(realpath -s "$1")
out=$(mkdir -p "$2" && cd "$2" && pwd)
cd "$(dirname "$0")/../.."
version=$("$python" - <<-END
	import tomllib
	print(tomllib.load(open("pyproject.toml", "rb"))["project"]["version"])
	END
)
export SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || date +%s)}
architecture=$(dpkg --print-architecture)
work=$(mktemp -d "${TMPDIR:-/tmp}/plum-deb.XXXXXX")
trap 'rm -rf "$work"' EXIT
root=$work/root
lib=$root/usr/lib/plum
doc=$root/usr/share/doc/plum-networks

# From a copy: setuptools leaves a build folder in the tree, and takes what lies in it.
mkdir "$work/source"
cp -a plumctl daemon bpf pyproject.toml setup.py MANIFEST.in README.md CHANGELOG.md LICENSE \
	"$work/source"
"$python" -m pip install --quiet --no-compile --no-warn-script-location \
	--target "$lib" "$work/source"
rm -rf "$lib/bin"
find "$lib" -name '*.so' -exec strip --strip-unneeded {} +
find "$lib" -name __pycache__ -prune -exec rm -rf {} + # postinst compiles, as Debian does
find "$lib" -name '*.py' -exec sed -i '1s|^#!.*python.*|#!/usr/bin/python3|' {} +
[ -n "$(ls "$lib"/bpf/*.bpf.o)" ]

install -d "$root/usr/bin" "$root/usr/sbin" "$doc"
sed s/@PACKAGE@/plumctl/ packaging/deb/launcher >"$root/usr/bin/plumctl"
sed s/@PACKAGE@/daemon/ packaging/deb/launcher >"$root/usr/sbin/plumd"
chmod 755 "$root/usr/bin/plumctl" "$root/usr/sbin/plumd"
for unit in plumd plum-etcd; do
	install -Dm 644 "packaging/$unit.service" "$root/lib/systemd/system/$unit.service"
done
install -Dm 644 packaging/deb/plumd.default "$root/etc/default/plumd"
install -Dm 644 completions/plumctl.bash "$root/usr/share/bash-completion/completions/plumctl"
install -Dm 644 completions/plumctl.zsh "$root/usr/share/zsh/vendor-completions/_plumctl"
install -Dm 644 completions/plumctl.fish \
	"$root/usr/share/fish/vendor_completions.d/plumctl.fish"
install -m 644 README.md docs/*.md packaging/deb/copyright "$doc"
{
	echo "plum-networks ($version) unstable; urgency=medium"
	printf '\n  * See CHANGELOG.md of the source.\n\n'
	echo " -- The Plum contributors <plum@example.net>  $(date -uRd "@$SOURCE_DATE_EPOCH")"
} | gzip -9n >"$doc/changelog.gz"

install -d "$root/DEBIAN"
install -m 755 packaging/deb/{postinst,prerm,postrm} "$root/DEBIAN"
echo /etc/default/plumd >"$root/DEBIAN/conffiles"
series=$(/usr/bin/python3 -c 'import sys; print("%d.%d" % sys.version_info[:2])')
next=$(/usr/bin/python3 -c 'import sys; print("%d.%d" % (sys.version_info[0], sys.version_info[1] + 1))')
cat >"$root/DEBIAN/control" <<-END
	Package: plum-networks
	Version: $version
	Architecture: $architecture
	Maintainer: The Plum contributors <plum@example.net>
	Installed-Size: $(du -sk --exclude=DEBIAN "$root" | cut -f 1)
	Depends: python3 (>= $series), python3 (<< $next), libbpf1, adduser, libc6, libgcc-s1, tzdata
	Recommends: iproute2
	Suggests: etcd-server
	Section: net
	Priority: optional
	Description: tenant networks in the kernel of every node
	 Plum gives tenants virtual networks (bridges, routers, policies) that run as
	 eBPF programs in the kernel of every compute node, joined by a VXLAN overlay.
	 .
	 This package holds the daemon plumd, the command plumctl, and the compiled
	 programs.
	END
(cd "$root" && find usr lib etc -type f -print0 | sort -z | xargs -0 md5sum | grep -v ' etc/') \
	>"$root/DEBIAN/md5sums"
find "$root" -newermt "@$SOURCE_DATE_EPOCH" -exec touch -hd "@$SOURCE_DATE_EPOCH" {} +
package=$out/plum-networks_${version}_$architecture.deb
dpkg-deb --root-owner-group -Zxz --build "$root" "$package" >/dev/null
echo "$package"
