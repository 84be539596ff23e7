package protocol

import (
	"bytes"
	"errors"
	"io"
	"net/netip"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func attachments() *rapid.Generator[Attachment] {
	return rapid.Custom(func(t *rapid.T) Attachment {
		return Attachment{
			ContainerID: rapid.StringMatching(`[a-zA-Z0-9][a-zA-Z0-9_.\-]{0,20}`).Draw(t, "id"),
			IfName:      rapid.StringMatching(`[a-z!-.@][a-z0-9!-.@]{1,14}`).Filter(func(s string) bool { return s != ".." }).Draw(t, "ifName"),
		}
	})
}

func requests() *rapid.Generator[*Request] {
	return rapid.Custom(func(t *rapid.T) *Request {
		a := attachments().Draw(t, "attachment")
		ns := rapid.StringMatching(`[a-z0-9]([a-z0-9-]{0,9}[a-z0-9])?`).Draw(t, "namespace")
		name := rapid.StringMatching(`[a-z0-9]([a-z0-9.-]{0,20}[a-z0-9])?`).Draw(t, "name")
		netns := "/" + rapid.StringMatching(`[ -~]{0,16}`).Draw(t, "netns")
		r := &Request{Version: Version}
		switch rapid.IntRange(0, 4).Draw(t, "operation") {
		case 0:
			r.Add = &AddRequest{Attachment: a, Netns: netns, PodNamespace: ns, PodName: name, MTU: rapid.SampledFrom([]int{0, 68, 1500, 65535}).Draw(t, "mtu")}
		case 1:
			r.Del = &DelRequest{Attachment: a, PodNamespace: ns}
		case 2:
			r.Check = &CheckRequest{Attachment: a, Netns: netns, PodNamespace: ns, PodName: name, PodUID: "u"}
		case 3:
			r.Status = &StatusRequest{}
		case 4:
			r.GC = &GCRequest{Valid: rapid.SliceOfN(attachments(), 0, 8).Draw(t, "valid")}
		}
		return r
	})
}

func TestRequestsSurviveTheWire(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := requests().Draw(t, "request")
		var buf bytes.Buffer
		if err := WriteRequest(&buf, want); err != nil {
			t.Fatal(err)
		}
		if bytes.Count(buf.Bytes(), []byte("\n")) != 1 {
			t.Fatalf("not one line: %q", buf.Bytes())
		}
		got, err := ReadRequest(iotest.OneByteReader(&buf))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatal(diff)
		}
	})
}

func TestUnusableRequestsNameTheMember(t *testing.T) {
	ok := AddRequest{Attachment: Attachment{"c1", "eth0"}, Netns: "/n", PodNamespace: "d", PodName: "w"}
	change := func(f func(*AddRequest)) *Request {
		r := ok
		f(&r)
		return &Request{Version: Version, Add: &r}
	}
	for want, r := range map[string]*Request{
		"version: got 2":            {Version: 2, Status: &StatusRequest{}},
		"got 0 operations":          {Version: Version},
		"got 2 operations":          {Version: Version, Status: &StatusRequest{}, GC: &GCRequest{}},
		"containerID: got \"../x\"": change(func(r *AddRequest) { r.ContainerID = "../x" }),
		"containerID: got \"aaa":    change(func(r *AddRequest) { r.ContainerID = strings.Repeat("a", 201) }),
		"ifName: got \"a/b\"":       change(func(r *AddRequest) { r.IfName = "a/b" }),
		"ifName: got \"..\"":        change(func(r *AddRequest) { r.IfName = ".." }),
		"ifName: got \"0123":        change(func(r *AddRequest) { r.IfName = "0123456789abcdef" }),
		"netns: got \"n\"":          change(func(r *AddRequest) { r.Netns = "n" }),
		"K8S_POD_NAME in CNI_ARGS":  change(func(r *AddRequest) { r.PodName = "" }),
		"podNamespace: got \"a b\"": change(func(r *AddRequest) { r.PodNamespace = "a b" }),
		"podUID: got":               change(func(r *AddRequest) { r.PodUID = "\x00" }),
		"mtu: got 67":               change(func(r *AddRequest) { r.MTU = 67 }),
		"valid[1]: containerID":     {Version: Version, GC: &GCRequest{Valid: []Attachment{{"c", "e"}, {"", "e"}}}},
		"valid: got 8193":           {Version: Version, GC: &GCRequest{Valid: make([]Attachment, 8193)}},
	} {
		err := WriteRequest(io.Discard, r)
		var e *Error
		if !errors.As(err, &e) || e.Code != CodeInvalidRequest || !strings.Contains(err.Error(), want) {
			t.Errorf("got error %v, want %q", err, want)
		}
	}
}

