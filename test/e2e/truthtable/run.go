package truthtable

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"text/template"
	"time"

	"github.com/manul-net/manul/test/e2e/lab"
)

const (
	// firstTry is how long a probe waits for an answer. Later tries, for which a slow machine may be the reason, wait twice as long
	// each time, up to lastTry.
	firstTry = 400 * time.Millisecond
	lastTry  = 2 * time.Second
	// settle bounds the waiting for effects that no status tells of.
	settle = 30 * time.Second
)

// Runner tries cases on a cluster with Manul.
type Runner struct {
	cluster *lab.Cluster
	world   *World
	// Rounds counts how often all pods probed all others.
	Rounds int
}

// Start makes the pods and waits until they run.
func Start(ctx context.Context, c *lab.Cluster) (*Runner, error) {
	if err := c.Apply(ctx, Manifest()); err != nil {
		return nil, err
	}
	r := &Runner{cluster: c}
	addresses, err := r.running(ctx)
	if err != nil {
		return nil, err
	}
	r.world, err = NewWorld(addresses)
	return r, err
}

// Stop removes the pods with their namespaces.
func (r *Runner) Stop(ctx context.Context) error {
	_, err := r.cluster.Kubectl(ctx, append([]string{"delete", "namespace", "--timeout=120s", "--ignore-not-found"}, namespaces()...)...)
	return err
}

// running waits until all pods are ready and returns their addresses.
func (r *Runner) running(ctx context.Context) (map[Pod]netip.Addr, error) {
	addresses := map[Pod]netip.Addr{}
	for _, ns := range namespaces() {
		if _, err := r.cluster.Kubectl(ctx, "wait", "-n", ns, "--for=condition=Ready", "pod", "--all", "--timeout=120s"); err != nil {
			return nil, err
		}
		out, err := r.cluster.Kubectl(ctx, "get", "pods", "-n", ns, "-o", `jsonpath={range .items[*]}{.metadata.name} {.status.podIP}{"\n"}{end}`)
		if err != nil {
			return nil, err
		}
		for line := range strings.Lines(out) {
			f := strings.Fields(line)
			if len(f) != 2 {
				return nil, fmt.Errorf("pod without an address: %s", line)
			}
			if addresses[Pod{ns, f[0]}], err = netip.ParseAddr(f[1]); err != nil {
				return nil, fmt.Errorf("reading the address of pod %s/%s: %w", ns, f[0], err)
			}
		}
	}
	return addresses, nil
}

// Run tries a case: after each step the table must be what the reference evaluator says. Then it removes what the case made, and
// everybody must reach everybody.
func (r *Runner) Run(ctx context.Context, c Case) (err error) {
	var made []string
	defer func() {
		cleared := r.clear(context.WithoutCancel(ctx), made)
		if err == nil && cleared == nil {
			cleared = r.expect(ctx, false, r.world.Expected())
		}
		if cleared != nil {
			err = errors.Join(err, fmt.Errorf("after it was removed: %w", cleared))
		}
	}()
	for i, step := range c.Steps {
		apply, err := r.filled(step.Apply)
		if err != nil {
			return err
		}
		if apply != "" {
			made = append(made, apply)
		}
		if err := r.step(ctx, step, apply); err != nil {
			return fmt.Errorf("step %d: %w", i+1, err)
		}
	}
	return nil
}

func (r *Runner) step(ctx context.Context, step Step, apply string) error {
	acknowledged := false
	if apply != "" {
		if err := r.world.Apply(apply); err != nil {
			return err
		}
		var err error
		if acknowledged, err = r.apply(ctx, apply); err != nil {
			return err
		}
	}
	if step.Delete != "" {
		if err := r.remove(ctx, step.Delete); err != nil {
			return err
		}
		acknowledged = false
	}
	if step.Label != nil {
		if err := r.label(ctx, *step.Label); err != nil {
			return err
		}
		acknowledged = false
	}
	if step.Renew != (Pod{}) {
		if err := r.renew(ctx, step.Renew); err != nil {
			return err
		}
		acknowledged = false
	}
	want := r.world.Expected()
	if step.Expect != nil {
		for p := range want {
			want[p] = p.From == p.To || step.Expect(p)
		}
	}
	if err := r.expect(ctx, acknowledged, want); err != nil {
		return fmt.Errorf("%w\n%s", err, apply)
	}
	return nil
}

