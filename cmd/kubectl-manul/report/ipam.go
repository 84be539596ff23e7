package report

import (
	"fmt"
	"io"
	"net/netip"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	v3 "github.com/manul-net/manul/api/v3"
	"github.com/manul-net/manul/internal/usage"
)

// Pool is how full a pool is.
type Pool struct {
	Name string `json:"name"`
	CIDR string `json:"cidr"`
	// Capacity counts the pool's addresses, Allocated those in use.
	Capacity  int64 `json:"capacity"`
	Allocated int64 `json:"allocated"`
	// Blocks that are leased, to how many Nodes.
	Blocks int `json:"blocks"`
	Nodes  int `json:"nodes"`
	// Allocatable is the condition: True, False or Unknown. Message says why addresses can't be had.
	Allocatable string `json:"allocatable"`
	Message     string `json:"message,omitempty"`
}

// Block is how full a block is.
type Block struct {
	CIDR      string    `json:"cidr"`
	Pool      string    `json:"pool,omitempty"`
	Node      string    `json:"node,omitempty"`
	Size      int64     `json:"size"`
	Allocated int64     `json:"allocated"`
	Since     time.Time `json:"since,omitzero"`
}

// Addresses is the report on pools and blocks.
type Addresses struct {
	Pools  []Pool  `json:"pools"`
	Blocks []Block `json:"blocks"`

	now time.Time
}

// AddressesOf reports on the pools and blocks of a cluster.
func AddressesOf(c *usage.Cluster, now time.Time) *Addresses {
	a := usage.Of(c)
	out := &Addresses{Pools: []Pool{}, Blocks: []Block{}, now: now}
	conditions := map[string]*metav1.Condition{}
	for i := range c.Pools {
		conditions[c.Pools[i].Name] = meta.FindStatusCondition(c.Pools[i].Status.Conditions, v3.ConditionAllocatable)
	}
	for i := range a.Pools {
		p := &a.Pools[i]
		row := Pool{
			Name: p.Name, CIDR: p.CIDR.String(), Capacity: p.Capacity, Allocated: p.Allocated, Blocks: p.Blocks, Nodes: len(p.Nodes),
			Allocatable: string(metav1.ConditionUnknown),
		}
		if c := conditions[p.Name]; c != nil {
			row.Allocatable = string(c.Status)
			if c.Status != metav1.ConditionTrue {
				row.Message = c.Reason + ": " + c.Message
			}
		}
		out.Pools = append(out.Pools, row)
	}
	for i := range a.Blocks {
		b := &a.Blocks[i]
		out.Blocks = append(out.Blocks, Block{CIDR: b.CIDR.String(), Pool: b.Pool, Node: b.Node, Size: b.Size, Allocated: b.Allocated, Since: b.Claimed})
	}
	return out
}

// Text is a table of pools and one of blocks.
func (r *Addresses) Text(w io.Writer) error {
	var rows [][]string
	for i := range r.Pools {
		p := &r.Pools[i]
		rows = append(rows, []string{
			p.Name, p.CIDR, strconv.FormatInt(p.Capacity, 10), strconv.FormatInt(p.Allocated, 10), percent(p.Allocated, p.Capacity),
			strconv.Itoa(p.Blocks), strconv.Itoa(p.Nodes), p.Allocatable, p.Message,
		})
	}
	if err := table(w, []string{"POOL", "CIDR", "ADDRESSES", "IN USE", "SHARE", "BLOCKS", "NODES", "ALLOCATABLE", "WHY"}, rows); err != nil {
		return err
	}
	if len(r.Blocks) == 0 {
		_, err := fmt.Fprintln(w, "\nNo block is leased.")
		return err
	}
	if _, err := fmt.Fprintln(w); err != nil {
		return err
	}
	rows = nil
	for i := range r.Blocks {
		b := &r.Blocks[i]
		rows = append(rows, []string{
			b.CIDR, b.Pool, b.Node, strconv.FormatInt(b.Size, 10), strconv.FormatInt(b.Allocated, 10), percent(b.Allocated, b.Size), age(r.now, b.Since),
		})
	}
	return table(w, []string{"BLOCK", "POOL", "NODE", "ADDRESSES", "IN USE", "SHARE", "AGE"}, rows)
}

// Address is who has an address.
type Address struct {
	Address string         `json:"address"`
	Holders []usage.Holder `json:"holders"`
	// Pool and Block that it lies in, and the node that the block is leased to.
	Pool  string `json:"pool,omitempty"`
	Block string `json:"block,omitempty"`
	Node  string `json:"node,omitempty"`
	// Since when the block is the node's, and the pods run.
	BlockSince time.Time            `json:"blockSince,omitzero"`
	PodSince   map[string]time.Time `json:"podSince,omitempty"`

	now time.Time
}

