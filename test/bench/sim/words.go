package main

import (
	"encoding/json"
	"fmt"
	"net/rpc"
	"os"
	"sync"
	"time"

	"github.com/manul-net/manul/api/v1alpha1"
)

// words are what agents say of their nodes, on its way to the API. Each agent writes at a time of its own: what came to all of them by one change
// comes back to the operator spread over the time in which they said it, not at once.
type words struct {
	wake chan struct{}

	mu       sync.Mutex
	newest   map[string]*word
	unspoken []*word
}

// word is what one agent says, and when it writes that. A newer one that comes before takes its place.
type word struct {
	node   string
	due    time.Time
	status *v1alpha1.NodeStateStatus
}

// Status is what a node says, on its way to the API.
type Status struct {
	Node string
	JSON []byte
}

func newWords() *words {
	return &words{wake: make(chan struct{}, 1), newest: map[string]*word{}}
}

// put takes what an agent says, which is to be written when it is due.
func (w *words) put(node string, status *v1alpha1.NodeStateStatus, due time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if x := w.newest[node]; x != nil {
		x.status = status
		return
	}
	x := &word{node, due, status}
	w.newest[node] = x
	w.unspoken = append(w.unspoken, x)
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// take gives those that are due, and when the next is; zero: there is none.
func (w *words) take(now time.Time) (due []*word, next time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	rest := w.unspoken[:0]
	for _, x := range w.unspoken {
		if !x.due.After(now) {
			due = append(due, x)
			delete(w.newest, x.node)
			continue
		}
		rest = append(rest, x)
		if next.IsZero() || x.due.Before(next) {
			next = x.due
		}
	}
	clear(w.unspoken[len(rest):])
	w.unspoken = rest
	return due, next
}

// write writes to the API what agents have said, until there is no API any more.
func (w *words) write(api *rpc.Client) {
	for {
		due, next := w.take(time.Now())
		if len(due) == 0 {
			var later <-chan time.Time
			if !next.IsZero() {
				later = time.After(time.Until(next))
			}
			select {
			case <-w.wake:
			case <-later:
			}
			continue
		}
		all := make([]Status, 0, len(due))
		for _, x := range due {
			text, err := json.Marshal(x.status)
			if err != nil {
				fmt.Fprintln(os.Stderr, "agents:", err)
				continue
			}
			all = append(all, Status{x.node, text})
		}
		if err := api.Call("parent.Status", all, &None{}); err != nil {
			return // the parent has ended
		}
	}
}
