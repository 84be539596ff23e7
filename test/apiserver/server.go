package apiserver

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

const (
	// startTimeout bounds the start of a server; two cores under load need some 15 s, and much longer when many others want them.
	startTimeout = 5 * time.Minute
	// startAttempts bounds how often a start is tried anew: another program may take a free port first.
	startAttempts = 3
)

// instance is a running etcd and kube-apiserver.
type instance struct {
	dir       string
	config    *rest.Config
	processes []*process // in the order of their start
}

// launch starts etcd and kube-apiserver in a new folder and returns when the API server is ready.
func launch(ctx context.Context, bin binaries) (*instance, error) {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	var errs []error
	for range startAttempts {
		in, err := launchOnce(ctx, bin)
		if err == nil {
			return in, nil
		}
		errs = append(errs, err)
		if ctx.Err() != nil {
			break
		}
	}
	return nil, fmt.Errorf("starting an API server: %w", errors.Join(errs...))
}

func launchOnce(ctx context.Context, bin binaries) (_ *instance, err error) {
	dir, err := os.MkdirTemp("", "manul-apiserver-")
	if err != nil {
		return nil, fmt.Errorf("making a folder: %w", err)
	}
	in := &instance{dir: dir}
	defer func() {
		if err != nil {
			err = errors.Join(err, in.close())
		}
	}()
	ports, err := freePorts(3)
	if err != nil {
		return nil, err
	}
	etcdURL, peerURL := "http://127.0.0.1:"+ports[0], "http://127.0.0.1:"+ports[1]
	if err := in.startEtcd(ctx, bin.etcd, etcdURL, peerURL); err != nil {
		return nil, err
	}
	if err := in.startAPIServer(ctx, bin.apiserver, etcdURL, ports[2]); err != nil {
		return nil, err
	}
	return in, nil
}

func (in *instance) startEtcd(ctx context.Context, path, url, peerURL string) error {
	p, err := startProcess(in.dir, "etcd", path,
		"--name=test", "--data-dir="+filepath.Join(in.dir, "etcd"),
		"--listen-client-urls="+url, "--advertise-client-urls="+url,
		"--listen-peer-urls="+peerURL, "--initial-advertise-peer-urls="+peerURL, "--initial-cluster=test="+peerURL,
		"--unsafe-no-fsync", // the data does not outlive the test
		"--logger=zap", "--log-level=warn")
	if err != nil {
		return err
	}
	in.processes = append(in.processes, p)
	return p.until(ctx, func(ctx context.Context) error { return getOK(ctx, url+"/health") })
}

func (in *instance) startAPIServer(ctx context.Context, path, etcdURL, port string) error {
	token, err := randomToken()
	if err != nil {
		return err
	}
	key, err := signingKey()
	if err != nil {
		return err
	}
	keyFile, tokenFile := filepath.Join(in.dir, "service-accounts.key"), filepath.Join(in.dir, "tokens.csv")
	certs := filepath.Join(in.dir, "certs")
	if err := errors.Join(os.WriteFile(keyFile, key, 0o600),
		os.WriteFile(tokenFile, []byte(token+",admin,admin,system:masters\n"), 0o600)); err != nil {
		return fmt.Errorf("writing the API server's keys: %w", err)
	}
	p, err := startProcess(in.dir, "kube-apiserver", path,
		"--etcd-servers="+etcdURL, "--bind-address=127.0.0.1", "--advertise-address=127.0.0.1", "--secure-port="+port,
		"--cert-dir="+certs, "--token-auth-file="+tokenFile, "--authorization-mode=RBAC",
		"--service-account-issuer=https://127.0.0.1", "--service-account-key-file="+keyFile,
		"--service-account-signing-key-file="+keyFile, "--service-cluster-ip-range=10.96.0.0/16",
		"--endpoint-reconciler-type=none", "--allow-privileged=true",
		// No controller makes service accounts here, and pods must be accepted without them.
		"--disable-admission-plugins=ServiceAccount", "--profiling=false")
	if err != nil {
		return err
	}
	in.processes = append(in.processes, p)
	return p.until(ctx, func(ctx context.Context) error {
		// The API server signs its own certificate on its first start.
		ca, err := os.ReadFile(filepath.Join(certs, "apiserver.crt"))
		if err != nil {
			return fmt.Errorf("reading the API server's certificate: %w", err)
		}
		in.config = &rest.Config{
			Host: "https://127.0.0.1:" + port, BearerToken: token, TLSClientConfig: rest.TLSClientConfig{CAData: ca},
			// Tests are not held up by the client's own rate limit.
			QPS: -1,
		}
		return in.ready(ctx)
	})
}

// ready tells whether the API server is: it says so itself, and the namespaces that it makes are there.
func (in *instance) ready(ctx context.Context) error {
	cs, err := kubernetes.NewForConfig(in.config)
	if err != nil {
		return fmt.Errorf("making a client: %w", err)
	}
	if _, err := cs.RESTClient().Get().AbsPath("/readyz").DoRaw(ctx); err != nil {
		return fmt.Errorf("asking /readyz: %w", err)
	}
	for _, name := range []string{metav1.NamespaceDefault, metav1.NamespaceSystem} {
		if _, err := cs.CoreV1().Namespaces().Get(ctx, name, metav1.GetOptions{}); err != nil {
			return fmt.Errorf("looking for namespace %s: %w", name, err)
		}
	}
	return nil
}

// writeKubeconfig writes a kubeconfig of the administrator and returns its path.
func (in *instance) writeKubeconfig() (string, error) {
	cfg := clientcmdapi.NewConfig()
	cfg.Clusters["test"] = &clientcmdapi.Cluster{Server: in.config.Host, CertificateAuthorityData: in.config.CAData}
	cfg.AuthInfos["admin"] = &clientcmdapi.AuthInfo{Token: in.config.BearerToken}
	cfg.Contexts["test"] = &clientcmdapi.Context{Cluster: "test", AuthInfo: "admin"}
	cfg.CurrentContext = "test"
	path := filepath.Join(in.dir, "kubeconfig")
	if err := clientcmd.WriteToFile(*cfg, path); err != nil {
		return "", fmt.Errorf("writing a kubeconfig: %w", err)
	}
	return path, nil
}

// close stops the programs, last first, and removes their folder.
func (in *instance) close() error {
	for _, p := range slices.Backward(in.processes) {
		p.end()
	}
	if err := os.RemoveAll(in.dir); err != nil {
		return fmt.Errorf("removing the API server's folder: %w", err)
	}
	return nil
}

func getOK(ctx context.Context, url string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return fmt.Errorf("asking %s: %w", url, err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return fmt.Errorf("asking %s: %w", url, err)
	}
	defer func() { _ = resp.Body.Close() }() // nothing was read
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("asking %s: %s", url, resp.Status)
	}
	return nil
}

func randomToken() (string, error) {
	b := make([]byte, 16)
	if _, err := rand.Read(b); err != nil {
		return "", fmt.Errorf("making a token: %w", err)
	}
	return hex.EncodeToString(b), nil
}

// signingKey makes the key that service account tokens are signed with.
func signingKey() ([]byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("making a signing key: %w", err)
	}
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("encoding the signing key: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der}), nil
}
