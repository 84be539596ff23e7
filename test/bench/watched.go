package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"k8s.io/apimachinery/pkg/watch"
	"sigs.k8s.io/controller-runtime/pkg/client"

	v3 "github.com/manul-net/manul/api/v3"
)

// watched is what a client that only watches hears of policies, and when: how late news is that is nobody's doing but the API server's and
// the machine's.
type watched struct {
	heard chan heard
	stop  func()
}

type heard struct {
	name string
	what watch.EventType
	at   time.Time
}

// watchWait bounds the wait for what is long since done.
const watchWait = 10 * time.Second

func (b *bench) watchPolicies(ctx context.Context) (*watched, error) {
	events, err := b.client.Watch(ctx, &v3.NetworkPolicyList{}, client.InNamespace(namespace))
	if err != nil {
		return nil, fmt.Errorf("watching policies: %w", err)
	}
	w := &watched{heard: make(chan heard, 1024), stop: events.Stop}
	go func() {
		defer close(w.heard)
		for e := range events.ResultChan() {
			h := heard{what: e.Type, at: time.Now()}
			if o, ok := e.Object.(client.Object); ok {
				h.name = o.GetName()
			}
			select {
			case w.heard <- h:
			default: // nobody asks: what is missing is an error of who does
			}
		}
	}()
	return w, nil
}

// since is how long after the API server's answer the client heard of it; 0: before.
func (w *watched) since(answered time.Time, what watch.EventType, name string) (time.Duration, error) {
	timeout := time.After(watchWait)
	for {
		select {
		case h, open := <-w.heard:
			switch {
			case !open:
				return 0, errors.New("watching policies: the API server ended the watch")
			case h.name == name && h.what == what:
				return max(0, h.at.Sub(answered)), nil
			}
		case <-timeout:
			return 0, fmt.Errorf("watching policies: %s %s was not heard of within %s", what, name, watchWait)
		}
	}
}
