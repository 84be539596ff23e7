package cluster

import (
	"fmt"
	"net"
	"os"
	"path/filepath"

	"github.com/manul-net/manul/test/cluster/pki"
)

// writeCredentials makes the cluster's certificates and kubeconfig files.
func writeCredentials(p paths, list []Host) error {
	if err := os.MkdirAll(filepath.Dir(p.pki("x")), 0o700); err != nil {
		return fmt.Errorf("writing certificates: %w", err)
	}
	ca, err := pki.NewAuthority("manul-" + p.name)
	if err != nil {
		return err
	}
	frontProxyCA, err := pki.NewAuthority("manul-" + p.name + "-front-proxy")
	if err != nil {
		return err
	}
	serviceAccount, err := pki.NewAuthority("service-accounts") // only its key is used
	if err != nil {
		return err
	}
	w := credentialWriter{paths: p}
	w.pair("ca", ca.PEM)
	w.pair("front-proxy-ca", frontProxyCA.PEM)
	w.pair("service-account", serviceAccount.PEM)
	w.issue("front-proxy-client", frontProxyCA, pki.Subject{CommonName: "front-proxy-client"})
	w.issue("apiserver", ca, pki.Subject{
		CommonName: "kube-apiserver",
		IPs:        []net.IP{list[0].Address.AsSlice(), net.ParseIP(serviceAddress), net.IPv4(127, 0, 0, 1)},
		DNSNames: []string{
			"kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local", "localhost", list[0].Name,
		},
	})
	w.issue("etcd", ca, pki.Subject{CommonName: "etcd", IPs: []net.IP{list[0].Address.AsSlice()}, DNSNames: []string{list[0].Name}})
	w.user("admin", ca, pki.Subject{CommonName: "admin", Groups: []string{"system:masters"}})
	w.user("controller-manager", ca, pki.Subject{CommonName: "system:kube-controller-manager"})
	w.user("scheduler", ca, pki.Subject{CommonName: "system:kube-scheduler"})
	w.user("kube-proxy", ca, pki.Subject{CommonName: "system:kube-proxy"})
	for _, h := range list {
		if h.Node {
			w.user("kubelet-"+h.Name, ca, pki.Subject{
				CommonName: "system:node:" + h.Name, Groups: []string{"system:nodes"},
				IPs: []net.IP{h.Address.AsSlice()}, DNSNames: []string{h.Name},
			})
		}
	}
	if w.err != nil {
		return fmt.Errorf("writing certificates: %w", w.err)
	}
	return nil
}

// credentialWriter keeps the first error, so that a list of files reads as a list.
type credentialWriter struct {
	paths paths
	err   error
}

func (w *credentialWriter) file(name string, data []byte) {
	if w.err == nil {
		w.err = os.WriteFile(w.paths.pki(name), data, 0o600)
	}
}

func (w *credentialWriter) pair(name string, pair pki.Pair) {
	w.file(name+".crt", pair.Cert)
	w.file(name+".key", pair.Key)
}

func (w *credentialWriter) issue(name string, ca *pki.Authority, subject pki.Subject) pki.Pair {
	if w.err != nil {
		return pki.Pair{}
	}
	pair, err := ca.Issue(subject)
	w.err = err
	w.pair(name, pair)
	return pair
}

// user issues a certificate and writes the kubeconfig of its owner.
func (w *credentialWriter) user(name string, ca *pki.Authority, subject pki.Subject) {
	pair := w.issue(name, ca, subject)
	if w.err != nil {
		return
	}
	data, err := pki.Kubeconfig(APIServer, ca.PEM.Cert, pair)
	w.err = err
	w.file(name+".kubeconfig", data)
}
