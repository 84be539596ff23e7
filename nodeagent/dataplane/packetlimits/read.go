package packetlimits

import (
	"encoding/binary"
	"fmt"
	"slices"
	"strings"

	"github.com/google/nftables"
	"github.com/google/nftables/userdata"

	"github.com/manul-net/manul/nodeagent/tables"
)

// read finds what is in the kernel. A table that is not as it should be is removed and made anew.
func (d *Driver) read() error {
	d.have, d.table = map[string]tables.PacketLimits{}, false
	all, err := d.conn.ListTablesOfFamily(nftables.TableFamilyINet)
	if err != nil {
		return fmt.Errorf("listing tables: %w", err)
	}
	if !slices.ContainsFunc(all, func(t *nftables.Table) bool { return t.Name == Table }) {
		return nil
	}
	d.table = true
	if whole, err := d.readTable(); err == nil && whole {
		return nil
	}
	d.have = map[string]tables.PacketLimits{}
	return d.drop()
}

// readTable tells whether the table is whole, and reads the limits that it holds.
func (d *Driver) readTable() (bool, error) {
	chains, err := d.conn.ListChainsOfTableFamily(nftables.TableFamilyINet)
	if err != nil {
		return false, fmt.Errorf("listing chains: %w", err)
	}
	base, found := 0, map[string]map[string]bool{fromWorkload: {}, toWorkload: {}}
	for _, c := range chains {
		if c.Table.Name != Table {
			continue
		}
		rules, err := d.conn.GetRules(d.ours(), c)
		if err != nil {
			return false, fmt.Errorf("listing rules: %w", err)
		}
		direction, name := split(c.Name)
		if direction == "" {
			want := map[string]int{"forward": 2, "input": 1}[c.Name]
			if c.Hooknum == nil || want != len(rules) {
				return false, nil
			}
			base++
			continue
		}
		if len(rules) == 0 {
			return false, nil
		}
		limit, ok := readNote(rules[0].UserData)
		if !ok || len(rules) != 1+len(packetRules(limit)) {
			return false, nil
		}
		found[direction][name] = true
		both := d.have[name]
		if direction == toWorkload {
			both.Ingress = limit
		} else {
			both.Egress = limit
		}
		d.have[name] = both
	}
	for _, direction := range directions() {
		elements, err := d.conn.GetSetElements(d.verdicts(direction))
		if err != nil {
			return false, fmt.Errorf("listing a map: %w", err)
		}
		for _, e := range elements {
			if !found[direction][nameOf(e.Key)] {
				return false, nil
			}
		}
		if len(elements) != len(found[direction]) {
			return false, nil
		}
	}
	return base == 2, nil
}

// split reads the name of an interface's chain; direction is empty when it is none.
func split(chain string) (direction, name string) {
	for _, direction := range directions() {
		if name, ok := strings.CutPrefix(chain, direction); ok {
			return direction, name
		}
	}
	return "", ""
}

// noteForm is how a limit stands in the comment of the first rule of its chain, which does nothing.
const noteForm = "%d packets/s, burst %d, %d connections"

func note(l tables.PacketLimit) []byte {
	return userdata.AppendString(nil, userdata.TypeComment, fmt.Sprintf(noteForm, l.PacketsPerSecond, l.Burst, l.Connections))
}

func readNote(data []byte) (tables.PacketLimit, bool) {
	var l tables.PacketLimit
	text, ok := userdata.GetString(data, userdata.TypeComment)
	if !ok {
		return l, false
	}
	n, err := fmt.Sscanf(text, noteForm, &l.PacketsPerSecond, &l.Burst, &l.Connections)
	return l, err == nil && n == 3
}

// hostOrder is a number as the kernel has it in a register.
func hostOrder(v uint32) []byte { return binary.NativeEndian.AppendUint32(nil, v) }
