package source

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"reflect"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/manul-net/manul/api/v1alpha1"
)

const (
	reportInterval = time.Second
	// urgentBurst reports may go out without waiting; on average there is one a second all the same.
	urgentBurst = 10
	// leisure is how long a report waits that the operator has heard already, and ample how long if it says only how far the node has come:
	// those who do not hear it, and go by the API, need the rest.
	leisure       = 300 * time.Millisecond
	ample         = 2 * time.Second
	writeTimeout  = 10 * time.Second
	retryAtFirst  = 250 * time.Millisecond
	retryAtLength = 5 * time.Second
)

// reporter writes the newest status: at once after a pause, otherwise at most once in reportInterval. Urgent reports do
// not wait as long as their bucket has tokens.
type reporter struct {
	write func(context.Context, *v1alpha1.NodeStateStatus) error
	log   *slog.Logger
	// heard tells whether the operator hears reports otherwise, so that the API need not have them at once. Default: it does not.
	heard func() bool

	mu sync.Mutex
	// written was taken to be written last.
	written *v1alpha1.NodeStateStatus
	pending *Report
	fresh   bool // nobody has looked at pending yet
	// leisure is until when the pending report may wait for others to go along with.
	leisure time.Time
	wake    chan struct{}
}

func newReporter(write func(context.Context, *v1alpha1.NodeStateStatus) error, log *slog.Logger) *reporter {
	return &reporter{write: write, log: log, wake: make(chan struct{}, 1)}
}

func (r *reporter) report(next Report) {
	r.mu.Lock()
	if r.heard != nil && r.heard() {
		due := time.Now().Add(leisure)
		if r.written != nil && onlyProgress(r.written, &next.Status) {
			due = time.Now().Add(ample)
		}
		next.Urgent = false
		if r.pending == nil || due.Before(r.leisure) {
			r.leisure = due
		}
	} else {
		r.leisure = time.Time{}
	}
	if r.pending != nil {
		next.Urgent = next.Urgent || r.pending.Urgent
	}
	r.pending, r.fresh = &next, true
	r.mu.Unlock()
	r.signal()
}

func (r *reporter) signal() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

func (r *reporter) run(ctx context.Context) {
	bucket := rate.NewLimiter(rate.Every(reportInterval), urgentBurst)
	var attempted, notBefore time.Time
	failures := 0
	for {
		urgent, fresh, ok := r.peek()
		if !ok {
			select {
			case <-ctx.Done():
				return
			case <-r.wake:
			}
			continue
		}
		if again := attempted.Add(reportInterval); fresh && again.Before(notBefore) {
			notBefore = again // there may be a reason to succeed now
		}
		wait := max(time.Until(notBefore), r.atLeisure())
		if urgent && failures == 0 {
			wait = 0
		}
		if wait <= 0 {
			reservation := bucket.Reserve()
			if wait = reservation.Delay(); wait > 0 {
				reservation.Cancel()
			}
		}
		if wait > 0 {
			if !r.sleep(ctx, wait) {
				return
			}
			continue
		}
		report := r.take()
		attempted = time.Now()
		err := r.attempt(ctx, report)
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			failures++
			pause := backoff(failures)
			notBefore = time.Now().Add(pause)
			r.log.Warn("status was not written", "error", err, "again_in", pause)
			r.putBack(report)
			continue
		}
		failures, notBefore = 0, time.Now().Add(reportInterval)
	}
}

func (r *reporter) attempt(ctx context.Context, report *Report) error {
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	return r.write(ctx, &report.Status)
}

// sleep waits, or less when there is another report, which may be urgent.
func (r *reporter) sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-r.wake:
	case <-timer.C:
	}
	return true
}

// peek tells of the pending report, if there is one, whether it came since the last time.
func (r *reporter) peek() (urgent, fresh, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.pending == nil {
		return false, false, false
	}
	fresh, r.fresh = r.fresh, false
	return r.pending.Urgent, fresh, true
}

// atLeisure is how long the pending report may wait yet.
func (r *reporter) atLeisure() time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	return time.Until(r.leisure)
}

// hasten has the pending report written soon: the operator may not have heard it.
func (r *reporter) hasten() {
	r.mu.Lock()
	r.leisure = time.Time{}
	r.mu.Unlock()
	r.signal()
}

func (r *reporter) take() *Report {
	r.mu.Lock()
	defer r.mu.Unlock()
	report := r.pending
	r.pending, r.written = nil, &report.Status
	return report
}

// onlyProgress tells whether two reports differ in nothing but how far the node has come.
func onlyProgress(a, b *v1alpha1.NodeStateStatus) bool {
	x, y := *a, *b
	for _, s := range []*v1alpha1.NodeStateStatus{&x, &y} {
		s.ObservedGeneration, s.Applied, s.Sequence, s.Summary = 0, nil, 0, v1alpha1.Summary{}
	}
	return reflect.DeepEqual(x, y)
}

// putBack keeps a report that was not written, unless there is a newer one, which then has to say what this one did.
func (r *reporter) putBack(report *Report) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.written = nil
	if due := time.Now().Add(leisure); due.Before(r.leisure) {
		r.leisure = due
	}
	if r.pending == nil {
		r.pending = report
	}
}

// backoff doubles up to a bound, half of it at random.
func backoff(failures int) time.Duration {
	d := retryAtLength
	if failures < 8 {
		d = min(d, retryAtFirst<<(failures-1))
	}
	return d/2 + rand.N(d/2) //nolint:gosec // jitter
}
