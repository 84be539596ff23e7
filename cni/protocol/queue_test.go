package protocol

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestQueue(t *testing.T) {
	ctx := t.Context()
	q := Queue{Dir: filepath.Join(t.TempDir(), "a", "deferred")}
	put := func(ids ...string) {
		t.Helper()
		for _, id := range ids {
			r := DelRequest{Attachment: Attachment{id, "eth0"}, PodName: "web"}
			if err := q.Locked(ctx, func() error { return q.Put(r) }); err != nil {
				t.Fatal(err)
			}
		}
	}
	put("c1", "c2", "c1")
	fail := errors.New("not now")
	var got []string
	err := q.Replay(ctx, func(_ context.Context, r DelRequest) error {
		got = append(got, r.ContainerID+"/"+r.PodName)
		if r.ContainerID == "c1" {
			return fail
		}
		return nil
	})
	slices.Sort(got)
	if diff := cmp.Diff([]string{"c1/web", "c2/web"}, got); diff != "" || !errors.Is(err, fail) {
		t.Errorf("%v\n%s", err, diff)
	}
	if !q.Has(Attachment{"c1", "eth0"}) || q.Has(Attachment{"c2", "eth0"}) || q.Has(Attachment{"c1", "eth1"}) {
		t.Error("want only c1/eth0 to stay")
	}
	if err := q.Put(DelRequest{Attachment: Attachment{"../c", "eth0"}}); err == nil {
		t.Error("a name that leaves the folder was accepted")
	}
}

func TestQueueDropsWhatCannotBeRead(t *testing.T) {
	q := Queue{Dir: t.TempDir()}
	for name, content := range map[string]string{
		"cut.json": `{"containerID":`, "empty.json": "", "bad.json": `{"containerID":"../..","ifName":"e"}`,
		"long.json": strings.Repeat(" ", maxEntrySize) + `{"containerID":"c","ifName":"e"}`,
	} {
		if err := os.WriteFile(filepath.Join(q.Dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	err := q.Replay(t.Context(), func(context.Context, DelRequest) error { t.Error("called"); return nil })
	if err == nil || strings.Count(err.Error(), "dropping deferred DEL") != 4 {
		t.Errorf("got error %v", err)
	}
	if left, _ := os.ReadDir(q.Dir); len(left) != 0 {
		t.Errorf("left: %v", left)
	}
}

func TestQueueIsBounded(t *testing.T) {
	q := Queue{Dir: t.TempDir()}
	for i := range MaxDeferred {
		if err := os.WriteFile(filepath.Join(q.Dir, fmt.Sprintf("%d.json", i)), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := q.Put(DelRequest{Attachment: Attachment{"c1", "eth0"}}); !errors.Is(err, ErrQueueFull) {
		t.Errorf("got error %v", err)
	}
}

func TestQueueLock(t *testing.T) {
	q := Queue{Dir: t.TempDir()}
	err := q.Locked(t.Context(), func() error {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
		defer cancel()
		if err := q.Locked(ctx, func() error { return nil }); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("while held: got error %v", err)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	if err := q.Locked(t.Context(), func() error { return nil }); err != nil {
		t.Error(err)
	}
}
