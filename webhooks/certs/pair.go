// Package certs keeps the certificates of the operator's servers, the webhook's and that of the stream: made on first use, kept in a Secret that all replicas read,
// renewed long before it ends, and always made known to those who call before it is used.
//
// A certificate signs itself and nothing else: those who call trust it, not an authority, so there is no authority's key to
// keep.
package certs

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"time"
)

const (
	// lifetime of a certificate, and how long before its end it is renewed.
	lifetime, renewBefore = 365 * 24 * time.Hour, 120 * 24 * time.Hour
	// skew is how far the clocks of the API servers may be behind.
	skew = time.Hour
	// serialBits is the length of serial numbers, which no two certificates should share.
	serialBits = 120
)

// Pair is a certificate with its key, and what the API server has to trust.
type Pair struct {
	// Cert and Key of the server, PEM.
	Cert, Key []byte
	// Trusted are the certificates that the API server trusts, PEM: the pair's own first, then the one before it, which
	// other replicas may still use.
	Trusted []byte
}

// Make makes a certificate for a server with the given names, addresses among them. before is the pair that it follows; nil if it is the first.
func Make(now time.Time, names []string, before *Pair) (*Pair, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("making the key of a certificate: %w", err)
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), serialBits))
	if err != nil {
		return nil, fmt.Errorf("making the serial number of a certificate: %w", err)
	}
	template := &x509.Certificate{
		SerialNumber: serial,
		// Certificates in one list of trust are told apart by their subject first.
		Subject:               pkix.Name{CommonName: names[0], SerialNumber: serial.Text(16)},
		NotBefore:             now.Add(-skew),
		NotAfter:              now.Add(lifetime),
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true,
	}
	for _, name := range names {
		if ip := net.ParseIP(name); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, name)
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("signing a certificate: %w", err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("encoding the key of a certificate: %w", err)
	}
	p := &Pair{
		Cert: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		Key:  pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}),
	}
	p.Trusted = bytes.Clone(p.Cert)
	if before != nil {
		p.Trusted = append(p.Trusted, before.Cert...)
	}
	return p, nil
}

// Check returns the certificate in the form that a server uses, or why it can't be used: it is broken, not of the given
// names, or not valid now.
func (p *Pair) Check(now time.Time, names []string) (*tls.Certificate, error) {
	if p == nil || len(p.Cert) == 0 {
		return nil, errors.New("there is none yet")
	}
	cert, err := tls.X509KeyPair(p.Cert, p.Key)
	if err != nil {
		return nil, fmt.Errorf("reading it: %w", err)
	}
	if now.Before(cert.Leaf.NotBefore) || now.After(cert.Leaf.NotAfter) {
		return nil, fmt.Errorf("it is valid from %s to %s", cert.Leaf.NotBefore.Format(time.RFC3339), cert.Leaf.NotAfter.Format(time.RFC3339))
	}
	for _, name := range names {
		if err := cert.Leaf.VerifyHostname(name); err != nil {
			return nil, fmt.Errorf("checking its names: %w", err)
		}
	}
	if !bytes.HasPrefix(p.Trusted, p.Cert) {
		return nil, errors.New("what is to be trusted does not begin with it")
	}
	return &cert, nil
}

// due tells whether a valid certificate is to be renewed.
func due(now time.Time, cert *tls.Certificate) bool {
	return now.After(cert.Leaf.NotAfter.Add(-renewBefore))
}
