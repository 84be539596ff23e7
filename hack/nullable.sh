#!/usr/bin/env bash
# Lets the entries of spec.allocations of an IPAMBlock be null, for free addresses: controller-gen has no marker for the items of a list.
# Called by "make manifests" after controller-gen.
set -euo pipefail
cd "$(dirname "$0")/.."
file=config/crd/bases/projectcalico.org_ipamblocks.yaml
sed -i '/^ *allocations:$/,/^ *type: array$/ s/^\( *\)type: integer$/\1nullable: true\n\1type: integer/' "$file"
grep -q '^ *nullable: true$' "$file" || { echo "making entries of spec.allocations nullable: no such list in $file" >&2; exit 1; }
