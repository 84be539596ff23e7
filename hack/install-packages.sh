#!/bin/sh
# install-packages.sh installs the Debian packages that the local cluster and the kernel tests use, those that are missing only.
#
#   hack/install-packages.sh           install
#   hack/install-packages.sh --check   say what is missing, and fail if anything is
set -eu

packages="bird2 ca-certificates conntrack containerd containernetworking-plugins cpio curl frr gcc git ipset iproute2 iptables kmod libc6-dev make nftables openssl procps qemu-system-x86 runc tcpdump util-linux"

fail() {
	echo "install-packages: $*" >&2
	exit 1
}

installed() {
	[ "$(dpkg-query -W -f='${db:Status-Status}' "$1" 2>/dev/null)" = installed ]
}

command -v dpkg-query >/dev/null && command -v apt-get >/dev/null ||
	fail "this is not Debian (no dpkg or apt-get). Install the equivalents of: $packages busybox-static"

missing=
for p in $packages; do
	installed "$p" || missing="$missing $p"
done
# The test image gets its small tools from busybox. Either package has it, and they exclude each other.
installed busybox || installed busybox-static || missing="$missing busybox-static"

if [ -z "$missing" ]; then
	echo "install-packages: nothing is missing"
	exit 0
fi
[ "${1:-}" != --check ] || fail "missing:$missing"
[ "$(id -u)" -eq 0 ] || fail "run as root to install:$missing"

echo "install-packages: installing$missing"
export DEBIAN_FRONTEND=noninteractive
# Installing a package is not to start its service: each host of the cluster runs a containerd of its own. A policy that the
# machine has stays in place.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
	printf '#!/bin/sh\nexit 101\n' >"$policy"
	chmod 755 "$policy"
	trap 'rm -f "$policy"' EXIT
	trap 'exit 130' INT TERM
fi
apt-get update -q || fail "apt-get update failed: is the package mirror in reach?"
# shellcheck disable=SC2086 # a list of words
apt-get install -q -y --no-install-recommends $missing || fail "apt-get install failed for:$missing"
echo "install-packages: done"
