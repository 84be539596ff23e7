package cniserver

import (
	"fmt"
	"strconv"

	"github.com/prometheus/client_golang/prometheus"
)

// Observer registers a histogram of requests, manul_cni_request_duration_seconds by operation and code, and gives what to
// set as [Options.Observe].
func Observer(reg prometheus.Registerer) (func(Observation), error) {
	h := prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "manul_cni_request_duration_seconds",
		Help: "Time to answer a request of the CNI plugin, by operation and error code (0: success).",
		// 0.25 ms to 33 s: from an answer out of memory to the bound of an ADD.
		Buckets: prometheus.ExponentialBuckets(0.00025, 2, 18),
	}, []string{"operation", "code"})
	if err := reg.Register(h); err != nil {
		return nil, fmt.Errorf("registering metrics of CNI requests: %w", err)
	}
	return func(o Observation) {
		h.WithLabelValues(o.Operation, strconv.FormatUint(uint64(o.Code), 10)).Observe(o.Took.Seconds())
	}, nil
}
