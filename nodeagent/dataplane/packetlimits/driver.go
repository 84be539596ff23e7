// Package packetlimits makes the kernel's limits of workloads' packets and connections equal to a table of them, whatever dataplane
// policy has.
//
// All that it owns is in the table "manul-limits" of family inet, of nftables. Each limited interface has a chain for each direction,
// to which maps lead from the hooks through which packets of workloads pass. The chains come behind policy: what it drops
// uses up no limit. What the node itself sends to its pods (probes, above all) is not limited.
package packetlimits

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"github.com/manul-net/manul/nodeagent/tables"
)

// Table is the name of the driver's table, of family inet. All that is there is the driver's.
const Table = "manul-limits"

// priority of the base chains: behind policy, and the host's own filter chains.
const priority = 10

// Options of a driver.
type Options struct {
	// WorkloadPrefix is what the names of workload interfaces begin with.
	WorkloadPrefix string
}

// Driver keeps one network namespace's limits equal to desired tables. Its methods may be called from one goroutine at a time, Resync from
// any.
type Driver struct {
	options Options
	conn    *nftables.Conn
	resync  atomic.Bool
	// have is what is in the kernel, by workload interface; nil when it is not known.
	have map[string]tables.PacketLimits
	// table: it is in the kernel.
	table bool
}

// New opens a lasting connection to the nftables of the calling thread's network namespace. It changes nothing.
func New(options Options) (*Driver, error) {
	if options.WorkloadPrefix == "" {
		return nil, errors.New("opening nftables for limits: the workloads' prefix is empty")
	}
	conn, err := nftables.New(nftables.AsLasting())
	if err != nil {
		return nil, fmt.Errorf("opening nftables for limits: %w", err)
	}
	return &Driver{options: options, conn: conn}, nil
}

// Close ends the connection. The limits stay.
func (d *Driver) Close() error { return d.conn.CloseLasting() }

// Resync makes the next Apply compare everything with the kernel.
func (d *Driver) Resync() { d.resync.Store(true) }

// Changed implements the interface of drivers: changes by others are undone at the next comparison. Limits need no interface to be there.
func (d *Driver) Changed() <-chan struct{} { return nil }

// Disturbances implements the interface of drivers.
func (d *Driver) Disturbances() int64 { return 0 }

// Apply makes the kernel's limits equal to desired. The first call, and the next one after an error or Resync, compares everything with
// the kernel; others look at what changed. A limit that is as it should be stays, with what it has counted. While nothing is limited there
// is no table. What can't be put into force alone is reported as tables.ItemErrors, joined, while all else is in force.
func (d *Driver) Apply(ctx context.Context, desired *tables.PacketLimitsTable) error {
	if d.resync.Swap(false) || d.have == nil {
		if err := d.read(); err != nil {
			d.have = nil
			if desired.Len() == 0 {
				desired.Clean()
				return nil // a kernel without nftables has no limits to be removed
			}
			return fmt.Errorf("reading limits of packets: %w", err)
		}
	}
	look := map[string]bool{}
	for name := range desired.All() {
		look[name] = true
	}
	for name := range d.have {
		look[name] = true
	}
	var problems []error
	for _, name := range slices.Sorted(maps.Keys(look)) {
		if err := ctx.Err(); err != nil {
			d.have = nil
			return fmt.Errorf("applying limits of packets: %w", err)
		}
		wish, _ := desired.Get(name)
		if d.have[name] == wish {
			continue
		}
		if err := d.change(name, wish); err != nil {
			problems = append(problems, &tables.ItemError{Kind: tables.KindPacketLimits, Name: name, Err: err})
		}
	}
	if len(d.have) == 0 && d.table && len(problems) == 0 {
		if err := d.drop(); err != nil {
			d.have = nil
			return fmt.Errorf("removing limits of packets: %w", err)
		}
	}
	desired.Clean()
	return errors.Join(problems...)
}

func (d *Driver) ours() *nftables.Table {
	return &nftables.Table{Name: Table, Family: nftables.TableFamilyINet}
}

// The directions, seen from workloads.
const (
	toWorkload   = "to-"
	fromWorkload = "from-"
)

func directions() []string { return []string{fromWorkload, toWorkload} }

// verdicts is the map that leads from an interface's name to its chain.
func (d *Driver) verdicts(direction string) *nftables.Set {
	return &nftables.Set{
		Table: d.ours(), Name: strings.TrimSuffix(direction, "-"), IsMap: true, KeyType: nftables.TypeIFName, DataType: nftables.TypeVerdict,
		KeyByteOrder: binaryutil.NativeEndian, // for who lists the map
	}
}

func (d *Driver) chain(direction, name string) *nftables.Chain {
	return &nftables.Chain{Name: direction + name, Table: d.ours()}
}

