package certs

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// Keys of the Secret.
const keyTrusted = "ca.crt"

// Kept is the Secret that holds a certificate. It must exist, as the install manifest makes it: so the operator needs no right to
// create Secrets.
type Kept struct {
	// Client without a cache: Secrets are not kept in memory.
	Client client.Client
	// Secret that holds the certificate.
	Secret types.NamespacedName

	// loaded is the Secret of the last Load, with the version that Save replaces.
	loaded *corev1.Secret
}

// Cluster is the Store of the webhook: a Secret, and the configuration of the webhook. Both must exist.
type Cluster struct {
	Kept

	// Configuration is the name of the ValidatingWebhookConfiguration.
	Configuration string
}

// Published is the Store of a server whose callers read what to trust in a ConfigMap. It must exist.
type Published struct {
	Kept

	// ConfigMap and Key of the certificates to trust.
	ConfigMap types.NamespacedName
	Key       string
}

// Trust writes the ConfigMap.
func (p *Published) Trust(ctx context.Context, trusted []byte) error {
	published := &corev1.ConfigMap{}
	if err := p.Client.Get(ctx, p.ConfigMap, published); err != nil {
		return fmt.Errorf("reading which certificates are trusted (the install manifest makes ConfigMap %s): %w", p.ConfigMap, err)
	}
	if published.Data[p.Key] == string(trusted) {
		return nil
	}
	raw, err := json.Marshal(map[string]any{"data": map[string]string{p.Key: string(trusted)}})
	if err != nil {
		return fmt.Errorf("encoding the patch of ConfigMap %s: %w", p.ConfigMap, err)
	}
	if err := p.Client.Patch(ctx, published, client.RawPatch(types.MergePatchType, raw)); err != nil {
		return fmt.Errorf("telling which certificates to trust: %w", err)
	}
	return nil
}

// AddToScheme registers the kinds that a Cluster's client must know.
func AddToScheme(scheme *runtime.Scheme) error {
	if err := corev1.AddToScheme(scheme); err != nil {
		return err
	}
	return admissionregistrationv1.AddToScheme(scheme)
}

// Load reads the Secret.
func (c *Kept) Load(ctx context.Context) (*Pair, error) {
	secret := &corev1.Secret{}
	if err := c.Client.Get(ctx, c.Secret, secret); err != nil {
		return nil, fmt.Errorf("reading a certificate (the install manifest makes Secret %s): %w", c.Secret, err)
	}
	c.loaded = secret
	return &Pair{Cert: secret.Data[corev1.TLSCertKey], Key: secret.Data[corev1.TLSPrivateKeyKey], Trusted: secret.Data[keyTrusted]}, nil
}

// Save writes the Secret that was loaded. One that was written meanwhile is a conflict.
func (c *Kept) Save(ctx context.Context, p *Pair) error {
	secret := c.loaded.DeepCopy()
	secret.Data = map[string][]byte{corev1.TLSCertKey: p.Cert, corev1.TLSPrivateKeyKey: p.Key, keyTrusted: p.Trusted}
	if err := c.Client.Update(ctx, secret); err != nil {
		return fmt.Errorf("writing a certificate to Secret %s: %w", c.Secret, err)
	}
	return nil
}

// Trust writes the caBundle of every webhook of the configuration.
func (c *Cluster) Trust(ctx context.Context, trusted []byte) error {
	config := &admissionregistrationv1.ValidatingWebhookConfiguration{}
	if err := c.Client.Get(ctx, types.NamespacedName{Name: c.Configuration}, config); err != nil {
		return fmt.Errorf("reading the webhook's configuration (the install manifest makes it): %w", err)
	}
	patch := trustPatch(config, trusted)
	if len(patch) == 0 {
		return nil
	}
	raw, err := json.Marshal(patch)
	if err != nil {
		return fmt.Errorf("encoding the patch of the webhook's configuration: %w", err)
	}
	if err := c.Client.Patch(ctx, config, client.RawPatch(types.JSONPatchType, raw)); err != nil {
		return fmt.Errorf("telling the API server which certificate the webhook has: %w", err)
	}
	return nil
}

// operation of a JSON patch (RFC 6902).
type operation struct {
	Op    string `json:"op"`
	Path  string `json:"path"`
	Value any    `json:"value"`
}

// trustPatch changes nothing but caBundles, and only as long as the webhooks stand where they were read.
func trustPatch(config *admissionregistrationv1.ValidatingWebhookConfiguration, trusted []byte) []operation {
	var patch []operation
	for i := range config.Webhooks {
		hook := &config.Webhooks[i]
		if bytes.Equal(hook.ClientConfig.CABundle, trusted) {
			continue
		}
		at := fmt.Sprintf("/webhooks/%d", i)
		patch = append(patch,
			operation{Op: "test", Path: at + "/name", Value: hook.Name},
			operation{Op: "add", Path: at + "/clientConfig/caBundle", Value: trusted})
	}
	return patch
}
