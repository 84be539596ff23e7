package v3

// FelixMonitoring are settings for health, metrics, reports and the resources of the node agent.
type FelixMonitoring struct {
	// HealthEnabled serves /readiness and /liveness. False when absent.
	// +optional
	HealthEnabled *bool `json:"healthEnabled,omitempty"`

	// HealthHost is the address on which health is served. localhost when absent.
	// +optional
	HealthHost string `json:"healthHost,omitempty"`

	// HealthPort is the port on which health is served. 9099 when absent.
	// +kubebuilder:validation:XValidation:rule="self >= 0 && self <= 65535",message="must be a port number from 0 to 65535"
	// +optional
	HealthPort *int `json:"healthPort,omitempty"`

	// HealthTimeoutOverrides change after what time without progress parts of the node agent count as not healthy.
	// +listType=atomic
	// +optional
	HealthTimeoutOverrides []HealthTimeoutOverride `json:"healthTimeoutOverrides,omitzero"`

	// PrometheusMetricsEnabled serves metrics. False when absent.
	// +optional
	PrometheusMetricsEnabled *bool `json:"prometheusMetricsEnabled,omitempty"`

	// PrometheusMetricsHost is the address on which metrics are served. All when absent.
	// +optional
	PrometheusMetricsHost string `json:"prometheusMetricsHost,omitempty"`

	// PrometheusMetricsPort is the port on which metrics are served. 9091 when absent.
	// +kubebuilder:validation:XValidation:rule="self >= 0 && self <= 65535",message="must be a port number from 0 to 65535"
	// +optional
	PrometheusMetricsPort *int `json:"prometheusMetricsPort,omitempty"`

	// PrometheusMetricsCAFile is the file of the authority that signed the certificates of clients.
	// +optional
	PrometheusMetricsCAFile string `json:"prometheusMetricsCAFile,omitempty"`

	// PrometheusMetricsCertFile is the file of the certificate with which metrics are served.
	// +optional
	PrometheusMetricsCertFile string `json:"prometheusMetricsCertFile,omitempty"`

	// PrometheusMetricsKeyFile is the file of the key of that certificate.
	// +optional
	PrometheusMetricsKeyFile string `json:"prometheusMetricsKeyFile,omitempty"`

	// PrometheusMetricsClientAuth says what certificate a client must show.
	// +kubebuilder:validation:Enum=RequireAndVerifyClientCert;RequireAnyClientCert;VerifyClientCertIfGiven;NoClientCert
	// +optional
	PrometheusMetricsClientAuth string `json:"prometheusMetricsClientAuth,omitempty"`

	// PrometheusGoMetricsEnabled serves metrics of the Go runtime. True when absent.
	// +optional
	PrometheusGoMetricsEnabled *bool `json:"prometheusGoMetricsEnabled,omitempty"`

	// PrometheusProcessMetricsEnabled serves metrics of the process. True when absent.
	// +optional
	PrometheusProcessMetricsEnabled *bool `json:"prometheusProcessMetricsEnabled,omitempty"`

	// ReportingInterval is the time between reports of the node's status.
	// +kubebuilder:validation:Pattern=`^([0-9]+(\.[0-9]+)?(ms|s|m|h))*$`
	// +optional
	ReportingInterval *Duration `json:"reportingInterval,omitempty"`

	// ReportingTTL is how long such a report is valid.
	// +kubebuilder:validation:Pattern=`^([0-9]+(\.[0-9]+)?(ms|s|m|h))*$`
	// +optional
	ReportingTTL *Duration `json:"reportingTTL,omitempty"`

	// UsageReportingEnabled is taken from manifests that give it; nothing is reported to anybody.
	// +optional
	UsageReportingEnabled *bool `json:"usageReportingEnabled,omitempty"`

	// UsageReportingInitialDelay is taken from manifests that give it; nothing is reported to anybody.
	// +kubebuilder:validation:Pattern=`^([0-9]+(\.[0-9]+)?(ms|s|m|h))*$`
	// +optional
	UsageReportingInitialDelay *Duration `json:"usageReportingInitialDelay,omitempty"`

	// UsageReportingInterval is taken from manifests that give it; nothing is reported to anybody.
	// +kubebuilder:validation:Pattern=`^([0-9]+(\.[0-9]+)?(ms|s|m|h))*$`
	// +optional
	UsageReportingInterval *Duration `json:"usageReportingInterval,omitempty"`

	// EndpointReportingDelay is how long a change of an endpoint's status waits before it is reported.
	// +kubebuilder:validation:Pattern=`^([0-9]+(\.[0-9]+)?(ms|s|m|h))*$`
	// +optional
	EndpointReportingDelay *Duration `json:"endpointReportingDelay,omitempty"`

	// EndpointReportingEnabled reports the status of endpoints. False when absent.
	// +optional
	EndpointReportingEnabled *bool `json:"endpointReportingEnabled,omitempty"`

	// EndpointStatusPathPrefix is the folder of files that say which endpoints are programmed.
	// +optional
	EndpointStatusPathPrefix string `json:"endpointStatusPathPrefix,omitempty"`

	// FlowLogsCollectorDebugTrace logs what the collector of flow logs does.
	// +optional
	FlowLogsCollectorDebugTrace *bool `json:"flowLogsCollectorDebugTrace,omitempty"`

	// FlowLogsFlushInterval is the time between reports of flows.
	// +kubebuilder:validation:Pattern=`^([0-9]+(\.[0-9]+)?(ms|s|m|h))*$`
	// +optional
	FlowLogsFlushInterval *Duration `json:"flowLogsFlushInterval,omitempty"`

	// FlowLogsGoldmaneServer is the address that flows are reported to. Off when absent.
	// +optional
	FlowLogsGoldmaneServer string `json:"flowLogsGoldmaneServer,omitempty"`

	// FlowLogsLocalReporter serves flows on a socket of the node.
	// +kubebuilder:validation:Enum=Disabled;Enabled
	// +optional
	FlowLogsLocalReporter string `json:"flowLogsLocalReporter,omitempty"`

	// FlowLogsPolicyEvaluationMode says whether flows that last are evaluated again when policies change: None or
	// Continuous.
	// +kubebuilder:validation:Enum=None;Continuous
	// +optional
	FlowLogsPolicyEvaluationMode string `json:"flowLogsPolicyEvaluationMode,omitempty"`

	// GoGCThreshold is the garbage collection target in percent (GOGC); -1 turns it off.
	// +optional
	GoGCThreshold *int `json:"goGCThreshold,omitempty"`

	// GoMaxProcs is the number of threads that run at once (GOMAXPROCS); -1 leaves it to the runtime.
	// +optional
	GoMaxProcs *int `json:"goMaxProcs,omitempty"`

	// GoMemoryLimitMB is the memory limit in MiB (GOMEMLIMIT); -1 turns it off.
	// +optional
	GoMemoryLimitMB *int `json:"goMemoryLimitMB,omitempty"`
}

// HealthTimeoutOverride changes after what time without progress a part of the node agent counts as not healthy.
type HealthTimeoutOverride struct {
	// Name of the part.
	Name string `json:"name"`

	// Timeout, such as 90s.
	Timeout Duration `json:"timeout"`
}