// filled puts the addresses of pods into a manifest: {{ip "tx" "a"}}.
func (r *Runner) filled(manifest string) (string, error) {
	t, err := template.New("manifest").Funcs(template.FuncMap{"ip": func(ns, name string) string {
		return r.world.addresses[Pod{ns, name}].String()
	}}).Parse(manifest)
	if err != nil {
		return "", fmt.Errorf("reading a manifest: %w", err)
	}
	var b strings.Builder
	if err := t.Execute(&b, nil); err != nil {
		return "", fmt.Errorf("filling a manifest: %w", err)
	}
	return b.String(), nil
}

// written is what the API server stored.
type written struct {
	Kind       string `json:"kind"`
	APIVersion string `json:"apiVersion"`
	Metadata   struct {
		Name       string `json:"name"`
		Namespace  string `json:"namespace"`
		Generation int64  `json:"generation"`
	} `json:"metadata"`
	Items []written `json:"items"`
}

// program is the name of the PolicyProgram of a policy; "" for anything else.
func (w written) program() string {
	switch strings.Split(w.APIVersion, "/")[0] + " " + w.Kind {
	case "networking.k8s.io NetworkPolicy":
		return "knp." + w.Metadata.Namespace + "." + w.Metadata.Name
	case "projectcalico.org NetworkPolicy":
		return "np." + w.Metadata.Namespace + "." + w.Metadata.Name
	case "projectcalico.org GlobalNetworkPolicy":
		return "gnp." + w.Metadata.Name
	case "policy.networking.k8s.io ClusterNetworkPolicy":
		return "cnp." + w.Metadata.Name
	}
	return ""
}

// apply writes a manifest and waits until the policies in it are said to be in force. It tells whether there were any.
func (r *Runner) apply(ctx context.Context, manifest string) (acknowledged bool, err error) {
	out, err := r.cluster.KubectlInput(ctx, manifest, "apply", "-o", "json", "-f", "-")
	if err != nil {
		return false, err
	}
	var list written
	if err := json.Unmarshal([]byte(out), &list); err != nil {
		return false, fmt.Errorf("reading what was written: %w", err)
	}
	if list.Kind != "List" {
		list.Items = []written{list}
	}
	generations := map[string]int64{}
	for _, object := range list.Items {
		if name := object.program(); name != "" {
			generations[name] = object.Metadata.Generation
		}
	}
	if len(generations) == 0 {
		return false, nil
	}
	return true, lab.Eventually(ctx, settle, func(ctx context.Context) error { return r.enforced(ctx, generations) })
}

// enforced returns an error that names a policy that is not in force in its generation.
func (r *Runner) enforced(ctx context.Context, generations map[string]int64) error {
	out, err := r.cluster.Kubectl(ctx, "get", "policyprograms", "-o", `jsonpath={range .items[*]}{.metadata.name} {.spec.policy.generation} `+
		`{.status.conditions[?(@.type=="Enforced")].observedGeneration} {.status.conditions[?(@.type=="Enforced")].status}{"\n"}{end}`)
	if err != nil {
		return err
	}
	for name, generation := range generations {
		if want := fmt.Sprintf("%s %d %d True\n", name, generation, generation); !strings.Contains(out, want) {
			return fmt.Errorf("policy program, its generation, the one observed, Enforced: want %q among\n%s", want, out)
		}
	}
	return nil
}

func (r *Runner) remove(ctx context.Context, what string) error {
	manifest, err := r.filled(what)
	if err != nil {
		return err
	}
	if err := r.world.Delete(manifest); err != nil {
		return err
	}
	_, err = r.cluster.KubectlInput(ctx, manifest, "delete", "--ignore-not-found", "-f", "-")
	return err
}

