package render

import (
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"strings"

	"github.com/manul-net/manul/internal/labelindex"
	"github.com/manul-net/manul/internal/policy"
)

// identity is a class of endpoints that no selector in use can tell apart: namespace, service account, and the labels
// that selectors in use look at. Host endpoints are in the namespace without a name.
type identity struct {
	id string
	// known tells whether the fields up to absent are filled. They are not when all that is known of the identity is that
	// objects of the API name it: those that were written before this process began.
	known     bool
	namespace *namespace
	account   *account
	labels    map[string]string
	// absent are keys in use of which the identity says that endpoints do not have them, in order.
	absent []string

	// endpoints whose identity it is.
	endpoints int
	// sets of which it is a member.
	sets map[*set]struct{}

	bearing bearing
}

// scopedKey is a label key in use for the endpoints of one namespace, or of all when the namespace is empty.
type scopedKey struct{ namespace, key string }

// keyUse counts the sets whose selector looks at a key.
type keyUse struct {
	// sets in all, and those of them to which the absence of the label matters.
	sets, absent int
}

// useKeys counts the keys of a set that begins (1) or ceases (-1) to be used.
func (c *Cluster) useKeys(s *set, count int) {
	uses := c.keys[s.what.Namespace]
	if uses == nil {
		uses = map[string]*keyUse{}
		c.keys[s.what.Namespace] = uses
	}
	for _, key := range s.what.Selector.Keys() {
		if !policy.OwnKey(key) {
			continue
		}
		use := uses[key]
		if use == nil {
			use = &keyUse{}
			uses[key] = use
		}
		before := *use
		use.sets += count
		if _, found := slices.BinarySearch(s.absent, key); found {
			use.absent += count
		}
		if (before.sets > 0) != (use.sets > 0) || (before.absent > 0) != (use.absent > 0) {
			scoped := scopedKey{s.what.Namespace, key}
			c.pending.keys[scoped] = c.pending.keys[scoped] || (before.absent > 0) != (use.absent > 0)
		}
		if use.sets == 0 {
			delete(uses, key)
		}
	}
	if len(uses) == 0 {
		delete(c.keys, s.what.Namespace)
	}
}

// updateIdentities gives endpoints the identities that they should have with the keys that are in use now.
func (c *Cluster) updateIdentities() {
	for scoped, absence := range c.pending.keys {
		check := func(e *endpoint) {
			if _, present := e.labels[scoped.key]; present || absence {
				c.pending.identities[e] = struct{}{}
			}
		}
		if scoped.namespace == "" {
			for _, e := range c.endpoints {
				check(e)
			}
			for _, e := range c.hosts {
				check(e)
			}
		} else if n := c.namespaces[scoped.namespace]; n != nil {
			for e := range n.endpoints {
				check(e)
			}
		}
	}
	c.pending.keys = emptied(c.pending.keys)
	found := map[likeness]*identity{}
	for e := range c.pending.identities {
		c.updateIdentity(e, found)
	}
	c.pending.identities = emptied(c.pending.identities)
}

// likeness is what endpoints have in common that are of one identity whatever keys are in use: the replicas of a workload.
type likeness struct {
	labels    labelindex.Alike[*endpoint]
	namespace *namespace
	account   *account
}

// updateIdentity gives an endpoint its identity; found are those of the endpoints before it.
func (c *Cluster) updateIdentity(e *endpoint, found map[likeness]*identity) {
	like := likeness{c.selecting.Alike(e), e.namespace, e.account}
	next := found[like]
	if next == nil {
		next = c.identityOf(e)
		found[like] = next
	}
	if e.identity == next {
		return
	}
	next.endpoints++
	c.leaveIdentity(e)
	e.identity = next
	c.transition.check(e)
	c.touchEndpoint(e)
}