// AddressOf reports on one address.
func AddressOf(c *usage.Cluster, addr netip.Addr, now time.Time) *Address {
	a := usage.Of(c)
	out := &Address{Address: addr.String(), Holders: []usage.Holder{}, now: now}
	for _, u := range a.HoldersOf(addr) {
		out.Holders = append(out.Holders, u.Holder)
		if born := bornOf(c.Pods, u.Holder); !born.IsZero() {
			if out.PodSince == nil {
				out.PodSince = map[string]time.Time{}
			}
			out.PodSince[u.Name] = born
		}
	}
	if p := a.PoolAt(addr); p != nil {
		out.Pool = p.Name
	}
	if b := a.BlockAt(addr); b != nil {
		out.Block, out.Node, out.BlockSince = b.CIDR.String(), b.Node, b.Claimed
	}
	return out
}

func bornOf(pods []corev1.Pod, h usage.Holder) time.Time {
	for i := range pods {
		if p := &pods[i]; h.Kind == usage.HolderPod && p.Namespace+"/"+p.Name == h.Name && (h.UID == "" || h.UID == p.UID) {
			return p.CreationTimestamp.Time
		}
	}
	return time.Time{}
}

// Text says it in sentences.
func (r *Address) Text(w io.Writer) error {
	var lines []string
	switch len(r.Holders) {
	case 0:
		lines = append(lines, fmt.Sprintf("Nobody has %s.", r.Address))
	case 1:
		lines = append(lines, fmt.Sprintf("%s is in use by %s%s.", r.Address, r.Holders[0], r.since(r.Holders[0])))
	default:
		lines = append(lines, fmt.Sprintf("%s is in use by %d at once, which must not be:", r.Address, len(r.Holders)))
		for _, h := range r.Holders {
			lines = append(lines, fmt.Sprintf("  %s%s", h, r.since(h)))
		}
	}
	switch {
	case r.Pool == "":
		lines = append(lines, "It lies in no IPPool.")
	case r.Block == "":
		lines = append(lines, fmt.Sprintf("It lies in IPPool %s, in a block that nobody leases.", r.Pool))
	case r.Node == "":
		lines = append(lines, fmt.Sprintf("It lies in IPPool %s, block %s, which belongs to no node.", r.Pool, r.Block))
	default:
		lines = append(lines, fmt.Sprintf("It lies in IPPool %s, block %s, which node %s has leased%s.", r.Pool, r.Block, r.Node, ago(r.now, r.BlockSince)))
	}
	for _, line := range lines {
		if _, err := fmt.Fprintln(w, line); err != nil {
			return err
		}
	}
	return nil
}

func (r *Address) since(h usage.Holder) string {
	if h.Kind != usage.HolderPod {
		return ""
	}
	born, ok := r.PodSince[h.Name]
	if !ok {
		return " (there is no such pod any more)"
	}
	return ", which was made " + age(r.now, born) + " ago"
}

func ago(now, then time.Time) string {
	if then.IsZero() {
		return ""
	}
	return " for " + age(now, then)
}

// Check is the report on what does not fit together.
type Check struct {
	Findings []usage.Finding `json:"findings"`
	// Mended says what was done about each finding, by "Reason Object".
	Mended map[string]string `json:"mended,omitempty"`
	// Looked counts what was looked at.
	Pools     int `json:"pools"`
	Blocks    int `json:"blocks"`
	Addresses int `json:"addresses"`
	Nodes     int `json:"nodes"`
}

// Key of a finding in Mended.
func Key(f *usage.Finding) string { return f.Reason + " " + f.Object }

// CheckOf reports on findings.
func CheckOf(c *usage.Cluster, findings []usage.Finding) *Check {
	a := usage.Of(c)
	if findings == nil {
		findings = []usage.Finding{}
	}
	return &Check{Findings: findings, Pools: len(a.Pools), Blocks: len(a.Blocks), Addresses: len(a.Uses), Nodes: len(c.NodeStates)}
}

// Text is a line for each finding.
func (r *Check) Text(w io.Writer) error {
	if _, err := fmt.Fprintf(w, "Looked at %d pools, %d blocks and %d addresses of %d nodes.\n", r.Pools, r.Blocks, r.Addresses, r.Nodes); err != nil {
		return err
	}
	if len(r.Findings) == 0 {
		_, err := fmt.Fprintln(w, "Everything fits together.")
		return err
	}
	for i := range r.Findings {
		f := &r.Findings[i]
		tail := ""
		switch done, tried := r.Mended[Key(f)]; {
		case tried:
			tail = "\n    " + done
		case f.Repairable:
			tail = "\n    --fix mends it"
		}
		if _, err := fmt.Fprintf(w, "%s, %s: %s%s\n", f.Reason, f.Object, f.Message, tail); err != nil {
			return err
		}
	}
	return nil
}
