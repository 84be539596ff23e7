package source

import (
	"fmt"

	"k8s.io/client-go/tools/cache"
)

// store hands what a reflector finds to a sink and keeps nothing.
type store struct {
	kind Kind
	sink Sink
}

var (
	_ cache.ReflectorStore         = (*store)(nil)
	_ cache.ResourceVersionUpdater = (*store)(nil)
)

func (s *store) Add(obj any) error { return s.Update(obj) }

func (s *store) Update(obj any) error {
	o, err := s.object(obj)
	if err != nil {
		return err
	}
	s.sink.Set(s.kind, o)
	return nil
}

func (s *store) Delete(obj any) error {
	o, err := s.object(obj)
	if err != nil {
		return err
	}
	s.sink.Delete(s.kind, o.GetName(), o.GetResourceVersion())
	return nil
}

func (s *store) Replace(list []any, version string) error {
	objects := make([]Object, 0, len(list))
	for _, obj := range list {
		o, err := s.object(obj)
		if err != nil {
			return err
		}
		objects = append(objects, o)
	}
	s.sink.Replace(s.kind, objects, version)
	return nil
}

// UpdateResourceVersion hears of bookmarks too.
func (s *store) UpdateResourceVersion(version string) { s.sink.Reached(s.kind, version) }

func (s *store) Resync() error { return nil }

func (s *store) object(obj any) (Object, error) {
	o, ok := obj.(Object)
	if !ok {
		return nil, fmt.Errorf("following %s: got a %T", s.kind, obj)
	}
	o.SetManagedFields(nil) // of no use here, and often the larger part
	return o, nil
}
