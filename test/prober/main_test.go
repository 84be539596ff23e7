package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/manul-net/manul/test/netns"
)

// TestQuestions has one prober ask another for ports on which it answers, and for others.
func TestQuestions(t *testing.T) {
	a, b := netns.New(t), netns.New(t)
	a.Veth("eth0", b, "eth0")
	a.Address("eth0", "192.0.2.1/24")
	b.Address("eth0", "192.0.2.2/24")
	program := filepath.Join(t.TempDir(), "prober")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-buildvcs=false", "-o", program, ".").CombinedOutput(); err != nil {
		t.Fatalf("building the prober: %v\n%s", err, out)
	}
	for _, ns := range []*netns.NS{a, b} {
		cmd := exec.CommandContext(t.Context(), program, "serve", "-udp", "80,81", "-sctp", "80,81", "-control", ":7000", ":80", ":81")
		ns.Must("starting the prober", cmd.Start)
		t.Cleanup(func() { _ = cmd.Wait() }) // its context has ended it
	}
	var question Question
	var want []bool
	for _, protocol := range []string{"TCP", "UDP", "SCTP"} {
		for _, target := range []struct {
			address string
			answers bool
		}{{"192.0.2.2:80", true}, {"192.0.2.2:81", true}, {"192.0.2.2:82", false}, {"192.0.2.3:80", false}, {"192.0.2.1:81", true}} {
			question.Targets = append(question.Targets, Target{protocol, target.address})
			want = append(want, target.answers)
		}
	}
	question.Timeout = 2 * time.Second
	body, err := json.Marshal(question)
	if err != nil {
		t.Fatal(err)
	}
	var got []bool
	for deadline := time.Now().Add(2 * time.Minute); ; {
		// Either prober may still be starting.
		if got, err = ask(a, body); err == nil && slices.Equal(want, got) {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("%v; answers to %+v (-want +got):\n%s", err, question.Targets, cmp.Diff(want, got))
		}
	}
}

func ask(from *netns.NS, body []byte) (answers []bool, err error) {
	from.Do(func() {
		var conn net.Conn
		if conn, err = net.Dial("tcp", "127.0.0.1:7000"); err != nil {
			return
		}
		defer conn.Close()
		var request *http.Request
		if request, err = http.NewRequest(http.MethodPost, "http://127.0.0.1:7000/probe", bytes.NewReader(body)); err != nil {
			return
		}
		client := http.Client{Transport: &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) { return conn, nil }}}
		var response *http.Response
		if response, err = client.Do(request); err != nil {
			return
		}
		defer response.Body.Close()
		err = json.NewDecoder(response.Body).Decode(&answers)
	})
	return answers, err
}

// TestLossIsCounted: of a stream of datagrams that are cut off for a while as many are lost as were sent meanwhile.
func TestLossIsCounted(t *testing.T) {
	a, b := netns.New(t), netns.New(t)
	a.Veth("eth0", b, "eth0")
	a.Address("eth0", "192.0.2.1/24")
	b.Address("eth0", "192.0.2.2/24")
	program := filepath.Join(t.TempDir(), "prober")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-buildvcs=false", "-o", program, ".").CombinedOutput(); err != nil {
		t.Fatalf("building the prober: %v\n%s", err, out)
	}
	stop := b.EchoUDP(netip.MustParseAddrPort("192.0.2.2:7"))
	var stderr, stdout bytes.Buffer
	cmd := exec.CommandContext(t.Context(), program, "stream", "-udp", "-every", "2ms", "-for", "4s", "192.0.2.2:7")
	pipe, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stdout = &stdout
	a.Must("starting the prober", cmd.Start)
	if _, err := bufio.NewReader(io.TeeReader(pipe, &stderr)).ReadString('\n'); err != nil {
		t.Fatalf("waiting for the first echo: %v", err)
	}
	stop() // what is sent now is answered by ICMP
	cut := time.NewTimer(300 * time.Millisecond)
	<-cut.C
	defer b.EchoUDP(netip.MustParseAddrPort("192.0.2.2:7"))()
	if err := cmd.Wait(); err != nil {
		t.Fatalf("prober: %v: %s", err, stderr.String())
	}
	var got Datagrams
	if err := json.Unmarshal(stdout.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	if gap := time.Duration(got.LongestGap); gap < 300*time.Millisecond || got.Lost < 30 || got.Lost >= got.Sent {
		t.Errorf("%+v: cut off for 300 ms", got)
	}
}

// TestProbeEndsWith has a prober that is to go on for a minute end with the first connection of a kind.
func TestProbeEndsWith(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := listener.Addr().String()
	defer listener.Close()
	for until, address := range map[string]string{accepted: served, refused: "127.0.0.1:1"} {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		if err := probe(ctx, []string{address}, time.Millisecond, time.Second, until); err != nil {
			t.Error(err)
		}
		if ctx.Err() != nil {
			t.Errorf("until %s: it did not end by itself", until)
		}
		cancel()
	}
}

// TestProbeKeepsNoPorts: of connections that were made no port stays in use, neither here nor in TIME-WAIT.
func TestProbeKeepsNoPorts(t *testing.T) {
	const own = "127.77.0.1" // nobody else has connections to it, whatever the port
	listener, err := net.Listen("tcp", own+":0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	if err := probe(t.Context(), []string{listener.Addr().String()}, time.Millisecond, time.Second, accepted); err != nil {
		t.Fatal(err)
	}
	address := netip.MustParseAddr(own).As4()
	remote := fmt.Sprintf("%08X:%04X", binary.NativeEndian.Uint32(address[:]), listener.Addr().(*net.TCPAddr).Port)
	sockets, err := os.ReadFile("/proc/self/net/tcp")
	if err != nil {
		t.Skipf("kernel test: reading the sockets: %v", err)
	}
	for line := range strings.Lines(string(sockets)) {
		if fields := strings.Fields(line); len(fields) > 3 && fields[2] == remote {
			t.Errorf("a connection to %s is still there: %s", listener.Addr(), line)
		}
	}
}
