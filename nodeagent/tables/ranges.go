package tables

import (
	"net/netip"
	"slices"
)

// MergedPorts joins ranges that overlap or touch. Ranges that end before they begin hold no port.
func MergedPorts(ranges []PortRange) []PortRange {
	sorted := slices.DeleteFunc(slices.Clone(ranges), func(r PortRange) bool { return r.First > r.Last })
	slices.SortFunc(sorted, func(a, b PortRange) int { return int(a.First) - int(b.First) })
	var merged []PortRange
	for _, r := range sorted {
		if n := len(merged); n > 0 && int(r.First) <= int(merged[n-1].Last)+1 {
			merged[n-1].Last = max(merged[n-1].Last, r.Last)
			continue
		}
		merged = append(merged, r)
	}
	return merged
}

// Greatest returns the CIDRs in list that no other one covers, in order.
func Greatest(list []netip.Prefix) []netip.Prefix {
	sorted := slices.Clone(list)
	for i := range sorted {
		sorted[i] = sorted[i].Masked()
	}
	// By address, the shorter prefix first: what covers comes before what it covers.
	slices.SortFunc(sorted, netip.Prefix.Compare)
	var kept []netip.Prefix
	for _, p := range sorted {
		if n := len(kept); n > 0 && kept[n-1].Bits() <= p.Bits() && kept[n-1].Contains(p.Addr()) {
			continue
		}
		kept = append(kept, p)
	}
	return kept
}
