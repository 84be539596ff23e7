package render

import "maps"

// namespace is a namespace, or what is known of one before its object arrives: that something is in it.
type namespace struct {
	name string
	// content of the object; nil while there is none.
	content     *namespaceContent
	endpoints   map[*endpoint]struct{}
	networkSets map[*networkSet]struct{}
	identities  map[*identity]struct{}
}

type namespaceContent struct{ labels, annotations map[string]string }

func (n *namespace) labels() map[string]string {
	if n.content == nil {
		return nil
	}
	return n.content.labels
}

func (n *namespace) annotations() map[string]string {
	if n.content == nil {
		return nil
	}
	return n.content.annotations
}

// namespace returns the namespace called name; dropNamespace lets go of it.
func (c *Cluster) namespace(name string) *namespace {
	n := c.namespaces[name]
	if n == nil {
		n = &namespace{
			name:      name,
			endpoints: map[*endpoint]struct{}{}, networkSets: map[*networkSet]struct{}{}, identities: map[*identity]struct{}{},
		}
		c.namespaces[name] = n
	}
	return n
}

// dropNamespace forgets a namespace of which nothing is known any more.
func (c *Cluster) dropNamespace(n *namespace) {
	if n.content == nil && len(n.endpoints) == 0 && len(n.networkSets) == 0 && len(n.identities) == 0 {
		delete(c.namespaces, n.name)
	}
}

// setNamespace takes in the content of a namespace; nil when its object is gone.
func (c *Cluster) setNamespace(name string, content *namespaceContent) {
	n := c.namespace(name)
	before := namespace{name: name, content: n.content}
	n.content = content
	if !maps.Equal(before.labels(), n.labels()) {
		for e := range n.endpoints {
			c.relabel(e)
		}
		for s := range n.networkSets {
			c.enterNetworkSet(s)
		}
		for i := range n.identities {
			c.enterIdentity(i)
		}
	}
	if wishesOf(before.annotations()) != wishesOf(n.annotations()) || c.poolsTell(&before, n) {
		for e := range n.endpoints {
			c.touch(KindNodeState, e.node.name)
		}
	}
	c.dropNamespace(n)
}

// account is a service account, or what is known of one before its object arrives.
type account struct {
	name       objectName
	exists     bool
	labels     map[string]string
	endpoints  map[*endpoint]struct{}
	identities map[*identity]struct{}
}

// account returns the service account called name; dropAccount lets go of it.
func (c *Cluster) account(name objectName) *account {
	a := c.accounts[name]
	if a == nil {
		a = &account{name: name, endpoints: map[*endpoint]struct{}{}, identities: map[*identity]struct{}{}}
		c.accounts[name] = a
	}
	return a
}

func (c *Cluster) dropAccount(a *account) {
	if !a.exists && len(a.endpoints) == 0 && len(a.identities) == 0 {
		delete(c.accounts, a.name)
	}
}

func (c *Cluster) setAccount(name objectName, exists bool, labels map[string]string) {
	a := c.account(name)
	a.exists = exists
	if !maps.Equal(a.labels, labels) {
		a.labels = labels
		for e := range a.endpoints {
			c.relabel(e)
		}
		for i := range a.identities {
			c.enterIdentity(i)
		}
	}
	c.dropAccount(a)
}
