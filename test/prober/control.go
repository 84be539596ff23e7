package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

// Question is what POST /probe takes: targets to be tried all at once.
type Question struct {
	// Timeout is how long each target may take, nanoseconds.
	Timeout time.Duration `json:"timeout"`
	Targets []Target      `json:"targets"`
}

// Target is a port of a peer.
type Target struct {
	// Protocol is TCP (a connection comes about), UDP (a datagram is echoed) or SCTP (INIT is acknowledged).
	Protocol string `json:"protocol"`
	// Address and port.
	Address string `json:"address"`
}

// mostTargets bounds a question, and longest the time it may take.
const (
	mostTargets = 10000
	longest     = time.Minute
)

// answerQuestions serves POST /probe until ctx ends. Its answer is a list of booleans in the order of the targets: whether an
// answer came in time.
func answerQuestions(ctx context.Context, address string, associations *sctp) error {
	from := &sources{}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /probe", func(w http.ResponseWriter, r *http.Request) {
		var q Question
		if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 1<<20)).Decode(&q); err != nil {
			http.Error(w, "reading the question: "+err.Error(), http.StatusBadRequest)
			return
		}
		if len(q.Targets) > mostTargets || q.Timeout <= 0 || q.Timeout > longest {
			http.Error(w, fmt.Sprintf("want at most %d targets, and a timeout of at most %s", mostTargets, longest), http.StatusBadRequest)
			return
		}
		answers, err := tryAll(r.Context(), q, associations, from)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		// An asker who went away needs no answer.
		_ = json.NewEncoder(w).Encode(answers)
	})
	s := &http.Server{Addr: address, Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	context.AfterFunc(ctx, func() { s.Close() })
	if err := s.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("taking questions: %w", err)
	}
	return nil
}

func tryAll(ctx context.Context, q Question, associations *sctp, from *sources) ([]bool, error) {
	answers := make([]bool, len(q.Targets))
	errs := make([]error, len(q.Targets))
	ctx, cancel := context.WithTimeout(ctx, q.Timeout)
	defer cancel()
	var wg sync.WaitGroup
	for i, target := range q.Targets {
		wg.Go(func() { answers[i], errs[i] = try(ctx, target, associations, from) })
	}
	wg.Wait()
	return answers, errors.Join(errs...)
}

// try tells whether a target answers before ctx ends. An error is one of the question.
func try(ctx context.Context, target Target, associations *sctp, from *sources) (bool, error) {
	address, err := netip.ParseAddrPort(target.Address)
	if err != nil {
		return false, fmt.Errorf("target %q: want an IP address and a port", target.Address)
	}
	switch target.Protocol {
	case "TCP":
		conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", target.Address)
		if err != nil {
			return false, nil //nolint:nilerr // That is the answer.
		}
		return true, conn.Close()
	case "UDP":
		return tryUDP(ctx, target.Address, from), nil
	case "SCTP":
		if associations == nil {
			return false, errors.New("SCTP was not asked for: prober serve -sctp")
		}
		return associations.try(ctx, address, from.port()), nil
	default:
		return false, fmt.Errorf("protocol %q: want TCP, UDP or SCTP", target.Protocol)
	}
}

// again is the time between two packets of a probe that nothing else repeats.
const again = 100 * time.Millisecond

// sources are source ports, below those that the kernel chooses. None is used again soon: what follows connections would take a
// question for one that it has let through before.
type sources struct{ next atomic.Uint32 }

func (s *sources) port() uint16 {
	const first, last = 20000, 32767
	return uint16(first + s.next.Add(1)%(last-first+1))
}

// tryUDP sends a datagram again and again until it comes back.
func tryUDP(ctx context.Context, address string, from *sources) bool {
	conn, err := (&net.Dialer{LocalAddr: &net.UDPAddr{Port: int(from.port())}}).DialContext(ctx, "udp", address)
	if err != nil {
		return false
	}
	defer conn.Close()
	message := []byte(rand.Text())
	buffer := make([]byte, 64)
	for ctx.Err() == nil {
		if _, err := conn.Write(message); err != nil {
			// The error may be the answer to an earlier datagram: nobody listens.
			if !pause(ctx) {
				return false
			}
			continue
		}
		if err := conn.SetReadDeadline(time.Now().Add(again)); err != nil {
			return false
		}
		n, err := conn.Read(buffer)
		if err == nil && bytes.Equal(buffer[:n], message) {
			return true
		}
		if netErr, ok := errors.AsType[net.Error](err); err != nil && (!ok || !netErr.Timeout()) && !pause(ctx) {
			return false
		}
	}
	return false
}

// pause waits a moment and tells whether there is time left.
func pause(ctx context.Context) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(again):
		return true
	}
}
