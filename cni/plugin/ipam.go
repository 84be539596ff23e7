package plugin

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/containernetworking/cni/pkg/types"
	types100 "github.com/containernetworking/cni/pkg/types/100"
	"github.com/containernetworking/cni/pkg/version"

	"github.com/manul-net/manul/cni/conflist"
	"github.com/manul-net/manul/cni/protocol"
)

// Any subnet will do where host-local reads its configuration and does not go by it: in all calls but ADD.
const anyIPv4, anyIPv6 = "0.0.0.0/0", "::/0"

// pools is what the agent is told of the network configuration's pools.
func (c *call) pools() *protocol.Pools {
	if len(c.IPAM) == 0 || c.ipam.External() {
		return nil
	}
	return &protocol.Pools{IPv4: c.ipam.IPv4Pools, IPv6: c.ipam.IPv6Pools, NoIPv4: c.ipam.NoIPv4, NoIPv6: c.ipam.NoIPv6}
}

// delegate is the call of another plugin that gives addresses, as the specification says: by its name in CNI_PATH, with the same
// configuration and environment. The CNI project's package for that would bring an HTTP server's worth of code into a program that starts
// for each pod.
type delegate struct {
	plugin string
	stdin  []byte
}

// ipamPlugin is the delegate; nil when the agent gives addresses. subnets are what host-local takes for the node's CIDRs.
func (c *call) ipamPlugin(v4, v6 string) (*delegate, error) {
	if !c.ipam.External() {
		return nil, nil
	}
	d := &delegate{plugin: c.ipam.Type, stdin: c.stdin}
	if d.plugin != conflist.HostLocal {
		return d, nil
	}
	with4, with6 := conflist.UsesPodCIDR(c.IPAM)
	if !with4 && !with6 {
		return d, nil
	}
	var whole map[string]json.RawMessage
	if err := json.Unmarshal(c.stdin, &whole); err != nil {
		return nil, configError("%v", err)
	}
	section := strings.ReplaceAll(string(c.IPAM), `"`+conflist.PodCIDR+`"`, `"`+v4+`"`)
	whole["ipam"] = json.RawMessage(strings.ReplaceAll(section, `"`+conflist.PodCIDRv6+`"`, `"`+v6+`"`))
	var err error
	d.stdin, err = json.Marshal(whole)
	return d, err
}

// podCIDRs are the node's, if the configuration goes by them: the first of each family.
func (c *call) podCIDRs(ctx context.Context) (v4, v6 string, err error) {
	with4, with6 := conflist.UsesPodCIDR(c.IPAM)
	if c.ipam.Type != conflist.HostLocal || !with4 && !with6 {
		return "", "", nil
	}
	node, err := c.client.Node(ctx)
	if err != nil {
		return "", "", err
	}
	for _, cidr := range node.PodCIDRs {
		if v4 == "" && cidr.Addr().Is4() {
			v4 = cidr.String()
		}
		if v6 == "" && cidr.Addr().Is6() {
			v6 = cidr.String()
		}
	}
	const missing = "ipam: %s: the node has no CIDR of that family in spec.podCIDRs: start kube-controller-manager with --allocate-node-cidrs, or name a subnet"
	if with4 && v4 == "" {
		return "", "", configError(missing, conflist.PodCIDR)
	}
	if with6 && v6 == "" {
		return "", "", configError(missing, conflist.PodCIDRv6)
	}
	return v4, v6, nil
}

// obtain has the IPAM plugin give addresses; nil when the agent gives them. The caller gives them back if it can't use them.
func (c *call) obtain(ctx context.Context) (*types100.Result, error) {
	if !c.ipam.External() {
		return nil, nil
	}
	v4, v6, err := c.podCIDRs(ctx)
	if err != nil {
		return nil, err
	}
	d, err := c.ipamPlugin(v4, v6)
	if err != nil {
		return nil, err
	}
	out, err := d.call(ctx, "ADD")
	if err != nil {
		return nil, err
	}
	var result *types100.Result
	raw, err := version.NewResult(c.CNIVersion, out)
	if err == nil {
		result, err = types100.NewResultFromResult(raw)
	}
	if err == nil && len(result.IPs) == 0 {
		err = errors.New("it gave no address")
	}
	if err != nil {
		return nil, errors.Join(d.failure("ADD", err), c.giveBack()) //nolint:contextcheck // the time of the ADD may be over
	}
	return result, nil
}

// addressesOf are the addresses of an IPAM plugin's result.
func addressesOf(result *types100.Result) ([]netip.Addr, error) {
	if result == nil {
		return nil, nil
	}
	var out []netip.Addr
	for _, ip := range result.IPs {
		addr, ok := netip.AddrFromSlice(ip.Address.IP)
		if !ok {
			return nil, fmt.Errorf("the IPAM plugin gave %q, which is no address", ip.Address.String())
		}
		out = append(out, addr.Unmap())
	}
	return out, nil
}

// giveBack tells the IPAM plugin that the attachment is no more.
func (c *call) giveBack() error {
	ctx, cancel := context.WithTimeout(context.Background(), delTimeout)
	defer cancel()
	return c.tell(ctx, "DEL")
}

// tell passes a call on that has no result. Nothing happens when the agent gives addresses.
func (c *call) tell(ctx context.Context, command string) error {
	d, err := c.ipamPlugin(anyIPv4, anyIPv6)
	if d == nil || err != nil {
		return err
	}
	_, err = d.call(ctx, command)
	return err
}

// passOn passes STATUS or GC on. A plugin of before CNI 1.1 knows neither.
func (c *call) passOn(ctx context.Context, command string) error {
	err := c.tell(ctx, command)
	if e, ok := errors.AsType[*types.Error](err); ok && (e.Code == types.ErrIncompatibleCNIVersion || e.Code == types.ErrInvalidEnvironmentVariables) {
		return nil
	}
	return err
}

// call runs the plugin. It ends it with ctx.
func (d *delegate) call(ctx context.Context, command string) ([]byte, error) {
	path, err := findProgram(os.Getenv("CNI_PATH"), d.plugin)
	if err != nil {
		return nil, d.failure(command, err)
	}
	cmd := exec.CommandContext(ctx, path)
	cmd.Env = append(os.Environ(), "CNI_COMMAND="+command) // of two values the last counts
	cmd.Stdin = bytes.NewReader(d.stdin)
	var stdout bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, os.Stderr
	if err := cmd.Run(); err != nil {
		var told types.Error
		if json.Unmarshal(stdout.Bytes(), &told) == nil && told.Code != 0 {
			return nil, d.failure(command, &told)
		}
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return nil, d.failure(command, err)
	}
	return stdout.Bytes(), nil
}

// findProgram finds a plugin's program in a list of folders.
func findProgram(folders, plugin string) (string, error) {
	for _, folder := range filepath.SplitList(folders) {
		path := filepath.Join(folder, plugin)
		if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() { //nolint:gosec // the name has no slash, and the folders are the runtime's
			return path, nil
		}
	}
	return "", fmt.Errorf("there is no such program in the folders of CNI_PATH (%s)", folders)
}

// failure of the delegate, with its own code if it has one.
func (d *delegate) failure(command string, err error) error {
	text := fmt.Sprintf("%s of IPAM plugin %s: %s", command, d.plugin, strings.ReplaceAll(err.Error(), "\n", "; "))
	if e, ok := errors.AsType[*types.Error](err); ok {
		return types.NewError(e.Code, text, "")
	}
	return types.NewError(protocol.CodeSetup, text, "")
}