// identityOf is the identity that an endpoint should have.
func (c *Cluster) identityOf(e *endpoint) *identity {
	labels, absent := c.relevantLabels(e)
	id := identityID(e.namespace.name, e.account.name.name, labels, absent)
	next := c.identities[id]
	if next == nil {
		next = &identity{id: id, sets: map[*set]struct{}{}}
		c.identities[id] = next
	}
	if !next.known {
		c.removeIdentity(next) // what is known now replaces what objects in the API say
		c.identities[id] = next
		clear(next.sets)
		next.known = true
		next.labels, next.absent = labels, absent
		next.namespace, next.account = e.namespace, e.account
		next.namespace.identities[next] = struct{}{}
		next.account.identities[next] = struct{}{}
		c.enterIdentity(next)
	}
	return next
}

// leaveIdentity ends e's belonging to its identity.
func (c *Cluster) leaveIdentity(e *endpoint) {
	if e.identity == nil {
		return
	}
	old := e.identity
	e.identity = nil
	old.endpoints--
	c.retire(old)
}

// relevantLabels are the labels of e that selectors in use look at, and the keys whose absence matters to one of them.
func (c *Cluster) relevantLabels(e *endpoint) (labels map[string]string, absent []string) {
	labels = map[string]string{}
	if e.host != nil {
		for _, key := range policy.DeterminedKeys() { // whether in use or not, which nobody counts
			if value, ok := e.labels[key]; ok {
				labels[key] = value
			}
		}
	}
	for _, scope := range [2]string{"", e.namespace.name} {
		for key, use := range c.keys[scope] {
			if value, ok := e.labels[key]; ok {
				labels[key] = value
			} else if use.absent > 0 {
				absent = append(absent, key)
			}
		}
	}
	slices.Sort(absent)
	return labels, slices.Compact(absent)
}

// identityID is the hash of what all endpoints of an identity have in common. Zero bytes, which no name contains, keep
// different contents apart.
func identityID(namespace, account string, labels map[string]string, absent []string) string {
	keys := make([]string, 0, len(labels))
	for key := range labels {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	var text strings.Builder
	write := func(parts ...string) {
		for _, part := range parts {
			text.WriteString(part)
			text.WriteByte(0)
		}
	}
	write("namespace", namespace, "serviceaccount", account)
	for _, key := range keys {
		write("label", key, labels[key])
	}
	for _, key := range absent {
		write("absent", key)
	}
	sum := sha256.Sum256([]byte(text.String()))
	return hex.EncodeToString(sum[:8])
}

// enterIdentity looks up again in which sets an identity is.
func (c *Cluster) enterIdentity(i *identity) {
	labels := &policy.EndpointLabels{
		Own:                  i.labels,
		Pod:                  i.namespace.name != "",
		Namespace:            i.namespace.name,
		NamespaceLabels:      i.namespace.labels(),
		ServiceAccount:       i.account.name.name,
		ServiceAccountLabels: i.account.labels,
	}
	c.membership.SetItem(member{identity: i}, labels.Map())
}

// canTell says whether the identity knows enough of its endpoints to be a member of s. One that dates from before a key
// came into use does not know which of its endpoints have that label. It matters only where the absence of the label
// can make a member: elsewhere it can at most be left out of a set that it could not have been in before.
func (i *identity) canTell(s *set) bool {
	for _, key := range s.absent {
		if _, present := i.labels[key]; present {
			continue
		}
		if _, found := slices.BinarySearch(i.absent, key); !found {
			return false
		}
	}
	return true
}

// removeIdentity forgets an identity that nothing refers to.
func (c *Cluster) removeIdentity(i *identity) {
	delete(c.identities, i.id)
	for s := range i.bearing.waiting {
		delete(s.waiting, i)
	}
	if !i.known {
		for s := range i.sets {
			delete(s.identities, i)
			c.touch(KindSetCatalog, s.shard.name)
		}
		return
	}
	c.membership.DeleteItem(member{identity: i})
	delete(i.namespace.identities, i)
	delete(i.account.identities, i)
	c.dropNamespace(i.namespace)
	c.dropAccount(i.account)
}
