package stream

import (
	"errors"
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
	"sigs.k8s.io/controller-runtime/pkg/metrics"
)

// Reasons why a caller was refused.
const (
	reasonToken     = "token"
	reasonForeign   = "foreign_node"
	reasonOversized = "oversized"
	reasonMalformed = "malformed"
	reasonReplica   = "no_replica"
)

// Metrics of the stream.
type Metrics struct {
	agents   prometheus.Gauge
	begun    *prometheus.CounterVec
	refused  *prometheus.CounterVec
	messages prometheus.Counter
	bytes    prometheus.Counter
	reports  prometheus.Counter
	relayed  prometheus.Counter
	push     prometheus.Histogram
}

// NewMetrics makes metrics that nobody has registered.
func NewMetrics() *Metrics {
	const fastest, factor, buckets = 0.0001, 1.5, 30 // to 13 s
	m := &Metrics{
		agents:   prometheus.NewGauge(prometheus.GaugeOpts{Name: "manul_stream_agents", Help: "Agents that follow this replica."}),
		begun:    prometheus.NewCounterVec(prometheus.CounterOpts{Name: "manul_stream_begun_total", Help: "Streams begun: snapshot, or resumed at a cursor."}, []string{"how"}),
		refused:  prometheus.NewCounterVec(prometheus.CounterOpts{Name: "manul_stream_refused_total", Help: "Callers and messages refused."}, []string{"reason"}),
		messages: prometheus.NewCounter(prometheus.CounterOpts{Name: "manul_stream_messages_total", Help: "Messages to agents."}),
		bytes:    prometheus.NewCounter(prometheus.CounterOpts{Name: "manul_stream_item_bytes_total", Help: "Bytes of items in messages to agents."}),
		reports:  prometheus.NewCounter(prometheus.CounterOpts{Name: "manul_stream_reports_total", Help: "Reports of agents."}),
		relayed:  prometheus.NewCounter(prometheus.CounterOpts{Name: "manul_stream_relayed_total", Help: "Reports of agents that follow another replica, which told of them."}),
		push: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "manul_stream_push_duration_seconds", Help: "From a change of the compiler's result to its message to an agent.",
			Buckets: prometheus.ExponentialBuckets(fastest, factor, buckets),
		}),
	}
	for _, reason := range []string{reasonToken, reasonForeign, reasonOversized, reasonMalformed, reasonReplica} {
		m.refused.WithLabelValues(reason)
	}
	return m
}

// Push is how long changes took until they were sent; for tests.
func (m *Metrics) Push() prometheus.Metric { return m.push }

// Refused counts for a reason; for tests.
func (m *Metrics) Refused(reason string) prometheus.Counter { return m.refused.WithLabelValues(reason) }

// Relayed counts what was heard by way of other replicas; for tests.
func (m *Metrics) Relayed() prometheus.Counter { return m.relayed }

// Begun counts streams that began with everything; for tests.
func (m *Metrics) Begun() prometheus.Counter { return m.begun.WithLabelValues("snapshot") }

// Resumed counts streams that began with what was missed; for tests.
func (m *Metrics) Resumed() prometheus.Counter { return m.begun.WithLabelValues("resumed") }

// Reports counts what agents that follow this replica said; for tests.
func (m *Metrics) Reports() prometheus.Counter { return m.reports }

// newMetrics makes metrics that the operator shows. Two operators in one process share them.
func newMetrics() (*Metrics, error) {
	m := NewMetrics()
	var errs []error
	errs = append(errs, register(&m.agents), register(&m.begun), register(&m.refused), register(&m.messages), register(&m.bytes),
		register(&m.reports), register(&m.relayed), register(&m.push))
	return m, errors.Join(errs...)
}

func register[C prometheus.Collector](c *C) error {
	err := metrics.Registry.Register(*c)
	if already, ok := errors.AsType[prometheus.AlreadyRegisteredError](err); ok {
		if existing, ok := already.ExistingCollector.(C); ok {
			*c = existing
			return nil
		}
	}
	if err != nil {
		return fmt.Errorf("registering a metric of the stream: %w", err)
	}
	return nil
}

func (m *Metrics) begin(resumed bool) {
	how := "snapshot"
	if resumed {
		how = "resumed"
	}
	m.begun.WithLabelValues(how).Inc()
	m.agents.Inc()
}

func (m *Metrics) end() { m.agents.Dec() }
