#!/usr/bin/env bash
# images.sh VERSION product|samples: writes images as OCI archives to out/images/, without Docker.
#   product  the operator, and the node agent with the CNI plugin, from bin/; the agent's has iptables and ipset of this machine's
#            Debian packages, and the CNI project's plugins of hack/cniplugins
#   samples  YAO Bank and the prober, for the demo and the tests
set -euo pipefail
cd "$(dirname "$0")/.."
version=$1 what=$2
out=$PWD/out/images work=$PWD/out/work
mkdir -p "$out" "$work"
go -C hack/ociimage build -o "$work/ociimage" .

image() { # name, entrypoint, SOURCE:DEST or --link=DEST:TARGET...
  local name=$1 entry=$2; shift 2
  "$work/ociimage" --name "ghcr.io/manul-net/$name:$version" --entrypoint "$entry" --env PATH=/bin:/usr/sbin --output "$out/$name.tar" "$@"
}

# Both variants of iptables with all extensions, since what is read may have rules of others, and ipset for people who look around;
# their libraries, and the terms under which they come.
iptables() {
  local program name lib file
  for program in xtables-nft-multi xtables-legacy-multi ipset; do
    echo "/usr/sbin/$program:/usr/sbin/$program"
    for lib in $(ldd "/usr/sbin/$program" | grep -oE '/[^ ]+'); do echo "$lib:$lib"; done
  done
  for name in iptables ip6tables; do
    for file in "$name-VARIANT" "$name-VARIANT-save" "$name-VARIANT-restore"; do
      for program in nft legacy; do echo "--link=/usr/sbin/${file/VARIANT/$program}:xtables-$program-multi"; done
    done
  done
  while read -r file; do
    if [ -h "$file" ]; then echo "--link=$file:$(readlink "$file")"; else echo "$file:$file"; fi
    for lib in $(ldd "$file" | grep -oE '/[^ ]+'); do echo "$lib:$lib"; done
  done < <(dpkg -L iptables | grep -E '/xtables/lib(xt|ipt|ip6t)_.*\.so$')
  for file in /usr/share/doc/{iptables,ipset,libc6,libxtables12,libip4tc2,libip6tc2,libmnl0,libnftnl11,libipset13}/copyright; do
    echo "$file:$file"
  done
}

# Plugins of the CNI project, and the terms under which they come.
cniplugins() {
  local module=github.com/containernetworking/plugins name
  mkdir -p "$work/cni"
  CGO_ENABLED=0 go -C hack/cniplugins build -trimpath -ldflags '-s -w' -o "$work/cni/" $module/plugins/{meta/portmap,meta/tuning,meta/bandwidth,ipam/host-local}
  for name in portmap tuning bandwidth host-local; do echo "$work/cni/$name:/opt/manul/cni/$name"; done
  echo "$(go -C hack/cniplugins list -m -f '{{.Dir}}' $module)/LICENSE:/usr/share/doc/containernetworking-plugins/copyright"
}

# Bytes of the files among SOURCE:DEST...
size() {
  local file
  for file in "$@"; do [ "${file:0:2}" = -- ] || echo "${file%%:*}"; done | xargs stat -L -c %s | awk '{ n += $1 } END { printf "%.1f MB\n", n / 1e6 }'
}

# Programs of this machine with the libraries they need, and the applets of busybox, for people who look around in a pod.
userland() {
  local applet program lib
  for applet in cat env grep head hostname ip ls nslookup ping ps sh sleep time timeout wget; do echo "/bin/busybox:/bin/$applet"; done
  program=$(command -v curl)
  echo "$program:/bin/curl"
  for lib in $(ldd "$program" | grep -oE '/[^ ]+'); do echo "$lib:$lib"; done
}

case $what in
product)
  image manul-operator /manul-operator bin/manul-operator:/manul-operator
  mapfile -t tools < <(iptables | sort -u)
  echo "manul-node: iptables, ipset and their libraries add $(size "${tools[@]}")"
  plugins=$(cniplugins) # an error of the function is one of the script
  mapfile -t plugins <<<"$plugins"
  echo "manul-node: portmap, tuning and bandwidth add $(size "${plugins[@]}")"
  image manul-node /manul-node bin/manul-node:/manul-node bin/manul:/opt/manul/bin/manul "${plugins[@]}" "${tools[@]}"
  ;;
samples)
  for program in yaobank/customer yaobank/summary yaobank/database prober; do
    CGO_ENABLED=0 go build -trimpath -ldflags '-s -w' -o "$work/${program##*/}" "./test/$program"
  done
  mapfile -t tools < <(userland | sort -u)
  image yaobank-customer /customer "$work/customer:/customer" "${tools[@]}"
  image yaobank-summary /summary "$work/summary:/summary" "${tools[@]}"
  image yaobank-database /database "$work/database:/database" "${MANUL_CACHE:-$HOME/.cache/manul}/bin/etcd:/etcd"
  image prober /prober "$work/prober:/prober"
  ;;
*) echo "images.sh: product or samples, not $what" >&2; exit 2 ;;
esac