func TestUnusableResultsNameTheMember(t *testing.T) {
	v4, v6 := netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("fd00::1")
	for want, r := range map[string]AddResult{
		"interfaceName: got \"\"":               {Addresses: []netip.Addr{v4}, MTU: 1400},
		"interfaceName: got \"eth0\"":           {InterfaceName: "eth0", Addresses: []netip.Addr{v4}, MTU: 1400},
		"interfaceName: got \"cali\"":           {InterfaceName: "cali", Addresses: []netip.Addr{v4}, MTU: 1400},
		"addresses: got 0":                      {InterfaceName: "cali1", MTU: 1400},
		"addresses[0]: got invalid IP":          {InterfaceName: "cali1", Addresses: []netip.Addr{{}}, MTU: 1400},
		"addresses[0]: got 169.254.1.1":         {InterfaceName: "cali1", Addresses: []netip.Addr{netip.MustParseAddr(GatewayIPv4)}, MTU: 1400},
		"addresses[1]: got ::ffff:10.0.0.1":     {InterfaceName: "cali1", Addresses: []netip.Addr{v4, netip.MustParseAddr("::ffff:10.0.0.1")}, MTU: 1400},
		"addresses[1]: 10.0.0.1 is there twice": {InterfaceName: "cali1", Addresses: []netip.Addr{v4, v4}, MTU: 1400},
		"mtu: got 0":                            {InterfaceName: "cali1", Addresses: []netip.Addr{v4}},
		"mtu: got 1279, want 1280":              {InterfaceName: "cali1", Addresses: []netip.Addr{v4, v6}, MTU: 1279},
	} {
		if err := r.Validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got error %v, want %q", err, want)
		}
	}
}

func TestAnswerOfAnotherVersion(t *testing.T) {
	if _, err := ReadResponse(strings.NewReader(`{"version":2}` + "\n")); err == nil || !strings.Contains(err.Error(), "different releases") {
		t.Errorf("got error %v", err)
	}
	resp, err := ReadResponse(strings.NewReader(`{"version":2,"error":{"code":4,"message":"too old"}}` + "\n"))
	if err != nil || resp.Error == nil || resp.Error.Message != "too old" {
		t.Errorf("got %v, %v", resp, err)
	}
}

// endless gives zeros for ever and counts them.
type endless struct{ n int }

func (e *endless) Read(p []byte) (int, error) {
	clear(p)
	e.n += len(p)
	return len(p), nil
}

func TestReadingIsBounded(t *testing.T) {
	var e endless
	if _, err := ReadRequest(&e); err == nil || !strings.Contains(err.Error(), "longer than") {
		t.Errorf("got error %v", err)
	}
	if e.n > MaxMessage+8192 {
		t.Errorf("read %d bytes", e.n)
	}
	line := append(bytes.Repeat([]byte(" "), MaxMessage-1), '\n')
	if _, err := ReadRequest(bytes.NewReader(line)); err == nil || strings.Contains(err.Error(), "longer than") {
		t.Errorf("a message of the greatest length: got error %v", err)
	}
	if _, err := ReadRequest(strings.NewReader(`{"version":1,"status":{}}`)); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("without its end: got error %v", err)
	}
}

func FuzzReadRequest(f *testing.F) {
	f.Add([]byte(`{"version":1,"add":{"containerID":"c","ifName":"eth0","netns":"/n","podNamespace":"d","podName":"w"}}` + "\n"))
	f.Add([]byte(`{"version":1,"gc":{"valid":[{"containerID":"c","ifName":"eth0"}]}}` + "\n"))
	f.Add([]byte(`{"version":1,"status":null,"del":{"containerID":"c","ifName":"eth0"}}` + "\nx"))
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := ReadRequest(bytes.NewReader(data))
		if err != nil {
			return
		}
		// What is accepted can be written, and is then the same.
		var buf bytes.Buffer
		if err := WriteRequest(&buf, r); err != nil {
			t.Fatal(err)
		}
		again, err := ReadRequest(&buf)
		if err != nil {
			t.Fatal(err)
		}
		var one, two bytes.Buffer
		if err := errors.Join(WriteRequest(&one, r), WriteRequest(&two, again)); err != nil || !bytes.Equal(one.Bytes(), two.Bytes()) {
			t.Fatalf("%v: %q, %q", err, one.Bytes(), two.Bytes())
		}
	})
}

func FuzzReadResponse(f *testing.F) {
	f.Add([]byte(`{"version":1,"result":{"interfaceName":"cali1","addresses":["10.0.0.1","fd00::1"],"mtu":1400}}` + "\n"))
	f.Add([]byte(`{"version":1,"error":{"code":11,"message":"m","details":"d"}}` + "\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := ReadResponse(bytes.NewReader(data))
		if err == nil && r.Error == nil && r.Result != nil {
			if err := r.Result.Validate(); err != nil {
				t.Fatal(err)
			}
		}
	})
}
