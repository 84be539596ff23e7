package webhooks

import (
	"crypto/tls"
	"fmt"

	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/manager"

	"github.com/manul-net/manul/webhooks/certs"
)

// StreamSecretName is the Secret with the certificate of the stream.
const StreamSecretName = "manul-stream-certificate" //nolint:gosec // The name of a Secret, not its content.

// StreamCertificate adds to a manager what keeps the certificate of the server called serverName, and publishes what to trust under key in
// the ConfigMap of the given name. The function is for tls.Config.
func StreamCertificate(mgr manager.Manager, namespace, serverName, configMap, key string) (func(*tls.ClientHelloInfo) (*tls.Certificate, error), error) {
	c, err := uncached(mgr)
	if err != nil {
		return nil, err
	}
	keeper := &certs.Keeper{
		Store: &certs.Published{
			Kept:      certs.Kept{Client: c, Secret: types.NamespacedName{Namespace: namespace, Name: StreamSecretName}},
			ConfigMap: types.NamespacedName{Namespace: namespace, Name: configMap},
			Key:       key,
		},
		Names:   []string{serverName},
		Elected: mgr.Elected(),
		Log:     mgr.GetLogger().WithName("stream").WithName("certificate"),
	}
	if err := mgr.Add(keeper); err != nil {
		return nil, fmt.Errorf("adding the keeper of the stream's certificate: %w", err)
	}
	return keeper.GetCertificate, nil
}
