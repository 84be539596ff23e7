package stream

import (
	"sync"

	"github.com/manul-net/manul/api/v1alpha1"
	"github.com/manul-net/manul/internal/board"
)

// turns are of those who do the same for each of thousands of agents. The board and the World have one lock each, and a lock under
// contention is given in the order in which it was asked for: news that concerns hundreds of nodes has hundreds of streams ask for the board, and the
// words of as many nodes come back at once. Whoever brings the next news would wait for all of them. With turns it waits for one, and
// those that have not had theirs yet take that news along.
type turns struct {
	taking, hearing sync.Mutex
}

// take gives what a node lacks.
func (t *turns) take(sub *board.Subscription, attachment uint64, also board.Also) (batch board.Batch, current bool) {
	t.taking.Lock()
	defer t.taking.Unlock()
	return sub.Take(attachment, also)
}

// hear takes in what an agent says.
func (s *Server) hear(node string, report *v1alpha1.NodeStateStatus) error {
	s.turns.hearing.Lock()
	defer s.turns.hearing.Unlock()
	return s.World.Report(node, report)
}