// clear removes what a case made, in reverse order: policies before their tiers.
func (r *Runner) clear(ctx context.Context, made []string) error {
	var all []string
	for _, manifest := range made {
		docs := strings.SplitSeq(manifest, "\n---\n")
		for doc := range docs {
			all = append([]string{doc}, all...)
		}
	}
	if len(all) == 0 {
		return nil
	}
	manifest := strings.Join(all, "\n---\n")
	if err := r.world.Delete(manifest); err != nil {
		return err
	}
	_, err := r.cluster.KubectlInput(ctx, manifest, "delete", "--ignore-not-found", "-f", "-")
	return err
}

func (r *Runner) label(ctx context.Context, l Label) error {
	if err := r.world.Label(l.Kind, l.Namespace, l.Name, l.Key, l.Value); err != nil {
		return err
	}
	change := l.Key + "=" + l.Value
	if l.Value == "" {
		change = l.Key + "-"
	}
	args := []string{"label", "--overwrite", l.Kind, l.Name, change}
	if l.Namespace != "" {
		args = append(args, "-n", l.Namespace)
	}
	_, err := r.cluster.Kubectl(ctx, args...)
	return err
}

// renew deletes a pod and makes it again, with whatever address it gets.
func (r *Runner) renew(ctx context.Context, p Pod) error {
	if _, err := r.cluster.Kubectl(ctx, "delete", "pod", "-n", p.Namespace, p.Name, "--timeout=60s"); err != nil {
		return err
	}
	if err := r.cluster.Apply(ctx, Manifest()); err != nil {
		return err
	}
	addresses, err := r.running(ctx)
	if err != nil {
		return err
	}
	return r.world.Moved(p, addresses[p])
}

// expect probes until the table is what it should be. Once all is acknowledged, nothing may come through that should not, not even
// at the first try; what does not come through though it should is tried again, for the machine may be slow.
func (r *Runner) expect(ctx context.Context, acknowledged bool, want Table) error {
	timeout := firstTry
	deadline := time.Now().Add(settle)
	for {
		got, err := r.observe(ctx, timeout)
		if err != nil {
			return err
		}
		leaks, losses := Differences(want, got)
		if len(leaks)+len(losses) == 0 {
			return nil
		}
		if acknowledged && len(leaks) > 0 || time.Now().After(deadline) {
			return fmt.Errorf("%d probes were answered that should not be, and %d not that should be "+
				"(X: answered and should not be; o: not answered and should be):\n%s", len(leaks), len(losses), Compare(want, got))
		}
		timeout = min(2*timeout, lastTry)
	}
}

// observe has all pods probe all others, at once.
func (r *Runner) observe(ctx context.Context, timeout time.Duration) (Table, error) {
	r.Rounds++
	table := Table{}
	var (
		wg   sync.WaitGroup
		mu   sync.Mutex
		errs []error
	)
	for _, from := range Pods() {
		wg.Go(func() {
			answers, err := r.ask(ctx, from, timeout)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				errs = append(errs, fmt.Errorf("asking pod %s: %w", from, err))
				return
			}
			for i, p := range probesFrom(from) {
				table[p] = answers[i]
			}
		})
	}
	wg.Wait()
	return table, errors.Join(errs...)
}

// ask puts the questions to a pod.
func (r *Runner) ask(ctx context.Context, from Pod, timeout time.Duration) ([]bool, error) {
	var targets []lab.Target
	for _, p := range probesFrom(from) {
		to := netip.AddrPortFrom(r.world.addresses[p.To], uint16(p.Port))
		targets = append(targets, lab.Target{Protocol: p.Protocol, Address: to.String()})
	}
	return r.cluster.Ask(ctx, hosts()[from.Name], netip.AddrPortFrom(r.world.addresses[from], Control).String(), timeout, targets)
}
