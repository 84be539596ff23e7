package stream

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-logr/logr/funcr"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/manul-net/manul/controllers"
	"github.com/manul-net/manul/controllers/stream"
	"github.com/manul-net/manul/internal/wire"
	"github.com/manul-net/manul/test/apiserver"
)

func TestMain(m *testing.M) { os.Exit(apiserver.Main(m)) }

// tokens makes tokens as the kubelet does.
type tokens struct {
	t      *testing.T
	client *kubernetes.Clientset
}

func newTokens(t *testing.T, server *apiserver.Server) *tokens {
	t.Helper()
	c, err := kubernetes.NewForConfig(server.Config)
	if err != nil {
		t.Fatal(err)
	}
	k := &tokens{t, c}
	k.try(c.CoreV1().Namespaces().Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}}, metav1.CreateOptions{}))
	for _, account := range []string{controllers.AgentAccount, "other"} {
		k.try(c.CoreV1().ServiceAccounts(namespace).Create(t.Context(), &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: account}}, metav1.CreateOptions{}))
	}
	return k
}

// try fails the test on an error, unless it is that something is there already.
func (k *tokens) try(_ any, err error) {
	k.t.Helper()
	if err != nil && !strings.Contains(err.Error(), "already exists") {
		k.t.Fatal(err)
	}
}

// of gives a token of an account for a pod on a node; without a node it is bound to no pod.
func (k *tokens) of(account, node, audience string) string {
	k.t.Helper()
	request := &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{Audiences: []string{audience}}}
	if node != "" {
		k.try(k.client.CoreV1().Nodes().Create(k.t.Context(), &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: node}}, metav1.CreateOptions{}))
		pod := &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Name: account + "-" + node},
			Spec: corev1.PodSpec{
				NodeName: node, ServiceAccountName: account, Containers: []corev1.Container{{Name: "c", Image: "i"}},
			},
		}
		k.try(k.client.CoreV1().Pods(namespace).Create(k.t.Context(), pod, metav1.CreateOptions{}))
		there, err := k.client.CoreV1().Pods(namespace).Get(k.t.Context(), pod.Name, metav1.GetOptions{})
		if err != nil {
			k.t.Fatal(err)
		}
		request.Spec.BoundObjectRef = &authenticationv1.BoundObjectReference{Kind: "Pod", APIVersion: "v1", Name: there.Name, UID: there.UID}
	}
	made, err := k.client.CoreV1().ServiceAccounts(namespace).CreateToken(k.t.Context(), account, request, metav1.CreateOptions{})
	if err != nil {
		k.t.Fatal(err)
	}
	return made.Status.Token
}

// noise is a codec whose messages nobody can read.
type noise struct{ wire.Codec }

func (noise) Marshal(any) ([]byte, error) { return bytes.Repeat([]byte{0xff}, 100), nil }

