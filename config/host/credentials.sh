#!/usr/bin/env bash
# credentials.sh NAME SERVER DIR [SECONDS]: what the node agent of a host outside the cluster needs to reach the API server, for DIR=/etc/manul
# on the host. Run it where you are administrator; it needs kubectl and openssl. SERVER is the API server's URL as the host reaches it,
# such as https://10.0.0.10:6443. The certificate is asked for SECONDS, otherwise a year.
set -euo pipefail
[ $# = 3 ] || [ $# = 4 ] || { sed -n '2,4s/^# //p' "$0" >&2; exit 2; }
name=$1 server=$2 dir=$3 seconds=${4:-31536000}
if kubectl get node "$name" >/dev/null 2>&1; then
  echo "credentials.sh: $name is a node of the cluster: with this name the host could speak for it" >&2
  exit 1
fi
umask 077
mkdir -p "$dir"
openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out "$dir/host.key"
# The user and the group that the install manifest gives rights to.
request=$(openssl req -new -key "$dir/host.key" -subj "/O=manul:hosts/CN=manul:host:$name" | base64 -w0)
kubectl delete csr "manul-host-$name" --ignore-not-found >/dev/null
kubectl create -f - <<EOF
apiVersion: certificates.k8s.io/v1
kind: CertificateSigningRequest
metadata: {name: manul-host-$name}
spec:
  request: $request
  signerName: kubernetes.io/kube-apiserver-client
  expirationSeconds: $seconds
  usages: [client auth]
EOF
kubectl certificate approve "manul-host-$name"
certificate=
for _ in $(seq 60); do
  certificate=$(kubectl get csr "manul-host-$name" -o jsonpath='{.status.certificate}')
  [ -z "$certificate" ] || break
  sleep 0.5
done
[ -n "$certificate" ] || { echo "credentials.sh: nobody signs: is kube-controller-manager running, with a key to sign by?" >&2; exit 1; }
base64 -d <<<"$certificate" >"$dir/host.crt"
kubectl get configmap -n default kube-root-ca.crt -o jsonpath='{.data.ca\.crt}' >"$dir/ca.crt"
# Files beside the kubeconfig are named without a folder, so that all of it can be moved.
cat >"$dir/kubeconfig" <<EOF
apiVersion: v1
kind: Config
current-context: manul
contexts: [{name: manul, context: {cluster: manul, user: host}}]
clusters: [{name: manul, cluster: {server: "$server", certificate-authority: ca.crt}}]
users: [{name: host, user: {client-certificate: host.crt, client-key: host.key}}]
EOF
echo "wrote $dir: ca.crt host.crt host.key kubeconfig"
