package render

import (
	"maps"
	"slices"
	"strings"

	"github.com/manul-net/manul/api/v1alpha1"
)

// shard is a SetCatalog.
type shard struct {
	name string
	sets map[string]*set
	// object is the SetCatalog in the API; nil: there is none.
	object *v1alpha1.SetCatalog
	// offered is content that was handed out to be written and has not been seen in the API since. While there is any, what
	// was seen last may be out of date.
	offered *v1alpha1.SetCatalogSpec
	// waiting are identities that joined sets of the shard and have not been seen there in the API.
	waiting map[*identity]struct{}
}

// shard returns the shard called name; dropShard lets go of it.
func (c *Cluster) shard(name string) *shard {
	s := c.shards[name]
	if s == nil {
		s = &shard{name: name, sets: map[string]*set{}, waiting: map[*identity]struct{}{}}
		c.shards[name] = s
	}
	return s
}

func (c *Cluster) dropShard(s *shard) {
	if len(s.sets) > 0 {
		return
	}
	for i := range s.waiting {
		delete(i.bearing.waiting, s)
		c.checkFormer(i)
	}
	clear(s.waiting)
	if s.object == nil {
		delete(c.shards, s.name)
		delete(c.transition.shards, s)
	}
}

func (s *shard) render() v1alpha1.SetCatalogSpec {
	sets := slices.Collect(maps.Values(s.sets))
	slices.SortFunc(sets, func(a, b *set) int { return strings.Compare(a.id, b.id) })
	var spec v1alpha1.SetCatalogSpec
	for _, set := range sets {
		spec.Sets = append(spec.Sets, set.render())
	}
	spec.Count = int32(len(spec.Sets))
	return spec
}

// offer notes that spec is handed out to be written.
func (s *shard) offer(spec *v1alpha1.SetCatalogSpec) {
	if s.offered == nil && s.object != nil && Same(&s.object.Spec, spec) {
		return // it is there already
	}
	s.offered = spec
}

// versionOf is the version of the shard in the API if it holds the set there, otherwise empty.
func (s *shard) versionOf(setID string) string {
	if s.object == nil {
		return ""
	}
	for i := range s.object.Spec.Sets {
		if s.object.Spec.Sets[i].ID == setID {
			return s.object.ResourceVersion
		}
	}
	return ""
}

// observeCatalog takes in a SetCatalog as it is in the API; nil when it is gone.
func (c *Cluster) observeCatalog(name string, o *v1alpha1.SetCatalog) {
	s := c.shard(name)
	if s.object == nil && o != nil {
		for i := range o.Spec.Sets {
			for _, id := range o.Spec.Sets[i].Identities {
				c.transition.appeared[id] = struct{}{}
			}
		}
	}
	s.object = o
	written := map[string]bool{}
	if o != nil {
		if s.offered != nil && Same(s.offered, &o.Spec) {
			s.offered = nil
		}
		for i := range o.Spec.Sets {
			written[o.Spec.Sets[i].ID] = true
		}
	}
	for id, set := range s.sets {
		switch {
		case !written[id]:
			set.written = ""
		case set.written == "":
			set.written = o.ResourceVersion
			for p := range set.policies {
				c.pending.policies[p] = struct{}{}
			}
		}
	}
	c.transition.shards[s] = struct{}{}
	c.pending.compare[Key{KindSetCatalog, name}] = struct{}{}
	c.dropShard(s)
}
