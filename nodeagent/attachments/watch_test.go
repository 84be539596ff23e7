package attachments

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// Each case is a story of looks, a minute apart. Grace is five minutes, and what lasts two minutes is told.
//
// A look is written "held; marked": held are attachments of the journal as pod/container, with "+" when the node's state names the
// pod; marked are containers whose mark an interface bears. "?" at its end: only a checkpoint says what is live.
func TestWhoIsForgotten(t *testing.T) {
	repeat := func(look string, n int) []string { return slices.Repeat([]string{look}, n) }
	for name, tc := range map[string]struct {
		looks []string
		// want is what the last look leads to: "release c1", "Reason c1".
		want string
	}{
		"a pod that runs": {repeat("web/c1+; c1", 10), ""},
		"a pod that goes, with its container there":  {repeat("web/c1; c1", 10), ""},
		"nobody ended the container: not at once":    {[]string{"web/c1; "}, ""},
		"it is told after a while":                   {repeat("web/c1; ", 3), "Forgotten c1, at 5m"},
		"within the grace period it stays":           {repeat("web/c1; ", 5), "Forgotten c1, at 5m"},
		"after the grace period it goes back":        {repeat("web/c1; ", 6), "release c1, Forgotten c1, at 5m"},
		"its interface was there in between":         {slices.Concat(repeat("web/c1; ", 3), []string{"web/c1; c1"}, repeat("web/c1; ", 4)), "Forgotten c1, at 9m"},
		"its pod was named in between":               {slices.Concat(repeat("web/c1; ", 3), []string{"web/c1+; "}, repeat("web/c1; ", 3)), "Forgotten c1, at 9m"},
		"its runtime spoke for it in between":        {slices.Concat(repeat("web/c1; ", 4), []string{"spare c1"}, repeat("web/c1; ", 3)), "Forgotten c1, at 10m"},
		"the pod is there, and its interface is not": {repeat("web/c1+; ", 60), "InterfaceMissing c1"},
		"an old sandbox of a pod that has a new one": {repeat("web/c1+ web/c2+; c2", 6), "release c1, Forgotten c1, at 5m"},
		"after a reboot, before the new sandbox":     {repeat("web/c1+ web/c2+; ", 60), "InterfaceMissing c1, InterfaceMissing c2"},
		"cut off since the agent's start":            {repeat("web/c1; ?", 90), "Forgotten c1"},
		"cut off, and heard of again":                {slices.Concat(repeat("web/c1; ?", 60), repeat("web/c1; ", 3)), "Forgotten c1, at 65m"},
		"another's interface is no word for it":      {repeat("web/c1 shop/c2+; c2", 6), "release c1, Forgotten c1, at 5m"},
		"an interface that nobody knows":             {repeat("; c9", 3), "InterfaceUnknown c9"},
		"it is no news at first":                     {repeat("; c9", 2), ""},
	} {
		t.Run(name, func(t *testing.T) {
			w := NewWatch(Options{Grace: 5 * time.Minute, Settle: 2 * time.Minute})
			start := time.Unix(1_700_000_000, 0)
			var out Outcome
			for i, text := range tc.looks {
				if spared, ok := strings.CutPrefix(text, "spare "); ok {
					w.Spare(spared)
					continue
				}
				out = w.Observe(read(text, start.Add(time.Duration(i)*time.Minute)))
			}
			var got []string
			for _, name := range out.Release {
				got = append(got, "release "+name)
			}
			for _, f := range out.Findings {
				text := fmt.Sprint(f.Reason, " ", f.Name)
				if !f.ReleaseAt.IsZero() {
					text += ", at " + strings.TrimSuffix(f.ReleaseAt.Sub(start).String(), "0s")
				}
				got = append(got, text)
			}
			if got := strings.ReplaceAll(strings.Join(got, ", "), "1h5m", "65m"); got != tc.want {
				t.Errorf("got %q, want %q", got, tc.want)
			}
		})
	}
}

