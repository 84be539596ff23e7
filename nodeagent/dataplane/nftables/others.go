package nftables

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/google/nftables"
	"golang.org/x/sys/unix"
)

// proxyTable is the table of kube-proxy in the mode nftables, in the families ip and ip6.
const proxyTable = "kube-proxy"

// KubeProxy tells whether kube-proxy keeps its rules by nftables in the calling thread's network namespace.
func KubeProxy() (bool, error) {
	conn, err := nftables.New()
	if err != nil {
		return false, fmt.Errorf("looking for the table of kube-proxy: %w", err)
	}
	for _, family := range []nftables.TableFamily{nftables.TableFamilyIPv4, nftables.TableFamilyIPv6} {
		found, err := hasTable(conn, family, proxyTable)
		if err != nil || found {
			return found, err
		}
	}
	return false, nil
}

// proxyChain is a chain of kube-proxy in the modes iptables and ipvs.
const proxyChain = "KUBE-SERVICES"

// KubeProxyByIPTables tells whether kube-proxy keeps its rules by the variant of iptables that makes rules of nftables, in the calling thread's
// network namespace. It asks for one chain without its rules, of which there may be thousands; false may also mean that the kernel gave no answer.
func KubeProxyByIPTables() bool {
	conn, err := nftables.New()
	if err != nil {
		return false
	}
	for _, family := range []nftables.TableFamily{nftables.TableFamilyIPv4, nftables.TableFamilyIPv6} {
		if _, err := conn.ListChain(&nftables.Table{Family: family, Name: "nat"}, proxyChain); err == nil {
			return true
		}
	}
	return false
}

// Remove takes away all that a driver owns in the calling thread's network namespace: for the change to another dataplane,
// which should be in force by then.
func Remove(context.Context) error {
	conn, err := nftables.New()
	if err != nil {
		return fmt.Errorf("removing the table %s: %w", tableName, err)
	}
	found, err := hasTable(conn, nftables.TableFamilyINet, tableName)
	if err != nil || !found {
		return err
	}
	table := &nftables.Table{Family: nftables.TableFamilyINet, Name: tableName}
	// The base chains are emptied first. A packet that is on its way when all goes at once sees rules as they were, but maps
	// that are empty already, and would be dropped.
	chains, err := conn.ListChainsOfTableFamily(nftables.TableFamilyINet)
	if err != nil {
		return fmt.Errorf("listing chains of the table %s: %w", tableName, err)
	}
	for _, c := range chains {
		if c.Table.Name == tableName && c.Hooknum != nil {
			conn.FlushChain(&nftables.Chain{Table: table, Name: c.Name})
		}
	}
	if err := conn.Flush(); err != nil && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("emptying the chains of the table %s: %w", tableName, err)
	}
	conn.DelTable(table)
	if err := conn.Flush(); err != nil && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("removing the table %s: %w", tableName, err)
	}
	return nil
}

func hasTable(conn *nftables.Conn, family nftables.TableFamily, name string) (bool, error) {
	tables, err := conn.ListTablesOfFamily(family)
	if err != nil {
		return false, fmt.Errorf("listing tables of nftables: %w", err)
	}
	return slices.ContainsFunc(tables, func(t *nftables.Table) bool { return t.Name == name }), nil
}
