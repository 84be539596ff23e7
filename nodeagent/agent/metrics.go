package agent

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/manul-net/manul/api/v1alpha1"
)

// Metrics of the loop.
type Metrics struct {
	apply    *prometheus.HistogramVec
	news     prometheus.Histogram
	failures prometheus.Counter
	inEffect *prometheus.GaugeVec
	held     prometheus.Gauge
	// refused are the items that are not in effect, by kind.
	refused *prometheus.GaugeVec
	// addresses that pods hold, and blocks that are leased to the node.
	addresses, blocks prometheus.Gauge
	// disturbed by part: "policy" or "routes".
	disturbed *prometheus.CounterVec

	// attachments about which journal and kernel differ, by reason; released are those that were given up.
	attachments *prometheus.GaugeVec
	released    prometheus.Counter

	passes              prometheus.Histogram
	listed, ended, vain prometheus.Counter
}

// NewMetrics makes metrics that nobody collects yet: see Collectors.
func NewMetrics() *Metrics {
	// 0.1 ms to 3.3 s
	buckets := prometheus.ExponentialBuckets(0.0001, 2, 16)
	count := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: "manul_agent_" + name, Help: help})
	}
	return &Metrics{
		apply: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "manul_agent_apply_duration_seconds", Help: "Time to make a part of the kernel equal to its tables.", Buckets: buckets,
		}, []string{"part"}),
		news: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "manul_agent_news_to_kernel_seconds", Help: "Time from the arrival of news to its being in effect.", Buckets: buckets,
		}),
		failures: count("apply_failures_total", "Attempts after which the kernel was not wholly as it should be."),
		passes: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "manul_agent_connection_pass_duration_seconds", Buckets: buckets,
			Help: "Time to look through the connections that changes of policy may have come to deny.",
		}),
		listed: count("connections_listed_total", "Connections that the kernel listed because policy may have come to deny them."),
		ended:  count("connections_ended_total", "Connections that were ended because policy had come to deny them."),
		vain:   count("connection_pass_failures_total", "Attempts after which connections that are denied may go on."),
		inEffect: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "manul_agent_items", Help: "Items that the node is to have in effect, by kind.",
		}, []string{"kind"}),
		disturbed: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "manul_agent_disturbances_total", Help: "Changes that others made to what the agent keeps in the kernel, and that were undone.",
		}, []string{"part"}),
		refused: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "manul_agent_failed_items", Help: "Items that are not in effect, by kind.",
		}, []string{"kind"}),
		addresses: prometheus.NewGauge(prometheus.GaugeOpts{Name: "manul_agent_addresses", Help: "Addresses that the node's pods hold."}),
		blocks:    prometheus.NewGauge(prometheus.GaugeOpts{Name: "manul_agent_blocks", Help: "Address blocks that are leased to the node."}),
		attachments: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "manul_agent_attachment_findings", Help: "Attachments of containers about which the journal of addresses and the kernel differ, by reason.",
		}, []string{"reason"}),
		released: count("forgotten_attachments_released_total", "Attachments that nobody had ended and whose addresses were given back."),
		held: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "manul_agent_held_items", Help: "Items whose newest form waits for something that has not arrived.",
		}),
	}
}

// Collectors are all metrics, to be registered.
func (m *Metrics) Collectors() []prometheus.Collector {
	return []prometheus.Collector{m.apply, m.news, m.failures, m.inEffect, m.held, m.refused, m.addresses, m.blocks, m.disturbed, m.attachments, m.released, m.passes, m.listed, m.ended, m.vain}
}

func (m *Metrics) timed(part string, f func()) {
	began := time.Now()
	f()
	m.apply.WithLabelValues(part).Observe(time.Since(began).Seconds())
}

// enforced notes a pass over connections.
func (m *Metrics) enforced(took time.Duration, listed, ended int, err error) {
	m.passes.Observe(took.Seconds())
	m.listed.Add(float64(listed))
	m.ended.Add(float64(ended))
	if err != nil {
		m.vain.Inc()
	}
}

func (m *Metrics) failed() { m.failures.Inc() }

func (m *Metrics) effective(d time.Duration) { m.news.Observe(d.Seconds()) }

func (m *Metrics) observe(status *v1alpha1.NodeStateStatus, blocks, members, held int) {
	s := &status.Summary
	for kind, n := range map[string]int{
		"endpoint": int(s.Endpoints), "policy": int(s.Policies), "set": int(s.Sets), "route": int(s.Routes), "member": members,
		"host_endpoint": int(s.HostEndpoints),
	} {
		m.inEffect.WithLabelValues(kind).Set(float64(n))
	}
	m.held.Set(float64(held))
	m.blocks.Set(float64(blocks))
	addresses := 0
	for i := range status.Endpoints {
		addresses += len(status.Endpoints[i].Addresses)
	}
	m.addresses.Set(float64(addresses))
	m.refused.Reset()
	for i := range status.Failures {
		m.refused.WithLabelValues(status.Failures[i].Kind).Inc()
	}
}
