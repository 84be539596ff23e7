package v3

// FelixLogging are settings for the node agent's own log and for rules with action Log.
type FelixLogging struct {
	// LogFilePath is the file of the log. The log goes to the standard output only, when it is none.
	// +optional
	LogFilePath string `json:"logFilePath,omitempty"`

	// LogPrefix is what a packet's line in the node's log starts with, for rules with action Log. calico-packet when
	// absent.
	// +kubebuilder:validation:Pattern=`^([a-zA-Z0-9%: /_-])*$`
	// +optional
	LogPrefix string `json:"logPrefix,omitempty"`

	// LogActionRateLimit bounds the lines of each rule with action Log, such as 10/second. Not bounded when absent.
	// +kubebuilder:validation:Pattern=`^[1-9]\d{0,3}/(?:second|minute|hour|day)$`
	// +optional
	LogActionRateLimit string `json:"logActionRateLimit,omitempty"`

	// LogActionRateLimitBurst is how many lines may come at once before the bound applies.
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=9999
	// +optional
	LogActionRateLimitBurst *int `json:"logActionRateLimitBurst,omitempty"`

	// LogSeverityFile is the least severity of messages in the file.
	// +kubebuilder:validation:Pattern=`^(?i)(Trace|Debug|Info|Warning|Error|Fatal)?$`
	// +optional
	LogSeverityFile string `json:"logSeverityFile,omitempty"`

	// LogSeverityScreen is the least severity of messages on the standard output. Info when absent.
	// +kubebuilder:validation:Pattern=`^(?i)(Trace|Debug|Info|Warning|Error|Fatal)?$`
	// +optional
	LogSeverityScreen string `json:"logSeverityScreen,omitempty"`

	// LogSeveritySys is the least severity of messages to syslog.
	// +kubebuilder:validation:Pattern=`^(?i)(Trace|Debug|Info|Warning|Error|Fatal)?$`
	// +optional
	LogSeveritySys string `json:"logSeveritySys,omitempty"`

	// LogDebugFilenameRegex limits debug messages to source files that match.
	// +optional
	LogDebugFilenameRegex string `json:"logDebugFilenameRegex,omitempty"`

	// DebugDisableLogDropping waits for the log to be written where messages would be dropped.
	// +optional
	DebugDisableLogDropping *bool `json:"debugDisableLogDropping,omitempty"`

	// DebugHost is the address on which profiles are served. The loopback address when absent.
	// +optional
	DebugHost string `json:"debugHost,omitempty"`

	// DebugPort is the port on which profiles are served. Off when absent.
	// +kubebuilder:validation:XValidation:rule="self >= 0 && self <= 65535",message="must be a port number from 0 to 65535"
	// +optional
	DebugPort *int `json:"debugPort,omitempty"`

	// DebugMemoryProfilePath is where a profile of memory is written on SIGUSR1.
	// +optional
	DebugMemoryProfilePath string `json:"debugMemoryProfilePath,omitempty"`

	// DebugSimulateCalcGraphHangAfter stops the node agent's calculation after this time, for tests.
	// +kubebuilder:validation:Pattern=`^([0-9]+(\.[0-9]+)?(ms|s|m|h))*$`
	// +optional
	DebugSimulateCalcGraphHangAfter *Duration `json:"debugSimulateCalcGraphHangAfter,omitempty"`

	// DebugSimulateDataplaneApplyDelay delays each change of the dataplane, for tests.
	// +kubebuilder:validation:Pattern=`^([0-9]+(\.[0-9]+)?(ms|s|m|h))*$`
	// +optional
	DebugSimulateDataplaneApplyDelay *Duration `json:"debugSimulateDataplaneApplyDelay,omitempty"`

	// DebugSimulateDataplaneHangAfter stops the dataplane after this time, for tests.
	// +kubebuilder:validation:Pattern=`^([0-9]+(\.[0-9]+)?(ms|s|m|h))*$`
	// +optional
	DebugSimulateDataplaneHangAfter *Duration `json:"debugSimulateDataplaneHangAfter,omitempty"`
}
