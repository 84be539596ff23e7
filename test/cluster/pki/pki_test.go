package pki_test

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"net"
	"testing"

	"k8s.io/client-go/tools/clientcmd"

	"github.com/manul-net/manul/test/cluster/pki"
)

func TestIssue(t *testing.T) {
	ca, err := pki.NewAuthority("test-ca")
	if err != nil {
		t.Fatal(err)
	}
	pair, err := ca.Issue(pki.Subject{
		CommonName: "system:node:worker1", Groups: []string{"system:nodes"},
		IPs: []net.IP{net.IPv4(10, 0, 0, 11)}, DNSNames: []string{"worker1"},
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tls.X509KeyPair(pair.Cert, pair.Key); err != nil {
		t.Errorf("certificate and key do not match: %v", err)
	}
	block, _ := pem.Decode(pair.Cert)
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(ca.PEM.Cert)
	for _, host := range []string{"10.0.0.11", "worker1"} {
		if _, err := cert.Verify(x509.VerifyOptions{DNSName: host, Roots: roots}); err != nil {
			t.Errorf("verifying for %s: %v", host, err)
		}
	}
	if _, err := cert.Verify(x509.VerifyOptions{DNSName: "10.0.0.12", Roots: roots}); err == nil {
		t.Error("the certificate is valid for another host")
	}
}

func TestKubeconfig(t *testing.T) {
	ca, err := pki.NewAuthority("test-ca")
	if err != nil {
		t.Fatal(err)
	}
	data, err := pki.Kubeconfig("https://10.0.0.10:6443", ca.PEM.Cert, ca.PEM)
	if err != nil {
		t.Fatal(err)
	}
	config, err := clientcmd.RESTConfigFromKubeConfig(data)
	if err != nil {
		t.Fatal(err)
	}
	if config.Host != "https://10.0.0.10:6443" || string(config.CAData) != string(ca.PEM.Cert) {
		t.Errorf("kubeconfig reads back as %v", config)
	}
}