func read(text string, at time.Time) Look {
	text, unsure := strings.CutSuffix(text, "?")
	held, marked, _ := strings.Cut(text, ";")
	l := Look{At: at, Marked: map[string]string{}, Certain: !unsure}
	for word := range strings.FieldsSeq(held) {
		word, live := strings.CutSuffix(word, "+")
		pod, container, _ := strings.Cut(word, "/")
		l.Held = append(l.Held, Holding{Name: container, Owner: Owner{Endpoint: pod, UID: pod}, Live: live, Addresses: []netip.Addr{netip.MustParseAddr("10.48.0.1")}})
	}
	for container := range strings.FieldsSeq(marked) {
		l.Marked[container] = "cali-" + container
	}
	return l
}

// TestAnotherLookIsDueWhenItMatters: nothing is looked at without need.
func TestAnotherLookIsDueWhenItMatters(t *testing.T) {
	w := NewWatch(Options{Grace: 5 * time.Minute, Settle: 30 * time.Second})
	at := time.Unix(1_700_000_000, 0)
	if got := w.Observe(read("web/c1+; c1", at)).Again; got != 0 {
		t.Errorf("all is well, and another look is due in %s", got)
	}
	if got := w.Observe(read("web/c1; ", at)).Again; got != 30*time.Second {
		t.Errorf("something is new: another look is due in %s, want 30s", got)
	}
	if got := w.Observe(read("web/c1; ", at.Add(time.Minute))).Again; got != 4*time.Minute {
		t.Errorf("the grace period ends in 4m: another look is due in %s", got)
	}
	if got := w.Observe(read("web/c1; ", at.Add(5*time.Minute))); len(got.Release) != 1 || got.Again != 0 {
		t.Errorf("after the grace period: %+v", got)
	}
}

// TestPropertyNothingInUseIsReleased: whatever was seen before, what has an interface, or is all that a pod of the node has, is not given up, nor
// is anything that was seen without an interface but once.
func TestPropertyNothingInUseIsReleased(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := NewWatch(Options{Grace: time.Minute, Settle: time.Second})
		at := time.Unix(1_700_000_000, 0)
		missingSince := map[string]time.Time{}
		for range rapid.IntRange(1, 20).Draw(t, "looks") {
			at = at.Add(time.Duration(rapid.IntRange(0, 100).Draw(t, "seconds")) * time.Second)
			l := Look{At: at, Marked: map[string]string{}, Certain: rapid.Bool().Draw(t, "certain")}
			live := [2]bool{rapid.Bool().Draw(t, "live"), rapid.Bool().Draw(t, "live")}
			for i := range 4 {
				name := fmt.Sprint("c", i)
				pod := fmt.Sprint("pod", i/2)
				marked := rapid.Bool().Draw(t, "marked")
				if marked {
					l.Marked[name] = name
				}
				if rapid.Bool().Draw(t, "held") {
					l.Held = append(l.Held, Holding{Name: name, Owner: Owner{Endpoint: pod, UID: pod}, Live: live[i/2]})
				}
			}
			released := w.Observe(l).Release
			connected := map[string]bool{}
			for _, h := range l.Held {
				connected[h.Endpoint] = connected[h.Endpoint] || l.Marked[h.Name] != ""
			}
			now := map[string]time.Time{}
			for _, h := range l.Held {
				if l.Marked[h.Name] == "" && l.Certain && (!h.Live || connected[h.Endpoint]) {
					now[h.Name] = at
					if since, ok := missingSince[h.Name]; ok {
						now[h.Name] = since
					}
				}
			}
			missingSince = now
			for _, name := range released {
				if since, ok := missingSince[name]; !ok || at.Sub(since) < time.Minute {
					t.Fatalf("%s is given up at %s, idle since %s (%t)", name, at, since, ok)
				}
			}
		}
	})
}
