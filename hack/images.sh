#!/usr/bin/env bash
# images.sh VERSION product|samples: writes images as OCI archives to out/images/, without Docker.
#   product  the operator, and the node agent with the CNI plugin, from bin/
#   samples  YAO Bank and the prober, for the demo and the tests
set -euo pipefail
cd "$(dirname "$0")/.."
version=$1 what=$2
out=$PWD/out/images work=$PWD/out/work
mkdir -p "$out" "$work"
go -C hack/ociimage build -o "$work/ociimage" .

image() { # name, entrypoint, SOURCE:DEST...
  local name=$1 entry=$2; shift 2
  "$work/ociimage" --name "ghcr.io/manul-net/$name:$version" --entrypoint "$entry" --env PATH=/bin --output "$out/$name.tar" "$@"
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
  image manul-node /manul-node bin/manul-node:/manul-node bin/manul:/opt/manul/bin/manul
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