// TestWhoIsRefused calls a replica that asks a real API server who calls.
func TestWhoIsRefused(t *testing.T) {
	server := apiserver.Start(t)
	k := newTokens(t, server)
	scheme, err := controllers.Scheme()
	if err != nil {
		t.Fatal(err)
	}
	asked, err := client.New(server.Config, client.Options{Scheme: scheme})
	if err != nil {
		t.Fatal(err)
	}
	n := newNetwork(t, 1)
	n.set(node("n1"), node("n2"), team("team"))
	r := n.replicas[0]
	r.server.Node = stream.NewAccess(asked, "system:serviceaccount:"+namespace+":"+controllers.AgentAccount).Node
	var logged atomic.Value // the last line
	logged.Store("")
	r.server.Log = funcr.New(func(_, args string) { logged.Store(args) }, funcr.Options{})
	agent := k.of(controllers.AgentAccount, "n1", wire.Audience)
	hello := &wire.Up{Hello: &wire.Hello{Node: "n1"}}
	huge := &wire.Up{Hello: &wire.Hello{Node: "n1", Version: strings.Repeat("x", wire.MaxUp+1)}}
	for _, tc := range []struct {
		name   string
		token  string
		first  any
		codec  wireCodec
		code   codes.Code
		reason string
	}{
		{"the node's agent", agent, hello, wire.Codec{}, codes.OK, ""},
		{"without a token", "", hello, wire.Codec{}, codes.Unauthenticated, "token"},
		{"with a token that nobody made", "x.y.z", hello, wire.Codec{}, codes.Unauthenticated, "token"},
		{"with another account's token", k.of("other", "n1", wire.Audience), hello, wire.Codec{}, codes.Unauthenticated, "token"},
		{"with a token for another server", k.of(controllers.AgentAccount, "n1", "https://127.0.0.1"), hello, wire.Codec{}, codes.Unauthenticated, "token"},
		{"with a token that is bound to no pod", k.of(controllers.AgentAccount, "", wire.Audience), hello, wire.Codec{}, codes.Unauthenticated, "token"},
		{"for another node", agent, &wire.Up{Hello: &wire.Hello{Node: "n2"}}, wire.Codec{}, codes.PermissionDenied, "foreign_node"},
		{"with a message that is too large", agent, huge, wire.Codec{}, codes.ResourceExhausted, "oversized"},
		{"with a message that nobody can read", agent, hello, noise{}, codes.Internal, "malformed"},
		{"without saying who calls", agent, &wire.Up{Received: 1}, wire.Codec{}, codes.InvalidArgument, "malformed"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			before := 0.0
			logged.Store("")
			if tc.reason != "" {
				before = testutil.ToFloat64(r.server.Metrics.Refused(tc.reason))
			}
			config := &tls.Config{RootCAs: n.trusted(), ServerName: wire.ServerName(namespace)}
			s, err := call(t, r.address, config, tc.token, tc.first, tc.codec)
			if err == nil {
				err = s.RecvMsg(&wire.Down{})
			} else if s != nil { // how the call ended says why
				err = errors.Join(s.RecvMsg(&wire.Down{}))
			}
			if unwrapped, ok := err.(interface{ Unwrap() []error }); ok {
				err = unwrapped.Unwrap()[0]
			}
			if got := status.Code(err); got != tc.code {
				t.Errorf("got %s: %v; want %s", got, err, tc.code)
			}
			if tc.reason != "" {
				// gRPC itself answers what nobody can read, and the replica counts it a moment later.
				n.eventually("it is counted and logged", func() error {
					if counted := testutil.ToFloat64(r.server.Metrics.Refused(tc.reason)) - before; counted != 1 {
						return fmt.Errorf("counted %v times as %s", counted, tc.reason)
					}
					if line, _ := logged.Load().(string); !strings.Contains(line, "Refused on the stream") || !strings.Contains(line, tc.reason) || !strings.Contains(line, "127.0.0.1:") {
						return fmt.Errorf("logged: %q", line)
					}
					return nil
				})
			}
		})
	}
	t.Run("by an agent that trusts another certificate", func(t *testing.T) {
		config := &tls.Config{RootCAs: x509.NewCertPool(), ServerName: wire.ServerName(namespace)}
		if _, err := call(t, r.address, config, agent, hello, wire.Codec{}); status.Code(err) != codes.Unavailable {
			t.Errorf("got %v", err)
		}
	})
}

// TestWhoNeverCalls: a stranger who connects and asks for nothing does not keep the connection, whether it answers or not.
func TestWhoNeverCalls(t *testing.T) {
	n := newNetwork(t, 1)
	dialer := &tls.Dialer{Config: &tls.Config{MinVersion: tls.VersionTLS13, RootCAs: n.trusted(), ServerName: wire.ServerName(namespace), NextProtos: []string{"h2"}}}
	conn, err := dialer.DialContext(t.Context(), "tcp", n.replicas[0].address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	const preface, noSettings = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "\x00\x00\x00\x04\x00\x00\x00\x00\x00"
	if _, err := conn.Write([]byte(preface + noSettings)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, conn); err != nil && errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the connection is still there after %s", patience)
	}
}
