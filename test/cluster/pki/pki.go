// Package pki makes the certificates of a local cluster and the kubeconfig files that carry them.
package pki

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"time"

	clientcmd "k8s.io/client-go/tools/clientcmd/api/v1"
	"sigs.k8s.io/yaml"
)

// lifetime is longer than any local cluster lives.
const lifetime = 365 * 24 * time.Hour

// Authority signs certificates.
type Authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	// PEM is the certificate of the authority.
	PEM Pair
}

// Pair is a certificate and its key, both in PEM.
type Pair struct {
	Cert, Key []byte
}

// Subject says whom a certificate is for.
type Subject struct {
	// CommonName is the user, and Groups are its groups, as the API server reads them.
	CommonName string
	Groups     []string
	// IPs and DNSNames are set for servers.
	IPs      []net.IP
	DNSNames []string
}

// NewAuthority makes an authority that signs for itself.
func NewAuthority(name string) (*Authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("making the key of %s: %w", name, err)
	}
	template, err := template(Subject{CommonName: name})
	if err != nil {
		return nil, fmt.Errorf("making the certificate of %s: %w", name, err)
	}
	template.IsCA = true
	template.BasicConstraintsValid = true
	template.KeyUsage |= x509.KeyUsageCertSign
	template.ExtKeyUsage = nil
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("making the certificate of %s: %w", name, err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("making the certificate of %s: %w", name, err)
	}
	pair, err := encode(der, key)
	if err != nil {
		return nil, fmt.Errorf("making the certificate of %s: %w", name, err)
	}
	return &Authority{cert: cert, key: key, PEM: pair}, nil
}

// Issue makes a certificate that serves as client and as server.
func (a *Authority) Issue(s Subject) (Pair, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return Pair{}, fmt.Errorf("making the key of %s: %w", s.CommonName, err)
	}
	template, err := template(s)
	if err != nil {
		return Pair{}, fmt.Errorf("making the certificate of %s: %w", s.CommonName, err)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, key.Public(), a.key)
	if err != nil {
		return Pair{}, fmt.Errorf("making the certificate of %s: %w", s.CommonName, err)
	}
	pair, err := encode(der, key)
	if err != nil {
		return Pair{}, fmt.Errorf("making the certificate of %s: %w", s.CommonName, err)
	}
	return pair, nil
}

func template(s Subject) (*x509.Certificate, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return nil, err
	}
	now := time.Now()
	return &x509.Certificate{
		SerialNumber: serial,
		Subject:      pkix.Name{CommonName: s.CommonName, Organization: s.Groups},
		NotBefore:    now.Add(-time.Hour), // clocks of containers and tests may be behind
		NotAfter:     now.Add(lifetime),
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
		IPAddresses:  s.IPs,
		DNSNames:     s.DNSNames,
	}, nil
}

func encode(der []byte, key *ecdsa.PrivateKey) (Pair, error) {
	keyDER, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return Pair{}, err
	}
	return Pair{
		Cert: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		Key:  pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: keyDER}),
	}, nil
}

// Kubeconfig makes a kubeconfig that needs no other file.
func Kubeconfig(server string, ca []byte, user Pair) ([]byte, error) {
	const name = "manul"
	data, err := yaml.Marshal(clientcmd.Config{
		APIVersion: "v1",
		Kind:       "Config",
		Clusters: []clientcmd.NamedCluster{{
			Name:    name,
			Cluster: clientcmd.Cluster{Server: server, CertificateAuthorityData: ca},
		}},
		AuthInfos: []clientcmd.NamedAuthInfo{{
			Name:     name,
			AuthInfo: clientcmd.AuthInfo{ClientCertificateData: user.Cert, ClientKeyData: user.Key},
		}},
		Contexts: []clientcmd.NamedContext{{
			Name:    name,
			Context: clientcmd.Context{Cluster: name, AuthInfo: name},
		}},
		CurrentContext: name,
	})
	if err != nil {
		return nil, fmt.Errorf("making a kubeconfig: %w", err)
	}
	return data, nil
}
