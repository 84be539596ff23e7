// Package manifests draws manifests as users write them: right ones, and ones with the mistakes that people make. Whoever judges
// such manifests can be compared with others who do.
package manifests

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"

	utiljson "k8s.io/apimachinery/pkg/util/json"

	v3 "github.com/manul-net/manul/api/v3"
)

// Manifest is an object as a user hands it over.
type Manifest struct {
	Kind   string
	Object map[string]any
	// Changes says what was done to a manifest that was right.
	Changes []string
}

// Source draws manifests; the same seed draws the same ones.
type Source struct {
	random *rand.Rand
	serial int
}

// New is a source with a seed.
func New(seed uint64) *Source { return &Source{random: rand.New(rand.NewPCG(seed, 0))} }

// Kinds that are drawn, policies first.
func Kinds() []string {
	return []string{
		"NetworkPolicy", "GlobalNetworkPolicy", "StagedNetworkPolicy", "StagedGlobalNetworkPolicy", "StagedKubernetesNetworkPolicy",
		"Tier", "NetworkSet", "GlobalNetworkSet", "HostEndpoint", "IPPool", "IPReservation", "IPAMConfiguration", "FelixConfiguration",
		"KubeControllersConfiguration",
	}
}

// policies is how many of the kinds are policies.
const policies = 5

// Draw returns a manifest of a kind: mostly with a few mistakes, sometimes right.
func (s *Source) Draw(kind string) *Manifest {
	m := &Manifest{Kind: kind, Object: s.object(kind)}
	for range s.random.IntN(3) {
		m.Changes = append(m.Changes, s.spoil(m.Object))
	}
	m.Object = asSent(m.Object)
	return m
}

// asSent is an object as it arrives at the API server: numbers without a fraction are whole numbers, texts are UTF-8.
func asSent(object map[string]any) map[string]any {
	raw, err := json.Marshal(object)
	if err != nil {
		panic(err) //nolint:forbidigo // everything here is made of plain values
	}
	out := map[string]any{}
	if err := utiljson.Unmarshal(raw, &out); err != nil {
		panic(err) //nolint:forbidigo // what was encoded just now can be read
	}
	return out
}

// Any returns a manifest of any kind, policies more often than others.
func (s *Source) Any() *Manifest {
	kinds := Kinds()
	if s.chance(60) {
		kinds = kinds[:policies]
	}
	return s.Draw(kinds[s.random.IntN(len(kinds))])
}

func (s *Source) object(kind string) map[string]any {
	s.serial++
	metadata := map[string]any{"name": fmt.Sprintf("m%d", s.serial), "labels": map[string]any{"app": "web"}}
	object := map[string]any{"apiVersion": v3.GroupName + "/" + v3.Version, "kind": kind, "metadata": metadata}
	switch kind {
	case "NetworkPolicy", "StagedNetworkPolicy", "StagedKubernetesNetworkPolicy", "NetworkSet":
		metadata["namespace"] = "default"
	case "FelixConfiguration", "KubeControllersConfiguration", "IPAMConfiguration":
		metadata["name"] = "default"
	}
	object["spec"] = s.spec(kind)
	return object
}

// chance is true in so many of a hundred cases.
func (s *Source) chance(percent int) bool { return s.random.IntN(100) < percent }

func pick[T any](s *Source, from ...T) T { return from[s.random.IntN(len(from))] }

// word is a value that is right in its place, or rarely one that is not.
func (s *Source) word(right, wrong []any) any {
	if s.chance(4) {
		return pick(s, wrong...)
	}
	return pick(s, right...)
}

// list draws up to most values.
func (s *Source) list(most int, draw func() any) []any {
	list := []any{}
	for range 1 + s.random.IntN(most) {
		list = append(list, draw())
	}
	return list
}

// maybe sets a field in so many of a hundred cases.
func (s *Source) maybe(in map[string]any, percent int, field string, draw func() any) {
	if s.chance(percent) {
		in[field] = draw()
	}
}
