#!/usr/bin/env bash
# Writes into CRDs what controller-gen has no marker for. Called by "make manifests" after controller-gen.
set -euo pipefail
cd "$(dirname "$0")/../config/crd/bases"

# The entries of spec.allocations of an IPAMBlock may be null, for free addresses: there is no marker for the items of a list.
file=projectcalico.org_ipamblocks.yaml
sed -i '/^ *allocations:$/,/^ *type: array$/ s/^\( *\)type: integer$/\1nullable: true\n\1type: integer/' "$file"
grep -q '^ *nullable: true$' "$file" || { echo "making entries of spec.allocations nullable: no such list in $file" >&2; exit 1; }

# What is a number or a text is a port or a protocol. Without bounds the API server would store numbers that no program can read,
# and one such object hides all others of its kind.
sed -i 's/^\( *\)x-kubernetes-int-or-string: true$/\1maximum: 65535\n\1minimum: 0\n&/' projectcalico.org_*.yaml
file=projectcalico.org_stagedkubernetesnetworkpolicies.yaml
sed -i '/^ *endPort:$/,/^ *type: integer$/ s/^\( *\)type: integer$/\1maximum: 65535\n\1minimum: 1\n&/' "$file"
[ "$(grep -c '^ *maximum: 65535$' "$file")" = 4 ] || { echo "bounding ports: want 4 fields in $file" >&2; exit 1; }
