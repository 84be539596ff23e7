#!/bin/sh
# machine.sh runs a static program on an emulated machine with Debian's kernel, which has what kernels of test machines may lack (IPIP,
# IPVS). Kernel and modules come from Debian's package and are kept in the cache.
#
#   hack/machine.sh PROGRAM [ARGUMENT...]    run it as the machine's only process beside busybox; ends as the program does
#
# The machine has no network and no disk, and needs no KVM. MACHINE_FILES names what it has beside: files and folders, each with
# ":/where/it/goes" if that is elsewhere than here, and the libraries that they need.
set -eu

cache=${MANUL_CACHE:-$HOME/.cache/manul}/machine
fail() {
	echo "machine: $*" >&2
	exit 1
}
for need in qemu-system-x86_64 dpkg-deb depmod cpio busybox; do
	command -v "$need" >/dev/null || PATH=$PATH:/usr/sbin:/sbin command -v "$need" >/dev/null || fail "there is no $need: run hack/install-packages.sh"
done
PATH=$PATH:/usr/sbin:/sbin

# The kernel, once for each version.
package=$(apt-cache depends linux-image-amd64 | sed -n 's/^ *Depends: \(linux-image-.*\)/\1/p' | head -n 1)
[ -n "$package" ] || fail "apt-cache knows no linux-image-amd64: run apt-get update"
kernel=$cache/$package
if [ ! -e "$kernel/base.cpio" ]; then
	work=$(mktemp -d "${TMPDIR:-/tmp}/machine.XXXXXX")
	trap 'rm -rf "$work"' EXIT
	(cd "$work" && apt-get download -q "$package" >&2) || fail "downloading $package failed"
	dpkg-deb -x "$work"/*.deb "$work/deb"
	release=$(ls "$work/deb/lib/modules")
	mkdir -p "$work/root/bin" "$work/root/sbin" "$work/root/proc" "$work/root/sys" "$work/root/dev" "$work/root/tmp" "$work/root/run" "$work/root/lib/modules/$release/kernel/drivers/net"
	cp "$(command -v busybox)" "$work/root/bin/busybox"
	ln -s /bin/busybox "$work/root/sbin/modprobe"
	for part in net lib crypto drivers/net/vxlan drivers/net/veth.ko drivers/net/dummy.ko drivers/net/ifb.ko arch/x86/crypto; do
		mkdir -p "$work/root/lib/modules/$release/kernel/$(dirname "$part")"
		cp -a "$work/deb/lib/modules/$release/kernel/$part" "$work/root/lib/modules/$release/kernel/$part"
	done
	rm -rf "$work/root/lib/modules/$release/kernel/net/"bluetooth "$work/root/lib/modules/$release/kernel/net/"mac80211 "$work/root/lib/modules/$release/kernel/net/"wireless
	cp "$work/deb/lib/modules/$release/"modules.builtin* "$work/deb/lib/modules/$release/modules.order" "$work/root/lib/modules/$release/"
	depmod -b "$work/root" "$release"
	mkdir -p "$kernel.new"
	(cd "$work/root" && find . | cpio -o -H newc --quiet) >"$kernel.new/base.cpio"
	cp "$work/deb/boot/vmlinuz-$release" "$kernel.new/vmlinuz"
	rm -rf "$kernel"
	mv "$kernel.new" "$kernel"
fi

# The program and what starts it, behind the kernel's own files.
[ $# -gt 0 ] || fail "usage: hack/machine.sh PROGRAM [ARGUMENT...]"
run=$(mktemp -d "${TMPDIR:-/tmp}/machine.XXXXXX")
trap 'rm -rf "$run" ${work:+"$work"}' EXIT
cp "$1" "$run/program"
cat >"$run/init" <<'INIT'
#!/bin/busybox sh
busybox=/bin/busybox
$busybox mount -t proc proc /proc
$busybox mount -t sysfs sysfs /sys
$busybox mount -t devtmpfs devtmpfs /dev
$busybox mount -t tmpfs tmpfs /tmp
$busybox --install -s /bin
export PATH=/bin:/sbin:/usr/sbin HOME=/tmp MANUL_MACHINE=1
ip link set lo up
eval "set -- $(cat /arguments)"
/program "$@"
echo "machine: ended with $?"
poweroff -f
INIT
chmod 755 "$run/init"
chmod 755 "$run/program"
shift
for argument; do
	printf "'%s' " "$argument"
done >"$run/arguments"
for file in ${MACHINE_FILES:-}; do
	from=${file%%:*} to=${file#*:}
	[ -e "$from" ] || fail "there is no $from"
	mkdir -p "$run/$(dirname "$to")"
	cp -rL "$from" "$run/$to"
	for library in $(find -L "$from" -type f -exec ldd {} + 2>/dev/null | grep -o '/[^ :]*\.so[^ :]*' | sort -u); do
		case $library in "$from"/*) continue ;; esac # it was among those that were looked at
		[ -e "$run/$library" ] || { mkdir -p "$run/$(dirname "$library")" && cp -L "$library" "$run/$library"; }
	done
done
(cd "$run" && find . -mindepth 1 | cpio -o -H newc --quiet) >"$run.cpio"
cat "$kernel/base.cpio" "$run.cpio" >"$run/initramfs"
rm -f "$run.cpio"
timeout "${MACHINE_TIMEOUT:-300}" qemu-system-x86_64 -accel tcg -m 1536 -smp 2 -nodefaults -no-reboot -nographic -serial stdio \
	-kernel "$kernel/vmlinuz" -initrd "$run/initramfs" -append "console=ttyS0 quiet panic=-1 oops=panic" </dev/null | tee "$run/output" || true
status=$(tr -d '\r' <"$run/output" | sed -n 's/^machine: ended with \([0-9]*\)$/\1/p' | tail -n 1)
[ -n "$status" ] || fail "the machine came to no end in ${MACHINE_TIMEOUT:-300} seconds"
exit "$status"
