// Package webhooks is admission: what users write is checked before it is stored, by the same rules that the compiler
// follows (internal/validate), and against the objects that are there already.
//
// The API server asks about the kinds in config/webhook/webhook.yaml, and about these alone. While no operator answers, writes
// of these kinds are refused; nothing else is.
package webhooks

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strconv"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/webhook"

	"github.com/manul-net/manul/internal/policy"
	"github.com/manul-net/manul/webhooks/certs"
)

// Names of the objects that the install manifest makes for the webhook.
const (
	// ServiceName is the Service by which the API server reaches the operator.
	ServiceName = "manul-webhook"
	// SecretName is the Secret with the operator's certificate.
	SecretName = "manul-webhook-certificate" //nolint:gosec // The name of a Secret, not its content.
	// ConfigurationName is the ValidatingWebhookConfiguration.
	ConfigurationName = "manul-webhook"
	// Path of the webhook.
	Path = "/validate"
)

// Options of admission.
type Options struct {
	// Address to listen on, host:port; an empty host for all addresses.
	Address string
	// Namespace of the Service and the Secret.
	Namespace string
	// Ready says whether the operator knows the cluster.
	Ready func() bool
	// Pods is for [Reader].
	Pods func(namespace string, most int) []policy.EndpointLabels
}

// Setup adds the webhook to a manager: on every replica, whether it leads or not.
func Setup(mgr manager.Manager, opts Options) error {
	host, port, err := splitAddress(opts.Address)
	if err != nil {
		return err
	}
	names := []string{ServiceName + "." + opts.Namespace + ".svc"}
	if host != "" {
		names = append(names, host) // an API server that is told a URL calls it by that
	}
	keeper, err := newKeeper(mgr, opts.Namespace, names)
	if err != nil {
		return err
	}
	server := webhook.NewServer(webhook.Options{Host: host, Port: port, TLSOpts: []func(*tls.Config){func(c *tls.Config) {
		c.MinVersion = tls.VersionTLS13
		c.GetCertificate = keeper.GetCertificate
	}}})
	handler := &Handler{
		Cluster: &Reader{Cached: mgr.GetClient(), Live: mgr.GetAPIReader(), Pods: opts.Pods},
		Ready:   opts.Ready,
		Log:     mgr.GetLogger().WithName("admission"),
	}
	server.Register(Path, &webhook.Admission{Handler: handler})
	return errors.Join(mgr.Add(server), mgr.Add(keeper), mgr.AddReadyzCheck("webhook", keeper.Ready))
}

func splitAddress(address string) (host string, port int, err error) {
	host, text, err := net.SplitHostPort(address)
	if err == nil {
		port, err = strconv.Atoi(text)
	}
	if err == nil && (port < 1 || port > 65535) {
		err = errors.New("a port is a number from 1 to 65535")
	}
	if err != nil {
		return "", 0, fmt.Errorf("address of the webhook %q: want host:port: %w", address, err)
	}
	return host, port, nil
}

// newKeeper keeps the certificate of the webhook.
func newKeeper(mgr manager.Manager, namespace string, names []string) (*certs.Keeper, error) {
	c, err := uncached(mgr)
	if err != nil {
		return nil, err
	}
	return &certs.Keeper{
		Store: &certs.Cluster{
			Kept:          certs.Kept{Client: c, Secret: types.NamespacedName{Namespace: namespace, Name: SecretName}},
			Configuration: ConfigurationName,
		},
		Names:   names,
		Elected: mgr.Elected(),
		Log:     mgr.GetLogger().WithName("certificate"),
	}, nil
}

// uncached is a client without a cache, so that nobody keeps Secrets in memory.
func uncached(mgr manager.Manager) (client.Client, error) {
	scheme := runtime.NewScheme()
	if err := certs.AddToScheme(scheme); err != nil {
		return nil, fmt.Errorf("registering the kinds that certificates need: %w", err)
	}
	c, err := client.New(mgr.GetConfig(), client.Options{Scheme: scheme, HTTPClient: mgr.GetHTTPClient()})
	if err != nil {
		return nil, fmt.Errorf("making a client for certificates: %w", err)
	}
	return c, nil
}