// build adds to the transaction the table, its maps and its base chains.
func (d *Driver) build() error {
	table := d.conn.AddTable(d.ours())
	for _, direction := range directions() {
		if err := d.conn.AddSet(d.verdicts(direction), nil); err != nil {
			return err
		}
	}
	accept := nftables.ChainPolicyAccept
	for _, hook := range []struct {
		name       string
		at         *nftables.ChainHook
		directions []string
	}{
		{"forward", nftables.ChainHookForward, directions()},
		{"input", nftables.ChainHookInput, []string{fromWorkload}},
	} {
		chain := d.conn.AddChain(&nftables.Chain{
			Name: hook.name, Table: table, Type: nftables.ChainTypeFilter, Hooknum: hook.at,
			Priority: nftables.ChainPriorityRef(priority), Policy: &accept,
		})
		for _, direction := range hook.directions {
			key := expr.MetaKeyIIFNAME
			if direction == toWorkload {
				key = expr.MetaKeyOIFNAME
			}
			set := d.verdicts(direction)
			d.conn.AddRule(&nftables.Rule{Table: table, Chain: chain, Exprs: []expr.Any{
				&expr.Meta{Key: key, Register: 1},
				&expr.Lookup{SourceRegister: 1, DestRegister: 0, IsDestRegSet: true, SetName: set.Name, SetID: set.ID},
			}})
		}
	}
	return nil
}

// change makes the limits of one interface what they should be, in one step.
func (d *Driver) change(name string, wish tables.PacketLimits) error {
	if len(name) >= unix.IFNAMSIZ {
		return fmt.Errorf("limiting the packets and connections of %s: no interface has a name of %d characters or more", name, unix.IFNAMSIZ)
	}
	if !d.table {
		if err := d.build(); err != nil {
			return err
		}
	}
	have := d.have[name]
	for _, direction := range directions() {
		before, after := of(have, direction), of(wish, direction)
		if before == after {
			continue
		}
		chain, set := d.chain(direction, name), d.verdicts(direction)
		element := []nftables.SetElement{{Key: interfaceKey(name), VerdictData: &expr.Verdict{Kind: expr.VerdictJump, Chain: chain.Name}}}
		switch {
		case after == (tables.PacketLimit{}):
			if err := d.conn.SetDeleteElements(set, element); err != nil {
				return err
			}
			d.conn.FlushChain(chain)
			d.conn.DelChain(chain)
			continue
		case before == (tables.PacketLimit{}):
			d.conn.AddChain(chain)
			if err := d.conn.SetAddElements(set, element); err != nil {
				return err
			}
		default:
			d.conn.FlushChain(chain)
		}
		d.conn.AddRule(&nftables.Rule{Table: chain.Table, Chain: chain, UserData: note(after)}) // says what is in force
		for _, rule := range packetRules(after) {
			d.conn.AddRule(&nftables.Rule{Table: chain.Table, Chain: chain, Exprs: rule})
		}
	}
	if err := d.conn.Flush(); err != nil {
		return fmt.Errorf("limiting the packets and connections of %s: %w", name, err)
	}
	d.table = true
	if wish == (tables.PacketLimits{}) {
		delete(d.have, name)
	} else {
		d.have[name] = wish
	}
	return nil
}

func (d *Driver) drop() error {
	d.conn.DelTable(d.ours())
	if err := d.conn.Flush(); err != nil && !errors.Is(err, unix.ENOENT) {
		return err
	}
	d.table = false
	return nil
}

func of(l tables.PacketLimits, direction string) tables.PacketLimit {
	if direction == toWorkload {
		return l.Ingress
	}
	return l.Egress
}

// packetRules are those of a limit: packets first, so that one that is dropped opens no connection.
func packetRules(l tables.PacketLimit) [][]expr.Any {
	var out [][]expr.Any
	if l.PacketsPerSecond > 0 {
		out = append(out, []expr.Any{
			&expr.Limit{Type: expr.LimitTypePkts, Rate: l.PacketsPerSecond, Unit: expr.LimitTimeSecond, Burst: l.Burst, Over: true},
			&expr.Verdict{Kind: expr.VerdictDrop},
		})
	}
	if l.Connections > 0 {
		// Connections that are there go on, whatever the limit becomes: the first packet alone counts and is judged.
		fresh := []byte{0, 0, 0, 0}
		const ctNew = 1 << 3 // NF_CT_STATE_BIT(IP_CT_NEW)
		mask := hostOrder(ctNew)
		out = append(out, []expr.Any{
			&expr.Ct{Register: 1, Key: expr.CtKeySTATE},
			&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 4, Mask: mask, Xor: fresh},
			&expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: fresh},
			&expr.Connlimit{Count: l.Connections, Flags: expr.NFT_CONNLIMIT_F_INV},
			&expr.Reject{Type: unix.NFT_REJECT_ICMPX_UNREACH, Code: unix.NFT_REJECT_ICMPX_ADMIN_PROHIBITED},
		})
	}
	return out
}

// interfaceKey is an interface's name as sets have it.
func interfaceKey(name string) []byte {
	key := make([]byte, unix.IFNAMSIZ)
	copy(key, name)
	return key
}

// nameOf reads such a key.
func nameOf(key []byte) string { return string(bytes.TrimRight(key, "\x00")) }
